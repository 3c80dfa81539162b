"""Translations on their way to the output: files of whole batches, which survive a kill."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hf_nar.teacher import Hypothesis

if sys.platform != "win32":
    import fcntl

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Batch:
    """Lines that were translated together.

    Args:
        lines: Their places in the shard.
        hypotheses: The translations of each, best first; none of a line that has none.
    """

    lines: list[int]
    hypotheses: list[list[Hypothesis]]

    def to_json(self) -> str:
        """Return the batch as one line."""
        found = [[[item.text, item.score] for item in items] for items in self.hypotheses]
        return json.dumps({"lines": self.lines, "hypotheses": found}, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, line: bytes) -> Batch:
        """Read such a line.

        Raises:
            ValueError: If it is damaged.
        """
        try:
            row = json.loads(line)
            found = [[Hypothesis(*item) for item in items] for items in row["hypotheses"]]
            lines = [int(i) for i in row["lines"]]
        except (KeyError, TypeError) as error:
            raise ValueError("It is no batch.") from error
        if len(lines) != len(found):
            raise ValueError("It has translations of other lines.")
        return cls(lines, found)


class Parts:
    """The folder `OUTPUT.parts`, in which every process leaves its finished batches.

    `shard-00007.part` is being written, a batch a line; `shard-00007.jsonl` is complete.

    Args:
        output: The file that is to be made of them.
        facts: Where the translations come from; `prepare` keeps it in the folder.
    """

    def __init__(self, output: Path, facts: Mapping[str, Any]) -> None:
        self.folder = output.with_name(f"{output.name}.parts")
        self.facts = facts

    def check(self) -> None:
        """Check that the folder, if there is one, is of the same run.

        Raises:
            ValueError: If it is of another run.
        """
        file = self.folder / MANIFEST
        if not file.is_file():
            return
        try:
            difference = describe_other_run(json.loads(file.read_bytes()), self.facts)
        except ValueError:
            difference = f"{MANIFEST} there is damaged"
        if difference:
            raise ValueError(
                f"{self.folder} must be of the same run, but {difference}. Call the command as "
                f"before, or delete the folder to start again."
            )

    def prepare(self) -> None:
        """Make the folder, or go on in it.

        Raises:
            OSError: If it cannot be written.
            ValueError: If it is of another run.
        """
        self.check()
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"{MANIFEST}.new"
        temporary.write_text(json.dumps(self.facts, indent=2), encoding="utf-8")
        put_in_place(temporary, self.folder / MANIFEST)

    def complete(self) -> set[int]:
        """Return the numbers of the complete shards."""
        return {int(file.stem.split("-")[1]) for file in self.folder.glob("shard-*.jsonl")}

    @contextmanager
    def open_shard(self, number: int) -> Iterator[Shard]:
        """Open a shard to add batches to it; it is complete when the block ends without error.

        Raises:
            OSError: If another process writes it, or it cannot be written.
            ValueError: If it is damaged.
        """
        file = self._file(number).with_suffix(".part")
        with file.open("a+b", buffering=0) as stream:
            _lock(stream, file)
            stream.seek(0)
            batches, size = _whole_batches(stream.read(), file)
            stream.truncate(size)
            yield Shard(stream, file, batches)
        file.rename(file.with_suffix(".jsonl"))

    def read(self, number: int, count: int) -> list[list[Hypothesis]]:
        """Return the translations of each line of a complete shard, in the order of the input.

        Args:
            number: Which shard.
            count: Lines that it has.

        Raises:
            ValueError: If it is damaged.
        """
        file = self._file(number)
        batches, size = _whole_batches(file.read_bytes(), file)
        found = {
            line: items
            for batch in batches
            for line, items in zip(batch.lines, batch.hypotheses, strict=True)
        }
        written = sum(len(batch.lines) for batch in batches)
        if size != file.stat().st_size or written != count or sorted(found) != list(range(count)):
            raise _damaged(file, f"it does not hold each of its {count} lines once")
        return [found[line] for line in range(count)]

    def _file(self, number: int) -> Path:
        return self.folder / f"shard-{number:05}.jsonl"


class Shard:
    """A shard that is being written.

    Args:
        stream: Its file, at its end.
        file: Where it lies.
        batches: What it holds already.
    """

    def __init__(self, stream: BinaryIO, file: Path, batches: list[Batch]) -> None:
        self.stream = stream
        self.file = file
        self.batches = batches

    def check_plan(self, plan: Sequence[list[int]]) -> None:
        """Check that the batches held already are the first ones of a plan.

        Raises:
            ValueError: If they are not.
        """
        if [batch.lines for batch in self.batches] != list(plan[: len(self.batches)]):
            raise _damaged(self.file, "it holds other batches than it should")

    def append(self, batch: Batch) -> None:
        """Add a batch; when this returns, it is on the disk.

        Raises:
            OSError: If it cannot be written.
        """
        data = batch.to_json().encode()
        try:
            while data:
                data = data[self.stream.write(data) :]
            os.fsync(self.stream.fileno())
        except OSError as error:
            raise OSError(
                f"Cannot write {self.file}: {error.strerror}. Whole batches are kept: make room "
                f"and call the command again."
            ) from error
        self.batches.append(batch)


def put_in_place(temporary: Path, file: Path) -> None:
    """Give a file its final name, in place of an older one; when this returns, it is on the disk.

    Args:
        temporary: The file, in the same file system.
        file: Its final name.

    Raises:
        OSError: If it cannot be written.
    """
    with temporary.open("r+b") as stream:
        os.fsync(stream.fileno())
    temporary.replace(file)
    if sys.platform == "win32":  # opens no folders
        return
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def describe_other_run(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return in words the first fact that makes two runs differ, or nothing.

    The same teacher may lie in another folder than before: its digest decides, not its name.
    """
    if old.get("teacher_digest") == new.get("teacher_digest"):
        new = {**new, "teacher": old.get("teacher")}
    return describe_difference(old, new)


def describe_difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return in words the first setting that differs, or nothing."""
    for name in {**old, **new}:
        before, now = old.get(name), new.get(name)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            if inner := describe_difference(before, now):
                return inner
        elif before != now:
            return f"`{name}` was {before!r} and is now {now!r}"
    return ""


def _whole_batches(data: bytes, file: Path) -> tuple[list[Batch], int]:
    """Return the batches in `data` and their bytes; a last line that is cut off is left out."""
    *lines, _ = data.split(b"\n")  # what follows the last line feed was not written to its end
    try:
        batches = [Batch.from_json(line) for line in lines]
    except ValueError as error:
        raise _damaged(file, "a line of it is no batch") from error
    return batches, sum(len(line) + 1 for line in lines)


def _damaged(file: Path, why: str) -> ValueError:
    return ValueError(
        f"{file} is damaged: {why}. Delete this one file and call the command again: its lines are "
        f"translated anew."
    )


def _lock(stream: BinaryIO, file: Path) -> None:
    """Keep other processes from writing to a file, as long as this one lives and has it open."""
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(
            f"{file} is being written by another process, perhaps of an earlier start. Wait for "
            f"it, or end it."
        ) from error
    except OSError:  # a file system without locks
        return
