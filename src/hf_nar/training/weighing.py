"""What each batch weighs in a step: losses are means over items of all processes and batches.

A network's loss is a mean over the items of its own batch. Batches by tokens are ragged, so the
mean of such means is another one with each number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from hf_nar.data.dealing import FILLER
from hf_nar.remote_code.losses_nar import IGNORED_LABEL


def count_items(network: Any, batch: Mapping[str, Any]) -> Tensor:
    """Return how many items the network's loss of a batch is a mean over, scalar, on its device.

    Items are real target tokens, or latents where refiners are trained. A filler has none.

    Args:
        network: One of ours, or a teacher.
        batch: With `labels` `[batch, target_len]`, -100 on padding, and where refiners are trained
            with `attention_mask` `[batch, source_len]`.
    """
    is_item = batch["labels"] != IGNORED_LABEL
    if getattr(network, "trained_refiners", ()) and not network.has_target_latents:
        is_item = batch["attention_mask"].bool()
    count: Tensor = is_item.sum()
    return count.new_zeros(()) if FILLER in batch else count


class WeightedMeans:
    """Means of named scalars, summed on their device: reading one waits for the device once.

    What was added since the last `keep_unless` counts, too, but can still be left out.
    """

    def __init__(self) -> None:
        self._start_again()

    def _start_again(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.weight: Tensor | float = 0.0
        self._start_step()

    def _start_step(self) -> None:
        self._step_sums: dict[str, Tensor] = {}
        self._step_weight: Tensor | float = 0.0

    def add(self, values: Mapping[str, Tensor], weight: Tensor) -> None:
        """Add one batch.

        Args:
            values: Scalars by name.
            weight: What the batch counts, scalar.
        """
        for name, value in values.items():
            weighted = value.detach().float() * weight
            self._step_sums[name] = self._step_sums.get(name, 0.0) + weighted
        self._step_weight = self._step_weight + weight

    def keep_unless(self, is_left_out: Tensor) -> None:
        """End a step, and leave out what it has added where that is so.

        Args:
            is_left_out: Boolean scalar, the same in all processes.
        """
        for name, value in self._step_sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.masked_fill(is_left_out, 0.0)
        weight = torch.as_tensor(self._step_weight, device=is_left_out.device)
        self.weight = self.weight + weight.masked_fill(is_left_out, 0.0)
        self._start_step()

    def take(self, total: Callable[[Any], Any]) -> dict[str, float]:
        """Return the means over all processes and start again; none where nothing has weight.

        Args:
            total: Adds up tensors of all processes.
        """
        if self._step_sums:
            some = next(iter(self._step_sums.values()))
            self.keep_unless(torch.zeros_like(some, dtype=torch.bool))
        sums, weight = self.sums, self.weight
        self._start_again()
        if not sums:
            return {}
        sums, weight = total(sums), total(weight)
        means = {name: (value / weight).item() for name, value in sums.items()}
        return means if weight else {}
