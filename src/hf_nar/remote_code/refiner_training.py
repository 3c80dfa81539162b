"""How score and energy networks are trained (Lee, Shu and Cho 2020, section 3).

The goal is made by the model itself, which stays as it is: from latents around the prior mean, some
iterations with a delta posterior and, if wanted, some steps up the model's own likelihood; the
refiner learns the way from the first to the last. Of the reference only the length is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .latent_drafts import climb_likelihood, doubt_sum
from .losses_nar import IGNORED_LABEL, replace_words, word_loss_sum
from .refinement_state import most_likely_tokens

MAX_OWN_STEPS = 3


@dataclass(frozen=True)
class RefinerLesson:
    """What refiners learn from one batch.

    Args:
        start: Latents, `[batch, latent_len, latent_dim]`.
        goal: Latents to which they should lead, in the same shape.
        mask: True on real latents, `[batch, latent_len]`.
    """

    start: Tensor
    goal: Tensor
    mask: Tensor

    @property
    def way(self) -> Tensor:
        """From start to goal, 0 on padding, `[batch, latent_len, latent_dim]`."""
        return (self.goal - self.start) * self.mask[..., None]


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
    is_training = network.is_learning
    target_mask = labels != IGNORED_LABEL
    with torch.no_grad():
        if is_training:
            is_word = ~network.is_special(input_ids)
            input_ids = replace_words(input_ids, is_word, config.refiner_source_noise)
        source = network.encode(
            input_ids, attention_mask, target_mask.sum(-1), target_len=target_mask.shape[1]
        )
        noise = config.refiner_noise if is_training else 0.0
        lesson = make_lesson(network, source, target_mask, config.refiner_iterations, noise)
    terms: dict[str, Tensor] = {}
    for name in names:
        context = network.read_source(name, target_mask, source)
        move = partial(network.latent_step, name, context=context)
        taught = lesson
        if is_training and config.refiner_own_steps:
            stays = not config.refiner_ascent_steps
            taught = after_own_steps(lesson, move, config.refiner_own_steps, goal_stays=stays)
        if config.refiner_ascent_steps:
            steps = config.refiner_ascent_steps
            goal = climb_likelihood(network, source, taught.goal, target_mask.sum(-1), steps)
            taught = replace(taught, goal=goal)
        step = move(taught.start, differentiable=True)
        terms |= lesson_terms(name, step, taught)
        terms |= _word_terms(network, source, name, taught, step, target_mask)
        for term, weight in word_weights(config).items():
            if weight:
                share = target_mask.sum() / lesson.mask.sum()
                terms[f"{name}_loss"] += weight * share * terms[f"{name}_{term}_loss"]
    loss = torch.stack([terms[f"{name}_loss"] for name in names]).sum()
    return {"loss": loss, **{name: value.detach() for name, value in terms.items()}}


def word_weights(config: Any) -> dict[str, float]:
    """Return the weights of the terms that judge a step by the words it leads to, by name.

    None of them is in the paper. Doubt is there because, where two translations are as good, the
    mean of the ways to both leads to neither: it makes a step take one of the two.
    """
    return {
        "word": config.refiner_word_weight,
        "repeat": config.refiner_repeat_weight,
        "doubt": config.refiner_doubt_weight,
    }


def _word_terms(
    network: Any, source: Any, name: str, lesson: RefinerLesson, step: Tensor, target_mask: Tensor
) -> dict[str, Tensor]:
    """Return the terms of `word_weights`, in nats for each target token; none without a weight."""
    if not any(word_weights(network.config).values()):
        return {}
    lengths = target_mask.sum(-1)
    with torch.no_grad():
        goal = network.decode(lesson.goal, lengths, source)
        tokens, _ = most_likely_tokens(goal, target_mask, network.pad_token_id)
    logits = network.decode(lesson.start + step, lengths, source)
    sums = {
        "word": draft_word_sum(logits, tokens, target_mask),
        "repeat": repeat_sum(logits, target_mask),
        "doubt": doubt_sum(logits, target_mask),
    }
    return {f"{name}_{term}_loss": value / target_mask.sum() for term, value in sums.items()}


def after_own_steps(
    lesson: RefinerLesson, move: Callable[[Tensor], Tensor], share: float, goal_stays: bool = True
) -> RefinerLesson:
    """Return a lesson in which some sentences start where the refiner itself has moved them.

    That is where it stands in all iterations but the first, and where it can learn to make good its
    own mistakes.

    Args:
        lesson: From around the prior mean.
        move: What the refiner does at latents, `[batch, latent_len, latent_dim]`.
        share: Probability of each sentence; of these the same share takes another step, and so on,
            at most `MAX_OWN_STEPS`.
        goal_stays: Whether these sentences keep their goal; if not, it is where they now stand.
    """
    start = lesson.start
    is_moved = moves_on = torch.ones(len(start), 1, 1, dtype=torch.bool, device=start.device)
    for i in range(MAX_OWN_STEPS):
        moves_on = moves_on & (torch.rand(len(start), 1, 1, device=start.device) < share)
        is_moved = moves_on if i == 0 else is_moved
        start = start + move(start).detach() * moves_on
    goal = lesson.goal if goal_stays else torch.where(is_moved, start, lesson.goal)
    return replace(lesson, start=start, goal=goal)


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
    for _ in range(iterations):
        logits = network.decode(latent, lengths, source)
        tokens, _ = most_likely_tokens(logits, target_mask, network.pad_token_id)
        latent = network.infer_posterior(tokens, target_mask, source).mean
    return RefinerLesson(start, latent, network.latent_mask(target_mask, source))


def draft_word_sum(logits: Tensor, tokens: Tensor, target_mask: Tensor) -> Tensor:
    """Return the cross-entropy of a draft, in nats, a sum over its words, scalar.

    Not in the paper: an error of a step matters as much as the words that it changes. The draft
    is one of many good translations, but the only one that follows from these latents. Where it
    repeats a word, it is no model.

    Args:
        logits: What the latents decode to after a step, `[batch, target_len, vocab]`.
        tokens: The draft at the goal, `[batch, target_len]`.
        target_mask: True on real target positions, `[batch, target_len]`.
    """
    is_taught = target_mask.clone()
    is_taught[:, 1:] &= tokens[:, 1:] != tokens[:, :-1]
    labels = tokens.masked_fill(~is_taught, IGNORED_LABEL)
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


def lesson_terms(refiner: str, step: Tensor, lesson: RefinerLesson) -> dict[str, Tensor]:
    """Return the loss of one refiner, with gradient, and how well it does, by name.

    The loss is |s|^2 - 2 <s, way>, which is the squared error less a constant; both are for each
    latent. The cosine is that of the whole sentence's step with its way, a mean over sentences.

    Args:
        refiner: Its name.
        step: Where it would move the latents, 0 on padding, `[batch, latent_len, latent_dim]`.
        lesson: What it should learn.
    """
    step, way = step.float(), lesson.way.float()
    num_latents = lesson.mask.sum()
    loss = (step.square() - 2 * step * way).sum() / num_latents
    cosine = functional.cosine_similarity(step.flatten(1), way.flatten(1), dim=-1)
    error = (step - way).square().sum() / num_latents
    return {
        f"{refiner}_loss": loss,
        f"{refiner}_cosine": cosine.mean().detach(),
        f"{refiner}_error": error.detach(),
    }
