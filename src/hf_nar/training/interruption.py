"""SIGTERM or Ctrl-C in training: finish the step, write a checkpoint, and leave."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from accelerate import Accelerator
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

logger = logging.getLogger(__name__)

EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: run it again
SIGNALS = (signal.SIGTERM, signal.SIGINT)

# A launcher passes on what its processes got themselves: a signal so soon after is the same one.
_SAME_SECONDS = 2.0
# On a GPU asking the other processes waits for the device, so it is done only so often.
_STEPS_ON_GPU = 10


class TrainingInterrupted(Exception):
    """Training has stopped, as a signal asked, after it had written a checkpoint."""


def spare_from_signals(worker: int) -> None:
    """Keep a data loader's worker out of reach of a signal to the run's whole process group.

    Serves as `worker_init_fn`. Such a signal would end the worker, and with it the run, before the
    main process can write its checkpoint. Where the main process ends, the worker sees it.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()


class StopRequest:
    """A context in which the signals are noted; a second one ends the process as ever.

    Outside the main thread, where Python allows no handlers, nothing is noted.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._since = signal.Signals(number), now
        elif now - self._since > _SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class StopOnRequest(TrainerCallback):
    """End training with a checkpoint where any process was asked to stop, all at the same step.

    The processes ask each other after every step on a CPU, and after every tenth on GPUs. An
    evaluation that is due at the step is done first: what it finds belongs to the checkpoint.

    Args:
        request: What this process was asked.
        accelerator: Of the trainer.
    """

    def __init__(self, request: StopRequest, accelerator: Accelerator) -> None:
        self.request = request
        self.accelerator = accelerator
        is_cheap = accelerator.device.type == "cpu" or accelerator.num_processes == 1
        self.every = 1 if is_cheap else _STEPS_ON_GPU
        self.is_stopping = False

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for a checkpoint, and a log entry up to it."""
        if state.global_step % self.every == 0 and self._is_asked():
            self.is_stopping = True
            if not self._ends_epoch(args, state):
                control.should_save = control.should_log = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Ask for it here where the step was the last of its epoch."""
        if self.is_stopping:
            control.should_save = control.should_log = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave training, as the checkpoint is there.

        Raises:
            TrainingInterrupted: If the run was asked to stop.
        """
        if not self.is_stopping:
            return
        folder = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
        message = f"Training was asked to stop and has written {folder}. Run it again to go on."
        if state.is_world_process_zero:
            logger.warning(message)
        raise TrainingInterrupted(message)

    def _is_asked(self) -> bool:
        """Return whether this process or another one was."""
        is_asked = self.request.signal is not None
        if self.accelerator.num_processes == 1:
            return is_asked
        asked = torch.tensor(float(is_asked), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, reduction="sum").item())

    def _ends_epoch(self, args: TrainingArguments, state: TrainerState) -> bool:
        """Return whether the end of an epoch, with all that is due there, follows at once."""
        by_epoch = (
            args.eval_strategy == IntervalStrategy.EPOCH or args.save_strategy == SaveStrategy.EPOCH
        )
        return by_epoch and float(state.epoch or 0.5).is_integer()
