"""What a run would be: its size, its steps, its files and its traps, without training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
from accelerate import PartialState
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from hf_nar.data.batching import TokenBatchSampler
from hf_nar.data.corpus import load_corpus, token_lengths, tokenize_corpus
from hf_nar.data.validation_set import load_validation_set
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.memory import ActivationMemory, measure_activations
from hf_nar.training.models import build_model
from hf_nar.training.recipe import Recipe
from hf_nar.training.run import training_arguments
from hf_nar.training.run_tokenizer import prepare_tokenizer

SAMPLE = 200_000  # pairs that are tokenized of a larger corpus
_BYTES = 4  # of a weight in training: float32, with `bf16` too
_MUCH_DROPPED, _MUCH_PADDING = 0.05, 0.1
_ADAM_MOMENTS = 2


@dataclass(frozen=True)
class DataPlan:
    """What one epoch is.

    Args:
        kind: What is counted, such as "pairs".
        count: How many are trained on; None for a stream, which is not counted.
        seen: How many were tokenized; the rest is scaled from these.
        dropped_share: Share left out because a side was too long.
        largest: Rows, source and target positions of the batch with the most of the last.
        batches: In an epoch, of all processes; None for a stream.
        tokens_per_batch: Real tokens of both sides, mean over batches.
        padding_share: Padded positions among all positions.
        picture: `[1, channels, height, width]`, where the source is one.
    """

    kind: str
    count: int | None
    seen: int
    dropped_share: float
    largest: tuple[int, int, int]
    batches: int | None
    tokens_per_batch: float
    padding_share: float
    picture: Tensor | None = None


@dataclass(frozen=True)
class RunPlan:
    """What a run would be.

    Args:
        recipe: The recipe.
        arguments: Its training arguments.
        model: The network, with new weights.
        data: An epoch.
        activations: What one batch keeps for its backward pass.
        processes: How many there would be.
        warnings: What may not be meant.
    """

    recipe: Recipe
    arguments: NARTrainingArguments
    model: PreTrainedModel
    data: DataPlan
    activations: ActivationMemory
    processes: int
    warnings: list[str] = field(default_factory=list)

    @property
    def steps_per_epoch(self) -> int | None:
        """Optimizer steps of an epoch; None for a stream."""
        if self.data.batches is None:
            return None
        batches = math.ceil(self.data.batches / self.processes)
        return math.ceil(batches / self.arguments.gradient_accumulation_steps)

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        if self.arguments.max_steps > 0:
            return self.arguments.max_steps
        return math.ceil(self.arguments.num_train_epochs * (self.steps_per_epoch or 0))

    @property
    def tokens_per_step(self) -> float:
        """Real tokens of both sides in a step, of all processes."""
        accumulated = self.arguments.gradient_accumulation_steps
        return self.data.tokens_per_batch * self.processes * accumulated


def plan_run(recipe: Recipe) -> RunPlan:
    """Find out what a run would be; nothing is written into its output folder.

    Raises:
        OSError: If the corpus, or another file, cannot be read.
        ValueError: If the recipe, a corpus or the tokenizer is not usable.
    """
    arguments = training_arguments(recipe)
    set_seed(arguments.seed)
    with _tokenizer(recipe) as tokenizer:
        model = build_model(recipe, tokenizer)
        if recipe.trains_refiners:
            names = None if recipe.stage == "refiner" else [recipe.stage]
            cast("LaNMTForConditionalGeneration", model).train_refiners(names)
        plan = _plan_images if recipe.data.source == "image" else _plan_pairs
        data = plan(recipe, arguments, model, tokenizer)
    activations = measure_activations(model, data.largest[1:], data.picture, arguments)
    processes = PartialState().num_processes
    run = RunPlan(recipe, arguments, model, data, activations, processes)
    run.warnings.extend(_warnings(run))
    return run


@contextmanager
def _tokenizer(recipe: Recipe) -> Iterator[PreTrainedTokenizerFast]:
    """Yield the run's tokenizer; one that is not there yet is trained and thrown away."""
    if recipe.tokenizer.name or (Path(recipe.output) / "tokenizer").is_dir():
        yield prepare_tokenizer(recipe, Path(recipe.output))
        return
    with TemporaryDirectory() as folder:
        yield prepare_tokenizer(recipe, Path(folder))


def _plan_pairs(
    recipe: Recipe,
    arguments: NARTrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> DataPlan:
    pairs = load_corpus(recipe.data.corpus("train")).pairs
    load_validation_set(recipe.data.corpus("validation"))
    total: int | None = None
    if isinstance(pairs, Dataset):
        total = len(pairs)
        sample = pairs.select(range(0, total, math.ceil(total / SAMPLE)))
    else:
        sample = Dataset.from_list(list(pairs.take(SAMPLE)))
    limits = recipe.data.max_source_tokens, recipe.data.max_target_tokens
    examples = cast("Dataset", tokenize_corpus(sample, tokenizer, *limits).examples)
    kept_share = len(examples) / len(sample)
    count = None if total is None else round(total * kept_share)
    sides = [
        np.resize(token_lengths(examples, column), count or len(examples))
        for column in ("input_ids", "labels")
    ]
    budget = arguments.tokens_per_batch
    sampler = TokenBatchSampler(sides[0], sides[1], budget, seed=arguments.seed)
    return _data_plan("pairs", sampler, sides, (count, len(sample), 1 - kept_share))


def _plan_images(
    recipe: Recipe,
    arguments: NARTrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> DataPlan:
    from hf_nar.training.captions import captions_to_train  # late: needs Pillow

    examples, picture, sides = captions_to_train(recipe, model, tokenizer)
    sampler = TokenBatchSampler(*sides, arguments.tokens_per_batch, seed=arguments.seed)
    seen = len(examples) + examples.overlong_dropped
    counts = len(examples), seen, examples.overlong_dropped / seen
    plan = _data_plan("captions", sampler, [examples.target_lengths()], counts)
    return replace(plan, picture=picture)


def _data_plan(
    kind: str,
    sampler: TokenBatchSampler,
    sides: Sequence[NDArray[np.int64]],
    counts: tuple[int | None, int, float],
) -> DataPlan:
    """Go through the batches of an epoch.

    Args:
        kind: What a row is.
        sampler: Of the batches.
        sides: Tokens of each row that are padded to a batch's longest, source first.
        counts: Rows trained on, rows tokenized, share of rows left out.
    """
    positions, largest, real = 0, (0, 0, 0), int(sum(side.sum() for side in sides))
    batches = 0
    for rows in sampler:
        batches += 1
        widths = [int(side[rows].max()) for side in sides]
        positions += len(rows) * sum(widths)
        if widths[-1] * len(rows) > largest[0] * largest[2]:
            largest = len(rows), widths[0] if len(widths) > 1 else 0, widths[-1]
    count, seen, dropped = counts
    known = None if count is None else batches
    padding = 1 - real / positions
    return DataPlan(kind, count, seen, dropped, largest, known, real / batches, padding)


def _warnings(run: RunPlan) -> Iterator[str]:
    data, arguments, recipe = run.data, run.arguments, run.recipe
    if data.dropped_share > _MUCH_DROPPED:
        yield (
            f"{data.dropped_share:.1%} of the {data.kind} are longer than `data.max_source_tokens` "
            f"or `data.max_target_tokens` and left out."
        )
    if data.padding_share > _MUCH_PADDING:
        yield f"{data.padding_share:.1%} of the positions of a batch are padding."
    if arguments.warmup_steps >= run.steps:
        yield f"The run ends in its warm-up of {arguments.warmup_steps} steps."
    for name, strategy in (("eval", arguments.eval_strategy), ("save", arguments.save_strategy)):
        if strategy == "steps" and getattr(arguments, f"{name}_steps") > run.steps:
            yield f"`training.{name}_steps` is more than the {run.steps} steps of the run."
    for option in ("init_from", "refiners_from"):
        name = getattr(recipe, option)
        if name and not Path(name).is_dir():
            yield f"`{option}` must be a model folder when training starts; there is no {name} yet."


def parts_of(model: nn.Module) -> dict[str, tuple[int, int]]:
    """Return how many parameters each part has, and how many of them are trained.

    A part is a module right below the network, or a named one of a `ModuleDict` in it. A weight
    that two parts share is counted for the first.
    """
    parts: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        head, *rest = name.split(".")
        is_named = isinstance(getattr(model, head), nn.ModuleDict) and rest
        part = f"{head}.{rest[0]}" if is_named else head
        total, trained = parts.get(part, (0, 0))
        count = parameter.numel()
        parts[part] = total + count, trained + count * parameter.requires_grad
    return parts


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that training takes on the device of one process, where nothing is shared out.

    Args:
        weights: All weights, in float32.
        gradients: Of those that are trained.
        moments: The two of Adam; 0 for another optimizer, which is not estimated.
        activations: What the largest batch keeps for its backward pass.
    """

    weights: int
    gradients: int
    moments: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.moments + self.activations

    @property
    def checkpoint(self) -> int:
        """Bytes of a checkpoint: weights and optimizer."""
        return self.weights + self.moments


def memory_of(run: RunPlan) -> MemoryPlan:
    """Return what a run takes on the device of each process."""
    counts = parts_of(run.model).values()
    trained = sum(trained for _, trained in counts)
    weights = sum(total for total, _ in counts)
    optimizer: str = run.arguments.to_dict()["optim"]  # type: ignore[no-untyped-call]  # has no types
    is_adam = "adam" in optimizer and "bit" not in optimizer
    moments = _ADAM_MOMENTS * trained if is_adam else 0
    sizes = weights * _BYTES, trained * _BYTES, moments * _BYTES
    return MemoryPlan(*sizes, run.activations.bytes_of(run.data.largest[0]))
