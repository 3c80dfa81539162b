"""`hf-nar train`: train a model from a recipe."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="YAML file; see training/recipes.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, such as training.max_steps=100 or output=runs/mine."),
    ] = None,
) -> None:
    """Train a model from a recipe; run again after a stop, it goes on from the last checkpoint."""
    from hf_nar.training.recipe import Recipe  # late: `hf-nar --help` must not load torch
    from hf_nar.training.run import train as run

    command = shlex.join(["hf-nar", "train", str(recipe), *(overrides or [])])
    result = run(Recipe.load(recipe, overrides or []), command)
    print(
        f"{result.folder}: {result.bleu:.2f} BLEU on the validation set, "
        f"{result.averaged} checkpoint(s) averaged"
    )
