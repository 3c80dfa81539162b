"""What a model must not be used for, as far as its own figures tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_nar.cards.facts import ModelFacts
from hf_nar.cards.markdown import inline


def unsuited(facts: ModelFacts) -> list[str]:
    """Return sentences that say when another model, or none, is the better choice."""
    harm = "Where a wrong translation does harm and nobody reads it over."
    other = (
        "For text unlike what it was trained on, such as another domain, another language or "
        "longer sentences: what comes out is fluent and wrong."
    )
    if facts.is_teacher:
        return [
            harm,
            other,
            "Where a long sentence must be translated fast: it makes a network pass for each word.",
        ]
    benchmark = facts.results["benchmark"]
    return [harm, other, *_better(benchmark, facts.default_quality["bleu"]), *_faster(benchmark)]


def _better(benchmark: Mapping[str, Any], bleu: float) -> list[str]:
    """Say how much better the teacher is, if it is."""
    engines = [one for one in benchmark["systems"] if not one["is_ours"] and one.get("bleu")]
    best = max(engines, key=lambda engine: float(engine["bleu"]), default=None)
    if best is None or best["bleu"] <= bleu:
        return []
    return [
        f"Where quality is worth waiting for: its teacher ({inline(best['name'])}) has "
        f"{best['bleu']:.2f} BLEU on the same sentences, this model as it is {bleu:.2f}."
    ]


def _faster(benchmark: Mapping[str, Any]) -> list[str]:
    """Say at which batch sizes an engine of the teacher beats all measured ways to decode."""
    ours = {system["name"] for system in benchmark["systems"] if system["is_ours"]}
    rows = [row for row in benchmark["rows"] if row["scope"] == "text"]
    lost: dict[str, list[str]] = {}
    for size in sorted({row["batch_size"] for row in rows}):
        rates = {
            row["system"]: row["sentences_per_second"] for row in rows if row["batch_size"] == size
        }
        fastest = max(rates, key=lambda name: rates[name])
        if fastest not in ours:
            lost.setdefault(fastest, []).append(str(size))
    return [
        f"Where speed is all, on hardware like that above: at batch size {', '.join(sizes)} the "
        f"teacher in {inline(name)} is faster than every way to decode this model that was "
        f"measured."
        for name, sizes in lost.items()
    ]
