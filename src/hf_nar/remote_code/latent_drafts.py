"""Drafts from latents, for all strategies that refine these."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .refinement_state import LatentNetwork, RefinementState, most_likely_tokens, real_positions

# In squared units of the latents for a nat. The prior's standard deviations are near 1.
LIKELIHOOD_STEP_SIZE = 1.0


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
    return draft_of_lengths(network, source, latent, lengths)


def draft_of_lengths(
    network: LatentNetwork, source: Any, latent: Tensor, lengths: Tensor
) -> RefinementState:
    """Decode the best draft of given lengths, in tokens, `[batch]`; else as `draft_from_latent`."""
    target_mask = real_positions(lengths)
    logits = network.decode(latent, lengths, source)
    tokens, scores = most_likely_tokens(logits, target_mask, network.pad_token_id)
    is_finished = torch.zeros_like(lengths, dtype=torch.bool)
    return RefinementState(tokens, scores, target_mask, is_finished, latent)


def doubt_sum(logits: Tensor, target_mask: Tensor) -> Tensor:
    """Return how unlikely a draft's own words are, in nats, a sum over its words, scalar.

    Args:
        logits: What latents decode to, `[batch, target_len, vocab]`.
        target_mask: True on real target positions, `[batch, target_len]`.
    """
    return -(logits.float().log_softmax(-1).amax(-1) * target_mask).sum()


def climb_likelihood(
    network: LatentNetwork, source: Any, latent: Tensor, lengths: Tensor, steps: int
) -> Tensor:
    """Return latents from which the model finds its own draft likelier, in the same shape.

    Each step of `LIKELIHOOD_STEP_SIZE` goes along the gradient of the log-likelihood of the draft,
    which may change with each step. Unlike steps of a score or energy network it needs no training,
    but a decoder pass and its backward pass.

    Args:
        network: In evaluation mode.
        source: What its `encode` gave.
        latent: `[batch, latent_len, latent_dim]`.
        lengths: Of the drafts, in tokens with the end token, `[batch]`.
        steps: How many.

    Raises:
        RuntimeError: If it is called in inference mode, where no gradient can be taken.
    """
    if steps and torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Likelihood steps take gradients, which `torch.inference_mode` forbids. Use "
            "`torch.no_grad`, or `likelihood_steps=0`."
        )
    for _ in range(steps):
        with torch.enable_grad():
            variable = latent.detach().requires_grad_()
            entered = variable.view_as(variable)  # no leaf, which torch's FLOP counter refuses
            logits = network.decode(entered, lengths, source)
            doubt = doubt_sum(logits, real_positions(lengths, logits.shape[1]))
            (gradient,) = torch.autograd.grad(doubt, variable)  # rows do not depend on each other
        latent = latent.detach() - LIKELIHOOD_STEP_SIZE * gradient
    return latent
