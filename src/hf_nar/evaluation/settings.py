"""Decoding settings: how a model is told to translate."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

DEFAULT_ITERATIONS, DEFAULT_BEAMS = (0, 1, 4), (1, 4)
_ITERATIONS, _STOP_EARLY = "num_refinement_iterations", "stop_early"
_BEAM, _RANK_BY, _THRESHOLD = "length_beam", "rank_by", "jaccard_threshold"
_PATIENCE = "patience"
_WORDED = {_ITERATIONS, _STOP_EARLY, _BEAM, _RANK_BY, _THRESHOLD, _PATIENCE}


@dataclass(frozen=True)
class Setting:
    """Knobs of `generate` that are measured together.

    Args:
        label: Name in tables: "1 iteration", "beam 4", "greedy", or the knobs themselves.
        knobs: Values by name.
        file_stem: Name of a file for its translations.
    """

    label: str
    knobs: Mapping[str, Any]
    file_stem: str


def choose_settings(
    is_autoregressive: bool,
    iterations: Sequence[int] | None,
    beams: Sequence[int] | None,
    texts: Sequence[str],
) -> list[Setting]:
    """Return the settings that the options ask for, or the usual ones if they ask for none.

    Args:
        is_autoregressive: Of which kind the model is.
        iterations: Numbers of refinement iterations, for a non-autoregressive model.
        beams: Numbers of beams, for an autoregressive one; 1 is greedy.
        texts: Any knobs, such as "num_beams=2,length_penalty=0.6".

    Raises:
        ValueError: If an option is for the other kind of model, or a text has another form.
    """
    if is_autoregressive and iterations is not None:
        raise ValueError(
            "`--iterations` is for non-autoregressive models, and this one is autoregressive. Use "
            "`--beams`."
        )
    if not is_autoregressive and beams is not None:
        raise ValueError(
            "`--beams` is for autoregressive models, and this one has no beams. Use `--iterations`."
        )
    if iterations is None and beams is None and not texts:
        iterations, beams = DEFAULT_ITERATIONS, DEFAULT_BEAMS
    if is_autoregressive:
        settings = [_beams(count) for count in beams or ()]
    else:
        settings = [_iterations(count) for count in iterations or ()]
    return settings + [parse_setting(text) for text in dict.fromkeys(texts)]


def parse_setting(text: str) -> Setting:
    """Read a setting such as "num_refinement_iterations=2,collapse_repeats=false".

    Args:
        text: Names and values; a value is YAML, and may hold commas as in [1,2].

    Raises:
        ValueError: If it is of another form.
    """
    wanted = (
        f"`--setting` must be names and values such as num_refinement_iterations=2,stop_early="
        f"false; got {text!r}."
    )
    knobs: dict[str, Any] = {}
    for part in re.split(r",(?=\s*\w+\s*=)", text):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not name.isidentifier() or not equals or not value:
            raise ValueError(wanted)
        if name in knobs:
            raise ValueError(f"{wanted} It has `{name}` twice.")
        try:
            knobs[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"{wanted} The value of `{name}` is no YAML.") from error
    label = ",".join(part.strip() for part in text.split(","))
    return Setting(label, knobs, re.sub(r"[^\w.=,+-]", "-", label))


def readable_label(knobs: Mapping[str, Any]) -> str | None:
    """Return what knobs of a non-autoregressive model mean, in words.

    Such as "3 iterations, fixed", "at most 9 iterations, Jaccard 0.1" or "at most 9 iterations, 5
    lengths ranked by teacher".

    Returns:
        None where the knobs do not say how many iterations there are, or have no words.
    """
    count = knobs.get(_ITERATIONS)
    if count is None or not set(knobs) <= _WORDED:
        return None
    is_fixed = knobs.get(_STOP_EARLY) is False
    words = _count(count)
    if count and not is_fixed:
        words = f"at most {words}"
    parts = [words, *["fixed"] * (count > 0 and is_fixed)]
    if knobs.get(_THRESHOLD):
        parts.append(f"Jaccard {knobs[_THRESHOLD]:g}")
    if knobs.get(_PATIENCE):
        parts.append(f"patience {knobs[_PATIENCE]}")
    if knobs.get(_BEAM, 1) > 1:
        ranked = " ranked by teacher" if knobs.get(_RANK_BY) == "teacher" else ""
        parts.append(f"{knobs[_BEAM]} lengths{ranked}")
    return ", ".join(parts)


def _count(iterations: int) -> str:
    return "1 iteration" if iterations == 1 else f"{iterations} iterations"


def _iterations(count: int) -> Setting:
    return Setting(_count(count), {_ITERATIONS: count}, f"iterations-{count}")


def _beams(count: int) -> Setting:
    label = "greedy" if count == 1 else f"beam {count}"
    return Setting(label, {"num_beams": count, "do_sample": False}, label.replace(" ", "-"))
