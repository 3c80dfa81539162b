"""Rows of a corpus: lines of files and fields of records, to pairs of sentences."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from itertools import count, islice, zip_longest
from pathlib import Path
from typing import Any, cast

from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corrupted_text import corrupted_copies


def is_empty(source: str, target: str) -> bool:
    """Say whether a side has no text."""
    return not (source.strip() and target.strip())


def file_pairs(config: CorpusConfig) -> Iterator[tuple[str, str]]:
    """Read the pairs of a corpus of files, empty ones included.

    Args:
        config: A corpus of any kind but `dataset`.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the sides differ in lines, or a line is not valid.
    """
    return (pair for _, pair in numbered_pairs(config))


def numbered_pairs(
    config: CorpusConfig, first: int = 0, step: int = 1
) -> Iterator[tuple[int, tuple[str, str]]]:
    """Read some of the pairs of a corpus of files, each after the number of its line, from 0.

    Args:
        config: A corpus of any kind but `dataset`.
        first: Number of the first line that is read.
        step: Distance to the next one.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the sides differ in lines, or a line is not valid.
    """
    if config.kind == "json":
        path = _existing(cast(str, config.json_file), "json_file")
        return _json_pairs(path, config, first, step)
    if config.kind == "corrupted":
        return islice(enumerate(_corrupted_pairs(config)), first, None, step)
    source, target = (
        _existing(cast(str, path), option)
        for path, option in (
            (config.source_file, "source_file"),
            (config.target_file, "target_file"),
        )
    )
    return _text_pairs(source, target, first, step)


def _corrupted_pairs(config: CorpusConfig) -> Iterator[tuple[str, str]]:
    text = _existing(cast(str, config.text_file), "text_file")
    copies = corrupted_copies(
        lambda: _lines(text),
        cast(float, config.corruption_rate),
        config.corruption_weights,
        config.seed,
    )
    return zip(copies, _lines(text), strict=True)


def _existing(path: str | Path, option: str) -> Path:
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"`{option}` must be an existing file, got {path}. "
            f"Relative paths start at {Path.cwd()}."
        )
    return Path(path)


def _text_pairs(
    source: Path, target: Path, first: int, step: int
) -> Iterator[tuple[int, tuple[str, str]]]:
    lines = islice(zip_longest(_raw_lines(source), _raw_lines(target)), first, None, step)
    for number, (left, right) in zip(count(first, step), lines):
        if left is None or right is None:
            counts = [sum(1 for _ in _raw_lines(path)) for path in (source, target)]
            raise ValueError(
                f"Both sides must have the same number of lines, but {source} has {counts[0]} and "
                f"{target} has {counts[1]}. Line n of one must translate line n of the other."
            )
        yield number, (_decoded(left, source, number), _decoded(right, target, number))


def _json_pairs(
    path: Path, config: CorpusConfig, first: int, step: int
) -> Iterator[tuple[int, tuple[str, str]]]:
    raw_lines = islice(_raw_lines(path), first, None, step)
    for number, raw in zip(count(first, step), raw_lines):
        line = _decoded(raw, path, number)
        if not line.strip():
            continue
        where = f"{path}, line {number + 1}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{where}: must be one JSON object, but {error.msg} at column {error.colno}. "
                f"Write one object a line."
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"{where}: must be a JSON object, got {type(row).__name__}. "
                f"Write one object a line."
            )
        yield number, select_pair(row, config.source_field, config.target_field, where)


def _lines(path: Path) -> Iterator[str]:
    return (_decoded(raw, path, number) for number, raw in enumerate(_raw_lines(path)))


def _decoded(raw: bytes, path: Path, number: int) -> str:
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    try:
        return line.decode("utf-8" if number else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {number + 1}: must be UTF-8, but byte {error.start + 1} of the line is "
            f"0x{line[error.start]:02x}. Convert the file to UTF-8."
        ) from error


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            yield from stream  # bytes: text mode could split at other separators too
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} must be a whole gzip file, but reading failed: {error}. Fetch it again, or "
            f"rename it if it is not compressed."
        ) from error


def select_pair(
    row: Mapping[str, Any], source_field: str | None, target_field: str | None, where: str
) -> tuple[str, str]:
    """Take both sentences out of a row; null is empty text.

    Args:
        row: Values by field.
        source_field: Field of the source, nested ones with dots.
        target_field: Field of the target, nested ones with dots.
        where: File and line of the row, for the message.

    Raises:
        ValueError: If a field is missing or not text.
    """
    return _text(row, cast(str, source_field), where), _text(row, cast(str, target_field), where)


def _text(row: Mapping[str, Any], field: str, where: str) -> str:
    """Look a field up; null is empty text, as datasets fill what a row lacks with it."""
    value: Any = row
    for part in [field] if field in row else field.split("."):
        if value is not None and not (isinstance(value, Mapping) and part in value):
            raise ValueError(
                f"{where}: field `{field}` must be there, but the fields are: "
                f"{', '.join(field_names(row))}. Correct the line or the name of the field."
            )
        value = None if value is None else value[part]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError(
            f"{where}: field `{field}` must be text, got {type(value).__name__}. Use another field."
        )
    try:
        value.encode()  # JSON may hold half of a surrogate pair, which no file can store
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: field `{field}` must be valid Unicode, but {error.reason}. Correct the line."
        ) from error
    return value


def field_names(row: Mapping[str, Any]) -> list[str]:
    """List the fields of a row, nested ones with dots."""
    names: list[str] = []
    for name, value in row.items():
        nested = field_names(value) if isinstance(value, Mapping) else []
        names += [f"{name}.{inner}" for inner in nested] or [name]
    return names
