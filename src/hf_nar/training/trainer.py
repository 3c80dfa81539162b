"""The library's trainer, with batches by tokens, loss terms in the log, and BLEU by decoding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.trainer_utils import EvalLoopOutput

from hf_nar.data.batching import TokenBatchSampler
from hf_nar.data.collating import PairCollator, fast_examples
from hf_nar.data.corpus import token_lengths
from hf_nar.data.dealing import FILLER, EvenBatches, FillingCollator
from hf_nar.data.streaming import StreamedTokenBatches
from hf_nar.data.validation_set import held_in_memory
from hf_nar.evaluation.quality import corpus_scores
from hf_nar.inference import Translator
from hf_nar.remote_code.losses_nar import IGNORED_LABEL, word_loss_sum
from hf_nar.teacher import Teacher
from hf_nar.training.callbacks import EpochOrder, JsonLinesLog
from hf_nar.training.config import NARTrainingArguments, check_own_smoothing
from hf_nar.training.interruption import spare_from_signals
from hf_nar.training.models import is_autoregressive
from hf_nar.training.numerical_safety import NumericalSafety
from hf_nar.training.schedules import KLBudgetSchedule, hold_then_fall
from hf_nar.training.sharding import check_shardable, whole_copy
from hf_nar.training.stream_positions import StreamPositions
from hf_nar.training.throughput import MeasuredThroughput
from hf_nar.training.weighing import WeightedMeans, count_items
from hf_nar.training.whole_checkpoints import WholeCheckpoints

# Terms of the loss that a model may put into its output; see its output class for their units.
LOSS_TERMS = (
    "word_loss",
    "first_pass_loss",
    "last_pass_loss",
    "kl_loss",
    "kl",
    "consistency_loss",
    "score_loss",
    "score_cosine",
    "score_error",
    "score_word_loss",
    "score_repeat_loss",
    "score_doubt_loss",
    "energy_loss",
    "energy_cosine",
    "energy_error",
    "energy_word_loss",
    "energy_repeat_loss",
    "energy_doubt_loss",
    "length_loss",
)


class TeacherCollator(DataCollatorForSeq2Seq):
    """Pad pairs, and shift the labels for the decoder, also for models that do it in `forward`."""

    def __call__(self, features: Any, return_tensors: str | None = None) -> Any:
        """Return `input_ids`, `attention_mask`, `labels` and `decoder_input_ids`."""
        batch: Any = super().__call__(features, return_tensors)  # type: ignore[no-untyped-call]  # has no types
        if "decoder_input_ids" not in batch:
            config = cast("PreTrainedModel", self.model).config
            words = batch["labels"].masked_fill(
                batch["labels"] == IGNORED_LABEL, config.pad_token_id
            )
            start = torch.full_like(words[:, :1], config.decoder_start_token_id)
            batch["decoder_input_ids"] = torch.cat([start, words[:, :-1]], dim=1)
        return batch


@dataclass(frozen=True)
class SmoothedWordLoss:
    """Loss of an autoregressive teacher: a mean over the real tokens of all accumulated batches.

    Args:
        label_smoothing: Probability spread evenly over the whole vocabulary.
    """

    label_smoothing: float

    def __call__(
        self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return nats for each token; `num_items_in_batch` tokens are in all batches of a step."""
        total = word_loss_sum(outputs.logits, labels, self.label_smoothing)
        if num_items_in_batch is None:
            return total / (labels != IGNORED_LABEL).sum()
        return total / num_items_in_batch


class NARTrainer(MeasuredThroughput, NumericalSafety, StreamPositions, WholeCheckpoints):
    """Train a non-autoregressive model, or the autoregressive teacher of one.

    Adds to the library's trainer: batches of `tokens_per_batch` tokens from pairs of like length,
    the model's loss terms in every log entry, the KL budget's schedule, `log.jsonl`, and
    `eval_bleu`: the validation set is translated for real, each process taking every n-th
    sentence, none twice. See `MeasuredThroughput`, `NumericalSafety` and
    `WholeCheckpoints` for what else differs.

    Args:
        args: See `NARTrainingArguments`.
        validation_sources: Raw sentences that are translated for `eval_bleu`; none, no BLEU.
        validation_references: Their references.
        **kwargs: As for `Seq2SeqTrainer`; `processing_class` must be the tokenizer.
    """

    args: NARTrainingArguments
    image_processor: Any = None  # of a model whose source is an image

    def __init__(
        self,
        args: NARTrainingArguments,
        validation_sources: Sequence[Any] | None = None,
        validation_references: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        tokenizer: PreTrainedTokenizerBase = kwargs["processing_class"]
        self.is_teacher = is_autoregressive(kwargs["model"])
        if self.is_teacher:
            kwargs.setdefault("compute_loss_func", SmoothedWordLoss(args.label_smoothing_factor))
            kwargs.setdefault("data_collator", TeacherCollator(tokenizer, model=kwargs["model"]))
        else:
            check_own_smoothing(args.label_smoothing_factor)
        kwargs.setdefault("data_collator", PairCollator(cast("int", tokenizer.pad_token_id)))
        super().__init__(args=args, **kwargs)
        self.validation_sources = validation_sources or []
        self.validation_references = validation_references or []
        if len(self.validation_sources) != len(self.validation_references):
            raise ValueError(
                f"`validation_sources` and `validation_references` must have the same length, got "
                f"{len(self.validation_sources)} and {len(self.validation_references)}."
            )
        self._check_schedules()
        check_shardable(kwargs["model"], self.is_fsdp_enabled)
        compiler = self.accelerator.state.dynamo_plugin
        if args.torch_compile and compiler.dynamic is None:
            compiler.dynamic = True  # one graph for batches of all shapes, and not for the first
        self.kl_budget = self._kl_budget_schedule()
        self.last_scheduled: dict[str, float] = {}
        self._is_validation = False
        self.training_terms, self.validation_terms = WeightedMeans(), WeightedMeans()
        self.add_callback(JsonLinesLog())
        self.add_callback(EpochOrder())

    def _check_schedules(self) -> None:
        """Refuse what belongs to another family."""
        model: Any = self.model
        if getattr(model, "trained_refiners", ()) and self.args.kl_budget is not None:
            raise ValueError(
                f"`kl_budget` has no meaning where refiners are trained; got "
                f"{self.args.kl_budget}. Leave it out."
            )
        for option, is_set, field in (
            ("kl_budget", self.args.kl_budget is not None, "kl_budget"),
            ("corruption_hold", self.args.corruption_hold != 1, "corruption_rates"),
        ):
            if is_set and not hasattr(model.config, field):
                raise ValueError(
                    f"`{option}` is for networks with `{field}`, and {model.config.model_type} has "
                    f"none. Leave it out."
                )

    def _kl_budget_schedule(self) -> KLBudgetSchedule:
        model: Any = self.model
        of_model: float = getattr(model.config, "kl_budget", 0.0)
        budget = of_model if self.args.kl_budget is None else self.args.kl_budget
        return KLBudgetSchedule(budget, self.args.kl_budget_hold)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return batches by token budget, dealt to the processes by accelerate."""
        dataset: Any = self.train_dataset
        if isinstance(dataset, IterableDataset):
            return self._streamed_batches(dataset)
        sampler = TokenBatchSampler(
            *self._batch_lengths(dataset), self.args.tokens_per_batch, seed=self.args.seed
        )
        return self._dealt(dataset, sampler)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return batches of as many pairs, in order, dealt to the processes by accelerate."""
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, str):  # one of several
            dataset = cast("dict[str, Any]", self.eval_dataset)[dataset]
        if isinstance(dataset, IterableDataset):  # of which each worker would read every pair
            dataset = held_in_memory(dataset)
        size = self.args.per_device_eval_batch_size
        return self._dealt(dataset, BatchSampler(SequentialSampler(dataset), size, drop_last=False))

    def _dealt(self, dataset: Any, batches: Any) -> DataLoader[Any]:
        """Return a loader in which each pair comes once, and as many batches for each process."""
        dataset = fast_examples(dataset, self.data_collator)
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=cast("Any", EvenBatches(batches, self.accelerator.num_processes)),
            collate_fn=FillingCollator(self.data_collator, dataset, next(iter(batches))),
            num_workers=self.args.dataloader_num_workers,
            worker_init_fn=spare_from_signals,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def _batch_lengths(self, dataset: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the source and target lengths that batches are made by, each `[pairs]`."""
        return token_lengths(dataset, "input_ids"), token_lengths(dataset, "labels")

    def _streamed_batches(self, dataset: Any) -> DataLoader[Any]:
        """Return endless batches; each process reads its own share, so nothing is prepared."""
        batches = StreamedTokenBatches(
            dataset,
            self.args.tokens_per_batch,
            seed=self.args.seed,
            process=self.accelerator.process_index,
            processes=self.accelerator.num_processes,
        )
        return self.loader_of(batches)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], Tensor | int | None]:
        """Return the batches of a step, and the number of items in those of all processes."""
        batches = self.note_positions(list(islice(epoch_iterator, num_batches)))
        if not batches:
            return batches, None
        network = self.accelerator.unwrap_model(self.model)
        counts = [count_items(network, batch).to(device, non_blocking=True) for batch in batches]
        items: Tensor = self.accelerator.reduce(torch.stack(counts).sum(), reduction="sum")
        return batches, items

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss, and keep its terms for the log.

        In training, where the items of all batches of a step are counted, it is the batch's share
        of the mean over these. See `hf_nar.training.weighing`.
        """
        items = count_items(self.accelerator.unwrap_model(self.model), inputs)
        self.last_scheduled = self._scheduled()
        inputs = {**inputs, **self._as_arguments(self.last_scheduled)}
        inputs.pop(FILLER, None)
        loss, outputs = super().compute_loss(model, inputs, True)
        terms = {name: outputs[name] for name in LOSS_TERMS if outputs.get(name) is not None}
        # A model with frozen parts may say that it is not in training.
        if not torch.is_grad_enabled():
            self.validation_terms.add({**terms, "loss": loss}, items)
        elif num_items_in_batch is not None:
            share = items / num_items_in_batch
            self.training_terms.add(terms, share)
            loss = loss * (share * self._divisor())
        return (loss, outputs) if return_outputs else loss

    def _divisor(self) -> int:
        """Return what a loss is divided by later: by processes, and by batches of a step."""
        # The library takes a loss function of ours for one that has done so.
        batches = 1 if self.compute_loss_func else self.current_gradient_accumulation_steps
        return int(self.accelerator.num_processes * batches)

    def _look_at(self, model: nn.Module, is_bad: Tensor) -> None:
        """Look at a step, and keep its loss terms out of the log where it is skipped."""
        super()._look_at(model, is_bad)
        self.training_terms.keep_unless(is_bad)

    def _scheduled(self) -> dict[str, float]:
        """Return what changes with the steps of the run, as arguments of the network's forward."""
        network: Any = self.accelerator.unwrap_model(self.model)
        config = network.config
        step, steps = self.state.global_step, self.state.max_steps
        values = {}
        if hasattr(config, "kl_budget") and not network.trained_refiners:
            values["kl_budget"] = self.kl_budget.at(step, steps)
        if hasattr(config, "corruption_rates"):
            hold = self.args.corruption_hold
            values["corruption_scale"] = hold_then_fall(step / max(steps, 1), hold)
        return values

    def _as_arguments(self, scheduled: dict[str, float]) -> dict[str, Any]:
        """Return numbers as tensors where a graph would be made anew for each of them."""
        if not self.args.torch_compile:
            return dict(scheduled)
        device = self.args.device
        return {name: torch.full((), value, device=device) for name, value in scheduled.items()}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the means of the loss terms over all processes since the last entry."""
        if "loss" in logs:
            logs.update(self._means(self.training_terms, ""))
            logs.update(self.last_scheduled)
        super().log(logs, start_time)

    def _means(self, terms: WeightedMeans, prefix: str) -> dict[str, float]:
        means = terms.take(partial(self.accelerator.reduce, reduction="sum"))
        shown = {name: v if name == "loss" else round(v, 4) for name, v in means.items()}
        return {f"{prefix}{name}": value for name, value in shown.items()}

    def evaluate(self, eval_dataset: Any = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate; BLEU is of the validation sentences, so only where no other set is given."""
        self._is_validation = eval_dataset is None
        try:
            return super().evaluate(eval_dataset, *args, **kwargs)
        finally:
            self._is_validation = False

    def evaluation_loop(
        self, dataloader: DataLoader[Any], *args: Any, **kwargs: Any
    ) -> EvalLoopOutput:
        """Evaluate the loss and its terms, and BLEU of translations of the validation set."""
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        prefix = kwargs.get("metric_key_prefix", "eval")
        metrics = dict(output.metrics or {})
        metrics.update(self._means(self.validation_terms, f"{prefix}_"))
        if self.validation_sources and self._is_validation:
            scores = self.validation_scores()
            metrics.update({f"{prefix}_{name}": value for name, value in scores.items()})
        return output._replace(metrics=metrics)

    def validation_bleu(self) -> float:
        """Return the BLEU of `validation_scores`."""
        return self.validation_scores()["bleu"]

    def validation_scores(self) -> dict[str, float]:
        """Translate the validation set, shared out to the processes, and return its scores."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        model = whole_copy(self.accelerator.unwrap_model(self.model))
        was_training = model.training
        mine = range(rank, len(self.validation_sources), world)
        texts = self._generated(model.eval(), mine)
        model.train(was_training)
        pairs: list[tuple[int, str]] = gather_object(list(zip(mine, texts, strict=True)))
        return self._scores([text for _, text in sorted(pairs)])

    @property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        return cast("PreTrainedTokenizerBase", self.processing_class)

    def _generated(self, model: PreTrainedModel, indices: range) -> list[str]:
        """Return the translations of some of the validation sources."""
        sources = [self.validation_sources[i] for i in indices]
        size = self.args.per_device_eval_batch_size
        if self.is_teacher:
            return Teacher(model, self._tokenizer).translate(sources, size, num_beams=1)
        count = self.args.validation_iterations
        translator = Translator(model, self._tokenizer, num_refinement_iterations=count)
        return translator.translate(sources, size)

    def _scores(self, hypotheses: list[str]) -> dict[str, float]:
        """Return the scores of translations of the validation set, BLEU among them."""
        return {"bleu": corpus_scores(hypotheses, self.validation_references).bleu}
