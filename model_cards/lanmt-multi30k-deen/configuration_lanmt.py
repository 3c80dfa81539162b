"""Network shape of LaNMT."""

from __future__ import annotations

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from .configuration_nar import NARConfig


@strict
class LaNMTConfig(NARConfig):
    """Network shape and training objective of LaNMT (Shu et al. 2020, arXiv:1908.07181).

    The defaults are those of the paper's WMT'14 model, except that source and target share one
    vocabulary, whose embeddings are shared with the output layer. Fields that are not listed here
    are those of `NARConfig`.

    Args:
        num_prior_layers: Layers of the prior p(z|x), which is also the source encoder.
        num_target_layers: Layers that encode the target for the posterior q(z|x,y).
        num_posterior_layers: Layers of the posterior that join source and target.
        num_decoder_layers: Layers of the decoder p(y|z,x).
        latent_dim: Size of one latent vector; there is one for each source token.
        length_transform_std: Standard deviation at the start, in source positions, of the
            Gaussian that spreads source-length latents over target positions.
        std_floor: Smallest standard deviation of prior, posterior and length transform.
        kl_budget: KL divergence of one source position, in nats, under which it is not
            penalised. A training loop may pass another value to `forward`.
        posterior_noise: Share of the target words, at most, that the posterior is shown as others
            in training; see `replace_words`.

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
    sizes: ClassVar[tuple[str, ...]] = (
        "num_prior_layers",
        "num_target_layers",
        "num_posterior_layers",
        "num_decoder_layers",
        "latent_dim",
    )
    shares: ClassVar[tuple[str, ...]] = ("posterior_noise",)
    numbers: ClassVar[tuple[str, ...]] = ("length_transform_std", "std_floor", "kl_budget")

    num_prior_layers: int = 6
    num_target_layers: int = 6
    num_posterior_layers: int = 6
    num_decoder_layers: int = 6
    latent_dim: int = 8
    length_transform_std: float = 1.0
    std_floor: float = 1e-3
    kl_budget: float = 1.0
    posterior_noise: float = 0.0

    def _check_ranges(self) -> None:
        super()._check_ranges()
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
