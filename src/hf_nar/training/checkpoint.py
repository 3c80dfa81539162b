"""Checkpoints of a run: find the last, average several."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

WEIGHTS_FILE = "model.safetensors"
STATE_FILE = "trainer_state.json"


def checkpoint_folders(output: Path) -> list[Path]:
    """Return all folders of a run that are named as checkpoints, oldest first."""
    found = [i for i in output.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", i.name)]
    return sorted(found, key=lambda folder: int(folder.name.removeprefix("checkpoint-")))


def saved_checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first.

    A folder without weights or without the trainer's state is none and is left out; see
    `hf_nar.training.manifest` for one with damaged files.
    """
    folders = checkpoint_folders(output)
    return [i for i in folders if (i / WEIGHTS_FILE).is_file() and (i / STATE_FILE).is_file()]


def average_weights(folders: list[Path]) -> dict[str, Tensor]:
    """Return the mean of the weights in several model folders, float32 sums.

    Args:
        folders: Each holds a `model.safetensors` of the same network.

    Raises:
        OSError: If weights are missing or damaged.
        ValueError: If there is no folder, or the networks differ.
    """
    if not folders:
        raise ValueError("Averaging needs at least one model folder, got none.")
    sums: dict[str, Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for folder in folders:
        try:
            weights = load_file(folder / WEIGHTS_FILE)
        except SafetensorError as error:
            raise OSError(
                f"The weights in {folder} are damaged or cut off ({error}). Leave it out."
            ) from error
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"A model folder must hold {WEIGHTS_FILE}, but {folder} does not."
            ) from error
        shapes = {name: value.shape for name, value in weights.items()}
        if sums and shapes != {name: value.shape for name, value in sums.items()}:
            raise ValueError(
                f"All averaged models must have the same parameters, but those of {folder} differ "
                f"from those of {folders[0]}."
            )
        for name, value in weights.items():
            dtypes[name] = value.dtype
            sums[name] = sums[name] + value.float() if name in sums else value.float()
    return {name: (value / len(folders)).to(dtypes[name]) for name, value in sums.items()}
