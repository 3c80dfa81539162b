"""The drafts of one sentence, with what changed marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from hf_nar.evaluation.traces import WORD_START, changed_tokens
from hf_nar.plots import style
from hf_nar.plots.sources import Section

TITLE = "One sentence, draft by draft"
LABELS = 86.0  # width of the column of labels, in points
LINE, ROW_GAP = 24.0, 9.0  # from one line of tokens to the next, and more between rows
BOX = 18.0  # height of a token's box
INSIDE = 3.5  # from a box's edge to its text
WORD_GAP, PIECE_GAP = 5.0, 1.5  # between words, and inside one
PLAIN_GAP = 3.2  # between words without a box
LONE_SPACE = "\u2423"  # how a token that is only a space is shown
CHANGED, PLAIN = style.mix(style.ORANGE, 0.55), style.mix(style.GREY, 0.10)
DARKEST = 0.6  # share of blue for probability 1, so that text stays readable on it


@dataclass(frozen=True)
class Token:
    """A token in its box.

    Args:
        text: What is shown.
        starts_word: Whether a space comes before it.
        fill: Colour of the box; None draws none.
        is_changed: Whether the draft before did not have it.
    """

    text: str
    starts_word: bool
    fill: Any = None
    is_changed: bool = False


@dataclass(frozen=True)
class _Row:
    label: str
    note: str  # under the label, small
    tokens: Sequence[Token]


def drafts_figure(quality: Section, title: str = TITLE, sentence: int = 1) -> Figure:
    """Draw source, drafts and translation as rows of tokens.

    Args:
        quality: Section "quality", with "traces".
        title: First line.
        sentence: Which trace, from 1.

    Raises:
        ValueError: If there is no such trace, or none at all.
    """
    if quality.content.get("traces") == []:
        raise ValueError(
            f"A results file must have drafts that changed for this picture, but {quality.file} "
            f"has none. Evaluate a non-autoregressive model with at least one iteration."
        )
    traces = quality.rows("traces")
    if not 1 <= sentence <= len(traces):
        raise ValueError(
            f"`sentence` must be in [1, {len(traces)}], the drafts in {quality.file}; got "
            f"{sentence}."
        )
    trace = traces[sentence - 1]
    drafts = _drafts(quality, trace)
    rows = [_Row("source", "", _words(quality.get("source", str, trace)))]
    for number, draft in enumerate(drafts):
        changed = changed_tokens(drafts[number - 1] if number else None, draft)
        tokens = [
            _token(token, CHANGED if is_new else PLAIN, is_new)
            for token, is_new in zip(draft, changed, strict=True)
        ]
        note = "no change" if number and draft == drafts[number - 1] else ""
        rows.append(_Row(f"iteration {number}" if number else "draft", note, tokens))
    shaded = _shaded(drafts[-1], quality.check_numbers("scores", trace.get("scores"), None))
    note = "repeats dropped" if 0 < len(shaded) < len(drafts[-1]) else ""
    words = shaded or _words(quality.get("translation", str, trace))
    rows.append(_Row("translation", note, words))
    return _draw(rows, title, has_shades=bool(shaded))


def _drafts(quality: Section, trace: Any) -> list[list[str]]:
    drafts: list[list[str]] = quality.get("drafts", list, trace)
    if not drafts or not all(
        isinstance(draft, list) and all(isinstance(token, str) for token in draft)
        for draft in drafts
    ):
        raise ValueError(
            f'"drafts" in section "quality" of {quality.file} must be lists of tokens. Measure '
            f"again."
        )
    return drafts


def _words(text: str) -> list[Token]:
    return [Token(word, starts_word=True) for word in text.split(" ")]


def _token(token: str, fill: Any, is_changed: bool = False) -> Token:
    text = token.removeprefix(WORD_START) or LONE_SPACE
    return Token(text, token.startswith(WORD_START), fill, is_changed)


def _shaded(draft: Sequence[str], scores: Sequence[float]) -> list[Token]:
    """Return the translation's tokens, darker where the model is surer.

    The translation is the last draft, or that without repeated tokens; the number of scores says
    which. An empty list if it is neither.
    """
    for tokens in (list(draft), [token for token, _ in groupby(draft)]):
        if len(tokens) == len(scores) - 1:  # the last score is the end token's
            return [
                _token(token, _shade(math.exp(min(score, 0.0))))
                for token, score in zip(tokens, scores[:-1], strict=True)
            ]
    return []


def _shade(probability: float) -> Any:
    return style.mix(style.BLUE, DARKEST * probability)


def _draw(rows: Sequence[_Row], title: str, has_shades: bool) -> Figure:
    right = style.WIDTH - style.EDGE
    laid_out = [(row, _lines(row.tokens, right - style.EDGE - LABELS)) for row in rows]
    titles = style.wrap(title, 0.94 * (right - style.EDGE), style.TITLE_SIZE)
    top = style.EDGE + len(titles) * style.TITLE_SIZE * style.LINE_HEIGHT + 8
    body = sum(len(lines) * LINE + ROW_GAP for _, lines in laid_out)
    height = top + body + LINE + style.EDGE
    figure, axes = style.bare_figure(height)
    for number, text in enumerate(titles):
        y = style.EDGE + number * style.TITLE_SIZE * style.LINE_HEIGHT
        axes.text(
            style.EDGE, y, text, size=style.TITLE_SIZE, weight="bold", verticalalignment="top"
        )
    y = top + LINE / 2
    for number, (row, lines) in enumerate(laid_out):
        _write(axes, style.EDGE, y, row.label, color=style.GREY)
        note_place = y + style.TEXT_SIZE * 1.3
        _write(axes, style.EDGE, note_place, row.note, size=style.SMALL_SIZE, color=style.GREY)
        for line in lines:
            for place, token in line:
                _draw_token(
                    axes, style.EDGE + LABELS + place, y, token, f"{number}-{place:.0f}-{y:.0f}"
                )
            y += LINE
        y += ROW_GAP
    _draw_key(axes, y, has_shades)
    return figure


def _lines(tokens: Sequence[Token], width: float) -> list[list[tuple[float, Token]]]:
    """Return the lines that tokens fill, each token with its distance from the left."""
    lines: list[list[tuple[float, Token]]] = [[]]
    end = 0.0
    for token in tokens:
        if style.text_width(token.text) + 2 * INSIDE > width:
            text = style.shorten(token.text, width - 2 * INSIDE)
            token = Token(text, token.starts_word, token.fill, token.is_changed)
        size = _width(token)
        place = end + _gap(token) if lines[-1] else 0.0
        if place + size > width:
            lines.append([])
            place = 0.0
        lines[-1].append((place, token))
        end = place + size
    return lines


def _gap(token: Token) -> float:
    if not token.starts_word:
        return PIECE_GAP
    return PLAIN_GAP if token.fill is None else WORD_GAP


def _width(token: Token) -> float:
    inside = 0.0 if token.fill is None else 2 * INSIDE
    return style.text_width(token.text) + inside


def _draw_token(axes: Axes, x: float, y: float, token: Token, place: str) -> None:
    if token.fill is not None:
        kind = "changed" if token.is_changed else "token"
        axes.add_patch(
            FancyBboxPatch(
                (x, y - BOX / 2),
                _width(token),
                BOX,
                boxstyle="round,pad=0,rounding_size=2.5",
                facecolor=token.fill,
                edgecolor=style.INK if token.is_changed else "none",
                linewidth=1.0,
                gid=f"{kind}-{place}",
            )
        )
    _write(axes, x + (0.0 if token.fill is None else INSIDE), y, token.text)


def _write(axes: Axes, x: float, y: float, text: str, **options: Any) -> None:
    # From the baseline, so that words with and without descenders stand on one line.
    axes.text(x, y + 0.36 * options.get("size", style.TEXT_SIZE), text, **options)


def _draw_key(axes: Axes, y: float, has_shades: bool) -> None:
    """Say what the colours mean."""
    x = style.EDGE + LABELS
    size, small = 11.0, {"size": style.SMALL_SIZE, "color": style.GREY}

    def swatch(fill: Any, edge: Any) -> None:
        axes.add_patch(
            FancyBboxPatch(
                (x, y - size / 2),
                size,
                size,
                linewidth=1.0,
                facecolor=fill,
                boxstyle="round,pad=0,rounding_size=2",
                edgecolor=edge,
            )
        )

    swatch(CHANGED, style.INK)
    text = "not in the draft before"
    _write(axes, x + size + 5, y, text, **small)
    x += size + 5 + style.text_width(text, style.SMALL_SIZE) + 22
    if has_shades:
        text = "probability 0"
        _write(axes, x, y, text, **small)
        x += style.text_width(text, style.SMALL_SIZE) + 5
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            swatch(_shade(share), style.LIGHT)
            x += size + 2
        _write(axes, x + 3, y, "1", **small)
