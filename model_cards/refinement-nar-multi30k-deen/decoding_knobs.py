"""The knobs of `generate`: which there are, which mean nothing here, and whose value wins."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig

# Decoding knobs of our own, with their defaults. They live in generation_config.json.
NAR_KNOBS: dict[str, Any] = {
    "refinement": None,  # None: the model's first strategy
    "num_refinement_iterations": 1,
    "stop_early": True,
    "collapse_repeats": True,
    "extra_length": 0,
    "length_beam": 1,
    "num_latents": 1,
    "latent_temperature": 0.5,
    "rank_by": "own",
    "ranking_length_penalty": 1.0,
    "jaccard_threshold": 0.0,
    "patience": 1,
    "step_size": 1.0,
    "step_tolerance": 0.0,
    "line_search": False,
    "likelihood_steps": 0,
    "output_history": True,
}
# Only for strategies that have such a field.
STRATEGY_KNOBS = (
    *("jaccard_threshold", "patience"),
    *("step_size", "step_tolerance", "line_search", "likelihood_steps"),
)
RANKINGS = ("own", "teacher")
LENGTH_KNOBS = ("max_new_tokens", "max_length")
OUR_KNOBS = (*NAR_KNOBS, *LENGTH_KNOBS, "return_dict_in_generate")
TOKEN_KNOBS = ("pad_token_id", "bos_token_id", "eos_token_id")
LIBRARY_KNOBS = frozenset(GenerationConfig().to_dict())

# Values of the library's knobs that ask for nothing; its trainer writes them into every config.
NEUTRAL_VALUES: dict[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "diversity_penalty": 0.0,
    "num_return_sequences": 1,
    "length_penalty": 1.0,
    "min_length": 0,
    "early_stopping": False,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "num_assistant_tokens": 20,
    "num_assistant_tokens_schedule": "constant",
    "assistant_confidence_threshold": 0.4,
    "assistant_lookbehind": 10,
    "target_lookbehind": 10,
    "remove_invalid_values": False,
    "output_scores": False,
    "output_logits": False,
    "output_attentions": False,
    "output_hidden_states": False,
}
# These change nothing at any value: there is no cache, and the rest are the library's own notes.
HARMLESS_KNOBS = ("use_cache", "transformers_version", "_from_model_config")
HINTS = {
    "For the ranking of candidates use `ranking_length_penalty`.": ("length_penalty",),
    "More work for a better translation is `num_refinement_iterations`, or `length_beam`.": (
        "num_beams",
    ),
    "The length is predicted; `max_length` limits it, `extra_length` adds to it.": (
        "min_length",
        "min_new_tokens",
    ),
    "`collapse_repeats=True` removes repeated tokens.": (
        "repetition_penalty",
        "no_repeat_ngram_size",
    ),
    "`return_dict_in_generate=True` gives token scores.": ("output_scores", "output_logits"),
    "One translation is made; see `history` for its drafts.": ("num_return_sequences",),
    "A row stops when its draft repeats; see `stop_early`.": ("early_stopping",),
}
OTHER_HINT = "Decoding is deterministic and makes all tokens at once; leave it out."


@dataclass(frozen=True)
class DecodingKnobs:
    """The knobs in force for one call.

    Args:
        refinement: Name of the strategy; None is the model's first.
        num_refinement_iterations: Iterations at most.
        stop_early: Whether a row whose draft repeats is left as it is.
        collapse_repeats: Whether a token that equals the one before it is dropped at the end.
        extra_length: Tokens added to each predicted length; may be negative. Dropping repeats
            shortens translations, and the authors of LaNMT add to the length in later code, too.
        length_beam: Lengths that are decoded side by side, of which the best translation is kept.
        num_latents: Latents that each length starts with: the prior mean, and samples around it.
        latent_temperature: Factor of the prior's standard deviation for these samples.
        rank_by: What is best: "own" scores, or those of a "teacher" that is given to `generate` as
            `rescoring_model`.
        ranking_length_penalty: Exponent of the length by which a candidate's summed log
            probability is divided before they are ranked, as the `length_penalty` of beams: 1 ranks
            by the mean, and more favours longer translations. (transformers refuses to save that
            name without beams.)
        jaccard_threshold: See `IterativeRefinement`.
        patience: See `IterativeRefinement`.
        step_size: See `ScoreAscent`.
        step_tolerance: See `ScoreAscent`.
        line_search: See `ScoreAscent`.
        likelihood_steps: See `ScoreAscent`.
        output_history: Whether the drafts are returned, too, where all is returned. A strategy that
            decodes only at the end then decodes after each iteration.
        max_length: Longest translation in tokens with the end token; None has no limit.
        return_dict_in_generate: Whether scores, lengths, iterations and drafts are returned.
    """

    refinement: str | None
    num_refinement_iterations: int
    stop_early: bool
    collapse_repeats: bool
    extra_length: int
    length_beam: int
    num_latents: int
    latent_temperature: float
    rank_by: str
    ranking_length_penalty: float
    jaccard_threshold: float
    patience: int
    step_size: float
    step_tolerance: float
    line_search: bool
    likelihood_steps: int
    output_history: bool
    max_length: int | None
    return_dict_in_generate: bool

    @property
    def num_candidates(self) -> int:
        """Candidates of each sentence."""
        return self.length_beam * self.num_latents

    @classmethod
    def resolve(
        cls,
        call: Mapping[str, Any],
        config: GenerationConfig | None,
        own: GenerationConfig,
        token_ids: Mapping[str, Any],
    ) -> DecodingKnobs:
        """Return the knobs in force: the call's, then the given config's, then the model's own.

        Args:
            call: Keyword arguments of `generate`.
            config: The generation config of the call.
            own: The model's generation config.
            token_ids: The model's special tokens by the names in `TOKEN_KNOBS`.

        Raises:
            ValueError: If a knob is unknown, means nothing here or is of the wrong type.
        """
        layers = [dict(call), config.to_dict() if config else {}, own.to_dict()]
        for layer in layers:
            for name, value in layer.items():
                _check_knob(name, value, token_ids)
        chosen = _first([layer.get("refinement") for layer in layers[:2]], None)
        if chosen not in (None, layers[2].get("refinement")):
            for name in STRATEGY_KNOBS:  # the model's own are for its own refinement
                layers[2].pop(name, None)
        values = {
            name: _first([layer.get(name) for layer in layers], default)
            for name, default in {**NAR_KNOBS, "return_dict_in_generate": False}.items()
        }
        switches = ("stop_early", "collapse_repeats", "output_history", "return_dict_in_generate")
        for name in switches:
            if not isinstance(values[name], bool):
                raise ValueError(f"`{name}` must be True or False, got {values[name]!r}.")
        _check_candidates(values)
        if values["rank_by"] not in RANKINGS:
            raise ValueError(
                f"`rank_by` must be one of {', '.join(RANKINGS)}; got {values['rank_by']!r}."
            )
        limits = [layer.get(name) for layer in layers for name in LENGTH_KNOBS]
        return cls(max_length=_first(limits, None), **values)


def _check_candidates(values: Mapping[str, Any]) -> None:
    if type(values["extra_length"]) is not int:
        raise ValueError(
            f"`extra_length` must be an integer, in tokens, got {values['extra_length']!r}."
        )
    for name, one_means in (
        ("length_beam", "the most likely length alone"),
        ("num_latents", "the prior mean alone"),
    ):
        if type(values[name]) is not int or values[name] < 1:
            raise ValueError(
                f"`{name}` must be an integer and at least 1, got {values[name]!r}. Use 1 for "
                f"{one_means}."
            )
    for name in ("latent_temperature", "ranking_length_penalty"):
        number = values[name]
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise ValueError(f"`{name}` must be a number, got {number!r}.")
        if not 0 <= number < float("inf"):
            raise ValueError(f"`{name}` must be finite and not negative, got {number}.")


def _first(values: Sequence[Any], default: Any) -> Any:
    """Return the first value that is not None: None means "not said here"."""
    return next((value for value in values if value is not None), default)


def _check_knob(name: str, value: Any, token_ids: Mapping[str, Any]) -> None:
    """Refuse a knob that would be ignored."""
    if name in OUR_KNOBS or name in HARMLESS_KNOBS:
        return
    if name not in LIBRARY_KNOBS and name not in NEUTRAL_VALUES:
        close = difflib.get_close_matches(name, OUR_KNOBS, n=1)
        hint = f"did you mean `{close[0]}`?" if close else "leave it out."
        raise ValueError(f"`generate` knows {', '.join(OUR_KNOBS)}; got `{name}`: {hint}")
    if name in TOKEN_KNOBS:
        if value not in (None, token_ids[name], [token_ids[name]]):
            raise ValueError(
                f"`{name}` must be the one that the model was trained with, {token_ids[name]}; "
                f"got {value!r}. Leave it out."
            )
    elif value is not None and value != NEUTRAL_VALUES.get(name):
        hints = [hint for hint, names in HINTS.items() if name in names]
        raise ValueError(
            f"`{name}` has no meaning for a non-autoregressive model; got {value!r}. "
            f"{hints[0] if hints else OTHER_HINT}"
        )
