"""The corpus that a teacher leaves: JSON Lines or Parquet, with its origin kept in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from hf_nar.data.distillation_parts import describe_other_run
from hf_nar.teacher import Hypothesis

ROWS_AT_ONCE = 50_000  # kept in memory, and a row group of Parquet
METADATA_KEY = b"hf_nar.distillation"
_SCHEMA = {
    "source": pyarrow.string(),
    "target": pyarrow.string(),
    "score": pyarrow.float64(),
    "line": pyarrow.int64(),
    "rank": pyarrow.int64(),
    "origin": pyarrow.string(),
    "teacher": pyarrow.string(),
    "settings": pyarrow.string(),
}


def check_suffix(output: Path) -> None:
    """Check that a file's name says how to write it.

    Raises:
        ValueError: If it does not end in .jsonl or .parquet.
    """
    if output.suffix not in {".jsonl", ".parquet"}:
        raise ValueError(f"`output` must end in .jsonl or .parquet, got {output}.")


def line_rows(
    line: int,
    pair: tuple[str, str],
    hypotheses: Sequence[Hypothesis],
    teacher: str,
    mix_raw: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one line: what the teacher made of it, then perhaps the raw pair.

    A line without a translation has one row with an empty target and no score.

    Args:
        line: Its place in the input, from 0.
        pair: Its source and raw target.
        hypotheses: Its translations, best first.
        teacher: Name of the teacher.
        mix_raw: Whether the raw pair follows.
    """
    row: dict[str, Any] = dict.fromkeys(_SCHEMA)
    row |= {"source": pair[0], "line": line}
    for rank, item in enumerate(hypotheses or [Hypothesis("", float("nan"))]):
        score = round(item.score, 5) if hypotheses else None
        made = {"target": item.text, "score": score, "rank": rank}
        yield row | made | {"origin": "teacher", "teacher": teacher}
    if mix_raw:
        yield row | {"target": pair[1], "origin": "raw"}


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> None:
    """Write all rows to a file, `.jsonl` or `.parquet`.

    Args:
        file: The file.
        rows: Each has all fields. `settings` is filled in the first one only: the same text in
            each row would make the file several times as big.
        facts: Where the rows come from, for `settings`; Parquet has it in its metadata too.

    Raises:
        OSError: If it cannot be written.
    """
    check_suffix(file)
    origin = json.dumps(facts, ensure_ascii=False)
    iterator = iter(rows)
    first = next(iterator)
    chunk = [{**first, "settings": origin}, *islice(iterator, ROWS_AT_ONCE - 1)]
    schema = pyarrow.schema(_SCHEMA, metadata={METADATA_KEY: origin.encode()})
    with file.open("wb") as stream:
        writer = parquet.ParquetWriter(stream, schema) if file.suffix == ".parquet" else None
        while chunk:
            if writer:
                writer.write_table(pyarrow.Table.from_pylist(chunk, schema))
            else:
                text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chunk)
                stream.write(text.encode())
            chunk = list(islice(iterator, ROWS_AT_ONCE))
        if writer:
            writer.close()


def check_finished(output: Path, facts: Mapping[str, Any]) -> bool:
    """Say whether the output exists already; it is never written over.

    Args:
        output: The file.
        facts: What it should come from; its environment does not matter.

    Raises:
        ValueError: If it exists and comes from elsewhere.
    """
    check_suffix(output)
    if not output.exists():
        return False
    try:
        found = _read_facts(output)
        difference = describe_other_run(
            {**found, "environment": None}, {**facts, "environment": None}
        )
    except (ValueError, KeyError, TypeError):  # pyarrow's errors are ValueErrors
        difference = "it was not made by this command"
    if difference:
        raise ValueError(
            f"{output} exists already, and {difference}. Choose another `output`, or delete the "
            f"file."
        )
    return True


def read_overlong(output: Path) -> list[int]:
    """Return the lines of a finished output that were too long for the teacher.

    They have words, but not even an empty translation with a score.

    Raises:
        OSError: If the output cannot be read.
    """
    return [
        int(row["line"])
        for row in _read_rows(output)
        if row["origin"] == "teacher" and row["score"] is None and row["source"].strip()
    ]


def _read_rows(output: Path) -> Iterator[dict[str, Any]]:
    if output.suffix == ".parquet":
        with parquet.ParquetFile(output) as file:
            for batch in file.iter_batches(columns=["source", "score", "line", "origin"]):
                yield from batch.to_pylist()
    else:
        with output.open("rb") as stream:
            yield from map(json.loads, stream)


def _read_facts(output: Path) -> dict[str, Any]:
    if output.suffix == ".parquet":
        text: Any = parquet.read_schema(output).metadata[METADATA_KEY]
    else:
        with output.open("rb") as stream:
            text = json.loads(stream.readline())["settings"]
    return dict(json.loads(text))
