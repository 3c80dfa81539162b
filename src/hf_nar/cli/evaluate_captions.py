"""`hf-nar evaluate-captions`: describe held-out images and score the captions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hf_nar.cli.called import CALLED
from hf_nar.cli.options import Dataset, DatasetName, DatasetRevision, Device, Dtype
from hf_nar.cli.quiet import quiet_libraries


def evaluate_captions(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a hf_nar model for images.")],
    dataset: Dataset = None,
    builder: Annotated[
        str | None, typer.Option(help="Draw images instead of reading them: digit_scenes.")
    ] = None,
    num_scenes: Annotated[int | None, typer.Option(help="Images that the builder draws.")] = None,
    seed: Annotated[int, typer.Option(help="Of the builder.")] = 0,
    split: Annotated[str, typer.Option(help="Split of the dataset or of the builder.")] = "test",
    name: DatasetName = None,
    revision: DatasetRevision = None,
    image_field: Annotated[str, typer.Option(help="Column with the image.")] = "image",
    caption_field: Annotated[
        str, typer.Option(help="Column with the caption, or with a list of captions.")
    ] = "caption",
    iterations: Annotated[str, typer.Option(help="Refinement iterations.")] = "0,1,4",
    batch_size: Annotated[int, typer.Option(min=1, help="Images at once.")] = 32,
    device: Device = None,
    dtype: Dtype = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Results file; replaces what this command wrote there before."),
    ] = None,
) -> None:
    """Score a model's captions against all references of each image: BLEU, and exact captions."""
    quiet_libraries()
    from hf_nar.captioner import Captioner  # late: help must not load torch
    from hf_nar.cli.numbers import parse_numbers
    from hf_nar.data.image_corpus import ImageCorpusConfig, load_image_corpus
    from hf_nar.evaluation.captions import evaluate_captioner
    from hf_nar.evaluation.results import check_results_file, write_results

    if output:
        check_results_file(output)
    counts = parse_numbers(iterations, "--iterations")
    corpus = load_image_corpus(
        ImageCorpusConfig(
            dataset=dataset,
            builder=builder,
            num_scenes=num_scenes,
            seed=seed,
            name=name,
            split=split,
            revision=revision,
            image_field=image_field,
            caption_field=caption_field,
        )
    )
    captioner = Captioner.from_pretrained(model, device=device, dtype=dtype)
    print("iterations    BLEU    exact  mean iterations  seconds", flush=True)

    def show(row: dict[str, Any]) -> None:
        print(
            f"{row['iterations']:>10}  {row['bleu']:>6.2f}  {row['exact']:>7.2%}  "
            f"{row['mean_iterations']:>15.2f}  {row['seconds']:>7.1f}",
            flush=True,
        )

    content = evaluate_captioner(model, captioner, corpus, counts, batch_size, show)
    print(f"BLEU: {content['rows'][0]['bleu_signature']}")
    if output:
        write_results(output, "captions", model, CALLED.get(), content)
