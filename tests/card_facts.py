"""What the card of the committed LaNMT is written from, to be changed by a test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hf_nar.cards.facts import ModelFacts

LANMT = Path(__file__).parents[1] / "model_cards/lanmt-multi30k-deen"


def committed_facts(
    card: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **quality: Any
) -> ModelFacts:
    """Return the facts of a model called "name", with other values in some of their parts."""
    results, training, own_config = (
        json.loads((LANMT / name).read_text("utf-8"))
        for name in ("results.json", "training.json", "config.json")
    )
    results["quality"] |= quality
    section = training["recipe"]["card"] | (card or {})
    return ModelFacts(
        "name", "models/name", section, training, results, own_config | (config or {})
    )
