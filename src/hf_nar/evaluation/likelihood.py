"""How likely a latent-variable model finds targets: evidence lower bound and marginal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from hf_nar.inference import Translator, line_generators

DEFAULT_SAMPLES = 20
# Added to the seed, so that samples of the posterior are not those of a latent search.
POSTERIOR_NOISE = 2**40
DEFINITION = (
    "nats for each sentence, its length included: log p(y|x) = log p(y, length|x). With weights "
    "w = p(y|z, length, x) p(length|z, x) p(z|x) / q(z|x, y) of samples z from the posterior q, "
    "the ELBO is the mean of log w, and the marginal is the log of the mean of w (Burda et al. "
    "2016). Words have probability as in decoding: special tokens have none, and the end token, "
    "whose place the length says, is certain."
)


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds targets, in nats.

    Args:
        elbo: Evidence lower bound of each target.
        marginal: Importance-weighted estimate of log p(y|x) of each target.
        tokens: Tokens of each target with the end token.
        left_out: Targets that the model cannot write, and that are in none of these: too long, too
            much longer or shorter than the source, or with unknown words.
    """

    elbo: list[float]
    marginal: list[float]
    tokens: list[int]
    left_out: int = 0

    def as_row(self) -> dict[str, Any]:
        """Return what a results file says: means over sentences and over tokens, rounded.

        They are None where no target could be rated.
        """
        row: dict[str, Any] = {}
        for name, values in (("elbo", self.elbo), ("marginal", self.marginal)):
            total = math.fsum(values)
            row[name] = round(total / len(values), 4) if values else None
            row[f"{name}_per_token"] = round(total / sum(self.tokens), 4) if values else None
        return {**row, "likelihood_left_out": self.left_out}


def measure_likelihood(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[Sequence[int]],
    samples: int = DEFAULT_SAMPLES,
    batch_size: int = 32,
    seed: int = 1,
) -> Likelihood:
    """Estimate the likelihood of a target for each source.

    Args:
        translator: A model with latents, with its tokenizer.
        sources: Sentences.
        targets: Ids of the tokens of each target, without the end token.
        samples: Samples of the posterior for each sentence.
        batch_size: Sentences at once; it changes nothing but rounding.
        seed: This and the sentence's number decide its samples.

    Raises:
        ValueError: If the model has no latents, `samples` is less than 1, or there is not one
            target for each source.
    """
    check_likelihood(translator, samples)
    if len(sources) != len(targets):
        raise ValueError(
            f"There must be one target for each source, but there are {len(targets)} and "
            f"{len(sources)}."
        )
    source_ids: Any = translator.tokenizer(list(sources), verbose=False)["input_ids"]
    end = translator.model.config.eos_token_id
    pairs = [(ids, [*target, end]) for ids, target in zip(source_ids, targets, strict=True)]
    todo = [i for i, pair in enumerate(pairs) if _can_write(translator, *pair)]
    found: dict[int, tuple[float, float]] = {}
    order = sorted(todo, key=lambda i: len(pairs[i][0]), reverse=True)
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        weights = log_weights(
            translator.model,
            _padded([pairs[i][0] for i in batch], translator),
            _padded([pairs[i][1] for i in batch], translator),
            [line_generators(seed + POSTERIOR_NOISE, 1, first=i)[0] for i in batch],
            samples,
        )
        marginals = weights.logsumexp(0) - math.log(samples)
        values = zip(weights.mean(0).tolist(), marginals.tolist(), strict=True)
        found.update(zip(batch, values, strict=True))
    return Likelihood(
        elbo=[found[i][0] for i in todo],
        marginal=[found[i][1] for i in todo],
        tokens=[len(pairs[i][1]) for i in todo],
        left_out=len(pairs) - len(todo),
    )


def check_likelihood(translator: Translator, samples: int) -> None:
    """Check that there is a likelihood to estimate.

    Raises:
        ValueError: If the model has no latents, or `samples` is less than 1.
    """
    if not hasattr(translator.model, "infer_posterior"):
        raise ValueError(
            f"A likelihood is estimated from samples of latents, but a model of the family "
            f"{translator.model.config.model_type} has none. Take a model such as LaNMT."
        )
    if samples < 1:
        raise ValueError(f"`samples` of a likelihood must be at least 1, got {samples}.")


@torch.inference_mode()
def log_weights(
    network: Any,
    sources: Tensor,
    targets: Tensor,
    generators: Sequence[torch.Generator],
    samples: int,
) -> Tensor:
    """Return log p(y, length, z|x) - log q(z|x, y) at samples of the posterior.

    Args:
        network: A LaNMT in evaluation mode.
        sources: Ids with the end token, then padding, `[batch, source_len]`.
        targets: Ids with the end token, then padding, `[batch, target_len]`.
        generators: One for each sentence.
        samples: How many there are for each sentence.

    Returns:
        Float64, `[samples, batch]`.
    """
    target_mask = targets != network.pad_token_id
    lengths = target_mask.sum(-1)
    source = network.encode(sources, sources != network.pad_token_id, target_lengths=lengths)
    prior = network.infer_prior(source)
    posterior = network.infer_posterior(targets, target_mask, source)
    latent_mask = network.latent_mask(target_mask, source)
    noise = _noise(generators, samples, latent_mask, posterior.mean)
    classes = network.length_predictor.target_class(source.lengths, lengths)
    rows = []
    for sample in noise:
        latent = posterior.mean + posterior.std * sample
        ratio = _log_density(prior, latent) - _log_density(posterior, latent)
        words = _log_probs(network.decode(latent, lengths, source), targets)
        length = _log_probs(_length_logits(network, latent, source), classes)
        of_latents = ratio.masked_fill(~latent_mask, 0.0).sum(-1)
        rows.append(words.masked_fill(~target_mask, 0.0).sum(-1) + length + of_latents)
    return torch.stack(rows).cpu()


def _length_logits(network: Any, latent: Tensor, source: Any) -> Tensor:
    """Return logits over length offsets, given latents where these have source length."""
    hidden = source.states
    if not network.has_target_latents:
        hidden = hidden + network.latent_projection(latent)
    logits: Tensor = network.length_predictor(hidden, source.mask)
    return logits


def _log_probs(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return natural-log probabilities in float64, in the shape of `chosen`."""
    values = logits.float()
    picked: Tensor = values.gather(-1, chosen[..., None])[..., 0].double()
    return picked - values.logsumexp(-1).double()


def _log_density(gaussian: Any, latent: Tensor) -> Tensor:
    """Return the log density at latents, up to a constant, float64, `[batch, latent_len]`."""
    mean, std = gaussian.mean.double(), gaussian.std.double()
    distance = (latent.double() - mean) / std
    density: Tensor = (-distance.square() / 2 - std.log()).sum(-1)
    return density


def _noise(
    generators: Sequence[torch.Generator], samples: int, latent_mask: Tensor, like: Tensor
) -> Tensor:
    """Return noise of each sentence from its own generator, 0 on padding.

    Returns:
        `[samples, batch, latent_len, latent_dim]`, with the device and dtype of `like`.
    """
    noise = torch.zeros(samples, *like.shape)
    for row, (generator, length) in enumerate(
        zip(generators, latent_mask.sum(-1).tolist(), strict=True)
    ):
        shape = (samples, length, like.shape[-1])
        noise[:, row, :length] = torch.randn(shape, generator=generator)
    return noise.to(like)


def _can_write(translator: Translator, source: Sequence[int], target: Sequence[int]) -> bool:
    """Return whether a model gives a target, ids with the end token, a probability at all."""
    network: Any = translator.model
    config = network.config
    names = ("pad", "bos", "eos", "unk", "mask")
    specials = {getattr(config, f"{name}_token_id") for name in names}
    return (
        len(target) <= config.max_target_length
        and len(source) <= config.max_position_embeddings
        and abs(len(target) - len(source)) <= network.length_predictor.max_offset
        and not specials & set(target[:-1])
    )


def _padded(rows: Sequence[Sequence[int]], translator: Translator) -> Tensor:
    pad = translator.model.config.pad_token_id
    tensors = [torch.tensor(ids) for ids in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=pad).to(translator.model.device)
