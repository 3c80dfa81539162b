"""`generate` without autoregression: a first draft, then refinement until nothing changes."""

from __future__ import annotations

import copy
import difflib
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin
from transformers.utils.generic import ModelOutput

from .refinement_state import (
    RefinementState,
    RefinementStrategy,
    collapse_repeats,
    keep_finished,
)

# Decoding knobs of our own, with their defaults. They live in generation_config.json.
NAR_KNOBS: dict[str, Any] = {
    "refinement": None,  # None: the model's first strategy
    "num_refinement_iterations": 1,
    "stop_early": True,
    "collapse_repeats": True,
}

# Knobs of autoregressive decoding that mean nothing here: values that change nothing, and what
# to use instead.
AUTOREGRESSIVE_KNOBS: dict[str, tuple[tuple[Any, ...], str]] = {
    "num_beams": ((1,), "More work for a better translation is `num_refinement_iterations`."),
    "num_beam_groups": ((1,), "More work is `num_refinement_iterations`."),
    "do_sample": ((False,), "Decoding is deterministic; leave it out."),
    "temperature": ((1.0,), "Decoding is deterministic; leave it out."),
    "top_k": ((0, 50), "Decoding is deterministic; leave it out."),
    "top_p": ((1.0,), "Decoding is deterministic; leave it out."),
    "min_p": ((), "Decoding is deterministic; leave it out."),
    "typical_p": ((1.0,), "Decoding is deterministic; leave it out."),
    "num_return_sequences": ((1,), "One translation is made; see `history` for its drafts."),
    "length_penalty": ((1.0,), "The length is predicted; `max_length` limits it."),
    "min_length": ((0,), "The length is predicted; `max_length` limits it."),
    "min_new_tokens": ((), "The length is predicted; `max_length` limits it."),
    "repetition_penalty": ((1.0,), "`collapse_repeats=True` removes repeated tokens."),
    "no_repeat_ngram_size": ((0,), "`collapse_repeats=True` removes repeated tokens."),
    "early_stopping": ((False,), "A row stops when its draft repeats."),
    "penalty_alpha": ((), "Decoding is deterministic; leave it out."),
    "assistant_model": ((), "All tokens are made at once already."),
    "prompt_lookup_num_tokens": ((), "All tokens are made at once already."),
    "forced_bos_token_id": ((), "There is no first token to force."),
    "output_scores": ((False,), "`return_dict_in_generate=True` gives token scores."),
    "output_logits": ((False,), "`return_dict_in_generate=True` gives token scores."),
}

# What a data collator or Trainer passes along and decoding does not need.
IGNORED_INPUTS = ("labels", "decoder_input_ids", "decoder_attention_mask", "synced_gpus")
IGNORED_KNOBS = ("use_cache", "output_attentions", "output_hidden_states", "cache_implementation")
USED_KNOBS = (
    "max_length",
    "max_new_tokens",
    "return_dict_in_generate",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "decoder_start_token_id",
)


@dataclass
class NARGenerateOutput(ModelOutput):
    """What `generate(return_dict_in_generate=True)` returns.

    Args:
        sequences: Translations with the end token, then padding, `[batch, target_len]`.
        scores: Natural-log probability of each token, float32, 0 on padding,
            `[batch, target_len]`.
        lengths: Tokens of each row with the end token, `[batch]`.
        iterations: Refinement iterations that each row used, `[batch]`.
        history: The first draft and the draft after each iteration, as they were decoded
            (repeats not collapsed), each `[batch, target_len of that draft]`.
    """

    sequences: Tensor | None = None
    scores: Tensor | None = None
    lengths: Tensor | None = None
    iterations: Tensor | None = None
    history: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class Refined:
    """The end of the loop: last state, iterations of each row `[batch]`, and all drafts."""

    state: RefinementState
    iterations: Tensor
    history: tuple[Tensor, ...]


def refine_until_finished(
    strategy: RefinementStrategy, network: Any, source: Any, state: RefinementState
) -> Refined:
    """Refine a draft until every row is finished or `strategy.iterations` are spent.

    A finished row is frozen, so that a row's result does not depend on its batch.
    """
    history = [state.tokens]
    iterations = torch.zeros_like(state.lengths)
    for _ in range(strategy.iterations):
        if strategy.stop_early and bool(state.is_finished.all()):
            break
        iterations = iterations + (~state.is_finished).long()
        new = strategy.refine(network, source, state)
        state = keep_finished(state, new, network.pad_token_id)
        history.append(state.tokens)
    return Refined(state, iterations, tuple(history))


class NARGenerationMixin(GenerationMixin):
    """`generate` for networks that have `encode` and name their strategies in `refinements`."""

    config: Any
    pad_token_id: int
    encode: Any
    refinements: ClassVar[dict[str, type]] = {}

    def default_generation_config(self) -> GenerationConfig:
        """Return fresh decoding knobs for a new model.

        They must not be derived from the model's config: transformers would drop the knobs it
        does not know when it loads them again. `max_length` is set because its trainer would
        otherwise write 20 into it.
        """
        return GenerationConfig(
            **NAR_KNOBS,
            max_length=self.config.max_target_length,
            pad_token_id=self.config.pad_token_id,
            bos_token_id=self.config.bos_token_id,
            eos_token_id=self.config.eos_token_id,
        )

    @torch.no_grad()
    def generate(  # type: ignore[override]  # what has no meaning here is refused by name
        self,
        inputs: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: Any = None,
        stopping_criteria: Any = None,
        streamer: Any = None,
        **kwargs: Any,
    ) -> Tensor | NARGenerateOutput:
        """Translate a batch: predict lengths, draft all tokens at once, refine the drafts.

        Args:
            inputs: Source ids, `[batch, source_len]`; may be given as `input_ids`.
            generation_config: Knobs; the model's own where it is not given.
            logits_processor: Must be empty: tokens are chosen together.
            stopping_criteria: Must be empty: a row stops when its draft repeats.
            streamer: Must be None: nothing is produced token by token.
            **kwargs: `attention_mask`; `target_lengths` `[batch]`, where they are known and need
                not be predicted; and knobs that override the config:
                `num_refinement_iterations`, `refinement` (a name in `model.refinements`),
                `stop_early` (False refines a draft that repeats, too), `collapse_repeats`,
                `max_length` or `max_new_tokens` (target tokens with the end token),
                `return_dict_in_generate`.

        Returns:
            Token ids `[batch, target_len]`, or a `NARGenerateOutput`.

        Raises:
            ValueError: If a knob is unknown, means nothing here, or is out of its range, or the
                source does not fit the model.
        """
        for name, value in (
            ("logits_processor", logits_processor),
            ("stopping_criteria", stopping_criteria),
        ):
            if value:
                raise ValueError(
                    f"`{name}` must be empty, as all tokens are chosen at once; leave it out."
                )
        if streamer is not None:
            raise ValueError(
                "`streamer` must be None, as nothing is produced token by token. For the drafts "
                "use return_dict_in_generate=True and read `history`."
            )
        source_inputs = self._source_inputs(inputs, kwargs)
        knobs = self._decoding_knobs(generation_config, kwargs)
        strategy = self.build_strategy(knobs)
        source = self.encode(**source_inputs)
        draft = strategy.draft(self, source)
        refined = refine_until_finished(strategy, self, source, draft)
        state, pad = refined.state, self.pad_token_id
        tokens, scores, mask = state.tokens, state.scores, state.target_mask
        if knobs.collapse_repeats:
            tokens, scores, mask = collapse_repeats(tokens, scores, mask, pad)
        if not knobs.return_dict_in_generate:
            return tokens
        return NARGenerateOutput(tokens, scores, mask.sum(-1), refined.iterations, refined.history)

    def _source_inputs(
        self, inputs: Tensor | None, kwargs: dict[str, Any]
    ) -> dict[str, Tensor | None]:
        """Take the source out of `kwargs`, and drop what decoding does not need."""
        input_ids = kwargs.pop("input_ids", None)
        if (inputs is None) == (input_ids is None):
            raise ValueError(
                "`generate` needs the source once, as `input_ids` or as first argument; got "
                + ("neither." if inputs is None else "both.")
            )
        for name in IGNORED_INPUTS:
            kwargs.pop(name, None)
        return {
            "input_ids": inputs if input_ids is None else input_ids,
            "attention_mask": kwargs.pop("attention_mask", None),
            "target_lengths": kwargs.pop("target_lengths", None),
        }

    def _decoding_knobs(
        self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]
    ) -> Any:
        """Return the knobs in force: `kwargs`, then the given config, then the model's own."""
        given = {name: value for name, value in kwargs.items() if value is not None}
        known = {*NAR_KNOBS, *USED_KNOBS, *IGNORED_KNOBS, *AUTOREGRESSIVE_KNOBS}
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, sorted({*NAR_KNOBS, *USED_KNOBS}), n=1)
                hint = f"did you mean `{close[0]}`?" if close else "leave it out."
                raise ValueError(
                    f"`generate` knows {', '.join([*NAR_KNOBS, *USED_KNOBS[:3]])}; got "
                    f"`{name}`: {hint}"
                )
        knobs: Any = copy.deepcopy(generation_config or self.generation_config)
        for name, default in NAR_KNOBS.items():
            fallback = getattr(self.generation_config, name, default)
            if getattr(knobs, name, None) is None:
                setattr(knobs, name, fallback)
        for name, value in given.items():
            setattr(knobs, name, value)
        for name, (neutral, hint) in AUTOREGRESSIVE_KNOBS.items():
            value = getattr(knobs, name, None)
            if value is not None and value not in neutral:
                raise ValueError(
                    f"`{name}` has no meaning for a non-autoregressive model; got {value!r}. {hint}"
                )
        return knobs

    def build_strategy(self, knobs: Any) -> RefinementStrategy:
        """Return the strategy that a generation config asks for.

        Raises:
            ValueError: If it is unknown, or one of its knobs is out of its range.
        """
        name = knobs.refinement or next(iter(self.refinements))
        if name not in self.refinements:
            raise ValueError(
                f'This model has no refinement "{name}"; it supports: '
                f"{', '.join(self.refinements)}. See model.refinements."
            )
        limit = self.config.max_target_length
        asked = knobs.max_new_tokens if knobs.max_new_tokens is not None else knobs.max_length
        values = {
            "iterations": knobs.num_refinement_iterations,
            "stop_early": knobs.stop_early,
            "max_length": limit if asked is None else min(asked, limit),
        }
        strategy: Any = self.refinements[name]
        accepted = {field.name for field in fields(strategy)}
        built: RefinementStrategy = strategy(
            **{key: value for key, value in values.items() if key in accepted}
        )
        return built
