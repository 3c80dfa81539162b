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
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only say what would be trained, and on how much of what."),
    ] = False,
) -> None:
    """Train a model from a recipe; run again after a stop, it goes on from the last checkpoint.

    After SIGTERM or Ctrl-C it writes a checkpoint and exits with code 75; a second ends it at once.
    """
    if dry_run:
        _say_what_would_be_trained(recipe, overrides or [])
        return
    from hf_nar.training.interruption import EXIT_CODE, TrainingInterrupted
    from hf_nar.training.recipe import Recipe  # late: `hf-nar --help` must not load torch
    from hf_nar.training.run import train as run

    command = shlex.join(["hf-nar", "train", str(recipe), *(overrides or [])])
    try:
        result = run(Recipe.load(recipe, overrides or []), command, recipe.absolute().parent)
    except TrainingInterrupted as error:  # which has said so
        raise typer.Exit(EXIT_CODE) from error
    print(
        f"{result.folder}: {result.bleu:.2f} BLEU on the validation set, "
        f"{result.averaged} checkpoint(s) averaged"
    )


def _say_what_would_be_trained(file: Path, overrides: list[str]) -> None:
    from accelerate import PartialState

    from hf_nar.training.dry_run import plan_run
    from hf_nar.training.dry_run_report import report
    from hf_nar.training.recipe import Recipe

    plan = plan_run(Recipe.load(file, overrides))
    if PartialState().is_main_process:
        print("\n".join(report(plan)))
