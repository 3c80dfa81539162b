"""Quality against speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hf_nar.plots import style
from hf_nar.plots.labels import along, around, place_labels
from hf_nar.plots.latency import set_log_ticks, systems_of
from hf_nar.plots.sources import Section

HEIGHT = 320.0  # in points
TITLE = "Quality against speed"


@dataclass(frozen=True)
class SpeedPoint:
    """One system in the picture of quality against speed.

    Args:
        name: Of the system.
        is_ours: Whether it is non-autoregressive.
        speed: Sentences a second.
        bleu: BLEU.
    """

    name: str
    is_ours: bool
    speed: float
    bleu: float


def pareto_figure(
    benchmark: Section,
    title: str = TITLE,
    batch_size: int = 1,
    scope: str = "text",
) -> tuple[Figure, list[str]]:
    """Draw BLEU against sentences a second, and join the points that no other beats in both.

    Args:
        benchmark: Section "benchmark", with times and BLEU of real text.
        title: First line.
        batch_size: Sentences at once.
        scope: What was timed: "model", token ids to token ids, or "text", text to text.

    Returns:
        The figure, and the names of the systems that are left out as they have no BLEU.

    Raises:
        ValueError: If nothing was timed on real text at that batch size, or no system has a BLEU.
    """
    points, left_out = speed_points(benchmark, batch_size, scope)
    sentences = "one sentence" if batch_size == 1 else f"{batch_size} sentences"
    timed = "text to text" if scope == "text" else "token ids to token ids"
    test_set = benchmark.get("source", str).removesuffix(".gz")
    caption = [
        f"sacreBLEU on {test_set}. Dashed line: systems that no other beats in both.",
        f"{benchmark.hardware()}, {sentences} at a time, {timed}.",
    ]
    figure, axes = style.new_figure(HEIGHT, title, "BLEU", caption, right=style.EDGE + 6)
    front = [(point.speed, point.bleu) for point in pareto_front(points)]
    axes.plot(*zip(*front, strict=True), color=style.GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    for point in points:
        axes.plot(
            [point.speed],
            [point.bleu],
            color=_family_colour(point),
            marker="o" if point.is_ours else "s",
            markersize=8,
            markeredgecolor="white",
            linestyle="none",
        )
    speeds, scores = [p.speed for p in points], [p.bleu for p in points]
    low, high = min(speeds) / 1.6, max(speeds) * 1.6
    margin = max(0.15 * (max(scores) - min(scores)), 0.5)
    axes.set(xscale="log", xlim=(low, high), ylim=(min(scores) - margin, max(scores) + margin))
    axes.set_xlabel("sentences per second", color=style.GREY)
    set_log_ticks(axes.xaxis, low, high)
    _label_points(axes, points, front)
    return figure, left_out


def _family_colour(point: SpeedPoint) -> str:
    return style.BLUE if point.is_ours else style.VERMILION


def _label_points(
    axes: Axes, points: Sequence[SpeedPoint], front: Sequence[tuple[float, float]]
) -> None:
    """Write each system's name beside its point."""
    to_points = style.POINTS_PER_INCH / axes.figure.dpi

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = axes.transData.transform((x, y)) * to_points
        return float(across), float(up)

    anchors = [place(point.speed, point.bleu) for point in points]
    sizes = [
        (style.text_width(style.short_name(point.name)), style.TEXT_SIZE * 1.1) for point in points
    ]
    obstacles = [around(*anchor, 5.0) for anchor in anchors] + along([place(*p) for p in front])
    box = axes.get_window_extent()
    frame = (box.x0 * to_points, box.y0 * to_points, box.x1 * to_points, box.y1 * to_points)
    corners = place_labels(anchors, sizes, obstacles, frame)
    for point, anchor, corner in zip(points, anchors, corners, strict=True):
        axes.annotate(
            style.short_name(point.name),
            (point.speed, point.bleu),
            xytext=(corner[0] - anchor[0], corner[1] - anchor[1] + 1.5),
            textcoords="offset points",
            color=_family_colour(point),
            bbox=style.BEHIND_TEXT,
        )


def speed_points(
    benchmark: Section, batch_size: int, scope: str
) -> tuple[list[SpeedPoint], list[str]]:
    """Return speed and BLEU of the systems of a benchmark.

    Returns:
        The points, and the names of the systems that are left out as they have no BLEU.

    Raises:
        ValueError: As `pareto_figure`.
    """
    real_text = [row for row in benchmark.rows() if row.get("length") is None]
    cells = sorted({(str(row.get("batch_size")), str(row.get("scope"))) for row in real_text})
    rows = [r for r in real_text if r.get("batch_size") == batch_size and r.get("scope") == scope]
    if not rows:
        there = "; ".join(f"batch size {size}, scope {other}" for size, other in cells) or "none"
        raise ValueError(
            f"{benchmark.file} must have times of real text (rows without a length) at batch size "
            f"{batch_size} and scope {scope!r}, but has: {there}."
        )
    names = [benchmark.get("system", str, row) for row in rows]
    points, left_out = [], []
    for row, (name, system) in zip(rows, systems_of(benchmark, names).items(), strict=True):
        if system.get("bleu") is None:
            left_out.append(name)
        else:
            is_ours = benchmark.get("is_ours", bool, system)
            speed = benchmark.get("sentences_per_second", float, row)
            bleu = benchmark.get("bleu", float, system)
            points.append(SpeedPoint(name, is_ours, speed, bleu))
    if not points:
        raise ValueError(
            f"A system must have a BLEU to be shown, but none of {', '.join(left_out)} has one in "
            f"{benchmark.file}. Measure again, with `--target-file` of `hf-nar benchmark`."
        )
    return points, left_out


def pareto_front(points: Sequence[SpeedPoint]) -> list[SpeedPoint]:
    """Return the points that no other beats in speed and BLEU, slowest first."""
    front: list[SpeedPoint] = []
    for point in sorted(points, key=lambda p: (-p.speed, -p.bleu)):
        if not front or point.bleu > front[-1].bleu:
            front.append(point)
    return front[::-1]
