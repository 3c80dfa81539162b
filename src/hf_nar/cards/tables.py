"""Measured figures as Markdown tables, for cards and README."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hf_nar.cards.markdown import inline, table
from hf_nar.evaluation.settings import readable_label

# Columns of a quality table: key of a row, header, format.
QUALITY_COLUMNS = (
    ("bleu", "BLEU", ".2f"),
    ("chrf", "chrF", ".2f"),
    ("exact", "exact sentences, %", ".1f"),
    ("length_ratio", "length ratio", ".3f"),
    ("exact_length_share", "exact length", ".1%"),
    ("repetition_share", "repeated tokens", ".1%"),
    ("mean_iterations", "iterations used", ".2f"),
    ("log_likelihood", "log p of a word", ".3f"),
    ("elbo", "ELBO, nats", ".2f"),
    ("marginal", "marginal, nats", ".2f"),
)


def quality_table(quality: Mapping[str, Any]) -> str:
    """Return quality by decoding, from the "quality" part of a results file.

    A column is left out where no row has its figure, as iterations of a teacher.

    Raises:
        ValueError: If a row has no label, as earlier versions wrote them.
    """
    rows = quality["rows"]
    if any("label" not in row for row in rows):
        raise ValueError(
            'A row of "quality" must have a label, but one has none: an earlier version wrote it. '
            "Measure again with `hf-nar evaluate`."
        )
    columns = [c for c in QUALITY_COLUMNS if any(row.get(c[0]) is not None for row in rows)]
    body = []
    for row in rows:
        cells = [_bold(_label(row), row.get("is_default", False))]
        for key, _, style in columns:
            value = row.get(key)
            cells.append("-" if value is None else format(value, style))
        body.append(cells)
    return table(["decoding", *(name for _, name, _ in columns)], body, texts=1)


def _label(row: Mapping[str, Any]) -> str:
    """Return a setting's name; one that is knobs and values is put in words."""
    label = str(row["label"])
    return inline((readable_label(row.get("setting", {})) if "=" in label else None) or label)


def _bold(text: str, is_bold: bool) -> str:
    return f"**{text}**" if is_bold else text


def speed_table(
    benchmark: Mapping[str, Any], scope: str = "text", with_iterations: bool = False
) -> str:
    """Return quality, where it was measured, and speed of each system, the teacher's first.

    Args:
        benchmark: What `hf-nar benchmark` wrote, of real text or of one length.
        scope: "text" for text in, text out; "model" for the network alone.
        with_iterations: Whether there is a column for them; a teacher has none.

    Raises:
        ValueError: If it is of several lengths.
    """
    lengths = {row.get("length") for row in benchmark["rows"]}
    if len(lengths) > 1:
        raise ValueError(
            f"A table of speed must be of one length, but the benchmark has {len(lengths)}. Draw "
            f"it with `hf-nar plot latency`, or measure one."
        )
    cells = {
        (row["system"], row["batch_size"]): row
        for row in benchmark["rows"]
        if row["scope"] == scope
    }
    sizes = sorted({size for _, size in cells})
    with_bleu = any(system.get("bleu") is not None for system in benchmark["systems"])
    header = ["system", *["BLEU"] * with_bleu, *["iterations"] * with_iterations, "ms, batch 1"]
    header += [f"sentences/s, batch {size}" for size in sizes]
    rows = []
    for system in sorted(benchmark["systems"], key=lambda system: system["is_ours"]):
        name = system["name"]
        row = [_bold(inline(name), system["is_ours"])]
        if with_bleu:
            row.append(_number(system.get("bleu"), 2))
        if with_iterations:
            row.append(_number(system.get("decoding", {}).get("iterations"), 0))
        row.append(_number(_value(cells, name, 1, "p50_ms"), 1))
        row += [_number(_value(cells, name, n, "sentences_per_second"), 1) for n in sizes]
        rows.append([*row, *(_number(system.get(key), 0) for key in ("size_mb", "peak_memory_mb"))])
    return table([*header, "MB on disk", "MB in memory"], rows, texts=1)


def _value(
    cells: Mapping[tuple[str, int], Mapping[str, Any]], system: str, size: int, key: str
) -> float | None:
    """Return one figure; None where the system was not run at that batch size."""
    value: float | None = cells.get((system, size), {}).get(key)
    return value


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


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


def hardware(environment: Mapping[str, Any], *packages: str) -> str:
    """Return one sentence about where figures were measured.

    Args:
        environment: What the command wrote about it.
        packages: Named with their versions, too, where they were installed.
    """
    threads = environment["threads"]
    names = [name for name in ("torch", "transformers", *packages) if name in environment]
    versions = ", ".join(f"{name} {environment[name]}" for name in names)
    device = f"{environment['device']}, {threads} thread{'s' * (threads > 1)}"
    return inline(f"{device}; {versions}.")


def replace_block(text: str, name: str, content: str) -> str:
    """Put `content` between `<!-- name -->` and `<!-- /name -->`; a mark in it is broken up.

    Raises:
        ValueError: If the two marks are not there once each.
    """
    pattern = re.compile(f"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.S)
    content = content.replace("<!--", "<! --")
    replaced, count = pattern.subn(lambda match: f"{match[1]}{content}\n{match[2]}", text)
    if count != 1:
        raise ValueError(
            f"The text must have one pair of marks `<!-- {name} -->` and `<!-- /{name} -->`; it "
            f"has {count}."
        )
    return replaced
