"""Several candidates for each sentence, of which the best is kept (Gu et al. 2018, section 3.5).

Noisy parallel decoding: all candidates are refined at once, as rows of one batch. Here they differ
in their length (a length beam), and are ranked by the network's own scores or by an autoregressive
teacher, which needs one pass over all of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutput

from .refinement_state import RefinementState, take_rows


class LengthNetwork(Protocol):
    """All that a length beam asks of a network; `source` is what its `encode` gave."""

    def likely_lengths(self, source: Any, count: int) -> Tensor:
        """Return the most likely target lengths, best first, `[batch, count]`."""


def spread_over_lengths(network: LengthNetwork, source: Any, count: int) -> Any:
    """Return a source in which each row stands `count` times, each time with another length.

    Args:
        network: Says which lengths are likely.
        source: What its `encode` gave, for `batch` rows.
        count: Lengths of each row.

    Returns:
        The same for `batch * count` rows; those of one sentence are neighbours.

    Raises:
        ValueError: If the lengths are known already.
    """
    if source.target_lengths is not None:
        raise ValueError(
            "`length_beam` must be 1 where `target_lengths` are given, as there is nothing to "
            "choose from. Leave one of them out."
        )
    lengths = network.likely_lengths(source, count)
    rows = torch.arange(len(lengths), device=lengths.device).repeat_interleave(count)
    return dataclasses.replace(take_rows(source, rows), target_lengths=lengths.flatten())


def own_scores(state: RefinementState) -> Tensor:
    """Return the mean natural-log probability of each row's words, `[batch]`.

    The end token does not count: its place is known, and a short row would gain most by it. A row
    without words loses against every other.
    """
    means = state.scores.sum(-1) / (state.lengths - 1).clamp(min=1)
    return means.masked_fill(state.lengths == 1, -torch.inf)


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
) -> Tensor:
    """Return the mean natural-log probability that a teacher gives each row's tokens.

    Args:
        teacher: An autoregressive sequence-to-sequence model of transformers with the vocabulary of
            the drafts.
        state: Drafts, the same number of neighbours for each source, `[batch * count, target_len]`.
        input_ids: Sources, `[batch, source_len]`.
        attention_mask: 1 on real source tokens, `[batch, source_len]`.

    Returns:
        `[batch * count]`.
    """
    encoded = teacher.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
    count = len(state.tokens) // len(input_ids)
    rows = torch.arange(len(input_ids), device=input_ids.device).repeat_interleave(count)
    start = torch.full_like(state.tokens[:, :1], teacher.config.decoder_start_token_id)
    logits = teacher(
        encoder_outputs=BaseModelOutput(last_hidden_state=encoded.last_hidden_state[rows]),
        attention_mask=attention_mask[rows],
        decoder_input_ids=torch.cat([start, state.tokens[:, :-1]], dim=1),
        use_cache=False,
    ).logits
    log_probs: Tensor = logits.float().log_softmax(-1).gather(-1, state.tokens[..., None])[..., 0]
    return log_probs.masked_fill(~state.target_mask, 0.0).sum(-1) / state.lengths


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
            "`rank_by` is teacher, so `generate` needs the model itself as `teacher=`; got None."
        )
    if source != "input_ids":
        raise ValueError(f"A teacher ranks translations of text, but the source is `{source}`.")
    config = getattr(teacher, "config", None)
    if getattr(config, "decoder_start_token_id", None) is None or teacher.training:
        raise ValueError(
            f"`teacher` must be an autoregressive sequence-to-sequence model of transformers, in "
            f"evaluation mode; got {type(teacher).__name__}. Load one, and call eval()."
        )
    for name in ("vocab_size", "pad_token_id", "eos_token_id"):
        if getattr(config, name, None) != getattr(own, name):
            raise ValueError(
                f"`teacher` must be a model with the network's own vocabulary, but `{name}` is "
                f"{getattr(config, name, None)} and not {getattr(own, name)}. Give another one."
            )
