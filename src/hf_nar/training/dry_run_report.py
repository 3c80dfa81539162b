"""What `hf-nar train --dry-run` says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from hf_nar.training.checkpoint import saved_checkpoints
from hf_nar.training.dry_run import RunPlan, memory_of, parts_of
from hf_nar.training.manifest import damage
from hf_nar.training.recipe import Recipe

_GIB = 2**30


def report(run: RunPlan) -> list[str]:
    """Return the lines of the report, warnings last."""
    lines = [f"{name:<12} {text}".rstrip() for name, text in _entries(run)]
    return lines + [f"warning: {text}" for text in run.warnings]


def _entries(run: RunPlan) -> Iterator[tuple[str, str]]:
    recipe, data, arguments = run.recipe, run.data, run.arguments
    yield "run", f"{recipe.family}, stage {recipe.stage}, {run.processes} process(es)"
    yield from _parameter_entries(run)
    yield from _memory_entries(run)
    seen = "a stream, not counted" if data.count is None else f"{data.count:,} {data.kind}"
    is_sample = data.count is None or data.seen < data.count
    basis = f", estimated from {data.seen:,}" if is_sample else ""
    yield "data", f"{seen} an epoch, {data.dropped_share:.1%} left out as too long{basis}"
    if data.batches is not None:
        tokens = data.tokens_per_batch * data.batches
        yield "", f"{tokens:,.0f} real tokens in {data.batches:,} batches, end tokens included"
    yield "", f"{data.padding_share:.1%} padding, batches of up to {arguments.tokens_per_batch:,}"
    epoch = "" if run.steps_per_epoch is None else f", {run.steps_per_epoch:,} an epoch"
    epochs = "" if not run.steps_per_epoch else f" ({run.steps / run.steps_per_epoch:.1f} epochs)"
    yield "steps", f"{run.steps:,}{epoch}{epochs}"
    yield "", f"{run.tokens_per_step:,.0f} real tokens a step, of all processes"
    written, kept = checkpoints_of(run)
    size = memory_of(run).checkpoint
    stay = "all kept" if kept is None else f"at most {kept} kept at a time"
    yield "checkpoints", f"{written:,} of {_size(size)}, {stay}"
    yield "output", describe_output(run)


def _parameter_entries(run: RunPlan) -> Iterator[tuple[str, str]]:
    parts = parts_of(run.model)
    total = sum(count for count, _ in parts.values())
    trained = sum(count for _, count in parts.values())
    yield "parameters", f"{total:,}, of which {trained:,} are trained"
    for name, (count, trained) in parts.items():
        yield "", f"{count:>13,} {name}{'' if trained else ', frozen'}"


def _memory_entries(run: RunPlan) -> Iterator[tuple[str, str]]:
    memory = memory_of(run)
    optimizer = run.arguments.to_dict()["optim"]  # type: ignore[no-untyped-call]  # has no types
    yield "memory", f"at least {_size(memory.total)} on the device of each process:"
    yield "", f"weights {_size(memory.weights)}, gradients {_size(memory.gradients)}"
    moments = _size(memory.moments) if memory.moments else "not estimated"
    yield "", f"optimizer ({optimizer}) {moments}"
    rows, source, target = run.data.largest
    sides = f"{source} + {target}" if source else f"{target}"
    yield "", f"activations {_size(memory.activations)}, what {rows:,} x {sides} positions keep for"
    yield "", "the backward pass: measured on 2 and 4 rows on a CPU and scaled; what"
    yield "", "that pass takes besides comes on top, and a GPU may keep less"


def checkpoints_of(run: RunPlan) -> tuple[int, int | None]:
    """Return how many checkpoints a run writes, and how many of them it keeps; None: all.

    The best one is kept beside the last ones.
    """
    arguments = run.arguments
    strategy = arguments.to_dict()["save_strategy"]  # type: ignore[no-untyped-call]  # has no types
    if strategy == "steps":
        every = arguments.save_steps
        every = max(1, math.ceil(every * run.steps)) if every < 1 else int(every)
        written = math.ceil(run.steps / every)  # the last step is saved, too
    elif strategy == "epoch":
        written = math.ceil(run.steps / max(run.steps_per_epoch or run.steps, 1))
    else:
        written = 0
    limit = arguments.save_total_limit
    return written, None if limit is None else min(written, limit + 1)


def describe_output(run: RunPlan) -> str:
    """Say what is in the output folder, and what a run would make of it."""
    output = Path(run.recipe.output)
    file = output / "recipe.yaml"
    checkpoints = saved_checkpoints(output)
    if not checkpoints:
        return f"{output}, a new run"
    if not file.is_file() or not run.recipe.finds_the_same_weights_as(Recipe.load(file)):
        return f"{output}, which holds checkpoints of another recipe: training would refuse it"
    whole = next((i for i in reversed(checkpoints) if damage(i) is None), None)
    if whole is None:
        return f"{output}, a new run: all its checkpoints are damaged"
    return f"{output}, going on from {whole.name}"


def _size(count: int) -> str:
    """Return bytes as a text, in GiB or, below a tenth of one, in MiB."""
    return f"{count / _GIB:.2f} GiB" if count >= _GIB / 10 else f"{count / _GIB * 1024:.1f} MiB"
