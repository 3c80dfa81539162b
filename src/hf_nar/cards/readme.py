"""The measured tables in the project's README."""

from __future__ import annotations

from collections.abc import Sequence

from hf_nar.cards.card import ModelFacts, traces
from hf_nar.cards.tables import hardware, latency_table, quality_table, replace_block


def fill_readme(text: str, models: Sequence[ModelFacts]) -> str:
    """Return the README with the tables of each model between its marks.

    The marks are `<!-- NAME traces -->`, `<!-- NAME quality -->` and `<!-- NAME latency -->` with
    their closing ones; NAME is the model folder's.

    Raises:
        ValueError: If a mark is missing.
    """
    for facts in models:
        quality, latency = facts.results["quality"], facts.results["latency"]
        blocks = {
            "traces": traces(facts),
            "quality": f"{quality_table(quality)}\n\n`{quality['rows'][0]['bleu_signature']}`",
            "latency": f"{latency_table(latency)}\n\n{hardware(latency['environment'])}",
        }
        for name, content in blocks.items():
            text = replace_block(text, f"{facts.name} {name}", content)
    return text
