"""Corruption of targets: five operations that make a clean sentence look like a wrong draft.

Lee, Mansimov and Cho 2018, section 4 and its code. Networks that refine drafts learn from such
targets, and a corpus of corrupted sentences is a task of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

OPERATIONS = ("swap", "replace", "repeat", "drop", "insert")
_SWAP, _REPLACE, _REPEAT, _DROP, _INSERT = range(len(OPERATIONS))


class CorruptionDraws(NamedTuple):
    """What chance decides, apart from what is done with it.

    Args:
        operations: Index into `OPERATIONS` of what happens at each position, -1 for nothing,
            `[batch, target_len]`.
        words: Random word of each position, for those that need one, `[batch, target_len]`.
    """

    operations: Tensor
    words: Tensor


def corrupt(
    tokens: Tensor,
    target_mask: Tensor,
    rate: float | Tensor,
    weights: Mapping[str, float],
    vocabulary: Tensor,
    num_protected: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return corrupted copies of target sentences, as long as they were.

    In a row of n unprotected tokens, `rate * n` distinct positions are corrupted, rounded down,
    but at least one unless the rate is 0. `draw_corruption` says what chance decides and
    `apply_corruption` what the operations do.

    Args:
        tokens: `[batch, target_len]`.
        target_mask: True on real tokens, first in each row, `[batch, target_len]`. Padding stays
            as it is.
        rate: Share of positions to corrupt, from 0 to 1; a scalar tensor is not looked at.
        weights: Relative frequency of each operation by name; those left out never happen.
        vocabulary: Ids that a random word may be, `[words]`. An id that stands n times is drawn n
            times as often.
        num_protected: Tokens at the end of each row that stay as they are: 1 for the end token.
        generator: Source of chance, on the device of the tokens. None for that of PyTorch.

    Raises:
        ValueError: If the rate, a weight or `num_protected` is out of range, an operation is
            unknown, or a random word is needed but the vocabulary is empty.
    """
    _check(rate, weights, vocabulary, num_protected)
    if not isinstance(rate, Tensor) and not rate:
        return tokens
    lengths = (target_mask.sum(dim=1, keepdim=True) - num_protected).clamp(min=0)
    draws = draw_corruption(lengths, tokens.shape[1], rate, weights, vocabulary, generator)
    return apply_corruption(tokens, lengths, draws)


def draw_corruption(
    lengths: Tensor,
    target_len: int,
    rate: float | Tensor,
    weights: Mapping[str, float],
    vocabulary: Tensor,
    generator: torch.Generator | None = None,
) -> CorruptionDraws:
    """Draw what happens where, and the random words.

    On a CPU, what is drawn for a row does not depend on how far the batch is padded; on other
    devices it may.

    Args:
        lengths: Unprotected tokens of each row, `[batch, 1]`.
        target_len: Width of the batch.
        rate: Share of positions to corrupt.
        weights: Relative frequency of each operation by name.
        vocabulary: Ids that a random word may be, `[words]`.
        generator: Source of chance, on the device of the lengths. None for that of PyTorch.
    """
    # Positions come first, so that a wider batch only appends to the series of random numbers.
    draws = torch.empty(target_len, len(lengths), 3, device=lengths.device)
    where, which, word = draws.uniform_(generator=generator).unbind(-1)
    is_open = torch.arange(target_len, device=lengths.device) < lengths
    wanted = torch.floor(rate * lengths + 1e-4)  # 0.53 of 100 are 53, whatever float32 says
    wanted = wanted.clamp(min=1).minimum(lengths) * (rate > 0)
    order = where.T.masked_fill(~is_open, 2.0).argsort(dim=1, stable=True)
    is_chosen = order.argsort(dim=1) < wanted

    # One bound after the other: to bring a list of them to a device is to wait for it.
    bounds = list(accumulate(float(weights.get(name, 0)) for name in OPERATIONS))
    operations = torch.zeros_like(which.T, dtype=torch.long)
    for bound in bounds:
        operations += bound / bounds[-1] <= which.T
    words = torch.zeros_like(operations)
    if len(vocabulary):
        last = len(vocabulary) - 1
        words = vocabulary[(word.T * len(vocabulary)).long().clamp(max=last)]
    return CorruptionDraws(operations.masked_fill(~is_chosen, -1), words)


def apply_corruption(tokens: Tensor, lengths: Tensor, draws: CorruptionDraws) -> Tensor:
    """Carry out drawn operations, all at once.

    Each looks at the original sentence, never at what its neighbour made of it:

    - *swap*: the token and the next change places. Of neighbouring swaps the first, third and so
      on happen.
    - *repeat*: the next token becomes a copy of this one.
    - *replace*: a random word takes the place of the token.
    - *drop*: the token is left out and what follows moves left.
    - *insert*: a random word comes before the token and what follows moves right.

    Where two want the same position, replace wins over repeat, and repeat over swap. Then comes
    what drop and insert move: what falls off the end of the unprotected part is lost, and what it
    lacks is filled with copies of the last token left. A sentence never loses all of its tokens:
    the first stays. Without a next unprotected token, swap and repeat do nothing.

    Args:
        tokens: `[batch, target_len]`.
        lengths: Unprotected tokens of each row, the first ones, `[batch, 1]`.
        draws: What happens at each position.
    """
    is_open = torch.arange(tokens.shape[1], device=tokens.device) < lengths
    edited = _edit_in_place(tokens, lengths, draws)
    moved = _move(edited, lengths, draws)
    return torch.where(is_open, moved, tokens)


def _edit_in_place(tokens: Tensor, lengths: Tensor, draws: CorruptionDraws) -> Tensor:
    """Swap, repeat and replace; what lies beyond `lengths` may change too."""
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    has_next = positions + 1 < lengths
    is_swap = draws.operations == _SWAP
    # The nearest position to the left without a swap says how many swaps stand in a row so far.
    before_run = positions.masked_fill(is_swap, -1).cummax(dim=1).values
    swaps = is_swap & ((positions - before_run) % 2 == 1) & has_next
    repeats = (draws.operations == _REPEAT) & has_next

    left, right = tokens.roll(1, dims=1), tokens.roll(-1, dims=1)
    edited = torch.where(swaps, right, tokens)
    edited = torch.where((swaps | repeats).roll(1, dims=1), left, edited)
    return torch.where(draws.operations == _REPLACE, draws.words.to(tokens.dtype), edited)


def _move(tokens: Tensor, lengths: Tensor, draws: CorruptionDraws) -> Tensor:
    """Drop and insert; what lies beyond `lengths` is arbitrary."""
    positions = torch.arange(tokens.shape[1], device=tokens.device).expand_as(tokens)
    is_insert = draws.operations == _INSERT
    copies = 1 + is_insert.long() - (draws.operations == _DROP).long()
    copies = copies.masked_fill(positions >= lengths, 0)

    ends = copies.cumsum(dim=1)
    place = positions.minimum(ends[:, -1:] - 1)  # where all is dropped -1, which finds the first
    origin = torch.searchsorted(ends, place.contiguous(), right=True)
    origin = origin.clamp(max=tokens.shape[1] - 1)  # only where a row has nothing unprotected
    # Of the two copies at an insert, the first is the new word.
    is_new = is_insert.gather(1, origin) & (place == ends.gather(1, origin) - 2)
    return torch.where(
        is_new, draws.words.to(tokens.dtype).gather(1, origin), tokens.gather(1, origin)
    )


def check_weights(weights: Mapping[str, float], option: str = "weights") -> None:
    """Check how often each operation is to come.

    Args:
        weights: Relative frequency of each operation by name.
        option: What messages call it.

    Raises:
        ValueError: If a name is unknown, a weight is out of range, or all of them are 0.
    """
    unknown = [str(name) for name in weights if name not in OPERATIONS]
    if unknown:
        raise ValueError(
            f"`{option}` must name operations, got `{'`, `'.join(unknown)}`. "
            f"Use some of: {', '.join(OPERATIONS)}."
        )
    values = list(weights.values())
    are_numbers = all(isinstance(weight, int | float) for weight in values)
    are_valid = are_numbers and all(0 <= weight < float("inf") for weight in values)
    if not are_valid or not any(values):
        raise ValueError(
            f"`{option}` must be numbers of at least 0, finite and not all 0, got {dict(weights)}. "
            f"Give a weight to each operation that may happen."
        )


def _check(
    rate: float | Tensor, weights: Mapping[str, float], vocabulary: Tensor, num_protected: int
) -> None:
    is_known = not isinstance(rate, Tensor)
    if is_known and not 0 <= rate <= 1:
        raise ValueError(f"`rate` must be between 0 and 1, got {rate}. It is a share of the words.")
    if num_protected < 0:
        raise ValueError(
            f"`num_protected` must be at least 0, got {num_protected}. Use 1 for the end token."
        )
    if not is_known or rate:
        check_weights(weights)
    needs_words = any(weights.get(name, 0) > 0 for name in ("replace", "insert"))
    if needs_words and not len(vocabulary):
        raise ValueError(
            "`vocabulary` must hold a word for `replace` and `insert`, but it is empty. Fill it, "
            "or give both the weight 0."
        )
