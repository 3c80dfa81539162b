"""Weights of one network as the start of another that has parts of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

# What a network with target-length latents has in another form than one with source-length latents.
OWN_PARTS = ("prior.", "prior_head.", "posterior.", "posterior_head.", "length_predictor.")
# What may differ between a model and the one that refiners are trained on.
FREE_FIELDS = (
    "num_score_layers",
    "num_energy_layers",
    "refiner_iterations",
    "refiner_ascent_steps",
    "refiner_noise",
    "refiner_source_noise",
    "refiner_own_steps",
    "refiner_word_weight",
    "refiner_repeat_weight",
    "refiner_doubt_weight",
    "dropout",
    "activation_dropout",
    "attention_dropout",
    "label_smoothing",
    "posterior_noise",
    "consistency_weight",
    "kl_budget",
    "dtype",
    "architectures",
    "transformers_version",
    "use_cache",
)


def starting_weights(
    model: PreTrainedModel, saved: Mapping[str, Tensor], stage: str = "model"
) -> dict[str, Tensor]:
    """Return the weights that a model starts with, from those of another, complete for the model.

    Refiners may start new. A network with target-length latents may start with one of source-length
    latents: it takes embeddings, source encoder (the prior there), decoder and output layer, and
    the rest starts new.

    Args:
        model: The network that starts, with new weights.
        saved: Weights of the other, by name.
        stage: Of the recipe; "refiner" needs all of the model that it refines.
    """
    config: Any = model.config
    weights = dict(saved)
    own = model.state_dict()
    if config.model_type != "lanmt":
        return weights
    new: tuple[str, ...] = ("refiners.",)
    if stage == "model" and config.latent_axis == "target" and "length_embeddings.weight" in saved:
        weights = {_name_in_target_axis(name): value for name, value in saved.items()}
        weights = {name: value for name, value in weights.items() if name in own}
        new = (*new, *OWN_PARTS)
    for name, value in own.items():
        if name not in weights and name.startswith(new):
            weights[name] = value
    return weights


def with_refiners(
    saved: Mapping[str, Tensor], other: Mapping[str, Tensor], stage: str
) -> dict[str, Tensor]:
    """Return the weights of one model with the refiners of another that a stage trains, by name.

    Args:
        saved: Weights of the model.
        other: Weights of the other.
        stage: Of the recipe: "score", "energy", or "refiner" for both.

    Raises:
        ValueError: If the other has none.
    """
    prefix = "refiners." if stage == "refiner" else f"refiners.{stage}."
    refiners = {name: value for name, value in other.items() if name.startswith(prefix)}
    if not refiners:
        raise ValueError(
            f"`refiners_from` must be a model with what `stage: {stage}` trains, but the one in "
            f"that folder has no such network. Leave it out to start with a new one."
        )
    own = {name: value for name, value in saved.items() if not name.startswith(prefix)}
    return own | refiners


def check_refined_model(model: PreTrainedModel, init_from: str) -> None:
    """Check that refiners are trained on the network that their weights come from.

    Fields that change no weight, such as the number of heads, would silently make it another.

    Args:
        model: The recipe's network.
        init_from: Folder of the model that it refines.

    Raises:
        ValueError: If its config differs in anything but refiners and training.
    """
    saved = type(model.config).from_pretrained(init_from)
    for field in dataclasses.fields(type(model.config)):
        if field.name in FREE_FIELDS or not hasattr(saved, field.name):
            continue
        ours, theirs = getattr(model.config, field.name), getattr(saved, field.name)
        if ours != theirs:
            raise ValueError(
                f"`stage: refiner` leaves the model in `init_from` as it is, so "
                f"`model.{field.name}` must be {theirs!r}, as there; got {ours!r}. Copy the "
                f"section of its recipe."
            )


def _name_in_target_axis(name: str) -> str:
    """Return what a weight is called where latents have target length; "" for those left out."""
    if name.startswith("prior."):
        return f"source_encoder.{name.removeprefix('prior.')}"
    return "" if name.startswith((*OWN_PARTS, "refiners.")) else name
