"""Where a corpus of sentence pairs lies."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from hf_nar.remote_code.corruption_nar import check_weights

# Of the options that are not text, and what messages call them.
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "streaming": (bool, "true or false"),
    "corruption_rate": ((int, float), "a number"),
    "corruption_weights": (Mapping, "a mapping of operations to numbers"),
    "seed": (int, "a whole number"),
}


@dataclass(frozen=True)
class CorpusConfig:
    """Where one corpus lies: two text files, one JSONL file, a dataset, or one text to corrupt.

    Files are UTF-8, plain or `.gz`. A field may be nested: `translation.de`. With `text_file`, the
    targets are its sentences, and each source is a corrupted copy of its target; see
    `hf_nar.data.corrupted_text`.

    Args:
        source_file: Text file with one source sentence a line. Needs `target_file`.
        target_file: Text file with one target sentence a line. Needs `source_file`.
        json_file: File with one JSON object a line. Needs both fields.
        dataset: Local folder or Hub id of a Hugging Face dataset. Needs both fields.
        name: Configuration of the dataset; None for its only one.
        split: Split of the dataset.
        revision: Branch, tag or commit of a Hub dataset; None for the newest.
        streaming: True to read the corpus anew in each pass while training, instead of storing its
            tokens first.
        source_field: Field with the source sentence.
        target_field: Field with the target sentence.
        text_file: Text file with one sentence a line. Needs `corruption_rate`.
        corruption_rate: Share of the words of each sentence that are corrupted, up to 1.
        corruption_weights: Relative frequency of "swap", "replace", "repeat", "drop" and "insert";
            those left out never happen. None for all alike.
        seed: Of the corruption.

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
    text_file: str | Path | None = None
    corruption_rate: float | None = None
    corruption_weights: Mapping[str, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_types()
        kinds = {
            "`source_file` with `target_file`": self.source_file or self.target_file,
            "`json_file`": self.json_file,
            "`dataset`": self.dataset,
            "`text_file`": self.text_file,
        }
        given = [kind for kind, value in kinds.items() if value]
        if len(given) != 1:
            raise ValueError(
                f"A corpus must be exactly one of {', '.join(kinds)}; got "
                f"{' and '.join(given) or 'none of them'}. Keep one kind in each corpus."
            )
        self._check_missing(given[0])
        self._check_useless(given[0])
        if self.kind == "corrupted":
            self._check_corruption()

    def _check_missing(self, kind: str) -> None:
        needed = {
            "text": ["source_file", "target_file"],
            "corrupted": ["corruption_rate"],
        }.get(self.kind, ["source_field", "target_field"])
        missing = [option for option in needed if getattr(self, option) in (None, "")]
        if missing:
            names = " and ".join(f"`{option}`" for option in needed)
            raise ValueError(
                f"A corpus from {kind} must have {'both ' if len(needed) > 1 else ''}{names}; "
                f"`{missing[0]}` is missing. Set it."
            )

    def _check_useless(self, kind: str) -> None:
        useless = [] if self.kind == "dataset" else ["name", "split", "revision"]
        if self.kind in ("text", "corrupted"):
            useless += ["source_field", "target_field"]
        if self.kind == "corrupted":  # whose words must be known before
            useless.append("streaming")
        if self.kind != "corrupted":
            useless += ["corruption_rate", "corruption_weights", "seed"]
        for option in fields(self):
            if option.name in useless and getattr(self, option.name) != option.default:
                raise ValueError(
                    f"`{option.name}` must be left out for a corpus from {kind}, got "
                    f"{getattr(self, option.name)!r}. Remove it."
                )

    def _check_corruption(self) -> None:
        rate = self.corruption_rate
        if rate is None or not 0 < rate <= 1:
            raise ValueError(
                f"`corruption_rate` must be above 0 and at most 1, got {rate}. It is the share of "
                f"the words that are corrupted."
            )
        if self.seed < 0:
            raise ValueError(f"`seed` must be at least 0, got {self.seed}.")
        if self.corruption_weights is not None:
            check_weights(self.corruption_weights, "corruption_weights")

    def _check_types(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            types, wanted = _TYPES.get(option.name, ((str, Path), "text"))
            right = isinstance(value, types) and (types is bool or not isinstance(value, bool))
            if not right and value is not option.default:
                raise ValueError(
                    f"`{option.name}` must be {wanted}, got {value!r}. In YAML, check the quotes."
                )

    @property
    def kind(self) -> Literal["text", "json", "dataset", "corrupted"]:
        """Which of the four kinds this is."""
        if self.text_file:
            return "corrupted"
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
        check_options(cls, options, "A corpus")
        return cls(**options)


def check_options(config_class: Any, options: Mapping[str, Any], what: str) -> None:
    """Check that a recipe's section has only fields of a config.

    Args:
        config_class: The dataclass that is built of them.
        options: Values by option name.
        what: The section's beginning in the message, such as "A corpus".

    Raises:
        ValueError: If an option is unknown.
    """
    known = [option.name for option in fields(config_class)]
    unknown = [str(option) for option in options if option not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise ValueError(
            f"{what} must have known options only, got `{'`, `'.join(unknown)}`. "
            f"Use some of: {', '.join(known)}.{hint}"
        )
