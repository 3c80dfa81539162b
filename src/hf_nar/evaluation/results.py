"""The file that every published number comes from."""

from __future__ import annotations

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
from hf_nar.evaluation.model_identity import weights_digest

PACKAGES = ("torch", "transformers", "tokenizers", "sacrebleu", "numpy")
OPTIONAL_PACKAGES = ("sentencepiece", "ctranslate2")


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a figure depends on beside the model: hardware, threads, versions."""
    versions = {name: package_version(name) for name in (*PACKAGES, *OPTIONAL_PACKAGES)}
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "hf-nar": __version__,  # not the metadata's, which a checkout on the path lacks
        **{name: version for name, version in versions.items() if version is not None},
    }


def package_version(package: str) -> str | None:
    """Return the version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


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


def check_results_file(file: Path) -> dict[str, Any]:
    """Check that results can be added to a file; do it before they are measured.

    Returns:
        What it holds; nothing if it is not there yet.

    Raises:
        OSError: If its folder is not there, or the file cannot be read.
        ValueError: If it is there, but is no results file.
    """
    if not file.parent.is_dir():
        raise FileNotFoundError(
            f"A results file must be in a folder that exists, but {file.parent} does not. Make it "
            f"first."
        )
    if not file.exists():
        return {}
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} must be a results file of `hf-nar`, but is no JSON ({error}). Choose "
            f"another `--output`."
        ) from error
    if not isinstance(results, dict):
        raise ValueError(f"{file} must be a results file of `hf-nar`, but is no JSON object.")
    return results


def write_results(
    file: Path, kind: str, model: str | None, arguments: Sequence[str], content: Mapping[str, Any]
) -> None:
    """Add measurements to a results file, replacing earlier ones of the same kind.

    Args:
        file: JSON; made if it is not there.
        kind: Name of the measurement, such as "quality".
        model: Folder or Hub id that was measured; None where no saved model was.
        arguments: Of the command, without the program's name.
        content: What was measured, with its environment.

    Raises:
        OSError: If its folder is not there, or the file cannot be written.
        ValueError: If the file is there, but is no results file.
    """
    results = check_results_file(file)
    results[kind] = {
        "command": shlex.join(["hf-nar", *arguments]),
        "weights_sha256": None if model is None else weights_digest(Path(model)),
        **content,
    }
    temporary = file.with_name(file.name + ".new")
    temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(file)
