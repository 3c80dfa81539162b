"""`hf-nar plot`: pictures from results files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_nar.cli.latent_field import measure_field

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")


class Kind(str, Enum):
    """What can be drawn."""

    LATENCY = "latency"
    ITERATIONS = "iterations"
    ADAPTIVE = "adaptive"
    PARETO = "pareto"
    DRAFTS = "drafts"
    LATENT = "latent"
    LATENT_FIELD = "latent-field"


# What is measured, not drawn.
MEASURING = ("iterations", "resolution", "position", "device")
LISTED = ("label", "metric")  # options that can be given several times
# Which kinds read an option; for the others it would change nothing.
READERS = {
    "batch_size": (Kind.LATENCY, Kind.PARETO),
    "scope": (Kind.LATENCY, Kind.PARETO),
    "logarithmic": (Kind.LATENCY,),
    "label": (Kind.ITERATIONS,),
    "metric": (Kind.ITERATIONS,),
    "sentence": (Kind.DRAFTS,),
    **dict.fromkeys(MEASURING, (Kind.LATENT_FIELD,)),
}


def plot(
    kind: Annotated[Kind, typer.Argument(help="What to draw.")],
    results: Annotated[
        list[str],
        typer.Argument(help="Results files; for latent-field also a model's folder and a text."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Picture; without .svg or .png both are made. [default: KIND, beside]"),
    ] = None,
    title: Annotated[str | None, typer.Option(help="First line of the picture.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="latency, pareto: sentences at once. [default: 1]")
    ] = None,
    scope: Annotated[
        str | None,
        typer.Option(help="latency, pareto: model or text. [default: latency model, pareto text]"),
    ] = None,
    logarithmic: Annotated[
        bool | None, typer.Option("--logarithmic", help="latency: a logarithmic axis.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="iterations: name of each file's model, in order. [default: folder]"),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="iterations: bleu, chrf, comet, log_likelihood, elbo or marginal, each in a "
            "diagram of its own. [default: bleu]"
        ),
    ] = None,
    sentence: Annotated[
        int | None, typer.Option(help="drafts: which sentence, from 1. [default: 1]")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(help="latent-field: refinement iterations. [default: 4]")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="latent-field: points along each axis. [default: 41]")
    ] = None,
    position: Annotated[
        int | None,
        typer.Option(help="latent-field: whose latent, from 1. [default: see below]"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="latent-field: such as cpu or cuda.")] = None,
) -> None:
    """Draw measurements from results files.

    latency: milliseconds against target length, from `hf-nar benchmark`. iterations: BLEU or other
    metrics against refinement iterations, a line for each model and strategy, from `hf-nar
    evaluate`. adaptive: BLEU against decoder passes, fixed or as many as a sentence needs, from
    `hf-nar evaluate`. pareto: BLEU against speed, from `hf-nar benchmark` with --target-file.
    drafts: the drafts of one sentence, from `hf-nar evaluate`. latent: the latent space of one
    sentence, from `hf-nar landscape`. latent-field: where score and energy network of a MODEL would
    move the latents of a TEXT. What that measures is written beside the picture, into a results
    file that can be drawn again. All positions are shown together, or, where a latent is two
    numbers, the position that a delta posterior moves most.
    """
    options = {
        "batch_size": batch_size,
        "scope": scope,
        "logarithmic": logarithmic,
        "label": label or None,
        "metric": metric or None,
        "sentence": sentence,
        "iterations": iterations,
        "resolution": resolution,
        "position": position,
        "device": device,
    }
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if kind not in READERS[name]:
            option = name.replace("_", "-")
            kinds = " and ".join(reader.value for reader in READERS[name])
            raise ValueError(f"`--{option}` is for {kinds} only; leave it out for {kind.value}.")
    is_measured = kind is Kind.LATENT_FIELD and len(results) == 2
    folder = Path() if is_measured else Path(results[0]).parent
    files = _output_files(output or folder / kind.value)
    _check_matplotlib()
    sources = [Path(name) for name in results]
    if is_measured:
        sources = [files[0].with_suffix(".json")]
        measure_field(results[0], results[1], sources[0], **_taken(given, MEASURING))
    elif useless := [name for name in MEASURING if name in given]:
        raise ValueError(
            f"`--{useless[0]}` is for measuring, that is, for MODEL TEXT; leave it out where a "
            f"results file is drawn again."
        )
    given = {f"{name}s" if name in LISTED else name: value for name, value in given.items()}
    from hf_nar.plots.sources import shown
    from hf_nar.plots.style import picture_style, save_picture  # late: needs matplotlib

    if title is not None:
        given["title"] = shown(title)
    with picture_style() as missing:
        figure = _draw(kind, sources, given)
        save_picture(figure, files)
    if missing:
        print(
            f"No installed font has {' '.join(sorted(missing))}; a box stands for each.",
            file=sys.stderr,
        )
    for file in [*files, *(sources if is_measured else [])]:
        print(file)


def _taken(options: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Take those of some names out of options."""
    return {name: options.pop(name) for name in names if name in options}


def _output_files(output: Path) -> list[Path]:
    if output.suffix in SUFFIXES:
        return [output]
    if output.suffix:
        raise ValueError(
            f"`--output` must end in .svg or .png, or have no ending to make both; got {output}."
        )
    return [output.with_suffix(suffix) for suffix in SUFFIXES]


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401  only asks whether it is there
    except ModuleNotFoundError as error:
        raise ValueError(
            'Pictures need matplotlib, which is not installed. Run: pip install "hf-nar[plot]"'
        ) from error


def _draw(kind: Kind, results: list[Path], keywords: dict[str, Any]) -> Figure:
    """Read what a kind needs, and draw it."""
    from hf_nar.plots.adaptive import adaptive_figure
    from hf_nar.plots.drafts import drafts_figure
    from hf_nar.plots.latency import latency_figure
    from hf_nar.plots.latent import latent_figure
    from hf_nar.plots.latent_field import latent_field_figure
    from hf_nar.plots.quality import iterations_figure
    from hf_nar.plots.sources import read_section, read_sections
    from hf_nar.plots.tradeoff import pareto_figure

    if kind is Kind.LATENCY:
        return latency_figure(read_section(results, "benchmark", "benchmark"), **keywords)
    if kind is Kind.ITERATIONS:
        sections = read_sections(results, "quality", "evaluate")
        return iterations_figure(sections, **keywords)
    if kind is Kind.ADAPTIVE:
        return adaptive_figure(read_section(results, "quality", "evaluate"), **keywords)
    if kind is Kind.DRAFTS:
        return drafts_figure(read_section(results, "quality", "evaluate"), **keywords)
    if kind is Kind.LATENT:
        return latent_figure(read_section(results, "latent_space", "landscape"), **keywords)
    if kind is Kind.LATENT_FIELD:
        section = read_section(results, "latent_field", "plot latent-field MODEL TEXT")
        return latent_field_figure(section, **keywords)
    figure, left_out = pareto_figure(read_section(results, "benchmark", "benchmark"), **keywords)
    for name in left_out:
        print(f"{name} is left out: no results file has its BLEU", file=sys.stderr)
    return figure
