"""Where a corpus of images with captions lies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hf_nar.data.corpus_config import CorpusConfig, check_options

BUILDERS = ("digit_scenes",)


@dataclass(frozen=True)
class ImageCorpusConfig:
    """Where images with captions lie: a dataset, or a builder that draws them.

    Args:
        dataset: Local folder, also one of image files with a metadata.jsonl, or Hub id of a
            Hugging Face dataset.
        builder: Name of a builder instead: "digit_scenes". Needs `num_scenes`.
        num_scenes: Scenes that the builder draws.
        seed: Of the builder.
        name: Configuration of the dataset; None for its only one.
        split: Split of the dataset, or of the builder.
        revision: Branch, tag or commit of a Hub dataset; None for the newest.
        image_field: Column with the image.
        caption_field: Column with the caption, or with a list of captions of the same image.

    Raises:
        ValueError: If the options do not describe exactly one corpus.
    """

    dataset: str | Path | None = None
    builder: str | None = None
    num_scenes: int | None = None
    seed: int = 0
    name: str | None = None
    split: str = "train"
    revision: str | None = None
    image_field: str = "image"
    caption_field: str = "caption"

    def __post_init__(self) -> None:
        self._check_types()
        if bool(self.dataset) == bool(self.builder):
            raise ValueError(
                f"A corpus of images must be either a `dataset` or a `builder`; got "
                f"{'both' if self.dataset else 'neither'}. Keep one."
            )
        if self.builder and self.builder not in BUILDERS:
            raise ValueError(
                f"`builder` must be one of {', '.join(BUILDERS)}; got {self.builder!r}."
            )
        if self.builder and self.num_scenes is None:
            raise ValueError(f"The builder {self.builder} must have `num_scenes`. Set it.")
        useless = ["num_scenes", "seed"]
        if self.builder:
            useless = ["name", "revision", "image_field", "caption_field"]
        for option in fields(self):
            if option.name in useless and getattr(self, option.name) != option.default:
                raise ValueError(
                    f"`{option.name}` must be left out for a corpus from a "
                    f"{'builder' if self.builder else 'dataset'}, got "
                    f"{getattr(self, option.name)!r}. Remove it."
                )

    def _check_types(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in ("num_scenes", "seed"):
                right, wanted = type(value) is int, "a whole number"
            else:
                right, wanted = isinstance(value, str | Path), "text"
            if not right and value is not option.default:
                raise ValueError(
                    f"`{option.name}` must be {wanted}, got {value!r}. In YAML, check the quotes."
                )

    @property
    def origin(self) -> str:
        """What messages call the corpus."""
        return str(self.dataset or self.builder)

    def rows_config(self) -> CorpusConfig:
        """Return where the rows of the dataset lie, for `load_rows`."""
        return CorpusConfig(
            dataset=self.dataset,
            name=self.name,
            split=self.split,
            revision=self.revision,
            source_field=self.image_field,
            target_field=self.caption_field,
        )

    @classmethod
    def from_dict(cls, options: Mapping[str, Any]) -> ImageCorpusConfig:
        """Build a config from a recipe's section.

        Args:
            options: Values by option name.

        Raises:
            ValueError: If an option is unknown, or the options contradict each other.
        """
        check_options(cls, options, "A corpus of images")
        return cls(**options)
