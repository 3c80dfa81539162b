"""Whether a model folder is fit for the Hub: all that a push checks before it sends anything."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from hf_nar.cards.facts import ModelFacts
from hf_nar.cards.files import read_json
from hf_nar.cards.folder import CARD_FILE, check_texts, render
from hf_nar.hub.clean_process import load_in_clean_process
from hf_nar.hub.code_state import EXTRA, OTHER, code_state, is_ours, read_config
from hf_nar.hub.folder_files import WEIGHTS, FolderFiles

MOST_NAMES = 3  # of files that a message lists
GENERATION_CONFIG = "generation_config.json"
METADATA = ("library_name", "pipeline_tag", "language", "license")
NOT_KNOBS = {"transformers_version"}
# The line of a quickstart that says where the model is.
PLACE = re.compile(r'^folder = (".*")', re.MULTILINE)


@dataclass(frozen=True)
class FolderCheck:
    """What a check found; what it did not find fit is an error.

    Args:
        files: What is sent, and what is left out.
        other_code: Files of code that are missing or not the installed package's, sorted.
        facts: What the card is written from.
    """

    files: FolderFiles
    other_code: list[str]
    facts: ModelFacts

    def require_own_code(self) -> None:
        """Check that the code is the installed package's.

        Raises:
            ValueError: If it is not.
        """
        if self.other_code:
            more = len(self.other_code) - MOST_NAMES
            names = ", ".join(self.other_code[:MOST_NAMES]) + (
                f" and {more} more" if more > 0 else ""
            )
            verb = "is" if len(self.other_code) == 1 else "are"
            raise ValueError(
                f"The code in {self.files.folder} must be this package's, but {names} {verb} not. "
                f"Renew it with `hf-nar check {self.files.folder} --fix`, or give "
                f"`--trust-remote-code` to run and send it as it is."
            )


def check_folder(folder: Path, copy: Path, trust_remote_code: bool = False) -> FolderCheck:
    """Copy what would be sent, and check the copy.

    Weights must be safetensors, and the card complete and in agreement with its results; the model
    must load in a clean process and keep its generation config. That process runs the folder's
    code, and so is left out where the code is not this package's, unless it is trusted.

    Args:
        folder: The model folder.
        copy: Where to copy to, an empty folder; its name is the model's.
        trust_remote_code: Whether to run code that is not this package's, and to send all of it.

    Raises:
        OSError: If a file is missing or damaged.
        ValueError: If the folder is not fit; the message says what must be done.
    """
    FolderFiles.of(folder)  # refuses weights that are not safe before anything is read
    foreign = [name for name, state in code_state(folder).items() if state == EXTRA]
    files = FolderFiles.of(folder, () if trust_remote_code else foreign)
    if not any(name.endswith(WEIGHTS) for name in files.sent):
        raise ValueError(
            f"A model folder must hold weights, but {folder} holds no {WEIGHTS} file. Train the "
            f"model with `hf-nar train`; it exports them."
        )
    files.copy_to(copy)
    other_code = [name for name, state in code_state(copy).items() if state in OTHER]
    facts = _check_card(folder, copy)
    if trust_remote_code or not other_code:
        _check_loading(copy, facts)
    return FolderCheck(files, other_code, facts)


def write_hub_card(facts: ModelFacts, copy: Path, repo_id: str) -> None:
    """Write the card as it is on the Hub: its quickstart loads the model from there."""
    text = render(dataclasses.replace(facts, path=repo_id))
    (copy / CARD_FILE).write_text(text, encoding="utf-8")


def _check_card(folder: Path, copy: Path) -> ModelFacts:
    """Check that the card is there, agrees with the results, and says what the Hub asks for."""
    facts = ModelFacts.load(copy)
    card = folder / CARD_FILE
    place = PLACE.search(card.read_text(encoding="utf-8")) if card.is_file() else None
    path = json.loads(place[1]) if place else facts.path  # wherever the card was written
    check_texts({card: render(dataclasses.replace(facts, path=path))})
    metadata: dict[str, Any] = ModelCard.load(card).data.to_dict()
    missing = [key for key in METADATA if not metadata.get(key)]
    if missing:
        raise ValueError(
            f"The card of a model must say its {missing[0]}, but {card} does not. Add "
            f"`card.{missing[0]}` to the recipe and export again."
        )
    return facts


def _check_loading(copy: Path, facts: ModelFacts) -> None:
    """Check that the model loads and translates, and that its generation config survives."""
    text = facts.results["quality"]["example"]["source"]
    loaded = load_in_clean_process(copy, text, run_code=is_ours(read_config(copy)))
    saved = read_json(copy / GENERATION_CONFIG)
    lost = [
        name
        for name, value in saved.items()
        if not name.startswith("_") and name not in NOT_KNOBS and loaded.knobs.get(name) != value
    ]
    if lost:
        raise ValueError(
            f"A loaded model must have the knobs of its {GENERATION_CONFIG}, but {copy.name} "
            f"loses {', '.join(lost)}. Save it again with a new `GenerationConfig`."
        )
