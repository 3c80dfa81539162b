"""A speed benchmark as text: no ratio without its batch size, hardware and engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_nar.evaluation.benchmark import MODEL, TEXT, Cell, LargestBatch, Overtaking, Ratio, Row
from hf_nar.evaluation.benchmark_steps import Step
from hf_nar.evaluation.engines import Engine
from hf_nar.evaluation.quality import CorpusScores


def describe_system(
    system: Engine, peak_memory_mb: float | None, quality: CorpusScores | None
) -> dict[str, Any]:
    """Return what a results file says of a system; quality only where there are references."""
    spec = system.spec
    return {
        "name": spec.name,
        "engine": spec.engine,
        "is_ours": spec.is_ours,
        "precision": spec.precision,
        "decoding": dict(spec.decoding),
        "parameters": system.parameters,
        "size_mb": round(system.size_mb, 1),
        "peak_memory_mb": peak_memory_mb,
        "bleu": None if quality is None else round(quality.bleu, 2),
        "bleu_signature": None if quality is None else quality.bleu_signature,
    }


def describe_hardware(environment: Mapping[str, Any]) -> str:
    """Return processor and threads, such as "some CPU, 2 cores, 1 thread"."""
    threads = environment["threads"]
    return f"{environment['device']}, {threads} CPU thread{'' if threads == 1 else 's'}"


def _cell_name(batch_size: int, length: int | None) -> str:
    tokens = "sentences of natural length" if length is None else f"{length} tokens"
    return f"batch size {batch_size}, {tokens}"


def system_lines(systems: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a table of what each system weighs."""
    width = max(len(system["name"]) for system in systems)
    lines = [f"{'system':{width}}  million weights  MB on disk  peak MB beyond libraries   BLEU"]
    for system in systems:
        peak, bleu = system["peak_memory_mb"], system["bleu"]
        memory = "-" if peak is None else f"{peak:.0f}"
        quality = "-" if bleu is None else f"{bleu:.2f}"
        lines.append(
            f"{system['name']:{width}}  {system['parameters'] / 1e6:15.1f}  "
            f"{system['size_mb']:10.1f}  {memory:>24}  {quality:>5}"
        )
    return lines


def cell_lines(
    cell: Cell, rows: Sequence[Row], ratios: Sequence[Ratio], hardware: str
) -> list[str]:
    """Return the tables of one batch size and length: times, then ratios."""
    by_key = {(row.system, row.scope): row for row in rows}
    names = list(dict.fromkeys(row.system for row in rows))
    width = max(map(len, names))
    where = f"{_cell_name(cell.batch_size, cell.length)}, {hardware}"
    lines = [
        f"{where}, {rows[0].rounds} rounds",
        f"{'':{width}}  {'text to text, ms':^21}  {'model alone, ms':^21}  {'text to text':>23}",
        f"{'system':{width}}  {'p50':>10} {'p95':>10}  {'p50':>10} {'p95':>10}  "
        f"{'sentences/s':>11} {'tokens/s':>11}",
    ]
    for name in names:
        text, model = by_key[name, TEXT], by_key[name, MODEL]
        lines.append(
            f"{name:{width}}  {text.p50_ms:10.2f} {text.p95_ms:10.2f}  "
            f"{model.p50_ms:10.2f} {model.p95_ms:10.2f}  "
            f"{text.sentences_per_second:11.2f} {text.tokens_per_second:11.1f}"
        )
    return lines + _ratio_lines(ratios, where)


def _ratio_lines(ratios: Sequence[Ratio], where: str) -> list[str]:
    if not ratios:
        return []
    factors = {(r.engine, r.system): f"{r.times_faster:.2f}" for r in ratios if r.scope == TEXT}
    return ["", f"times faster than each engine, text to text, {where}", *_grid(factors)]


def step_lines(steps: Sequence[Step], cell: Cell, hardware: str) -> list[str]:
    """Return a table of what one iteration costs; none where nothing differs in iterations."""
    if not steps:
        return []
    width = max(len(step.more) for step in steps)
    where = f"{_cell_name(cell.batch_size, cell.length)}, {hardware}"
    lines = [
        "",
        f"one iteration, model alone, {where}",
        f"{'of':{width}}  {'ms':>8}  {'of the first':>12}  measured against",
    ]
    for step in steps:
        share = "-" if step.of_first is None else f"{step.of_first:.2f}"
        lines.append(f"{step.more:{width}}  {step.step_ms:8.2f}  {share:>12}  {step.fewer}")
    return lines


def _grid(values: Mapping[tuple[str, str], str]) -> list[str]:
    """Return a table: an engine a line, a system of ours a column; if these are more, turned."""
    lines_of = list(dict.fromkeys(engine for engine, _ in values))
    columns = list(dict.fromkeys(name for _, name in values))
    corner = "engine"
    if len(columns) > len(lines_of):
        values = {(name, engine): value for (engine, name), value in values.items()}
        lines_of, columns, corner = columns, lines_of, "system"
    width = max(map(len, lines_of))
    lines = ["  ".join([f"{corner:{width}}", *columns])]
    for first in lines_of:
        cells = [f"{values[first, name]:>{len(name)}}" for name in columns]
        lines.append("  ".join([f"{first:{width}}", *cells]))
    return lines


def largest_line(length: int | None, largest: LargestBatch) -> str:
    """Say which size the largest batch was, and what a larger one would exceed."""
    tokens = "natural length" if length is None else f"{length} tokens"
    return f"largest batch at {tokens}: {largest.batch_size}; twice that exceeds {largest.limit}"


def overtaking_lines(found: Sequence[Overtaking], sizes: Sequence[int], hardware: str) -> list[str]:
    """Say at which batch size each engine becomes faster than each of our systems."""
    measured = ", ".join(map(str, sizes))
    lines = []
    for length in dict.fromkeys(item.length for item in found):
        tokens = "sentences of natural length" if length is None else f"{length} tokens"
        places = {
            (item.engine, item.ours): "never" if item.batch_size is None else str(item.batch_size)
            for item in found
            if item.length == length
        }
        title = f"batch size at which each engine overtakes ours, of {measured}, text to text"
        lines += ["", f"{title}, {tokens}, {hardware}", *_grid(places)]
    return lines
