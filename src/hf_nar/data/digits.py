"""A toy task: copy, reverse or sort digits. It is learned in minutes on a CPU."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from datasets import Dataset

Task = Literal["copy", "reverse", "sort"]

_MIN_DIGITS, _MAX_DIGITS = 3, 12


def digits_corpus(num_pairs: int, seed: int, task: Task = "copy") -> Dataset:
    """Draw sentences of 3 to 12 digits, with their copies, reversals or sorted forms.

    Pairs are drawn independently, so short ones repeat, also between seeds.

    Args:
        num_pairs: Number of pairs, at least 1.
        seed: Seed of the draw, at least 0. The same seed has the same sources for all tasks.
        task: What the target is: the same digits, in the opposite order, or in ascending order.

    Returns:
        Rows with the text columns `source` and `target`: digits with one space between them.

    Raises:
        ValueError: If the task is unknown, there are no pairs, or the seed is negative.
    """
    if task not in get_args(Task):
        raise ValueError(f"`task` must be one of {', '.join(get_args(Task))}, got {task!r}.")
    if num_pairs < 1:
        raise ValueError(f"`num_pairs` must be at least 1, got {num_pairs}. Ask for more.")
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}. Use another number.")
    random = np.random.default_rng(seed)
    lengths = random.integers(_MIN_DIGITS, _MAX_DIGITS, size=num_pairs, endpoint=True).tolist()
    digits = random.integers(0, 10, size=(num_pairs, _MAX_DIGITS)).tolist()
    sources = [row[:length] for row, length in zip(digits, lengths, strict=True)]
    targets = [_target(source, task) for source in sources]
    return Dataset.from_dict(
        {
            "source": [" ".join(map(str, source)) for source in sources],
            "target": [" ".join(map(str, target)) for target in targets],
        }
    )


def _target(source: list[int], task: Task) -> list[int]:
    if task == "reverse":
        return source[::-1]
    return sorted(source) if task == "sort" else source
