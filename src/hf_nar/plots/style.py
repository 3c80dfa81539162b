"""How all pictures look, and how they are written."""

from __future__ import annotations

import bisect
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patheffects import AbstractPathEffect, withStroke
from matplotlib.textpath import text_to_path

POINTS_PER_INCH = 72
WIDTH = 540.0  # in points: 720 pixels of a browser, the width of a README
EDGE = 12.0  # empty border, in points
LEFT = 44.0  # room for the numbers at the left of axes, in points
AXIS_TEXTS = 40.0  # room for numbers and name of the horizontal axis, in points
PNG_DPI = 192  # 1440 pixels, sharp on screens with two pixels for each point

TITLE_SIZE, TEXT_SIZE, SMALL_SIZE = 13.0, 10.0, 9.0  # in points
LONGEST_NAME = 190.0  # longer names are cut, in points
LINE_HEIGHT = 1.35  # of a text's size

INK, GREY, LIGHT = "#1a1a1a", "#595959", "#d9d9d9"
# Okabe and Ito's palette, which people with any colour vision can tell apart.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#cc79a7",
    "#56b4e9",
)

# Used for what DejaVu Sans, which matplotlib brings along, has no glyphs for.
MORE_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans",
    "Noto Emoji",
    "Hiragino Sans",
    "Apple Symbols",
    "Microsoft YaHei",
    "Segoe UI Emoji",
)
STYLE: dict[str, Any] = {
    "font.size": TEXT_SIZE,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign is a dollar sign
    "text.usetex": False,
    "text.hinting": "none",  # the same widths in both kinds of file
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "xtick.labelsize": TEXT_SIZE,
    "ytick.labelsize": TEXT_SIZE,
    "ytick.major.size": 0.0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "path",  # looks the same wherever it is opened
    "svg.hashsalt": "hf-nar",  # same input, same bytes
    "figure.facecolor": "white",  # also where GitHub is dark
    "savefig.facecolor": "white",
}
# Keeps lines away from a text; much smaller in a file than `outline`.
BEHIND_TEXT: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
_PATH = re.compile(r' d="[^"]*"')
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_MISSING = re.compile(r"Glyph (\d+) .*missing from font", re.DOTALL)


@contextmanager
def picture_style() -> Iterator[set[str]]:
    """Draw in our style, whatever the user's own settings of matplotlib are.

    Yields:
        A set, empty until the end: then the characters that no installed font has.
    """
    missing: set[str] = set()
    installed = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["DejaVu Sans", *(name for name in MORE_FONTS if name in installed)]
    with matplotlib.rc_context(), warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph ")
        matplotlib.rcdefaults()
        settings: Any = {**STYLE, "font.family": fonts}
        matplotlib.rcParams.update(settings)
        yield missing
    for warning in caught:
        if match := _MISSING.match(str(warning.message)):
            missing.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )


def text_width(text: str, size: float = TEXT_SIZE, weight: str = "normal") -> float:
    """Return the width of a text in points."""
    font = FontProperties(size=size, weight=weight)
    width: float = text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]
    return width


def wrap(text: str, width: float, size: float = TEXT_SIZE) -> list[str]:
    """Break a text into lines that fit into `width` points; cut words that do not."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word, width, size))
    return [line for line in lines if line]


def shorten(text: str, width: float, size: float = TEXT_SIZE) -> str:
    """Cut a text so that it fits into `width` points; an ellipsis says so."""
    if text_width(text, size) <= width:
        return text
    fitting = bisect.bisect_right(
        range(1, len(text)), width, key=lambda length: text_width(text[:length] + "…", size)
    )
    return text[:fitting] + "…"


def short_name(name: str) -> str:
    """Cut a name that would leave no room for the picture."""
    return shorten(name, LONGEST_NAME)


def outline() -> list[AbstractPathEffect]:
    """Return the effect that keeps a text readable where it stands on lines."""
    return [withStroke(linewidth=2.5, foreground="white")]


def mix(colour: str, share: float) -> tuple[float, float, float]:
    """Return a colour mixed with white; share 1 is the colour itself, 0 is white."""
    red, green, blue = (1 + share * (part - 1) for part in to_rgb(colour))
    return red, green, blue


def shades(colour: str, count: int) -> list[tuple[float, float, float]]:
    """Return `count` shades of a colour, from strong to light."""
    return [mix(colour, 1 - 0.5 * number / max(count - 1, 1)) for number in range(count)]


def new_figure(
    height: float, title: str, subtitle: str, caption: Sequence[str], right: float = EDGE
) -> tuple[Figure, Axes]:
    """Return a figure as wide as a README, and its axes between the texts.

    Args:
        height: Of the axes with the numbers below them, in points.
        title: First line.
        subtitle: Under it, what the vertical axis shows; may be empty.
        caption: Paragraphs under the axes, small.
        right: Room at the right of the axes, in points.
    """
    room = WIDTH - 2 * EDGE
    title_lines = wrap(title, room * 0.94, TITLE_SIZE)  # bold is wider
    small = [line for text in caption for line in wrap(text, room, SMALL_SIZE)]
    top = EDGE + len(title_lines) * TITLE_SIZE * LINE_HEIGHT + bool(subtitle) * 18 + 6
    bottom = EDGE + len(small) * SMALL_SIZE * LINE_HEIGHT
    total = top + height + bottom
    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, total / POINTS_PER_INCH))
    place = EDGE
    for number, line in enumerate([*title_lines, subtitle]):
        size = TEXT_SIZE if number == len(title_lines) else TITLE_SIZE
        figure.text(
            EDGE / WIDTH,
            1 - place / total,
            line,
            size=size,
            color=GREY if size == TEXT_SIZE else INK,
            weight="normal" if size == TEXT_SIZE else "bold",
            verticalalignment="top",
        )
        place += size * LINE_HEIGHT + 2 * (number == len(title_lines) - 1)
    for number, line in enumerate(reversed(small)):
        y = (EDGE + number * SMALL_SIZE * LINE_HEIGHT) / total
        figure.text(EDGE / WIDTH, y, line, size=SMALL_SIZE, color=GREY)
    axes = figure.add_axes(
        (
            LEFT / WIDTH,
            (bottom + AXIS_TEXTS) / total,
            (WIDTH - LEFT - right) / WIDTH,
            (height - AXIS_TEXTS) / total,
        )
    )
    axes.grid(axis="y", color=LIGHT, linewidth=0.6)
    return figure, axes


def bare_figure(height: float) -> tuple[Figure, Axes]:
    """Return a figure as wide as a README whose axes are points from the upper left corner."""
    figure = Figure(figsize=(WIDTH / POINTS_PER_INCH, height / POINTS_PER_INCH))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    return figure, axes


def save_picture(figure: Figure, files: Sequence[Path]) -> None:
    """Write a figure; the same figure gives the same bytes.

    Args:
        figure: What was drawn, inside `picture_style`.
        files: Each ends in .svg or .png.

    Raises:
        OSError: If a file cannot be written.
    """
    for file in files:
        if file.suffix == ".png":
            figure.savefig(file, format="png", dpi=PNG_DPI, metadata={"Software": None})
            continue
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        file.write_text(_PATH.sub(_shorter, text.getvalue()), encoding="utf-8")


def _shorter(path: re.Match[str]) -> str:
    """Round the numbers of a path in an SVG file to 0.01 points, which nobody sees."""
    line = path[0].replace("\n", "")
    return _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", line)
