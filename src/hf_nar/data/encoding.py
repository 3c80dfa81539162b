"""Pairs of sentences to pairs of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hf_nar.data.word_encoding import WordEncoder

Ids = NDArray[np.int32]


class PairEncoder:
    """Tokenize both sides, and leave out pairs that are too long.

    Args:
        tokenizer: Tokenizer of both sides; it must append eos.
        max_source_tokens: Longest source kept, in tokens, eos included.
        max_target_tokens: Longest target kept, in tokens, eos included.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_source_tokens: int, max_target_tokens: int
    ) -> None:
        self.tokenizer = tokenizer
        self.max_source_tokens = max_source_tokens
        self.max_target_tokens = max_target_tokens
        self.words = WordEncoder.of(tokenizer)

    def table(self, batch: dict[str, list[str]]) -> pyarrow.Table:
        """Return the columns `input_ids` and `labels` for the columns `source` and `target`."""
        kept = self._kept(batch["source"], batch["target"])
        sides = ([source for source, _ in kept], [target for _, target in kept])
        return pyarrow.table(dict(zip(("input_ids", "labels"), map(_column, sides), strict=True)))

    def examples(self, pairs: Sequence[tuple[str, str]]) -> list[dict[str, Ids]]:
        """Return an example for each pair of sentences that is kept."""
        kept = self._kept([source for source, _ in pairs], [target for _, target in pairs])
        return [{"input_ids": source, "labels": target} for source, target in kept]

    def _kept(self, sources: list[str], targets: list[str]) -> list[tuple[Ids, Ids]]:
        longest_source, longest_target = self.max_source_tokens, self.max_target_tokens
        return [
            (source, target)
            for source, target in zip(*self._encoded(sources, targets), strict=True)
            if len(source) <= longest_source and len(target) <= longest_target
        ]

    def _encoded(self, sources: list[str], targets: list[str]) -> tuple[list[Ids], list[Ids]]:
        if self.words is not None:
            both = self.words.encode([*sources, *targets])
            return both[: len(sources)], both[len(sources) :]
        encoded: Any = self.tokenizer(
            text=sources,
            text_target=targets,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,  # no warning about lengths: overlong pairs are dropped here
        )
        source, target = (
            [np.array(ids, np.int32) for ids in encoded[side]] for side in ("input_ids", "labels")
        )
        return source, target


def _column(rows: list[Ids]) -> pyarrow.ListArray:
    ends = np.cumsum(np.fromiter(map(len, rows), np.int32, len(rows)), dtype=np.int32)
    values = np.concatenate([np.empty(0, np.int32), *rows])
    return pyarrow.ListArray.from_arrays(np.concatenate([np.zeros(1, np.int32), ends]), values)
