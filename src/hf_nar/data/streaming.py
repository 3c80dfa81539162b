"""Batches by token budget from a corpus that is never wholly in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import datasets
import torch.utils.data

Example = dict[str, Any]


class StreamedTokenBatches(torch.utils.data.IterableDataset[list[Example]]):
    """Endless batches of at most `max_tokens` tokens, pairs of like length together.

    A buffer of pairs is read, sorted by length with random ties, cut into batches, and these are
    shuffled. The corpus starts again when it ends. The order depends on the seed alone.

    Args:
        examples: Tokenized pairs with `input_ids` and `labels`.
        max_tokens: Budget of a batch: sentences times longest side, padding counted.
        seed: Of the shuffling.
        buffer_size: Pairs read ahead.

    Raises:
        ValueError: When read, if a pair alone is over the budget, or there are no pairs.
    """

    def __init__(
        self,
        examples: datasets.IterableDataset,
        max_tokens: int,
        *,
        seed: int,
        buffer_size: int = 10_000,
    ) -> None:
        self.examples = examples
        self.max_tokens = max_tokens
        self.seed = seed
        self.buffer_size = buffer_size

    def __iter__(self) -> Iterator[list[Example]]:
        """Yield batches without end."""
        chance = random.Random(self.seed)
        while True:
            rows = iter(self.examples)
            is_empty = True
            while buffer := list(islice(rows, self.buffer_size)):
                is_empty = False
                batches = self._cut(buffer, chance)
                chance.shuffle(batches)
                yield from batches
            if is_empty:
                raise ValueError("A streamed corpus must have a pair for each process.")

    def _cut(self, buffer: list[Example], chance: random.Random) -> list[list[Example]]:
        keyed = [(_length(example), chance.random(), example) for example in buffer]
        keyed.sort(key=lambda entry: entry[:2])
        batches: list[list[Example]] = [[]]
        for length, _, example in keyed:
            if length > self.max_tokens:
                raise ValueError(
                    f"A pair must fit into `tokens_per_batch`, {self.max_tokens}, but one has "
                    f"{length} tokens. Raise the budget or drop such pairs."
                )
            if (len(batches[-1]) + 1) * length > self.max_tokens:
                batches.append([])
            batches[-1].append(example)
        return batches


def _length(example: Example) -> int:
    return max(len(example["input_ids"]), len(example["labels"]))
