"""Network shape of LaNMT."""

from __future__ import annotations

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_nar import RECORDED_STATES, NARConfig

LATENT_AXES = ("source", "target")


@strict
class LaNMTConfig(NARConfig):
    """Network shape and training objective of LaNMT, with latents of source or target length.

    The defaults are those of the WMT'14 model of Shu et al. 2020 (arXiv:1908.07181), except that
    source and target share one vocabulary, whose embeddings are shared with the output layer. With
    `latent_axis="target"` it is the network of Lee, Shu and Cho 2020 (arXiv:2009.07177). Fields
    that are not listed here are those of `NARConfig`.

    Args:
        latent_axis: "source", one latent for each source token, and a length predicted from them
            anew in each iteration; or "target", one latent for each target token, and a length
            predicted once from the source.
        num_source_layers: Layers of the source encoder where latents have target length, 6 if not
            given. With source-length latents the prior is the source encoder.
        num_prior_layers: Layers of the prior p(z|x).
        num_target_layers: Layers that encode the target for the posterior q(z|x,y) where latents
            have source length, 6 if not given. Otherwise the posterior starts with embeddings.
        num_posterior_layers: Layers of the posterior that join source and target.
        num_decoder_layers: Layers of the decoder p(y|z,x).
        num_score_layers: Layers of the score network, which moves latents; 0 for none.
        num_energy_layers: Layers of the energy network, whose gradient moves latents; 0 for none.
        latent_dim: Size of one latent vector.
        length_transform_std: Standard deviation at the start, in source positions, of the
            Gaussian that spreads source-length latents over target positions.
        std_floor: Smallest standard deviation of prior, posterior and length transform.
        kl_budget: KL divergence of one latent, in nats, under which it is not penalised. A
            training loop may pass another value to `forward`.
        posterior_noise: Share of the target words, at most, that the posterior is shown as others
            in training; see `replace_words`.
        refiner_iterations: Delta iterations whose way score and energy networks learn to go.
        refiner_ascent_steps: Steps up the model's own likelihood with which that way ends; see
            `climb_likelihood`. 0 for none, as the paper.
        refiner_noise: Largest factor of the prior's standard deviation for the latents at which
            they learn it.
        refiner_source_noise: Share of the source words, at most, that are others while they learn,
            so that they see sources on which the model is as unsure as on new ones.
        refiner_own_steps: Share of the sentences that start, while they learn, where their own
            steps have led: in decoding they start there in all iterations but the first. With
            `refiner_ascent_steps` they learn only to go on from there.
        refiner_word_weight: Weight of the cross-entropy of the draft at the end of that way, given
            the latents after their step; 0 learns from latents alone, as the paper does.
        refiner_repeat_weight: Weight of the probability that neighbouring words are the same, given
            the latents after their step; see `repeat_sum`. 0 for none, as the paper.
        refiner_doubt_weight: Weight of how unlikely the draft after their step finds its own words;
            see `doubt_sum`. 0 for none, as the paper.
        consistency_weight: Weight of the divergence between what the posterior makes of the target
            with and without that noise (Zhu et al. 2022, section 3); 0 for none.

    Raises:
        ValueError: If a field is of the wrong type or out of its range, or two contradict each
            other.
    """

    model_type: ClassVar[str] = "lanmt"
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "word_loss",
        "kl_loss",
        "kl",
        "consistency_loss",
        "score_loss",
        "score_cosine",
        "score_error",
        "score_word_loss",
        "score_repeat_loss",
        "score_doubt_loss",
        "energy_loss",
        "energy_cosine",
        "energy_error",
        "energy_word_loss",
        "energy_repeat_loss",
        "energy_doubt_loss",
        "length_loss",
        "length_logits",
        "lengths",
        "prior_mean",
        "prior_std",
        "posterior_mean",
        "posterior_std",
        *RECORDED_STATES,
    ]
    attribute_map: ClassVar[dict[str, str]] = {
        "hidden_size": "d_model",
        "num_hidden_layers": "num_prior_layers",
    }
    sizes: ClassVar[tuple[str, ...]] = (
        "num_prior_layers",
        "num_posterior_layers",
        "num_decoder_layers",
        "latent_dim",
        "refiner_iterations",
    )

    shares: ClassVar[tuple[str, ...]] = (
        "posterior_noise",
        "refiner_source_noise",
        "refiner_own_steps",
    )
    numbers: ClassVar[tuple[str, ...]] = (
        "length_transform_std",
        "std_floor",
        "kl_budget",
        "consistency_weight",
        "refiner_noise",
        "refiner_word_weight",
        "refiner_repeat_weight",
        "refiner_doubt_weight",
    )

    latent_axis: str = "source"
    num_source_layers: int | None = None
    num_prior_layers: int = 6
    num_target_layers: int | None = None
    num_posterior_layers: int = 6
    num_decoder_layers: int = 6
    num_score_layers: int = 0
    num_energy_layers: int = 0
    latent_dim: int = 8
    length_transform_std: float = 1.0
    std_floor: float = 1e-3
    kl_budget: float = 1.0
    posterior_noise: float = 0.0
    consistency_weight: float = 0.0
    refiner_iterations: int = 4
    refiner_ascent_steps: int = 0
    refiner_noise: float = 1.0
    refiner_source_noise: float = 0.0
    refiner_own_steps: float = 0.0
    refiner_word_weight: float = 0.0
    refiner_repeat_weight: float = 0.0
    refiner_doubt_weight: float = 0.0

    def _check_types(self) -> None:
        super()._check_types()
        if self.latent_axis not in LATENT_AXES:
            raise ValueError(
                f"`latent_axis` must be one of {', '.join(LATENT_AXES)}; got {self.latent_axis!r}."
            )
        self._set_encoder_layers()
        for name in ("num_score_layers", "num_energy_layers", "refiner_ascent_steps"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise ValueError(
                    f"`{name}` must be an integer and at least 0, got {value!r}. Use 0 for none."
                )

    def _set_encoder_layers(self) -> None:
        """Give the encoder that the axis of the latents needs its default; refuse the other."""
        needed, other = "num_target_layers", "num_source_layers"
        if self.latent_axis == "target":
            needed, other = other, needed
        if getattr(self, needed) is None:
            setattr(self, needed, 6)
        layers = getattr(self, needed)
        if type(layers) is not int or layers < 1:
            raise ValueError(f"`{needed}` must be an integer and at least 1, got {layers!r}.")
        if getattr(self, other) not in (None, 0):
            raise ValueError(
                f"`{other}` must be left out where `latent_axis` is {self.latent_axis}, as the "
                f"network has no such encoder; got {getattr(self, other)!r}. Set `{needed}`."
            )
        setattr(self, other, None)

    def _check_ranges(self) -> None:
        super()._check_ranges()
        self._check_consistency()
        for name in ("std_floor", "length_transform_std"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")
        if self.length_transform_std <= self.std_floor:
            raise ValueError(
                f"`length_transform_std` must be larger than `std_floor`; got "
                f"{self.length_transform_std} and {self.std_floor}."
            )
        if self.kl_budget < 0:
            raise ValueError(f"`kl_budget` must not be negative, got {self.kl_budget}.")

    def _check_consistency(self) -> None:
        weights = (f"refiner_{term}_weight" for term in ("word", "repeat", "doubt"))
        for name in ("refiner_noise", "consistency_weight", *weights):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must not be negative, got {getattr(self, name)}.")
        if self.consistency_weight and not self.posterior_noise:
            raise ValueError(
                f"`consistency_weight` is {self.consistency_weight}, but without `posterior_noise` "
                f"there is nothing to be consistent with. Set it, for example to 0.2."
            )
