"""`hf-nar corrupt`: corrupted copies of sentences, such as the test set of a text repairer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def corrupt(
    text_file: Annotated[Path, typer.Argument(help="One sentence a line, plain or .gz.")],
    output: Annotated[Path, typer.Option(help="File to write, one corrupted sentence a line.")],
    rate: Annotated[
        float, typer.Option(help="Share of the words of each sentence that are corrupted, up to 1.")
    ],
    weights: Annotated[
        str | None,
        typer.Option(
            help="Relative frequency of swap, replace, repeat, drop and insert, such as "
            "swap=1,drop=2; the others never happen. [default: all alike]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the corruption.")] = 0,
) -> None:
    """Corrupt words of each sentence of a text, as a corpus with `text_file` does for training."""
    from hf_nar.data.corpus_config import CorpusConfig  # late: help must not load torch
    from hf_nar.data.corpus_rows import file_pairs

    config = CorpusConfig(
        text_file=text_file,
        corruption_rate=rate,
        corruption_weights=None if weights is None else _parse_weights(weights),
        seed=seed,
    )
    copies = [source for source, _ in file_pairs(config)]
    output.write_text("".join(f"{copy}\n" for copy in copies), encoding="utf-8", newline="\n")
    typer.echo(f"Wrote {len(copies)} corrupted sentences to {output}.")


def _parse_weights(text: str) -> dict[str, float]:
    weights = {}
    for item in text.split(","):
        name, _, number = item.partition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            raise ValueError(
                f"`--weights` must be such as swap=1,drop=2; got {item!r} in it. Give each "
                f"operation a number."
            ) from None
    return weights
