"""Drafts from latents, for all strategies that refine these."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .refinement_state import LatentNetwork, RefinementState, most_likely_tokens, real_positions


class StartsAtPriorMean:
    """The first draft of a strategy that refines latents."""

    start: Any

    def draft(self, network: LatentNetwork, source: Any) -> RefinementState:
        """Start at the prior mean."""
        state: RefinementState = self.start(network, source, network.infer_prior(source).mean)
        return state


def draft_from_latent(
    network: LatentNetwork, source: Any, latent: Tensor, max_length: int
) -> RefinementState:
    """Predict lengths and decode the best draft.

    Args:
        network: Decodes.
        source: What its `encode` gave.
        latent: `[batch, latent_len, latent_dim]`.
        max_length: Longest draft, in tokens with the end token.
    """
    lengths = network.predict_length(latent, source).clamp(1, max_length)
    target_mask = real_positions(lengths)
    logits = network.decode(latent, lengths, source)
    tokens, scores = most_likely_tokens(logits, target_mask, network.pad_token_id)
    is_finished = torch.zeros_like(lengths, dtype=torch.bool)
    return RefinementState(tokens, scores, target_mask, is_finished, latent)
