import pytest

from hf_nar.training.whole_folders import UNFINISHED, keep_others, remove_unfinished, written_whole


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
