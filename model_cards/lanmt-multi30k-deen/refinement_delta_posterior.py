"""Inference with a delta posterior (Shu et al. 2020, arXiv:1908.07181, section 4 and alg. 1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .refinement_state import (
    LatentNetwork,
    RefinementState,
    check_limits,
    most_likely_tokens,
    real_positions,
    same_draft,
)


@dataclass(frozen=True)
class DeltaPosterior:
    """Move the latents to the posterior mean given the draft, then decode the best draft again.

    One iteration asks the network for one posterior, one length and one decoder pass. A row is
    finished when an iteration gives its draft again. The length is predicted anew each time. The
    paper stops the whole batch at once; here each row stops by itself.

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

    def draft(self, network: LatentNetwork, source: object) -> RefinementState:
        """Decode from the prior mean."""
        return self._decode(network, source, network.infer_prior(source).mean)

    def refine(
        self, network: LatentNetwork, source: object, state: RefinementState
    ) -> RefinementState:
        """Run one iteration. Pure: same inputs, same output; `state` is not changed."""
        posterior = network.infer_posterior(state.tokens, state.target_mask, source)
        new = self._decode(network, source, posterior.mean)
        new = replace(new, iteration=state.iteration + 1)
        return replace(new, is_finished=same_draft(state, new)) if self.stop_early else new

    def _decode(self, network: LatentNetwork, source: object, latent: Tensor) -> RefinementState:
        lengths = network.predict_length(latent, source).clamp(1, self.max_length)
        target_mask = real_positions(lengths)
        logits = network.decode(latent, lengths, source)
        tokens, scores = most_likely_tokens(logits, target_mask, network.pad_token_id)
        is_finished = torch.zeros_like(lengths, dtype=torch.bool)
        return RefinementState(tokens, scores, target_mask, is_finished, latent)
