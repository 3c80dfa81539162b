"""Figures that others report: always in tables of their own, with their source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hf_nar.cards.files import read_json
from hf_nar.cards.markdown import inline, prose, table
from hf_nar.cards.papers import BIBTEX
from hf_nar.training.recipe import check_keys

REPORTED_FILE = "reported.json"
HEADING = "Reported by the paper"


@dataclass(frozen=True)
class ReportedTable:
    """One table of figures that were not measured by this project.

    Args:
        title: What was measured.
        source: Where the figures stand.
        columns: Names of the columns, that of systems first.
        rows: Cells, as they are reported.
        note: How they were measured, and what they can be compared with.
    """

    title: str
    source: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns) or not all(isinstance(cell, str) for cell in row):
                raise ValueError(
                    f"A row of {REPORTED_FILE} must have {len(self.columns)} texts, one for each "
                    f"column; got {row}. Write figures as they are reported, in quotes."
                )

    def markdown(self) -> str:
        """Return the table with its source above and its note below."""
        cells = [[inline(cell) for cell in row] for row in self.rows]
        body = table([inline(name) for name in self.columns], cells, texts=1)
        parts = [f"{prose(self.title)} Source: {prose(self.source)}", body, prose(self.note)]
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True)
class Reported:
    """What others report of a setting; `reported.json` in a model folder.

    Args:
        recipes: Recipes of this project for the setting, in the order in which they run; paths
            from the folder. The last one makes the model.
        tables: The figures; none where none has been checked.
        citations: Of the papers, by keys of `papers.BIBTEX`.
    """

    recipes: Sequence[str]
    tables: Sequence[ReportedTable]
    citations: Sequence[str]

    def __post_init__(self) -> None:
        unknown = [key for key in self.citations if key not in BIBTEX]
        if unknown or not self.citations:
            raise ValueError(
                f"`citations` in {REPORTED_FILE} must be some of {', '.join(BIBTEX)}; got "
                f"{', '.join(unknown) or 'none'}."
            )

    @classmethod
    def load(cls, folder: Path) -> Reported | None:
        """Read the file of a folder; None if it has none.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no JSON, or does not hold what it must.
        """
        file = folder / REPORTED_FILE
        if not file.is_file():
            return None
        values = read_json(file)
        tables = [_build(ReportedTable, part, "tables.") for part in values.get("tables", [])]
        reported: Reported = _build(cls, {**values, "tables": tables}, "")
        return reported

    def section(self) -> str:
        """Return the figures, under a heading that says whose they are."""
        head = f"## {HEADING}"
        if not self.tables:
            return (
                f"{head}\n\nNo figure is given here, as none has been checked against the paper "
                f"yet."
            )
        told = "**None of these figures was measured by this project.**"
        return "\n\n".join([head, told, *(part.markdown() for part in self.tables)])


def _build(part: type, values: Mapping[str, Any], prefix: str) -> Any:
    known = fields(part)
    check_keys(list(values), [field.name for field in known], prefix)
    try:
        return part(**values)
    except TypeError as error:
        raise ValueError(
            f"`{prefix or REPORTED_FILE}` must have {', '.join(field.name for field in known)}; "
            f"{error}."
        ) from error
