"""Batches for several processes: each pair once an epoch, and as many batches for each process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any, Protocol

FILLER = "is_filler"  # in a batch that counts for nothing


class BatchSampler(Sized, Protocol):
    """What `EvenBatches` takes: lists of indices of examples."""

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of an epoch."""


class EvenBatches:
    """The batches of a sampler, and empty ones after the last, up to a multiple of the processes.

    accelerate deals batches in turn, and gives those of the start again where they do not come out
    even: pairs would come twice. `FillingCollator` turns an empty batch into one that is computed,
    as all processes have to take part in a step, and counts for nothing.

    Serves as `batch_sampler` of a torch `DataLoader`.

    Args:
        batches: The batches of an epoch, the same in all processes.
        processes: How many processes there are.
    """

    # Asked for by accelerate: no fixed size, all pairs kept, and `sampler` gets `set_epoch`.
    batch_size = None
    drop_last = False

    def __init__(self, batches: BatchSampler, processes: int) -> None:
        self.batches = batches
        self.processes = processes
        self.sampler = self

    def __len__(self) -> int:
        """Number of batches of all processes, fillers included."""
        return -(-len(self.batches) // self.processes) * self.processes

    def __iter__(self) -> Iterator[list[int]]:
        yield from self.batches
        for _ in range(len(self) - len(self.batches)):
            yield []

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass.

        Args:
            epoch: Passes done, at least 0.
        """
        set_epoch: Callable[[int], None] | None = getattr(self.batches, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)


class FillingCollator:
    """Collate examples; an empty batch becomes a real one that is marked with `FILLER`.

    Args:
        collate: Makes a batch of examples.
        dataset: Holds the examples.
        filler: Indices of what a filler is made of: a batch as any other, so that no network fails
            on it, and it costs no more.
    """

    def __init__(
        self,
        collate: Callable[[list[Any]], Mapping[str, Any]],
        dataset: Any,
        filler: Sequence[int],
    ) -> None:
        self.collate = collate
        self.dataset = dataset
        self.filler = filler

    def __call__(self, examples: list[Any]) -> Mapping[str, Any]:
        """Return a batch."""
        if examples:
            return self.collate(examples)
        return {**self.collate([self.dataset[i] for i in self.filler]), FILLER: True}
