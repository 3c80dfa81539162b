"""Reading results files for pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_nar.evaluation.traces import escape_controls

# Valid text, but not allowed in XML.
NONCHARACTERS = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}


@dataclass(frozen=True)
class Section:
    """One kind of measurement in a results file, every text in it escaped.

    Args:
        file: The results file.
        name: Such as "quality".
        content: What `write_results` wrote there.
    """

    file: Path
    name: str
    content: Mapping[str, Any]

    def get(self, key: str, kind: type, owner: Mapping[str, Any] | None = None) -> Any:
        """Return a value, checked.

        Args:
            key: Its name.
            kind: str, bool, int, list or dict; float is any finite number.
            owner: Where it stands; None is the section itself.

        Raises:
            ValueError: If it is missing or of another kind.
        """
        value = (self.content if owner is None else owner).get(key)
        is_right = type(value) is kind or (kind is float and type(value) is int)
        if not is_right or (isinstance(value, float) and not math.isfinite(value)):
            names = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}
            wanted = names.get(kind, "a list" if kind is list else "an object")
            raise ValueError(
                f'"{key}" in section "{self.name}" of {self.file} must be {wanted}, got '
                f"{_short(value)}. Measure again."
            )
        return value

    def rows(
        self, key: str = "rows", owner: Mapping[str, Any] | None = None
    ) -> list[Mapping[str, Any]]:
        """Return a list of objects, with at least one in it.

        Args:
            key: Its name.
            owner: Where it stands; None is the section itself.

        Raises:
            ValueError: If it is none.
        """
        rows: list[Mapping[str, Any]] = self.get(key, list, owner)
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise ValueError(
                f'"{key}" in section "{self.name}" of {self.file} must list objects, got '
                f"{_short(rows)}. Measure again."
            )
        return rows

    def numbers(self, key: str, count: int | None = None) -> list[float]:
        """Return a list of finite numbers.

        Raises:
            ValueError: If it is none, or does not have `count` numbers.
        """
        return self.check_numbers(key, self.get(key, list), count)

    def check_numbers(self, key: str, values: Any, count: int | None) -> list[float]:
        """Return `values` if they are finite numbers and `count` of them; otherwise as above."""
        is_right = isinstance(values, list) and all(
            type(value) in (int, float) and math.isfinite(value) for value in values
        )
        if not is_right or (count is not None and len(values) != count):
            many = "" if count is None else f"{count} "
            raise ValueError(
                f'"{key}" in section "{self.name}" of {self.file} must list {many}numbers, got '
                f"{_short(values)}. Measure again."
            )
        return list(values)

    def hardware(self) -> str:
        """Return one line about where it was measured."""
        environment = self.get("environment", dict)
        threads = self.get("threads", int, environment)
        return (
            f"{self.get('device', str, environment)}, {threads} "
            f"thread{'s' if threads > 1 else ''}, {self.get('dtype', str)}"
        )


def read_sections(files: Sequence[Path], name: str, command: str) -> list[Section]:
    """Return the section of a name of each results file that has it.

    Args:
        files: Results files.
        name: Such as "quality".
        command: The command of `hf-nar` that writes it.

    Raises:
        OSError: If a file cannot be read.
        ValueError: If a file is no results file, or none has the section.
    """
    sections = []
    for file in files:
        content = read_results(file).get(name)
        if content is not None and not isinstance(content, dict):
            raise ValueError(
                f'Section "{name}" of {file} must be an object, got {_short(content)}. Measure '
                f"again."
            )
        if content is not None:
            sections.append(Section(file, name, content))
    if not sections:
        raise ValueError(
            f'A results file must have the section "{name}" for this picture, but '
            f"{', '.join(map(str, files))} has none. `hf-nar {command}` with `--output` writes it."
        )
    return sections


def read_section(files: Sequence[Path], name: str, command: str) -> Section:
    """Return the one section of a name; otherwise as `read_sections`.

    Raises:
        ValueError: Also if several files have it.
    """
    sections = read_sections(files, name, command)
    if len(sections) > 1:
        raise ValueError(
            f'One results file must have the section "{name}", but {len(sections)} have it: '
            f"{', '.join(str(section.file) for section in sections)}. Leave the others out."
        )
    return sections[0]


def read_results(file: Path) -> dict[str, Any]:
    """Return the sections of a results file, every text in them escaped.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is no results file.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"A results file must exist, but {file} does not. `hf-nar evaluate --output` makes one."
        )
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(
            f"{file} must be a results file of `hf-nar`, but is no JSON ({error})."
        ) from error
    if not isinstance(results, dict):
        raise ValueError(f"{file} must be a results file of `hf-nar`, but is no JSON object.")
    escaped: dict[str, Any] = _escaped(results)
    return escaped


def shown(text: str) -> str:
    """Return a text without characters that could break a picture's file or turn its text."""
    return escape_controls(text).translate(NONCHARACTERS)


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else text[:37] + "..."
