"""Networks with random weights: enough to measure speed, where every output has a fixed length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import GenerationConfig, MarianConfig, MarianMTModel, PreTrainedTokenizerFast

from hf_nar.auto import MODEL_CLASSES, model_types
from hf_nar.data.tokenizer import MASK_TOKEN, NUM_SPECIAL_TOKENS, save_tokenizer
from hf_nar.evaluation.engines import OUR_NETWORKS

# Of the paper's WMT'14 model, and of one that a test makes in an instant.
SHAPES: dict[str, dict[str, int]] = {
    "base": {"vocab_size": 32000, "d_model": 512, "d_ff": 2048, "heads": 8, "layers": 6},
    "tiny": {"vocab_size": 120, "d_model": 16, "d_ff": 32, "heads": 2, "layers": 1},
}
DEEP_ENCODER = (12, 1)  # layers of encoder and decoder
# Parts of a network of ours, each with the layers of its shape, by family; latents of target
# length have a source encoder of a layer less (Lee, Shu and Cho 2020) in place of the target's.
STACKS = {
    "lanmt": ("prior", "target", "posterior", "decoder"),
    "refinement_nar": ("encoder", "decoder"),
}
TARGET_AXIS_STACKS = ("prior", "posterior", "decoder")
REFINERS = ("score", "energy")  # networks of a strategy of the same name, with as many layers
DEFAULT_FAMILY = "lanmt"
SPECIAL_TOKENS = {
    "pad_token": "<pad>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": MASK_TOKEN,
}


def write_random_networks(
    shape: str,
    folder: Path,
    seed: int,
    family: str = DEFAULT_FAMILY,
    axes: Sequence[str] = ("source",),
    refiners: Sequence[str] = (),
) -> dict[str, str]:
    """Write ours, `teacher` and `teacher 12-1` with their tokenizer into a folder.

    Args:
        shape: "base" or "tiny".
        folder: To write into.
        seed: Of the weights.
        family: Of ours, such as "lanmt".
        axes: Of the latents of ours, each for one network of `OUR_NETWORKS`; for "lanmt".
        refiners: Of `REFINERS`, those that ours have; for "lanmt".

    Returns:
        The folder of each.

    Raises:
        ValueError: If there is no such shape, family or axis.
    """
    if family not in model_types():
        raise ValueError(f"`--family` must be one of {', '.join(model_types())}; got {family!r}.")
    if shape not in SHAPES:
        raise ValueError(f"`--random-init` must be one of {', '.join(SHAPES)}; got {shape!r}.")
    for axis in axes:
        if axis not in OUR_NETWORKS:
            raise ValueError(f"`--latent-axis` must be of {', '.join(OUR_NETWORKS)}; got {axis!r}.")
    sizes = SHAPES[shape]
    layers = sizes["layers"]
    torch.manual_seed(seed)
    networks: dict[str, Any] = {
        **{OUR_NETWORKS[axis]: _ours(sizes, family, axis, refiners) for axis in axes},
        "teacher": _teacher(sizes, layers, layers),
        "teacher 12-1": _teacher(sizes, *DEEP_ENCODER),
    }
    tokenizer = word_tokenizer(sizes["vocab_size"])
    for name, network in networks.items():
        network.save_pretrained(folder / name)
        save_tokenizer(tokenizer, folder / name)
    return {name: str(folder / name) for name in networks}


def _ours(sizes: dict[str, int], family: str, axis: str, refiners: Sequence[str]) -> Any:
    stacks = (*STACKS[family], *refiners)
    options: dict[str, Any] = {}
    if axis == "target":
        stacks = (*TARGET_AXIS_STACKS, *refiners)
        options = {"latent_axis": axis, "num_source_layers": max(1, sizes["layers"] - 1)}
    config_class, model_class = {c.model_type: (c, m) for c, m in MODEL_CLASSES.items()}[family]
    return model_class(
        config_class(
            vocab_size=sizes["vocab_size"],
            d_model=sizes["d_model"],
            d_ff=sizes["d_ff"],
            num_attention_heads=sizes["heads"],
            **{f"num_{stack}_layers": sizes["layers"] for stack in stacks},
            **options,
        )
    )


def _teacher(sizes: dict[str, int], encoder_layers: int, decoder_layers: int) -> MarianMTModel:
    tokens: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = MarianConfig(
        vocab_size=sizes["vocab_size"],
        d_model=sizes["d_model"],
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_ffn_dim=sizes["d_ff"],
        decoder_ffn_dim=sizes["d_ff"],
        encoder_attention_heads=sizes["heads"],
        decoder_attention_heads=sizes["heads"],
        activation_function="relu",
        scale_embedding=True,
        init_std=sizes["d_model"] ** -0.5,
        max_position_embeddings=512,
        forced_eos_token_id=None,
        **tokens,
    )
    model = MarianMTModel(config)
    model.generation_config = GenerationConfig(max_length=512, **tokens)
    return model


def word_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of invented words, one token each, that appends the end token."""
    special = list(SPECIAL_TOKENS.values())
    words = [*special, *(f"w{i}" for i in range(NUM_SPECIAL_TOKENS, vocab_size))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", 2)]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
        **SPECIAL_TOKENS,
    )


def random_texts(count: int, length: int, vocab_size: int, generator: random.Random) -> list[str]:
    """Return texts of `word_tokenizer`'s words, each of `length` tokens with the end token."""
    words = range(NUM_SPECIAL_TOKENS, vocab_size)
    return [" ".join(f"w{i}" for i in generator.choices(words, k=length - 1)) for _ in range(count)]
