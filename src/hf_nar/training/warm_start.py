"""Weights of one network as the start of another that has parts of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

# What a network with target-length latents has in another form than one with source-length latents.
OWN_PARTS = ("prior.", "prior_head.", "posterior.", "posterior_head.", "length_predictor.")


def starting_weights(model: PreTrainedModel, saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights that a model starts with, from those of another, complete for the model.

    Refiners may start new. A network with target-length latents may start with one of source-length
    latents: it takes embeddings, source encoder (the prior there), decoder and output layer, and
    the rest starts new.

    Args:
        model: The network that starts, with new weights.
        saved: Weights of the other, by name.
    """
    config: Any = model.config
    weights = dict(saved)
    own = model.state_dict()
    if config.model_type != "lanmt":
        return weights
    new: tuple[str, ...] = ("refiners.",)
    if config.latent_axis == "target" and "length_embeddings.weight" in saved:
        weights = {_name_in_target_axis(name): value for name, value in saved.items()}
        weights = {name: value for name, value in weights.items() if name in own}
        new = (*new, *OWN_PARTS)
    for name, value in own.items():
        if name not in weights and name.startswith(new):
            weights[name] = value
    return weights


def _name_in_target_axis(name: str) -> str:
    """Return what a weight is called where latents have target length; "" for those left out."""
    if name.startswith("prior."):
        return f"source_encoder.{name.removeprefix('prior.')}"
    return "" if name.startswith(OWN_PARTS) else name
