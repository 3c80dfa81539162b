"""Inference with a delta posterior (Shu et al. 2020, arXiv:1908.07181, section 4 and alg. 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .latent_drafts import StartsAtPriorMean, draft_from_latent
from .refinement_state import LatentNetwork, RefinementState, check_limits, same_draft


@dataclass(frozen=True)
class DeltaPosterior(StartsAtPriorMean):
    """Move the latents to the posterior mean given the draft, then decode the best draft again.

    One iteration asks the network for one posterior, one length and one decoder pass. A row is
    finished when an iteration gives its draft again. The length is predicted anew each time, or, if
    latents have target length, once. The paper stops the whole batch at once; here each row stops
    by itself.

    Args:
        iterations: Refinement iterations at most; 0 decodes from the prior mean.
        max_length: Longest draft, in tokens with the end token.
        stop_early: Whether a row is finished when its draft repeats; False runs every iteration
            for every row.

    Raises:
        ValueError: If a field is out of its range.
    """

    iterations: int = 1
    max_length: int = 512
    stop_early: bool = True

    def __post_init__(self) -> None:
        check_limits(self, zero_means="decode from the prior mean")

    def start(self, network: LatentNetwork, source: Any, latent: Tensor) -> RefinementState:
        """Decode from given latents, `[batch, latent_len, latent_dim]`."""
        return draft_from_latent(network, source, latent, self.max_length)

    def refine(
        self, network: LatentNetwork, source: Any, state: RefinementState
    ) -> RefinementState:
        """Run one iteration. Pure: same inputs, same output; `state` is not changed."""
        posterior = network.infer_posterior(state.tokens, state.target_mask, source)
        new = draft_from_latent(network, source, posterior.mean, self.max_length)
        new = replace(new, iteration=state.iteration + 1)
        is_finished = same_draft(state, new) if self.stop_early else new.is_finished
        return replace(new, is_finished=is_finished)

    def finish(
        self, network: LatentNetwork, source: Any, state: RefinementState
    ) -> RefinementState:
        """Return the state: its draft is decoded already."""
        return state
