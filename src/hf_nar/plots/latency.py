"""Latency against target length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from hf_nar.plots import style
from hf_nar.plots.labels import spread
from hf_nar.plots.sources import Section

HEIGHT = 300.0  # in points
LABEL_GAP = style.TEXT_SIZE * 1.3
LEADER = 14.0  # from a line's end to its label, in points
TITLE = "Latency against target length"


def latency_figure(
    benchmark: Section,
    title: str = TITLE,
    batch_size: int = 1,
    scope: str = "model",
    logarithmic: bool = False,
) -> Figure:
    """Draw one line for each system: ours in blues, autoregressive ones in reds.

    Args:
        benchmark: Section "benchmark".
        title: First line.
        batch_size: Sentences at once.
        scope: What was timed: "model", token ids to token ids, or "text", text to text.
        logarithmic: Whether milliseconds are on a logarithmic axis.

    Raises:
        ValueError: If nothing was measured at that batch size and scope, or at one length only.
    """
    lines = _lines(benchmark, batch_size, scope)
    ours = {
        name: benchmark.get("is_ours", bool, system)
        for name, system in systems_of(benchmark, list(lines)).items()
    }
    room = max(style.text_width(style.short_name(name)) for name in lines) + LEADER + style.EDGE + 6
    sentences = "one sentence" if batch_size == 1 else f"{batch_size} sentences at once"
    what = "token ids to token ids" if scope == "model" else "text to text"
    figure, axes = style.new_figure(
        HEIGHT,
        title,
        f"milliseconds for {sentences}, median",
        [f"{benchmark.hardware()}. Timed from {what}."],
        right=room,
    )
    colours = _colours(lines, ours)
    for name, points in lines.items():
        axes.plot(
            *zip(*points, strict=True),
            color=colours[name],
            marker="o" if ours[name] else "s",
            markersize=5,
            clip_on=False,
        )
    lengths = sorted({length for points in lines.values() for length, _ in points})
    _set_axes(axes, lengths, [ms for points in lines.values() for _, ms in points], logarithmic)
    _label_ends(axes, lines, colours, ours)
    return figure


def systems_of(benchmark: Section, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """Return what a benchmark says of systems.

    Raises:
        ValueError: If it says nothing of one.
    """
    systems = {benchmark.get("name", str, row): row for row in benchmark.rows("systems")}
    for name in names:
        if name not in systems:
            raise ValueError(
                f'"systems" in section "benchmark" of {benchmark.file} must have an entry for '
                f"each row's system, but has none for {name!r}. Measure again."
            )
    return {name: systems[name] for name in names}


def _lines(benchmark: Section, batch_size: int, scope: str) -> dict[str, list[tuple[float, float]]]:
    """Return length and milliseconds of each system, in the order of the lengths."""
    rows = [row for row in benchmark.rows() if row.get("length") is not None]
    sizes = sorted({benchmark.get("batch_size", int, row) for row in rows})
    scopes = sorted({benchmark.get("scope", str, row) for row in rows})
    chosen = [r for r in rows if r["batch_size"] == batch_size and r["scope"] == scope]
    if not chosen:
        raise ValueError(
            f"{benchmark.file} must have times by length at batch size {batch_size} and scope "
            f"{scope!r}, but has batch sizes {sizes} and scopes {scopes}. Choose among these."
        )
    lines: dict[str, list[tuple[float, float]]] = {}
    for row in chosen:
        point = (benchmark.get("length", int, row), benchmark.get("p50_ms", float, row))
        lines.setdefault(benchmark.get("system", str, row), []).append(point)
    lengths = {length for points in lines.values() for length, _ in points}
    if len(lengths) < 2:
        raise ValueError(
            f"A line needs at least two lengths, but {benchmark.file} has only {lengths.pop()}. "
            f"Measure more with `hf-nar benchmark`."
        )
    return {name: sorted(points) for name, points in lines.items()}


def _colours(names: Mapping[str, Any], ours: Mapping[str, bool]) -> dict[str, Any]:
    """Give each system a shade of its family's colour."""
    colours: dict[str, Any] = {}
    for is_ours, colour in ((True, style.BLUE), (False, style.VERMILION)):
        family = [name for name in names if ours[name] == is_ours]
        colours.update(zip(family, style.shades(colour, len(family)), strict=True))
    return colours


def _set_axes(axes: Axes, lengths: list[float], times: list[float], logarithmic: bool) -> None:
    axes.set_xlabel("target length in tokens", color=style.GREY)
    span = lengths[-1] - lengths[0]
    axes.set_xlim(lengths[0] - 0.03 * span, lengths[-1])
    shown = [lengths[-1]]
    for length in reversed(lengths):  # numbers that would touch are left out
        if shown[-1] - length > 0.06 * span:
            shown.append(length)
    axes.xaxis.set_major_locator(FixedLocator(shown))
    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(0.8 * min(times), 1.25 * max(times))
        set_log_ticks(axes.yaxis, 0.8 * min(times), 1.25 * max(times))
    else:
        axes.set_ylim(0, 1.05 * max(times))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def set_log_ticks(axis: Any, low: float, high: float) -> None:
    """Put ticks at 1, 2 and 5 times the powers of ten, with plain numbers."""
    ticks = [
        factor * 10.0**power
        for power in range(-6, 10)
        for factor in (1, 2, 5)
        if low <= factor * 10.0**power <= high
    ]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _label_ends(
    axes: Axes,
    lines: Mapping[str, list[tuple[float, float]]],
    colours: Mapping[str, Any],
    ours: Mapping[str, bool],
) -> None:
    """Write each system's name at the end of its line."""
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    ends = [axes.transData.transform(points[-1]) * to_points for points in lines.values()]
    floor = axes.get_window_extent().y0 * to_points + style.TEXT_SIZE / 2
    heights = spread([end[1] for end in ends], LABEL_GAP, floor)
    for (name, points), end, height in zip(lines.items(), ends, heights, strict=True):
        axes.annotate(
            style.short_name(name),
            points[-1],
            xytext=(LEADER, height - end[1]),
            textcoords="offset points",
            color=style.BLUE if ours[name] else style.VERMILION,
            verticalalignment="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": colours[name],
                "linewidth": 1.0,
                "shrinkA": 1,
                "shrinkB": 4,
            },
        )
