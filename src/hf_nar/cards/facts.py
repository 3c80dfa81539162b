"""What cards are written from: the files of a model folder."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_nar.cards.families import Family, family_of
from hf_nar.cards.files import CONFIG_FILE, RESULTS_FILE, TRAINING_FILE, read_json, shown_path
from hf_nar.cards.reported import Reported
from hf_nar.evaluation.model_identity import weights_digest
from hf_nar.training.recipe import check_keys

# Sections of a results file, each with the command that writes it; a teacher needs the first only.
NEEDED_SECTIONS = {"quality": "evaluate", "latency": "latency", "benchmark": "benchmark"}
NEEDED_KEYS = ("title", "language", "license")
# Of a recipe's `card` section: what cannot be measured. All texts but `citation` are prose.
CARD_KEYS = (
    *NEEDED_KEYS,
    "license_name",  # needed by the Hub where `license` is other
    "license_link",
    "about",  # how the network works, and what it learnt from
    "datasets",  # Hub ids
    "training_data",
    "base_model",  # Hub id of the teacher, or of the model that was trained on
    "teacher",  # name of the teacher, where it is not on the Hub
    "test_set",
    "limits",
    "not_for",  # list of what the model must not be used for
    "citation",  # BibTeX, in the place of the family's own
)


@dataclass(frozen=True)
class ModelFacts:
    """What the card of a trained model is written from.

    Args:
        name: Name of the model folder.
        path: The model folder, from where the card is made if it lies below.
        card: The recipe's `card` section, of `CARD_KEYS`.
        training: What the run wrote.
        results: What `hf-nar evaluate`, `hf-nar latency` and `hf-nar benchmark` wrote.
        config: The network's `config.json`.
        reported: What others report of the setting, if the folder has such a file.
    """

    name: str
    path: str
    card: Mapping[str, Any]
    training: Mapping[str, Any]
    results: Mapping[str, Any]
    config: Mapping[str, Any]
    reported: Reported | None = None

    @classmethod
    def load(cls, folder: Path) -> ModelFacts:
        """Read a model folder.

        Raises:
            OSError: If a file is missing.
            ValueError: If a file is no JSON, the recipe's card section is not usable, or figures
                are missing or of other weights.
        """
        names = (TRAINING_FILE, RESULTS_FILE, CONFIG_FILE)
        training, results, config = (read_json(folder / name) for name in names)
        card = training.get("recipe", {}).get("card") or {}
        check_card_section(card, f"The recipe of {folder}")
        digest = weights_digest(folder)
        for section, command in NEEDED_SECTIONS.items():
            if section not in results:
                if section == "quality" or not results["quality"].get("is_autoregressive"):
                    raise ValueError(
                        f'{folder / RESULTS_FILE} must hold "{section}", but does not. Measure it '
                        f"with `hf-nar {command} --output`."
                    )
            elif results[section].get("weights_sha256") != digest:
                raise ValueError(
                    f"{folder / RESULTS_FILE} must hold figures of the weights beside it, but its "
                    f'"{section}" is not of these. Measure again with `hf-nar {command}`.'
                )
        name, path = folder.resolve().name, shown_path(folder)
        return cls(name, path, card, training, results, config, Reported.load(folder))

    @property
    def is_teacher(self) -> bool:
        """Whether the model is autoregressive, and its network one of transformers."""
        return bool(self.results["quality"].get("is_autoregressive"))

    @property
    def family(self) -> Family:
        """What a card says of the model's family; the model is no teacher.

        Raises:
            ValueError: If the results are of no family of this package.
        """
        recipe = self.training.get("recipe", {})
        return family_of(self.results["quality"].get("family"), recipe)

    @property
    def tags(self) -> list[str]:
        """Tags of the card beside its task."""
        if self.is_teacher:
            return ["teacher"]
        return ["non-autoregressive", str(self.results["quality"]["family"]), "custom_code"]

    @property
    def default_quality(self) -> Mapping[str, Any]:
        """The figures of the decoding that the model has as its default.

        Raises:
            ValueError: If it was not measured.
        """
        for row in self.results["quality"]["rows"]:
            if row.get("is_default"):
                default: Mapping[str, Any] = row
                return default
        raise ValueError(
            f"The results of {self.name} must have the decoding that the model has as its own. "
            f"Measure it with `hf-nar evaluate`, with its `--iterations` or `--beams`."
        )

    @property
    def settings(self) -> list[Mapping[str, Any]]:
        """The knobs of each decoding whose quality was measured."""
        return [row.get("setting", {}) for row in self.results["quality"]["rows"]]

    @property
    def teacher(self) -> str | None:
        """Name of the teacher: its Hub id, the recipe's word, or what speed is compared with."""
        for key in ("base_model", "teacher"):
            if self.card.get(key):
                return str(self.card[key])
        words = shlex.split(self.results.get("benchmark", {}).get("command", ""))
        return Path(words[words.index("--teacher") + 1]).name if "--teacher" in words else None


def check_card_section(card: Mapping[str, Any], owner: str) -> None:
    """Check a recipe's `card` section.

    Args:
        card: The section.
        owner: The recipe, as a message begins.

    Raises:
        ValueError: If a key is missing or unknown, or `base_model` is no id on the Hub.
    """
    check_keys(list(card), CARD_KEYS, "card.")
    for key in NEEDED_KEYS:
        if key not in card:
            raise ValueError(f"{owner} must have `card.{key}`; add it and export again.")
    base_model = card.get("base_model")
    if base_model is not None and not _is_hub_id(base_model):
        raise ValueError(
            f"`card.base_model` must be an id on the Hub, such as Helsinki-NLP/opus-mt-de-en; got "
            f"{base_model!r}. Name a teacher that is not there in `card.teacher`."
        )


def common_metadata(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the metadata of every card says: languages, licence and library."""
    named = {name: card.get(name) for name in ("language", "license", "license_name")}
    return {**named, "license_link": card.get("license_link"), "library_name": "transformers"}


def _is_hub_id(name: object) -> bool:
    is_id = isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII)
    return bool(is_id) and not Path(str(name)).exists()
