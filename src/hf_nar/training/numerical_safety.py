"""The library's trainer, without the optimizer steps that a non-finite number would spoil."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import Seq2SeqTrainer

from hf_nar.remote_code.losses_nar import IGNORED_LABEL
from hf_nar.training.callbacks import JsonLinesLog
from hf_nar.training.config import NARTrainingArguments

logger = logging.getLogger(__name__)

SAFETY_FILE = "numerical_safety.json"  # in a checkpoint
SHOWN_SENTENCES = 3  # of each process, where it is not known whose batch it was
_MEMORY = 100  # steps that the running mean of the loss looks back
_FEWEST_LOSSES = 20  # before any is called a spike


@dataclass
class Counts:
    """What a run has seen so far; kept in its checkpoints.

    Args:
        skipped_steps: Steps without an update because of a non-finite loss or gradient.
        skipped_in_a_row: How many of the last steps had no update, whoever left it out.
        losses: How many finite losses the mean is of.
        loss_mean: Running mean of the loss of a step.
        loss_variance: Running variance of the same.
    """

    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    losses: int = 0
    loss_mean: float = 0.0
    loss_variance: float = 0.0

    def deviations(self, loss: float) -> float:
        """Return by how many standard deviations a loss is above the mean, then count it."""
        distance = loss - self.loss_mean
        std = math.sqrt(self.loss_variance)
        above = distance / std if self.losses >= _FEWEST_LOSSES and std > 0 else 0.0
        self.losses += 1
        weight = max(1 / self.losses, 2 / (_MEMORY + 1))
        self.loss_mean += weight * distance
        self.loss_variance = (1 - weight) * (self.loss_variance + weight * distance**2)
        return above


@dataclass(frozen=True)
class _Step:
    """One optimizer step, as it was seen on the device.

    Args:
        number: Of the step, from 1.
        is_bad: Whether the norm of its gradients is not finite; the same in all processes.
        losses: Of the batches of this process, as the network gave them.
        batches: These batches.
        loss: This process's part of the step's loss, times the number of processes.
    """

    number: int
    is_bad: Tensor
    losses: list[Tensor]
    batches: list[Mapping[str, Any]]
    loss: Tensor


class NumericalSafety(Seq2SeqTrainer):
    """Skip the steps that have a non-finite loss or gradient, in all processes alike.

    A non-finite loss makes its gradients non-finite. Gradients are summed over the processes, so
    that their norm, which the library computes anyway, tells every process the same. Where the
    optimizer can be told on the device (all fused ones), nothing waits for the device; what was
    skipped is read, counted and reported with the next log entry, or after `max_skipped_steps`. A
    skipped step leaves weights and moments as they were, and counts as a step of the schedule.

    With fp16 the gradient scaler skips, and tries another scale. Such a step is counted as skipped
    only where the loss itself was not finite. DeepSpeed has a way of its own and is left to it.
    """

    args: NARTrainingArguments

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.counts = Counts()
        self._seen: list[_Step] = []
        self._losses: list[Tensor] = []
        self._batches: list[Mapping[str, Any]] = []
        self._parts: list[Tensor] = []
        self._finite_part: Tensor | float = 0.0

    @property
    def _looks_at_steps(self) -> bool:
        """Whether the library asks for a norm before each update; DeepSpeed keeps it to itself."""
        return bool(self.accelerator.distributed_type != DistributedType.DEEPSPEED)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss; one that is not finite has gradients that are not, either."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if torch.is_grad_enabled() and self._looks_at_steps:
            self._losses.append(loss.detach())
            self._batches.append(inputs)
            loss = loss * torch.where(loss.detach().isfinite(), 1.0, torch.nan).to(loss.dtype)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Do a batch forward and backward; for the log a finite loss stands in for another."""
        part: Tensor = super().training_step(*args, **kwargs)
        if not self._looks_at_steps:
            return part
        self._parts.append(part)
        self._finite_part = torch.where(part.isfinite(), part, self._finite_part)
        return self._finite_part

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Return the norm of the gradients; the library asks for it right before the update."""
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]  # has no types
        if self._looks_at_steps:
            whole = norm.full_tensor() if isinstance(norm, DTensor) else norm
            self._look_at(model, ~whole.detach().isfinite())
        return norm

    def _look_at(self, model: nn.Module, is_bad: Tensor) -> None:
        """Have a bad step skipped, and remember the step."""
        loss = torch.stack(self._parts).sum().float()
        number = self.state.global_step + 1
        self._seen.append(_Step(number, is_bad, self._losses, self._batches, loss))
        self._losses, self._batches, self._parts = [], [], []
        if self.accelerator.scaler is None:
            self._skip_where(model, is_bad)
        if len(self._seen) >= self.args.max_skipped_steps:
            self._read_seen()

    def _skip_where(self, model: nn.Module, is_bad: Tensor) -> None:
        optimizer: Any = self.optimizer.optimizer  # type: ignore[union-attr]  # as accelerate wraps it
        is_sharded = self.accelerator.distributed_type == DistributedType.FSDP
        if getattr(optimizer, "_step_supports_amp_scaling", False) and not is_sharded:
            optimizer.found_inf = is_bad.float()  # what a gradient scaler would tell it
        elif is_bad:
            model.zero_grad()  # without gradients an optimizer changes nothing

    def _read_seen(self) -> None:
        """Count and report the steps since the last time, waiting for the device once."""
        steps, self._seen = self._seen, []
        if not steps:
            return
        parts = self.accelerator.gather(torch.stack([step.loss for step in steps])[None])
        columns = parts.cpu().T.tolist()  # [steps, processes]
        are_bad = torch.stack([step.is_bad for step in steps]).tolist()
        for step, losses, is_bad in zip(steps, columns, are_bad, strict=True):
            if is_bad:
                self._count_skipped(step, losses)
                continue
            self.counts.skipped_in_a_row = 0
            self._look_for_spike(step, losses)

    def _count_skipped(self, step: _Step, losses: list[float]) -> None:
        self.counts.skipped_in_a_row += 1
        if self.accelerator.scaler is None or not all(map(math.isfinite, losses)):
            self.counts.skipped_steps += 1
            self._report_skipped(step)
        if self.counts.skipped_in_a_row >= self.args.max_skipped_steps:
            raise FloatingPointError(
                f"Training must have finite losses and gradients, but the last "
                f"{self.counts.skipped_in_a_row} steps, up to step {step.number}, had none "
                f"(`training.max_skipped_steps`). Look at the sentences in log.jsonl; then lower "
                f"the learning rate, or drop them and go on from the last checkpoint."
            )

    def _report_skipped(self, step: _Step) -> None:
        """Write the batches of a skipped step into the log, of the process whose loss it was."""
        found: list[dict[str, Any]] = gather_object([self._describe(step)])
        guilty = [batch for batch in found if not math.isfinite(batch["loss"])]
        for batch in guilty or found:
            batch["loss"] = str(batch["loss"])
            batch["sentences"] = batch["sentences"][: None if guilty else SHOWN_SENTENCES]
        reason = "loss" if guilty else "gradient"
        batches = guilty or found
        entry = {"skipped_step": step.number, "skipped_steps": self.counts.skipped_steps}
        self._write_line({**entry, "not_finite": reason, "batches": batches})
        if self.is_world_process_zero():
            logger.warning(
                "Step %s was skipped, as its %s was not finite; %s so far. The batch of process %s "
                "begins with: %r",
                step.number,
                reason,
                self.counts.skipped_steps,
                batches[0]["process"],
                batches[0]["sentences"][0],
            )

    def _describe(self, step: _Step) -> dict[str, Any]:
        """Return the batch of this process whose loss is not finite, or else its first."""
        losses = [loss.item() for loss in step.losses]
        index = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), 0)
        batch, tokenizer = step.batches[index], self.processing_class
        # An image has captions only; of a teacher's batch the library has taken the labels out.
        words = batch["input_ids"] if "input_ids" in batch else batch["labels"]
        words = words.masked_fill(words == IGNORED_LABEL, tokenizer.pad_token_id)  # type: ignore[union-attr]
        sentences = tokenizer.batch_decode(words, skip_special_tokens=True)  # type: ignore[union-attr]
        process = self.accelerator.process_index
        return {"process": process, "loss": losses[index], "sentences": sentences}

    def _look_for_spike(self, step: _Step, losses: list[float]) -> None:
        loss = sum(losses) / len(losses)
        before = dataclasses.replace(self.counts)
        above, limit = self.counts.deviations(loss), self.args.loss_spike_deviations
        if 0 < limit < above:
            entry = {
                "loss_spike": round(loss, 4),
                "spike_step": step.number,
                "process": losses.index(max(losses)),
                "loss_mean": round(before.loss_mean, 4),
                "loss_std": round(math.sqrt(before.loss_variance), 4),
            }
            self._write_line(entry)

    def _write_line(self, entry: dict[str, Any]) -> None:
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, JsonLinesLog):
                callback.on_log(self.args, self.state, self.control, entry)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the number of skipped steps."""
        if "loss" in logs:
            self._read_seen()
            logs["skipped_steps"] = self.counts.skipped_steps
        super().log(logs, start_time)

    def _save_scaler(self, output_dir: str) -> None:
        """Save the gradient scaler's state, and the counts."""
        super()._save_scaler(output_dir)
        self._read_seen()
        if self.args.should_save:
            text = json.dumps(dataclasses.asdict(self.counts), indent=2) + "\n"
            (Path(output_dir) / SAFETY_FILE).write_text(text, encoding="utf-8")

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Load the gradient scaler's state, and the counts."""
        super()._load_scaler(checkpoint)
        file = Path(checkpoint or ".") / SAFETY_FILE
        if checkpoint and file.is_file():
            self.counts = Counts(**json.loads(file.read_text(encoding="utf-8")))
