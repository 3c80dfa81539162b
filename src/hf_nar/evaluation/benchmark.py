"""Speed of several systems, measured in turns so that ratios survive a machine that drifts."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hf_nar.evaluation.engines import Engine
from hf_nar.evaluation.latency import percentile, synchronize

TEXT, MODEL = "text", "model"  # from text to text, and from token ids to token ids
SCOPES = (TEXT, MODEL)
FEWEST_ROUNDS = 3  # a cell has at least so many, however slow it is

Batches = Iterator[list[str]]


@dataclass(frozen=True)
class Timing:
    """One batch through one system.

    Args:
        seconds: For each scope.
        tokens: Target tokens, end tokens included.
    """

    seconds: dict[str, float]
    tokens: int


@dataclass(frozen=True)
class Cell:
    """One batch size and one length: what is measured in turns.

    Args:
        batch_size: Sentences.
        length: Source and target tokens of each; None for real text.
    """

    batch_size: int
    length: int | None


@dataclass(frozen=True)
class Row:
    """One system in one cell and one scope.

    Args:
        system: Its name.
        batch_size: See `Cell`, as `length`.
        length: See `Cell`.
        scope: `TEXT` or `MODEL`.
        p50_ms: Median time of a batch in milliseconds.
        p95_ms: 95th percentile of it.
        sentences_per_second: Median over rounds.
        tokens_per_second: Target tokens, median over rounds.
        rounds: Timed rounds.
    """

    system: str
    batch_size: int
    length: int | None
    scope: str
    p50_ms: float
    p95_ms: float
    sentences_per_second: float
    tokens_per_second: float
    rounds: int


@dataclass(frozen=True)
class Ratio:
    """How many times faster one of our systems is than another engine.

    Args:
        system: Ours.
        engine: Name of the other system.
        batch_size: See `Cell`, as `length`.
        length: See `Cell`.
        scope: `TEXT` or `MODEL`.
        times_faster: The engine's time over ours, median over rounds.
    """

    system: str
    engine: str
    batch_size: int
    length: int | None
    scope: str
    times_faster: float


@dataclass(frozen=True)
class Overtaking:
    """Where an engine becomes faster than one of our systems, from text to text.

    Args:
        engine: Name of the other system.
        ours: Name of our system.
        length: See `Cell`.
        batch_size: Smallest one measured at which the engine is faster; None where it is at none.
    """

    engine: str
    ours: str
    length: int | None
    batch_size: int | None


@dataclass(frozen=True)
class Effort:
    """How long to measure a cell.

    Args:
        rounds: Timed rounds.
        warm_up: Rounds before them that are not counted.
        seconds: After so many no further round is begun; three are run in any case.
    """

    rounds: int = 20
    warm_up: int = 2
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--repeats", self.rounds, 1),
            ("--warm-up", self.warm_up, 0),
            ("--cell-seconds", self.seconds, 0),
        ):
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")


def time_batch(system: Engine, texts: Sequence[str], length: int | None) -> Timing:
    """Translate a batch and read the clock around the model and around the whole."""
    synchronize(system.device)
    start = time.perf_counter()
    tokens = system.tokenize(texts)
    synchronize(system.device)
    before = time.perf_counter()
    rows = system.run(tokens, length)
    synchronize(system.device)
    after = time.perf_counter()
    system.detokenize(rows)
    seconds = {TEXT: time.perf_counter() - start, MODEL: after - before}
    return Timing(seconds, sum(len(row) for row in rows))


def measure_cell(
    systems: Sequence[Engine], cell: Cell, batches: Batches, effort: Effort
) -> list[list[Timing]]:
    """Time all systems in turns: every round gives each of them the same batch.

    The order of a round is random, and the same in every run: a system finds the caches as another
    one left them, and that must not always be the same one.

    Returns:
        One list of timings for each system; entry `i` of each is from round `i`.
    """
    timings: list[list[Timing]] = [[] for _ in systems]
    begin = time.perf_counter()
    for number in range(-effort.warm_up, effort.rounds):
        is_late = time.perf_counter() - begin > effort.seconds
        if is_late and (number < 0 or len(timings[0]) >= min(FEWEST_ROUNDS, effort.rounds)):
            continue
        if number == 0:
            begin = time.perf_counter()
        texts = next(batches)
        for i in random.Random(number).sample(range(len(systems)), len(systems)):
            timing = time_batch(systems[i], texts, cell.length)
            if number >= 0:
                timings[i].append(timing)
    return timings


def rows_of(name: str, cell: Cell, timings: Sequence[Timing]) -> list[Row]:
    """Sum up one system in one cell, a row for each scope."""
    rows = []
    for scope in SCOPES:
        seconds = [timing.seconds[scope] for timing in timings]
        tokens = [timing.tokens / timing.seconds[scope] for timing in timings]
        sentences = [cell.batch_size / timing.seconds[scope] for timing in timings]
        rows.append(
            Row(
                system=name,
                batch_size=cell.batch_size,
                length=cell.length,
                scope=scope,
                p50_ms=round(1000 * statistics.median(seconds), 3),
                p95_ms=round(1000 * percentile(seconds, 0.95), 3),
                sentences_per_second=round(statistics.median(sentences), 3),
                tokens_per_second=round(statistics.median(tokens), 3),
                rounds=len(seconds),
            )
        )
    return rows


def ratios_of(
    systems: Sequence[Engine], cell: Cell, timings: Sequence[Sequence[Timing]]
) -> list[Ratio]:
    """Compare each of our systems with each other engine, round by round."""
    pairs = list(zip(systems, timings, strict=True))
    return [
        Ratio(
            system=ours.spec.name,
            engine=other.spec.name,
            batch_size=cell.batch_size,
            length=cell.length,
            scope=scope,
            times_faster=round(
                statistics.median(
                    theirs.seconds[scope] / mine.seconds[scope]
                    for mine, theirs in zip(our_timings, other_timings, strict=True)
                ),
                3,
            ),
        )
        for scope in SCOPES
        for ours, our_timings in pairs
        if ours.spec.is_ours
        for other, other_timings in pairs
        if not other.spec.is_ours
    ]


def overtakings(ratios: Sequence[Ratio]) -> list[Overtaking]:
    """Find for each engine, system of ours and length where the engine becomes faster."""
    found: dict[tuple[str, str, int | None], list[int]] = {}
    for ratio in ratios:
        if ratio.scope == TEXT:
            sizes = found.setdefault((ratio.engine, ratio.system, ratio.length), [])
            if ratio.times_faster < 1:
                sizes.append(ratio.batch_size)
    return [
        Overtaking(engine, ours, length, min(sizes, default=None))
        for (engine, ours, length), sizes in found.items()
    ]


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits.

    Args:
        batch_size: Sentences.
        limit: What the next one would exceed: "memory" or "time".
    """

    batch_size: int
    limit: str


def find_largest_batch(
    seconds_of: Callable[[int], float],
    peak_of: Callable[[], float],
    resident: float,
    start: int,
    max_memory: float,
    max_seconds: float,
) -> LargestBatch:
    """Double a batch until the next one would need too much memory or time.

    Args:
        seconds_of: Runs a batch of a size in every system and returns the slowest one's time; it
            raises `MemoryError` where it does not fit.
        peak_of: Returns the most memory this process has had, in the unit of `max_memory`.
        resident: What it has before the first batch.
        start: Size to begin with; it is taken to fit.
        max_memory: Of the whole process.
        max_seconds: Of the slowest system.
    """
    size, seconds = start, seconds_of(start)
    while True:
        # The peak may still be that of loading, and hide what the batch needed: this is the most.
        if resident + 2 * (peak_of() - resident) > max_memory:
            return LargestBatch(size, "memory")
        if 2 * seconds > max_seconds:
            return LargestBatch(size, "time")
        try:
            seconds = seconds_of(2 * size)
        except MemoryError:
            return LargestBatch(size, "memory")
        size *= 2
