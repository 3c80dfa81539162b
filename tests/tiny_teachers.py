"""Small random autoregressive models, of two architectures of transformers."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_networks import EOS, PAD, VOCABULARY
from transformers import (
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

ARCHITECTURES = ("marian", "t5")


def new_teacher(
    architecture: str, tokenizer: PreTrainedTokenizerFast, max_length: int | None = 12
) -> PreTrainedModel:
    """Return a model with random weights that speaks the tokenizer's vocabulary.

    With None, its generation config says nothing of the length of a translation.
    """
    torch.manual_seed(0)
    tokens = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.bos_token_id,
    }
    if architecture == "marian":
        shape = {"d_model": 16, "max_position_embeddings": 40, "init_std": 0.5}
        for side in ("encoder", "decoder"):
            shape |= {f"{side}_layers": 1, f"{side}_ffn_dim": 32, f"{side}_attention_heads": 2}
        config = MarianConfig(
            vocab_size=len(tokenizer), forced_eos_token_id=None, **shape, **tokens
        )
        model = MarianMTModel(config)
    else:
        shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        config = T5Config(vocab_size=len(tokenizer), initializer_factor=20.0, **shape, **tokens)
        model = T5ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(max_length=max_length, num_beams=3, **tokens)
    return model.eval()


def lively_judge() -> PreTrainedModel:
    """Return a Marian with the vocabulary of `tiny_networks`, of firm opinions."""
    torch.manual_seed(5)
    config = MarianConfig(
        vocab_size=VOCABULARY,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_position_embeddings=40,
        pad_token_id=PAD,
        eos_token_id=EOS,
        decoder_start_token_id=1,
        forced_eos_token_id=None,
        init_std=1.0,
    )
    return MarianMTModel(config).eval()


def save_teacher(
    folder: Path, architecture: str, tokenizer: PreTrainedTokenizerFast, max_length: int = 12
) -> Path:
    """Write a teacher's folder; return it."""
    new_teacher(architecture, tokenizer, max_length).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
