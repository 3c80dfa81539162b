"""Exported folders of small random models, as they lie on the Hub."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_networks import new_model, noisy_latents
from tiny_refinement import make_lively, new_refinement_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_nar.training.export import export_folder

LONGEST = {"max_position_embeddings": 40, "max_target_length": 48}


def lively_lanmt(vocab_size: int) -> PreTrainedModel:
    """Return a LaNMT that says other things in each iteration."""
    model = new_model(vocab_size=vocab_size, **LONGEST)
    noisy_latents(model)
    for part in (model.lm_head, model.latent_projection):
        torch.nn.init.normal_(part.weight, std=1.0)
    return model


def lively_refinement(vocab_size: int) -> PreTrainedModel:
    """Return a model of the refinement family that says other things in each iteration."""
    model = new_refinement_model(vocab_size=vocab_size, **LONGEST)
    make_lively(model)
    return model


def export_families(folder: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, Path]:
    """Write a model of each family; return their folders by `model_type`."""
    folders = {}
    for model in (lively_lanmt(len(tokenizer)), lively_refinement(len(tokenizer))):
        model.generation_config.num_refinement_iterations = 2
        kind = model.config.model_type
        folders[kind] = folder / f"{kind}-1.5"  # a dot, as names on the Hub have
        export_folder(model, tokenizer, folders[kind])
    return folders
