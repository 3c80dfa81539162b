"""The library's trainer, with streamed corpora that go on in a checkpoint where it was written."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer

from hf_nar.data.collating import PairCollator, SmallBatch
from hf_nar.data.row_streams import as_lists
from hf_nar.data.streaming import READ_AHEAD, Position, StreamedTokenBatches
from hf_nar.training.interruption import spare_from_signals

logger = logging.getLogger(__name__)

_POSITION = "stream_position"  # in a batch on its way to the trainer


class PositionedCollator:
    """Collate the batches of a `StreamedTokenBatches`, and keep where its reader stands.

    Args:
        collate: Makes a batch of examples.
    """

    def __init__(self, collate: Callable[[list[Any]], Mapping[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, read: Any) -> Any:
        """Return a batch; one that is only counted stays None."""
        if read is None:
            return None
        examples, (worker, position) = read
        place = {_POSITION: torch.tensor([worker, *position])}
        if isinstance(self.collate, PairCollator):
            return SmallBatch(self.collate(examples), **place)
        return {**self.collate(as_lists(examples)), **place}


class StreamPositions(Seq2SeqTrainer):
    """Keep in each checkpoint where every process, with its workers, stands in a streamed corpus.

    What counts are the batches that were trained on, not those that were read ahead. A run that
    goes on reads only the rows of the current buffer again, and passes over those before it.
    """

    streamed: StreamedTokenBatches | None = None

    def loader_of(self, batches: StreamedTokenBatches) -> DataLoader[Any]:
        """Return the loader of a stream; each process reads its own share."""
        self.streamed = batches
        self.stream_positions: dict[int, Position] = {}
        workers, ahead = self.args.dataloader_num_workers, self.args.dataloader_prefetch_factor
        return DataLoader(
            batches,
            batch_size=None,
            collate_fn=PositionedCollator(self.data_collator),
            num_workers=workers,
            prefetch_factor=(ahead or READ_AHEAD) if workers else None,
            worker_init_fn=spare_from_signals,
            pin_memory=self.args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def note_positions(self, batches: list[Any]) -> list[Any]:
        """Take the positions out of the batches of a step, and remember them.

        The batches of a stream go to the device here: elsewhere the host would wait for that.
        """
        for batch in batches:
            if _POSITION in batch:
                worker, *position = batch.pop(_POSITION).tolist()
                self.stream_positions[worker] = Position(*position)
                for name, value in batch.items():
                    if isinstance(value, torch.Tensor):
                        batch[name] = value.to(self.args.device, non_blocking=True)
        return batches

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the passes that this process has done through its share of a stream."""
        if "loss" in logs and self.streamed is not None and self.stream_positions:
            logs["passes"] = min(position.passes for position in self.stream_positions.values())
        super().log(logs, start_time)

    def _save_rng_state(self, output_dir: str) -> None:
        """Save the random state of this process, and where it stands."""
        super()._save_rng_state(output_dir)
        if self.streamed is None:
            return
        content = {
            "processes": self.args.world_size,
            "workers": self.args.dataloader_num_workers,
            "positions": {i: p._asdict() for i, p in sorted(self.stream_positions.items())},
        }
        text = json.dumps(content, indent=2) + "\n"
        Path(output_dir, _file_of(self.args.process_index)).write_text(text, encoding="utf-8")

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Load the gradient scaler's state, and where this process stood."""
        super()._load_scaler(checkpoint)
        if checkpoint and self.streamed is not None and not self.args.ignore_data_skip:
            self._go_on(Path(checkpoint))

    def _go_on(self, checkpoint: Path) -> None:
        """Have the stream go on; from a checkpoint without positions all is read again."""
        assert self.streamed is not None
        saved = [_read(file) for file in checkpoint.glob(_file_of("*"))]
        if not saved:
            return
        done = self.state.global_step * self.args.gradient_accumulation_steps
        readers = self.args.world_size, self.args.dataloader_num_workers
        if all((found["processes"], found["workers"]) == readers for found in saved):
            own = checkpoint / _file_of(self.args.process_index)
            positions = {int(i): Position(**p) for i, p in _read(own)["positions"].items()}
        else:
            earliest = min(Position(**p) for found in saved for p in found["positions"].values())
            start = earliest._replace(batches=0)
            positions = dict.fromkeys(range(max(1, readers[1])), start)
            if self.is_world_process_zero():
                logger.warning(
                    "%s was written with %s process(es) of %s worker(s) each, and this run has %s "
                    "of %s: the stream goes on where the slowest of them stood, and some pairs "
                    "come twice.",
                    checkpoint,
                    saved[0]["processes"],
                    saved[0]["workers"],
                    *readers,
                )
        self.stream_positions = dict(positions)
        self.streamed.go_on(positions, done)


def _file_of(process: int | str) -> str:
    return f"stream_position_{process}.json"


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content
