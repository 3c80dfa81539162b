"""Network shape of LaNMT."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

SIZES = (
    "vocab_size",
    "d_model",
    "d_ff",
    "num_attention_heads",
    "num_prior_layers",
    "num_target_layers",
    "num_posterior_layers",
    "num_decoder_layers",
    "latent_dim",
    "max_position_embeddings",
    "max_target_length",
    "max_length_offset",
)
SHARES = (
    "dropout",
    "activation_dropout",
    "attention_dropout",
    "label_smoothing",
    "posterior_noise",
)
RATES = (*SHARES, "length_transform_std", "std_floor", "kl_budget", "init_std")


@strict
class LaNMTConfig(PreTrainedConfig):
    """Network shape and training objective of LaNMT (Shu et al. 2020, arXiv:1908.07181).

    The defaults are those of the paper's WMT'14 model, except that source and target share one
    vocabulary, whose embeddings are shared with the output layer.

    Args:
        vocab_size: Number of subwords of the joint vocabulary, special tokens included.
        d_model: Width of every hidden vector.
        d_ff: Width of the feed-forward blocks.
        num_attention_heads: Heads of each attention.
        num_prior_layers: Layers of the prior p(z|x), which is also the source encoder.
        num_target_layers: Layers that encode the target for the posterior q(z|x,y).
        num_posterior_layers: Layers of the posterior that join source and target.
        num_decoder_layers: Layers of the decoder p(y|z,x).
        latent_dim: Size of one latent vector; there is one for each source token.
        dropout: Share of hidden units dropped in training, in embeddings and sub-layer outputs.
        activation_dropout: Share of units dropped inside the feed-forward blocks.
        attention_dropout: Share of attention weights dropped in training.
        activation_function: Activation of the feed-forward blocks.
        max_position_embeddings: Longest source, in tokens with the end token.
        max_target_length: Longest target, in tokens with the end token.
        max_length_offset: Largest |target - source| length difference, in tokens, that the
            length predictor can express. It has `2 * max_length_offset + 1` classes.
        length_transform_std: Standard deviation at the start, in source positions, of the
            Gaussian that spreads source-length latents over target positions.
        std_floor: Smallest standard deviation of prior, posterior and length transform.
        kl_budget: KL divergence of one source position, in nats, under which it is not
            penalised. A training loop may pass another value to `forward`.
        label_smoothing: Probability taken from the reference token in training.
        posterior_noise: Share of the target words, at most, that the posterior is shown as others
            in training; see `replace_words`.
        share_embeddings: Whether source and target use one embedding table.
        tie_word_embeddings: Whether the output layer reuses the target embeddings.
        init_std: Standard deviation of a new embedding; 0 stands for `d_model ** -0.5`.

    Raises:
        ValueError: If a field is of the wrong type or out of its range, or two contradict each
            other.
    """

    model_type: ClassVar[str] = "lanmt"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "word_loss",
        "kl_loss",
        "kl",
        "length_loss",
        "length_logits",
        "lengths",
        "prior_mean",
        "prior_std",
        "posterior_mean",
        "posterior_std",
    ]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_prior_layers",
    }

    vocab_size: int = 32000
    d_model: int = 512
    d_ff: int = 2048
    num_attention_heads: int = 8
    num_prior_layers: int = 6
    num_target_layers: int = 6
    num_posterior_layers: int = 6
    num_decoder_layers: int = 6
    latent_dim: int = 8
    dropout: float = 0.1
    activation_dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_function: str = "relu"
    max_position_embeddings: int = 512
    max_target_length: int = 512
    max_length_offset: int = 50
    length_transform_std: float = 1.0
    std_floor: float = 1e-3
    kl_budget: float = 1.0
    label_smoothing: float = 0.1
    posterior_noise: float = 0.0
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

    def _check_types(self) -> None:
        for name in SIZES:
            if type(getattr(self, name)) is not int:
                raise ValueError(f"`{name}` must be an integer, got {getattr(self, name)!r}.")
        for name in RATES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ValueError(f"`{name}` must be a number, got {value!r}.")
            setattr(self, name, float(value))
        for name in ("share_embeddings", "tie_word_embeddings"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"`{name}` must be true or false, got {getattr(self, name)!r}.")

    def _check_sizes(self) -> None:
        for name in SIZES:
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
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"`{name}` must be in [0, 1), got {getattr(self, name)}. Use 0 for none."
                )
        for name in ("std_floor", "length_transform_std"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")
        if self.length_transform_std <= self.std_floor:
            raise ValueError(
                f"`length_transform_std` must be larger than `std_floor`; got "
                f"{self.length_transform_std} and {self.std_floor}."
            )
        for name in ("kl_budget", "init_std"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")

    def _check_token_ids(self) -> None:
        names = ("pad", "eos", "bos", "unk", "mask")
        ids = {f"{name}_token_id": getattr(self, f"{name}_token_id") for name in names}
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
