"""A tiny parallel corpus on disk, and a recipe that trains a tiny network on it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from conftest import TINY_VOCABULARY, tiny_sentences

VALIDATION_PAIRS = 7


def tiny_pairs() -> list[tuple[str, str]]:
    """Return German sentences with their English translations, mixed in a fixed order."""
    sentences = tiny_sentences()
    half = len(sentences) // 2
    pairs = list(zip(sentences[:half], sentences[half:], strict=True))
    return [pairs[i * 7 % half] for i in range(half)]


def write_corpus(folder: Path, train: int = 120, validation: int = VALIDATION_PAIRS) -> None:
    """Write train.de, train.en, val.de and val.en; the two sets share no pair."""
    pairs = tiny_pairs()
    parts = {"train": pairs[:train], "val": pairs[train : train + validation]}
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        for language, side in (("de", 0), ("en", 1)):
            text = "".join(f"{row[side]}\n" for row in rows)
            (folder / f"{part}.{language}").write_text(text, encoding="utf-8")


def tiny_recipe(folder: Path) -> dict[str, Any]:
    """Return a recipe of 6 steps, evaluated and saved after each third, all inside `folder`."""
    return {
        "output": str(folder / "run"),
        "data": {
            "folder": str(folder / "data"),
            "train": {"source_file": "train.de", "target_file": "train.en"},
            "validation": {"source_file": "val.de", "target_file": "val.en"},
            "max_source_tokens": 32,
            "max_target_tokens": 32,
        },
        "tokenizer": {"vocab_size": TINY_VOCABULARY},
        "model": {
            "d_model": 16,
            "d_ff": 32,
            "num_attention_heads": 2,
            "num_prior_layers": 1,
            "num_target_layers": 1,
            "num_posterior_layers": 1,
            "num_decoder_layers": 1,
            "latent_dim": 4,
            "max_position_embeddings": 40,
            "max_target_length": 40,
            "max_length_offset": 6,
        },
        "generation": {"num_refinement_iterations": 2, "collapse_repeats": False},
        "training": {
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": 6,
            "tokens_per_batch": 400,
            "learning_rate": 5.0e-3,
            "logging_steps": 1,
            "eval_steps": 3,
            "save_steps": 3,
        },
    }


def write_recipe(folder: Path, **training: Any) -> Path:
    """Write corpus and recipe; `training` replaces keys of its section."""
    write_corpus(folder / "data")
    recipe = tiny_recipe(folder)
    recipe["training"].update(training)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file
