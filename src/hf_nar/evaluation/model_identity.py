"""Which weights exactly were measured: their digest, and their commit on the Hub or in git."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

# What decides a translation. A results file, a card and logs do not.
DECIDING_SUFFIXES = {".json", ".safetensors", ".model", ".spm", ".txt"}
WEIGHTS, RESULTS = "model.safetensors", "results.json"
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {size}\n"
_NO_FETCHING = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}  # older git knows the second
_CHUNK = 1 << 20  # bytes


def model_identity(name: str, revision: str | None) -> dict[str, str | None]:
    """Return what identifies a model's files for good.

    Args:
        name: Folder or Hub id.
        revision: Hub commit that it was loaded from, as the library noted; None for a folder.

    Returns:
        `weights_sha256`, `revision` and `git_commit`, each None where there is no such thing.
    """
    folder = Path(name)
    return {
        "weights_sha256": weights_digest(folder),
        "revision": revision,
        "git_commit": git_commit(folder) if folder.is_dir() else None,
    }


def weights_digest(folder: Path) -> str | None:
    """Return the SHA-256 of a model folder's weights; None where it is no folder."""
    file = folder / WEIGHTS
    return _digest(file, "sha256") if file.is_file() else None


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out around a model folder; None if it does not hold these files.

    Every file that decides a translation must be in the commit as it is here, or as a pointer of
    git-lfs to it. Only git's own objects are read, and none is fetched: a downloaded folder may
    bring settings that make `git status`, or the fetching of a missing object, run programs.
    """
    tree = _git(folder, "ls-tree", "-z", "HEAD")
    commit = _git(folder, "rev-parse", "HEAD")
    if tree is None or commit is None:
        return None
    blobs = {}
    for entry in tree.split("\0")[:-1]:
        facts, _, file_name = entry.partition("\t")
        blobs[file_name] = facts.split(" ")[-1]
    files = [
        file
        for file in folder.iterdir()
        if file.is_file() and file.suffix in DECIDING_SUFFIXES and file.name != RESULTS
    ]
    has_weights = any(file.suffix == ".safetensors" for file in files)
    tracked = all(_is_blob(file, blobs.get(file.name, "")) for file in files)
    return commit.strip() if has_weights and tracked else None


def _git(folder: Path, *arguments: str) -> str | None:
    program = shutil.which("git")
    if program is None:
        return None
    command = [program, "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, env={**os.environ, **_NO_FETCHING})
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None


def _is_blob(file: Path, blob: str) -> bool:
    """Say whether a git object is a file, or the pointer to it that git-lfs stores."""
    if not blob:
        return False
    kind = "sha1" if len(blob) == 40 else "sha256"  # the two formats of repositories
    size = file.stat().st_size
    if _digest(file, kind, f"blob {size}\0".encode()) == blob:
        return True
    pointer = _POINTER.format(digest=_digest(file, "sha256"), size=size).encode()
    found = hashlib.new(kind, f"blob {len(pointer)}\0".encode() + pointer, usedforsecurity=False)
    return found.hexdigest() == blob


def _digest(file: Path, kind: str, head: bytes = b"") -> str:
    digest: Any = hashlib.new(kind, head, usedforsecurity=False)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return str(digest.hexdigest())
