"""Folders that are there whole or not at all, also where the machine stops in the middle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Beside the finished folders. The library pushes nothing to the Hub that begins with "_".
UNFINISHED = "_unfinished"
_REPLACED = "replaced-"  # before the name of a folder that is about to be replaced


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to write into; in the end it is on the disk, under its name.

    What a folder of that name held is gone then. On an error it stays as it was.
    """
    remove_unfinished(folder.parent)
    unfinished = folder.parent / UNFINISHED / folder.name
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        put_in_place(unfinished, folder)
    finally:
        remove_unfinished(folder.parent)


def keep_others(before: Path, folder: Path) -> None:
    """Copy into a folder what another one has besides, such as results of an earlier export."""
    for path in sorted(before.glob("*")):
        copy = folder / path.name
        if path.is_dir() and not copy.exists():
            shutil.copytree(path, copy)
        elif not copy.exists():
            shutil.copy2(path, copy)


def put_in_place(unfinished: Path, folder: Path) -> None:
    """Write a folder through to the disk and give it its name, on the same disk.

    A process that is killed in between leaves the folder that was there, whole, under its name or
    where `put_back` finds it.

    Args:
        unfinished: The folder, wholly written; it lies in `UNFINISHED` beside `folder`.
        folder: Its name from now on. What is there is removed.
    """
    for path in [*unfinished.rglob("*"), unfinished]:
        _write_through(path)
    replaced = unfinished.parent / f"{_REPLACED}{folder.name}"
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)  # of a process that was killed right here
        folder.rename(replaced)
    unfinished.rename(folder)
    _write_through(folder.parent)
    if replaced.exists():
        replaced.rename(unfinished)  # what is partly removed must not be put back
        shutil.rmtree(unfinished, ignore_errors=True)


def put_back(parent: Path) -> None:
    """Give folders their names back that a killed process was about to replace."""
    for replaced in (parent / UNFINISHED).glob(f"{_REPLACED}*"):
        folder = parent / replaced.name.removeprefix(_REPLACED)
        if not folder.exists():
            with suppress(FileNotFoundError):  # another node, on the same disk, was faster
                replaced.rename(folder)


def remove_unfinished(parent: Path) -> None:
    """Remove what was not finished in a folder, by this process or one that was killed."""
    put_back(parent)
    shutil.rmtree(parent / UNFINISHED, ignore_errors=True)


def _write_through(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name != "posix":
        return  # other systems cannot open a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
