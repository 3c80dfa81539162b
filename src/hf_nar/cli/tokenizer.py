"""`hf-nar tokenizer`: train a joint vocabulary on a parallel corpus."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_nar.cli.options import (
    Dataset,
    DatasetName,
    DatasetRevision,
    JsonFile,
    SourceField,
    Split,
)


class ModelType(str, Enum):
    """Algorithms that find the pieces."""

    UNIGRAM = "unigram"
    BPE = "bpe"


def tokenizer(
    output: Annotated[Path, typer.Option(help="Folder to write.")],
    source_file: Annotated[
        Path | None, typer.Option(help="Text file, plain or .gz, one source sentence a line.")
    ] = None,
    target_file: Annotated[
        Path | None, typer.Option(help="Text file, plain or .gz, one target sentence a line.")
    ] = None,
    json_file: JsonFile = None,
    dataset: Dataset = None,
    name: DatasetName = None,
    split: Split = "train",
    revision: DatasetRevision = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Read the dataset without storing it.")
    ] = False,
    source_field: SourceField = None,
    target_field: Annotated[
        str | None, typer.Option(help="Field of the target, such as translation.en.")
    ] = None,
    vocab_size: Annotated[
        int, typer.Option(help="Number of pieces, five special ones included.")
    ] = 8000,
    model_type: Annotated[
        ModelType, typer.Option(help="Algorithm that finds the pieces.")
    ] = ModelType.UNIGRAM,
    character_coverage: Annotated[
        float, typer.Option(help="Share of the characters that get a piece, up to 1.")
    ] = 1.0,
    max_sentences: Annotated[
        int | None,
        typer.Option(
            help="Sentences kept in memory; of more, a random sample is used. [default: 500000]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of that sample.")] = 0,
) -> None:
    """Train a joint SentencePiece vocabulary and save it as a fast tokenizer.

    The corpus is given by --source-file and --target-file, by --json-file, or by --dataset.
    """
    # Late: `hf-nar --help` must not load torch.
    from hf_nar.data.corpus import CorpusConfig, all_sentences, load_corpus
    from hf_nar.data.tokenizer import MAX_SENTENCES, train_tokenizer

    options: dict[str, Any] = {
        "source_file": source_file,
        "target_file": target_file,
        "json_file": json_file,
        "dataset": dataset,
        "name": name,
        "split": split,
        "revision": revision,
        "streaming": streaming,
        "source_field": source_field,
        "target_field": target_field,
    }
    corpus = load_corpus(CorpusConfig.from_dict(options))
    trained = train_tokenizer(
        all_sentences(corpus.pairs),
        output,
        vocab_size=vocab_size,
        model_type=model_type.value,
        character_coverage=character_coverage,
        max_sentences=MAX_SENTENCES if max_sentences is None else max_sentences,
        seed=seed,
    )
    if corpus.empty_dropped:
        typer.echo(f"Left out {corpus.empty_dropped} pairs with an empty side.")
    typer.echo(f"Wrote a {model_type.value} vocabulary of {len(trained)} pieces to {output}.")
