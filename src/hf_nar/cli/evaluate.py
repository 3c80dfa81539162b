"""`hf-nar evaluate`: translate a test set and score it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_nar.cli.quiet import quiet_libraries

HEADER = "iterations   BLEU   chrF  length ratio  exact length  repeats  mean iterations  seconds"


def evaluate(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a hf_nar model.")],
    source_file: Annotated[Path, typer.Option(help="Source text, one sentence a line, or .gz.")],
    target_file: Annotated[Path, typer.Option(help="References, one sentence a line, or .gz.")],
    iterations: Annotated[str, typer.Option(help="Refinement iterations.")] = "0,1,4",
    batch_size: Annotated[int, typer.Option(help="Sentences at once.")] = 32,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.")] = None,
    output: Annotated[Path | None, typer.Option(help="Results file to add to.")] = None,
    translations: Annotated[
        Path | None, typer.Option(help="Folder for the translations of each setting.")
    ] = None,
) -> None:
    """Translate a test set with several numbers of refinement iterations and score it."""
    from datasets.utils import disable_progress_bars  # late: `hf-nar --help` must not load torch

    from hf_nar.cli.numbers import parse_numbers
    from hf_nar.data.corpus import load_corpus
    from hf_nar.data.corpus_config import CorpusConfig
    from hf_nar.evaluation.quality import example_traces, measure_quality
    from hf_nar.evaluation.results import environment, write_results
    from hf_nar.inference import Translator

    quiet_libraries()
    disable_progress_bars()
    counts = parse_numbers(iterations, "--iterations")
    corpus = load_corpus(CorpusConfig(source_file=source_file, target_file=target_file))
    if corpus.empty_dropped:
        print(f"{corpus.empty_dropped} pairs with an empty side are left out", file=sys.stderr)
    translator = Translator.from_pretrained(model, device=device)
    sources = [pair["source"] for pair in corpus.pairs]
    references = [pair["target"] for pair in corpus.pairs]
    network: Any = translator.model
    default = network.resolve_knobs({}).num_refinement_iterations
    rows = []
    print(HEADER)
    for count in counts:
        row, traces = measure_quality(translator, sources, references, count, batch_size)
        rows.append(row)
        print(
            f"{row.iterations:10}  {row.bleu:5.2f}  {row.chrf:5.2f}  {row.length_ratio:12.3f}  "
            f"{row.exact_length_share:12.1%}  {row.repetition_share:7.2%}  "
            f"{row.mean_iterations:15.2f}  {row.seconds:7.1f}"
        )
        if translations:
            translations.mkdir(parents=True, exist_ok=True)
            file = translations / f"iterations-{count}.txt"
            text = "".join(f"{trace.translation}\n" for trace in traces)
            file.write_text(text, encoding="utf-8")
    print(rows[0].bleu_signature)
    if output:
        content = {
            "environment": environment(translator.model.device),
            "sentences": len(sources),
            "source_file": source_file.name,
            "target_file": target_file.name,
            "rows": [dataclasses.asdict(row) for row in rows],
            "dtype": str(translator.model.dtype).removeprefix("torch."),
            "default_iterations": default,
            "example": {
                "source": sources[0],
                "translation": translator.translate(sources[:1])[0],
            },
            "traces": [dataclasses.asdict(trace) for trace in example_traces(traces)],
        }
        write_results(output, "quality", model, sys.argv[1:], content)
