"""Drafts as text, with what changed marked."""

from __future__ import annotations

import difflib
import itertools
import math
import operator
import unicodedata
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
    new = zip(changed_tokens(previous, draft), draft, strict=True)
    for changed, run in itertools.groupby(new, key=operator.itemgetter(0)):
        joined = escape_controls("".join(token for _, token in run)).replace(WORD_START, " ")
        words = joined.lstrip(" ")
        space = " " * (len(joined) - len(words))
        text += f"{space}{before}{words}{after}" if changed else joined
    return text.strip(" ")


def changed_tokens(previous: list[str] | None, draft: list[str]) -> list[bool]:
    """Say for each token of a draft whether it is new; what only moved is not.

    Args:
        previous: The draft before; None makes nothing new.
        draft: Vocabulary tokens.
    """
    changed = [previous is not None] * len(draft)
    matcher = difflib.SequenceMatcher(a=previous or [], b=draft, autojunk=False)
    for match in matcher.get_matching_blocks():
        changed[match.b : match.b + match.size] = [False] * match.size
    return changed


def escape_controls(text: str) -> str:
    """Write out characters that could steer a terminal or turn the direction of text."""
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and char not in JOINERS
        else char
        for char in text
    )
