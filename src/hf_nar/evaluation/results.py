"""The file that every published number comes from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from hf_nar import __version__

PACKAGES = ("torch", "transformers", "tokenizers", "sacrebleu")


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a figure depends on beside the model: hardware, threads, versions."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "hf-nar": __version__,  # not the metadata's, which a checkout on the path lacks
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def processor() -> str:
    """Return the processor's name as the system gives it, and the number of its cores."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
                break
    return f"{name}, {os.cpu_count()} cores"


def weights_digest(folder: Path) -> str | None:
    """Return the SHA-256 of a model folder's weights; None where it is no folder."""
    file = folder / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def write_results(
    file: Path, kind: str, model: str, arguments: Sequence[str], content: Mapping[str, Any]
) -> None:
    """Add measurements to a results file, replacing earlier ones of the same kind.

    Args:
        file: JSON; made if it is not there.
        kind: Name of the measurement, such as "quality".
        model: Folder or Hub id that was measured.
        arguments: Of the command, without the program's name.
        content: What was measured, with its environment.

    Raises:
        OSError: If the file cannot be written.
        ValueError: If the file is there, but is no results file.
    """
    results: dict[str, Any] = {}
    if file.is_file():
        try:
            results = json.loads(file.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{file} must be a results file of `hf-nar`, but is no JSON ({error}). Choose "
                f"another `--output`."
            ) from error
        if not isinstance(results, dict):
            raise ValueError(f"{file} must be a results file of `hf-nar`, but is no JSON object.")
    results[kind] = {
        "command": shlex.join(["hf-nar", *arguments]),
        "weights_sha256": weights_digest(Path(model)),
        **content,
    }
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(file)
