"""Folders of small random models that speak the vocabulary of `tiny_folder`."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_networks import refiner_model
from tiny_refinement import make_lively, new_refinement_model
from transformers import PreTrainedTokenizerFast


def save_refinement(
    folder: Path, tokenizer: PreTrainedTokenizerFast, longest: int = 40, **options: object
) -> Path:
    """Write a model of the refinement family whose drafts change in each pass; return its folder.

    It takes 3 iterations by default, and its most likely lengths are near the source's.
    """
    model = new_refinement_model(
        vocab_size=len(tokenizer),
        max_position_embeddings=longest,
        max_target_length=longest,
        **options,
    )
    make_lively(model)
    with torch.no_grad():
        model.length_predictor.classifier.bias.copy_(
            -3.0 * torch.arange(-5, 6).abs()  # of offsets
        )
    model.generation_config.num_refinement_iterations = 3
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_refiners(folder: Path, tokenizer: PreTrainedTokenizerFast, axis: str = "source") -> Path:
    """Write a LaNMT with score and energy network; return its folder."""
    shape = {"max_position_embeddings": 40, "max_target_length": 40, "max_length_offset": 20}
    refiner_model(axis, vocab_size=len(tokenizer), **shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
