"""How long one translation takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Latency:
    """Time of one setting.

    Args:
        length: Source and target tokens of each sentence, end token included.
        iterations: Refinement iterations, all of them run.
        median_ms: Median time of a batch in milliseconds.
        p95_ms: 95th percentile in milliseconds.
        gflop: Arithmetic of the matrix products of a batch, in 10^9 operations.
    """

    length: int
    iterations: int
    median_ms: float
    p95_ms: float
    gflop: float


def measure_latency(
    model: PreTrainedModel,
    lengths: Sequence[int],
    iterations: Sequence[int],
    batch_size: int = 1,
    repeats: int = 30,
) -> list[Latency]:
    """Time `generate` on token ids, from random sources to targets of the same, fixed length.

    All settings take turns in each round, so that their ratios survive a machine whose speed
    drifts. Token ids in, token ids out: the tokenizer is not timed. Rows do not stop
    early: each setting runs its full arithmetic.

    Args:
        model: A model of this package.
        lengths: In tokens with the end token.
        iterations: Refinement iterations.
        batch_size: Sentences.
        repeats: Timed rounds; two more come before them and are not counted.

    Returns:
        One entry for each pair, in the order of `lengths`, then `iterations`.

    Raises:
        ValueError: If a number is out of its range.
    """
    limit = min(model.config.max_position_embeddings, model.config.max_target_length)
    for length in lengths:
        if not 2 <= length <= limit:
            raise ValueError(f"A length must be in [2, {limit}] for this model, got {length}.")
    if batch_size < 1 or repeats < 1:
        raise ValueError(
            f"`batch_size` and `repeats` must be at least 1, got {batch_size} and {repeats}."
        )
    settings = [(length, count) for length in lengths for count in iterations]
    times: dict[tuple[int, int], list[float]] = {setting: [] for setting in settings}
    for repeat in range(repeats + 2):
        for setting in settings:
            seconds = _time_once(model, *setting, batch_size)
            if repeat >= 2:
                times[setting].append(1000 * seconds)
    return [
        Latency(
            length,
            count,
            median_ms=round(statistics.median(times[length, count]), 3),
            p95_ms=round(percentile(times[length, count], 0.95), 3),
            gflop=round(_gflop(model, length, count, batch_size), 4),
        )
        for length, count in settings
    ]


def _source(model: PreTrainedModel, length: int, batch_size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(length)
    shape = (batch_size, length)
    first_word = 1 + max(model.config.eos_token_id, model.config.mask_token_id or 0)
    ids = torch.randint(first_word, model.config.vocab_size, shape, generator=generator)
    ids[:, -1] = model.config.eos_token_id
    return ids.to(model.device)


def _generate(model: Any, source: torch.Tensor, count: int) -> None:
    lengths = torch.full((len(source),), source.shape[1], device=source.device)
    model.generate(
        source,
        num_refinement_iterations=count,
        target_lengths=lengths,
        max_length=source.shape[1],
        stop_early=False,
        length_beam=1,
    )


def _time_once(model: PreTrainedModel, length: int, count: int, batch_size: int) -> float:
    source = _source(model, length, batch_size)
    synchronize(model.device)
    start = time.perf_counter()
    _generate(model, source, count)
    synchronize(model.device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all its work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _gflop(model: PreTrainedModel, length: int, count: int, batch_size: int) -> float:
    """Count operations with eager attention: the counter does not see those of fused ones."""
    implementation = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        with FlopCounterMode(display=False) as counter:
            _generate(model, _source(model, length, batch_size), count)
    finally:
        model.set_attn_implementation(implementation)
    return float(counter.get_total_flops()) / 1e9


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value under which a share of all lies, such as 0.95; one of the values."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(share * (len(ranked) - 1)))]
