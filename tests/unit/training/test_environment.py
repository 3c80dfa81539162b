"""Versions, hardware and git state are kept beside the weights, and each change of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
import torch

import hf_nar
from hf_nar.training import environment
from hf_nar.training.environment import (
    ENVIRONMENT_FILE,
    check_trackers,
    git_state,
    read_environments,
    record_environment,
    run_environment,
)


@pytest.fixture
def repository(tmp_path):
    """Return a folder inside of a git repository with one commit."""
    folder = tmp_path / "repository/recipes"
    folder.mkdir(parents=True)
    (folder / "one.yaml").write_text("output: runs/one\n")
    name = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*name, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *arguments], cwd=folder.parent, check=True)
    return folder


def test_versions_and_hardware_are_those_in_use():
    found = run_environment([], 3)

    assert found["packages"]["hf_nar"] == hf_nar.__version__
    assert found["packages"]["torch"] == torch.__version__
    assert found["packages"]["accelerate"] == accelerate.__version__
    assert found["packages"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert all(found["packages"].values())
    assert found["hardware"]["processes"] == 3
    assert found["git"] is None


def test_git_tells_the_commit_and_whether_files_differ_from_it(repository):
    clean = git_state(repository)
    (repository / "one.yaml").write_text("output: runs/two\n")
    dirty = git_state(repository)

    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True)
    assert clean == {"commit": head.stdout.decode().strip(), "dirty": False}
    assert dirty == {**clean, "dirty": True}


def test_files_that_git_does_not_know_make_no_difference(repository):
    (repository / "log.jsonl").write_text("{}\n")

    assert git_state(repository)["dirty"] is False


def test_a_folder_outside_of_a_repository_has_no_state(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "plain").mkdir()

    assert git_state(tmp_path / "plain") is None
    assert git_state(tmp_path / "missing") is None


def test_a_machine_without_git_is_no_error(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))

    assert git_state(repository) is None


def test_the_recipes_repository_comes_before_the_working_folders(repository, tmp_path):
    record_environment(tmp_path, "hf-nar train one.yaml", None, repository)

    [kept] = read_environments(tmp_path)
    assert kept["git"] == git_state(repository)
    assert kept["command"] == "hf-nar train one.yaml"
    assert kept["from_step"] == 0


def test_the_same_environment_is_kept_once(tmp_path):
    for checkpoint in (None, tmp_path / "checkpoint-3", tmp_path / "checkpoint-6"):
        record_environment(tmp_path, "hf-nar train", checkpoint, None)

    assert len(read_environments(tmp_path)) == 1


def test_another_environment_is_added_on_a_resume(tmp_path, monkeypatch):
    record_environment(tmp_path, "hf-nar train", None, None)
    before = read_environments(tmp_path)
    monkeypatch.setattr(environment, "__version__", "9.9")

    record_environment(tmp_path, "hf-nar train", tmp_path / "checkpoint-12", None)

    first, second = read_environments(tmp_path)
    assert [first] == before
    assert second["from_step"] == 12
    assert second["packages"]["hf_nar"] == "9.9"


def test_a_run_that_starts_anew_forgets_the_one_before(tmp_path, monkeypatch):
    record_environment(tmp_path, "hf-nar train", None, None)
    monkeypatch.setattr(environment, "__version__", "9.9")

    record_environment(tmp_path, "hf-nar train", None, None)

    [only] = read_environments(tmp_path)
    assert only["packages"]["hf_nar"] == "9.9"


def test_no_folder_of_the_machine_is_told(tmp_path):
    record_environment(tmp_path, "hf-nar train", None, tmp_path)

    text = (tmp_path / ENVIRONMENT_FILE).read_text()
    for folder in (Path.cwd(), Path.home() / "x", tmp_path, Path(sys.prefix)):
        assert str(folder) not in text
    assert os.uname().nodename not in json.loads(text)[0]["hardware"].values()


@pytest.mark.parametrize("text", ["[{", '{"packages": {}}'])
def test_a_damaged_file_is_refused_in_one_sentence(tmp_path, text):
    (tmp_path / ENVIRONMENT_FILE).write_text(text)

    with pytest.raises(ValueError, match=r"Move it away\.$"):
        record_environment(tmp_path, "hf-nar train", tmp_path / "checkpoint-1", None)


def test_an_installed_tracker_is_taken():
    pytest.importorskip("tensorboard")

    check_trackers(["tensorboard"])
    check_trackers([])
