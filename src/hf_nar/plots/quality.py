"""Quality against refinement iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator

from hf_nar.evaluation.settings import NO_REFINEMENT, REFINEMENT_NAMES
from hf_nar.plots import style
from hf_nar.plots.labels import along, around, place_labels, spread
from hf_nar.plots.sources import Section, shown

HEIGHT, LOW_HEIGHT = 300.0, 190.0  # of a diagram, alone and among several, in points
BETWEEN = 26.0  # from one diagram to the next, with the name of its numbers, in points
LABEL_WIDTH = 130.0  # longer names are wrapped, in points
TITLE = "Quality against refinement iterations"
_ITERATIONS, _STOP, _REFINEMENT = "num_refinement_iterations", "stop_early", "refinement"
MODEL_COLOURS = (style.BLUE, style.GREEN, style.PURPLE, style.INK)


@dataclass(frozen=True)
class Metric:
    """What can be drawn against iterations.

    Args:
        name: Above its diagram.
        decimals: Of numbers on a line.
        margin: Smallest room above and below, in its own units.
    """

    name: str
    decimals: int
    margin: float


METRICS = {
    "bleu": Metric("BLEU", 1, 0.5),
    "chrf": Metric("chrF2", 1, 0.5),
    "comet": Metric("COMET", 3, 0.005),
    "log_likelihood": Metric("log probability of a word by the model itself, nats", 2, 0.01),
    "elbo": Metric("ELBO of a translation, nats", 1, 0.1),
    "marginal": Metric("log p(translation | source), estimated, nats", 1, 0.1),
}


def iterations_figure(
    qualities: Sequence[Section],
    title: str = TITLE,
    labels: Sequence[str] | None = None,
    metrics: Sequence[str] = ("bleu",),
) -> Figure:
    """Draw quality against iterations: lines for models and strategies, a level for each teacher.

    Args:
        qualities: Sections "quality". An autoregressive model's becomes a horizontal line, at its
            default setting, where it has the metric.
        title: First line.
        labels: One for each; None takes the names of the files' folders.
        metrics: Keys of `METRICS`; each has a diagram of its own.

    Raises:
        ValueError: If the files are of different test sets, none is of a model that refines or has
            a metric, or there is not one label for each, all different.
    """
    check_same_test_set(qualities)
    named = dict(zip(_names(qualities, labels), qualities, strict=True))
    diagrams = {metric: _lines_and_levels(named, metric) for metric in _known(metrics)}
    for metric, (lines, _) in diagrams.items():
        if not lines:
            raise ValueError(
                f"A results file must have {METRICS[metric].name} by the number of refinement "
                f"iterations, but none that was given has. Add one of a non-autoregressive model"
                f"{'' if metric == 'bleu' else f', measured with {metric}'}."
            )
    names = list(dict.fromkeys(name for lines, _ in diagrams.values() for name in lines))
    colours = dict(zip(names, MODEL_COLOURS * len(names), strict=False))
    every = [*names, *(name for _, levels in diagrams.values() for name in levels)]
    wrapped = {name: style.wrap(name, LABEL_WIDTH) or [""] for name in every}
    widths = [style.text_width(line) for lines_ in wrapped.values() for line in lines_]
    panels = _new_panels(
        title, list(diagrams), describe_test_set(qualities[0]), max(widths) + style.EDGE + 16
    )
    counts = sorted(
        {
            count
            for lines, _ in diagrams.values()
            for points in lines.values()
            for count, _ in points
        }
    )
    for axes, (metric, (lines, levels)) in zip(panels, diagrams.items(), strict=True):
        _draw_lines(axes, METRICS[metric], lines, levels, colours)
        _set_counts(axes, counts, is_last=axes is panels[-1])
        ends = {name: points[-1][1] for name, points in lines.items()} | levels
        chosen = {name: colours.get(name, style.VERMILION) for name in ends}
        _label_levels(axes, ends, wrapped, chosen)
    figure: Any = panels[0].figure
    return cast("Figure", figure)


def _known(metrics: Sequence[str]) -> list[str]:
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics:
        raise ValueError(
            f"A metric must be one of {', '.join(METRICS)}; got {', '.join(unknown) or 'none'}."
        )
    return list(dict.fromkeys(metrics))


def _new_panels(title: str, metrics: Sequence[str], test_set: str, right: float) -> list[Axes]:
    """Return the axes of diagrams, one above the other."""
    if len(metrics) == 1:
        _, axes = style.new_figure(HEIGHT, title, METRICS[metrics[0]].name, [test_set], right=right)
        return [axes]
    height = len(metrics) * LOW_HEIGHT + style.AXIS_TEXTS
    figure, whole = style.new_figure(height, title, "", [test_set], right=right)
    place = whole.get_position()
    whole.remove()
    share = place.height / len(metrics)
    room = BETWEEN / (figure.get_figheight() * style.POINTS_PER_INCH)
    panels = []
    for number, metric in enumerate(metrics):
        bottom = place.y1 - (number + 1) * share
        axes = figure.add_axes((place.x0, bottom, place.width, share - room))
        axes.grid(axis="y", color=style.LIGHT, linewidth=0.6)
        axes.set_title(
            METRICS[metric].name, loc="left", size=style.TEXT_SIZE, color=style.GREY, pad=5
        )
        panels.append(axes)
    return panels


def _draw_lines(
    axes: Axes,
    metric: Metric,
    lines: Mapping[str, Sequence[tuple[int, float]]],
    levels: Mapping[str, float],
    colours: Mapping[str, str],
) -> None:
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), color=colours[name], marker="o", clip_on=False)
    for level in levels.values():
        axes.axhline(level, color=style.VERMILION, linewidth=1.5, linestyle=(0, (5, 3)))
    values = [value for points in lines.values() for _, value in points] + [*levels.values()]
    margin = max(0.12 * (max(values) - min(values)), metric.margin)
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.yaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], min_n_ticks=2))
    if len(lines) == 1:  # otherwise numbers would be in each other's way
        _write_values(axes, next(iter(lines.values())), metric.decimals)


def _set_counts(axes: Axes, counts: Sequence[int], is_last: bool) -> None:
    """Number the horizontal axis, and name it where it is the lowest."""
    axes.xaxis.set_major_locator(FixedLocator(counts))
    room = max(counts[-1] - counts[0], 1)
    axes.set_xlim(counts[0] - 0.05 * room, counts[-1] + 0.04 * room)
    if is_last:
        axes.set_xlabel("refinement iterations, at most", color=style.GREY)
    else:
        axes.set_xticklabels([])


def _names(qualities: Sequence[Section], labels: Sequence[str] | None) -> list[str]:
    if labels is None:
        names = [shown(quality.file.resolve().parent.name) for quality in qualities]
    else:
        names = [shown(label) for label in labels]
    if len(set(names)) != len(qualities) or len(names) != len(qualities):
        raise ValueError(
            f"There must be one label for each of the {len(qualities)} results files, all "
            f"different; got {', '.join(names)}. Give `--label` for each."
        )
    return names


def _lines_and_levels(
    named: Mapping[str, Section], metric: str
) -> tuple[dict[str, list[tuple[int, float]]], dict[str, float]]:
    """Return iterations with a metric of models that refine, and the metric of those that do not.

    Each strategy that a setting names has a line of its own.
    """
    lines, levels = {}, {}
    is_alone = sum(refines(quality) for quality in named.values()) == 1
    for name, quality in named.items():
        rows = [row for row in quality.rows() if row.get(metric) is not None]
        if refines(quality):
            for strategy, chosen in _rows_of_strategies(quality, rows).items():
                shown = name if strategy is None else REFINEMENT_NAMES.get(strategy, strategy)
                if strategy is not None and not is_alone:
                    shown = f"{name}, {shown}"
                lines[shown] = sorted(
                    (quality.get("iterations", int, row), quality.get(metric, float, row))
                    for row in chosen
                )
        elif rows:
            row = next((row for row in rows if row.get("is_default")), rows[0])
            setting = quality.get("label", str, row)
            levels[f"{name}, {setting}"] = quality.get(metric, float, row)
    return lines, levels


def _rows_of_strategies(
    quality: Section, rows: Sequence[Mapping[str, Any]]
) -> dict[str | None, list[Mapping[str, Any]]]:
    """Return the rows that are points of a line, by strategy; None is that of the model itself.

    Rows with other knobs than the strategy and the number of iterations are no points of a line;
    but where more rows ran all of their iterations (`stop_early=false`), these are the points. The
    prior mean is where every strategy starts.
    """
    known = {_ITERATIONS, _STOP, _REFINEMENT}
    found: dict[str | None, list[Mapping[str, Any]]] = {}
    for row in rows:
        knobs = knobs_of(quality, row)
        if set(knobs) <= known and knobs.get(_STOP, False) is False:
            found.setdefault(knobs.get(_REFINEMENT), []).append(row)
    start = found.pop(NO_REFINEMENT, [])[:1]
    chosen: dict[str | None, list[Mapping[str, Any]]] = {}
    for strategy, group in found.items():
        plain = [row for row in group if _STOP not in knobs_of(quality, row)]
        fixed = [row for row in group if _STOP in knobs_of(quality, row)]
        points = fixed if len(fixed) > len(plain) else plain
        if strategy is not None and not any(row.get("iterations") == 0 for row in points):
            points = [*start, *points]
        chosen[strategy] = points
    return chosen


def knobs_of(quality: Section, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the knobs of a row; none where an earlier version did not write them."""
    knobs: Mapping[str, Any] = quality.get("setting", dict, row) if "setting" in row else {}
    return knobs


def _write_values(axes: Axes, line: Sequence[tuple[float, float]], decimals: int) -> None:
    """Write the numbers on a line."""
    texts = [f"{value:.{decimals}f}".replace("-", "\u2212") for _, value in line]
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    places = [axes.transData.transform(point) * to_points for point in line]
    anchors = [(float(x), float(y)) for x, y in places]
    corners = place_labels(
        anchors,
        [(style.text_width(text), style.TEXT_SIZE) for text in texts],
        [*(around(*anchor, 4.0) for anchor in anchors), *along(anchors)],
        (0.0, 0.0, float(axes.get_window_extent().x1) * to_points, math.inf),  # names are beyond
    )
    for text, point, anchor, corner in zip(texts, line, anchors, corners, strict=True):
        axes.annotate(
            text,
            point,
            xytext=(corner[0] - anchor[0], corner[1] - anchor[1] + 1),
            textcoords="offset points",
            color=style.BLUE,
            bbox=style.BEHIND_TEXT,
        )


def _label_levels(
    axes: Axes,
    ends: Mapping[str, float],
    wrapped: Mapping[str, Sequence[str]],
    colours: Mapping[str, Any],
) -> None:
    """Write names at the right of the axes, at the height of their lines' ends."""
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    heights = [axes.transData.transform((0, value))[1] * to_points for value in ends.values()]
    lines = max(len(wrapped[name]) for name in ends)
    gap = style.TEXT_SIZE * 1.25 * lines + 3
    for (name, value), height, place in zip(
        ends.items(), heights, spread(heights, gap), strict=True
    ):
        axes.annotate(
            "\n".join(wrapped[name]),
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(8, place - height),
            textcoords="offset points",
            color=colours[name],
            verticalalignment="center",
            annotation_clip=False,
        )


def refines(quality: Section) -> bool:
    """Say whether a section "quality" is of a model that refines.

    Others are of an autoregressive model, or of translations from a file.
    """
    return quality.content.get("is_autoregressive", False) is False


def describe_test_set(quality: Section) -> str:
    """Return one line about what was translated."""
    name = quality.get("target_file", str).removesuffix(".gz")
    return f"sacreBLEU against {name}, {quality.get('sentences', int):,} sentences."


def check_same_test_set(qualities: Sequence[Section]) -> None:
    """Refuse to compare the BLEU of different test sets.

    Raises:
        ValueError: If the sections are of more than one.
    """
    sets = {describe_test_set(quality): quality.file for quality in qualities}
    if len(sets) > 1:
        listed = "; ".join(f"{file}: {name}" for name, file in sets.items())
        raise ValueError(
            f"All results files must be of one test set, or their BLEU cannot be compared; got "
            f"{listed}"
        )
