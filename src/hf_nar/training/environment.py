"""In what a run was trained: versions, hardware and git state, kept beside the weights."""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers.integrations import integration_utils

from hf_nar import __version__
from hf_nar.evaluation.results import package_version, processor

logger = logging.getLogger(__name__)

ENVIRONMENT_FILE = "environment.json"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers")
_GIT_SECONDS = 20


def run_environment(folders: Iterable[Path], processes: int) -> dict[str, Any]:
    """Return what a run depends on beside its recipe; no names of folders, users or machines.

    Args:
        folders: Of the first that is in a git repository, commit and state are told.
        processes: How many train.
    """
    gpus = range(torch.cuda.device_count())
    hardware = {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "gpus": [torch.cuda.get_device_name(i) for i in gpus],
        "processes": processes,
        "threads": torch.get_num_threads(),
    }
    versions = {name: package_version(name) for name in PACKAGES}
    packages = {"python": platform.python_version(), "hf_nar": __version__, **versions}
    states = (git_state(folder) for folder in folders)
    git = next((state for state in states if state is not None), None)
    return {"packages": packages, "hardware": hardware, "git": git}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return `commit`, and in `dirty` whether tracked files differ from it.

    Args:
        folder: In the working tree. None is returned where it is in none, nothing was committed
            yet, or there is no git.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return None
    return {"commit": commit.strip(), "dirty": bool(changes.strip())}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints; None where it fails."""
    without_locks = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # another git may be at work
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_SECONDS, env=without_locks
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def record_environment(
    output: Path, command: str, checkpoint: Path | None, recipe_folder: Path | None
) -> None:
    """Write the environment of a run that starts, or add it where a run goes on in another one.

    Args:
        output: The run's folder.
        command: How the run was started.
        checkpoint: What it goes on from; None where it starts.
        recipe_folder: Where its recipe lies; its repository is told, or else that of the working
            folder.

    Raises:
        ValueError: If the file of earlier ones is damaged.
    """
    if not PartialState().is_main_process:
        return
    folders = [Path.cwd()] if recipe_folder is None else [recipe_folder, Path.cwd()]
    environment = run_environment(folders, PartialState().num_processes)
    before = [] if checkpoint is None else read_environments(output)
    if before and all(before[-1].get(name) == value for name, value in environment.items()):
        return
    if before:
        logger.warning("This run goes on in another environment; see %s.", ENVIRONMENT_FILE)
    start = {
        "from_step": 0 if checkpoint is None else int(checkpoint.name.rpartition("-")[2]),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command,
        **environment,
    }
    temporary = output / f"{ENVIRONMENT_FILE}.new"
    text = json.dumps([*before, start], indent=2, ensure_ascii=False) + "\n"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(output / ENVIRONMENT_FILE)


def read_environments(output: Path) -> list[dict[str, Any]]:
    """Return the environments of a run, in the order in which it was in them; none if not kept.

    Raises:
        ValueError: If the file is damaged.
    """
    file = output / ENVIRONMENT_FILE
    if not file.is_file():
        return []
    try:
        environments = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{file} must be JSON that a run has written, but is not ({error}). Move it away."
        ) from error
    if not isinstance(environments, list):
        raise ValueError(f"{file} must be a list that a run has written. Move it away.")
    return environments


def check_trackers(report_to: Iterable[str]) -> None:
    """Check that the trackers of a run are known and installed.

    Raises:
        ValueError: If one is not.
    """
    known = list(integration_utils.INTEGRATION_TO_CALLBACK)
    installed = integration_utils.get_available_reporting_integrations()
    for name in report_to:
        if name not in known:
            raise ValueError(
                f"`training.report_to` must name trackers of transformers, got {name!r}. Use some "
                f"of: {', '.join(known)}."
            )
        if name not in installed and name != "flyte":  # which the library does not list
            raise ValueError(
                f"`training.report_to` must name trackers that are installed, but {name} is not. "
                f"Install its package, or leave it out."
            )
