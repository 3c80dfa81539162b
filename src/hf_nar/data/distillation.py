"""Sequence-level knowledge distillation: a corpus of a teacher's translations.

Kim and Rush, 2016, "Sequence-Level Knowledge Distillation", section 3.2: students learn from the
teacher's beam-search output instead of the raw targets.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from tqdm import tqdm

from hf_nar.auto import hub_commit, pick_device
from hf_nar.data.distillation_input import DistillationInput
from hf_nar.data.distillation_output import (
    check_finished,
    check_suffix,
    line_rows,
    read_overlong,
    write_rows,
)
from hf_nar.data.distillation_parts import MANIFEST, Batch, Parts, Shard, put_in_place
from hf_nar.data.distillation_settings import DistillationSettings
from hf_nar.data.processes import check_processes
from hf_nar.teacher import Teacher

SECONDS_BETWEEN_LOOKS = 0.5  # at what other processes have finished
EXPORT = "export"  # how every training run calls its model's folder
VERSIONS = ("hf-nar", "torch", "transformers", "tokenizers")
TEACHER_FILES = (
    "*.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.spm",
)  # what decides a translation; not logs, checkpoints of the optimizer or model cards


@dataclass(frozen=True)
class Distillation:
    """What a run ends with.

    Args:
        lines: Lines of the input.
        was_there: Whether the output was there already.
        is_main_process: Whether this process wrote it.
        limit: Longest source that the teacher takes, in tokens.
        overlong: Places, from 0, of the lines that have more: their target is empty. Known to the
            main process.
    """

    lines: int
    was_there: bool
    is_main_process: bool
    limit: int
    overlong: list[int]


def distill(
    teacher: str,
    lines: DistillationInput,
    output: Path,
    settings: DistillationSettings,
    device: str | None = None,
    show_progress: bool = False,
) -> Distillation:
    """Let a teacher translate a corpus, going on where an earlier call was stopped.

    Start it in several processes to share the work, with `accelerate launch` or `torchrun`: shards
    of consecutive lines go to the processes in turn, whose nodes must share a file system. Batches
    depend on input and settings alone, so that a call after a kill gives the same text, with any
    number of processes of as many threads. Finished batches lie in the folder `OUTPUT.parts` until
    the last one is there; then the output appears at once and whole.

    The output has the rows of `line_rows`, in the order of the input. A line without words has an
    empty target and no score; so has one that is too long for the teacher.

    Args:
        teacher: Folder or Hub id of an autoregressive sequence-to-sequence model.
        lines: What to translate.
        output: File to write, `.jsonl` or `.parquet`.
        settings: How.
        device: Where; None takes the GPU of this process if there is one. With several processes
            it names a kind, such as "cuda", and each process takes its own.
        show_progress: Whether the main process shows a bar on standard error.

    Raises:
        OSError: If a file cannot be read or written, or there is no such teacher.
        ValueError: If the teacher, the corpus or a setting is not usable, or if `output` or its
            parts come from other settings.
    """
    check_suffix(output)
    if settings.mix_raw and not lines.has_targets:
        raise ValueError(
            "`mix_raw` needs raw targets, but the corpus has sources only. Leave it out."
        )
    if settings.teacher_revision and Path(teacher).is_dir():
        raise ValueError(
            f"`teacher_revision` must be left out for a folder, and {teacher} is one; got "
            f"{settings.teacher_revision!r}. Give the id of a model on the Hub."
        )
    state = PartialState(cpu=pick_device(device).type == "cpu")
    check_processes(state.num_processes)
    loaded = Teacher.from_pretrained(
        teacher,
        device=pick_process_device(device, state.num_processes, state.device),
        dtype=settings.dtype,
        revision=settings.teacher_revision,
        prefix=settings.prefix,
        source_language=settings.source_language,
        target_language=settings.target_language,
    )
    _check_max_length(loaded, settings)
    facts = describe_run(teacher, loaded, lines, settings)
    parts = Parts(output, facts)
    was_there = check_finished(output, facts)
    if state.is_main_process and not was_there:
        parts.prepare()
    run = DistillationRun(loaded, lines, parts, settings, facts)
    state.wait_for_everyone()  # the only time; a wait for the slowest process could time out
    overlong: list[int] = []
    if not was_there:
        parts.check()
        overlong = run.to_the_end(output, state, show_progress and state.is_main_process)
    elif state.is_main_process:
        shutil.rmtree(parts.folder, ignore_errors=True)  # killed before it could tidy up
        overlong = read_overlong(output)
    return Distillation(
        lines=facts["lines"],
        was_there=was_there,
        is_main_process=state.is_main_process,
        limit=loaded.max_source_tokens,
        overlong=overlong,
    )


def pick_process_device(
    device: str | None, num_processes: int, own: torch.device
) -> str | torch.device:
    """Return where a process translates.

    Args:
        device: What the user asks for, if anything.
        num_processes: How many processes there are.
        own: Where accelerate puts this one.

    Raises:
        ValueError: If all of several processes would translate on one GPU.
    """
    if num_processes == 1:
        return device or own
    if device and torch.device(device).index is not None:
        raise ValueError(
            f"`device` must have no number with several processes, since each takes its own GPU; "
            f"got {device!r} for {num_processes}. Give cuda, or leave it out."
        )
    return own


def _check_max_length(teacher: Teacher, settings: DistillationSettings) -> None:
    positions = getattr(teacher.model.config, "max_position_embeddings", None)
    if settings.max_length and positions and settings.max_length > positions:
        raise ValueError(
            f"`max_length` must be at most {positions}, the positions that the teacher knows; got "
            f"{settings.max_length}."
        )


def plan_batches(counts: Sequence[int], tokens: int) -> list[list[int]]:
    """Cut lines into batches of similar length.

    Args:
        counts: Tokens of each line; 0 for one that is not translated.
        tokens: Tokens of a batch at most, padding included; a longer line goes alone.

    Returns:
        Places of the lines in each batch: first all that are not translated, if any, then those
        with the longest, so that too big a batch fails at once.
    """
    untranslated = [i for i, count in enumerate(counts) if not count]
    batches = [untranslated] if untranslated else []
    todo = sorted((i for i, count in enumerate(counts) if count), key=lambda i: -counts[i])
    while todo:
        size = max(1, tokens // counts[todo[0]])
        batches.append(todo[:size])
        todo = todo[size:]
    return batches


class DistillationRun:
    """One process at work.

    Args:
        teacher: Who translates.
        lines: What.
        parts: Where finished batches go.
        settings: How.
        facts: See `describe_run`.
    """

    def __init__(
        self,
        teacher: Teacher,
        lines: DistillationInput,
        parts: Parts,
        settings: DistillationSettings,
        facts: Mapping[str, Any],
    ) -> None:
        self.teacher = teacher
        self.lines = lines
        self.parts = parts
        self.settings = settings
        self.facts = facts
        self.total = int(facts["lines"])
        self.done = parts.complete()  # before the main process can have removed the folder
        self.shards = math.ceil(self.total / lines.lines_per_shard)

    def to_the_end(self, output: Path, state: PartialState, show_progress: bool) -> list[int]:
        """Translate a share, wait for the others, and write the output in the main process.

        Returns:
            The overlong lines; none in other processes than the main one.
        """
        with tqdm(total=self.total, unit=" lines", disable=not show_progress) as progress:
            self.translate_share(state.process_index, state.num_processes, progress)
            if not state.is_main_process:
                while (self.parts.folder / MANIFEST).exists():  # until the main process is done
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                return []
            while len(complete := self.parts.complete()) < self.shards:
                _show(progress, self._size(complete))
                time.sleep(SECONDS_BETWEEN_LOOKS)
            _show(progress, self.total)
        return self.write(output)

    def translate_share(self, rank: int, world: int, progress: Any) -> None:
        """Translate every `world`-th shard, from number `rank` on, where it is not complete.

        Args:
            rank: Number of this process, from 0.
            world: Number of processes.
            progress: A bar of tqdm, which counts lines.

        Raises:
            OSError: If a part cannot be written.
            ValueError: If a part is damaged, or a score is no number.
        """
        for number, pairs in enumerate(self.lines.shards()):
            if number % world != rank:
                continue
            if number in self.done:
                continue
            if not progress.disable:
                _show(progress, self._size(self.parts.complete()))
            sources = [source for source, _ in pairs]
            with self.parts.open_shard(number) as shard:
                for size in self._fill(shard, sources):
                    progress.update(size)

    def _fill(self, shard: Shard, sources: list[str]) -> Iterator[int]:
        """Translate what a shard lacks; yield the size of each batch, also of those it has."""
        counts = self._counts(sources)
        plan = plan_batches(counts, self.settings.tokens_per_batch // self.settings.beams)
        shard.check_plan(plan)
        yield from (len(batch.lines) for batch in shard.batches)
        for places in plan[len(shard.batches) :]:
            found = self.teacher.hypotheses(
                [sources[i] if counts[i] else "" for i in places],
                batch_size=len(places),
                num_hypotheses=self.settings.n_best,
                **self.settings.generate_kwargs(),
            )
            for item in chain.from_iterable(found):
                if not math.isfinite(item.score):
                    raise ValueError(
                        f"A score must be a finite number, but the teacher gave {item.score}. Try "
                        f"`dtype` float32."
                    )
            shard.append(Batch(places, found))
            yield len(places)

    def _counts(self, sources: list[str]) -> list[int]:
        """Return the tokens of each line; 0 for one that is not translated."""
        counts = self.teacher.count_tokens(sources)
        return [
            count if source.strip() and count <= self.teacher.max_source_tokens else 0
            for source, count in zip(sources, counts, strict=True)
        ]

    def _size(self, complete: set[int]) -> int:
        """Return the number of lines in shards."""
        size = self.lines.lines_per_shard
        return len(complete) * size - (-self.total % size if self.shards - 1 in complete else 0)

    def write(self, output: Path) -> list[int]:
        """Put all parts together, in the order of the input, and remove them.

        Returns:
            The overlong lines.

        Raises:
            OSError: If the output cannot be written; the parts are kept.
            ValueError: If a part is damaged.
        """
        overlong: list[int] = []
        temporary = self.parts.folder / f"whole{output.suffix}"
        write_rows(temporary, self._rows(overlong), self.facts)
        put_in_place(temporary, output)
        shutil.rmtree(self.parts.folder)
        return overlong

    def _rows(self, overlong: list[int]) -> Iterator[dict[str, Any]]:
        line = 0
        for number, pairs in enumerate(self.lines.shards()):
            for pair, found in zip(pairs, self.parts.read(number, len(pairs)), strict=True):
                if pair[0].strip() and not found:
                    overlong.append(line)
                yield from line_rows(
                    line, pair, found, self.facts["teacher"], self.settings.mix_raw
                )
                line += 1


def _show(progress: Any, count: int) -> None:
    progress.n = count
    progress.refresh()


def describe_run(
    name: str, teacher: Teacher, lines: DistillationInput, settings: DistillationSettings
) -> dict[str, Any]:
    """Return where the translations come from; a change of any of it means another corpus."""
    digest, count = lines.measure(settings.mix_raw)
    if Path(name).is_dir():
        weights, shown = _folder_digest(Path(name)), _folder_name(Path(name))
    else:
        weights, shown = hub_commit(name, settings.teacher_revision), name
    return {
        "teacher": shown,
        "teacher_digest": weights,
        "input_digest": digest,
        "lines": count,
        "settings": dataclasses.asdict(settings),
        "environment": {
            "device": teacher.model.device.type,
            "threads": torch.get_num_threads(),  # sums of floats depend on it
            **{package: version(package) for package in VERSIONS},
        },
    }


def _folder_name(folder: Path) -> str:
    """Return what tells a teacher from others, without the place where it lies."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{EXPORT}" if folder.name == EXPORT else folder.name


def _folder_digest(folder: Path) -> str:
    """Return a SHA-256 digest of the files that decide a translation."""
    digest = hashlib.sha256()
    files = {file for pattern in TEACHER_FILES for file in folder.glob(pattern) if file.is_file()}
    for file in sorted(files):
        digest.update(f"{file.name} {file.stat().st_size} ".encode())
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()
