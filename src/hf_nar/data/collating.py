"""Examples to padded tensors, without a look at each token in Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_nar.data.stored_examples import SIDES, stored_examples
from hf_nar.remote_code.losses_nar import IGNORED_LABEL

_KNOWN = {*SIDES, "attention_mask"}


class SmallBatch(dict[str, Tensor]):
    """Tensors by name, which a worker sends to the main process as bytes.

    By themselves they would go through shared memory, each with a file, a socket and a mapping of
    its own: for batches of a few thousand tokens that takes several times as long as to make them.
    """

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        """Become a dictionary of tensors there."""
        if any(tensor.device.type != "cpu" for tensor in self.values()):
            return dict, (dict(self),)
        return _tensors, ({name: tensor.numpy() for name, tensor in self.items()},)


def _tensors(arrays: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class PairCollator:
    """Pad pairs on the right: what `DataCollatorForSeq2Seq` gives for them, ten times as fast.

    Args:
        pad_token_id: Of the tokenizer.
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> SmallBatch:
        """Return `input_ids`, `attention_mask` and `labels`.

        Args:
            examples: With `input_ids` and `labels`, each a list or an array of ids.

        Raises:
            ValueError: If an example has anything else, but for a mask, which is made anew.
        """
        unknown = examples[0].keys() - _KNOWN
        if unknown:
            raise ValueError(
                f"Examples must have `input_ids` and `labels` only, got `{min(unknown)}` too. "
                f"Remove that column, or give a `data_collator` that knows it."
            )
        source, is_real = _padded([row["input_ids"] for row in examples], self.pad_token_id)
        labels, _ = _padded([row["labels"] for row in examples], IGNORED_LABEL)
        return SmallBatch(
            input_ids=torch.from_numpy(source),
            attention_mask=torch.from_numpy(is_real.astype(np.int64)),
            labels=torch.from_numpy(labels),
        )


def _padded(rows: list[Any], padding: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return rows of one length, `[rows, longest]`, and where they are not padding."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    if isinstance(rows[0], np.ndarray):
        ids = np.concatenate(rows)
    else:
        ids = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    is_real = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(is_real.shape, padding, np.int64)
    padded[is_real] = ids
    return padded, is_real


def fast_examples(dataset: Any, collate: Any) -> Any:
    """Return a dataset that is read faster where the collator takes arrays, or else itself."""
    is_plain = isinstance(dataset, datasets.Dataset) and dataset.format["type"] is None
    if is_plain and isinstance(collate, PairCollator) and set(dataset.column_names) == {*SIDES}:
        return stored_examples(dataset)
    return dataset
