"""The library's trainer, with checkpoints that are there whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

from accelerate.utils import gather_object
from torch import nn
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import TrainOutput, rotate_checkpoints

from hf_nar.training.checkpoint import STATE_FILE
from hf_nar.training.manifest import damage, write_manifest
from hf_nar.training.whole_folders import UNFINISHED, put_in_place, remove_unfinished

logger = logging.getLogger(__name__)

# How the writers of torch, and of safetensors and tokenizers, say that the disk took no more. Only
# Python's own raise an OSError.
_DISK_MARKS = ("inline_container.cc", "(os error ")


class _DiskErrors:
    """A context that says in one sentence where the disk did not take a checkpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        is_full = isinstance(error, OSError) or any(mark in str(error) for mark in _DISK_MARKS)
        if error is None or not is_full:
            return
        remove_unfinished(self.folder.parent)  # makes room
        raise OSError(
            f"A checkpoint must fit into {self.folder.parent}, but {self.folder.name} could not be "
            f"written ({error}). Those before are as they were: make room, or make the folder "
            f"writable, and start the same command again."
        ) from error


class WholeCheckpoints(Seq2SeqTrainer):
    """Write each checkpoint under another name, and rename it when all of it is on the disk.

    The library's own code writes it, but into a folder `UNFINISHED` of the output folder. When
    every process has written its part, a manifest is added, and all files are written through.
    """

    _is_saving = False

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; what an earlier process did not finish to write is removed first."""
        if self.args.should_save:
            remove_unfinished(Path(self.args.output_dir or "."))
        self.accelerator.wait_for_everyone()
        return super().train(*args, **kwargs)

    def _finalize_training(self, *args: Any, **kwargs: Any) -> Any:
        """End training, but keep the last checkpoint: with a limit of 1 the library removes it.

        A run that is started again would train from the best one to the end once more.
        """
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            return super()._finalize_training(*args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            self.args.save_total_limit = limit

    def _load_best_model(self) -> None:
        """Load the best checkpoint; where a node cannot, all processes keep the last weights."""
        best = Path(self.state.best_model_checkpoint or "")
        problem = damage(best) if self.args.local_process_index == 0 else None
        problems = [found for found in gather_object([problem]) if found is not None]
        if not problems:
            super()._load_best_model()
            return
        self.state.best_global_step = None  # of which nothing is left
        if self.is_world_process_zero():
            logger.warning(
                "The best checkpoint, %s, is damaged or not there (%s): taking the last weights.",
                best.name,
                problems[0],
            )

    def _get_output_dir(self, trial: Any) -> str:
        folder: str = super()._get_output_dir(trial)
        return str(Path(folder) / UNFINISHED) if self._is_saving else folder

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint, and remove older ones.

        Raises:
            OSError: If it cannot be written; those written before stay as they are.
        """
        run = Path(self._get_output_dir(trial))
        folder = run / f"checkpoint-{self.state.global_step}"
        with _DiskErrors(folder):
            self._write_checkpoint(model, trial, run, folder)
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
                use_mtime=True,
            )
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))

    def _write_checkpoint(self, model: nn.Module, trial: Any, run: Path, folder: Path) -> None:
        """Let the library write an unfinished checkpoint, and finish it."""
        unfinished = run / UNFINISHED / folder.name
        self._is_saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._is_saving = False
        self._name_best(run, folder)
        self.accelerator.wait_for_everyone()  # each process writes its random state
        if self.args.should_save:
            self.state.save_to_json(str(unfinished / STATE_FILE))
            write_manifest(unfinished, self.args.world_size)
            put_in_place(unfinished, folder)
            remove_unfinished(run)
        self.accelerator.wait_for_everyone()  # none may end the run before

    def _name_best(self, run: Path, folder: Path) -> None:
        """Name the best checkpoint as it will be named: the library looked for it among these."""
        best = run / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and (best == folder or best.is_dir()):
            self.state.best_model_checkpoint = str(best)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push to the Hub, but nothing unfinished."""
        if not self._is_saving:
            super()._push_from_checkpoint(checkpoint_folder)
