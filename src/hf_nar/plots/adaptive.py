"""Quality against decoder passes: the same number for every sentence, or as many as it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from hf_nar.plots import style
from hf_nar.plots.quality import describe_test_set, knobs_of, refines
from hf_nar.plots.sources import Section

HEIGHT = 300.0  # in points
TITLE = "Adaptive against fixed decoding"
LABEL_GAP = style.TEXT_SIZE * 1.6
LEADER = 40.0  # from the last point to the names, in points
FIXED_COLOUR, ADAPTIVE_COLOUR = style.BLUE, style.VERMILION
ADAPTIVE_KNOBS = {"num_refinement_iterations", "stop_early", "jaccard_threshold", "patience"}


@dataclass(frozen=True)
class PassPoint:
    """One setting in the picture.

    Args:
        passes: Decoder passes, mean over sentences; the first draft is one.
        bleu: BLEU.
        most: Passes at most.
        threshold: Jaccard distance below which a sentence stops; 0 only where its draft repeats,
            None where it never stops.
        patience: Repeats without a break that stop a sentence; None: the model's own.
    """

    passes: float
    bleu: float
    most: int
    threshold: float | None
    patience: int | None = None


def adaptive_figure(quality: Section, title: str = TITLE) -> Figure:
    """Draw BLEU against decoder passes: a curve of fixed numbers, points of adaptive settings.

    Args:
        quality: Section "quality" of a model that refines.
        title: First line.

    Raises:
        ValueError: If there are not two fixed numbers of passes and an adaptive setting.
    """
    points = pass_points(quality)
    fixed = sorted((p.passes, p.bleu) for p in points if p.threshold is None)
    adaptive = [point for point in points if point.threshold is not None]
    if len(fixed) < 2 or not adaptive:
        raise ValueError(
            f"A results file must have two fixed numbers of iterations and an adaptive setting for "
            f"this picture, but {quality.file} has {len(fixed)} and {len(adaptive)}. Measure with "
            f"`hf-nar evaluate --setting num_refinement_iterations=3,stop_early=false` and others."
        )
    figure, axes = style.new_figure(
        HEIGHT, title, "BLEU", [describe_test_set(quality), _explain(adaptive)], right=60.0
    )
    axes.plot(*zip(*fixed, strict=True), color=FIXED_COLOUR, marker="o", clip_on=False)
    for point in adaptive:
        axes.plot(
            [point.passes],
            [point.bleu],
            color=ADAPTIVE_COLOUR,
            marker="D",
            markersize=8,
            markeredgecolor="white",
            linestyle="none",
        )
    _set_axes(axes, fixed, adaptive)
    axes.annotate(
        "fixed",
        fixed[-1],
        xytext=(10, 0),
        textcoords="offset points",
        color=FIXED_COLOUR,
        verticalalignment="center",
        annotation_clip=False,
    )
    _label_adaptive(axes, adaptive)
    return figure


def pass_points(quality: Section) -> list[PassPoint]:
    """Return the settings that differ in nothing but how many passes there are.

    Raises:
        ValueError: If the model does not refine.
    """
    if not refines(quality):
        raise ValueError(
            f"Passes are counted of a non-autoregressive model, and {quality.file} is of another "
            f"one. Give the results file of a model that refines."
        )
    points: dict[tuple[int, float | None, int | None], PassPoint] = {}
    for row in quality.rows():
        knobs = knobs_of(quality, row)
        if not set(knobs) <= ADAPTIVE_KNOBS:
            continue
        most = 1 + quality.get("iterations", int, row)
        passes = 1 + quality.get("mean_iterations", float, row)
        threshold, bleu = _threshold(quality, knobs, most), quality.get("bleu", float, row)
        patience = quality.get("patience", int, knobs) if "patience" in knobs else None
        point = PassPoint(passes, bleu, most, threshold, patience)
        points.setdefault((most, threshold, patience), point)
    return list(points.values())


def _threshold(quality: Section, knobs: Mapping[str, Any], most: int) -> float | None:
    if most == 1 or knobs.get("stop_early") is False:
        return None
    if "jaccard_threshold" not in knobs:
        return 0.0
    return float(quality.get("jaccard_threshold", float, knobs))


def _name(point: PassPoint, adaptive: list[PassPoint]) -> str:
    rule = f"Jaccard {point.threshold:g}" if point.threshold else "repeated draft"
    if point.patience:
        rule += f", patience {point.patience}"
    has_one_limit = len({other.most for other in adaptive}) == 1
    return rule if has_one_limit else f"{rule}, at most {point.most}"


def _explain(adaptive: list[PassPoint]) -> str:
    limits = sorted({point.most for point in adaptive})
    most = f"at most {limits[0]}, and " if len(limits) == 1 else ""
    near = ", or is near enough to the draft before by Jaccard distance"
    near = near if any(point.threshold for point in adaptive) else ""
    waits = " Patience: so many times in a row." if any(p.patience for p in adaptive) else ""
    return (
        f"Fixed: every sentence gets the same number of passes. Adaptive: {most}a sentence is "
        f"finished when its draft repeats{near}.{waits}"
    )


def _set_axes(axes: Axes, fixed: list[tuple[float, float]], adaptive: list[PassPoint]) -> None:
    axes.set_xlabel("decoder passes for each sentence, mean", color=style.GREY)
    axes.xaxis.set_major_locator(FixedLocator([passes for passes, _ in fixed]))
    passes = [x for x, _ in fixed] + [point.passes for point in adaptive]
    room = max(passes) - min(passes)
    axes.set_xlim(min(passes) - 0.05 * room, max(passes) + 0.02 * room)
    values = [bleu for _, bleu in fixed] + [point.bleu for point in adaptive]
    margin = max(0.12 * (max(values) - min(values)), 0.5)
    axes.set_ylim(min(values) - margin, max(values) + margin)


def _label_adaptive(axes: Axes, adaptive: list[PassPoint]) -> None:
    """Write the names in a column below and right of the points, where no curve is.

    Points of adaptive settings crowd, so lines lead to their names.
    """
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    ranked = sorted(adaptive, key=lambda point: -point.passes)
    places = [axes.transData.transform((p.passes, p.bleu)) * to_points for p in ranked]
    names = [_name(point, adaptive) for point in ranked]
    box = axes.get_window_extent()
    floor = box.y0 * to_points + len(names) * LABEL_GAP
    top = max(min(y for _, y in places) - LABEL_GAP, floor)
    width = max(map(style.text_width, names))
    left = min(max(x for x, _ in places) + LEADER, box.x1 * to_points - width)
    for number, (point, name, (x, y)) in enumerate(zip(ranked, names, places, strict=True)):
        axes.annotate(
            name,
            (point.passes, point.bleu),
            xytext=(left - x, top - number * LABEL_GAP - y),
            textcoords="offset points",
            color=ADAPTIVE_COLOUR,
            verticalalignment="center",
            bbox=style.BEHIND_TEXT,
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": ADAPTIVE_COLOUR,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 4,
            },
        )
