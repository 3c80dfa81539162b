"""Sentences to token ids by a table of words: the tokenizer's own ids, many times as fast."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

_WORDS = 1 << 18  # held at once; some 60 MB
_FIRST_ACCENT = "\u0300"  # no letter before it joins another
_NEIGHBOUR = "a"  # what each word is tried beside
_SPACED = ("x x", "x  x", " x", "x ")  # not every tokenizer drops spaces that part no words
# What `hf_nar.data.tokenizer` writes; none of it changes one word because of another.
_NORMALIZERS = ("NFC", "Precompiled", "Prepend")
_REPLACED = ("^ +| +$", " {2,}")


class WordEncoder:
    """Encode sentences word by word, where that gives what the tokenizer gives.

    A unigram tokenizer that splits at spaces encodes each word by itself, so the ids of a word are
    found once and looked up from then on. A word that does not have the same ids between two other
    words as it has alone, such as a loose accent, is never looked up: sentences with such a word go
    to the tokenizer.

    Args:
        backend: The tokenizer; see `of`.
        suffix: Ids after each sentence.
        words: Held at most; beyond that all are forgotten.
    """

    def __init__(self, backend: Tokenizer, suffix: list[int], words: int = _WORDS) -> None:
        self.backend = backend
        self.suffix = _bytes(suffix)
        self.words = words
        self._known: dict[str, bytes] = {}
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
        split = [sentence.split(" ") for sentence in sentences]
        different = set().union(*split)
        missing = [word for word in different if word not in self._known]
        if len(self._known) + len(missing) > self.words:
            self._known, missing = {}, list(different)
        if missing:
            self._learn(missing)
        known, suffix = self._known, self.suffix
        is_odd = {word for word in missing if word not in known}
        odd = [i for i, words in enumerate(split) if not is_odd.isdisjoint(words)] if is_odd else []
        found = self.backend.encode_batch_fast([sentences[i] for i in odd])
        whole = {i: _bytes(encoding.ids) for i, encoding in zip(odd, found, strict=True)}
        joined = (
            whole[i] if i in whole else b"".join(map(known.__getitem__, words)) + suffix
            for i, words in enumerate(split)
        )
        return [np.frombuffer(ids, np.int32) for ids in joined]

    def _learn(self, words: list[str]) -> None:
        neighbour, *alone = self._ids([_NEIGHBOUR, *words])
        doubtful = [word for word in words if not self._is_plain(word)]
        tried = self._ids([f"{_NEIGHBOUR} {word} {_NEIGHBOUR}" for word in doubtful])
        between = dict(zip(doubtful, tried, strict=True))
        for word, ids in zip(words, alone, strict=True):
            if word not in between or between[word] == [*neighbour, *ids, *neighbour]:
                self._known[word] = _bytes(ids)

    def _is_plain(self, word: str) -> bool:
        """Return whether a word has nothing that could join with a space, or is a token."""
        return max(word, default="") < _FIRST_ACCENT and not any(
            map(word.__contains__, self._added)
        )

    def _ids(self, texts: list[str]) -> list[list[int]]:
        found = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]


def _bytes(ids: list[int]) -> bytes:
    """Return ids as those of an array, which can be joined much faster than lists."""
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
