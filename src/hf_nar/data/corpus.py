"""Corpora: from files or the Hub to pairs of sentences, and on to pairs of token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.compute
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    Sequence,
    Value,
    load_dataset,
    load_from_disk,
)
from datasets.exceptions import DatasetGenerationError
from datasets.fingerprint import Hasher
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corpus_rows import field_names, file_pairs, is_empty, select_pair
from hf_nar.data.encoding import PairEncoder
from hf_nar.data.mapped_rows import MappedRows
from hf_nar.data.row_streams import DatasetRows, FileRows, PairStream, TokenStream

__all__ = [
    "Corpus",
    "CorpusConfig",
    "TokenizedCorpus",
    "all_sentences",
    "load_corpus",
    "token_lengths",
    "tokenize_corpus",
]

# The datasets library caches by arguments, not by code: raise this when our output changes.
_CACHE_FORMAT = 2
# Written at once. To open a file the beginning of each such part is looked at.
_STORED_PAIRS = 50_000
_STORED_ROWS = 5000  # of tokens
_PAIR_FEATURES = Features({"source": Value("string"), "target": Value("string")})


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs, ready for a tokenizer.

    Args:
        pairs: Rows with the text columns `source` and `target`; a stream if the config says so.
        empty_dropped: Pairs left out because a side was empty. None for a stream: unknown.
    """

    pairs: Dataset | PairStream
    empty_dropped: int | None


@dataclass(frozen=True)
class TokenizedCorpus:
    """Pairs of token ids, ready for batches.

    Args:
        examples: Rows with `input_ids` and `labels`, unpadded lists of ids that end in eos.
        kept: Number of rows. None for a stream: unknown.
        overlong_dropped: Pairs left out because a side was too long. None for a stream.
    """

    examples: Dataset | TokenStream
    kept: int | None
    overlong_dropped: int | None


def load_corpus(config: CorpusConfig) -> Corpus:
    """Load the sentence pairs of one corpus.

    Sentences are kept as they are. Lines end at a line feed only, so that rare separators inside a
    sentence cannot shift the two sides; a carriage return before it is removed. Pairs with an
    empty side are dropped and counted. Files are checked on each call, then kept in the cache of
    the datasets library under a digest of their text: a changed file never gives old pairs. Of a
    stream only the beginning is checked here, and the rest when it is read.

    Args:
        config: Where the corpus lies.

    Raises:
        FileNotFoundError: If a file or dataset does not exist.
        ValueError: If the sides differ in lines, a line is not valid, a field is missing, or
            nothing is left. The message names file and line.
    """
    if config.kind == "dataset":
        return _load_dataset_corpus(config)
    if config.streaming:
        return _streamed(FileRows(config), config)
    digest, kept, empty_dropped = _inspect(config)
    if not kept:
        raise _nothing_left(_origin(config), empty_dropped)
    pairs = Dataset.from_generator(
        _kept_pairs,
        features=_PAIR_FEATURES,
        gen_kwargs={"config": config, "digest": digest},
        writer_batch_size=_STORED_PAIRS,
    )
    return Corpus(MappedRows(pairs).dataset, empty_dropped)


def all_sentences(pairs: Dataset | PairStream) -> Iterator[str]:
    """Yield the sentences of all pairs, source and target in turn: what a tokenizer learns from.

    Args:
        pairs: Rows with the text columns `source` and `target`.
    """
    sides = ["source", "target"]
    if not isinstance(pairs, Dataset):
        yield from (pair[side] for pair in pairs for side in sides)
        return
    for batch in MappedRows(pairs).batches(sides, _STORED_ROWS):
        for pair in zip(*(batch[side] for side in sides), strict=True):
            yield from pair


def tokenize_corpus(
    pairs: Dataset | PairStream | IterableDataset,
    tokenizer: PreTrainedTokenizerBase,
    max_source_tokens: int,
    max_target_tokens: int,
) -> TokenizedCorpus:
    """Turn sentence pairs into token ids and drop pairs that are too long.

    Args:
        pairs: Rows with the text columns `source` and `target`.
        tokenizer: Tokenizer of both sides; it must append eos.
        max_source_tokens: Longest source kept, in tokens, eos included.
        max_target_tokens: Longest target kept, in tokens, eos included.

    Raises:
        ValueError: If a limit is below 1, the tokenizer does not append eos, or nothing is left.
    """
    limits = {"max_source_tokens": max_source_tokens, "max_target_tokens": max_target_tokens}
    for name, limit in limits.items():
        if limit < 1:
            raise ValueError(f"`{name}` must be at least 1, got {limit}. It counts eos too.")
    _check_eos(tokenizer)
    key = _tokenizer_key(tokenizer)  # before other calls leave something behind
    encoder = PairEncoder(tokenizer, max_source_tokens, max_target_tokens)
    examples: Dataset | TokenStream
    kept, dropped = None, None
    if isinstance(pairs, Dataset):
        # The library's own key would differ for each folder that the tokenizer is loaded from.
        fingerprint = Hasher.hash((pairs._fingerprint, key, limits, _CACHE_FORMAT))
        examples = MappedRows(pairs).map(
            encoder.table,
            ["source", "target"],
            _token_features(tokenizer),
            fingerprint,
            batch_size=_STORED_ROWS,
            desc="Tokenizing",
        )
        kept, dropped = len(examples), len(pairs) - len(examples)
    else:
        rows = pairs.rows if isinstance(pairs, PairStream) else DatasetRows(pairs, _select_sides)
        examples = TokenStream(rows, encoder.examples)
    if next(iter(examples), None) is None:
        raise ValueError(
            f"At least one pair must fit `max_source_tokens` and `max_target_tokens`, but none has "
            f"at most {max_source_tokens} and {max_target_tokens} tokens. Raise the limits."
        )
    return TokenizedCorpus(examples, kept, dropped)


def token_lengths(examples: Dataset, column: str) -> NDArray[np.int64]:
    """Count the tokens of each row, eos included: what a batch sampler needs.

    Args:
        examples: Tokenized rows.
        column: `input_ids` or `labels`.

    Returns:
        Lengths in tokens, `[rows]`.
    """
    tables = MappedRows(examples).batches([column], 100_000, "arrow")
    sizes = (pyarrow.compute.list_value_length(table[column]).to_numpy() for table in tables)
    return np.concatenate([np.empty(0, np.int64), *sizes]).astype(np.int64)


# Files


def _inspect(config: CorpusConfig) -> tuple[str, int, int]:
    """Check every line; return a digest of the pairs kept, their number, and that of the others."""
    digest, kept, dropped = hashlib.sha256(str(_CACHE_FORMAT).encode()), 0, 0
    for source, target in file_pairs(config):
        if is_empty(source, target):
            dropped += 1
        else:
            kept += 1
            for side in (
                source.encode(),
                target.encode(),
            ):  # sizes keep ("a", "bc") from ("ab", "c")
                digest.update(len(side).to_bytes(8, "little") + side)
    return digest.hexdigest(), kept, dropped


def _kept_pairs(config: CorpusConfig, digest: str) -> Iterator[dict[str, str]]:
    """Give the rows of a file corpus; `digest` only serves the cache, which keys by arguments."""
    for source, target in file_pairs(config):
        if not is_empty(source, target):
            yield {"source": source, "target": target}


# Datasets


def _load_dataset_corpus(config: CorpusConfig) -> Corpus:
    rows = load_rows(config)
    is_stream = isinstance(rows, IterableDataset)
    columns = rows.column_names or list(next(iter(rows), {}))
    if not columns or (not is_stream and not len(rows)):
        raise _nothing_left(_origin(config), 0)
    needed = []
    for option in ("source_field", "target_field"):
        field = getattr(config, option)
        needed.append(field if field in columns else field.split(".")[0])
        if needed[-1] not in columns:
            available = ", ".join(field_names(rows.features or dict.fromkeys(columns)))
            raise ValueError(
                f"`{option}` must be a field of {_origin(config)}, got `{field}`; it has: "
                f"{available}. Use one of these."
            )
    needed = list(dict.fromkeys(needed))
    if is_stream:
        select = partial(_select_from_row, config=config)
        return _streamed(DatasetRows(rows.select_columns(needed), select), config)
    fingerprint = Hasher.hash((rows._fingerprint, config, _CACHE_FORMAT))
    pairs = MappedRows(rows).map(
        partial(_select_pairs, config=config),
        needed,
        _PAIR_FEATURES,
        fingerprint,
        with_indices=True,
        batch_size=_STORED_ROWS,
    )
    if not len(pairs):
        raise _nothing_left(_origin(config), len(rows))
    return Corpus(pairs, empty_dropped=len(rows) - len(pairs))


def load_rows(config: CorpusConfig) -> Dataset | IterableDataset:
    """Return the rows of a dataset as they are, with all of its columns."""
    folder = Path(cast(str, config.dataset)).expanduser()
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        return _load_saved_rows(config, folder)
    try:
        return load_dataset(
            str(folder) if folder.is_dir() else str(config.dataset),
            config.name,
            split=config.split,
            revision=config.revision,
            streaming=config.streaming,
        )
    except DatasetGenerationError as error:
        raise ValueError(
            f"`dataset` must be readable, but {config.dataset} is not: {error.__cause__ or error}. "
            f"Repair the file it names."
        ) from error


def _load_saved_rows(config: CorpusConfig, folder: Path) -> Dataset | IterableDataset:
    """Load a folder written by `save_to_disk`, which `load_dataset` refuses."""
    for option in ("name", "revision"):
        if getattr(config, option):
            raise ValueError(
                f"`{option}` must be left out for {folder}, which `save_to_disk` wrote. Remove it."
            )
    rows = load_from_disk(folder)
    splits = rows if isinstance(rows, DatasetDict) else {str(rows.split or "train"): rows}
    if config.split not in splits:
        raise ValueError(
            f"`split` must be a split of {folder}, got {config.split!r}; it has: "
            f"{', '.join(splits)}. Use one of these."
        )
    rows = splits[config.split]
    return rows.to_iterable_dataset() if config.streaming else rows


def _select_pairs(
    batch: dict[str, list[Any]], indices: list[int], config: CorpusConfig
) -> dict[str, list[str]]:
    """Give the pairs of a batch that have text on both sides."""
    kept: dict[str, list[str]] = {"source": [], "target": []}
    for position, index in enumerate(indices):
        row = {column: values[position] for column, values in batch.items()}
        pair = _select_from_row(row, f"row {index}", config)
        if pair is not None:
            kept["source"].append(pair[0])
            kept["target"].append(pair[1])
    return kept


def _select_from_row(
    row: dict[str, Any], where: str, config: CorpusConfig
) -> tuple[str, str] | None:
    """Give the pair of a row; None where a side has no text."""
    where = f"{_origin(config)}, {where}"
    pair = select_pair(row, config.source_field, config.target_field, where)
    return None if is_empty(*pair) else pair


def _select_sides(row: dict[str, Any], where: str) -> tuple[str, str]:
    """Give the pair of a row that has the columns `source` and `target`."""
    return row["source"], row["target"]


def _streamed(rows: FileRows | DatasetRows, config: CorpusConfig) -> Corpus:
    """Give the corpus of a stream that has a pair."""
    pairs = PairStream(rows)
    if next(iter(pairs), None) is None:
        raise _nothing_left(_origin(config), None)
    return Corpus(pairs, empty_dropped=None)


def _origin(config: CorpusConfig) -> str:
    return str(config.dataset or config.json_file or config.text_file or config.source_file)


def _nothing_left(origin: str, empty_dropped: int | None) -> ValueError:
    seen = "it has none" if not empty_dropped else f"its {empty_dropped} pairs all lack a side"
    return ValueError(
        f"A corpus must hold at least one pair with text on both sides, but {origin} does not: "
        f"{seen}. Check the files and the fields."
    )


# Tokens


def _check_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    sample = tokenizer(text="a", text_target="a", verbose=False)
    ends = [sample[side][-1:] for side in ("input_ids", "labels")]
    if tokenizer.eos_token_id is None or ends != [[tokenizer.eos_token_id]] * 2:
        raise ValueError(
            "`tokenizer` must append its eos token to both sides, but it does not. Use one from "
            "`train_tokenizer`, or give it such a post-processor."
        )


def _token_features(tokenizer: PreTrainedTokenizerBase) -> Features:
    """Return the columns of tokenized pairs: two bytes an id, where these are enough."""
    ids = Sequence(Value("uint16" if len(tokenizer) <= 2**16 else "int32"))
    return Features({"input_ids": ids, "labels": ids})


def _tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """Give what decides the ids; not the folder, nor what earlier calls left behind."""
    if tokenizer.is_fast:  # the call for eos has just reset padding and truncation
        return str(cast(Any, tokenizer).backend_tokenizer.to_str())
    return str(Hasher.hash(tokenizer))
