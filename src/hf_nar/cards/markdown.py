"""Text from outside as Markdown that shows it, and can do nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hf_nar.evaluation.traces import escape_controls

# A backslash before one of these keeps it from marking anything up; `_` does so between words only.
_MARKS = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_BLOCK_START = re.compile(r"#{1,6}(\s|$)|>|`{3,}|~{3,}|\||[-=*_]{3,}|[-+*]\s")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")


def inline(text: str) -> str:
    """Return a name or a sentence as it stands, wherever in a line or in a table it is put."""
    shown = _MARKS.sub(r"\\\g<0>", escape_controls(text))
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def prose(text: str) -> str:
    """Return an author's paragraphs: emphasis, links and `code` work, HTML and blocks do not."""
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n\n".join(_paragraph(part) for part in paragraphs if part)


def _paragraph(text: str) -> str:
    text = escape_controls(text)
    block = _BLOCK_START.match(text)
    start = block[0].strip() if block else ""
    marks, text = "".join(f"\\{mark}" for mark in start), text[len(start) :]
    if "\\`" in text:  # what is code and what is not would be hard to say
        return marks + text.replace("<", "&lt;")
    shown, end = "", 0
    for span in _CODE_SPAN.finditer(text):
        shown += text[end : span.start()].replace("<", "&lt;") + span[0]
        end = span.end()
    return marks + shown + text[end:].replace("<", "&lt;")


def code_span(text: str) -> str:
    """Return a piece of code for the middle of a line."""
    text = escape_controls(text)
    fence = "`" * (_longest_run(text) + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def fenced(text: str, language: str = "") -> str:
    """Return lines as a block of code, whose fence is longer than any in them."""
    lines = [escape_controls(line) for line in text.strip("\n").split("\n")]
    fence = "`" * max(3, max(map(_longest_run, lines)) + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 0) -> str:
    """Return a table: the first `texts` columns to the left, numbers to the right.

    Args:
        header: Names of the columns, as Markdown.
        rows: Cells, as Markdown.
        texts: How many columns hold words.
    """
    sides = ["---"] * texts + ["---:"] * (len(header) - texts)
    lines = [header, sides, *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
