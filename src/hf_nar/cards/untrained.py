"""The card of a setting that nobody here has trained: a recipe, and what others report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from hf_nar.cards.facts import check_card_section, common_metadata
from hf_nar.cards.families import Family, family_of
from hf_nar.cards.files import shown_path
from hf_nar.cards.markdown import code_span, fenced, inline, prose
from hf_nar.cards.papers import bibtex
from hf_nar.cards.reported import REPORTED_FILE, Reported
from hf_nar.evaluation.model_identity import WEIGHTS
from hf_nar.training.recipe import Recipe

STATEMENT = "**No weights have been trained by this project yet.**"


@dataclass(frozen=True)
class UntrainedFacts:
    """What the card of a setting without weights is written from.

    Args:
        name: Name of the folder.
        recipes: The recipes by their paths, in the order in which they run; the last one makes the
            model.
        texts: The recipes as they are written, in the same order.
        reported: What others report.
    """

    name: str
    recipes: Mapping[str, Recipe]
    texts: Sequence[str]
    reported: Reported

    @classmethod
    def load(cls, folder: Path) -> UntrainedFacts:
        """Read a folder with `reported.json`, and the recipes that it names.

        Raises:
            OSError: If a file is missing.
            ValueError: If a file does not hold what it must.
        """
        reported = Reported.load(folder)
        if reported is None or not reported.recipes:
            raise ValueError(
                f"{folder / REPORTED_FILE} must name the recipes of the setting, as there are no "
                f"weights in that folder. Add them as `recipes`."
            )
        files = [folder / name for name in reported.recipes]
        recipes = {shown_path(file): Recipe.load(file) for file in files}
        for path, recipe in recipes.items():
            check_card_section(recipe.card, f"The recipe {path}")
        texts = [file.read_text(encoding="utf-8") for file in files]
        return cls(folder.resolve().name, recipes, texts, reported)

    @property
    def recipe(self) -> Recipe:
        """The recipe that makes the model."""
        return list(self.recipes.values())[-1]

    @property
    def family(self) -> Family:
        """What a card says of the model's family."""
        return family_of(self.recipe.family, {"stage": self.recipe.stage})


def is_untrained(folder: Path) -> bool:
    """Say whether a folder holds reported figures and no weights."""
    return (folder / REPORTED_FILE).is_file() and not (folder / WEIGHTS).is_file()


def render_untrained(facts: UntrainedFacts) -> str:
    """Return the card as Markdown with YAML metadata, which has no figures: none was measured."""
    citations = bibtex([*facts.reported.citations, *facts.family.papers])
    sections = [
        _summary(facts),
        _training(facts),
        facts.reported.section(),
        f"## Limits\n\nThere is nothing to translate with here. What a run of this recipe would "
        f"reach is not known: where it differs from the paper, its first lines say so."
        f"{_paragraph(facts.recipe.card.get('limits'))}",
        f"## Citation\n\n{fenced(citations, 'bibtex')}",
    ]
    return f"---\n{_metadata(facts)}\n---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(facts: UntrainedFacts) -> str:
    card, reads_images = facts.recipe.card, facts.recipe.data.source == "image"
    task = "image-to-text" if reads_images else "translation"
    data = ModelCardData(
        **common_metadata(card),
        pipeline_tag=task,
        tags=[task, "non-autoregressive", facts.recipe.family, "recipe", "no-weights"],
        datasets=card.get("datasets"),
    )
    return str(data.to_yaml()).strip()


def _summary(facts: UntrainedFacts) -> str:
    card = facts.recipe.card
    reported = " and figures that others report" if facts.reported.tables else ""
    return (
        f"# {inline(facts.name)}\n\n{prose(card['title'])}\n\n{STATEMENT} This folder holds no "
        f"model, only the recipe for one{reported}.\n\n"
        f"{prose(card.get('about', facts.family.about))}"
    )


def _training(facts: UntrainedFacts) -> str:
    commands = "\n".join(f"hf-nar train {path}" for path in facts.recipes)
    parts = [
        f"## Train it\n\nThe first lines of a recipe say what it needs, and how it differs from "
        f"the paper.\n\n{fenced(commands, 'bash')}"
    ]
    for path, text in zip(facts.recipes, facts.texts, strict=True):
        parts.append(f"{code_span(path)}:\n\n{fenced(text, 'yaml')}")
    return "\n\n".join(parts)


def _paragraph(text: Any) -> str:
    return f"\n\n{prose(text)}" if text else ""
