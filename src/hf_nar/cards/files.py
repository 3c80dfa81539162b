"""The files that cards are written from, and how they are named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS_FILE, TRAINING_FILE, CONFIG_FILE = "results.json", "training.json", "config.json"
WRITTEN_BY = {
    TRAINING_FILE: "hf-nar train",
    CONFIG_FILE: "hf-nar train",
    RESULTS_FILE: "hf-nar evaluate",
}


def shown_path(path: Path) -> str:
    """Return a path as a reader may type it: from here if it lies below, or its name."""
    full, here = path.resolve(), Path.cwd()
    shown = full.relative_to(here) if full.is_relative_to(here) else Path(full.name)
    return shown.as_posix()


def read_json(file: Path) -> dict[str, Any]:
    """Return what a command wrote.

    Raises:
        OSError: If the file is missing.
        ValueError: If it is no JSON object.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        author = WRITTEN_BY.get(file.name)
        hint = f"`{author}` writes it." if author else "Check its name."
        raise FileNotFoundError(
            f"A card is written from {file.name}, but {file} is not there. {hint}"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be JSON, but is not ({error}). Write it again.") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} must hold a JSON object, but does not. Write it again.")
    return values


def as_list(value: Any) -> Sequence[Any]:
    """Return a list; a recipe may have one value in its place."""
    return value if isinstance(value, list | tuple) else [value]
