import json
import os
import resource
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_trainers import tiny_trainer
from transformers import TrainerCallback

from hf_nar.training.checkpoint import saved_checkpoints
from hf_nar.training.manifest import damage, processes_of
from hf_nar.training.whole_folders import UNFINISHED

NOBODY = 65534


@pytest.fixture
def make_trainer(tiny_model, tiny_tokenizer, tmp_path):
    """Return a function that makes a trainer that saves and evaluates at every second step."""

    def make(output=tmp_path, **arguments):
        every = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps"}
        options = {**every, "eval_steps": 2, "max_steps": 6, **arguments}
        return tiny_trainer(tiny_model, tiny_tokenizer, output, **options)

    return make


@pytest.fixture
def open_folder():
    """Return a folder that any user of the machine can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder / "run"
    (folder / "run").chmod(0o755)
    shutil.rmtree(folder)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def test_every_checkpoint_is_whole_and_nothing_else_is_left(make_trainer, tmp_path):
    make_trainer().train()

    folders = saved_checkpoints(tmp_path)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert [damage(folder) for folder in folders] == [None] * 3
    assert [processes_of(folder) for folder in folders] == [1] * 3
    files = json.loads((folders[0] / "manifest.json").read_text())["files"]
    assert {"model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"} <= set(
        files
    )


def test_the_best_checkpoint_has_its_final_name_and_is_never_removed(make_trainer, tmp_path):
    trainer = make_trainer(
        metric_for_best_model="loss", greater_is_better=True, save_total_limit=2, learning_rate=0.01
    )

    trainer.train()  # the loss falls, so the first one stays the best

    assert names(tmp_path) == ["checkpoint-2", "checkpoint-6"]
    state = json.loads((tmp_path / "checkpoint-6/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-2")
    assert trainer.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")


BEST_IS_FIRST = {"metric_for_best_model": "loss", "greater_is_better": True, "learning_rate": 0.01}


def has_weights_of(model, folder):
    saved = load_file(folder / "model.safetensors")
    return all(model.state_dict()[name].equal(value) for name, value in saved.items())


def test_with_a_limit_of_one_the_best_and_the_last_are_kept(make_trainer, tiny_model, tmp_path):
    trainer = make_trainer(**BEST_IS_FIRST, save_total_limit=1, load_best_model_at_end=True)

    trainer.train()

    assert names(tmp_path) == ["checkpoint-2", "checkpoint-6"]
    assert has_weights_of(tiny_model, tmp_path / "checkpoint-2")
    assert not has_weights_of(tiny_model, tmp_path / "checkpoint-6")
    assert trainer.args.save_total_limit == 1


class Harm(TrainerCallback):
    """Cut or remove the weights of the first checkpoint when the last one is written."""

    def __init__(self, is_cut):
        self.is_cut = is_cut

    def on_save(self, args, state, control, **_):
        if state.global_step == 6:
            folder = Path(args.output_dir) / "checkpoint-2"
            if self.is_cut:
                (folder / "model.safetensors").write_bytes(b"")
            else:
                shutil.rmtree(folder)


@pytest.mark.parametrize("is_cut", [True, False])
def test_where_the_best_is_damaged_at_the_end_the_last_weights_stay_and_that_is_said(
    make_trainer, tiny_model, tmp_path, caplog, is_cut
):
    trainer = make_trainer(**BEST_IS_FIRST, load_best_model_at_end=True)
    trainer.add_callback(Harm(is_cut))

    trainer.train()

    assert has_weights_of(tiny_model, tmp_path / "checkpoint-6")
    assert trainer.state.best_global_step is None
    (said,) = [i.message for i in caplog.records if "best checkpoint" in i.message]
    assert said.startswith("The best checkpoint, checkpoint-2, is damaged or not there (model.")
    assert said.endswith(": taking the last weights.")


def test_a_checkpoint_that_is_itself_the_best_says_so(make_trainer, tmp_path):
    make_trainer(metric_for_best_model="loss", greater_is_better=False, learning_rate=0.01).train()

    state = json.loads((tmp_path / "checkpoint-6/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / "checkpoint-6")


def test_the_optimizer_is_read_back_without_unpickling_code(make_trainer, tmp_path):
    make_trainer(max_steps=2).train()

    state = torch.load(tmp_path / "checkpoint-2/optimizer.pt", weights_only=True)

    assert state["state"][0]["step"] == 2


def test_what_a_killed_run_left_unfinished_is_removed_at_the_start(make_trainer, tmp_path):
    (tmp_path / UNFINISHED / "checkpoint-2").mkdir(parents=True)
    (tmp_path / UNFINISHED / "checkpoint-2/rng_state_7.pth").write_text("half")

    make_trainer(max_steps=2).train()

    assert names(tmp_path) == ["checkpoint-2"]
    assert not (tmp_path / "checkpoint-2/rng_state_7.pth").exists()


@pytest.fixture(params=["model.safetensors", "optimizer.pt"])
def full_disk(request, make_trainer, tmp_path):
    """Let no file become as large as one of a checkpoint; return a trainer after two steps."""
    make_trainer(max_steps=2).train()
    size = (tmp_path / "checkpoint-2" / request.param).stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, before[1]))
    yield make_trainer(max_steps=4)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_in_one_sentence_and_leaves_old_checkpoints(full_disk, tmp_path):
    with pytest.raises(OSError, match="checkpoint-4 could not be written") as error:
        full_disk.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))

    assert "make room" in str(error.value)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["checkpoint-2"]
    assert damage(tmp_path / "checkpoint-2") is None


def test_a_read_only_folder_is_said_in_one_sentence(make_trainer, open_folder):
    make_trainer(open_folder, max_steps=2).train()
    trainer = make_trainer(open_folder, max_steps=4, logging_strategy="no")
    user = os.geteuid()
    open_folder.chmod(0o555)
    if user == 0:  # whom no mode keeps out
        os.seteuid(NOBODY)

    try:
        with pytest.raises(OSError, match="checkpoint-0 could not be written") as error:
            trainer._save_checkpoint(trainer.model, None)
    finally:
        os.seteuid(user)

    assert "make the folder writable" in str(error.value)
    assert names(open_folder) == ["checkpoint-2"]
    assert damage(open_folder / "checkpoint-2") is None


def test_other_errors_of_the_library_keep_their_kind(make_trainer, monkeypatch):
    trainer = make_trainer(max_steps=2)
    trainer.lr_scheduler = torch.nn.Module()
    trainer.optimizer = None

    with pytest.raises(AttributeError):
        trainer._save_checkpoint(trainer.model, None)
