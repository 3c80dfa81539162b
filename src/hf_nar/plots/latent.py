"""The latent space of one sentence in two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hf_nar.plots import style
from hf_nar.plots.labels import along, around, place_labels
from hf_nar.plots.sources import Section

TITLE = "Latents of one sentence, over the likelihood of its reference"
HIGHEST = 380.0  # the map, in points
BAR = 92.0  # room for the colour bar, in points
CLOSE = 12.0  # iterations that are nearer than this, in points, share a label
LEVELS = 12
# From white to a strong blue: dark text and vermilion arrows can be read on all of it.
LIKELIHOOD = LinearSegmentedColormap.from_list(
    "likelihood", [style.mix(style.BLUE, 0), style.mix(style.SKY, 0.5), style.mix(style.BLUE, 0.8)]
)


@dataclass(frozen=True)
class _Point:
    label: str
    x: float
    y: float
    log_likelihood: float


def latent_figure(latent_space: Section, title: str = TITLE) -> Figure:
    """Draw the path of the latents over the likelihood of the target.

    Args:
        latent_space: Section "latent_space".
        title: First line.

    Raises:
        ValueError: If something is missing in the section.
    """
    columns, lines = latent_space.numbers("grid_x"), latent_space.numbers("grid_y")
    for ticks in (columns, lines):
        if len(ticks) < 2 or ticks != sorted(set(ticks)):
            raise ValueError(
                f"The grid in {latent_space.file} must have at least two columns and rows, their "
                f"coordinates rising. Measure again with `hf-nar landscape`."
            )
    rows = latent_space.get("log_likelihood", list)
    grid = [latent_space.check_numbers("log_likelihood", row, len(columns)) for row in rows]
    latent_space.check_numbers("grid_y", lines, len(grid))
    explained = latent_space.get("explained", float)
    caption = [
        f"Source: {latent_space.get('source', str)}",
        f"Reference: {latent_space.get('target', str)}",
        f"The plane is that of the points' two principal directions and holds {explained:.0%} of "
        f"their spread. Numbers at the points: log-likelihood there, in nats.",
    ]
    ratio = (lines[-1] - lines[0]) / (columns[-1] - columns[0])
    width = min(style.WIDTH - style.LEFT - BAR, HIGHEST / ratio)
    figure, axes = style.new_figure(
        width * ratio + style.AXIS_TEXTS,
        title,
        "",
        caption,
        right=style.WIDTH - style.LEFT - width,
    )
    axes.grid(visible=False)
    axes.set_xlabel("first principal direction", color=style.GREY)
    axes.set_ylabel("second principal direction", color=style.GREY)
    levels = MaxNLocator(LEVELS).tick_values(min(map(min, grid)), max(map(max, grid)))
    filled = axes.contourf(columns, lines, grid, levels=levels, cmap=LIKELIHOOD)
    filled.set(edgecolor="white", linewidth=0.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    _add_bar(figure, axes, filled)
    points = [
        _Point(
            latent_space.get("label", str, row),
            latent_space.get("x", float, row),
            latent_space.get("y", float, row),
            latent_space.get("log_likelihood", float, row),
        )
        for row in latent_space.rows("points")
    ]
    _draw_points(axes, points)
    return figure


def _add_bar(figure: Figure, axes: Axes, filled: ContourSet) -> None:
    place = axes.get_position()
    width = 12 / style.WIDTH
    bar_axes = figure.add_axes((place.x1 + 14 / style.WIDTH, place.y0, width, place.height))
    bar = figure.colorbar(filled, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.set_label("log p(reference | latent) in nats", color=style.GREY)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:g}")))


def minus(number: str) -> str:
    """Return a number with a real minus sign."""
    return number.replace("-", "\u2212")


def _draw_points(axes: Axes, points: Sequence[_Point]) -> None:
    """Draw the path through the iterations, and an arrow from the prior to the posterior."""
    path, posterior = points[:-1], points[-1]
    to_points = style.POINTS_PER_INCH / axes.figure.dpi

    def place(point: _Point) -> tuple[float, float]:
        x, y = axes.transData.transform((point.x, point.y)) * to_points
        return float(x), float(y)

    _draw_arrow(axes, points[0], posterior, style.INK, (0, (4, 3)))
    for start, end in pairwise(path):
        if math.dist(place(start), place(end)) > CLOSE:
            _draw_arrow(axes, start, end, style.VERMILION, "solid")
    for point in points:
        colour = style.VERMILION if point.label.startswith("iteration") else style.INK
        marker = "D" if point is posterior else "o"
        axes.plot(
            point.x,
            point.y,
            marker=marker,
            color=colour,
            markersize=7,
            markeredgecolor="white",
            markeredgewidth=1.2,
            zorder=4,
        )
    labelled = _labelled(points, [place(point) for point in points])
    texts = [f"{label}  {minus(f'{point.log_likelihood:.1f}')}" for label, point in labelled]
    anchors = [place(point) for _, point in labelled]
    box = axes.get_window_extent()
    corners = place_labels(
        anchors,
        [(style.text_width(text), style.TEXT_SIZE * 1.2) for text in texts],
        [
            *(around(*place(point), 5.0) for point in points),
            *along([place(point) for point in path]),
            *along([place(points[0]), place(posterior)]),
        ],
        (box.x0 * to_points, box.y0 * to_points, box.x1 * to_points, box.y1 * to_points),
    )
    for text, (_, point), anchor, corner in zip(texts, labelled, anchors, corners, strict=True):
        axes.annotate(
            text,
            (point.x, point.y),
            xytext=(corner[0] - anchor[0], corner[1] - anchor[1] + 2),
            textcoords="offset points",
            path_effects=style.outline(),
            zorder=5,
        )


def _draw_arrow(axes: Axes, start: _Point, end: _Point, colour: str, line: object) -> None:
    axes.annotate(
        "",
        (end.x, end.y),
        xytext=(start.x, start.y),
        arrowprops={
            "arrowstyle": "-|>,head_length=0.5,head_width=0.22",
            "color": colour,
            "linewidth": 1.6,
            "linestyle": line,
            "shrinkA": 5,
            "shrinkB": 5,
            "mutation_scale": 12,
        },
        zorder=3,
    )


def _labelled(
    points: Sequence[_Point], places: Sequence[tuple[float, float]]
) -> list[tuple[str, _Point]]:
    """Return labels and their points; iterations close to each other share the last one's."""
    groups: list[list[int]] = []
    for i, point in enumerate(points):
        joins = (
            bool(groups)
            and point.label.startswith("iteration")
            and points[groups[-1][0]].label.startswith("iteration")
            and math.dist(places[groups[-1][0]], places[i]) <= CLOSE
        )
        if joins:
            groups[-1].append(i)
        else:
            groups.append([i])
    labelled = []
    for group in groups:
        last = points[group[-1]]
        label = last.label
        if len(group) > 1:
            first_number = points[group[0]].label.removeprefix("iteration ")
            label = f"iterations {first_number}\u2013{label.removeprefix('iteration ')}"
        labelled.append((label, last))
    return labelled
