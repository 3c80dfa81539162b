"""Network shape and training objective of refinement in token space."""

from __future__ import annotations

from dataclasses import field
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_nar import RECORDED_STATES, NARConfig
from .corruption_nar import check_weights

CHOICES = {
    "cross_attention": ("layer_to_layer", "last"),
    "feed_forward": ("residual", "highway"),
    "first_input": ("copy", "soft_copy", "mean"),
    "next_input": ("both", "tokens", "states"),
}

# The authors' models (their code and section 5); what is not named is the default. Their schedule
# of corruption "from 0.9 to 0.1" comes to these rates.
_AUTHORS: dict[str, Any] = {
    "feed_forward": "highway",
    "share_embeddings": False,
    "activation_dropout": 0.0,
    "label_smoothing": 0.0,
    "max_length_offset": 20,
    "corruption_rates": [0.633, 0.367, 0.1],
}
PRESETS: dict[str, dict[str, Any]] = {
    "iwslt16": {
        **_AUTHORS,
        "d_model": 278,
        "d_ff": 507,
        "num_attention_heads": 2,
        "num_encoder_layers": 5,
        "num_decoder_layers": 5,
    },
    "wmt": {
        **_AUTHORS,
        "d_model": 512,
        "d_ff": 512,
        "num_attention_heads": 8,
        "num_encoder_layers": 6,
        "num_decoder_layers": 6,
    },
    "coco": {
        **_AUTHORS,
        "d_model": 512,
        "d_ff": 512,
        "num_attention_heads": 8,
        "num_encoder_layers": 4,
        "num_decoder_layers": 4,
        "first_input": "mean",
        "dropout": 0.5,
        "attention_dropout": 0.5,
        "feature_size": 512,
    },
}


@strict
class RefinementNARConfig(NARConfig):
    """Network and objective of iterative refinement (Lee et al. 2018, arXiv:1802.06901).

    The authors' sizes are in `PRESETS`; see `preset`. Fields that are not listed here are those of
    `NARConfig`. A network reads text, or images where `feature_size` or `vision_config` is set; for
    images `max_position_embeddings` counts positions of the picture, and the length predictor
    gives the target length itself, from 0 to `2 * max_length_offset`.

    Args:
        num_encoder_layers: Layers of the source encoder.
        num_decoder_layers: Layers of each decoder.
        num_decoders: 1: one for all passes; 2: one for the first pass, one for all others; more:
            each pass its own, the last one for all that follow.
        cross_attention: "layer_to_layer": decoder layer l reads encoder layer l; "last": all read
            the last one.
        feed_forward: "residual", or "highway": a gate weighs block against residual.
        first_input: What the first pass starts from: "copy" of source embeddings, evenly (what
            dropout left of them, where the authors copy before it);
            "soft_copy", a learnt Gaussian mean of them; or their "mean" everywhere, for images.
        next_input: What the other passes start from: embeddings of the draft plus the last states
            ("both"), or one of these, "tokens" or "states".
        soft_copy_std: Standard deviation of the soft copy at the start, in source positions.
        num_training_passes: Passes that are trained; decoding may run more. At least
            `num_decoders`.
        denoising_share: Share of sentences, in each pass after the first, whose draft is replaced
            by the corrupted reference: 1 - alpha of the paper. The paper uses 0.5.
        sample_drafts: Whether drafts are sampled in training, not the most likely tokens.
        stop_gradient: Whether a pass is trained without regard to the next one. The authors' code
            lets gradients flow through the states.
        corruption_rates: Share of the words that are corrupted: one for all passes, or one for
            the draft of each pass but the last.
        corruption_weights: How often each operation of `corrupt` is drawn, by name.
        feature_size: Width of a picture's vectors, given as `inputs_embeds`; 0: the source is text.
            With `vision_config` the vision encoder's own width, or 0, which stands for it.
        vision_config: Config of any vision model of transformers, which turns `pixel_values` into
            vectors; None: there is none.

    Raises:
        ValueError: If a field is of the wrong type or out of its range, or two contradict each
            other.
    """

    model_type: ClassVar[str] = "refinement_nar"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "word_loss",
        "first_pass_loss",
        "last_pass_loss",
        "length_loss",
        "length_logits",
        "lengths",
        *RECORDED_STATES,
    ]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_encoder_layers",
    }
    sizes: ClassVar[tuple[str, ...]] = (
        "num_encoder_layers",
        "num_decoder_layers",
        "num_decoders",
        "num_training_passes",
    )
    numbers: ClassVar[tuple[str, ...]] = ("soft_copy_std", "denoising_share")
    switches: ClassVar[tuple[str, ...]] = ("sample_drafts", "stop_gradient")

    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    num_decoders: int = 2
    cross_attention: str = "layer_to_layer"
    feed_forward: str = "residual"
    first_input: str = "copy"
    next_input: str = "both"
    soft_copy_std: float = 0.4
    num_training_passes: int = 4
    denoising_share: float = 0.5
    sample_drafts: bool = False
    stop_gradient: bool = True
    corruption_rates: list[float] = field(default_factory=lambda: [0.1])
    corruption_weights: dict[str, float] = field(
        default_factory=lambda: {"swap": 1.0, "replace": 1.0, "repeat": 1.0}
    )
    feature_size: int = 0
    vision_config: dict[str, Any] | None = None

    @classmethod
    def preset(cls, name: str, **changes: Any) -> RefinementNARConfig:
        """Return a config of the authors' sizes: "iwslt16", "wmt" or "coco".

        Args:
            name: Which.
            **changes: Fields that differ, such as `vocab_size`.

        Raises:
            ValueError: If there is no such preset, or a field is wrong.
        """
        if name not in PRESETS:
            raise ValueError(f"A preset must be one of {', '.join(PRESETS)}; got {name!r}.")
        return cls(**{**PRESETS[name], **changes})

    @property
    def reads_images(self) -> bool:
        """Whether the source is a picture, not text."""
        return bool(self.feature_size) or self.vision_config is not None

    def _check_types(self) -> None:
        super()._check_types()
        rates = self.corruption_rates
        if not isinstance(rates, list) or not all(map(_is_number, rates)):
            raise ValueError(f"`corruption_rates` must be a list of numbers, got {rates!r}.")
        if not isinstance(self.corruption_weights, dict):
            raise ValueError(
                f"`corruption_weights` must map operations to numbers, got "
                f"{self.corruption_weights!r}."
            )
        if type(self.feature_size) is not int or self.feature_size < 0:
            raise ValueError(
                f"`feature_size` must be an integer and not negative, got {self.feature_size!r}."
            )
        if self.vision_config is not None and "model_type" not in self.vision_config:
            raise ValueError(
                "`vision_config` must name a vision model of transformers in `model_type`, such as "
                f"vit; got {self.vision_config!r}."
            )

    def _check_ranges(self) -> None:
        super()._check_ranges()
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(choices)}; got {getattr(self, name)!r}."
                )
        if not 1e-3 < self.soft_copy_std < float("inf"):
            raise ValueError(f"`soft_copy_std` must be above 0.001, got {self.soft_copy_std}.")
        if not 0 <= self.denoising_share <= 1:
            raise ValueError(f"`denoising_share` must be in [0, 1], got {self.denoising_share}.")
        self._check_passes()
        self._check_corruption()

    def _check_passes(self) -> None:
        if self.num_decoders > self.num_training_passes:
            raise ValueError(
                f"`num_decoders` must be at most `num_training_passes`, as a decoder that no pass "
                f"trains would decode with random weights; got {self.num_decoders} and "
                f"{self.num_training_passes}. Lower one or raise the other."
            )
        reads_drafts = self.next_input != "states" and self.num_training_passes > 1
        is_separate = not self.share_embeddings or self.reads_images
        if is_separate and not reads_drafts and not self.tie_word_embeddings:
            raise ValueError(
                f"Embeddings of drafts that nothing reads must be tied to the output layer; got "
                f"`next_input` {self.next_input}, `num_training_passes` "
                f"{self.num_training_passes} and `tie_word_embeddings` False. Set it to True."
            )

    def _check_corruption(self) -> None:
        rates, drafts = self.corruption_rates, self.num_training_passes - 1
        if len(rates) not in {1, max(drafts, 1)}:
            raise ValueError(
                f"`corruption_rates` must hold one rate, or one for each of the {drafts} drafts "
                f"that a later pass of the {self.num_training_passes} in training reads; got "
                f"{len(rates)}."
            )
        for rate in rates:
            if not 0 <= rate <= 1:
                raise ValueError(f"`corruption_rates` must be in [0, 1], got {rate}.")
        check_weights(self.corruption_weights, "corruption_weights")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
