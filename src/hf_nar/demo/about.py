"""What a model's own card says for its demo: languages, and sentences to try."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from transformers.utils.hub import cached_file

MOST_EXAMPLES = 4


@dataclass(frozen=True)
class About:
    """What a demo shows of a model.

    Args:
        languages: Codes of its source and target language; none where its card does not say.
        examples: Source texts.
    """

    languages: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()


def about_model(name: str, revision: str | None = None) -> About:
    """Read a model's card, README.md, and the sentences in its results.json.

    Args:
        name: Folder or Hub id.
        revision: Branch, tag or commit on the Hub.

    Returns:
        What is said there; files that are missing say nothing.

    Raises:
        ValueError: If one of the files is damaged.
    """
    card, results = (_file(name, file, revision) for file in ("README.md", "results.json"))
    metadata = ModelCard.load(card).data.to_dict() if card else {}
    languages = metadata.get("language") or []
    examples = [sample.get("text") for sample in metadata.get("widget") or []]
    if results and not examples:
        examples = [trace.get("source") for trace in _traces(results)]
    texts = tuple(text for text in examples if isinstance(text, str) and text)
    pair = tuple(languages) if isinstance(languages, list) and len(languages) == 2 else ()
    return About(pair, texts[:MOST_EXAMPLES])


def _file(name: str, file: str, revision: str | None) -> Path | None:
    found = cached_file(
        name,
        file,
        revision=revision,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    return Path(found) if found else None


def _traces(file: Path) -> list[dict[str, Any]]:
    try:
        quality = json.loads(file.read_text("utf-8")).get("quality") or {}
    except ValueError as error:
        raise ValueError(f"{file.name} must hold JSON, but does not: {error}.") from error
    traces: list[dict[str, Any]] = quality.get("traces") or []
    return traces
