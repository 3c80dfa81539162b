"""What LaNMT's `forward` returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .output_nar import NAROutput


@dataclass
class LaNMTOutput(NAROutput):
    """What `LaNMTForConditionalGeneration.forward` returns, beside `NAROutput`'s fields.

    The loss is word, KL and length term together.

    Args:
        word_loss: Label-smoothed cross-entropy, in nats for each target token, scalar.
        kl_loss: KL term with its budget, in nats for each latent, scalar.
        kl: KL divergence without a budget, in nats for each latent, scalar.
        consistency_loss: Divergence of the posterior under noise from that without, in nats for
            each latent, scalar; only in training, and with a `consistency_weight`.
        score_loss: Loss of the score network, for each latent, scalar; this and the following only
            where refiners are trained, and each also as `energy_…`.
        score_cosine: Cosine of its steps with the way that it learns, scalar.
        score_error: Squared error of its steps, for each latent, scalar.
        score_word_loss: Cross-entropy, after its steps, of the draft to which that way
            leads, without repeated words, in nats for each token, scalar; only with a
            weight for words, repeats or doubt.
        score_repeat_loss: How likely it is, after its steps, that neighbouring words are the same,
            as -log(1 - p) for each token, scalar; likewise.
        score_doubt_loss: How unlikely the draft after its steps finds its own words, in nats for
            each token, scalar; likewise.
        length_loss: Cross-entropy of the length, in nats for each sentence, scalar.
        length_logits: `[batch, 2 * max_length_offset + 1]`.
        lengths: Target lengths of the logits, in tokens, `[batch]`.
        prior_mean: `[batch, latent_len, latent_dim]`.
        prior_std: `[batch, latent_len, latent_dim]`.
        posterior_mean: `[batch, latent_len, latent_dim]`; only with labels or a draft.
        posterior_std: `[batch, latent_len, latent_dim]`; likewise.
    """

    word_loss: Tensor | None = None
    kl_loss: Tensor | None = None
    kl: Tensor | None = None
    consistency_loss: Tensor | None = None
    score_loss: Tensor | None = None
    score_cosine: Tensor | None = None
    score_error: Tensor | None = None
    score_word_loss: Tensor | None = None
    score_repeat_loss: Tensor | None = None
    score_doubt_loss: Tensor | None = None
    energy_loss: Tensor | None = None
    energy_cosine: Tensor | None = None
    energy_error: Tensor | None = None
    energy_word_loss: Tensor | None = None
    energy_repeat_loss: Tensor | None = None
    energy_doubt_loss: Tensor | None = None
    length_loss: Tensor | None = None
    length_logits: Tensor | None = None
    lengths: Tensor | None = None
    prior_mean: Tensor | None = None
    prior_std: Tensor | None = None
    posterior_mean: Tensor | None = None
    posterior_std: Tensor | None = None
