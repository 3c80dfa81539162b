import hashlib
import subprocess

import pytest

from hf_nar.evaluation.model_identity import git_commit, model_identity, weights_digest

FILES = {"model.safetensors": b"weights" * 10, "config.json": b"{}", "README.md": b"a card"}


def git(folder, *arguments):
    options = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", folder, *options, *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


@pytest.fixture
def folder(tmp_path):
    """Return a model folder inside a repository that holds it."""
    folder = tmp_path / "repository/models/mine"
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    git(tmp_path / "repository", "init", "-q")
    git(tmp_path / "repository", "add", ".")
    git(tmp_path / "repository", "commit", "-q", "-m", "A model")
    return folder


def test_a_model_in_a_repository_is_named_by_its_commit(folder):
    assert git_commit(folder) == git(folder, "rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["README.md", "results.json"])
def test_what_does_not_decide_a_translation_may_change(folder, name):
    (folder / name).write_text("new")

    assert git_commit(folder) is not None


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "generation_config.json"])
def test_a_changed_or_new_file_that_decides_is_of_no_commit(folder, name):
    (folder / name).write_bytes(b"changed")

    assert git_commit(folder) is None


def test_weights_beside_the_repository_are_of_no_commit(folder):
    git(folder, "rm", "-q", "--cached", "model.safetensors")
    git(folder, "commit", "-q", "-m", "Without weights")

    assert git_commit(folder) is None


def test_a_folder_without_weights_is_no_model_of_a_commit(folder):
    (folder / "model.safetensors").unlink()

    assert git_commit(folder) is None


def test_a_pointer_of_git_lfs_stands_for_its_file(folder):
    file = folder / "model.safetensors"
    digest, size = hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_size
    file.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
    )
    git(folder, "commit", "-q", "-a", "-m", "A pointer, as git-lfs stores it")
    file.write_bytes(FILES["model.safetensors"])

    assert git_commit(folder) == git(folder, "rev-parse", "HEAD")


def test_settings_of_a_downloaded_repository_run_nothing(folder, tmp_path):
    mark = tmp_path / "ran"
    (folder / ".gitattributes").write_text("* filter=evil\n")
    program = f"touch {mark};:"
    git(folder, "config", "filter.evil.clean", program)
    git(folder, "config", "core.fsmonitor", program)
    git(folder, "config", "core.sshCommand", program)  # for what a partial clone fetches late
    git(folder, "config", "remote.origin.url", "ssh://git.example.org/a")
    git(folder, "config", "remote.origin.promisor", "true")
    git(folder, "config", "extensions.partialClone", "origin")
    git(folder, "config", "protocol.allow", "always")
    tree = (tmp_path / "repository/.git/HEAD").read_text().split()[-1]
    commit = (tmp_path / "repository/.git" / tree).read_text().strip()
    mark.unlink(missing_ok=True)
    assert git_commit(folder) == commit
    for file in (tmp_path / "repository/.git/objects").glob("??/*"):
        if file.parent.name + file.name != commit:
            file.unlink()

    assert git_commit(folder) is None
    assert not mark.exists()


def test_a_folder_outside_of_repositories_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))

    assert git_commit(tmp_path) is None


def test_a_model_of_the_hub_has_its_revision_only():
    assert model_identity("owner/name", "abc") == {
        "weights_sha256": None,
        "revision": "abc",
        "git_commit": None,
    }


def test_weights_are_named_by_their_digest(folder, tmp_path):
    right = hashlib.sha256(FILES["model.safetensors"]).hexdigest()

    assert model_identity(str(folder), None)["weights_sha256"] == right
    assert weights_digest(tmp_path) is None
