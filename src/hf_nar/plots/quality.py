"""Quality against refinement iterations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from hf_nar.plots import style
from hf_nar.plots.labels import along, around, place_labels, spread
from hf_nar.plots.sources import Section, shown

HEIGHT = 300.0  # in points
LABEL_WIDTH = 130.0  # longer names are wrapped, in points
TITLE = "Quality against refinement iterations"
_ITERATIONS, _STOP = "num_refinement_iterations", "stop_early"
MODEL_COLOURS = (style.BLUE, style.GREEN, style.PURPLE, style.INK)


def iterations_figure(
    qualities: Sequence[Section], title: str = TITLE, labels: Sequence[str] | None = None
) -> Figure:
    """Draw BLEU against iterations: a line for each model, a level for each teacher.

    Args:
        qualities: Sections "quality". An autoregressive model's becomes a horizontal line, at its
            default setting.
        title: First line.
        labels: One for each; None takes the names of the files' folders.

    Raises:
        ValueError: If the files are of different test sets, none is of a model that refines, or
            there is not one label for each, all different.
    """
    check_same_test_set(qualities)
    lines, levels = _lines_and_levels(qualities, _names(qualities, labels))
    if not lines:
        raise ValueError(
            "A results file must have BLEU by the number of refinement iterations, but none that "
            "was given has. Add one of a non-autoregressive model."
        )
    colours = dict(zip(lines, MODEL_COLOURS * len(lines), strict=False))
    names = [*lines, *levels]
    wrapped = {name: style.wrap(name, LABEL_WIDTH) or [""] for name in names}
    widths = [style.text_width(line) for lines_ in wrapped.values() for line in lines_]
    figure, axes = style.new_figure(
        HEIGHT,
        title,
        "BLEU",
        [describe_test_set(qualities[0])],
        right=max(widths) + style.EDGE + 16,
    )
    for name, points in lines.items():
        axes.plot(*zip(*points, strict=True), color=colours[name], marker="o", clip_on=False)
    for level in levels.values():
        axes.axhline(level, color=style.VERMILION, linewidth=1.5, linestyle=(0, (5, 3)))
    counts = sorted({count for points in lines.values() for count, _ in points})
    axes.set_xlabel("refinement iterations, at most", color=style.GREY)
    axes.xaxis.set_major_locator(FixedLocator(counts))
    room = max(counts[-1] - counts[0], 1)
    axes.set_xlim(counts[0] - 0.05 * room, counts[-1] + 0.04 * room)
    values = [bleu for points in lines.values() for _, bleu in points] + [*levels.values()]
    margin = max(0.12 * (max(values) - min(values)), 0.5)
    axes.set_ylim(min(values) - margin, max(values) + margin)
    _write_values(axes, [*lines.values()])
    ends = {name: points[-1][1] for name, points in lines.items()} | levels
    _label_levels(axes, ends, wrapped, {name: colours.get(name, style.VERMILION) for name in ends})
    return figure


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
    qualities: Sequence[Section], names: Sequence[str]
) -> tuple[dict[str, list[tuple[int, float]]], dict[str, float]]:
    """Return iterations with BLEU of models that refine, and the BLEU of those that do not.

    Rows with other knobs than the number of iterations are no points of a line; but where more
    rows ran all of their iterations (`stop_early=false`), these are the points.
    """
    lines, levels = {}, {}
    for name, quality in zip(names, qualities, strict=True):
        rows = quality.rows()
        if refines(quality):
            plain = [row for row in rows if set(knobs_of(quality, row)) <= {_ITERATIONS}]
            fixed = [row for row in rows if knobs_of(quality, row).keys() == {_ITERATIONS, _STOP}]
            fixed = [row for row in fixed if knobs_of(quality, row)[_STOP] is False]
            lines[name] = sorted(
                (quality.get("iterations", int, row), quality.get("bleu", float, row))
                for row in (fixed if len(fixed) > len(plain) else plain)
            )
        else:
            row = next((row for row in rows if row.get("is_default")), rows[0])
            setting = quality.get("label", str, row)
            levels[f"{name}, {setting}"] = quality.get("bleu", float, row)
    return {name: points for name, points in lines.items() if points}, levels


def knobs_of(quality: Section, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the knobs of a row; none where an earlier version did not write them."""
    knobs: Mapping[str, Any] = quality.get("setting", dict, row) if "setting" in row else {}
    return knobs


def _write_values(axes: Axes, lines: Sequence[Sequence[tuple[float, float]]]) -> None:
    """Write the numbers on the line where there is only one, so that none is in another's way."""
    if len(lines) > 1:
        return
    texts = [f"{bleu:.1f}" for _, bleu in lines[0]]
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    places = [axes.transData.transform(point) * to_points for point in lines[0]]
    anchors = [(float(x), float(y)) for x, y in places]
    corners = place_labels(
        anchors,
        [(style.text_width(text), style.TEXT_SIZE) for text in texts],
        [*(around(*anchor, 4.0) for anchor in anchors), *along(anchors)],
        (0.0, 0.0, float(axes.get_window_extent().x1) * to_points, math.inf),  # names are beyond
    )
    for text, point, anchor, corner in zip(texts, lines[0], anchors, corners, strict=True):
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
