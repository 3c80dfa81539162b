import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from hf_nar.training import resume
from hf_nar.training.manifest import write_manifest
from hf_nar.training.resume import usable_checkpoints, warn_of_other_processes


def write_checkpoint(output, step, best=None, processes=1):
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    save_file({"weight": torch.ones(4)}, folder / "model.safetensors")
    state = {"global_step": step, "best_model_checkpoint": best and str(best)}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    write_manifest(folder, processes)
    return folder


def harm(folder):
    (folder / "model.safetensors").write_bytes(b"")


def names(output):
    return sorted(folder.name for folder in output.iterdir())


def test_a_damaged_last_checkpoint_is_set_aside_and_said(tmp_path, caplog):
    folders = [write_checkpoint(tmp_path, step) for step in (9, 10, 11)]
    harm(folders[-1])

    assert usable_checkpoints(tmp_path) == folders[:2]

    assert names(tmp_path) == ["checkpoint-10", "checkpoint-9", "damaged-checkpoint-11"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "checkpoint-11 is damaged: model.safetensors has 0 bytes" in record.message
    assert "now damaged-checkpoint-11" in record.message


def test_one_without_its_state_is_set_aside_too(tmp_path):
    folders = [write_checkpoint(tmp_path, step) for step in (1, 2)]
    (folders[1] / "trainer_state.json").unlink()

    assert usable_checkpoints(tmp_path) == folders[:1]
    assert "damaged-checkpoint-2" in names(tmp_path)


def test_whole_checkpoints_are_left_alone(tmp_path, caplog):
    folders = [write_checkpoint(tmp_path, step) for step in (1, 2)]

    assert usable_checkpoints(tmp_path) == folders
    assert caplog.records == []


def test_a_checkpoint_that_was_being_replaced_at_a_kill_is_found(tmp_path):
    folder = write_checkpoint(tmp_path, 2)
    (tmp_path / "_unfinished").mkdir()
    folder.rename(tmp_path / "_unfinished/replaced-checkpoint-2")

    assert usable_checkpoints(tmp_path) == [folder]


def test_older_ones_than_the_last_whole_one_are_not_read(tmp_path):
    folders = [write_checkpoint(tmp_path, step) for step in (1, 2)]
    harm(folders[0])

    assert usable_checkpoints(tmp_path) == folders


def test_a_damaged_best_checkpoint_is_set_aside(tmp_path):
    best = write_checkpoint(tmp_path, 1)
    last = write_checkpoint(tmp_path, 2, best=best)
    harm(best)

    assert usable_checkpoints(tmp_path) == [last]
    assert "damaged-checkpoint-1" in names(tmp_path)


def test_nodes_that_have_no_checkpoint_in_common_are_told_so(tmp_path, monkeypatch):
    write_checkpoint(tmp_path, 2)
    monkeypatch.setattr(resume, "gather_object", lambda mine: [*mine, []])  # of another node

    with pytest.raises(ValueError, match="on a disk that all nodes share"):
        resume.usable_checkpoints(tmp_path)


def test_two_damaged_checkpoints_of_one_step_are_both_kept(tmp_path):
    for _ in range(2):
        harm(write_checkpoint(tmp_path, 4))
        assert usable_checkpoints(tmp_path) == []

    assert names(tmp_path) == ["damaged-checkpoint-4", "damaged-checkpoint-4-2"]


@pytest.mark.parametrize(("processes", "is_said"), [(2, False), (3, True)])
def test_another_number_of_processes_is_said(tmp_path, caplog, processes, is_said):
    from accelerate import PartialState

    PartialState(cpu=True)
    folder = write_checkpoint(tmp_path, 4, processes=2)

    warn_of_other_processes(folder, processes)

    assert ["by 2 process(es) and this run has 3" in i.message for i in caplog.records] == (
        [True] if is_said else []
    )
