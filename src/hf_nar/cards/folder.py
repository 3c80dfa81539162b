"""The card of a folder, whatever kind it is, and whether it is the one that lies there."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from hf_nar.cards.card import render_card
from hf_nar.cards.facts import ModelFacts
from hf_nar.cards.untrained import UntrainedFacts, is_untrained, render_untrained

CARD_FILE = "README.md"
LONGEST_LINE = 120  # characters of a line that a message shows


def load_facts(folder: Path) -> ModelFacts | UntrainedFacts:
    """Read what a folder's card is written from.

    Raises:
        OSError: If a file is missing.
        ValueError: If a file does not hold what it must.
    """
    if not folder.is_dir():
        raise ValueError(f"A model folder must be a folder, but {folder} is none.")
    return UntrainedFacts.load(folder) if is_untrained(folder) else ModelFacts.load(folder)


def render(facts: ModelFacts | UntrainedFacts) -> str:
    """Return a card as Markdown."""
    return render_card(facts) if isinstance(facts, ModelFacts) else render_untrained(facts)


def check_texts(texts: dict[Path, str]) -> None:
    """Check that files hold what is generated for them.

    Args:
        texts: What each must hold.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If one differs; the first line that does is named.
    """
    differing = [file for file, text in texts.items() if _difference(file, text)]
    if not differing:
        return
    first, others = differing[0], differing[1:]
    more = f" So must {', '.join(map(str, others))}." if others else ""
    raise ValueError(
        f"{first} must agree with its results, but {_difference(first, texts[first])}.{more} Run "
        f"`hf-nar card` without --check, or `make cards`."
    )


def _difference(file: Path, text: str) -> str:
    """Return the first line of a file that is not what it must be; "" if there is none."""
    if not file.is_file():
        return "is not there"
    there, wanted = file.read_text(encoding="utf-8").split("\n"), text.split("\n")
    for number, (line, other) in enumerate(zip_longest(there, wanted), start=1):
        if line != other:
            start = _first_difference(line or "", other or "")
            return f"line {number} is {_shown(line, start)} and must be {_shown(other, start)}"
    return ""


def _first_difference(line: str, other: str) -> int:
    pairs = enumerate(zip_longest(line, other))
    return next((place for place, (one, two) in pairs if one != two), 0)


def _shown(line: str | None, start: int) -> str:
    """Return a line for a message: of a long one the part around a place."""
    if line is None:
        return "missing"
    first = max(0, start - LONGEST_LINE // 2) if len(line) > LONGEST_LINE else 0
    part = line[first : first + LONGEST_LINE]
    return repr("…" * (first > 0) + part + "…" * (first + LONGEST_LINE < len(line)))
