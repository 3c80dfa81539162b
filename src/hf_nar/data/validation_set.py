"""Validation sets: never streams, as each pair is to be seen once, whoever reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from datasets import Dataset

from hf_nar.data.corpus import Corpus, CorpusConfig, load_corpus

STREAM_LIMIT = 200_000  # pairs


def load_validation_set(config: CorpusConfig) -> Corpus:
    """Load a corpus as `load_corpus` does, and hold the pairs of a stream in memory.

    Args:
        config: Where the corpus lies.

    Raises:
        FileNotFoundError: As `load_corpus`.
        ValueError: As `load_corpus`, and if a stream has more than `STREAM_LIMIT` pairs.
    """
    corpus = load_corpus(config)
    if isinstance(corpus.pairs, Dataset):
        return corpus
    return Corpus(held_in_memory(corpus.pairs), corpus.empty_dropped)


def held_in_memory(stream: Iterable[Mapping[str, Any]]) -> Dataset:
    """Return the rows of a stream as a dataset, which workers and processes can share out.

    Args:
        stream: Of a validation set; it is read once.

    Raises:
        ValueError: If it has more than `STREAM_LIMIT` rows.
    """
    rows = list(islice(stream, STREAM_LIMIT + 1))
    if len(rows) > STREAM_LIMIT:
        raise ValueError(
            f"A streamed validation set is held in memory and must have at most {STREAM_LIMIT:,} "
            f"pairs, but has more. Give a part of it, or do not stream it."
        )
    return Dataset.from_list(rows)
