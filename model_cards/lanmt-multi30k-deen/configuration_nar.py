"""What the configs of all networks share: sizes, dropout, special tokens, and their checks."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

TOKENS = ("pad", "eos", "bos", "unk", "mask")

# What a Trainer need not gather in evaluation, in the output of every network.
RECORDED_STATES = (
    "encoder_last_hidden_state",
    "encoder_hidden_states",
    "decoder_hidden_states",
    "encoder_attentions",
    "decoder_attentions",
    "cross_attentions",
)


@strict
class NARConfig(PreTrainedConfig):
    """Fields of every network of this package; a family adds its own.

    A family names its own fields in `sizes`, `shares`, `numbers` and `switches`, and they are
    checked with these.

    Args:
        vocab_size: Number of subwords of the joint vocabulary, special tokens included.
        d_model: Width of every hidden vector.
        d_ff: Width of the feed-forward blocks.
        num_attention_heads: Heads of each attention.
        dropout: Share of hidden units dropped in training, in embeddings and sub-layer outputs.
        activation_dropout: Share of units dropped inside the feed-forward blocks.
        attention_dropout: Share of attention weights dropped in training.
        activation_function: Activation of the feed-forward blocks.
        max_position_embeddings: Longest source, in tokens with the end token.
        max_target_length: Longest target, in tokens with the end token.
        max_length_offset: Largest |target - source| length difference, in tokens, that the
            length predictor can express. It has `2 * max_length_offset + 1` classes.
        label_smoothing: Probability taken from the reference token in training.
        share_embeddings: Whether source and target use one embedding table.
        tie_word_embeddings: Whether the output layer reuses the target embeddings.
        init_std: Standard deviation of a new embedding; 0 stands for `d_model ** -0.5`.

    Raises:
        ValueError: If a field is of the wrong type or out of its range, or two contradict each
            other.
    """

    sizes: ClassVar[tuple[str, ...]] = ()
    shares: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ()
    switches: ClassVar[tuple[str, ...]] = ()

    vocab_size: int = 32000
    d_model: int = 512
    d_ff: int = 2048
    num_attention_heads: int = 8
    dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_function: str = "relu"
    max_position_embeddings: int = 512
    max_target_length: int = 512
    max_length_offset: int = 50
    label_smoothing: float = 0.1
    share_embeddings: bool = True
    tie_word_embeddings: bool = True
    init_std: float = 0.0
    is_encoder_decoder: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 1
    eos_token_id: int | None = 2
    unk_token_id: int | None = 3
    mask_token_id: int | None = 4

    def __post_init__(self, **kwargs: Any) -> None:
        self._check_types()
        self._check_sizes()
        self._check_ranges()
        self._check_token_ids()
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]  # has no types

    def _all_sizes(self) -> tuple[str, ...]:
        mine = ("vocab_size", "d_model", "d_ff", "num_attention_heads")
        limits = ("max_position_embeddings", "max_target_length", "max_length_offset")
        return (*mine, *self.sizes, *limits)

    def _all_shares(self) -> tuple[str, ...]:
        dropouts = ("dropout", "activation_dropout", "attention_dropout")
        return (*dropouts, "label_smoothing", *self.shares)

    def _check_types(self) -> None:
        for name in self._all_sizes():
            if type(getattr(self, name)) is not int:
                raise ValueError(f"`{name}` must be an integer, got {getattr(self, name)!r}.")
        for name in (*self._all_shares(), "init_std", *self.numbers):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`{name}` must be a number, got {value!r}.")
            setattr(self, name, float(value))
        for name in ("share_embeddings", "tie_word_embeddings", *self.switches):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be true or false, got {getattr(self, name)!r}.")

    def _check_sizes(self) -> None:
        for name in self._all_sizes():
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.d_model % self.num_attention_heads:
            raise ValueError(
                f"`d_model` must be a multiple of `num_attention_heads`, so that all heads have "
                f"the same width; got {self.d_model} and {self.num_attention_heads}."
            )
        if self.d_model % 2:
            raise ValueError(
                f"`d_model` must be even, as positions are pairs of a sine and a cosine; "
                f"got {self.d_model}."
            )

    def _check_ranges(self) -> None:
        if self.activation_function not in ACT2FN:
            raise ValueError(
                f"`activation_function` must be one of {', '.join(sorted(ACT2FN))}; got "
                f"{self.activation_function!r}."
            )
        for name in self._all_shares():
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be in [0, 1), got {getattr(self, name)}. Use 0 for none."
                )
        if self.init_std < 0:
            raise ValueError(f"`init_std` must not be negative, got {self.init_std}.")

    def _check_token_ids(self) -> None:
        ids = {f"{name}_token_id": getattr(self, f"{name}_token_id") for name in TOKENS}
        for name in ("pad_token_id", "eos_token_id"):
            if ids[name] is None:
                raise ValueError(f"`{name}` must be set: lengths and masks are defined by it.")
        for name, value in ids.items():
            if value is not None and not 0 <= value < self.vocab_size:
                raise ValueError(
                    f"`{name}` must be in [0, `vocab_size`={self.vocab_size}), got {value}. "
                    f"Take it from the tokenizer."
                )
        if self.pad_token_id == self.eos_token_id:
            raise ValueError(
                f"`pad_token_id` and `eos_token_id` must differ, as padding is masked and the "
                f"end token is predicted; both are {self.pad_token_id}."
            )
