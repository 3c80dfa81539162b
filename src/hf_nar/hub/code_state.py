"""How the code in a model folder stands to the installed package's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from hf_nar.teacher import check_autoregressive
from hf_nar.training.code_files import CONFIG, code_entries, code_files
from hf_nar.training.models import FAMILIES

SAME, DIFFERS, MISSING, EXTRA = "same", "differs", "missing", "extra"
OTHER = {DIFFERS, MISSING}  # states of a file that is not the package's
ENTRIES = ("auto_map", "custom_pipelines")  # of a config; they name code


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's config.

    Raises:
        OSError: If it is missing or damaged.
        ValueError: If it is neither of a model of this package nor of a teacher, or of one that
            reads images, which has no card yet.
    """
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(
            f"A model folder must hold {CONFIG}, but {folder} does not. Give the folder that the "
            f"model was exported to."
        )
    try:
        config, _ = PreTrainedConfig.get_config_dict(folder)
    except OSError as error:
        raise OSError(f"The {CONFIG} in {folder} is damaged. Export the model again.") from error
    if not is_ours(config):
        check_autoregressive(str(folder), str(config.get("model_type")))
    elif config.get("vision_config") is not None or config.get("feature_size"):
        raise ValueError(
            f"A model for the Hub must read text, as cards are for translation so far, but "
            f"{folder} reads images. Upload it with `hf upload`."
        )
    return config


def is_ours(config: dict[str, Any]) -> bool:
    """Return whether a config is of a model of this package; a teacher's code is transformers'."""
    return config.get("model_type") in FAMILIES


def code_state(folder: Path) -> dict[str, str]:
    """Compare the code in a model folder with that of the installed package.

    Returns:
        For each file of code, sorted by name: "same", "differs" or "missing"; "extra" if the
        model needs no such file. The config is among them: it names the code to run.

    Raises:
        OSError: As `read_config`.
        ValueError: As `read_config`.
    """
    config = read_config(folder)
    wanted = {file.name: file for file in code_files(config)} if is_ours(config) else {}
    entries = code_entries(config) if is_ours(config) else {}
    named = {name: config[name] for name in ENTRIES if name in config}
    states = {CONFIG: SAME if _text(named) == _text(entries) else DIFFERS}
    for name in {*wanted, *(file.name for file in folder.glob("*.py"))}:
        here = folder / name
        if name not in wanted:
            states[name] = EXTRA
        elif not here.is_file():
            states[name] = MISSING
        else:
            states[name] = SAME if here.read_bytes() == wanted[name].read_bytes() else DIFFERS
    return dict(sorted(states.items()))


def _text(entries: dict[str, Any]) -> str:
    return json.dumps(entries, sort_keys=True)
