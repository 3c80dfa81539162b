"""How much memory a batch takes in training, measured on a few rows and scaled."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_nar.training.config import NARTrainingArguments

ROWS = (2, 4)  # what is measured; the rest is a straight line through both


@dataclass(frozen=True)
class ActivationMemory:
    """Bytes that a forward pass keeps for its backward pass.

    Args:
        fixed: Whatever the number of rows, such as copies of weights in another type.
        for_row: For each row of a batch.
    """

    fixed: int
    for_row: int

    def bytes_of(self, rows: int) -> int:
        """Return the bytes for a batch of so many rows."""
        return self.fixed + rows * self.for_row


def measure_activations(
    model: PreTrainedModel,
    lengths: tuple[int, int],
    picture: Tensor | None,
    arguments: NARTrainingArguments,
) -> ActivationMemory:
    """Measure what a forward pass keeps, by autograd's hooks on the CPU, on few rows.

    In bfloat16 where the run trains in it. What the backward pass takes besides, and what an
    allocator holds in reserve, is not in it; attention of a GPU's fused kernels keeps less.

    Args:
        model: The network; its weights do not matter.
        lengths: Positions of source and target.
        picture: `[1, channels, height, width]`, where the source is one.
        arguments: Of the run.
    """
    model.train()
    if arguments.gradient_checkpointing:
        enable = getattr(model, "activation_checkpointing_enable", None)  # the name of 5.23
        (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
    is_half = arguments.bf16 or arguments.fp16
    few, more = (_kept(model, _batch(model, rows, lengths, picture), is_half) for rows in ROWS)
    for_row = (more - few) // (ROWS[1] - ROWS[0])
    return ActivationMemory(max(0, few - ROWS[0] * for_row), for_row)


def _batch(
    model: PreTrainedModel, rows: int, lengths: tuple[int, int], picture: Tensor | None
) -> dict[str, Tensor]:
    """Return a batch of any words, without padding."""
    config: Any = model.config
    word, end = config.vocab_size - 1, config.eos_token_id
    source, labels = (torch.full((rows, length), word) for length in lengths)
    labels[:, -1] = end
    if picture is not None:
        return {"pixel_values": picture.expand(rows, -1, -1, -1), "labels": labels}
    source[:, -1] = end
    return {"input_ids": source, "attention_mask": torch.ones_like(source), "labels": labels}


def _kept(model: nn.Module, batch: dict[str, Tensor], is_half: bool) -> int:
    """Return the bytes of all that is kept, each storage once, weights apart."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage  # held, so that its address is not used again
        return tensor.detach()  # the tensor itself would hold its graph, and the graph the tensor

    precision = torch.autocast("cpu", torch.bfloat16) if is_half else nullcontext()
    with precision, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**batch).loss
    del loss
    return sum(storage.nbytes() for storage in storages.values())
