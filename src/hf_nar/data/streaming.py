"""Batches by token budget from a corpus that is never wholly in memory.

Each data-loader worker of each process is a reader. All readers go through the same rows; the rows
of a shard are dealt to them in turn, before anything is made of them. So in one pass each row is
read once by one reader, whatever the sizes of the shards.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, repeat
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch.utils.data

from hf_nar.data.batching import TokenBatchSampler
from hf_nar.data.row_streams import TokenStream, token_stream

Example = dict[str, Any]

# Batches of each worker that a loader reads ahead, unless told otherwise: a worker pauses to encode
# some, and as batches are taken of each in turn, all would wait for it.
READ_AHEAD = 50

_CHUNK = 5000  # rows that are encoded at once: many words come up more than once


class Position(NamedTuple):
    """Where a reader stands.

    Args:
        passes: Passes through its rows that it has done.
        shard: Of this pass's order.
        row: Of the shard, with which the current buffer begins.
        batches: Batches of that buffer that were given out.
    """

    passes: int = 0
    shard: int = 0
    row: int = 0
    batches: int = 0


class StreamedTokenBatches(
    torch.utils.data.IterableDataset[tuple[list[Example], tuple[int, Position]] | None]
):
    """Endless batches of at most `max_tokens` tokens, pairs of like length together.

    A reader fills a buffer with pairs, which is cut into batches as `TokenBatchSampler` does it.
    While these are given out the next one is filled, a part after each batch. A buffer ends with
    the pass through the corpus; then the next pass begins, with the shards in another order. Each
    reader counts its own passes: none waits for another, as all are to give a batch in each step.
    What is given out depends on the corpus, the seed and the number of readers alone.

    Args:
        examples: Tokenized pairs with `input_ids` and `labels`.
        max_tokens: Budget of a batch: sentences times longest side, padding counted.
        seed: Of the shuffling, at least 0.
        buffer_size: Pairs that are shuffled together; up to two buffers are held.
        process: Number of this process.
        processes: How many processes share the corpus.

    Raises:
        ValueError: When read, if a pair alone is over the budget, or there are no pairs.
    """

    def __init__(
        self,
        examples: TokenStream | datasets.IterableDataset,
        max_tokens: int,
        *,
        seed: int,
        buffer_size: int = 50_000,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.stream = token_stream(examples)
        self.max_tokens = max_tokens
        self.seed = seed
        self.buffer_size = buffer_size
        self.process = process
        self.processes = processes
        self.positions: dict[int, Position] = {}
        self.batches_done = 0

    def go_on(self, positions: dict[int, Position], batches_done: int) -> None:
        """Go on where an earlier reading stood.

        Args:
            positions: Of each worker; one that is not named starts at the beginning.
            batches_done: Given out before, by all workers of this process. Instead of reading
                these again, as many times None is given out first.
        """
        self.positions = dict(positions)
        self.batches_done = batches_done

    def __iter__(self) -> Iterator[tuple[list[Example], tuple[int, Position]] | None]:
        """Yield batches without end, each with its worker and where that stands after it."""
        worker = torch.utils.data.get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        # A data loader takes a batch of each worker in turn.
        yield from repeat(None, len(range(number, self.batches_done, workers)))
        reader = self.process * workers + number
        start = self.positions.get(number, Position())
        for examples, position in self._batches(reader, self.processes * workers, start):
            yield examples, (number, position)

    def _batches(
        self, reader: int, readers: int, start: Position
    ) -> Iterator[tuple[list[Example], Position]]:
        filling = self._buffers(reader, readers, start)
        buffers = (buffer for buffer in filling if buffer)
        done = start.batches
        start, buffer = next(buffers)
        while True:
            batches = list(self._cut(buffer, start, reader))
            following, parts, parts_read = None, -(-self.buffer_size // self._chunk), 0
            for number, batch in enumerate(batches, start=1):
                if number > done:
                    yield [buffer[i] for i in batch], start._replace(batches=number)
                while following is None and parts_read < parts * number // len(batches):
                    following = next(filling)
                    parts_read += 1
            start, buffer = following or next(buffers)
            done = 0

    @property
    def _chunk(self) -> int:
        return min(_CHUNK, self.buffer_size)

    def _buffers(
        self, reader: int, readers: int, start: Position
    ) -> Iterator[tuple[Position, list[Example]] | None]:
        """Yield a buffer, after where it begins, or None where it is not full yet."""
        buffer: list[Example] = []
        for position, examples in self._chunks(reader, readers, start):
            if buffer and (position.passes > start.passes or len(buffer) >= self.buffer_size):
                yield start, buffer
                buffer = []
            start = start if buffer else position
            buffer += examples
            yield None

    def _chunks(
        self, reader: int, readers: int, start: Position
    ) -> Iterator[tuple[Position, list[Example]]]:
        """Yield this reader's examples of pass after pass, after the first row of each chunk."""
        while True:
            order = self._shard_order(start.passes)
            kept, is_whole = 0, start.shard == start.row == 0
            for shard in range(start.shard, len(order)):
                first = start.row if shard == start.shard else 0
                first += (reader - shard - first) % readers  # the first that is this reader's
                rows = self.stream.rows.read(order[shard], first, readers)
                while numbered := list(islice(rows, self._chunk)):
                    examples = self.stream.encode([row for _, row in numbered])
                    kept += len(examples)
                    yield Position(start.passes, shard, numbered[0][0]), examples
            if is_whole and not kept:
                raise ValueError(
                    f"A streamed corpus must have a pair for each process and worker, but reader "
                    f"{reader + 1} of {readers} found none. Start fewer, or do not stream."
                )
            start = Position(start.passes + 1)

    def _shard_order(self, passes: int) -> list[int]:
        order = np.arange(self.stream.rows.num_shards)
        np.random.default_rng([self.seed, passes]).shuffle(order)
        return list(map(int, order))

    def _cut(self, buffer: list[Example], start: Position, reader: int) -> Iterator[list[int]]:
        sides = [
            np.fromiter((len(row[side]) for row in buffer), np.int32, len(buffer))
            for side in ("input_ids", "labels")
        ]
        longest = int(np.max(sides))
        if longest > self.max_tokens:
            raise ValueError(
                f"A pair must fit into `tokens_per_batch`, {self.max_tokens}, but one has "
                f"{longest} tokens. Raise the budget or drop such pairs."
            )
        key = [self.seed, reader, start.passes, start.shard, start.row]
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        return iter(TokenBatchSampler(sides[0], sides[1], self.max_tokens, seed=seed))
