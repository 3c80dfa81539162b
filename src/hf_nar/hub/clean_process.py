"""A model folder in a process that has transformers and torch, and nothing else to lean on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

PROGRAM = Path(__file__).with_name("load_alone.py")
TIMEOUT = 1800.0  # seconds; the largest model has long been loaded
SECRETS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_OIDC_RESOURCE")


@dataclass(frozen=True)
class Loaded:
    """What a clean process found in a model folder.

    Args:
        knobs: The model's generation config as it is after loading.
        translation: Of the text that it was given.
    """

    knobs: dict[str, Any]
    translation: str


def load_in_clean_process(folder: Path, text: str, run_code: bool) -> Loaded:
    """Load a model, offline, without this package and without the user's token.

    Args:
        folder: The model folder.
        text: What to translate.
        run_code: Whether to load with `AutoModel`, which runs the code in the folder; otherwise
            the network is one of transformers and is loaded with `AutoModelForSeq2SeqLM`.

    Raises:
        ValueError: If it cannot be loaded, its weights are not complete and finite, or it
            translates nothing.
    """
    auto_class = "AutoModel" if run_code else "AutoModelForSeq2SeqLM"
    program = PROGRAM.read_text(encoding="utf-8")
    with TemporaryDirectory() as home:
        own = {"HF_HOME": home, "HF_MODULES_CACHE": f"{home}/modules", "HF_HUB_OFFLINE": "1"}
        kept = {name: value for name, value in os.environ.items() if name not in SECRETS}
        try:
            done = subprocess.run(
                [sys.executable, "-c", program, str(folder.resolve()), text, auto_class],
                env={**kept, **own},
                cwd=home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            raise ValueError(
                f"A model must load and translate a text within {TIMEOUT:.0f} seconds, but "
                f"{folder.name} did not."
            ) from error
    if done.returncode:
        raise ValueError(
            f"A model folder must load with transformers and torch alone, offline, but "
            f"{folder.name} does not: {_last_line(done.stderr)} Export the model again."
        )
    return Loaded(**json.loads(done.stdout.decode("utf-8").splitlines()[-1]))


def _last_line(output: bytes) -> str:
    """Return what a process said last: the error that ended it."""
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    return next((line.rstrip(".") + "." for line in reversed(lines) if line), "it gave no reason.")
