"""Run recipes, one after the other, with chance that depends on a batch alone.

Started by tests in one process or in several: `seeded_runs.py RECIPE... [key=value...]`. Noise of
latents, corruption and drafts stays on, but each batch draws its own, whichever process gets it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import torch

from hf_nar.cli.main import main
from hf_nar.training.models import FAMILIES


def seed_by_batch(network: Any) -> None:
    """Seed PyTorch's generator by the labels in each forward pass of a class of networks."""
    forward = network.forward

    @functools.wraps(forward)
    def seeded(self: Any, *args: Any, **inputs: Any) -> Any:
        if inputs.get("labels") is not None:
            torch.manual_seed(int(inputs["labels"].clamp(min=0).sum()))
        return forward(self, *args, **inputs)

    network.forward = seeded


if __name__ == "__main__":
    for _, network in FAMILIES.values():
        seed_by_batch(network)
    overrides = [argument for argument in sys.argv[1:] if "=" in argument]
    for recipe in (argument for argument in sys.argv[1:] if "=" not in argument):
        code = main(["train", recipe, *overrides])
        if code:
            raise SystemExit(code)
