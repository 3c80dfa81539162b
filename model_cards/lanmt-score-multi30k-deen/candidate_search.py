"""Several candidates for each sentence, of which the best is kept (Gu et al. 2018, section 3.5).

Noisy parallel decoding: all candidates are refined at once, as rows of one batch. Here they differ
in their length (a length beam) or start at other latents (latent search, Shu et al. 2020, section
5.4), and are ranked by the network's own scores or by an autoregressive teacher, which needs one
pass over all that differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from .refinement_state import Gaussian, RefinementState, take_rows


class LengthNetwork(Protocol):
    """All that a length beam asks of a network; `source` is what its `encode` gave."""

    def likely_lengths(self, source: Any, count: int) -> Tensor:
        """Return the most likely target lengths, best first, `[batch, count]`."""


class PriorNetwork(Protocol):
    """All that latent search asks of a network; `source` is what its `encode` gave."""

    def infer_prior(self, source: Any) -> Gaussian:
        """Return p(z|x)."""

    def latent_lengths(self, source: Any) -> Tensor:
        """Return how many latents each row has, `[batch]`."""


def spread_over_lengths(network: LengthNetwork, source: Any, count: int) -> Any:
    """Return a source in which each row stands `count` times, each time with another length.

    Args:
        network: Says which lengths are likely.
        source: What its `encode` gave, for `batch` rows.
        count: Lengths of each row.

    Returns:
        The same for `batch * count` rows; those of one sentence are neighbours.
    """
    lengths = network.likely_lengths(source, count)
    rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(count)
    return dataclasses.replace(take_rows(source, rows), target_lengths=lengths.flatten())


def spread_over_latents(
    network: PriorNetwork,
    source: Any,
    count: int,
    temperature: float,
    generator: torch.Generator | Sequence[torch.Generator] | None,
) -> tuple[Any, Tensor]:
    """Return a source in which each row stands `count` times, and a latent for each to start at.

    Args:
        network: Gives the prior.
        source: What its `encode` gave, for `batch` rows, those of one sentence neighbours.
        count: Latents of each row: the prior mean, then samples around it.
        temperature: Factor of the prior's standard deviation.
        generator: Where noise comes from; or one for each sentence, so that a sentence has the same
            noise whatever its batch.

    Returns:
        The source for `batch * count` rows, and latents `[batch * count, latent_len, latent_dim]`.
    """
    prior = network.infer_prior(source)
    shape = (len(prior.mean), count, *prior.mean.shape[1:])
    if generator is None or isinstance(generator, torch.Generator):
        noise = _noise(shape, generator, prior.mean)
    else:
        noise = _noise_of_sentences(shape, generator, network.latent_lengths(source), prior.mean)
    noise[:, 0] = 0  # the mean itself is always among them
    latent = prior.mean[:, None] + temperature * prior.std[:, None] * noise
    rows = torch.arange(len(prior.mean), device=latent.device).repeat_interleave(count)
    return take_rows(source, rows), latent.flatten(0, 1)


def _noise(shape: Sequence[int], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Return float32 noise, drawn where the generator is, with the device and dtype of `like`."""
    device = like.device if generator is None else generator.device
    return torch.randn(shape, generator=generator, device=device).to(like)


def _noise_of_sentences(
    shape: Sequence[int], generators: Sequence[torch.Generator], lengths: Tensor, like: Tensor
) -> Tensor:
    """Return noise `[batch, count, latent_len, latent_dim]`; that of padding is not drawn."""
    noise = like.new_zeros(shape)
    rows_of_each = len(noise) // len(generators)
    for row, length in enumerate(lengths.tolist()):
        generator = generators[row // rows_of_each]
        noise[row, :, :length] = _noise((shape[1], length, shape[3]), generator, like)
    return noise


def best_rows(scores: Tensor, count: int) -> Tensor:
    """Return the row with the highest score among each `count` neighbours, `[batch]`.

    Args:
        scores: `[batch * count]`.
        count: Candidates of each sentence; of equal ones the first wins.
    """
    best = scores.view(-1, count).argmax(-1)
    return torch.arange(len(best), device=scores.device) * count + best


@torch.no_grad()
def teacher_scores(
    teacher: Any,
    state: RefinementState,
    input_ids: Tensor,
    attention_mask: Tensor,
    length_penalty: float = 1.0,
) -> Tensor:
    """Return the mean natural-log probability that a teacher gives each row's tokens.

    Candidates of one sentence that are the same are scored once.

    Args:
        teacher: An autoregressive sequence-to-sequence model of transformers with the vocabulary of
            the drafts.
        state: Drafts, the same number of neighbours for each source, `[batch * count, target_len]`.
        input_ids: Sources, `[batch, source_len]`.
        attention_mask: 1 on real source tokens, `[batch, source_len]`.
        length_penalty: Exponent of the length by which the sum is divided; 1 is the mean.

    Returns:
        `[batch * count]`.
    """
    encoded = teacher.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
    count = len(state.tokens) // len(input_ids)
    rows = torch.arange(len(input_ids), device=input_ids.device).repeat_interleave(count)
    different, which = torch.cat([rows[:, None], state.tokens], dim=1).unique(
        dim=0, return_inverse=True
    )
    rows, tokens = different[:, 0], different[:, 1:]
    start = torch.full_like(tokens[:, :1], teacher.config.decoder_start_token_id)
    logits = teacher(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded.last_hidden_state[rows]),
        attention_mask=attention_mask[rows],
        decoder_input_ids=torch.cat([start, tokens[:, :-1]], dim=1),
        use_cache=False,
    ).logits
    log_probs: Tensor = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    of_each = log_probs[which].masked_fill(~state.target_mask, 0.0)
    return of_each.sum(-1) / state.lengths**length_penalty


def check_teacher(teacher: Any, own: Any, source: str) -> None:
    """Check that a teacher can judge a network's drafts.

    Args:
        teacher: What the caller gave.
        own: The network's config.
        source: The form in which the source is given.

    Raises:
        ValueError: If it is missing, is no autoregressive model in evaluation mode, has another
            vocabulary, or the source is not text.
    """
    if teacher is None:
        raise ValueError(
            "`rank_by` is teacher, so `generate` needs the model itself as `rescoring_model=`; got "
            "None."
        )
    if source != "input_ids":
        raise ValueError(f"A teacher ranks translations of text, but the source is `{source}`.")
    config = getattr(teacher, "config", None)
    if getattr(config, "decoder_start_token_id", None) is None or teacher.training:
        raise ValueError(
            f"`rescoring_model` must be an autoregressive sequence-to-sequence model of "
            f"transformers, in evaluation mode; got {type(teacher).__name__}. Load one, and call "
            f"eval()."
        )
    for name in ("vocab_size", "pad_token_id", "eos_token_id"):
        if getattr(config, name, None) != getattr(own, name):
            raise ValueError(
                f"`rescoring_model` must have the network's own vocabulary, but its `{name}` is "
                f"{getattr(config, name, None)} and not {getattr(own, name)}. Give another one."
            )
