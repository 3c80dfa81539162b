"""How score and energy networks are trained (Lee, Shu and Cho 2020, section 3).

The goal is made by the model itself, which stays as it is: from latents around the prior mean, some
iterations with a delta posterior; the refiner learns the way from the first to the last. Of the
reference only the length is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .losses_nar import IGNORED_LABEL, replace_words, word_loss_sum
from .refinement_state import most_likely_tokens


@dataclass(frozen=True)
class RefinerLesson:
    """What refiners learn from one batch.

    Args:
        start: Latents, `[batch, latent_len, latent_dim]`.
        way: Where delta iterations moved them, as a difference, 0 on padding, in the same shape.
        tokens: The draft at the end of that way, padding after its end, `[batch, target_len]`.
        target_mask: True on real target positions, `[batch, target_len]`.
    """

    start: Tensor
    way: Tensor
    tokens: Tensor
    target_mask: Tensor


def refiner_losses(
    network: Any, input_ids: Tensor, attention_mask: Tensor | None, labels: Tensor
) -> dict[str, Tensor]:
    """Return the loss of the refiners that are trained, with gradient, and its terms, by name.

    In evaluation there is no noise, and no step has been taken.

    Args:
        network: LaNMT after `train_refiners`.
        input_ids: `[batch, source_len]`.
        attention_mask: 1 or True on real source tokens, `[batch, source_len]`, or None.
        labels: Target ids, -100 on padding, `[batch, target_len]`.
    """
    names, config = network.trained_refiners, network.config
    is_training = any(network.refiners[name].training for name in names)
    target_mask = labels != IGNORED_LABEL
    with torch.no_grad():
        if is_training:
            is_word = ~torch.isin(input_ids, network.special_ids(input_ids.device))
            input_ids = replace_words(input_ids, is_word, config.refiner_source_noise)
        source = network.encode(input_ids, attention_mask, target_mask.sum(-1))
        noise = config.refiner_noise if is_training else 0.0
        lesson = make_lesson(network, source, target_mask, config.refiner_iterations, noise)
    terms: dict[str, Tensor] = {}
    for name in names:
        context = network.read_source(name, target_mask, source)
        taught = lesson
        if is_training and config.refiner_own_steps:
            first = network.latent_step(name, lesson.start, context).detach()
            taught = after_own_steps(lesson, first, config.refiner_own_steps)
        step = network.latent_step(name, taught.start, context, differentiable=True)
        terms |= lesson_terms(name, step, taught, context.latent_mask)
        if config.refiner_word_weight or config.refiner_repeat_weight:
            logits = network.decode(taught.start + step, target_mask.sum(-1), source)
            words, repeats = word_sum_of_lesson(logits, taught), repeat_sum(logits, target_mask)
            terms[f"{name}_word_loss"] = words / target_mask.sum()
            terms[f"{name}_repeat_loss"] = repeats / target_mask.sum()
            both = config.refiner_word_weight * words + config.refiner_repeat_weight * repeats
            terms[f"{name}_loss"] += both / context.latent_mask.sum()
    loss = torch.stack([terms[f"{name}_loss"] for name in names]).sum()
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def after_own_steps(lesson: RefinerLesson, step: Tensor, share: float) -> RefinerLesson:
    """Return a lesson in which some sentences start where the refiner itself has moved them.

    That is where it stands in all iterations but the first, and where it can learn to make good its
    own mistakes. The goal stays.

    Args:
        lesson: From around the prior mean.
        step: What the refiner does there, `[batch, latent_len, latent_dim]`.
        share: Probability of each sentence.
    """
    step = step * (torch.rand(len(step), 1, 1, device=step.device) < share)
    return replace(lesson, start=lesson.start + step, way=lesson.way - step)


@torch.no_grad()
def make_lesson(
    network: Any, source: Any, target_mask: Tensor, iterations: int, noise: float
) -> RefinerLesson:
    """Draw latents around the prior mean and see where delta iterations move them.

    Args:
        network: LaNMT, in evaluation mode.
        source: What its `encode` gave, with the lengths of the targets.
        target_mask: True on real target positions, `[batch, target_len]`.
        iterations: How many.
        noise: Largest factor of the prior's standard deviation; each sentence draws its own below
            it. 0 starts at the prior mean.
    """
    prior = network.infer_prior(source)
    scale = noise * prior.mean.new_empty(len(target_mask), 1, 1).uniform_()
    start = prior.mean + scale * prior.std * torch.randn_like(prior.mean)
    latent, lengths = start, target_mask.sum(-1)

    def draft() -> Tensor:
        logits = network.decode(latent, lengths, source)
        return most_likely_tokens(logits, target_mask, network.pad_token_id)[0]

    for _ in range(iterations):
        latent = network.infer_posterior(draft(), target_mask, source).mean
    mask = network.latent_mask(target_mask, source)[..., None]
    return RefinerLesson(start, (latent - start) * mask, draft(), target_mask)


def word_sum_of_lesson(logits: Tensor, lesson: RefinerLesson) -> Tensor:
    """Return the cross-entropy of the lesson's draft, in nats, a sum over its words, scalar.

    Not in the paper: an error of a step matters as much as the words that it changes. The draft
    is one of many good translations, but the only one that follows from these latents. Where it
    repeats a word, it is no model.

    Args:
        logits: What the latents decode to after a step, `[batch, target_len, vocab]`.
        lesson: What should be learnt.
    """
    is_taught = lesson.target_mask.clone()
    is_taught[:, 1:] &= lesson.tokens[:, 1:] != lesson.tokens[:, :-1]
    labels = lesson.tokens.masked_fill(~is_taught, IGNORED_LABEL)
    return word_loss_sum(logits, labels, label_smoothing=0.0)


def repeat_sum(logits: Tensor, target_mask: Tensor) -> Tensor:
    """Return how likely neighbours are the same word, as -log(1 - p), a sum over pairs, scalar.

    Not in the paper: where a model is unsure between two places for a word, it says it twice, and
    one of the two is dropped. (Wang et al. 2019, "Non-Autoregressive Machine Translation with
    Auxiliary Regularization", section 3.1, keep the states of neighbours apart for this.)

    Args:
        logits: What latents decode to, `[batch, target_len, vocab]`.
        target_mask: True on real target positions, `[batch, target_len]`.
    """
    probabilities = logits.float().softmax(-1)
    same = (probabilities[:, :-1] * probabilities[:, 1:]).sum(-1).clamp(max=1 - 1e-4)
    return -(torch.log1p(-same) * (target_mask[:, :-1] & target_mask[:, 1:])).sum()


def lesson_terms(
    refiner: str, step: Tensor, lesson: RefinerLesson, mask: Tensor
) -> dict[str, Tensor]:
    """Return the loss of one refiner, with gradient, and how well it does, by name.

    The loss is |s|^2 - 2 <s, way>, which is the squared error less a constant; both are for each
    latent. The cosine is that of the whole sentence's step with its way, a mean over sentences.

    Args:
        refiner: Its name.
        step: Where it would move the latents, 0 on padding, `[batch, latent_len, latent_dim]`.
        lesson: What it should learn.
        mask: True on real latents, `[batch, latent_len]`.
    """
    step, way = step.float(), lesson.way.float()
    num_latents = mask.sum()
    loss = (step.square() - 2 * step * way).sum() / num_latents
    cosine = functional.cosine_similarity(step.flatten(1), way.flatten(1), dim=-1)
    error = (step - way).square().sum() / num_latents
    return {
        f"{refiner}_loss": loss,
        f"{refiner}_cosine": cosine.mean().detach(),
        f"{refiner}_error": error.detach(),
    }
