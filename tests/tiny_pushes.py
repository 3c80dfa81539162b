"""Folders of small random models that are fit for the Hub, with cards of made-up figures."""

from __future__ import annotations

import json
from pathlib import Path

from tiny_exports import lively_lanmt
from tiny_teachers import new_teacher
from transformers import PreTrainedTokenizerFast

from hf_nar.cards.folder import CARD_FILE, load_facts, render
from hf_nar.evaluation.model_identity import weights_digest
from hf_nar.training.export import export_folder

SENTENCE = "Ein Hund läuft im Schnee."
CARDS = Path(__file__).parents[1] / "model_cards"


def save_student(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a LaNMT with two iterations as its own; return its folder."""
    model = lively_lanmt(len(tokenizer))
    model.generation_config.num_refinement_iterations = 2
    export_folder(model, tokenizer, folder)
    return describe(folder, CARDS / "lanmt-multi30k-deen")


def save_teacher(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write an autoregressive model; return its folder."""
    export_folder(new_teacher("marian", tokenizer), tokenizer, folder)
    return describe(folder, CARDS / "teacher-multi30k-deen")


def describe(folder: Path, example: Path) -> Path:
    """Give a model's folder the figures of another one, and a card of them; return it."""
    results = json.loads((example / "results.json").read_text("utf-8"))
    for section in results.values():
        section["weights_sha256"] = weights_digest(folder)
    results["quality"]["example"] = {"source": SENTENCE, "translation": "whatever"}
    (folder / "results.json").write_text(json.dumps(results) + "\n", encoding="utf-8")
    (folder / "training.json").write_bytes((example / "training.json").read_bytes())
    write_card(folder)
    return folder


def write_card(folder: Path) -> None:
    """Write the card again, as `hf-nar card` does."""
    (folder / CARD_FILE).write_text(render(load_facts(folder)), encoding="utf-8")
