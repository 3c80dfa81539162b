"""Which files of a model folder go to the Hub, and which stay."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import get_token

from hf_nar.hub.credentials import find_credential

WEIGHTS = ".safetensors"
TEXT = {"", ".json", ".md", ".py", ".txt", ".yaml", ".svg", ".jinja"}
SENT = TEXT | {WEIGHTS, ".model", ".spm", ".png", ".jpg"}
NAMES_WITHOUT_SUFFIX = {"LICENSE", "NOTICE"}
# Formats that may hold pickles: to load one is to run it.
UNSAFE = {
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".npy", ".npz",
}  # fmt: skip
LARGEST_WEIGHTS = 50 * 10**9  # bytes; the Hub takes no larger file
LARGEST_FILE = 100 * 10**6  # bytes; a vocabulary has a few dozen million at most


@dataclass(frozen=True)
class FolderFiles:
    """The files of a model folder.

    Args:
        folder: The folder.
        sent: Names of the files that go to the Hub, with their sizes in bytes, sorted.
        left_out: What stays, and why: paths within the folder; that of a folder ends in "/".
    """

    folder: Path
    sent: dict[str, int]
    left_out: dict[str, str]

    @classmethod
    def of(cls, folder: Path, foreign_code: Collection[str] = ()) -> FolderFiles:
        """Look through a folder.

        A model folder is flat, so what lies in folders below is left out; so are hidden files,
        links, and files of a kind that no model consists of.

        Args:
            folder: The folder.
            foreign_code: Names of files to leave out, as they are not of the model's own code.

        Raises:
            ValueError: If it is no folder, or it or a folder below holds weights in a format that
                is not safe.
        """
        if not folder.is_dir():
            raise ValueError(f"A model folder must be a folder, but {folder} is none.")
        sent: dict[str, int] = {}
        left_out: dict[str, str] = {}
        for path in _walk(folder):
            name = path.relative_to(folder).as_posix()
            if path.suffix.lower() in UNSAFE and not path.is_dir():
                raise ValueError(
                    f"Weights must be safetensors, but {folder} holds {name}, a format that can "
                    f"run code when it is loaded. Convert it, or move it away."
                )
            if "/" in name:  # the folder around it has been left out
                continue
            reason = "no part of the model's code" if name in foreign_code else _reason(path)
            if reason:
                left_out[f"{name}/" if path.is_dir() and not path.is_symlink() else name] = reason
            else:
                sent[name] = path.stat().st_size
        return cls(folder, sent, left_out)

    @property
    def size(self) -> int:
        """Bytes that are sent."""
        return sum(self.sent.values())

    def copy_to(self, folder: Path) -> None:
        """Copy what is sent, so that it stays the same from the first check to the last byte.

        Args:
            folder: Where to; made if it is not there.

        Raises:
            OSError: If a file cannot be read.
            ValueError: If a file is too large, is no text where it must be, or holds a credential.
        """
        folder.mkdir(parents=True, exist_ok=True)
        token = get_token()
        for name, size in self.sent.items():
            source = self.folder / name
            limit = LARGEST_WEIGHTS if source.suffix == WEIGHTS else LARGEST_FILE
            if size > limit:
                raise ValueError(
                    f"A file like {name} must have at most {readable_size(limit)}, but it has "
                    f"{readable_size(size)}. Save weights in several files, or move it away."
                )
            shutil.copyfile(source, folder / name)
            if source.suffix in TEXT:
                _check_text(folder / name, token)


def readable_size(size: int) -> str:
    """Return a number of bytes for people: "5.9 MB"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and below, sorted; hidden and linked folders are not entered."""
    for parent, folders, files in os.walk(folder):
        hidden_or_linked = [name for name in folders if _is_closed(Path(parent, name))]
        folders[:] = sorted(set(folders) - set(hidden_or_linked))
        yield from (Path(parent, name) for name in sorted([*folders, *hidden_or_linked, *files]))


def _is_closed(folder: Path) -> bool:
    return folder.name.startswith(".") or folder.is_symlink()


def _reason(path: Path) -> str:
    """Return why something in a model folder is left out; "" if it is not."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "a link"
    if path.is_dir():
        return "a folder; a model folder is flat"
    known = path.suffix in SENT and (path.suffix or path.name in NAMES_WITHOUT_SUFFIX)
    return "" if known and path.is_file() else "no kind of file that a model needs"


def _check_text(file: Path, token: str | None) -> None:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file.name} must be text in UTF-8, but is not: {error.reason} at byte "
            f"{error.start}. Write it again."
        ) from error
    kind = find_credential(text, token)
    if kind:
        raise ValueError(
            f"No file must hold a secret, but {file.name} seems to hold {kind}. Take it out, and "
            f"revoke it if others could read it."
        )
