"""The measured tables in the project's README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hf_nar.cards.card import traces
from hf_nar.cards.facts import ModelFacts
from hf_nar.cards.markdown import fenced
from hf_nar.cards.tables import hardware, quality_table, replace_block, speed_table


def fill_readme(
    text: str, models: Sequence[ModelFacts], results: Mapping[str, Mapping[str, Any]]
) -> str:
    """Return the README with measured tables between its marks.

    The marks are `<!-- NAME KIND -->` with their closing ones. Of our models, NAME is the folder's
    and KIND is traces, quality and speed; a teacher has no table of its own. Of other results
    files, NAME is the file's and KIND is quality or speed, whichever it holds.

    Args:
        text: The README.
        models: Model folders.
        results: Contents of further results files, by name.

    Raises:
        ValueError: If a mark is missing, or a results file holds nothing that is shown.
    """
    blocks: dict[str, str] = {}
    for facts in models:
        if not facts.is_teacher:
            blocks |= _blocks(facts.name, facts.results)
            blocks[f"{facts.name} traces"] = traces(facts)
    for name, content in results.items():
        found = _blocks(name, content)
        if not found:
            raise ValueError(
                f'The results file {name} must hold "quality" or "benchmark" to be shown in the '
                f"README, but has neither. Leave it out."
            )
        blocks |= found
    for name, block in blocks.items():
        text = replace_block(text, name, block)
    return text


def _blocks(name: str, results: Mapping[str, Any]) -> dict[str, str]:
    blocks = {}
    if "quality" in results:
        quality = results["quality"]
        signature = quality["rows"][0]["bleu_signature"]
        blocks[f"{name} quality"] = f"{quality_table(quality)}\n\n`{signature}`"
    if "benchmark" in results:
        benchmark = results["benchmark"]
        blocks[f"{name} speed"] = (
            f"{speed_table(benchmark, with_iterations=True)}\n\n"
            f"{hardware(benchmark['environment'], 'ctranslate2')}\n\n"
            f"{fenced(benchmark['command'], 'bash')}"
        )
    return blocks
