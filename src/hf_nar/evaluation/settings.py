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
_REFINEMENT, _LATENTS, _TEMPERATURE = "refinement", "num_latents", "latent_temperature"
_STEP, _TOLERANCE, _LINE_SEARCH = "step_size", "step_tolerance", "line_search"
_CLIMB = "likelihood_steps"
_PENALTY, _EXTRA = "ranking_length_penalty", "extra_length"
_WORDED = {
    *(_ITERATIONS, _STOP_EARLY, _BEAM, _RANK_BY, _THRESHOLD, _PATIENCE),
    *(_REFINEMENT, _LATENTS, _TEMPERATURE, _STEP, _TOLERANCE, _LINE_SEARCH),
    *(_PENALTY, _EXTRA, _CLIMB),
}
NO_REFINEMENT = "none"
# Where a table says less, or more, than the name of the strategy.
REFINEMENT_NAMES = {"delta_posterior": "delta", NO_REFINEMENT: "prior mean"}
_DRAFT_RULES = ("delta_posterior", "iterative", None)  # these stop where a draft repeats


@dataclass(frozen=True)
class Setting:
    """Knobs of `generate` that are measured together.

    Args:
        label: Name in tables: "1 iteration", "score, 1 iteration", "beam 4", "greedy", or the
            knobs themselves.
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
    refinements: Sequence[str] | None = None,
) -> list[Setting]:
    """Return the settings that the options ask for, or the usual ones if they ask for none.

    Args:
        is_autoregressive: Of which kind the model is.
        iterations: Numbers of refinement iterations, for a non-autoregressive model.
        beams: Numbers of beams, for an autoregressive one; 1 is greedy.
        texts: Any knobs, such as "num_beams=2,length_penalty=0.6".
        refinements: Strategies of a non-autoregressive model, each with each number of iterations,
            but "none" once; None is the model's own.

    Raises:
        ValueError: If an option is for the other kind of model, or a text has another form.
    """
    for option, value in (("--iterations", iterations), ("--refinement", refinements)):
        if is_autoregressive and value is not None:
            raise ValueError(
                f"`{option}` is for non-autoregressive models, and this one is autoregressive. Use "
                f"`--beams`."
            )
    if not is_autoregressive and beams is not None:
        raise ValueError(
            "`--beams` is for autoregressive models, and this one has no beams. Use `--iterations`."
        )
    if refinements is not None and iterations is None:
        iterations = DEFAULT_ITERATIONS
    if iterations is None and beams is None and not texts:
        iterations, beams = DEFAULT_ITERATIONS, DEFAULT_BEAMS
    if is_autoregressive:
        settings = [_beams(count) for count in beams or ()]
    else:
        names: Sequence[str | None] = refinements or [None]
        settings = [one for name in names for one in _refined(name, iterations or ())]
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

    Such as "3 iterations, fixed", "at most 9 iterations, Jaccard 0.1", "at most 9 iterations, 5
    lengths ranked by teacher" or "score, 1 iteration, 3 lengths x 3 latents ranked by teacher".

    Returns:
        None where the knobs do not say how many iterations there are, or have no words.
    """
    name = knobs.get(_REFINEMENT)
    if not set(knobs) <= _WORDED or (_ITERATIONS not in knobs and name != NO_REFINEMENT):
        return None
    named = [] if name is None else [REFINEMENT_NAMES.get(name, str(name))]
    extra = [f"extra length {knobs[_EXTRA]}"] if _EXTRA in knobs else []
    steps = [*_stopping_words(knobs), *_step_words(knobs)]
    parts = [*named, *steps, *extra, *_candidate_words(knobs)]
    return ", ".join(parts)


def _stopping_words(knobs: Mapping[str, Any]) -> list[str]:
    """Say how many iterations there are, and what ends them."""
    if knobs.get(_REFINEMENT) == NO_REFINEMENT:
        return []
    count, is_fixed = knobs[_ITERATIONS], knobs.get(_STOP_EARLY) is False
    by_draft = knobs.get(_REFINEMENT) in _DRAFT_RULES
    can_stop = count and not is_fixed and (by_draft or knobs.get(_TOLERANCE))
    words = f"at most {_count(count)}" if can_stop else _count(count)
    parts = [words, *["fixed"] * (count > 0 and is_fixed and by_draft)]
    if knobs.get(_THRESHOLD):
        parts.append(f"Jaccard {knobs[_THRESHOLD]:g}")
    if knobs.get(_PATIENCE):
        parts.append(f"patience {knobs[_PATIENCE]}")
    if knobs.get(_TOLERANCE) and not is_fixed:
        parts.append(f"tolerance {knobs[_TOLERANCE]:g}")
    return parts


def _step_words(knobs: Mapping[str, Any]) -> list[str]:
    """Say how far a step goes, and what comes after all of them."""
    size = [f"step size {knobs[_STEP]:g}"] if _STEP in knobs else []
    words = size + ["line search"] * bool(knobs.get(_LINE_SEARCH))
    if _CLIMB in knobs:
        count = knobs[_CLIMB] or "no"
        words.append(f"{count} likelihood step{'' if count == 1 else 's'}")
    return words


def _candidate_words(knobs: Mapping[str, Any]) -> list[str]:
    """Say how many candidates there are, and who ranks them."""
    lengths, latents = knobs.get(_BEAM, 1), knobs.get(_LATENTS, 1)
    parts = [f"{lengths} lengths"] * (lengths > 1) + [f"{latents} latents"] * (latents > 1)
    if not parts:
        return []
    ranked = " ranked by teacher" if knobs.get(_RANK_BY) == "teacher" else ""
    heat = [f"temperature {knobs[_TEMPERATURE]:g}"] if _TEMPERATURE in knobs else []
    penalty = [f"length penalty {knobs[_PENALTY]:g}"] if _PENALTY in knobs else []
    return [" x ".join(parts) + ranked, *heat, *penalty]


def _count(iterations: int) -> str:
    return "1 iteration" if iterations == 1 else f"{iterations} iterations"


def _refined(refinement: str | None, counts: Sequence[int]) -> list[Setting]:
    """Return a setting for each number of iterations; the one that there is where none is run."""
    if refinement is None:
        return [
            Setting(_count(count), {_ITERATIONS: count}, f"iterations-{count}") for count in counts
        ]
    name = REFINEMENT_NAMES.get(refinement, refinement)
    if refinement == NO_REFINEMENT:
        return [Setting(name, {_REFINEMENT: refinement}, f"refinement-{refinement}")]
    return [
        Setting(
            f"{name}, {_count(count)}",
            {_REFINEMENT: refinement, _ITERATIONS: count},
            f"{refinement}-iterations-{count}",
        )
        for count in counts
    ]


def _beams(count: int) -> Setting:
    label = "greedy" if count == 1 else f"beam {count}"
    return Setting(label, {"num_beams": count, "do_sample": False}, label.replace(" ", "-"))
