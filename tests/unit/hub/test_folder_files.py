import pytest
from hub_clients import says

from hf_nar.hub import folder_files
from hf_nar.hub.folder_files import FolderFiles, readable_size

FILES = ("LICENSE", "README.md", "config.json", "drafts.svg", "layers.py", "model.safetensors")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    for name in FILES:
        (tmp_path / "model" / name).write_text(name)
    return tmp_path / "model"


def test_files_of_a_model_are_sent_with_their_sizes(folder):
    files = FolderFiles.of(folder)

    assert files.sent == {name: len(name) for name in FILES}
    assert files.left_out == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".env", "hidden"),
        (".gitattributes", "hidden"),
        ("id_rsa", "no kind of file that a model needs"),
        ("run.log", "no kind of file that a model needs"),
        ("README.md~", "no kind of file that a model needs"),
    ],
)
def test_other_files_are_left_out(name, reason, folder):
    (folder / name).write_text("")

    files = FolderFiles.of(folder)

    assert files.left_out == {name: reason}
    assert list(files.sent) == list(FILES)


def test_links_are_left_out_wherever_they_point(folder, tmp_path):
    (tmp_path / "secret.json").write_text("{}")
    (folder / "link.json").symlink_to(tmp_path / "secret.json")
    (folder / "linked").symlink_to(tmp_path)

    assert FolderFiles.of(folder).left_out == {"link.json": "a link", "linked": "a link"}


def test_folders_below_are_left_out_as_a_whole(folder):
    for place in (".git/objects", "runs/one", "__pycache__"):
        (folder / place).mkdir(parents=True)
        (folder / place / "config.json").write_text("{}")

    files = FolderFiles.of(folder)

    reason = "a folder; a model folder is flat"
    assert list(files.sent) == list(FILES)
    assert files.left_out == {
        ".git/": "hidden", "__pycache__/": reason, "runs/": reason,
    }  # fmt: skip


def test_code_of_others_is_left_out(folder):
    files = FolderFiles.of(folder, ["layers.py"])

    assert files.left_out == {"layers.py": "no part of the model's code"}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "a/b/optimizer.PT", "x.ckpt", "a/y.pkl"])
def test_weights_that_may_hold_a_pickle_are_refused_wherever_they_are(name, folder):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"")

    with pytest.raises(ValueError, match=f"must be safetensors, but .* holds {name}, a format"):
        FolderFiles.of(folder)


def test_what_is_sent_is_copied_and_nothing_else(folder, tmp_path):
    (folder / ".env").write_text("secret")

    FolderFiles.of(folder).copy_to(tmp_path / "copy")

    copied = {file.name: file.read_text() for file in (tmp_path / "copy").iterdir()}
    assert copied == {name: name for name in FILES}


def test_a_secret_stops_the_copy_and_is_not_shown(folder, tmp_path):
    secret = "hf_" + 34 * "x"
    (folder / "README.md").write_text(f"token = '{secret}'")

    with pytest.raises(ValueError, match=r"README.md seems to hold a token of the Hub") as error:
        FolderFiles.of(folder).copy_to(tmp_path / "copy")
    assert secret not in str(error.value)


def test_ones_own_token_is_found_whatever_it_looks_like(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "correct horse battery")
    (folder / "config.json").write_text('{"about": "correct horse battery staple"}')

    with pytest.raises(ValueError, match=r"config.json seems to hold your own token of the Hub"):
        FolderFiles.of(folder).copy_to(tmp_path / "copy")


def test_text_that_is_none_is_refused(folder, tmp_path):
    (folder / "config.json").write_bytes(b"\x80\x04pickled")

    with pytest.raises(ValueError, match=r"config.json must be text in UTF-8"):
        FolderFiles.of(folder).copy_to(tmp_path / "copy")


@pytest.mark.parametrize(
    ("limit", "name"), [("LARGEST_FILE", "README.md"), ("LARGEST_WEIGHTS", "model.safetensors")]
)
def test_files_that_are_too_large_are_refused(limit, name, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_files, limit, 8)
    for other in FILES:
        (folder / other).write_text("x" * (9 if other == name else 8))

    with pytest.raises(ValueError, match=f"A file like {name} must have at most 8 bytes"):
        FolderFiles.of(folder).copy_to(tmp_path / "copy")


def test_a_file_is_no_folder(folder):
    with pytest.raises(ValueError, match=r"must be a folder, but .*README.md is none"):
        FolderFiles.of(folder / "README.md")


def test_sizes_are_readable():
    sizes = [readable_size(size) for size in (0, 999, 1000, 5_902_220, 3_000_000_000)]

    assert says("0 bytes, 999 bytes, 1.0 kB, 5.9 MB, 3.0 GB", ", ".join(sizes))
