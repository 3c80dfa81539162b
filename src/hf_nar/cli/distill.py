"""`hf-nar distill`: a training corpus of a teacher's translations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hf_nar.cli.options import (
    Dataset,
    DatasetName,
    DatasetRevision,
    Device,
    Dtype,
    JsonFile,
    Prefix,
    SourceField,
    SourceLanguage,
    Split,
    TargetLanguage,
)
from hf_nar.cli.quiet import quiet_libraries

SOME_LINES_FAILED = 1
LINES_NAMED = 10


def distill(
    teacher: Annotated[
        str, typer.Option(help="Folder or Hub id of a model such as Marian, T5 or NLLB.")
    ],
    output: Annotated[Path, typer.Option(help="File to write, .jsonl or .parquet.")],
    data: Annotated[Path, typer.Option(help="Folder of the files below.")] = Path(),
    source_file: Annotated[
        Path | None, typer.Option(help="Text file, plain or .gz, one source sentence a line.")
    ] = None,
    target_file: Annotated[
        Path | None, typer.Option(help="The same for raw targets; needed only for --mix-raw.")
    ] = None,
    json_file: JsonFile = None,
    dataset: Dataset = None,
    name: DatasetName = None,
    split: Split = "train",
    revision: DatasetRevision = None,
    source_field: SourceField = None,
    target_field: Annotated[
        str | None, typer.Option(help="Field of the raw target; needed only for --mix-raw.")
    ] = None,
    beams: Annotated[int, typer.Option(help="Beams of the search.")] = 4,
    n_best: Annotated[int, typer.Option(help="Translations kept of each line.")] = 1,
    max_length: Annotated[
        int | None,
        typer.Option(
            help="Longest translation, in tokens. [default: the teacher's own limit, or else that "
            "of its sources]"
        ),
    ] = None,
    length_penalty: Annotated[
        float, typer.Option(help="Above 1 favours longer translations.")
    ] = 1.0,
    tokens_per_batch: Annotated[
        int,
        typer.Option(help="Batch size: lines times tokens of the longest times beams."),
    ] = 4096,
    device: Device = None,
    dtype: Dtype = None,
    prefix: Prefix = "",
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    teacher_revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a Hub teacher.")
    ] = None,
    mix_raw: Annotated[
        bool, typer.Option("--mix-raw", help="Keep the raw pair too, as a further row.")
    ] = False,
) -> None:
    """Let a teacher translate a corpus; run again after a stop, it goes on where it was.

    The corpus is given by --source-file, by --json-file, or by --dataset. A line without words has
    an empty translation; so has one that is too long for the teacher, with a message and exit code
    1. For several processes: accelerate launch training/distill.py, with the same options.
    """
    from datasets.utils import disable_progress_bars  # late: `hf-nar --help` must not load torch

    from hf_nar.data.distillation import distill as run
    from hf_nar.data.distillation_input import DistillationInput
    from hf_nar.data.distillation_settings import DistillationSettings

    quiet_libraries()
    disable_progress_bars()
    options: dict[str, Any] = {
        "source_file": data / source_file if source_file else None,
        "target_file": data / target_file if target_file else None,
        "json_file": data / json_file if json_file else None,
        "dataset": dataset,
        "name": name,
        "split": split,
        "revision": revision,
        "source_field": source_field,
        "target_field": target_field,
    }
    settings = DistillationSettings(
        beams=beams,
        n_best=n_best,
        max_length=max_length,
        length_penalty=length_penalty,
        tokens_per_batch=tokens_per_batch,
        dtype=dtype,
        prefix=prefix,
        source_language=source_language,
        target_language=target_language,
        mix_raw=mix_raw,
        teacher_revision=teacher_revision,
    )
    lines = DistillationInput(options)
    result = run(teacher, lines, output, settings, device, show_progress=sys.stderr.isatty())
    if result.is_main_process:
        what = "was there already, with" if result.was_there else "holds"
        typer.echo(f"{output} {what} the translations of {result.lines} lines.")
    if result.overlong:
        _report_overlong(result.overlong, result.limit)
        raise typer.Exit(SOME_LINES_FAILED)


def _report_overlong(overlong: list[int], limit: int) -> None:
    named = ", ".join(str(line) for line in overlong[:LINES_NAMED])
    more = f" and {len(overlong) - LINES_NAMED} more" if len(overlong) > LINES_NAMED else ""
    print(
        f"hf-nar: {len(overlong)} line(s) have more than {limit} tokens, all that the teacher "
        f"takes, and got an empty translation: those with `line` {named}{more}. Split them.",
        file=sys.stderr,
    )
