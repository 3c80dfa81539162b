"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_SEED = 12345  # of `hf-nar evaluate` and `hf-nar translate`: the same noise

JsonFile = Annotated[
    Path | None, typer.Option(help="File, plain or .gz, with one JSON object a line.")
]
Dataset = Annotated[str | None, typer.Option(help="Folder or Hub id of a Hugging Face dataset.")]
DatasetName = Annotated[str | None, typer.Option(help="Configuration of the dataset.")]
Split = Annotated[str, typer.Option(help="Split of the dataset.")]
DatasetRevision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of a Hub dataset.")
]
SourceField = Annotated[
    str | None, typer.Option(help="Field of the source, such as translation.de.")
]
Device = Annotated[
    str | None, typer.Option(help="cpu, cuda or cuda:1. [default: the GPU if there is one]")
]
Dtype = Annotated[
    str | None,
    typer.Option(help="float32, bfloat16 or float16. [default: float32 on the CPU, else as saved]"),
]
RankWith = Annotated[
    str | None,
    typer.Option(
        help="Folder or Hub id of an autoregressive teacher with the model's vocabulary, which "
        "chooses among translations of several lengths or latents."
    ),
]
Prefix = Annotated[
    str, typer.Option(help="Put before each source, such as 'translate English to German: '.")
]
SourceLanguage = Annotated[
    str | None, typer.Option(help="Code for a multilingual model, such as deu_Latn.")
]
TargetLanguage = Annotated[
    str | None, typer.Option(help="Code for a multilingual model, such as eng_Latn.")
]
