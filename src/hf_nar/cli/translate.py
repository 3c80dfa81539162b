"""`hf-nar translate`: one line in, one line out."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TextIO

import typer

from hf_nar.cli.options import DEFAULT_SEED, Device, Dtype, RankWith
from hf_nar.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from hf_nar.inference import Translator

SOME_LINES_FAILED = 1


def translate(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a model.")],
    text: Annotated[
        list[str] | None,
        typer.Argument(help="What to translate. Without it, --input or standard input is read."),
    ] = None,
    input_file: Annotated[
        Path | None, typer.Option("--input", "-i", help="Read lines from this file.")
    ] = None,
    output_file: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Lines translated together.")] = 32,
    window: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Lines read ahead and sorted by length: more is faster, and later to answer. "
            "[default: the batch size]",
        ),
    ] = None,
    iterations: Annotated[
        int | None,
        typer.Option(min=0, help="Refinement iterations at most. [default: the model's own]"),
    ] = None,
    length_beam: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Lengths tried side by side; the best is kept. [default: the model's own]",
        ),
    ] = None,
    rank_with: RankWith = None,
    refinement: Annotated[
        str | None,
        typer.Option(
            help="How to refine: delta_posterior, score, energy or none for a model with latents, "
            "iterative for others. [default: the model's own]"
        ),
    ] = None,
    step_size: Annotated[
        float | None,
        typer.Option(help="score, energy: factor of each step. [default: the model's own]"),
    ] = None,
    step_tolerance: Annotated[
        float | None,
        typer.Option(
            help="score, energy: a line is finished when a step is shorter than this share of its "
            "first. [default: the model's own]"
        ),
    ] = None,
    line_search: Annotated[
        bool | None,
        typer.Option(
            help="score, energy: whether each step has the best of three sizes. [default: the "
            "model's own]"
        ),
    ] = None,
    likelihood_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="score, energy: steps up the likelihood of the draft, after all iterations. "
            "[default: the model's own]",
        ),
    ] = None,
    num_latents: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Latents that each length starts with: the prior mean, and samples around it; "
            "the best is kept. [default: the model's own]",
        ),
    ] = None,
    latent_temperature: Annotated[
        float | None,
        typer.Option(
            help="How far around, as a factor of the prior's standard deviation. [default: the "
            "model's own]"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0, help="Of these samples, which it and the line's number decide. [default: 12345]"
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    trace: Annotated[bool, typer.Option("--trace", help="Show every draft.")] = False,
) -> None:
    """Translate lines: order is kept, and an empty line stays empty.

    A line that is too long for the model gives an empty line and a message, and exit code 1.
    """
    _check_files(text, input_file, output_file)
    quiet_libraries()
    from hf_nar.inference import Translator

    translator = Translator.from_pretrained(
        model,
        device=device,
        dtype=dtype,
        teacher=rank_with,
        refinement=refinement,
        num_refinement_iterations=iterations,
        length_beam=length_beam,
        num_latents=num_latents,
        latent_temperature=latent_temperature,
        step_size=step_size,
        step_tolerance=step_tolerance,
        line_search=line_search,
        likelihood_steps=likelihood_steps,
        rank_by=None if rank_with is None else "teacher",
    )
    if rank_with is not None and not translator.ranks_by_teacher({}):
        raise ValueError(
            "`--rank-with` chooses among translations of several lengths or latents, and here is "
            "one. Give `--length-beam 5` or `--num-latents 5`, or leave it out."
        )
    samples = translator.knobs({}).num_latents > 1
    for option, value in (("--latent-temperature", latent_temperature), ("--seed", seed)):
        if value is not None and not samples:
            raise ValueError(
                f"`{option}` is for samples of latents, and here is none. Give `--num-latents 5`, "
                f"or leave it out."
            )
    noise = (DEFAULT_SEED if seed is None else seed) if samples else None
    with ExitStack() as stack:
        lines = _lines(text, input_file, stack)
        out = _output(output_file, stack)
        run = _Run(translator, out, batch_size, trace, noise)
        progress = stack.enter_context(_progress(out))
        while batch := list(islice(lines, window or batch_size)):
            run.translate(batch)
            progress.update(len(batch))
    if run.failed:
        raise typer.Exit(SOME_LINES_FAILED)


class _Run:
    """Translates batches of lines, prints them, and counts those that are too long.

    Args:
        translator: Translates.
        out: Where to print.
        batch_size: Lines translated together.
        with_trace: Whether to print every draft.
        seed: Of the noise of each line; None if there is no noise.
    """

    def __init__(
        self,
        translator: Translator,
        out: TextIO,
        batch_size: int,
        with_trace: bool,
        seed: int | None,
    ) -> None:
        self.translator = translator
        self.out = out
        self.batch_size = batch_size
        self.with_trace = with_trace
        self.seed = seed
        self.colour = out.isatty()
        self.done = 0
        self.failed = 0

    def translate(self, batch: list[str]) -> None:
        """Print the translations of some lines."""
        too_long = self.translator.too_long(batch)
        for i, count in too_long.items():
            print(
                f"hf-nar: line {self.done + i + 1} has {count} tokens, but the model takes at most "
                f"{self.translator.max_source_tokens}; an empty line stands for it. Split it.",
                file=sys.stderr,
            )
        lines = ["" if i in too_long else line for i, line in enumerate(batch)]
        self.out.writelines(f"{answer}\n" for answer in self._answers(lines))
        self.out.flush()
        self.done += len(batch)
        self.failed += len(too_long)

    def _answers(self, lines: list[str]) -> Iterable[str]:
        from hf_nar.evaluation.traces import format_trace
        from hf_nar.inference import line_generators

        noise = None if self.seed is None else line_generators(self.seed, len(lines), self.done)
        if not self.with_trace:
            return self.translator.translate(lines, self.batch_size, noise)
        return (
            format_trace(trace, self.colour) if trace.source.strip() else ""
            for trace in self.translator.trace(lines, self.batch_size, noise)
        )


def _check_files(text: list[str] | None, input_file: Path | None, output_file: Path | None) -> None:
    """Refuse a call that reads from two places, or writes over what it reads."""
    if text and input_file:
        raise ValueError("Give the text as arguments or as --input, not both.")
    if input_file and output_file and output_file.exists() and input_file.samefile(output_file):
        raise ValueError(
            f"--output must be another file than --input, got {output_file} twice: it would be "
            f"overwritten before it is read."
        )


def _lines(text: list[str] | None, input_file: Path | None, stack: ExitStack) -> Iterator[str]:
    """Return the lines to translate; a file is opened at once, and read as it is needed."""
    if text:
        return (line for argument in text for line in argument.split("\n"))
    if input_file:
        return _decode(stack.enter_context(input_file.open("rb")), str(input_file))
    if sys.stdin.isatty():
        print("hf-nar: reading lines from the keyboard; end with Ctrl-D", file=sys.stderr)
    return _decode(sys.stdin.buffer, "standard input")


def _decode(stream: BinaryIO, name: str) -> Iterator[str]:
    """Yield lines without their end, which is a line feed, perhaps after a carriage return."""
    for number, line in enumerate(stream, start=1):
        yield _text(line, f"line {number} of {name}").removesuffix("\n").removesuffix("\r")


def _text(line: bytes, place: str) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Lines must be UTF-8, but {place} is not: {error.reason} at byte {error.start}. "
            f"Convert it, for instance with iconv."
        ) from error


def _output(output_file: Path | None, stack: ExitStack) -> TextIO:
    if output_file:
        return stack.enter_context(output_file.open("w", encoding="utf-8", newline="\n"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # whatever the locale says
    return sys.stdout


def _progress(out: TextIO) -> Any:
    """Return a progress bar that shows only where it does not run into translations."""
    from tqdm import tqdm

    return tqdm(unit=" lines", file=sys.stderr, disable=not sys.stderr.isatty() or out.isatty())
