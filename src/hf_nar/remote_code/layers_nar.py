"""Attention and feed-forward blocks without a causal mask (Vaswani et al. 2017, pre-norm)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

KeysAndValues = tuple[Tensor, Tensor]

MATRIX_ATTENTION = ("eager", "sdpa")  # attend by plain matrix products, or as if


@dataclass(frozen=True)
class StackRecord:
    """What a stack's layers compute, written down for a call that asks for it.

    Args:
        with_attentions: Whether attention weights are kept, too.
        hidden_states: What each layer reads, then what the stack returns, each `[batch, length,
            d_model]`.
        attentions: Weights of each self-attention, `[batch, heads, length, length]`.
        cross_attentions: Weights of each attention to a memory, `[batch, heads, length,
            memory_len]`.
    """

    with_attentions: bool = False
    hidden_states: list[Tensor] = field(default_factory=list)
    attentions: list[Tensor] = field(default_factory=list)
    cross_attentions: list[Tensor] = field(default_factory=list)

    def add(self, hidden: Tensor, *weights: Tensor | None) -> None:
        """Add what a layer reads, and the weights of its self- and cross-attention."""
        self.hidden_states.append(hidden)
        for kept, new in zip((self.attentions, self.cross_attentions), weights, strict=False):
            if new is not None:
                kept.append(new)


def sinusoidal_positions(length: int, d_model: int, like: Tensor) -> Tensor:
    """Return position vectors, `[length, d_model]` (Vaswani et al. 2017, section 3.5).

    They are computed where they are needed: a buffer that is not saved would be lost at load.

    Args:
        length: Number of positions, from 0.
        d_model: Width, even.
        like: Tensor whose device and dtype are used.
    """
    positions = torch.arange(length, device=like.device, dtype=torch.float32)
    dimensions = torch.arange(0, d_model, 2, device=like.device, dtype=torch.float32)
    angles = positions[:, None] * torch.exp(dimensions * (-math.log(10000.0) / d_model))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).to(like.dtype)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Attend with plain matrix products; differentiable twice.

    Args:
        module: The attention, for its training flag.
        query: `[batch, heads, query_len, head_dim]`.
        key: `[batch, heads, key_len, head_dim]`.
        value: `[batch, heads, key_len, head_dim]`.
        attention_mask: Added to the scores; or boolean, False where nothing is seen; `[batch, 1,
            query_len, key_len]`.
        scaling: Factor of the scores.
        dropout: Share of weights dropped in training.

    Returns:
        Output `[batch, query_len, heads, head_dim]` and weights `[batch, heads, query_len,
        key_len]`.
    """
    scores = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    elif attention_mask is not None:
        scores = scores + attention_mask
    precision = torch.promote_types(query.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=precision).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def hide_padding(
    config: Any, queries: Tensor, mask: Tensor, memory: Tensor | None = None, *, may_look: bool
) -> Any:
    """Return a mask of what is real as the attention implementation wants it.

    Args:
        config: Says which implementation was chosen.
        queries: What attends, `[batch, query_len, size]`.
        mask: True on real positions of what is attended to, `[batch, key_len]`.
        memory: What is attended to, `[batch, key_len, d_model]`; None for the queries themselves.
        may_look: Whether to look if the mask hides anything, and return None if not. Attention is
            faster without a mask, but the host waits for the device to know.
    """
    if may_look or config._attn_implementation not in MATRIX_ATTENTION:
        return create_bidirectional_mask(config, queries, mask, memory)
    return mask.to(queries.device)[:, None, None].expand(-1, -1, queries.shape[1], -1)


def split_heads(projected: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """Cut `[batch, length, parts * d_model]` into `parts` of `[batch, heads, length, head_dim]`."""
    batch, length, width = projected.shape
    shape = (batch, length, parts, num_heads, width // (parts * num_heads))
    return projected.view(shape).permute(2, 0, 3, 1, 4).unbind(0)


def attend(
    module: Any, heads: tuple[Tensor, Tensor, Tensor], mask: Tensor | None, with_weights: bool
) -> tuple[Tensor, Tensor | None]:
    """Attend with the implementation that the model was loaded with.

    Args:
        module: An attention of this file.
        heads: Query, key and value, each `[batch, heads, length, head_dim]`.
        mask: As the implementation wants it; None where nothing is hidden.
        with_weights: Whether the weights are returned; fused attention has none, so plain matrix
            products then take its place.

    Returns:
        `[batch, query_len, d_model]`, and weights `[batch, heads, query_len, key_len]` if asked.
    """
    implementation = module.config._attn_implementation
    function = eager_attention
    if implementation != "eager" and not with_weights:
        function = ALL_ATTENTION_FUNCTIONS[implementation]
    dropout = module.dropout if module.training else 0.0
    output, weights = function(module, *heads, mask, dropout=dropout, scaling=module.scaling)
    merged = output.reshape(len(output), heads[0].shape[2], -1)
    return merged, weights if with_weights else None


class MemoryProjection(nn.Linear):
    """Keys and values of a memory, made outside of the layer that reads them.

    It has a name of its own for what cuts a network into parts by their class, such as FSDP.
    """


class Attention(nn.Module):
    """Multi-head attention that never looks at order.

    Args:
        config: Gives `d_model`, `num_attention_heads`, `attention_dropout` and the
            implementation that `from_pretrained(attn_implementation=...)` chose.
        is_cross: Whether keys and values come from another sequence.
    """

    is_causal = False  # without it SDPA would mask the future whenever no mask is given

    def __init__(self, config: PreTrainedConfig, is_cross: bool = False) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.scaling = (config.d_model // config.num_attention_heads) ** -0.5
        self.dropout = config.attention_dropout
        self.is_cross = is_cross
        if is_cross:
            self.q_proj = nn.Linear(config.d_model, config.d_model)
            self.kv_proj = MemoryProjection(config.d_model, 2 * config.d_model)
        else:
            self.qkv_proj = nn.Linear(config.d_model, 3 * config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def project_memory(self, memory: Tensor) -> KeysAndValues:
        """Return keys and values of `memory` `[batch, memory_len, d_model]`, once a sentence."""
        key, value = split_heads(self.kv_proj(memory), 2, self.num_heads)
        return key, value

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        memory: KeysAndValues | None = None,
        with_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from `hidden` to itself, or to `memory` in a cross-attention.

        Args:
            hidden: `[batch, length, d_model]`.
            mask: As the attention implementation wants it; None where nothing is hidden.
            memory: What `project_memory` gave.
            with_weights: See `attend`.

        Returns:
            `[batch, length, d_model]`, and the weights if asked; see `attend`.
        """
        if memory is None:
            query, key, value = split_heads(self.qkv_proj(hidden), 3, self.num_heads)
        else:
            (query,) = split_heads(self.q_proj(hidden), 1, self.num_heads)
            key, value = memory
        attended, weights = attend(self, (query, key, value), mask, with_weights)
        return self.out_proj(attended), weights


class PositionalAttention(nn.Module):
    """Attention whose weights depend on positions alone (Gu et al. 2018, section 3.1).

    Queries and keys are the position vectors, values the hidden states: a head can read, say, the
    state to the left. Its arguments are those of `Attention`.
    """

    is_causal = False

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.config = config
        self.num_heads = config.num_attention_heads
        self.scaling = (config.d_model // config.num_attention_heads) ** -0.5
        self.dropout = config.attention_dropout
        self.position_proj = nn.Linear(config.d_model, 2 * config.d_model)
        self.value_proj = nn.Linear(config.d_model, config.d_model)
        self.out_proj = nn.Linear(config.d_model, config.d_model)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """Map `[batch, length, d_model]` to the same shape; `mask` as in `Attention`."""
        positions = sinusoidal_positions(hidden.shape[1], hidden.shape[2], like=hidden)
        pairs = split_heads(self.position_proj(positions)[None], 2, self.num_heads)
        query, key = (part.expand(len(hidden), -1, -1, -1) for part in pairs)
        (value,) = split_heads(self.value_proj(hidden), 1, self.num_heads)
        attended, _ = attend(self, (query, key, value), mask, with_weights=False)
        projected: Tensor = self.out_proj(attended)
        return projected


class FeedForward(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.d_model, config.d_ff)
        self.activation = ACT2FN[config.activation_function]
        self.fc2 = nn.Linear(config.d_ff, config.d_model)
        self.dropout = nn.Dropout(config.activation_dropout)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map `[batch, length, d_model]` to the same shape."""
        output: Tensor = self.fc2(self.dropout(self.activation(self.fc1(hidden))))
        return output


class AttentionLayer(GradientCheckpointingLayer):
    """Blocks with layer norm before and a residual around: self-attention, others, feed-forward.

    Args:
        config: Shape of the blocks.
        is_cross: Whether there is attention to a memory, with weights of its own.
        is_positional: Whether there is a positional attention after the self-attention.
        is_highway: Whether a gate with a feed-forward block of its own weighs the residual against
            the feed-forward block (Lee et al. 2018, after Srivastava et al. 2015).
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        is_cross: bool = False,
        is_positional: bool = False,
        is_highway: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(config.d_model)
        self.self_attn = Attention(config)
        self.is_positional = is_positional
        if is_positional:
            self.positional_attn_norm = nn.LayerNorm(config.d_model)
            self.positional_attn = PositionalAttention(config)
        if is_cross:
            self.cross_attn_norm = nn.LayerNorm(config.d_model)
            self.cross_attn = Attention(config, is_cross=True)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config)
        self.gate = FeedForward(config) if is_highway else None
        self.dropout = nn.Dropout(config.dropout)

    def _attend_within(
        self, hidden: Tensor, mask: Tensor | None, with_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Run the self-attention, and the positional one if there is one."""
        normed = self.self_attn_norm(hidden)
        attended, weights = self.self_attn(normed, mask, with_weights=with_weights)
        hidden = hidden + self.dropout(attended)
        if self.is_positional:
            moved = self.positional_attn(self.positional_attn_norm(hidden), mask)
            hidden = hidden + self.dropout(moved)
        return hidden, weights

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        normed = self.feed_forward_norm(hidden)
        changed: Tensor = self.dropout(self.feed_forward(normed))
        if self.gate is None:
            return hidden + changed
        kept = self.gate(normed).sigmoid()
        mixed: Tensor = kept * hidden + (1 - kept) * changed
        return mixed


class EncoderLayer(AttentionLayer):
    """Self-attention and feed-forward, each with layer norm before and a residual around."""

    def forward(
        self, hidden: Tensor, mask: Tensor | None, with_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Map `[batch, length, d_model]` to the same shape; also return weights, see `attend`."""
        hidden, weights = self._attend_within(hidden, mask, with_weights)
        return self._feed_forward(hidden), weights


class CrossLayer(AttentionLayer):
    """Self-attention, attention to a memory with weights of its own, and feed-forward."""

    def __init__(
        self, config: PreTrainedConfig, is_positional: bool = False, is_highway: bool = False
    ) -> None:
        super().__init__(config, True, is_positional, is_highway)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        memory_key: Tensor,
        memory_value: Tensor,
        memory_mask: Tensor | None,
        with_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Map `[batch, length, d_model]` to the same shape; also return weights, see `attend`.

        Keys and values are arguments of their own: checkpointing finds no gradients in a tuple.
        """
        hidden, weights = self._attend_within(hidden, mask, with_weights)
        memory, normed = (memory_key, memory_value), self.cross_attn_norm(hidden)
        attended, cross_weights = self.cross_attn(normed, memory_mask, memory, with_weights)
        return self._feed_forward(hidden + self.dropout(attended)), weights, cross_weights


class Encoder(nn.Module):
    """A stack of `EncoderLayer` with a final layer norm.

    Args:
        config: Shape of the layers.
        num_layers: How many.
        is_highway: See `AttentionLayer`.
    """

    def __init__(self, config: PreTrainedConfig, num_layers: int, is_highway: bool = False) -> None:
        super().__init__()
        layers = (EncoderLayer(config, is_highway=is_highway) for _ in range(num_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(config.d_model)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, record: StackRecord | None = None
    ) -> Tensor:
        """Map `[batch, length, d_model]` to the same shape; a record takes what layers compute."""
        for layer in self.layers:
            hidden = self._run(layer, hidden, mask, record)
        normed: Tensor = self.norm(hidden)
        if record is not None:
            record.add(normed)
        return normed

    def states_of_layers(
        self, hidden: Tensor, mask: Tensor | None, record: StackRecord | None = None
    ) -> list[Tensor]:
        """Return the states after each layer, normed; the last are what `forward` returns."""
        states = []
        for layer in self.layers:
            hidden = self._run(layer, hidden, mask, record)
            states.append(self.norm(hidden))
        if record is not None:
            record.add(states[-1])
        return states

    def _run(
        self, layer: nn.Module, hidden: Tensor, mask: Tensor | None, record: StackRecord | None
    ) -> Tensor:
        """Run one layer; return its states `[batch, length, d_model]`."""
        if record is None:
            states, _ = layer(hidden, mask)
        else:
            states, weights = layer(hidden, mask, record.with_attentions)
            record.add(hidden, weights)
        return cast("Tensor", states)


class CrossEncoder(nn.Module):
    """A stack of `CrossLayer` with a final layer norm.

    Args:
        config: Shape of the layers.
        num_layers: How many.
        skip_connect: Whether the stack's input is added after every layer, and the sum divided
            by the square root of 2.
        **options: `is_positional` and `is_highway` of `AttentionLayer`.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        num_layers: int,
        skip_connect: bool = False,
        **options: bool,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossLayer(config, **options) for _ in range(num_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.skip_connect = skip_connect

    def project_memory(self, memory: Tensor | Sequence[Tensor]) -> tuple[KeysAndValues, ...]:
        """Return each layer's keys and values.

        Args:
            memory: `[batch, memory_len, d_model]`; or several, evenly shared out to the layers, the
                last one to the last layer: as many as layers give each its own.
        """
        memories = [memory] if isinstance(memory, Tensor) else memory
        num_layers = len(self.layers)
        shares = ((i + 1) * len(memories) // num_layers for i in range(num_layers))
        chosen = [memories[max(0, share - 1)] for share in shares]
        attentions: list[Any] = [layer.cross_attn for layer in self.layers]
        pairs = zip(attentions, chosen, strict=True)
        return tuple(attention.project_memory(states) for attention, states in pairs)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        memory: tuple[KeysAndValues, ...],
        memory_mask: Tensor | None,
        record: StackRecord | None = None,
    ) -> Tensor:
        """Map `[batch, length, d_model]` to the same shape, reading what `project_memory` gave.

        A record takes what the layers compute.
        """
        first = hidden
        with_weights = record is not None and record.with_attentions
        for layer, (key, value) in zip(self.layers, memory, strict=True):
            read = hidden
            hidden, *weights = layer(read, mask, key, value, memory_mask, with_weights)
            if record is not None:
                record.add(read, *weights)
            if self.skip_connect:
                hidden = (first + hidden) * math.sqrt(0.5)
        normed: Tensor = self.norm(hidden)
        if record is not None:
            record.add(normed)
        return normed
