"""Run a speed benchmark: batches of text, the largest batch, one cell after another."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from hf_nar.evaluation.benchmark import (
    MODEL,
    Batches,
    Cell,
    Effort,
    LargestBatch,
    Overtaking,
    Ratio,
    Row,
    find_largest_batch,
    measure_cell,
    overtakings,
    ratios_of,
    rows_of,
    time_batch,
)
from hf_nar.evaluation.benchmark_memory import process_peak_mb, resident_mb
from hf_nar.evaluation.benchmark_networks import random_texts
from hf_nar.evaluation.benchmark_steps import Step, steps_of
from hf_nar.evaluation.engines import Engine

MAX = 0  # stands for the largest batch that fits
QUALITY_BATCH = 32  # sentences translated together where only the text counts


@dataclass(frozen=True)
class TextSource:
    """Where batches of text come from.

    Args:
        name: "random tokens", or the name of a file.
        seed: Of the order, or of the words.
        vocab_size: Of random words.
        sentences: Real ones; none for random words.
        references: Of the sentences; none, and no system has a BLEU.
    """

    name: str
    seed: int
    vocab_size: int = 0
    sentences: Sequence[str] = ()
    references: Sequence[str] = ()

    def batches(self, cell: Cell) -> Batches:
        """Return batches without end: random ones, or real ones in an order of the seed's."""
        generator = random.Random(self.seed)
        if cell.length is not None:
            while True:
                yield random_texts(cell.batch_size, cell.length, self.vocab_size, generator)
        shuffled = generator.sample(list(self.sentences), len(self.sentences))
        endless = itertools.cycle(shuffled)
        while True:
            yield list(itertools.islice(endless, cell.batch_size))


@dataclass(frozen=True)
class Limits:
    """What the largest batch must stay under.

    Args:
        memory_mb: Of this process, in 10^6 bytes; on a GPU its memory is the limit.
        seconds: Of one batch in the slowest system; on a GPU there is no such limit.
    """

    memory_mb: float
    seconds: float


@dataclass
class Benchmark:
    """Systems, text and limits; `run` measures.

    Args:
        systems: What is compared.
        texts: Where batches come from.
        effort: Of each cell.
        limits: Of the largest batch.
        on_cell: Called after each cell with its rows, ratios and costs of iterations.
        rows: What was measured so far, as `ratios`, `steps` and `largest`.
        ratios: Ours against the other engines.
        steps: What an iteration of each strategy costs.
        largest: The largest batch for each length for which it was asked.
    """

    systems: Sequence[Engine]
    texts: TextSource
    effort: Effort
    limits: Limits
    on_cell: Callable[[Cell, list[Row], list[Ratio], list[Step]], None]
    rows: list[Row] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    largest: dict[int | None, LargestBatch] = field(default_factory=dict)

    def run(self, batch_sizes: Sequence[int], lengths: Sequence[int | None]) -> None:
        """Measure every batch size, `MAX` last, at every length."""
        fixed = sorted(size for size in batch_sizes if size != MAX)
        for length in lengths:
            sizes = list(fixed)
            if MAX in batch_sizes:
                self.largest[length] = self._largest_batch(length, max(fixed, default=1))
                sizes = sorted({*fixed, self.largest[length].batch_size})
            for size in sizes:
                self._measure(Cell(size, length))

    @property
    def overtakings(self) -> list[Overtaking]:
        """Where an engine becomes faster than one of our systems."""
        return overtakings(self.ratios)

    def _measure(self, cell: Cell) -> None:
        timings = measure_cell(self.systems, cell, self.texts.batches(cell), self.effort)
        rows = [
            row
            for system, of_system in zip(self.systems, timings, strict=True)
            for row in rows_of(system.spec.name, cell, of_system)
        ]
        ratios = ratios_of(self.systems, cell, timings)
        self.rows += rows
        self.ratios += ratios
        steps = steps_of(self.systems, cell, timings)
        self.steps += steps
        self.on_cell(cell, rows, ratios, steps)

    def _largest_batch(self, length: int | None, start: int) -> LargestBatch:
        on_gpu = self.systems[0].device.type == "cuda"

        def seconds_of(size: int) -> float:
            texts = next(self.texts.batches(Cell(size, length)))
            return max(_seconds_if_it_fits(system, texts, length) for system in self.systems)

        return find_largest_batch(
            seconds_of,
            peak_of=lambda: 0.0 if on_gpu else process_peak_mb(),
            resident=0.0 if on_gpu else resident_mb(),
            start=start,
            max_memory=math.inf if on_gpu else self.limits.memory_mb,
            max_seconds=math.inf if on_gpu else self.limits.seconds,
        )


def _seconds_if_it_fits(system: Engine, texts: Sequence[str], length: int | None) -> float:
    try:
        return time_batch(system, texts, length).seconds[MODEL]
    except RuntimeError as error:  # of both torch and CTranslate2
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        raise MemoryError(str(error)) from error


def translate_all(
    system: Engine, sentences: Sequence[str], batch_size: int = QUALITY_BATCH
) -> list[str]:
    """Return a system's translations of all sentences, those of like length translated together."""
    order = sorted(range(len(sentences)), key=system.count_tokens(sentences).__getitem__)
    texts = [""] * len(sentences)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        tokens = system.tokenize([sentences[i] for i in batch])
        for i, text in zip(batch, system.detokenize(system.run(tokens, None)), strict=True):
            texts[i] = text
    return texts


def check_lengths(lengths: Sequence[int], limit: int) -> None:
    """Check that every system can make a length.

    Raises:
        ValueError: If one is too short for a word and the end token, or too long.
    """
    for length in lengths:
        if not 2 <= length <= limit:
            raise ValueError(f"`--length` must be in [2, {limit}] for these models, got {length}.")


def check_sentences(systems: Sequence[Engine], sentences: Sequence[str], limit: int) -> None:
    """Check that every system can read every sentence.

    Raises:
        ValueError: If there is none, or one is longer than a model takes.
    """
    if not sentences:
        raise ValueError("`--source-file` must have a line with text in it, but has none.")
    for system in systems:
        for i, count in enumerate(system.count_tokens(sentences), start=1):
            if count > limit:
                raise ValueError(
                    f"A sentence must have at most {limit} tokens for these models, but number {i} "
                    f"has {count} in {system.spec.name}. Leave it out."
                )
