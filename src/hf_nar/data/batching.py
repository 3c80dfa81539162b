"""Batches by tokens: many short pairs or few long ones, with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray


class TokenBatchSampler:
    """Group pairs of similar length into batches that cost at most `max_tokens`.

    A batch costs its sentences times its longest side, in tokens. Pairs are sorted by their longer
    side, longest first, and cut into batches as soon as the budget is full. Pairs whose longer
    sides are equal change places in each epoch, and so do the batches. This moves no cut: each
    epoch has the same number of batches.

    Serves as `batch_sampler` of a torch `DataLoader`. Epochs differ only if `set_epoch` is called;
    Trainer and accelerate do.

    Args:
        source_lengths: Tokens of each source, eos included, `[pairs]`.
        target_lengths: Tokens of each target, eos included, `[pairs]`.
        max_tokens: Budget of a batch, in tokens, padding included.
        seed: Seed of all orders, at least 0.
        shuffle: False for the same order in each epoch, longest pairs first.

    Raises:
        ValueError: If there are no pairs, the sides differ in number, a length is below 1, the
            seed is negative, or a pair is longer than the budget.
    """

    # Asked for by accelerate: no fixed size, all pairs kept, and `sampler` gets `set_epoch`.
    batch_size = None
    drop_last = False

    def __init__(
        self,
        source_lengths: Sequence[int] | NDArray[np.integer],
        target_lengths: Sequence[int] | NDArray[np.integer],
        max_tokens: int,
        *,
        seed: int,
        shuffle: bool = True,
    ) -> None:
        self._source_lengths = np.asarray(source_lengths, dtype=np.int32)
        self._target_lengths = np.asarray(target_lengths, dtype=np.int32)
        self.max_tokens = max_tokens
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self.sampler = self
        self._check()
        self._longer_sides = np.maximum(self._source_lengths, self._target_lengths)
        self._starts = self._cut()

    def __len__(self) -> int:
        """Number of batches, the same in each epoch."""
        return len(self._starts)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order()
        ends = np.append(self._starts[1:], len(order))
        batches = np.arange(len(self))
        if self.shuffle:
            self._random(stream=1).shuffle(batches)
        for start, end in zip(self._starts[batches], ends[batches], strict=True):
            yield order[start:end].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass.

        Args:
            epoch: Passes done, at least 0.
        """
        self.epoch = epoch

    def padding_share(self) -> float:
        """Measure the padding of this epoch's batches.

        Returns:
            Padded positions among all positions of both sides, from 0 to 1.
        """
        order = self._order()
        sizes = np.diff(np.append(self._starts, len(order)))
        real, padded = 0, 0
        for lengths in (self._source_lengths, self._target_lengths):
            longest = np.maximum.reduceat(lengths[order], self._starts)  # [batches]
            real += int(lengths.sum())
            padded += int((longest * sizes).sum())
        return 1 - real / padded

    def _check(self) -> None:
        if self.seed < 0:
            raise ValueError(f"`seed` must be at least 0, got {self.seed}. Use another number.")
        pairs = len(self._source_lengths)
        if pairs != len(self._target_lengths) or not pairs:
            raise ValueError(
                f"`source_lengths` and `target_lengths` must have one length for each pair, got "
                f"{pairs} and {len(self._target_lengths)}. Measure both on the same pairs."
            )
        for side, lengths in (("source", self._source_lengths), ("target", self._target_lengths)):
            shortest, longest = int(lengths.argmin()), int(lengths.argmax())
            if lengths[shortest] < 1:
                raise ValueError(
                    f"`{side}_lengths` must be at least 1, as eos counts; pair {shortest} has "
                    f"{lengths[shortest]}. Drop it."
                )
            if lengths[longest] > self.max_tokens:
                raise ValueError(
                    f"`max_tokens` must hold the longest pair, but pair {longest} has a {side} of "
                    f"{lengths[longest]} tokens and the budget is {self.max_tokens}. Raise "
                    f"`max_tokens` or drop longer pairs."
                )

    def _cut(self) -> NDArray[np.int64]:
        """Find where batches start among the sorted pairs; only the sorted lengths decide."""
        descending = np.sort(self._longer_sides)[::-1]
        starts, start = [], 0
        while start < len(descending):
            starts.append(start)
            start += self.max_tokens // int(descending[start])  # the first is the longest
        return np.array(starts, dtype=np.int64)

    def _order(self) -> NDArray[np.int32]:
        """Sort the pairs, longest first; equals by the difference of their sides, with noise."""
        difference = self._source_lengths - self._target_lengths
        # Forth and back, so that neighbours stay alike where the longer side changes.
        ties = np.where(self._longer_sides % 2, -difference, difference).astype(np.float64)
        if self.shuffle:
            ties += self._random(stream=0).uniform(-1.0, 1.0, size=len(ties))
        return np.lexsort((ties, -self._longer_sides)).astype(np.int32)

    def _random(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, stream])
