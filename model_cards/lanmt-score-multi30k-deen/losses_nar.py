"""Training terms as functions. Each loss is a sum in nats; the caller chooses the divisor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

IGNORED_LABEL = -100


def word_loss_sum(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the summed cross-entropy of all real target tokens, float32, scalar.

    Args:
        logits: `[batch, target_len, vocab]`.
        labels: Token ids, -100 on padding, `[batch, target_len]`.
        label_smoothing: Probability spread evenly over the whole vocabulary.
    """
    return functional.cross_entropy(
        logits.flatten(0, 1).float(),
        labels.flatten(),
        ignore_index=IGNORED_LABEL,
        label_smoothing=label_smoothing,
        reduction="sum",
    )


def budgeted_kl_sum(kl: Tensor, source_mask: Tensor, kl_budget: float | Tensor) -> Tensor:
    """Return the summed KL term with a floor for each position (Shu et al. 2020, section 3.2).

    A position below the budget counts as the budget and has no gradient.

    Args:
        kl: KL divergence of each position in nats, `[batch, source_len]`.
        source_mask: True on real source tokens, `[batch, source_len]`.
        kl_budget: Nats for one position that are free; 0 penalises all of it.
    """
    return (kl.clamp(min=kl_budget) * source_mask).sum()


def length_loss_sum(length_logits: Tensor, target_class: Tensor) -> Tensor:
    """Return the summed cross-entropy of the length offsets, float32, scalar.

    Args:
        length_logits: `[batch, classes]`.
        target_class: `[batch]`.
    """
    return functional.cross_entropy(length_logits.float(), target_class, reduction="sum")


def replace_words(tokens: Tensor, is_word: Tensor, share: float) -> Tensor:
    """Return targets in which random words stand in the place of some, each a word of the batch.

    Frequent words come in often, as they do in a wrong draft. Zhu et al. 2022 (NAACL, "Consistency
    Regularization Optimized Variational Framework") noise what LaNMT's posterior sees, too.

    Args:
        tokens: `[batch, target_len]`.
        is_word: True on what may be replaced and may replace, `[batch, target_len]`.
        share: Probability of each word to be replaced, at most: a draw that is no word changes
            nothing.
    """
    if not share:
        return tokens
    drawn = torch.randint(tokens.numel(), tokens.shape, device=tokens.device)
    chosen = torch.rand(tokens.shape, device=tokens.device) < share
    chosen &= is_word & is_word.flatten()[drawn]
    return torch.where(chosen, tokens.flatten()[drawn], tokens)
