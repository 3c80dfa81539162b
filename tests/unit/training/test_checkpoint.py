import pytest
import torch
from safetensors.torch import save_file

from hf_nar.training.checkpoint import average_weights, saved_checkpoints


def write_model(folder, **weights):
    folder.mkdir(parents=True)
    save_file(weights, folder / "model.safetensors")
    return folder


def write_checkpoint(output, step):
    folder = write_model(output / f"checkpoint-{step}", weight=torch.zeros(1))
    (folder / "trainer_state.json").write_text("{}")
    return folder


def test_checkpoints_are_sorted_by_step_not_by_name(tmp_path):
    written = {step: write_checkpoint(tmp_path, step) for step in (1000, 900, 50)}

    assert saved_checkpoints(tmp_path) == [written[50], written[900], written[1000]]


@pytest.mark.parametrize("missing", ["model.safetensors", "trainer_state.json"])
def test_an_interrupted_checkpoint_is_left_out(tmp_path, missing):
    whole = write_checkpoint(tmp_path, 1)
    (write_checkpoint(tmp_path, 2) / missing).unlink()

    assert saved_checkpoints(tmp_path) == [whole]


def test_other_folders_are_no_checkpoints(tmp_path):
    for name in ("checkpoint-best", "checkpoint-3-old", "export"):
        write_model(tmp_path / name, weight=torch.zeros(1))
        (tmp_path / name / "trainer_state.json").write_text("{}")

    assert saved_checkpoints(tmp_path) == []
    assert saved_checkpoints(tmp_path / "nothing") == []


def test_the_average_of_three_is_their_mean(tmp_path):
    values = ([1.0, 2.0], [4.0, 2.0], [7.0, -1.0])
    folders = [
        write_model(tmp_path / str(i), weight=torch.tensor(value), bias=torch.tensor([float(i)]))
        for i, value in enumerate(values)
    ]

    average = average_weights(folders)

    assert average["weight"].tolist() == [4.0, 1.0]
    assert average["bias"].tolist() == [1.0]


def test_one_folder_is_its_own_average(tmp_path):
    folder = write_model(tmp_path / "one", weight=torch.tensor([0.1, 0.7]))

    assert average_weights([folder])["weight"].tolist() == torch.tensor([0.1, 0.7]).tolist()


def test_small_differences_survive_sums_in_bfloat16(tmp_path):
    folders = [
        write_model(tmp_path / str(i), weight=torch.full((1,), value, dtype=torch.bfloat16))
        for i, value in enumerate([256.0, 1.0, 1.0, 254.0])
    ]

    average = average_weights(folders)["weight"]

    assert average.dtype == torch.bfloat16
    assert average.item() == 128.0  # bfloat16 sums lose both ones: 127.5


def test_no_folder_is_refused():
    with pytest.raises(ValueError, match="at least one model folder"):
        average_weights([])


def test_a_damaged_file_is_named_in_one_sentence(tmp_path):
    folders = [write_model(tmp_path / str(i), weight=torch.ones(9)) for i in range(2)]
    file = folders[1] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])

    with pytest.raises(OSError, match=r"are damaged or cut off .*Leave it out\.") as error:
        average_weights(folders)
    assert str(folders[1]) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must hold model\.safetensors"):
        average_weights([tmp_path])


@pytest.mark.parametrize("other", [{"weight": torch.ones(3)}, {"bias": torch.ones(2)}])
def test_different_networks_are_refused(tmp_path, other):
    folders = [
        write_model(tmp_path / "a", weight=torch.ones(2)),
        write_model(tmp_path / "b", **other),
    ]

    with pytest.raises(ValueError, match="must have the same parameters"):
        average_weights(folders)
