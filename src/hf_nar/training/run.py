"""A training run from a recipe: corpora, tokenizer, model, trainer, export."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainerState,
    set_seed,
)

from hf_nar.auto import load_model, load_tokenizer
from hf_nar.data.corpus import Corpus, TokenizedCorpus, load_corpus, tokenize_corpus
from hf_nar.data.processes import check_processes, first_of_each_node
from hf_nar.data.validation_set import load_validation_set
from hf_nar.parallel import takes_images
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.callbacks import LOG_FILE
from hf_nar.training.checkpoint import STATE_FILE, average_weights, saved_checkpoints
from hf_nar.training.config import NARTrainingArguments, check_own_smoothing
from hf_nar.training.environment import (
    check_trackers,
    read_environments,
    record_environment,
)
from hf_nar.training.export import EXPORT_DTYPE, export_folder
from hf_nar.training.interruption import StopOnRequest, StopRequest
from hf_nar.training.models import FAMILIES, build_model, load_vision_weights
from hf_nar.training.recipe import Recipe, check_keys, check_types
from hf_nar.training.resume import usable_checkpoints, warn_of_other_processes
from hf_nar.training.run_tokenizer import prepare_tokenizer
from hf_nar.training.sharding import whole_copy
from hf_nar.training.trainer import NARTrainer
from hf_nar.training.warm_start import check_refined_model, starting_weights, with_refiners
from hf_nar.training.whole_folders import keep_others, written_whole

logger = logging.getLogger(__name__)


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


def train(recipe: Recipe, command: str, recipe_folder: Path | None = None) -> Result:
    """Run a recipe to its end, going on from the last checkpoint in its output folder.

    Args:
        recipe: What to run.
        command: How it was started; kept beside the weights.
        recipe_folder: Where the recipe lies; the state of its git repository is kept, too.

    Raises:
        FloatingPointError: If too many steps in a row had no finite loss and gradient.
        OSError: If a file cannot be read or written.
        TrainingInterrupted: If a signal asked it to stop; it can go on from a checkpoint.
        ValueError: If the recipe, a corpus or the tokenizer is not usable, or the output folder
            holds a run of another recipe.
    """
    output = Path(recipe.output)
    arguments = training_arguments(recipe)
    checkpoints = _check_same_recipe(recipe, output)
    last = checkpoints[-1] if checkpoints else None
    record_environment(output, command, last, recipe_folder)
    set_seed(arguments.seed)
    tokenizer = prepare_tokenizer(recipe, output)
    model = build_model(recipe, tokenizer)
    if recipe.init_from and not checkpoints:
        _start_from(recipe, model, tokenizer)
    if recipe.trains_refiners:
        check_refined_model(model, recipe.init_from)
        names = None if recipe.stage == "refiner" else [recipe.stage]
        cast("LaNMTForConditionalGeneration", model).train_refiners(names)
    if recipe.vision.init_from and not checkpoints:
        load_vision_weights(recipe.vision.init_from, model)
    build_trainer = _caption_trainer if recipe.data.source == "image" else _text_trainer
    trainer = build_trainer(recipe, arguments, model, tokenizer)
    _train_to_the_end(trainer, model, checkpoints)
    trainer.model = model = whole_copy(model)
    result = _choose_weights(trainer, model, output)
    if trainer.is_world_process_zero():
        facts = {"command": command, "recipe": dataclasses.asdict(recipe)}
        facts |= _facts(trainer, model, result, output)
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        with written_whole(result.folder) as folder:
            export_folder(model, tokenizer, folder, image_processor=trainer.image_processor)
            (folder / "training.json").write_text(text, encoding="utf-8")
            keep_others(result.folder, folder)
    trainer.accelerator.wait_for_everyone()
    return result


def training_arguments(recipe: Recipe) -> NARTrainingArguments:
    """Return the trainer's arguments for a recipe, with this project's defaults.

    Raises:
        ValueError: If the recipe names one that does not exist.
    """
    known = {i.name: i.default for i in dataclasses.fields(NARTrainingArguments) if i.init}
    del known["output_dir"]  # the recipe's `output`
    check_keys(list(recipe.training), list(known), "training.")
    check_types(recipe.training, known, "training.")
    defaults: dict[str, Any] = {
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "metric_for_best_model": "bleu",
        "greater_is_better": True,
        "load_best_model_at_end": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        # Else each batch would wait until the device has done the one before.
        "accelerator_config": {"non_blocking": torch.cuda.is_available()},
        "use_cpu": not torch.accelerator.is_available(),  # else several processes would not meet
    }
    if recipe.training.get("max_steps", 1) < 1:
        raise ValueError(
            f"`training.max_steps` must be at least 1, got {recipe.training['max_steps']}. For "
            f"whole epochs leave it out and set `training.num_train_epochs`."
        )
    arguments = NARTrainingArguments(recipe.output, **{**defaults, **recipe.training})
    if recipe.data.train.get("streaming") and arguments.max_steps < 1:
        raise ValueError(
            "A streamed corpus is not counted and has no epochs, so `training.max_steps` must be "
            "set, but it is not. Set it, or leave out `data.train.streaming`."
        )
    check_processes(PartialState().num_processes)
    check_trackers(arguments.report_to or ())
    if recipe.family in FAMILIES:
        check_own_smoothing(arguments.label_smoothing_factor)
    if arguments.n_gpu > 1:
        raise ValueError(
            f"One process must train on one GPU, but this one sees {arguments.n_gpu}. Start "
            f"`accelerate launch --config_file training/accelerate/multi_gpu.yaml "
            f"training/train.py`, or set CUDA_VISIBLE_DEVICES=0."
        )
    return arguments


def _caption_trainer(
    recipe: Recipe,
    arguments: NARTrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> NARTrainer:
    from hf_nar.training.captions import caption_trainer  # late: needs Pillow

    return caption_trainer(recipe, arguments, model, tokenizer)


def _text_trainer(
    recipe: Recipe,
    arguments: NARTrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> NARTrainer:
    with first_of_each_node():
        train_data, _ = _tokenized(recipe, tokenizer, "train")
        validation_data, validation = _tokenized(recipe, tokenizer, "validation")
    limit = getattr(model.config, "max_position_embeddings", recipe.data.max_source_tokens)
    pairs = [pair for pair in validation.pairs if len(tokenizer(pair["source"]).input_ids) <= limit]
    return NARTrainer(
        args=arguments,
        model=model,
        train_dataset=train_data.examples,
        eval_dataset=validation_data.examples,
        validation_sources=[pair["source"] for pair in pairs],
        validation_references=[pair["target"] for pair in pairs],
        processing_class=tokenizer,
    )


def _tokenized(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, part: str
) -> tuple[TokenizedCorpus, Corpus]:
    load = load_corpus if part == "train" else load_validation_set
    corpus = load(recipe.data.corpus(part))
    data = tokenize_corpus(
        corpus.pairs, tokenizer, recipe.data.max_source_tokens, recipe.data.max_target_tokens
    )
    if PartialState().is_main_process and corpus.empty_dropped is not None:  # else a stream
        logger.warning(
            "%s: %s pairs kept, %s dropped for an empty side, %s for their length.",
            part,
            data.kept,
            corpus.empty_dropped,
            data.overlong_dropped,
        )
    return data, corpus


def _check_same_recipe(recipe: Recipe, output: Path) -> list[Path]:
    """Keep the recipe beside the weights; return the checkpoints of the same recipe."""
    checkpoints = saved_checkpoints(output)
    file = output / "recipe.yaml"
    is_other = file.is_file() and not recipe.finds_the_same_weights_as(Recipe.load(file))
    if checkpoints and is_other:
        raise ValueError(
            f"{output} must hold checkpoints of this recipe only, but {file.name} there differs. "
            f"Choose another `output`, or delete the folder to start again."
        )
    if PartialState().is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        if is_other:  # of a run that stopped before its first checkpoint
            (output / LOG_FILE).unlink(missing_ok=True)
            shutil.rmtree(output / "tokenizer", ignore_errors=True)
        temporary = output / "recipe.yaml.new"
        temporary.write_text(recipe.to_yaml(), encoding="utf-8")
        temporary.replace(file)
    PartialState().wait_for_everyone()
    return usable_checkpoints(output)


def _train_to_the_end(trainer: NARTrainer, model: PreTrainedModel, checkpoints: list[Path]) -> None:
    """Train from the last checkpoint on; where that is the end, only load the best weights.

    The library's trainer would take one more step there.
    """
    if not checkpoints:
        _train_until_asked(trainer, None)
        return
    last = checkpoints[-1]
    state = TrainerState.load_from_json(str(last / STATE_FILE))
    if state.global_step < state.max_steps:
        logger.warning("Going on from %s.", last)
        warn_of_other_processes(last, trainer.accelerator.num_processes)
        _train_until_asked(trainer, str(last))
        return
    logger.warning("This run has ended with %s; its model is exported again.", last)
    trainer.state = state
    chosen = last
    if trainer.args.load_best_model_at_end and state.best_model_checkpoint:
        best = last.parent / Path(state.best_model_checkpoint).name
        chosen = best if best in checkpoints else last
        if best not in checkpoints:
            state.best_global_step = None  # of which nothing is left
            logger.warning("The best checkpoint, %s, is not there: taking the last one.", best.name)
    _load_weights(model, average_weights([chosen]))


def _train_until_asked(trainer: NARTrainer, checkpoint: str | None) -> None:
    """Train to the end, or until a signal asks to stop."""
    with StopRequest() as request:
        trainer.add_callback(StopOnRequest(request, trainer.accelerator))
        trainer.train(resume_from_checkpoint=checkpoint)


def _start_from(recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Load the weights of a model folder, which must be of the same vocabulary."""
    folder = Path(recipe.init_from)
    if takes_images(model):  # the library knows other names of some vision encoders' weights
        _load_weights(model, load_model(str(folder), torch.float32, None).state_dict())
    else:
        saved = average_weights([folder])
        if recipe.refiners_from:
            other = average_weights([Path(recipe.refiners_from)])
            saved = with_refiners(saved, other, recipe.stage)
        _load_weights(model, starting_weights(model, saved, recipe.stage))
    if load_tokenizer(str(folder), None).get_vocab() != tokenizer.get_vocab():
        raise ValueError(
            f"`init_from` must be a model of the run's own vocabulary, but the tokenizer in "
            f"{folder} differs. Set `tokenizer.name` to that folder."
        )


def _load_weights(model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Load saved weights; those tied to others are saved once and tied again.

    Weights that never change, such as Marian's positions, are not saved at all.
    """
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:  # what torch raises where shapes differ
        raise ValueError(
            f"Saved weights must have the model's shapes, but {_mismatch(error)}. Give the recipe "
            f"that they were trained with."
        ) from error
    not_saved = {*model.all_tied_weights_keys, *(model._keys_to_ignore_on_save or ())}
    missing = [name for name in missing if name not in not_saved]
    if missing or unexpected:
        raise ValueError(
            f"A checkpoint must hold this model's weights, but {(missing + unexpected)[0]} "
            f"{'is missing' if missing else 'is too much'}. Was it saved by another version, or "
            f"for another recipe?"
        )
    model.tie_weights()


def _mismatch(error: RuntimeError) -> str:
    """Return the first of the lines in which torch lists what does not fit."""
    return str(error).splitlines()[-1].strip().rstrip(".")


def _choose_weights(trainer: NARTrainer, model: PreTrainedModel, output: Path) -> Result:
    """Leave in `model` the best checkpoint, or the mean of the last ones where that is better."""
    folder = output / "export"
    bleu = trainer.validation_bleu()
    wanted = trainer.args.average_checkpoints
    folders = saved_checkpoints(output)[-wanted:]
    if wanted < 2 or len(folders) < 2:
        return Result(folder, bleu, 1)
    best = {name: value.clone() for name, value in model.state_dict().items()}
    _load_weights(model, average_weights(folders))
    average_bleu = trainer.validation_bleu()
    if average_bleu >= bleu:
        return Result(folder, average_bleu, len(folders))
    model.load_state_dict(best)
    return Result(folder, bleu, 1)


def _facts(
    trainer: NARTrainer, model: PreTrainedModel, result: Result, output: Path
) -> Mapping[str, Any]:
    state = trainer.state
    return {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 2),
        "hours": round(_seconds(output / LOG_FILE) / 3600, 2),
        "best_step": state.best_global_step if trainer.args.load_best_model_at_end else None,
        "validation_bleu": round(result.bleu, 2),
        "averaged_checkpoints": result.averaged,
        "dtype": str(EXPORT_DTYPE).removeprefix("torch."),
        "parameters": model.num_parameters(),
        "processes": trainer.accelerator.num_processes,
        "device": trainer.accelerator.device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "environments": read_environments(output),
    }


def _seconds(log: Path) -> float:
    """Return how long a run took: its clock starts again with every process that goes on."""
    total = last = 0.0
    for line in log.read_text(encoding="utf-8").splitlines():
        seconds = float(json.loads(line)["seconds"])
        if seconds < last:
            total += last
        last = seconds
    return total + last
