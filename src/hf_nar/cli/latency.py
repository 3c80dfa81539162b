"""`hf-nar latency`: time one translation at several lengths."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from hf_nar.cli.called import CALLED
from hf_nar.cli.quiet import quiet_libraries


def latency(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a hf_nar model.")],
    lengths: Annotated[str, typer.Option(help="Tokens of a sentence.")] = "10,25,50,100",
    iterations: Annotated[str, typer.Option(help="Refinement iterations.")] = "0,1,4",
    batch_size: Annotated[int, typer.Option(help="Sentences at once.")] = 1,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 30,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
    output: Annotated[
        Path | None,
        typer.Option(help="Results file; replaces what this command wrote there before."),
    ] = None,
) -> None:
    """Time one translation at several lengths, token ids in, token ids out."""
    import torch  # late: `hf-nar --help` must not load torch

    from hf_nar.cli.numbers import parse_numbers
    from hf_nar.evaluation.latency import measure_latency
    from hf_nar.evaluation.results import environment, write_results
    from hf_nar.inference import Translator

    quiet_libraries()
    if threads < 1:
        raise ValueError(f"`--threads` must be at least 1, got {threads}.")
    torch.set_num_threads(threads)
    translator = Translator.from_pretrained(model, device=device)
    rows = measure_latency(
        translator.model,
        parse_numbers(lengths, "--lengths"),
        parse_numbers(iterations, "--iterations"),
        batch_size=batch_size,
        repeats=repeats,
    )
    print("tokens  iterations  median ms  p95 ms   GFLOP")
    for row in rows:
        print(
            f"{row.length:6}  {row.iterations:10}  {row.median_ms:9.2f}  {row.p95_ms:6.2f}  "
            f"{row.gflop:6.3f}"
        )
    if output:
        content = {
            "environment": environment(translator.model.device),
            "dtype": str(translator.model.dtype).removeprefix("torch."),
            "batch_size": batch_size,
            "repeats": repeats,
            "rows": [dataclasses.asdict(row) for row in rows],
        }
        write_results(output, "latency", model, CALLED.get(), content)
