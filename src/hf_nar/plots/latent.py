"""The latent space of one sentence in two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hf_nar.plots import latent_map, style
from hf_nar.plots.latent_map import CLOSE, MapPoint, Ticks, minus, place_of
from hf_nar.plots.sources import Section

TITLE = "Latents of one sentence, over the likelihood of its reference"
HIGHEST = 380.0  # the map, in points
BAR = 92.0  # room for the colour bar, in points


def latent_figure(latent_space: Section, title: str = TITLE) -> Figure:
    """Draw the path of the latents over the likelihood of the target.

    Args:
        latent_space: Section "latent_space".
        title: First line.

    Raises:
        ValueError: If something is missing in the section.
    """
    ticks = Ticks.read(latent_space, "grid")
    table = ticks.read_table(latent_space, "log_likelihood")
    explained = latent_space.get("explained", float)
    caption = [
        f"Source: {latent_space.get('source', str)}",
        f"Reference: {latent_space.get('target', str)}",
        f"The plane is that of the points' two principal directions and holds {explained:.0%} of "
        f"their spread. Numbers at the points: log-likelihood there, in nats.",
    ]
    ratio = (ticks.y[-1] - ticks.y[0]) / (ticks.x[-1] - ticks.x[0])
    width = min(style.WIDTH - style.LEFT - BAR, HIGHEST / ratio)
    figure, axes = style.new_figure(
        width * ratio + style.AXIS_TEXTS,
        title,
        "",
        caption,
        right=style.WIDTH - style.LEFT - width,
    )
    axes.set_xlabel("first principal direction", color=style.GREY)
    axes.set_ylabel("second principal direction", color=style.GREY)
    filled = latent_map.draw_map(axes, ticks, table)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6, integer=True))
    _add_bar(figure, axes, filled)
    rows = latent_space.rows("points")
    _draw_points(axes, latent_map.read_points(latent_space, rows, "log_likelihood"))
    return figure


def _add_bar(figure: Figure, axes: Axes, filled: ContourSet) -> None:
    place = axes.get_position()
    width = 12 / style.WIDTH
    bar_axes = figure.add_axes((place.x1 + 14 / style.WIDTH, place.y0, width, place.height))
    bar = figure.colorbar(filled, cax=bar_axes)
    bar.outline.set_visible(False)
    bar.set_label("log p(reference | latent) in nats", color=style.GREY)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:g}")))


def _draw_points(axes: Axes, points: Sequence[MapPoint]) -> None:
    """Draw the path through the iterations, and an arrow from the prior to the posterior."""
    path, posterior = points[:-1], points[-1]
    way = [points[0], posterior]
    latent_map.draw_path(axes, way, style.INK, (0, (4, 3)))
    latent_map.draw_path(axes, path, style.VERMILION)
    for point in points:
        colour = style.VERMILION if point.label.startswith("iteration") else style.INK
        latent_map.draw_point(axes, point, colour, "D" if point is posterior else "o")
    labelled = _labelled(points, [place_of(axes, point) for point in points])
    texts = [f"{label}  {minus(f'{point.value:.1f}')}" for label, point in labelled]
    found = [(text, point) for text, (_, point) in zip(texts, labelled, strict=True)]
    latent_map.write_labels(axes, found, [path, way])


def _labelled(
    points: Sequence[MapPoint], places: Sequence[tuple[float, float]]
) -> list[tuple[str, MapPoint]]:
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
