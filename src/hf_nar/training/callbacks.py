"""What a run writes beside its weights."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LOG_FILE = "log.jsonl"


class JsonLinesLog(TrainerCallback):
    """Append every log entry to `log.jsonl` as one JSON object, with step and seconds.

    A resumed run goes on in the same file. Seconds count from the start of the process.
    """

    def __init__(self) -> None:
        self.started = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Write that a process began: the clock starts again."""
        if state.is_world_process_zero:
            _drop_cut_line(Path(args.output_dir or ".") / LOG_FILE)
        self.on_log(args, state, control, {"processes": args.world_size})

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log before a checkpoint is saved: sums for the next entry are not part of it."""
        control.should_log = control.should_log or control.should_save

    on_epoch_end = on_step_end

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write one line, in the first process only."""
        if not state.is_world_process_zero or not logs:
            return
        entry: dict[str, Any] = {
            "step": state.global_step,
            "seconds": round(time.monotonic() - self.started, 1),
        }
        for name, value in logs.items():
            is_bad = isinstance(value, float) and not math.isfinite(value)
            entry[name] = str(value) if is_bad else value
        output = Path(args.output_dir or ".")
        output.mkdir(parents=True, exist_ok=True)
        with (output / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _drop_cut_line(log: Path) -> None:
    """Remove the end of a log that a full disk cut off in the middle of a line."""
    text = log.read_bytes() if log.is_file() else b""
    if text and not text.endswith(b"\n"):
        os.truncate(log, text.rfind(b"\n") + 1)


class EpochOrder(TrainerCallback):
    """Tell the batch sampler which epoch begins.

    accelerate does so too, but not where a run on several processes goes on within an epoch: there
    the pairs of epoch 0 would come again.
    """

    def on_epoch_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """Look for the sampler under what accelerate has wrapped around it."""
        sampler = getattr(train_dataloader, "batch_sampler", None)
        while sampler is not None and not hasattr(sampler, "set_epoch"):
            sampler = getattr(sampler, "batch_sampler", None)
        if sampler is not None:
            sampler.set_epoch(int(state.epoch or 0))
