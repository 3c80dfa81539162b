"""Networks with new weights, as a recipe describes them."""

from __future__ import annotations

import dataclasses
from typing import Any

from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.recipe import Recipe, check_keys, check_types

FAMILIES: dict[str, tuple[Any, type[PreTrainedModel]]] = {
    "lanmt": (LaNMTConfig, LaNMTForConditionalGeneration)
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


def _build_ours(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config_class, model_class = FAMILIES[recipe.family]
    vocabulary = {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_TOKENS
    }
    vocabulary["vocab_size"] = len(tokenizer)
    config = _build_config(recipe, config_class, vocabulary)
    _check_lengths(recipe, config.max_position_embeddings, config.max_target_length)
    model: Any = model_class(config)
    knobs = model.generation_config
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


def _check_lengths(recipe: Recipe, max_source: int, max_target: int) -> None:
    for name, limit in (("max_source_tokens", max_source), ("max_target_tokens", max_target)):
        if getattr(recipe.data, name) > limit:
            raise ValueError(
                f"`data.{name}` must be at most {limit}, the longest that the model takes; got "
                f"{getattr(recipe.data, name)}. Change it, `model.max_position_embeddings` or "
                f"`model.max_target_length`."
            )
