"""Networks with new weights, as a recipe describes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from hf_nar.auto import MODEL_CLASSES
from hf_nar.training.recipe import Recipe, check_keys, check_types

FAMILIES: dict[str, tuple[Any, type[PreTrainedModel]]] = {
    config_class.model_type: (config_class, model_class)
    for config_class, model_class in MODEL_CLASSES.items()
}
SPECIAL_TOKENS = ("pad", "bos", "eos", "unk", "mask")


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return the recipe's network with new weights: one of ours, or an autoregressive teacher.

    Raises:
        ValueError: If the family, a field of its config or a decoding knob is unknown or wrong.
    """
    if recipe.family in FAMILIES:
        return _build_ours(recipe, tokenizer)
    if recipe.family in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return _build_teacher(recipe, tokenizer)
    raise ValueError(
        f"`family` must be one of {', '.join(FAMILIES)}, or for a teacher a sequence-to-sequence "
        f"model of transformers, such as marian, bart or t5; got {recipe.family!r}."
    )


def is_autoregressive(model: PreTrainedModel) -> bool:
    """Return whether a model is a teacher, not one of ours."""
    return not isinstance(model, tuple(model_class for _, model_class in FAMILIES.values()))


def load_vision_weights(name: str, model: PreTrainedModel) -> None:
    """Give a model's vision encoder the weights of a saved one.

    Args:
        name: Folder or Hub id of a model whose encoder has the shape of `model.vision_config`.
        model: A model with a vision encoder.

    Raises:
        OSError: If there is no such model, or its weights are damaged.
        ValueError: If it has another shape.
    """
    network: Any = model
    encoder: nn.Module = network.vision_encoder
    saved = AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=False)
    wanted, found = (
        {key: value.shape for key, value in part.state_dict().items()} for part in (encoder, saved)
    )
    differing = sorted(key for key in wanted if wanted[key] != found.get(key))
    if differing:
        raise ValueError(
            f"`vision.init_from` must be a model with the shape of `model.vision_config`, but "
            f"{name} differs in {differing[0]}. Copy the fields of its config.json."
        )
    encoder.load_state_dict({key: saved.state_dict()[key] for key in wanted})


def _build_ours(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config_class, model_class = FAMILIES[recipe.family]
    vocabulary = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_TOKENS
    }
    vocabulary["vocab_size"] = len(tokenizer)
    config = _build_config(recipe, config_class, vocabulary)
    _check_source(recipe, getattr(config, "vision_config", None) is not None)
    _check_lengths(recipe, config.max_position_embeddings, config.max_target_length)
    _check_stage(recipe, config)
    model: Any = model_class(config)
    knobs = model.generation_config
    if recipe.trains_refiners:  # validated by what is trained
        knobs.refinement = next(iter(model.refiners)) if recipe.stage == "refiner" else recipe.stage
    check_types(recipe.generation, knobs.to_dict(), "generation.")
    unused = knobs.update(**recipe.generation)
    check_keys(list(unused), list(knobs.to_dict()), "generation.")
    # Refuses a knob out of its range now, not after training.
    model.build_strategy(model.resolve_knobs({}))
    built: PreTrainedModel = model
    return built


def _build_teacher(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    start = tokenizer.pad_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    tokens = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": start,
    }
    config_class: Any = CONFIG_MAPPING[recipe.family]
    vocabulary = {"vocab_size": len(tokenizer), "forced_eos_token_id": None, **tokens}
    config = _build_config(recipe, config_class, vocabulary)
    _check_source(recipe, takes_images=False)
    limit = getattr(config, "max_position_embeddings", None)
    if limit is not None:
        _check_lengths(recipe, limit, limit)
    model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    # Fresh: what is derived from the model's config would not be saved as it is.
    knobs = GenerationConfig(**{"max_length": recipe.data.max_target_tokens, **tokens})
    unused = knobs.update(**recipe.generation)
    check_keys(list(unused), list(knobs.to_dict()), "generation.")
    knobs.validate(strict=True)
    model.generation_config = knobs
    return model


def _build_config(recipe: Recipe, config_class: Any, vocabulary: dict[str, Any]) -> Any:
    fields = dataclasses.fields(config_class)
    known = {item.name: item.default for item in fields if item.name not in vocabulary}
    check_keys(list(recipe.model), list(known), "model.")
    check_types(recipe.model, known, "model.")
    return config_class(**vocabulary, **recipe.model)


def _check_stage(recipe: Recipe, config: Any) -> None:
    """Check that a recipe trains what its network has."""
    layers = [getattr(config, f"num_{name}_layers", 0) for name in ("score", "energy")]
    if recipe.trains_refiners != any(layers):
        raise ValueError(
            f"`stage: refiner` trains score and energy networks, and nothing else does, so "
            f"`model.num_score_layers` or `model.num_energy_layers` must be set in it, and in no "
            f"other stage; got {layers[0]} and {layers[1]} with `stage: {recipe.stage}`."
        )


def _check_source(recipe: Recipe, takes_images: bool) -> None:
    if takes_images != (recipe.data.source == "image"):
        raise ValueError(
            f"`data.source` must be image exactly where the network has a vision encoder, that is, "
            f"`family: refinement_nar` with `model.vision_config`; got {recipe.data.source}. "
            f"Change one of them."
        )


def _check_lengths(recipe: Recipe, max_source: int, max_target: int) -> None:
    limits = {"max_source_tokens": max_source, "max_target_tokens": max_target}
    if recipe.data.source == "image":
        del limits["max_source_tokens"]
    for name, limit in limits.items():
        if getattr(recipe.data, name) > limit:
            raise ValueError(
                f"`data.{name}` must be at most {limit}, the longest that the model takes; got "
                f"{getattr(recipe.data, name)}. Change it, `model.max_position_embeddings` or "
                f"`model.max_target_length`."
            )
