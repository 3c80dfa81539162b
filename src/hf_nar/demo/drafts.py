"""A translation, its drafts and its times as HTML, in which all text is escaped.

It travels to a Space with app.py, and needs nothing but Python.
"""

from __future__ import annotations

import difflib
import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

WORD_START = "\u2581"  # how SentencePiece writes the space before a word
LONE_SPACE = "\u2423"  # how a token that is only a space is shown


@dataclass(frozen=True)
class Translation:
    """A translation, and how it came about.

    Args:
        source: The text that was translated.
        tokens: Tokens of the translation, without the end token.
        probabilities: The model's probability of each.
        drafts: Tokens of the first draft, and of the draft after each iteration.
        milliseconds: Time of the network, without showing drafts.
        unknown: Characters of the source that the vocabulary lacks.
        teacher_text: The teacher's translation; None without a teacher.
        teacher_milliseconds: Time of the teacher's network.
    """

    source: str
    tokens: Sequence[str]
    probabilities: Sequence[float]
    drafts: Sequence[Sequence[str]]
    milliseconds: float
    unknown: Sequence[str] = ()
    teacher_text: str | None = None
    teacher_milliseconds: float = 0.0


class Html(str):
    """Text that is HTML already; only `element` makes it."""

    __slots__ = ()


def element(tag: str, *children: str, **attributes: str) -> Html:
    """Return an HTML element; what it holds is text and escaped, but for other elements.

    Args:
        tag: Its name.
        *children: What it holds.
        **attributes: Its attributes; `class_` stands for class.
    """
    pairs = [f' {name.rstrip("_")}="{html.escape(text)}"' for name, text in attributes.items()]
    inside = [child if isinstance(child, Html) else html.escape(child) for child in children]
    return Html(f"<{tag}{''.join(pairs)}>{''.join(inside)}</{tag}>")


def shaded(tokens: Sequence[str], probabilities: Sequence[float]) -> Iterator[str]:
    """Yield tokens, each with its probability as shade, and the spaces between words."""
    for (space, text), p in zip(_pieces(tokens), probabilities, strict=True):
        yield space
        if text:
            yield element("span", text, class_="token", style=f"--p:{p:.2f}", title=f"{p:.0%}")


def marked(previous: Sequence[str] | None, draft: Sequence[str]) -> Iterator[str]:
    """Yield a draft's text, with what the draft before did not have in `mark` elements."""
    is_new = [previous is not None] * len(draft)
    matcher = difflib.SequenceMatcher(a=previous or [], b=draft, autojunk=False)
    for match in matcher.get_matching_blocks():
        is_new[match.b : match.b + match.size] = [False] * match.size
    for new, run in groupby(zip(is_new, _pieces(draft), strict=True), key=itemgetter(0)):
        text = "".join(space + piece for _, (space, piece) in run)
        yield " " if text.startswith(" ") else ""
        yield element("mark", text.lstrip(" ")) if new else text.lstrip(" ")


def _pieces(tokens: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the space before each token, if there is one, and the token's text."""
    for number, token in enumerate(tokens):
        space = " " if number and token.startswith(WORD_START) else ""
        yield space, token.removeprefix(WORD_START)


def show(found: Translation, languages: Sequence[str] = ()) -> Html:
    """Return a translation, its drafts and its times as HTML.

    Args:
        found: What to show.
        languages: Codes of the source and target language, for those who have it read out.
    """
    source, text = ({"lang": code, "dir": "auto"} for code in languages or ("", ""))
    characters = " ".join(found.unknown)
    note = f"The model does not know {characters} and makes something up in its place."
    scale = [element("span", " ", class_="token", style=f"--p:{i / 4}") for i in range(5)]
    befores = [None, *found.drafts[:-1]]
    drafts = [
        element(
            "li",
            element("h3", f"Iteration {number}" if number else "First draft"),
            element("p", *marked(before, draft), **text),
            element("small", "no change") if draft == before else "",
            style=f"--row:{number}",
        )
        for number, (before, draft) in enumerate(zip(befores, found.drafts, strict=True))
    ]
    return element(
        "article",
        notice(note) if found.unknown else "",
        element("h2", "Source"),
        element("p", found.source, **source),
        element("h2", "Translation"),
        element("p", *shaded(found.tokens, found.probabilities), class_="translation", **text),
        element("p", "unsure ", *scale, " sure", class_="key"),
        _probabilities(found),
        element("h2", "Drafts"),
        element("ol", *drafts, class_="drafts"),
        element("p", element("mark", "Marked"), " words are new in their draft.", class_="key"),
        element("h2", "Time"),
        *_times(found, text),
        class_="answer",
    )


def notice(text: str) -> Html:
    """Return a sentence that stands where a translation cannot."""
    return element("p", text, class_="note")


def _probabilities(found: Translation) -> Html:
    """Return what the shades say, for those who cannot see or touch them."""
    texts = [text or LONE_SPACE for _, text in _pieces(found.tokens)]
    rows = zip(texts, found.probabilities, strict=True)
    items = [element("li", text, " ", element("small", f"{p:.0%}")) for text, p in rows]
    summary = element("summary", "Probability of each token")
    return element("details", summary, element("ul", *items, class_="tokens"))


def _times(found: Translation, text: dict[str, str]) -> Iterator[Html]:
    """Yield how long it took, beside the teacher, and what the teacher says."""
    rows = [("this model", found.milliseconds)]
    if found.teacher_text is not None:
        rows.append(("teacher", found.teacher_milliseconds))
    longest = max(milliseconds for _, milliseconds in rows)
    for name, milliseconds in rows:
        bar = element("i", style=f"--share:{milliseconds / longest:.3f}")
        number = element("b", f"{milliseconds:.1f} ms")
        yield element("p", element("span", name), bar, number, class_="time")
    if found.teacher_text is not None:
        yield element("h2", "The teacher's translation")
        yield element("p", found.teacher_text, class_="teacher", **text)
