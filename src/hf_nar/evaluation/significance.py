"""Whether one system is better than another, or only luckier with the test set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from sacrebleu.significance import PairedTest, Result

from hf_nar.evaluation.metrics import build_metric, check_counts

DEFAULT_SEED, DEFAULT_SAMPLES = 12345, 1000  # sacreBLEU's, so that its program gives our figures
FEWEST_SAMPLES = 40  # fewer have no 95% interval


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same test set, by one metric.

    Args:
        metric: Its name.
        score: Of the system.
        other_score: Of the system that it is compared with.
        difference: `score` less `other_score`.
        p_value: How likely so great a difference is where the systems are equally good.
        interval: Mean of the resampled scores of the system, less and plus what holds 95% of them.
        other_interval: The same of the other system.
        signature: Of the metric and the test, by sacreBLEU.
    """

    metric: str
    score: float
    other_score: float
    difference: float
    p_value: float
    interval: tuple[float, float]
    other_interval: tuple[float, float]
    signature: str


def compare_systems(
    metric: str,
    hypotheses: Sequence[str],
    others: Sequence[str],
    references: Sequence[str],
    samples: int = DEFAULT_SAMPLES,
    seed: int = DEFAULT_SEED,
) -> Comparison:
    """Compare two systems by paired bootstrap resampling.

    The test is sacreBLEU's (Koehn 2004, "Statistical Significance Tests for Machine Translation
    Evaluation", section 4), which `sacrebleu --paired-bs` runs. Only where both systems say the
    same does its p-value mean nothing, and it is 1 here. Its memory is about 80 MB for chrF of
    1000 sentences in 1000 samples, and grows with their product.

    Args:
        metric: One of sacreBLEU's in `metrics.COLUMNS`.
        hypotheses: Translations of the system.
        others: Translations of the other system.
        references: One for each translation.
        samples: Resampled test sets.
        seed: Of the resampling.

    Raises:
        ValueError: If the numbers of texts differ, or `samples` or `seed` is too small.
    """
    check_counts(hypotheses, references)
    check_counts(others, references)
    check_resampling(samples, seed)
    systems: list[tuple[str, Sequence[str]]] = [
        ("other", list(others)),
        ("system", list(hypotheses)),
    ]
    with _sacrebleu_seed(seed):
        test = PairedTest(
            systems, {metric: build_metric(metric)}, [list(references)], "bs", samples
        )
        signatures, scores = test()
    ((name, signature),) = signatures.items()
    other, system = cast("list[Result]", scores[name])
    same = systems[0][1] == systems[1][1]
    return Comparison(
        metric=metric,
        score=round(system.score, 4),
        other_score=round(other.score, 4),
        difference=round(system.score - other.score, 4),
        p_value=1.0 if same else round(float(system.p_value or 0.0), 6),
        interval=_interval(system),
        other_interval=_interval(other),
        signature=str(signature),
    )


def check_resampling(samples: int, seed: int) -> None:
    """Check the numbers that a comparison needs.

    Raises:
        ValueError: If one is too small.
    """
    if samples < FEWEST_SAMPLES:
        raise ValueError(
            f"There must be at least {FEWEST_SAMPLES} bootstrap samples for a 95% interval, got "
            f"{samples}. Papers use {DEFAULT_SAMPLES}."
        )
    if seed < 1:
        raise ValueError(f"The seed must be at least 1, as 0 is none to sacreBLEU; got {seed}.")


def _interval(result: Result) -> tuple[float, float]:
    mean, half = float(result.mean or 0.0), float(result.ci or 0.0)
    return round(mean - half, 4), round(mean + half, 4)


@contextmanager
def _sacrebleu_seed(seed: int) -> Iterator[None]:
    """Set the seed in the only place where sacreBLEU looks for it."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
