import shutil
from pathlib import Path

import pytest

from hf_nar.training.whole_folders import (
    UNFINISHED,
    keep_others,
    put_in_place,
    remove_unfinished,
    written_whole,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_has_its_name_only_when_it_is_finished(tmp_path):
    folder = tmp_path / "export"

    with written_whole(folder) as unfinished:
        (unfinished / "part").mkdir()
        (unfinished / "part/file").write_text("whole")
        assert not folder.exists()

    assert (folder / "part/file").read_text() == "whole"
    assert names(tmp_path) == ["export"]


def test_what_was_there_is_replaced_as_a_whole(tmp_path):
    for text in ("old", "new"):
        with written_whole(tmp_path / "export") as unfinished:
            (unfinished / f"{text}.txt").write_text(text)

    assert names(tmp_path / "export") == ["new.txt"]
    assert names(tmp_path) == ["export"]


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    with written_whole(tmp_path / "export") as unfinished:
        (unfinished / "file").write_text("old")

    with pytest.raises(IsADirectoryError), written_whole(tmp_path / "export") as unfinished:
        unfinished.write_text("new")

    assert (tmp_path / "export/file").read_text() == "old"
    assert names(tmp_path) == ["export"]


def test_what_a_killed_process_left_does_not_get_into_the_next_folder(tmp_path):
    (tmp_path / UNFINISHED / "export").mkdir(parents=True)
    (tmp_path / UNFINISHED / "export/half").write_text("half")

    with written_whole(tmp_path / "export") as unfinished:
        (unfinished / "file").write_text("new")

    assert names(tmp_path / "export") == ["file"]


def test_what_a_process_left_that_was_killed_after_its_renames_is_in_nobodys_way(tmp_path):
    (tmp_path / "export").mkdir()
    left = tmp_path / UNFINISHED / "replaced-export"
    left.mkdir(parents=True)
    (left / "old").write_text("old")

    with written_whole(tmp_path / "export") as folder:
        (folder / "new").write_text("new")

    assert names(tmp_path) == ["export"]
    assert names(tmp_path / "export") == ["new"]


class Killed(BaseException):
    """Stands for SIGKILL in code that has nothing to do at its end."""


@pytest.fixture
def replace_and_be_killed(tmp_path, monkeypatch):
    """Return a function that replaces an export but is killed before a rename or a removal."""

    def replace(number):
        calls = 0

        def dying(function):
            def call(*args, **kwargs):
                nonlocal calls
                calls += 1
                if calls == number:
                    raise Killed
                return function(*args, **kwargs)

            return call

        unfinished = tmp_path / UNFINISHED / "export"
        for folder, text in ((tmp_path / "export", "old"), (unfinished, "new")):
            folder.mkdir(parents=True)
            (folder / "weights").write_text(text)
        (tmp_path / "export/results.json").write_text("{}")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", dying(Path.rename))
            patch.setattr(shutil, "rmtree", dying(shutil.rmtree))
            with pytest.raises(Killed):
                put_in_place(unfinished, tmp_path / "export")

    return replace


@pytest.mark.parametrize(
    ("killed_before", "expected"), [(1, "old"), (2, "old"), (3, "old"), (4, "new"), (5, "new")]
)
def test_a_kill_at_any_moment_leaves_the_old_folder_or_the_new_one(
    replace_and_be_killed, tmp_path, killed_before, expected
):
    replace_and_be_killed(killed_before)

    remove_unfinished(tmp_path)

    assert names(tmp_path) == ["export"]
    assert (tmp_path / "export/weights").read_text() == expected
    assert (tmp_path / "export/results.json").exists() == (expected == "old")


def test_after_a_kill_between_the_renames_other_files_are_still_kept(
    replace_and_be_killed, tmp_path
):
    replace_and_be_killed(3)
    assert not (tmp_path / "export").exists()

    with written_whole(tmp_path / "export") as folder:
        (folder / "weights").write_text("newest")
        keep_others(tmp_path / "export", folder)

    assert names(tmp_path / "export") == ["results.json", "weights"]
    assert (tmp_path / "export/weights").read_text() == "newest"


def test_what_is_partly_removed_is_not_put_back(replace_and_be_killed, tmp_path):
    replace_and_be_killed(5)
    shutil.rmtree(tmp_path / "export")

    remove_unfinished(tmp_path)

    assert names(tmp_path) == []


def test_where_the_second_rename_fails_the_old_folder_is_back_at_once(tmp_path, monkeypatch):
    rename = Path.rename

    def failing(path, target):
        if path.name == "export" and path.parent.name == UNFINISHED:
            raise OSError("no")
        return rename(path, target)

    (tmp_path / "export").mkdir()
    (tmp_path / "export/old").touch()
    monkeypatch.setattr(Path, "rename", failing)

    with pytest.raises(OSError, match="no"), written_whole(tmp_path / "export"):
        pass

    assert names(tmp_path / "export") == ["old"]


def test_unfinished_folders_are_removed_with_all_they_hold(tmp_path):
    (tmp_path / UNFINISHED / "checkpoint-1").mkdir(parents=True)
    (tmp_path / "checkpoint-2").mkdir()

    remove_unfinished(tmp_path)

    assert names(tmp_path) == ["checkpoint-2"]


def test_other_files_of_an_earlier_export_are_kept(tmp_path):
    before, now = tmp_path / "before", tmp_path / "now"
    for folder, text in ((before, "old"), (now, "new")):
        folder.mkdir()
        (folder / "config.json").write_text(text)
    (before / "results.json").write_text("{}")
    (before / "pictures").mkdir()
    (before / "pictures/one.svg").write_text("<svg/>")

    keep_others(before, now)

    assert names(now) == ["config.json", "pictures", "results.json"]
    assert (now / "config.json").read_text() == "new"
    assert (now / "pictures/one.svg").read_text() == "<svg/>"
