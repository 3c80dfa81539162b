"""Where refiners would move the latents of one sentence, and where they do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hf_nar.evaluation.settings import REFINEMENT_NAMES
from hf_nar.evaluation.traces import WORD_START
from hf_nar.plots import latent_map, style
from hf_nar.plots.latent_map import MapPoint, Ticks, minus
from hf_nar.plots.sources import Section

TITLE = "Where the latents of one sentence would move"
HIGHEST = 380.0  # a map, in points
GAP = 26.0  # between maps, in points
NAME, BAR = 18.0, 46.0  # room above a map and, for its colour bar, below, in points
LONGEST_ARROW = 1.3  # in steps of the arrows' grid
DELTA = "delta_posterior"
COLOURS = {"energy": latent_map.GREENS}


@dataclass(frozen=True)
class _Map:
    """One map: a refiner's arrows over a background, with its path and that of delta."""

    refiner: str
    background: list[list[float]]
    steps_x: list[list[float]]
    steps_y: list[list[float]]


def latent_field_figure(latent_field: Section, title: str = TITLE) -> Figure:
    """Draw a map for each refiner: its steps as arrows, its path and that of delta inference.

    A score network's map is shaded by the log probability of the best draft at each place, an
    energy network's by the energy.

    Args:
        latent_field: Section "latent_field".
        title: First line.

    Raises:
        ValueError: If something is missing in the section.
    """
    ticks, arrows = Ticks.read(latent_field, "grid"), Ticks.read(latent_field, "arrow")
    maps = [_read_map(latent_field, row, ticks, arrows) for row in latent_field.rows("fields")]
    paths = {
        latent_field.get("refinement", str, row): latent_map.read_points(
            latent_field, latent_field.rows("points", row), "log_probability"
        )
        for row in latent_field.rows("paths")
    }
    factors = [_factor(found, arrows) for found in maps]
    ratio = (ticks.y[-1] - ticks.y[0]) / (ticks.x[-1] - ticks.x[0])
    room = style.WIDTH - style.LEFT - style.EDGE - GAP * (len(maps) - 1)
    width = min(room / len(maps), HIGHEST / ratio)
    height = width * ratio + NAME + BAR + style.AXIS_TEXTS
    caption = _caption(latent_field, [found.refiner for found in maps], factors)
    figure, axes = style.new_figure(height, title, "", caption)
    for number, (found, factor) in enumerate(zip(maps, factors, strict=True)):
        place = axes.get_position()
        left = place.x0 + number * (width + GAP) / style.WIDTH
        total = figure.get_figheight() * style.POINTS_PER_INCH
        part = figure.add_axes(
            (left, place.y0 + BAR / total, width / style.WIDTH, width * ratio / total)
        )
        filled = latent_map.draw_map(
            part, ticks, found.background, COLOURS.get(found.refiner, latent_map.BLUES)
        )
        _name_axes(part, found.refiner, latent_field, is_first=number == 0)
        _add_bar(figure, part, filled, found.refiner)
        _draw_arrows(part, found, arrows, factor)
        _draw_paths(part, paths, found.refiner, latent_field)
    axes.remove()
    return figure


def _read_map(section: Section, row: Mapping[str, Any], ticks: Ticks, arrows: Ticks) -> _Map:
    has_energy = row.get("energy") is not None
    background = (
        ticks.read_table(section, "energy", row)
        if has_energy
        else ticks.read_table(section, "log_probability")
    )
    steps = (arrows.read_table(section, key, row) for key in ("steps_x", "steps_y"))
    return _Map(section.get("refiner", str, row), background, *steps)


def _factor(found: _Map, arrows: Ticks) -> float:
    """Return how much shorter or longer than the steps the arrows are drawn."""
    longest = float(np.hypot(found.steps_x, found.steps_y).max())
    cell = min(arrows.x[1] - arrows.x[0], arrows.y[1] - arrows.y[0])
    return LONGEST_ARROW * cell / longest if longest else 1.0


def _name_axes(axes: Axes, refiner: str, section: Section, is_first: bool) -> None:
    is_exact = section.get("is_exact", bool)
    texts = [
        f"{count} number of the latent" if is_exact else f"{count} principal direction"
        for count in ("first", "second")
    ]
    axes.set_xlabel(texts[0], color=style.GREY)
    axes.set_title(f"{refiner} network", loc="left", size=style.TEXT_SIZE, pad=6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    if is_first:
        axes.set_ylabel(texts[1], color=style.GREY)
    else:
        axes.set_yticklabels([])


def _add_bar(figure: Figure, axes: Axes, filled: ContourSet, refiner: str) -> None:
    place = axes.get_position()
    total = figure.get_figheight() * style.POINTS_PER_INCH
    bottom = place.y0 - (style.AXIS_TEXTS + 10) / total
    bar_axes = figure.add_axes((place.x0, bottom, place.width, 8 / total))
    bar = figure.colorbar(filled, cax=bar_axes, orientation="horizontal")
    bar.outline.set_visible(False)
    name = (
        "energy, the higher the better"
        if refiner == "energy"
        else "log probability of the best draft's words"
    )
    bar.set_label(name, color=style.GREY)
    bar.ax.xaxis.set_major_locator(MaxNLocator(5))
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: minus(f"{value:g}")))


def _draw_arrows(axes: Axes, found: _Map, arrows: Ticks, factor: float) -> None:
    axes.quiver(
        arrows.x,
        arrows.y,
        found.steps_x,
        found.steps_y,
        angles="xy",
        scale_units="xy",
        scale=1 / factor,
        color=style.INK,
        width=1.1 / style.POINTS_PER_INCH,
        units="inches",
        headwidth=4.5,
        headlength=5.5,
        headaxislength=5.0,
        zorder=2,
    )


def _draw_paths(
    axes: Axes, paths: Mapping[str, Sequence[MapPoint]], refiner: str, section: Section
) -> None:
    drawn = {name: paths[name] for name in (DELTA, refiner) if name in paths}
    if refiner not in drawn:
        raise ValueError(
            f'"paths" in section "{section.name}" of {section.file} must hold that of the '
            f"{refiner} network. Measure again."
        )
    labelled = []
    for name, points in drawn.items():
        colour, marker = (style.VERMILION, "o") if name == DELTA else (style.INK, "s")
        latent_map.draw_path(axes, points, colour)
        for point in points[1:]:
            latent_map.draw_point(axes, point, colour, marker)
        labelled.append((REFINEMENT_NAMES.get(name, name), points[-1]))
    start = next(iter(drawn.values()))[0]
    latent_map.draw_point(axes, start, style.INK, "D")
    labelled.insert(0, (start.label, start))
    texts = [(f"{label}  {minus(f'{point.value:.2f}')}", point) for label, point in labelled]
    latent_map.write_labels(axes, texts, list(drawn.values()), is_crowded=True)


def _caption(section: Section, refiners: Sequence[str], factors: Sequence[float]) -> list[str]:
    where = section.get("latent_axis", str)
    plane = (
        ""
        if section.get("is_exact", bool)
        else f" The plane is that of the paths' two principal directions and holds "
        f"{section.get('explained', float):.0%} of their spread."
    )
    if section.content.get("position") is None:
        shown = f"Shown are the latents of all {where} positions together."
    else:
        shown = (
            f"Shown is the latent of {where} position {section.get('position', int)}; for arrows "
            f"and shades all others stay at the prior mean, where the paths start."
        )
    scales = " and ".join(
        f"{factor:.2g} of the {name} network's"
        for name, factor in zip(refiners, factors, strict=True)
    )
    drafts = [f"{name}: {text}" for name, text in _drafts(section).items()]
    return [
        f"Source: {section.get('source', str)}",
        *drafts,
        f"{shown}{plane} Arrows have {scales} steps' length, seen in the plane. Numbers at the "
        f"points: mean log probability of the words of the best draft there.",
    ]


def _drafts(section: Section) -> dict[str, str]:
    """Return the draft at the prior mean, and the last one of each path, as texts."""
    found: dict[str, str] = {}
    for row in section.rows("paths"):
        points = section.rows("points", row)
        name = section.get("refinement", str, row)
        found.setdefault("Prior mean", _text(section, points[0]))
        found[f"{REFINEMENT_NAMES.get(name, name).capitalize()}, {points[-1]['label']}"] = _text(
            section, points[-1]
        )
    return found


def _text(section: Section, point: Mapping[str, Any]) -> str:
    tokens = [str(token) for token in section.get("draft", list, point)[:-1]]
    return "".join(tokens).replace(WORD_START, " ").strip()
