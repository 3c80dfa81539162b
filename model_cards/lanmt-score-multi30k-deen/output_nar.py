"""What `forward` of every network returns, and how hidden states get into it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor
from transformers.utils.generic import ModelOutput

from .layers_nar import StackRecord


@dataclass
class NAROutput(ModelOutput):
    """What `forward` of every network returns; a family adds its own terms.

    States are those of the pass that made the logits. All but the encoder's last are there only
    where `output_hidden_states` or `output_attentions`, of the call or the config, asked for them.

    Args:
        loss: In nats for each target token, scalar; only where labels were given.
        logits: `[batch, target_len, vocab]`.
        decoder_hidden_states: What each layer of the decoder reads, then what the output layer
            reads, each `[batch, target_len, d_model]`.
        decoder_attentions: Weights of each self-attention of the decoder, `[batch, heads,
            target_len, target_len]`.
        cross_attentions: Weights of each attention of the decoder to the source, `[batch, heads,
            target_len, source_len]`.
        encoder_last_hidden_state: The source's states, `[batch, source_len, d_model]`.
        encoder_hidden_states: What each layer of the encoder reads, then the source's states, each
            `[batch, source_len, d_model]`.
        encoder_attentions: Weights of each attention of the encoder, `[batch, heads, source_len,
            source_len]`.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """Return what is not None, in the order of the fields: a loss, then logits, come first."""
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(value for value in values if value is not None)


@dataclass(frozen=True)
class ForwardRecord:
    """What a call of `forward` was asked to write down.

    Args:
        hidden_states: Whether hidden states go into the output.
        attentions: Whether attention weights do.
        encoder: What the encoder's layers compute.
        decoder: What the decoder's layers compute.
        vision: What the layers of a vision encoder compute.
    """

    hidden_states: bool
    attentions: bool
    encoder: StackRecord
    decoder: StackRecord
    vision: list[Tensor] = field(default_factory=list)

    @classmethod
    def asked(cls, hidden_states: bool, attentions: bool) -> ForwardRecord | None:
        """Return an empty record, or None where nothing is asked for."""
        if not (hidden_states or attentions):
            return None
        return cls(hidden_states, attentions, StackRecord(attentions), StackRecord(attentions))

    def fill(self, output: NAROutput) -> None:
        """Put what was asked for into an output."""
        if self.hidden_states:
            output.encoder_hidden_states = tuple(self.encoder.hidden_states)
            output.decoder_hidden_states = tuple(self.decoder.hidden_states)
        if self.attentions:
            output.encoder_attentions = tuple(self.encoder.attentions)
            output.decoder_attentions = tuple(self.decoder.attentions)
            output.cross_attentions = tuple(self.decoder.cross_attentions)
