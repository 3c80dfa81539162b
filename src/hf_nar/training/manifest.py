"""The manifest of a checkpoint: which files it has, how long they are, and their digests."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hf_nar.training.checkpoint import STATE_FILE, WEIGHTS_FILE

MANIFEST_FILE = "manifest.json"


def write_manifest(folder: Path, processes: int) -> None:
    """Write the manifest of a checkpoint, as its last file.

    Args:
        folder: The checkpoint, otherwise complete.
        processes: How many trained it.
    """
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_FILE
    }
    text = json.dumps({"processes": processes, "files": files}, indent=2) + "\n"
    (folder / MANIFEST_FILE).write_text(text, encoding="utf-8")


def processes_of(folder: Path) -> int | None:
    """Return how many processes trained a whole checkpoint; None where it does not say."""
    if not (folder / MANIFEST_FILE).is_file():
        return None
    return int(_read_json(folder / MANIFEST_FILE)["processes"])


def damage(folder: Path) -> str | None:
    """Return what is wrong with a checkpoint, such as "optimizer.pt is missing"; None: nothing.

    One without a manifest, from an earlier version or the library's own trainer, is checked for
    its two main files only.

    Raises:
        PermissionError: If a file may not be read.
    """
    try:
        if (folder / MANIFEST_FILE).is_file():
            return _differs(folder, _read_json(folder / MANIFEST_FILE)["files"])
        with safe_open(folder / WEIGHTS_FILE, "pt"):
            _read_json(folder / STATE_FILE)
    except PermissionError:
        raise
    except FileNotFoundError as error:
        return f"{Path(str(error.filename or WEIGHTS_FILE)).name} is missing"
    except (SafetensorError, UnicodeDecodeError, ValueError, KeyError, OSError) as error:
        return f"it cannot be read ({' '.join(str(error).split())})"
    return None


def _differs(folder: Path, files: dict[str, dict[str, Any]]) -> str | None:
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != expected["bytes"]:
            return f"{name} has {path.stat().st_size} bytes and must have {expected['bytes']}"
        if _sha256(path) != expected["sha256"]:
            return f"{name} has changed since it was written"
    return None


def _read_json(file: Path) -> dict[str, Any]:
    values = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{file.name} must be a mapping")
    return values


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
