"""Where a parallel corpus lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class CorpusConfig:
    """Where one parallel corpus lies: two text files, one JSONL file, or a dataset.

    Files are UTF-8, plain or `.gz`. A field may be nested: `translation.de`.

    Args:
        source_file: Text file with one source sentence a line. Needs `target_file`.
        target_file: Text file with one target sentence a line. Needs `source_file`.
        json_file: File with one JSON object a line. Needs both fields.
        dataset: Local folder or Hub id of a Hugging Face dataset. Needs both fields.
        name: Configuration of the dataset; None for its only one.
        split: Split of the dataset.
        revision: Branch, tag or commit of a Hub dataset; None for the newest.
        streaming: True to read the dataset while training instead of storing it first.
        source_field: Field with the source sentence.
        target_field: Field with the target sentence.

    Raises:
        ValueError: If the options do not describe exactly one corpus of one kind.
    """

    source_file: str | Path | None = None
    target_file: str | Path | None = None
    json_file: str | Path | None = None
    dataset: str | Path | None = None
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    streaming: bool = False
    source_field: str | None = None
    target_field: str | None = None

    def __post_init__(self) -> None:
        self._check_types()
        kinds = {
            "`source_file` with `target_file`": self.source_file or self.target_file,
            "`json_file`": self.json_file,
            "`dataset`": self.dataset,
        }
        given = [kind for kind, value in kinds.items() if value]
        if len(given) != 1:
            raise ValueError(
                f"A corpus must be exactly one of {', '.join(kinds)}; got "
                f"{' and '.join(given) or 'none of them'}. Keep one kind in each corpus."
            )
        needed = ["source_file", "target_file"]
        if self.kind != "text":
            needed = ["source_field", "target_field"]
        missing = [option for option in needed if not getattr(self, option)]
        if missing:
            raise ValueError(
                f"A corpus from {given[0]} must have both `{needed[0]}` and `{needed[1]}`; "
                f"`{missing[0]}` is missing. Set it."
            )
        useless = [] if self.kind == "dataset" else ["name", "split", "revision", "streaming"]
        if self.kind == "text":
            useless += ["source_field", "target_field"]
        for option in fields(self):
            if option.name in useless and getattr(self, option.name) != option.default:
                raise ValueError(
                    f"`{option.name}` must be left out for a corpus from {given[0]}, got "
                    f"{getattr(self, option.name)!r}. Remove it."
                )

    def _check_types(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name == "streaming":
                right, wanted = isinstance(value, bool), "true or false"
            else:
                right, wanted = isinstance(value, str | Path), "text"
            if not right and value is not option.default:
                raise ValueError(
                    f"`{option.name}` must be {wanted}, got {value!r}. In YAML, check the quotes."
                )

    @property
    def kind(self) -> Literal["text", "json", "dataset"]:
        """Which of the three kinds this is."""
        if self.dataset:
            return "dataset"
        return "json" if self.json_file else "text"

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> CorpusConfig:
        """Build a config from a recipe's section.

        Args:
            options: Values by option name.

        Raises:
            ValueError: If an option is unknown, or the options contradict each other.
        """
        known = [option.name for option in fields(cls)]
        unknown = [str(option) for option in options if option not in known]
        if unknown:
            raise ValueError(
                f"A corpus must have known options only, got `{'`, `'.join(unknown)}`. "
                f"Use some of: {', '.join(known)}."
            )
        return cls(**options)
