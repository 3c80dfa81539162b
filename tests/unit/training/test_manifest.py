import json
import re

import pytest
import torch
from safetensors.torch import save_file

from hf_nar.training.manifest import damage, processes_of, write_manifest


@pytest.fixture
def checkpoint(tmp_path):
    """Return a folder with the files of a checkpoint of two processes."""
    save_file({"weight": torch.ones(100)}, tmp_path / "model.safetensors")
    for name in ("optimizer.pt", "rng_state_0.pth", "rng_state_1.pth"):
        torch.save({"state": torch.ones(100)}, tmp_path / name)
    (tmp_path / "trainer_state.json").write_text('{"global_step": 3}')
    return tmp_path


def cut(file):
    file.write_bytes(file.read_bytes()[:-9])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_whole_checkpoint_has_no_damage(checkpoint):
    write_manifest(checkpoint, processes=2)

    assert damage(checkpoint) is None
    assert processes_of(checkpoint) == 2


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("model.safetensors", cut, "model.safetensors has [0-9]+ bytes and must have [0-9]+"),
        ("optimizer.pt", flip, "optimizer.pt has changed since it was written"),
        ("rng_state_1.pth", lambda file: file.unlink(), "rng_state_1.pth is missing"),
        ("trainer_state.json", lambda file: file.write_text(""), "trainer_state.json has 0 bytes"),
        ("manifest.json", cut, "it cannot be read"),
        ("manifest.json", lambda file: file.write_text("{}"), "it cannot be read"),
        ("manifest.json", lambda file: file.write_text("[]"), "must be a mapping"),
    ],
)
def test_damage_is_found_and_named(checkpoint, name, harm, message):
    write_manifest(checkpoint, processes=2)
    harm(checkpoint / name)

    assert re.search(message, damage(checkpoint) or "")


def test_a_checkpoint_of_an_earlier_version_is_taken_as_it_is(checkpoint):
    assert damage(checkpoint) is None
    assert processes_of(checkpoint) is None


@pytest.mark.parametrize(
    ("name", "harm", "message"),
    [
        ("model.safetensors", cut, "it cannot be read"),
        ("model.safetensors", lambda file: file.unlink(), "model.safetensors is missing"),
        ("trainer_state.json", lambda file: file.write_text(""), "it cannot be read"),
        ("trainer_state.json", lambda file: file.unlink(), "trainer_state.json is missing"),
    ],
)
def test_its_main_files_are_looked_at_nevertheless(checkpoint, name, harm, message):
    harm(checkpoint / name)

    assert message in (damage(checkpoint) or "")


def test_the_manifest_lists_files_in_folders_too(checkpoint):
    (checkpoint / "optimizer_0").mkdir()
    (checkpoint / "optimizer_0/shard.distcp").write_text("shard")

    write_manifest(checkpoint, processes=1)

    files = json.loads((checkpoint / "manifest.json").read_text())["files"]
    assert files["optimizer_0/shard.distcp"]["bytes"] == 5
    assert "manifest.json" not in files
