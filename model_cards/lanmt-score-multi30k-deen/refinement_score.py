"""Refinement by a learnt score, in the latent space alone (Lee, Shu and Cho 2020, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from .latent_drafts import (
    StartsAtPriorMean,
    climb_likelihood,
    draft_from_latent,
    draft_of_lengths,
)
from .refinement_state import (
    LatentNetwork,
    RefinementState,
    check_limits,
    own_scores,
    real_positions,
)

# Step sizes that a line search tries, as multiples of `step_size`, as in the authors' code.
LINE_SEARCH = (0.5, 1.0, 1.5)


@dataclass(frozen=True)
class ScoreAscent(StartsAtPriorMean):
    """Move the latents by a learnt step, several times, and decode once at the end.

    One iteration asks the network for one score: no decoder pass, no softmax over the vocabulary,
    no posterior. Latents that are decoded have the lengths that they started with, or, where their
    length is that of the source, the length that they themselves predict.

    Args:
        iterations: Refinement iterations at most; 0 decodes from the prior mean.
        max_length: Longest draft, in tokens with the end token.
        stop_early: Whether rows can be finished.
        step_size: Factor of each step.
        step_tolerance: A row is finished after a step that is shorter than this share of its first
            step (in the authors' code 1/16); 0 runs every iteration.
        line_search: Whether each row's step size is the best of three by the mean log probability
            of the draft that it leads to, at the price of three decoder passes an iteration.
        likelihood_steps: Steps up the likelihood of the draft itself, after all iterations; see
            `climb_likelihood`. Not in the paper.

    Raises:
        ValueError: If a field is out of its range.
    """

    refiner: ClassVar[str] = "score"

    iterations: int = 1
    max_length: int = 512
    stop_early: bool = True
    step_size: float = 1.0
    step_tolerance: float = 0.0
    line_search: bool = False
    likelihood_steps: int = 0

    def __post_init__(self) -> None:
        check_limits(self, zero_means="decode from the prior mean")
        for name in ("step_size", "step_tolerance"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`{name}` must be a number, got {value!r}.")
        if not 0 < self.step_size < float("inf"):
            raise ValueError(f"`step_size` must be positive and finite, got {self.step_size}.")
        if not 0 <= self.step_tolerance < 1:
            raise ValueError(
                f"`step_tolerance` must be in [0, 1), got {self.step_tolerance}. Use 0 to run "
                f"every iteration."
            )
        if not isinstance(self.line_search, bool):
            raise ValueError(f"`line_search` must be true or false, got {self.line_search!r}.")
        if type(self.likelihood_steps) is not int or self.likelihood_steps < 0:
            raise ValueError(
                f"`likelihood_steps` must be an integer and at least 0, got "
                f"{self.likelihood_steps!r}. Use 0 for none."
            )
        if not self.step_tolerance:  # nothing can stop, so the loop need not ask
            object.__setattr__(self, "stop_early", False)

    def start(self, network: LatentNetwork, source: Any, latent: Tensor) -> RefinementState:
        """Start at given latents, `[batch, latent_len, latent_dim]`; nothing is decoded yet."""
        lengths = network.predict_length(latent, source).clamp(1, self.max_length)
        target_mask = real_positions(lengths)
        context = network.read_source(self.refiner, target_mask, source)
        tokens = torch.full_like(target_mask, network.pad_token_id, dtype=torch.long)
        scores = torch.zeros_like(tokens, dtype=torch.float32)
        is_finished = torch.zeros_like(lengths, dtype=torch.bool)
        latent = latent[:, : context.latent_mask.shape[1]]
        return RefinementState(tokens, scores, target_mask, is_finished, latent, context=context)

    def refine(
        self, network: LatentNetwork, source: Any, state: RefinementState
    ) -> RefinementState:
        """Run one iteration. Pure: same inputs, same output; `state` is not changed."""
        latent = cast("Tensor", state.latent)
        step = self.step_size * network.latent_step(self.refiner, latent, state.context)
        if self.line_search:
            step = step * self._best_factors(network, source, latent, step)[:, None, None]
        new = replace(state, latent=latent + step, iteration=state.iteration + 1)
        if not self.stop_early:
            return new
        size = step.flatten(1).float().norm(dim=-1)
        first = size if state.first_step_size is None else state.first_step_size
        is_finished = size < self.step_tolerance * first
        return replace(new, first_step_size=first, is_finished=is_finished)

    def finish(
        self, network: LatentNetwork, source: Any, state: RefinementState
    ) -> RefinementState:
        """Decode the latents, after likelihood steps; the state keeps those before these."""
        latent = cast("Tensor", state.latent)
        lengths = network.predict_length(latent, source).clamp(1, self.max_length)
        decoded = climb_likelihood(network, source, latent, lengths, self.likelihood_steps)
        drafted = draft_of_lengths(network, source, decoded, lengths)
        return replace(
            drafted, latent=latent, iteration=state.iteration, is_finished=state.is_finished
        )

    def _best_factors(
        self, network: LatentNetwork, source: Any, latent: Tensor, step: Tensor
    ) -> Tensor:
        """Return the factor of each row's step that the network likes best, `[batch]`."""
        reached = (latent + factor * step for factor in LINE_SEARCH)
        drafts = (draft_from_latent(network, source, z, self.max_length) for z in reached)
        scores = torch.stack([own_scores(draft) for draft in drafts])
        return step.new_tensor(LINE_SEARCH)[scores.argmax(0)]
