"""Iterative refinement in token space (Lee et al. 2018, arXiv:1802.06901, section 3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from .refinement_state import (
    DraftNetwork,
    RefinementState,
    check_limits,
    jaccard_distance,
    most_likely_tokens,
    real_positions,
    same_draft,
)


@dataclass(frozen=True)
class IterativeRefinement:
    """Decode the draft and the states of the pass before into the next draft.

    The length is predicted once. One iteration asks the network for one decoder pass. A row is
    finished when iterations give its draft again, or one that is near enough. The paper stops
    the whole batch at once; here each row stops by itself.

    Args:
        iterations: Passes after the first, at most; 0 decodes once.
        max_length: Longest draft, in tokens with the end token.
        stop_early: Whether rows can be finished; False runs every iteration for every row, and
            the next two fields are not read.
        jaccard_threshold: A draft repeats, too, when the Jaccard distance of its tokens to those of
            the draft before is below this, from 0 (only the same draft) to 1.
        patience: Iterations without a break that must repeat the draft. As states are handed on,
            a draft may still change after it repeated; the authors' code waits for 4.

    Raises:
        ValueError: If a field is out of its range.
    """

    iterations: int = 4
    max_length: int = 512
    stop_early: bool = True
    jaccard_threshold: float = 0.0
    patience: int = 1

    def __post_init__(self) -> None:
        check_limits(self, zero_means="decode once")
        threshold = self.jaccard_threshold
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise ValueError(f"`jaccard_threshold` must be a number, got {threshold!r}.")
        if not 0 <= threshold <= 1:
            raise ValueError(f"`jaccard_threshold` must be in [0, 1], got {threshold}.")
        if type(self.patience) is not int or self.patience < 1:
            raise ValueError(
                f"`patience` must be an integer and at least 1, got {self.patience!r}. Use 1 to "
                f"stop at the first repeated draft."
            )

    def draft(self, network: DraftNetwork, source: Any) -> RefinementState:
        """Decode once, from copies of the source."""
        lengths = network.predict_length(source).clamp(1, self.max_length)
        target_mask = real_positions(lengths)
        decoded = network.decode_first(lengths, source)
        tokens, scores = most_likely_tokens(decoded.logits, target_mask, network.pad_token_id)
        is_finished = torch.zeros_like(lengths, dtype=torch.bool)
        return RefinementState(tokens, scores, target_mask, is_finished, states=decoded.states)

    def refine(self, network: DraftNetwork, source: Any, state: RefinementState) -> RefinementState:
        """Run one iteration. Pure: same inputs, same output; `state` is not changed."""
        decoded = network.decode_again(state, source)
        tokens, scores = most_likely_tokens(decoded.logits, state.target_mask, network.pad_token_id)
        new = replace(
            state,
            tokens=tokens,
            scores=scores,
            states=decoded.states,
            iteration=state.iteration + 1,
            is_finished=torch.zeros_like(state.is_finished),
        )
        if not self.stop_early:
            return new
        is_repeated = same_draft(state, new)
        if self.jaccard_threshold:
            is_repeated |= jaccard_distance(state, new) < self.jaccard_threshold
        before = 0 if state.repeats is None else state.repeats
        repeats = (before + 1) * is_repeated.long()
        return replace(new, is_finished=repeats >= self.patience, repeats=repeats)

    def finish(self, network: DraftNetwork, source: Any, state: RefinementState) -> RefinementState:
        """Return the state: its draft is decoded already."""
        return state
