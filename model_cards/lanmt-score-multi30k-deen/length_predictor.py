"""How long the target is, and how vectors of source length are spread over it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LengthPredictor(nn.Module):
    """Predict the length offset |y| - |x| from vectors of source length.

    Lee et al. 2018 predict it from source states, Shu et al. 2020 (section 3.3) from latents, too.

    Args:
        d_model: Width of the hidden vectors.
        max_offset: Largest |target - source| difference, in tokens; class `c` stands for
            `c - max_offset`.
        num_layers: 1, or 2 for a hidden layer before the classes (Lee et al. 2018, section 4.1).
    """

    def __init__(self, d_model: int, max_offset: int, num_layers: int = 1) -> None:
        super().__init__()
        self.max_offset = max_offset
        self.hidden = nn.Linear(d_model, d_model) if num_layers == 2 else None
        self.classifier = nn.Linear(d_model, 2 * max_offset + 1)

    def forward(self, hidden: Tensor, source_mask: Tensor) -> Tensor:
        """Return logits over offsets, `[batch, 2 * max_offset + 1]`.

        Args:
            hidden: What the length depends on, such as source states or these plus latents,
                `[batch, source_len, d_model]`.
            source_mask: True on real source tokens, `[batch, source_len]`.
        """
        weights = source_mask.to(hidden.dtype)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
        mean = (weights[:, None] @ hidden)[:, 0]  # [batch, d_model]
        if self.hidden is not None:
            mean = self.hidden(mean).relu()
        logits: Tensor = self.classifier(mean)
        return logits

    def target_class(self, source_lengths: Tensor, target_lengths: Tensor) -> Tensor:
        """Return the class of each pair of lengths, `[batch]`; far offsets go to the last one."""
        offset = (target_lengths - source_lengths).clamp(-self.max_offset, self.max_offset)
        return offset + self.max_offset

    def most_likely_length(self, logits: Tensor, source_lengths: Tensor) -> Tensor:
        """Return the most likely target length of each row, in tokens, `[batch]`, at least 1."""
        return (source_lengths + logits.argmax(-1) - self.max_offset).clamp(min=1)

    def likely_lengths(self, logits: Tensor, source_lengths: Tensor, count: int) -> Tensor:
        """Return the `count` most likely lengths of each row, best first, `[batch, count]`."""
        offsets = logits.topk(count, dim=-1).indices - self.max_offset
        return (source_lengths[:, None] + offsets).clamp(min=1)


def uniform_copy(
    hidden: Tensor, source_mask: Tensor, target_lengths: Tensor, target_len: int
) -> Tensor:
    """Copy source vectors evenly over the target (Gu et al. 2018, as in Lee et al. 2018).

    Of S source and T target positions, target position t gets source position
    t (S - 1) / (T - 1), rounded, a half upwards; the only one of T = 1 gets the first.

    Args:
        hidden: `[batch, source_len, d_model]`.
        source_mask: True on real source positions, the first of each row, `[batch, source_len]`.
        target_lengths: In tokens, at least 1, `[batch]`.
        target_len: Width of the result, at least the longest of `target_lengths`.

    Returns:
        `[batch, target_len, d_model]`; what lies after the end of a row has no meaning.
    """
    steps = (target_lengths - 1).clamp(min=1)[:, None]
    last = source_mask.sum(-1, keepdim=True) - 1
    positions = torch.arange(target_len, device=hidden.device)
    index = (2 * positions * last + steps) // (2 * steps)
    index = index.minimum(last)
    return hidden.gather(1, index[..., None].expand(-1, -1, hidden.shape[-1]))


class LengthTransform(nn.Module):
    """Turn vectors of source length into vectors of target length (Shu et al. 2020, section 3.4).

    Target position j reads source position k with weight softmax_k(-(k - j n / m)^2 / (2 std^2)),
    for n source and m target tokens. The released code raises 2 to the distance instead; this is
    the paper's formula.

    Args:
        std: Learnt standard deviation at the start, in source positions.
        std_floor: Smallest standard deviation.
    """

    def __init__(self, std: float, std_floor: float) -> None:
        super().__init__()
        self.std_floor = std_floor
        self.first_raw_std = math.log(math.expm1(std - std_floor))
        self.raw_std = nn.Parameter(torch.tensor([self.first_raw_std]))

    @property
    def std(self) -> Tensor:
        """Standard deviation in source positions, float32, `[1]`."""
        return nn.functional.softplus(self.raw_std.float()) + self.std_floor

    def weights(self, source_mask: Tensor, target_lengths: Tensor, target_len: int) -> Tensor:
        """Return float32 weights `[batch, target_len, source_len]`.

        Rows of real target positions sum to 1 over real source positions; other rows are 0.
        """
        device = source_mask.device
        target_positions = torch.arange(target_len, device=device)
        step = source_mask.sum(-1) / target_lengths.clamp(
            min=1
        )  # source positions per target position
        centres = target_positions * step[:, None]  # [batch, target_len]
        distance = torch.arange(source_mask.shape[1], device=device) - centres[..., None]
        scores = -distance.square() / (2 * self.std.square())
        scores = scores.masked_fill(~source_mask[:, None], torch.finfo(scores.dtype).min)
        is_real = target_positions < target_lengths[:, None]
        return scores.softmax(-1) * is_real[..., None]

    def forward(
        self, hidden: Tensor, source_mask: Tensor, target_lengths: Tensor, target_len: int
    ) -> Tensor:
        """Spread `hidden` over the target.

        Args:
            hidden: `[batch, source_len, d_model]`.
            source_mask: True on real source tokens, `[batch, source_len]`.
            target_lengths: In tokens, at least 1, `[batch]`.
            target_len: Width of the result, at least the longest of `target_lengths`.

        Returns:
            `[batch, target_len, d_model]`, 0 after the end of a row.
        """
        weights = self.weights(source_mask, target_lengths, target_len)
        return weights.to(hidden.dtype) @ hidden
