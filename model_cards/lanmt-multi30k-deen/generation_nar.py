"""`generate` without autoregression: a first draft, then refinement until nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin
from transformers.utils.generic import ModelOutput

from .decoding_knobs import NAR_KNOBS, TOKEN_KNOBS, DecodingKnobs
from .refinement_state import (
    RefinementState,
    RefinementStrategy,
    collapse_repeats,
    keep_finished,
)

# What a data collator or Trainer passes along and decoding does not need.
IGNORED_INPUTS = ("labels", "decoder_input_ids", "decoder_attention_mask", "synced_gpus")


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
                `extra_length` (tokens added to each predicted length),
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
        knobs = self.resolve_knobs(kwargs, generation_config)
        strategy = self.build_strategy(knobs)
        source = self.encode(**source_inputs, extra_length=knobs.extra_length)
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
        source = {
            "input_ids": inputs if input_ids is None else input_ids,
            "attention_mask": kwargs.pop("attention_mask", None),
            "target_lengths": kwargs.pop("target_lengths", None),
        }
        self._check_source_inputs(**source)
        return source

    def _check_source_inputs(
        self, input_ids: Tensor, attention_mask: Tensor | None, target_lengths: Tensor | None
    ) -> None:
        """Check the values that a network would otherwise fail on, or silently misread."""
        for name, value in (("input_ids", input_ids), ("target_lengths", target_lengths)):
            is_whole = isinstance(value, Tensor) and not value.is_floating_point()
            if value is not None and not is_whole:
                raise ValueError(
                    f"`{name}` must be a tensor of whole numbers, got "
                    f"{value.dtype if isinstance(value, Tensor) else type(value).__name__}. "
                    f"Tokenize text with return_tensors='pt'."
                )
        vocabulary = self.config.vocab_size
        if input_ids.numel() and not bool(((input_ids >= 0) & (input_ids < vocabulary)).all()):
            raise ValueError(
                f"`input_ids` must be in [0, {vocabulary}), the model's vocabulary, but are in "
                f"[{int(input_ids.min())}, {int(input_ids.max())}]. Use the model's own tokenizer."
            )
        if attention_mask is not None and bool(
            (attention_mask[:, 1:] > attention_mask[:, :-1]).any()
        ):
            raise ValueError(
                "`attention_mask` must have its padding at the right, but a row has it elsewhere. "
                "Tokenize with padding_side='right'."
            )
        if target_lengths is not None and (
            target_lengths.shape != input_ids.shape[:1] or bool((target_lengths < 1).any())
        ):
            raise ValueError(
                f"`target_lengths` must be a tensor of {len(input_ids)} lengths, one for each "
                f"sentence and at least 1 for its end token; got {target_lengths!r}."
            )

    def resolve_knobs(
        self, call: Mapping[str, Any], config: GenerationConfig | None = None
    ) -> DecodingKnobs:
        """Return the knobs in force for a call; see `DecodingKnobs.resolve`."""
        token_ids = {name: getattr(self.config, name) for name in TOKEN_KNOBS}
        return DecodingKnobs.resolve(call, config, self.generation_config, token_ids)

    def build_strategy(self, knobs: DecodingKnobs) -> RefinementStrategy:
        """Return the strategy that the knobs ask for.

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
        strategy: Any = self.refinements[name]
        built: RefinementStrategy = strategy(
            iterations=knobs.num_refinement_iterations,
            stop_early=knobs.stop_early,
            max_length=limit if knobs.max_length is None else knobs.max_length,
        )
        return built
