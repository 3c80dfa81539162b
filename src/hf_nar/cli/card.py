"""`hf-nar card`: write the cards of model folders from their results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def card(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Model folders, or folders with reported.json only: figures that others report."
        ),
    ],
    readme: Annotated[
        Path | None, typer.Option(help="Also fill the marked tables of this README.")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Further results file whose table the README shows; may be repeated."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Write nothing; fail at the first line of a card or README that is out of date.",
        ),
    ] = False,
) -> None:
    """Write the cards of model folders from their results."""
    from hf_nar.cards.facts import ModelFacts  # late: `hf-nar --help` is fast
    from hf_nar.cards.files import read_json
    from hf_nar.cards.folder import CARD_FILE, check_texts, load_facts, render
    from hf_nar.cards.readme import fill_readme

    facts = {folder: load_facts(folder) for folder in folders}
    texts = {folder / CARD_FILE: render(one) for folder, one in facts.items()}
    if readme:
        models = [one for one in facts.values() if isinstance(one, ModelFacts)]
        others = {file.stem: read_json(file) for file in results or []}
        texts[readme] = fill_readme(readme.read_text(encoding="utf-8"), models, others)
    elif results:
        raise ValueError("--results are shown in a README; give it with --readme.")
    if check:
        check_texts(texts)
        return
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
        print(file)
