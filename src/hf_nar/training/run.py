"""A training run from a recipe: corpora, tokenizer, model, trainer, export."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import (
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from hf_nar.data.corpus import TokenizedCorpus, load_corpus, tokenize_corpus
from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.checkpoint import average_weights, saved_checkpoints
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.export import export_folder
from hf_nar.training.recipe import Recipe, check_keys
from hf_nar.training.trainer import NARTrainer

logger = logging.getLogger(__name__)

FAMILIES: dict[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]] = {
    "lanmt": (LaNMTConfig, LaNMTForConditionalGeneration)
}
SPECIAL_TOKENS = ("pad", "bos", "eos", "unk", "mask")


@dataclass(frozen=True)
class Result:
    """What a run ends with.

    Args:
        folder: The exported model folder.
        bleu: BLEU of the exported weights on the validation set.
        averaged: How many checkpoints the exported weights are the mean of.
    """

    folder: Path
    bleu: float
    averaged: int


def train(recipe: Recipe) -> Result:
    """Run a recipe to its end, going on from the last checkpoint in its output folder.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the recipe, a corpus or the tokenizer is not usable, or the output folder
            holds a run of another recipe.
    """
    output = Path(recipe.output)
    arguments = training_arguments(recipe)
    checkpoints = _check_same_recipe(recipe, output)
    set_seed(arguments.seed)
    tokenizer = prepare_tokenizer(recipe, output)
    with PartialState().main_process_first():
        train_data = _tokenized(recipe, tokenizer, "train")
        validation = load_corpus(recipe.data.corpus("validation"))
        validation_data = _tokenized(recipe, tokenizer, "validation")
    model = build_model(recipe, tokenizer)
    pairs = validation.pairs
    trainer = NARTrainer(
        args=arguments,
        model=model,
        train_dataset=train_data.examples,
        eval_dataset=validation_data.examples,
        validation_sources=[pair["source"] for pair in pairs],
        validation_references=[pair["target"] for pair in pairs],
        processing_class=tokenizer,
    )
    if checkpoints:
        logger.warning("Going on from %s.", checkpoints[-1])
    trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    return _export_best(trainer, model, tokenizer, output)


def training_arguments(recipe: Recipe) -> NARTrainingArguments:
    """Return the trainer's arguments for a recipe, with this project's defaults.

    Raises:
        ValueError: If the recipe names one that does not exist.
    """
    known = [item.name for item in dataclasses.fields(NARTrainingArguments) if item.init]
    check_keys(list(recipe.training), known, "training.")
    defaults: dict[str, Any] = {
        "output_dir": recipe.output,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "metric_for_best_model": "bleu",
        "greater_is_better": True,
        "load_best_model_at_end": True,
        "report_to": "none",
        "per_device_eval_batch_size": 32,
    }
    return NARTrainingArguments(**{**defaults, **recipe.training})


def prepare_tokenizer(recipe: Recipe, output: Path) -> PreTrainedTokenizerBase:
    """Load the recipe's tokenizer, or train it once and keep it in the output folder."""
    name = recipe.tokenizer.name
    if not name:
        folder = output / "tokenizer"
        name = str(folder)
        with PartialState().main_process_first():
            if not (folder / "tokenizer.json").is_file():
                pairs = load_corpus(recipe.data.corpus("train")).pairs
                train_tokenizer(
                    (text for pair in pairs for text in (pair["source"], pair["target"])),
                    folder,
                    vocab_size=recipe.tokenizer.vocab_size,
                    model_type=recipe.tokenizer.model_type,
                )
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(name)
    tokenizer.model_max_length = recipe.data.max_source_tokens
    return tokenizer


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Return the recipe's network with new weights.

    Raises:
        ValueError: If the family or a field of its config is unknown.
    """
    if recipe.family not in FAMILIES:
        raise ValueError(f"`family` must be one of {', '.join(FAMILIES)}; got {recipe.family!r}.")
    config_class, model_class = FAMILIES[recipe.family]
    known = [item.name for item in dataclasses.fields(config_class)]
    check_keys(list(recipe.model), known, "model.")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL_TOKENS}
    model = model_class(config_class(vocab_size=len(tokenizer), **ids, **recipe.model))
    knobs = model.generation_config
    unused = knobs.update(**recipe.generation)
    check_keys(list(unused), list(knobs.to_dict()), "generation.")
    return model


def _tokenized(
    recipe: Recipe, tokenizer: PreTrainedTokenizerBase, part: str
) -> TokenizedCorpus:
    corpus = load_corpus(recipe.data.corpus(part))
    data = tokenize_corpus(
        corpus.pairs, tokenizer, recipe.data.max_source_tokens, recipe.data.max_target_tokens
    )
    if PartialState().is_main_process:
        logger.warning(
            "%s: %s pairs kept, %s dropped for an empty side, %s for their length.",
            part,
            data.kept,
            corpus.empty_dropped,
            data.overlong_dropped,
        )
    return data


def _check_same_recipe(recipe: Recipe, output: Path) -> list[Path]:
    """Keep the recipe beside the weights; return the checkpoints of the same recipe."""
    checkpoints = saved_checkpoints(output)
    file = output / "recipe.yaml"
    if checkpoints and file.is_file() and Recipe.load(file) != recipe:
        raise ValueError(
            f"{output} must hold checkpoints of this recipe only, but {file.name} there differs. "
            f"Choose another `output`, or delete the folder to start again."
        )
    if PartialState().is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        temporary = output / "recipe.yaml.new"
        temporary.write_text(recipe.to_yaml(), encoding="utf-8")
        os.replace(temporary, file)
    return checkpoints


def _export_best(
    trainer: NARTrainer,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
) -> Result:
    """Export the best checkpoint, or the mean of the last ones where that is better."""
    bleu, averaged = trainer.validation_bleu(), 1
    wanted = trainer.args.average_checkpoints
    folders = saved_checkpoints(output)[-wanted:]
    if wanted > 1 and len(folders) > 1:
        best = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(average_weights(folders), strict=False)
        model.tie_weights()
        average_bleu = trainer.validation_bleu()
        if average_bleu >= bleu:
            bleu, averaged = average_bleu, len(folders)
        else:
            model.load_state_dict(best)
    folder = output / "export"
    if trainer.is_world_process_zero():
        export_folder(model, tokenizer, folder)
        facts = _facts(trainer, bleu, averaged)
        (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    trainer.accelerator.wait_for_everyone()
    return Result(folder, bleu, averaged)


def _facts(trainer: NARTrainer, bleu: float, averaged: int) -> Mapping[str, Any]:
    state = trainer.state
    return {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 2),
        "best_step": state.best_global_step,
        "validation_bleu": round(bleu, 2),
        "averaged_checkpoints": averaged,
        "parameters": trainer.model.num_parameters(),
        "processes": trainer.accelerator.num_processes,
        "device": trainer.accelerator.device.type,
        "torch": torch.__version__,
    }
