"""A recipe: all that a training run is made of, in one YAML file."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.image_config import ImageCorpusConfig
from hf_nar.data.tokenizer import MAX_SENTENCES

SOURCES = ("text", "image")
_TYPES = {"str": str, "int": int, "bool": bool}


@dataclass(frozen=True)
class DataRecipe:
    """The corpora of a run.

    Args:
        train: What is trained on; see `CorpusConfig`.
        validation: What checkpoints are chosen by; see `CorpusConfig`.
        folder: Put before the files of both that are not absolute.
        max_source_tokens: Pairs with a longer source, end token included, are dropped.
        max_target_tokens: Pairs with a longer target, end token included, are dropped.
        source: "text", or "image": then the corpora are described by `ImageCorpusConfig`, and
            neither `folder` nor `max_source_tokens` has a meaning.
        image_processor: For images: `name`, a folder or Hub id whose processor is taken, or fields
            of transformers' `ViTImageProcessor`.

    Raises:
        ValueError: If an option is set that has no meaning for the source.
    """

    train: Mapping[str, Any]
    validation: Mapping[str, Any]
    folder: str = ""
    max_source_tokens: int = 128
    max_target_tokens: int = 128
    source: str = "text"
    image_processor: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(
                f"`data.source` must be one of {', '.join(SOURCES)}; got {self.source!r}."
            )
        useless = ["image_processor"] if self.source == "text" else ["folder", "max_source_tokens"]
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if item.name in useless and value and value != item.default:
                raise ValueError(
                    f"`data.{item.name}` must be left out where `data.source` is {self.source}, "
                    f"got {value!r}. Remove it."
                )

    def corpus(self, part: str) -> CorpusConfig:
        """Return the config of "train" or "validation", its files found in `folder`."""
        options = dict(self.train if part == "train" else self.validation)
        for name in ("source_file", "target_file", "json_file", "text_file"):
            if name in options:
                options[name] = str(Path(self.folder) / str(options[name]))
        return CorpusConfig.from_dict(options)

    def image_corpus(self, part: str) -> ImageCorpusConfig:
        """Return the config of "train" or "validation" where the source is an image."""
        return ImageCorpusConfig.from_dict(self.train if part == "train" else self.validation)


@dataclass(frozen=True)
class TokenizerRecipe:
    """The tokenizer of a run: a folder or Hub id, or one trained on the training corpus.

    Args:
        name: Folder or Hub id; empty trains one.
        vocab_size: Subwords of a trained one, special tokens included.
        model_type: "unigram" or "bpe".
        max_sentences: Sentences that it is trained on, of both sides together; of more, a random
            sample, the same in each run.
    """

    name: str = ""
    vocab_size: int = 32000
    model_type: Literal["unigram", "bpe"] = "unigram"
    max_sentences: int = MAX_SENTENCES


@dataclass(frozen=True)
class VisionRecipe:
    """The vision encoder of a run whose source is an image.

    Args:
        init_from: Folder or Hub id of a model whose weights it starts with; empty starts with new
            ones.
        frozen: Whether its weights stay as they are.
    """

    init_from: str = ""
    frozen: bool = False


REFINER_STAGES = ("refiner", "score", "energy")
STAGES = ("model", *REFINER_STAGES)


@dataclass(frozen=True)
class Recipe:
    """A run.

    Args:
        output: Folder for checkpoints, log, tokenizer and, in `export`, the model folder.
        family: Which network: "lanmt", or for a teacher a sequence-to-sequence model of
            transformers, such as "marian".
        stage: "model" trains the whole network, "refiner" only the score and energy networks of a
            LaNMT that `init_from` names, "score" or "energy" one of them.
        init_from: Model folder whose weights the run starts with, such as the export of an earlier
            one; empty starts with new weights.
        refiners_from: Model folder with the score or energy network that the stage starts with,
            for a model that was trained further after it; empty takes what `init_from` has.
        data: The corpora.
        tokenizer: The tokenizer.
        vision: The vision encoder, where the source is an image.
        model: Fields of the network's config; the vocabulary's are taken from the tokenizer.
        generation: Decoding knobs that the exported model has as defaults.
        training: Fields of `NARTrainingArguments`.
        card: What the model card says of the model and cannot be measured: title, language,
            license and so on; see `hf_nar.cards.card`.
    """

    output: str
    data: DataRecipe
    family: str = "lanmt"
    stage: str = "model"
    init_from: str = ""
    refiners_from: str = ""
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    vision: VisionRecipe = VisionRecipe()
    model: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.data.source == "text" and self.vision != VisionRecipe():
            raise ValueError("`vision` must be left out where `data.source` is text. Remove it.")
        if self.stage not in STAGES:
            raise ValueError(f"`stage` must be one of {', '.join(STAGES)}; got {self.stage!r}.")
        if self.trains_refiners and (self.family != "lanmt" or not self.init_from):
            raise ValueError(
                f"`stage: {self.stage}` must have `family: lanmt` and, in `init_from`, the model "
                f"that it refines; got {self.family} and {self.init_from!r}. Train that first."
            )
        if self.refiners_from and not self.trains_refiners:
            raise ValueError(
                f"`refiners_from` is for `stage: refiner`, score or energy; got {self.stage!r}. "
                f"Leave it out."
            )
        if self.init_from and self.vision.init_from:
            raise ValueError(
                "`init_from` gives the vision encoder its weights, too, so `vision.init_from` must "
                "be left out beside it. Keep one of them."
            )

    @classmethod
    def load(cls, file: Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a recipe.

        Args:
            file: YAML.
            overrides: Such as `training.max_steps=100`, each with a YAML value.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If it is no YAML mapping, or a key is unknown or missing.
        """
        if not file.is_file():
            raise FileNotFoundError(f"The recipe must be a YAML file, but there is no {file}.")
        try:
            values = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            where = " ".join(str(error).split())
            raise ValueError(f"A recipe must be YAML, but {file} is not: {where}.") from error
        if not isinstance(values, dict):
            raise ValueError(f"A recipe must be a mapping of keys to values, but {file} is not.")
        for override in overrides:
            _override(values, override)
        return cls.from_dict(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Build a recipe from nested mappings.

        Raises:
            ValueError: If a key is unknown or missing.
        """
        parts = dict(values)
        nested = {"data": DataRecipe, "tokenizer": TokenizerRecipe, "vision": VisionRecipe}
        for name, part in nested.items():
            if name in parts:
                parts[name] = _build(part, parts[name], f"{name}.")
        recipe: Recipe = _build(cls, parts, "")
        return recipe

    @property
    def trains_refiners(self) -> bool:
        """Whether the model itself is left as it is."""
        return self.stage in REFINER_STAGES

    def finds_the_same_weights_as(self, other: Recipe) -> bool:
        """Return whether two recipes differ at most in what comes after training."""
        same = dataclasses.replace(other, generation=self.generation, card=self.card)
        return self == same

    def to_yaml(self) -> str:
        """Return the recipe as YAML that `load` reads."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)


def check_keys(given: Sequence[str], known: Sequence[str], prefix: str) -> None:
    """Check that a recipe has only known keys.

    Raises:
        ValueError: If one is unknown; the nearest valid one is named.
    """
    for key in given:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean `{prefix}{close[0]}`?" if close else f"use {', '.join(known)}."
            raise ValueError(f"The recipe has no key `{prefix}{key}`: {hint}")


def check_types(given: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str) -> None:
    """Check that a recipe has numbers and switches where the defaults are such.

    Raises:
        ValueError: If a value is of another type.
    """
    for key, value in given.items():
        default = defaults.get(key)
        if value is None or not isinstance(default, int | float):
            continue
        is_switch = isinstance(default, bool)
        if isinstance(value, bool) != is_switch or not isinstance(value, int | float):
            hint = "true or false" if is_switch else "a number; YAML takes 1.0e-4 for one, not 1e-4"
            raise ValueError(f"`{prefix}{key}` in the recipe must be {hint}. Got {value!r}.")


def _build(part: type, values: Any, prefix: str) -> Any:
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise ValueError(f"`{prefix.rstrip('.')}` in the recipe must be a mapping, got {values!r}.")
    fields = dataclasses.fields(part)
    check_keys(list(values), [item.name for item in fields], prefix)
    for item in fields:
        has_default = (
            item.default is not dataclasses.MISSING
            or item.default_factory is not dataclasses.MISSING
        )
        if not has_default and item.name not in values:
            raise ValueError(f"The recipe must set `{prefix}{item.name}`; it does not.")
        is_section = str(item.type).startswith("Mapping")
        if is_section and has_default and values.get(item.name, 0) is None:  # an empty section
            values = {**values, item.name: {}}
        expected = Mapping if is_section else _TYPES.get(str(item.type), object)
        if item.name in values and not isinstance(values[item.name], expected):
            raise ValueError(
                f"`{prefix}{item.name}` in the recipe must be of type {item.type}, got "
                f"{values[item.name]!r}."
            )
    return part(**values)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(
            f"An override must be key=value, such as training.max_steps=100; got {override!r}."
        )
    *parents, last = key.split(".")
    for parent in parents:
        child = values.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ValueError(f"`{key}` cannot be overridden, as `{parent}` is not a mapping.")
        values = child
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"The value of override {override!r} must be YAML.") from error
