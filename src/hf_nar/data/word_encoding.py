"""Sentences to token ids by a table of words: the tokenizer's own ids, many times as fast."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pyarrow.compute
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

_WORDS = 1 << 19  # and as many older ones; some 120 MB each
_FIRST_ACCENT = "\u0300"  # no letter before it joins another
_NEIGHBOUR = "a"  # what each word is tried beside
_SPACED = ("x x", "x  x", " x", "x ")  # not every tokenizer drops spaces that part no words
# What `hf_nar.data.tokenizer` writes; none of it changes one word because of another.
_NORMALIZERS = ("NFC", "Precompiled", "Prepend")
_REPLACED = ("^ +| +$", " {2,}")

_Ids = bytes | bytearray  # as those of an int32 array: joined much faster than lists
_ODD: _Ids = bytearray()  # stands for the ids of an odd word; told by identity


class WordEncoder:
    """Encode sentences word by word, where that gives what the tokenizer gives.

    A unigram tokenizer that splits at spaces encodes each word by itself, so the ids of a word are
    found once and looked up from then on. A word that does not have the same ids between two other
    words as it has alone, such as a loose accent, is odd: sentences with such a word go to the
    tokenizer. Words that did not come up for long are forgotten.

    Args:
        backend: The tokenizer; see `of`.
        suffix: Ids after each sentence.
        words: Beyond as many, new ones are held apart from older ones, and the oldest forgotten.
    """

    def __init__(self, backend: Tokenizer, suffix: list[int], words: int = _WORDS) -> None:
        self.backend = backend
        self.suffix = _bytes(suffix)
        self.words = words
        self._known: dict[str, _Ids] = {}
        self._older: dict[str, _Ids] = {}
        self._added = [token.content for token in backend.get_added_tokens_decoder().values()]

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> WordEncoder | None:
        """Return the encoder of a tokenizer; None for one that does not encode word by word."""
        if not tokenizer.is_fast or getattr(tokenizer, "split_special_tokens", False):
            return None
        backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        backend.no_padding()
        backend.no_truncation()
        if not _splits_at_spaces(json.loads(backend.to_str())):
            return None
        bare = backend.encode(_NEIGHBOUR, add_special_tokens=False).ids
        encoder = cls(backend, backend.encode(_NEIGHBOUR).ids[len(bare) :])
        samples = [pattern.replace("x", _NEIGHBOUR) for pattern in _SPACED]
        sides = tokenizer(text=samples, text_target=samples, verbose=False)
        expected = [ids.tolist() for ids in encoder.encode(samples)]
        return encoder if sides["input_ids"] == sides["labels"] == expected else None

    def encode(self, sentences: list[str]) -> list[NDArray[np.int32]]:
        """Return the ids of each sentence, as the tokenizer gives them."""
        if not sentences:
            return []
        split = pyarrow.compute.split_pattern(pyarrow.array(sentences, pyarrow.string()), " ")
        distinct = split.values.dictionary_encode()
        found = [*self._look_up(distinct.dictionary.to_pylist()), self.suffix]
        # The suffix is one more word of each sentence.
        ends = split.offsets.to_numpy()[1:] - split.offsets[0].as_py()
        words = np.insert(distinct.indices.to_numpy(), ends, len(found) - 1)
        ends = ends + np.arange(1, len(ends) + 1)
        values, sizes = _joined(found, words)
        token_ends = np.cumsum(sizes)[ends - 1].tolist()
        encoded = [values[start:end] for start, end in pairwise([0, *token_ends])]
        odd_words = [i for i, ids in enumerate(found) if ids is _ODD]
        odd = np.unique(np.searchsorted(ends, np.flatnonzero(np.isin(words, odd_words)), "right"))
        whole = self.backend.encode_batch_fast([sentences[i] for i in odd])
        for i, encoding in zip(odd, whole, strict=True):
            encoded[i] = np.array(encoding.ids, np.int32)
        return encoded

    def _look_up(self, words: list[str]) -> list[_Ids]:
        """Return the ids of each word; `_ODD` for one that must not be encoded by itself."""
        known, older = self._known, self._older
        found = list(map(known.get, words))
        missing = [i for i, ids in enumerate(found) if ids is None]
        known.update((words[i], older[words[i]]) for i in missing if words[i] in older)
        self._learn([words[i] for i in missing if words[i] not in older])
        for i in missing:
            found[i] = known[words[i]]
        if len(known) > self.words:
            self._known, self._older = {}, known
        return cast(list[_Ids], found)

    def _learn(self, words: list[str]) -> None:
        neighbour, *alone = self._ids([_NEIGHBOUR, *words])
        doubtful = [word for word in words if not self._is_plain(word)]
        tried = self._ids([f"{_NEIGHBOUR} {word} {_NEIGHBOUR}" for word in doubtful])
        between = dict(zip(doubtful, tried, strict=True))
        for word, ids in zip(words, alone, strict=True):
            is_odd = word in between and between[word] != [*neighbour, *ids, *neighbour]
            self._known[word] = _ODD if is_odd else _bytes(ids)

    def _is_plain(self, word: str) -> bool:
        """Return whether a word has nothing that could join with a space, or is a token."""
        return max(word, default="") < _FIRST_ACCENT and not any(
            map(word.__contains__, self._added)
        )

    def _ids(self, texts: list[str]) -> list[list[int]]:
        found = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]


def _joined(
    pieces: list[_Ids], order: NDArray[np.integer]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the ids of pieces in an order in which they repeat, and the size of each."""
    ids = np.frombuffer(b"".join(pieces), np.int32)
    sizes = np.fromiter(map(len, pieces), np.int32, len(pieces)) // ids.itemsize
    starts = (np.cumsum(sizes, dtype=np.int32) - sizes)[order]
    sizes = sizes[order]
    ends = np.cumsum(sizes, dtype=np.int32)
    places = np.repeat(starts - ends + sizes, sizes)
    places += np.arange(len(places), dtype=np.int32)
    return ids[places], sizes


def _bytes(ids: list[int]) -> bytes:
    return np.array(ids, np.int32).tobytes()


def _splits_at_spaces(parts: dict[str, Any]) -> bool:
    """Return whether a tokenizer, as JSON, has only parts that look at one word at a time."""
    splitter = parts["pre_tokenizer"] or {}
    normalizer = parts["normalizer"] or {"type": "Sequence", "normalizers": []}
    steps = normalizer["normalizers"] if normalizer["type"] == "Sequence" else [normalizer]
    return (
        parts["model"]["type"] == "Unigram"
        and splitter.get("type") == "Metaspace"
        and splitter["split"]
        and splitter["prepend_scheme"] in ("never", "always")
        and (parts["post_processor"] or {}).get("type") == "TemplateProcessing"
        and all(_is_known(step) for step in steps)
        and not any(
            " " in token["content"] or token["lstrip"] or token["rstrip"] or token["single_word"]
            for token in parts["added_tokens"]
        )
    )


def _is_known(step: dict[str, Any]) -> bool:
    if step["type"] == "Replace":
        return step["pattern"].get("Regex") in _REPLACED
    return step["type"] in _NORMALIZERS
