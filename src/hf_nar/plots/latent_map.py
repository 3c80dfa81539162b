"""What pictures of a latent space share: a map, paths on it, and their labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.contour import ContourSet
from matplotlib.ticker import MaxNLocator

from hf_nar.plots import style
from hf_nar.plots.labels import along, around, place_labels
from hf_nar.plots.sources import Section

CLOSE = 12.0  # points that are nearer than this, in points, have no arrow between them
LEVELS = 12


def map_colours(light: str, strong: str) -> LinearSegmentedColormap:
    """Return colours from white to strong, on all of which dark text can be read."""
    colours = [style.mix(strong, 0), style.mix(light, 0.5), style.mix(strong, 0.8)]
    return LinearSegmentedColormap.from_list("map", colours)


BLUES = map_colours(style.SKY, style.BLUE)
GREENS = map_colours(style.GREEN, style.GREEN)


@dataclass(frozen=True)
class MapPoint:
    """A point with its name.

    Args:
        label: Its name.
        x: Where it is.
        y: Where it is.
        value: Number beside the name.
    """

    label: str
    x: float
    y: float
    value: float


@dataclass(frozen=True)
class Ticks:
    """Where the columns and rows of a grid are.

    Args:
        x: Of the columns, rising.
        y: Of the rows, rising.
        y_name: What the rows are called in the results file.
    """

    x: list[float]
    y: list[float]
    y_name: str

    @classmethod
    def read(cls, section: Section, kind: str) -> Ticks:
        """Return the lists "<kind>_x" and "<kind>_y" of a section.

        Raises:
            ValueError: If they do not rise, or there are fewer than two.
        """
        columns, lines = (section.numbers(f"{kind}_{axis}") for axis in "xy")
        for ticks in (columns, lines):
            if len(ticks) < 2 or ticks != sorted(set(ticks)):
                raise ValueError(
                    f"The grid in {section.file} must have at least two columns and rows, their "
                    f"coordinates rising. Measure again."
                )
        return cls(columns, lines, f"{kind}_y")

    def read_table(
        self, section: Section, key: str, owner: Mapping[str, Any] | None = None
    ) -> list[list[float]]:
        """Return the numbers on the grid, row by row.

        Args:
            section: Where they are.
            key: Their name.
            owner: Where they stand in the section; None is the section itself.

        Raises:
            ValueError: If their number does not fit.
        """
        rows = section.get(key, list, owner)
        table = [section.check_numbers(key, row, len(self.x)) for row in rows]
        section.check_numbers(self.y_name, self.y, len(table))
        return table


def read_points(section: Section, rows: Sequence[Mapping[str, Any]], value: str) -> list[MapPoint]:
    """Return points that a section lists.

    Args:
        section: Where they are.
        rows: One for each.
        value: What the number beside them is called.

    Raises:
        ValueError: If something is missing.
    """
    return [
        MapPoint(
            section.get("label", str, row),
            section.get("x", float, row),
            section.get("y", float, row),
            section.get(value, float, row),
        )
        for row in rows
    ]


def draw_map(
    axes: Axes,
    ticks: Ticks,
    table: Sequence[Sequence[float]],
    colours: LinearSegmentedColormap = BLUES,
) -> ContourSet:
    """Fill axes with shades for the numbers on a grid."""
    levels = MaxNLocator(LEVELS).tick_values(min(map(min, table)), max(map(max, table)))
    filled = axes.contourf(ticks.x, ticks.y, table, levels=levels, cmap=colours)
    filled.set(edgecolor="white", linewidth=0.6)
    axes.grid(visible=False)
    return filled


def minus(number: str) -> str:
    """Return a number with a real minus sign."""
    return number.replace("-", "\u2212")


def place_of(axes: Axes, point: MapPoint) -> tuple[float, float]:
    """Return where a point is in the picture, in points."""
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    x, y = axes.transData.transform((point.x, point.y)) * to_points
    return float(x), float(y)


def draw_path(axes: Axes, points: Sequence[MapPoint], colour: str, line: object = "solid") -> None:
    """Draw an arrow from each point to the next, where they are not too close for one."""
    for start, end in pairwise(points):
        if math.dist(place_of(axes, start), place_of(axes, end)) > CLOSE:
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


def draw_point(axes: Axes, point: MapPoint, colour: str, marker: str = "o") -> None:
    """Draw a point, with a white border."""
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


def write_labels(
    axes: Axes,
    labelled: Sequence[tuple[str, MapPoint]],
    lines: Sequence[Sequence[MapPoint]],
    is_crowded: bool = False,
) -> None:
    """Write names beside points, over as little as possible.

    Args:
        axes: The map.
        labelled: Texts and their points.
        lines: All that is drawn, as points that are joined.
        is_crowded: Whether much is drawn behind them: then they stand on white, which is also much
            smaller in a file than an outline.
    """
    places = [[place_of(axes, point) for point in line] for line in lines]
    anchors = [place_of(axes, point) for _, point in labelled]
    box = axes.get_window_extent()
    to_points = style.POINTS_PER_INCH / axes.figure.dpi
    corners = place_labels(
        anchors,
        [(style.text_width(text), style.TEXT_SIZE * 1.2) for text, _ in labelled],
        [
            *(around(*place, 5.0) for place in dict.fromkeys(p for line in places for p in line)),
            *(box for line in places for box in along(line)),
        ],
        (box.x0 * to_points, box.y0 * to_points, box.x1 * to_points, box.y1 * to_points),
    )
    for (text, point), anchor, corner in zip(labelled, anchors, corners, strict=True):
        axes.annotate(
            text,
            (point.x, point.y),
            xytext=(corner[0] - anchor[0], corner[1] - anchor[1] + 2),
            textcoords="offset points",
            path_effects=[] if is_crowded else style.outline(),
            bbox={**style.BEHIND_TEXT, "alpha": 0.8} if is_crowded else None,
            zorder=5,
        )
