"""A tiny captioner of digit scenes, and a recipe that trains one in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_nar.captioner import Captioner
from hf_nar.data.digit_scenes import digit_scenes
from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.remote_code.configuration_refinement_nar import RefinementNARConfig
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration

TINY_VIT = {
    "model_type": "vit",
    "num_channels": 1,
    "image_size": 36,
    "patch_size": 12,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TINY_SHAPE: dict[str, Any] = {
    "vision_config": TINY_VIT,
    "d_model": 16,
    "d_ff": 32,
    "num_attention_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "first_input": "mean",
    "max_position_embeddings": 20,
    "max_target_length": 32,
    "max_length_offset": 16,
}
TINY_PROCESSOR = {"do_resize": False, "image_mean": [0.1], "image_std": [0.3]}
TINY_VOCABULARY = 80


def scene_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    captions = digit_scenes(300, seed=0)["caption"][:]
    return train_tokenizer(captions, folder, vocab_size=TINY_VOCABULARY, model_type="bpe")


def new_captioner(folder: Path, **options: Any) -> Captioner:
    """Return a captioner with random weights; its tokenizer is trained in `folder`."""
    tokenizer = scene_tokenizer(folder)
    torch.manual_seed(0)
    config = RefinementNARConfig(vocab_size=len(tokenizer), **{**TINY_SHAPE, **options})
    model = RefinementNARForConditionalGeneration(config).eval()
    return Captioner(model, tokenizer, ViTImageProcessorPil(**TINY_PROCESSOR))


def caption_recipe(folder: Path) -> dict[str, Any]:
    """Return a recipe of 4 steps, evaluated and saved after each half, all inside `folder`."""
    return {
        "output": str(folder / "run"),
        "family": "refinement_nar",
        "data": {
            "source": "image",
            "train": {"builder": "digit_scenes", "num_scenes": 60, "seed": 1},
            "validation": {
                "builder": "digit_scenes",
                "num_scenes": 7,
                "seed": 2,
                "split": "validation",
            },
            "image_processor": TINY_PROCESSOR,
            "max_target_tokens": 32,
        },
        "tokenizer": {"vocab_size": TINY_VOCABULARY, "model_type": "bpe"},
        "model": TINY_SHAPE,
        "generation": {"num_refinement_iterations": 2, "collapse_repeats": False},
        "training": {
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": 4,
            "tokens_per_batch": 300,
            "learning_rate": 5.0e-3,
            "logging_steps": 1,
            "eval_steps": 2,
            "save_steps": 2,
        },
    }
