"""What a refinement strategy reads and writes, and the rules that all of them share."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

# How many logits a CPU looks at together: 4 MB, which stay in its cache from one pass over them to
# the next. For 32 sentences of 25 tokens and 32,000 subwords it saves an eighth of the whole time.
CACHED_LOGITS = 2**20


class Gaussian(Protocol):
    """What a strategy may know of a distribution over latents."""

    @property
    def mean(self) -> Tensor:
        """Mean, `[batch, latent_len, latent_dim]`."""

    @property
    def std(self) -> Tensor:
        """Standard deviation, `[batch, latent_len, latent_dim]`."""


class LatentNetwork(Protocol):
    """All that a latent-space strategy may ask of a network.

    `source` is what the network's `encode` gave; a strategy hands it on without looking inside.
    """

    pad_token_id: int

    def infer_prior(self, source: Any) -> Gaussian:
        """Return p(z|x)."""

    def infer_posterior(self, tokens: Tensor, target_mask: Tensor, source: Any) -> Gaussian:
        """Return q(z|x,y) for drafts `[batch, target_len]`."""

    def predict_length(self, latent: Tensor, source: Any) -> Tensor:
        """Return the most likely target lengths, in tokens with the end token, `[batch]`."""

    def decode(self, latent: Tensor, lengths: Tensor, source: Any) -> Tensor:
        """Return logits `[batch, target_len, vocab]` in which no special token can win.

        Only the end token can win at the last position of each row, and only there.
        """

    def read_source(self, refiner: str, target_mask: Tensor, source: Any) -> Any:
        """Return what a refiner reads beside the latents, for targets `[batch, target_len]`."""

    def latent_step(self, refiner: str, latent: Any, context: Any) -> Tensor:
        """Return where a refiner would move the latents, in their own shape."""


@dataclass(frozen=True)
class DecodedDraft:
    """One decoder pass.

    Args:
        logits: `[batch, target_len, vocab]`, in which no special token can win but the end token
            at the last position of each row.
        states: What the logits were read from, `[batch, target_len, d_model]`.
    """

    logits: Tensor
    states: Tensor


class DraftNetwork(Protocol):
    """All that a token-space strategy may ask of a network; `source` as in `LatentNetwork`."""

    pad_token_id: int

    def predict_length(self, source: Any) -> Tensor:
        """Return the most likely target lengths, in tokens with the end token, `[batch]`."""

    def decode_first(self, lengths: Tensor, source: Any) -> DecodedDraft:
        """Decode from copies of the source, for lengths `[batch]`."""

    def decode_again(self, state: RefinementState, source: Any) -> DecodedDraft:
        """Decode from a draft and its states."""


@dataclass(frozen=True)
class RefinementState:
    """One draft translation for each row. Masks are boolean.

    Args:
        tokens: The draft, padding after its end, `[batch, target_len]`; nothing but padding where
            a strategy decodes only in `finish`.
        scores: Natural-log probability of each token, float32, 0 on padding,
            `[batch, target_len]`.
        target_mask: True on real positions, False on padding, `[batch, target_len]`.
        is_finished: True for rows that are left as they are, `[batch]`.
        latent: The latents that the draft was decoded from, `[batch, latent_len, latent_dim]`;
            None where a strategy has none.
        states: The network's states at each position of the draft, for a strategy that hands them
            on, `[batch, target_len, d_model]`.
        iteration: Iterations done so far.
        repeats: Iterations up to this one, without a break, that gave the row's draft again, for a
            strategy that counts them, `[batch]`.
        context: What a refiner reads beside the latents, for a strategy that moves these.
        first_step_size: How far the first iteration moved each row's latents, `[batch]`.
    """

    tokens: Tensor
    scores: Tensor
    target_mask: Tensor
    is_finished: Tensor
    latent: Tensor | None = None
    states: Tensor | None = None
    iteration: int = 0
    repeats: Tensor | None = None
    context: Any = None
    first_step_size: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """Real tokens of each row, `[batch]`."""
        return self.target_mask.sum(-1)


class RefinementStrategy(Protocol):
    """One algorithm of one paper. Frozen: everything that changes is in the state."""

    @property
    def iterations(self) -> int:
        """How often `refine` is called at most."""

    @property
    def max_length(self) -> int:
        """Longest draft, in tokens with the end token."""

    @property
    def stop_early(self) -> bool:
        """Whether a row that is finished is left as it is."""

    def draft(self, network: Any, source: Any) -> RefinementState:
        """Return the first draft, before any refinement."""

    def refine(self, network: Any, source: Any, state: RefinementState) -> RefinementState:
        """Run one iteration. Pure: same inputs, same output; `state` is not changed."""

    def finish(self, network: Any, source: Any, state: RefinementState) -> RefinementState:
        """Return the state with its draft decoded, if it is not."""


class LatentStrategy(RefinementStrategy, Protocol):
    """A strategy that refines latents, and can start at any."""

    def start(self, network: Any, source: Any, latent: Tensor) -> RefinementState:
        """Return the state before any refinement of latents `[batch, latent_len, latent_dim]`."""


def check_limits(strategy: RefinementStrategy, zero_means: str) -> None:
    """Check the fields that every strategy has.

    Args:
        strategy: It.
        zero_means: What no iteration is good for, for the message.

    Raises:
        ValueError: If one is of the wrong type or out of its range.
    """
    iterations, max_length = strategy.iterations, strategy.max_length
    for name, value in (("num_refinement_iterations", iterations), ("max_length", max_length)):
        if type(value) is not int:
            raise ValueError(f"`{name}` must be an integer, got {value!r}.")
    if not isinstance(strategy.stop_early, bool):
        raise ValueError(f"`stop_early` must be true or false, got {strategy.stop_early!r}.")
    if iterations < 0:
        raise ValueError(
            f"`num_refinement_iterations` must be at least 0, got {iterations}. "
            f"Use 0 to {zero_means}."
        )
    if max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, the end token; got {max_length}.")


def real_positions(lengths: Tensor, width: int | None = None) -> Tensor:
    """Return True on the first `lengths[i]` positions of row i, `[batch, width]`.

    Args:
        lengths: `[batch]`.
        width: None for the longest, for which the host waits for the device.
    """
    width = int(lengths.max()) if width is None else width
    return torch.arange(width, device=lengths.device) < lengths[:, None]


def most_likely_tokens(
    logits: Tensor, target_mask: Tensor, pad_token_id: int
) -> tuple[Tensor, Tensor]:
    """Pick the best token of each real position.

    Args:
        logits: `[batch, target_len, vocab]`.
        target_mask: True on real positions, `[batch, target_len]`.
        pad_token_id: Put on all other positions.

    Returns:
        Tokens and their natural-log probabilities in float32 (0 on padding), both
        `[batch, target_len]`.
    """
    rows = logits.flatten(0, 1)
    at_once = len(rows)
    if logits.device.type == "cpu":
        at_once = max(1, CACHED_LOGITS // logits.shape[-1])
    parts = [_best_of_each(part) for part in rows.split(at_once)]
    tokens, scores = (torch.cat(side).view(target_mask.shape) for side in zip(*parts, strict=True))
    return tokens.masked_fill(~target_mask, pad_token_id), scores.masked_fill(~target_mask, 0.0)


def _best_of_each(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best token of each row of `[rows, vocab]` and its log probability in float32."""
    best, tokens = logits.max(-1)
    return tokens, best.float() - logits.float().logsumexp(-1)


def own_scores(state: RefinementState, length_penalty: float = 1.0) -> Tensor:
    """Return the mean natural-log probability of each row's words, `[batch]`.

    The end token does not count: its place is known, and a short row would gain most by it. A row
    without words loses against every other.

    Args:
        state: Drafts.
        length_penalty: Exponent of the number of words by which the sum is divided; 1 is the mean.
    """
    words = (state.lengths - 1).clamp(min=1)
    scores = state.scores.sum(-1) / words**length_penalty
    return scores.masked_fill(state.lengths == 1, -torch.inf)


def same_draft(state: RefinementState, other: RefinementState) -> Tensor:
    """Return True for rows whose tokens agree, `[batch]`; the two may be padded differently."""
    width = min(state.tokens.shape[1], other.tokens.shape[1])
    differs = state.tokens[:, :width] != other.tokens[:, :width]
    differs &= state.target_mask[:, :width] & other.target_mask[:, :width]
    return ~differs.any(-1) & (state.lengths == other.lengths)


def jaccard_distance(state: RefinementState, other: RefinementState) -> Tensor:
    """Return 1 - |common tokens| / |tokens of either| of each row, float32, `[batch]`.

    Tokens are counted as often as they occur, and their order does not matter, as in the code of
    Lee et al. 2018.
    """
    first, second = (
        s.tokens.masked_fill(~s.target_mask, -1).sort(dim=-1).values for s in (state, other)
    )
    before, after = (_counts_before(values) for values in (first, second))
    # Each token is told from its equals by how many of them stand before it.
    same = (first[:, :, None] == second[:, None]) & (before[:, :, None] == after[:, None])
    common = (same.any(-1) & (first >= 0)).sum(-1)
    either = state.lengths + other.lengths - common
    return 1 - common / either.clamp(min=1)


def _counts_before(values: Tensor) -> Tensor:
    """Return how many equal values stand before each of sorted rows, `[batch, length]`."""
    positions = torch.arange(values.shape[1], device=values.device).expand(values.shape)
    return positions - torch.searchsorted(values.contiguous(), values.contiguous())


def set_width(values: Tensor, width: int, value: float) -> Tensor:
    """Return `[batch, target_len]` cut, or widened with `value`, to `[batch, width]`."""
    return torch.nn.functional.pad(values, (0, width - values.shape[1]), value=value)


def widen(vectors: Tensor, width: int) -> Tensor:
    """Return `[batch, length, size]` cut, or widened with 0, to `[batch, width, size]`."""
    return torch.nn.functional.pad(vectors, (0, 0, 0, width - vectors.shape[1]))


def take_rows(value: Any, rows: Tensor) -> Any:
    """Return the given rows of tensors, of tuples or dicts of them, or of a dataclass with them.

    Args:
        value: A tensor whose first dimension is the batch; what holds no tensor stays as it is.
        rows: Indices, `[new_batch]`; a row may come several times.
    """
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, tuple):
        return tuple(take_rows(item, rows) for item in value)
    if isinstance(value, dict):
        return {name: take_rows(item, rows) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {item.name: getattr(value, item.name) for item in fields(value)}
        return replace(value, **{name: take_rows(part, rows) for name, part in parts.items()})
    return value


def keep_finished(
    state: RefinementState, new: RefinementState, pad_token_id: int
) -> RefinementState:
    """Return `new`, but `state` on the rows that were finished before; no wider than needed."""
    keep = state.is_finished[:, None]
    lengths = torch.where(state.is_finished, state.lengths, new.lengths)
    target_mask = real_positions(lengths)
    width = target_mask.shape[1]

    def merge(old_values: Tensor, new_values: Tensor, padding: float) -> Tensor:
        merged = torch.where(
            keep, set_width(old_values, width, padding), set_width(new_values, width, padding)
        )
        return merged.masked_fill(~target_mask, padding)

    latent, states = new.latent, new.states
    if latent is not None and state.latent is not None:
        num_latents = max(state.latent.shape[1], latent.shape[1])
        old, latent = (widen(values, num_latents) for values in (state.latent, latent))
        latent = torch.where(keep[..., None], old, latent)
    if states is not None:  # those of finished rows are not read again
        states = widen(states, width)
    return replace(
        new,
        tokens=merge(state.tokens, new.tokens, pad_token_id),
        scores=merge(state.scores, new.scores, 0.0),
        target_mask=target_mask,
        is_finished=state.is_finished | new.is_finished,
        latent=latent,
        states=states,
    )


def collapse_repeats(
    tokens: Tensor, scores: Tensor, target_mask: Tensor, pad_token_id: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Drop every token that equals the one before it.

    Repetition is the typical mistake of a parallel decoder; both LaNMT papers report BLEU after
    this rule. A word that is rightly doubled is lost, too.

    Args:
        tokens: `[batch, target_len]`.
        scores: `[batch, target_len]`.
        target_mask: True on real positions, `[batch, target_len]`.
        pad_token_id: Put after the end.

    Returns:
        Tokens, scores and mask of what is left, moved to the front, `[batch, new_len]`.
    """
    keep = target_mask.clone()
    keep[:, 1:] &= tokens[:, 1:] != tokens[:, :-1]
    order = (~keep).to(torch.uint8).argsort(dim=-1, stable=True)  # kept positions first, in order
    mask = real_positions(keep.sum(-1))
    order = order[:, : mask.shape[1]]
    tokens = tokens.gather(1, order).masked_fill(~mask, pad_token_id)
    return tokens, scores.gather(1, order).masked_fill(~mask, 0.0), mask
