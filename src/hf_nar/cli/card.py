"""`hf-nar card`: write the cards of model folders from their results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CARD_FILE = "README.md"


def card(
    folders: Annotated[list[Path], typer.Argument(help="Model folders.")],
    readme: Annotated[
        Path | None, typer.Option(help="Also fill the marked tables of this README.")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Further results file whose table the README shows; may be repeated."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a card or table is out of date.")
    ] = False,
) -> None:
    """Write the cards of model folders from their results."""
    from hf_nar.cards.card import (
        ModelFacts,
        read_json,
        render_card,
    )  # late: `hf-nar --help` is fast
    from hf_nar.cards.readme import fill_readme

    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"A model folder must be a folder, but {folder} is none.")
    models = {folder: ModelFacts.load(folder) for folder in folders}
    texts = {folder / CARD_FILE: render_card(facts) for folder, facts in models.items()}
    if readme:
        others = {file.stem: read_json(file) for file in results or []}
        text = readme.read_text(encoding="utf-8")
        texts[readme] = fill_readme(text, list(models.values()), others)
    elif results:
        raise ValueError("--results are shown in a README; give it with --readme.")
    for file, text in texts.items():
        if check and (not file.is_file() or file.read_text(encoding="utf-8") != text):
            raise ValueError(f"{file} must agree with its results, but does not. Run `make cards`.")
        if not check:
            file.write_text(text, encoding="utf-8")
            print(file)
