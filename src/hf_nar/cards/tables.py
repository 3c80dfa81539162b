"""Measured figures as Markdown tables, for cards and README."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, numbers to the right."""
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def quality_table(quality: Mapping[str, Any]) -> str:
    """Return quality by refinement iterations, from the "quality" part of a results file."""
    header = (
        "refinement iterations",
        "BLEU",
        "chrF",
        "length ratio",
        "exact length",
        "repeated tokens",
        "iterations used",
    )
    rows = [
        (
            str(row["iterations"]),
            f"{row['bleu']:.2f}",
            f"{row['chrf']:.2f}",
            f"{row['length_ratio']:.3f}",
            f"{row['exact_length_share']:.1%}",
            f"{row['repetition_share']:.1%}",
            f"{row['mean_iterations']:.2f}",
        )
        for row in quality["rows"]
    ]
    return table(header, rows)


def latency_table(latency: Mapping[str, Any]) -> str:
    """Return milliseconds by length and iterations, from the "latency" part of a results file."""
    counts = list(dict.fromkeys(row["iterations"] for row in latency["rows"]))
    cells = {(row["length"], row["iterations"]): row for row in latency["rows"]}
    names = {0: "no iteration", 1: "1 iteration"}
    header = ["tokens", *(names.get(count, f"{count} iterations") for count in counts)]
    rows = []
    for length in dict.fromkeys(row["length"] for row in latency["rows"]):
        row = [cells[length, count] for count in counts]
        rows.append(
            [str(length), *(f"{c['median_ms']:.1f} ms, {c['gflop']:.2f} GFLOP" for c in row)]
        )
    return table(header, rows)


def _time(row: Mapping[str, Any]) -> str:
    return f"{row['median_ms']:.1f} ms, {row['gflop']:.2f} GFLOP"


def hardware(environment: Mapping[str, Any]) -> str:
    """Return one sentence about where figures were measured."""
    threads = environment["threads"]
    return (
        f"{environment['device']}, {threads} thread{'s' if threads > 1 else ''}; torch "
        f"{environment['torch']}, transformers {environment['transformers']}."
    )


def replace_block(text: str, name: str, content: str) -> str:
    """Put `content` between `<!-- name -->` and `<!-- /name -->`.

    Raises:
        ValueError: If the two marks are not there once each.
    """
    pattern = re.compile(f"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.S)
    replaced, count = pattern.subn(lambda match: f"{match[1]}{content}\n{match[2]}", text)
    if count != 1:
        raise ValueError(
            f"The text must have one pair of marks `<!-- {name} -->` and `<!-- /{name} -->`; it "
            f"has {count}."
        )
    return replaced
