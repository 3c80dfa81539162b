"""Drafts as text, with what changed marked."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_nar.inference import TranslationTrace

HIGHLIGHT, PLAIN = "\x1b[7m", "\x1b[0m"  # reverse video on and off
WORD_START = "\u2581"  # how SentencePiece writes the space before a word
JOINERS = {"\u200c", "\u200d"}  # invisible, but part of the spelling of several languages


def format_trace(trace: TranslationTrace, colour: bool) -> str:
    """Return the source, each draft with its changes marked, and the translation.

    Args:
        trace: What to show.
        colour: Whether to mark changes by colour; otherwise [brackets] do.
    """
    rows = [("source", escape_controls(trace.source))]
    previous: list[str] | None = None
    for iteration, draft in enumerate(trace.drafts):
        label = f"iteration {iteration}" if iteration else "draft"
        rows.append((label, mark_changes(previous, draft, colour)))
        previous = draft
    rows.append(("translation", escape_controls(trace.translation)))
    scores = trace.scores[:-1]  # without the end token, which is certain
    probability = math.exp(sum(scores) / max(len(scores), 1))
    rows.append(("probability", f"{probability:.2f} (geometric mean over tokens)"))
    return "".join(f"{label:<12} {text}\n" for label, text in rows)


def mark_changes(previous: list[str] | None, draft: list[str], colour: bool) -> str:
    """Join the tokens of a draft to text, marking those that the previous draft did not have.

    Args:
        previous: The draft before, or None to mark nothing.
        draft: Vocabulary tokens.
        colour: Whether to mark by colour; otherwise [brackets] do.
    """
    before, after = (HIGHLIGHT, PLAIN) if colour else ("[", "]")
    text = ""
    for changed, tokens in _runs(previous, draft):
        joined = escape_controls("".join(tokens)).replace(WORD_START, " ")
        words = joined.lstrip(" ")
        space = " " * (len(joined) - len(words))
        text += f"{space}{before}{words}{after}" if changed else joined
    return text.strip(" ")


def _runs(previous: list[str] | None, draft: list[str]) -> Iterator[tuple[bool, list[str]]]:
    """Yield stretches of a draft and whether they are new."""
    if previous is None:
        yield False, draft
        return
    matcher = difflib.SequenceMatcher(a=previous, b=draft, autojunk=False)
    for operation, _, _, start, end in matcher.get_opcodes():
        if start < end:
            yield operation != "equal", draft[start:end]


def escape_controls(text: str) -> str:
    """Write out characters that could steer a terminal or turn the direction of text."""
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and char not in JOINERS
        else char
        for char in text
    )
