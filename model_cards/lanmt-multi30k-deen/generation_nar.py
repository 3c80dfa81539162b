"""`generate` without autoregression: a first draft, then refinement until nothing changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.utils import GenerationMixin
from transformers.utils.generic import ModelOutput

from .candidate_search import (
    best_rows,
    check_teacher,
    spread_over_latents,
    spread_over_lengths,
    teacher_scores,
)
from .decoding_knobs import NAR_KNOBS, STRATEGY_KNOBS, TOKEN_KNOBS, DecodingKnobs
from .pipeline_translation import TranslationPipeline
from .refinement_state import (
    LatentStrategy,
    RefinementState,
    RefinementStrategy,
    collapse_repeats,
    keep_finished,
    own_scores,
    take_rows,
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
            (repeats not collapsed), each `[batch, target_len of that draft]`; None with
            `output_history=False`.
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

    def rows(self, chosen: Tensor) -> Refined:
        """Return some rows `[new_batch]`, no wider than they need to be."""
        state = take_rows(self.state, chosen)
        width = int(state.lengths.max())
        state = dataclasses.replace(
            state,
            tokens=state.tokens[:, :width],
            scores=state.scores[:, :width],
            target_mask=state.target_mask[:, :width],
        )
        iterations = self.iterations[chosen]
        history = take_rows(self.history[: 1 + int(iterations.max())], chosen)
        return Refined(state, iterations, history)


def refine_until_finished(
    strategy: RefinementStrategy,
    network: Any,
    source: Any,
    state: RefinementState,
    with_history: bool = True,
) -> Refined:
    """Refine a draft until every row is finished or `strategy.iterations` are spent.

    A finished row is frozen, and no more computed, so that a row's result does not depend on its
    batch. Where rows cannot finish early, the host never waits for the device.

    Args:
        strategy: One of the network's.
        network: What it refines with.
        source: What the network's `encode` gave.
        state: Where it starts.
        with_history: Whether all drafts are returned, not the last one alone. A strategy that
            decodes only at the end then decodes after each iteration, too.
    """
    finished = strategy.finish(network, source, state) if with_history else state
    history = [finished.tokens]
    iterations = torch.zeros_like(state.lengths)
    for _ in range(strategy.iterations):
        if strategy.stop_early:
            if bool(state.is_finished.all()):
                break
            new = _refine_unfinished(strategy, network, source, state)
            iterations = iterations + (~state.is_finished).long()
            state = keep_finished(state, new, network.pad_token_id)
        else:
            state = strategy.refine(network, source, state)
            iterations = iterations + 1
        if with_history:
            finished = strategy.finish(network, source, state)
            history.append(finished.tokens)
    if not with_history:
        finished = strategy.finish(network, source, state)
        history = [finished.tokens]
    return Refined(finished, iterations, tuple(history))


def _refine_unfinished(
    strategy: RefinementStrategy, network: Any, source: Any, state: RefinementState
) -> RefinementState:
    """Refine the rows that are not finished; what stands in the others has no meaning."""
    unfinished = ~state.is_finished
    if bool(unfinished.all()):
        return strategy.refine(network, source, state)
    rows = unfinished.nonzero()[:, 0]
    new = strategy.refine(network, take_rows(source, rows), take_rows(state, rows))
    new = dataclasses.replace(new, context=None)  # that of all rows is in `state`
    back: RefinementState = take_rows(new, (unfinished.cumsum(0) - 1).clamp(min=0))
    return dataclasses.replace(back, context=state.context)


class NARGenerationMixin(GenerationMixin):
    """`generate` for networks that have `encode` and name their strategies in `refinements`.

    A file that is named here travels with a network to the Hub, as its pipeline does.
    """

    config: Any
    main_input_name: str
    pad_token_id: int
    encode: Any
    likely_lengths: Any
    infer_prior: Any
    latent_lengths: Any
    prepare_to_refine: Any
    refinements: ClassVar[dict[str, type]] = {}
    pipelines: ClassVar[dict[str, type]] = {"translation": TranslationPipeline}  # by task
    source_inputs: ClassVar[tuple[str, ...]] = ("input_ids",)  # forms in which a source may come

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
            **kwargs: The source's other forms, for a model that has them; `attention_mask`;
                `target_lengths` `[batch]`, where they are known and need not be predicted; and
                knobs that override the config: `num_refinement_iterations`,
                `refinement` (a name in `model.refinements`),
                `stop_early` (False refines a draft that repeats, too), `collapse_repeats`,
                `extra_length` (tokens added to each predicted length), `length_beam` (lengths
                tried side by side), `num_latents` and `latent_temperature` (latents that each
                length starts with, drawn around the prior mean, which is one of them; `generator=`
                is a `torch.Generator` for them, or a list of one for each sentence), `rank_by`
                (which candidate is kept: that with the best "own" score, or with that of the
                "teacher", an autoregressive model given as `rescoring_model=`),
                `ranking_length_penalty` (exponent of the length in that score), `step_size`,
                `step_tolerance`, `line_search` and `likelihood_steps` (see `ScoreAscent`),
                `jaccard_threshold` and `patience` (when a draft counts as repeated, and how often
                it must), `output_history` (False leaves the drafts out of what is returned),
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
        generator = kwargs.pop("generator", None)
        judge = self._judge(kwargs)
        source_inputs = self._source_inputs(inputs, kwargs)
        knobs = self.resolve_knobs(kwargs, generation_config)
        strategy = self.build_strategy(knobs)
        self._check_candidates(knobs, judge, generator, source_inputs)
        source = self.encode(**source_inputs, extra_length=knobs.extra_length)
        if knobs.num_candidates > 1:
            self.prepare_to_refine(knobs.refinement or next(iter(self.refinements)), source)
        if knobs.length_beam > 1:
            source = spread_over_lengths(self, source, knobs.length_beam)
        if knobs.num_latents > 1:
            source, latent = spread_over_latents(
                self, source, knobs.num_latents, knobs.latent_temperature, generator
            )
            draft = cast("LatentStrategy", strategy).start(self, source, latent)
        else:
            draft = strategy.draft(self, source)
        with_history = knobs.return_dict_in_generate and knobs.output_history
        refined = refine_until_finished(strategy, self, source, draft, with_history)
        if knobs.collapse_repeats:
            refined = dataclasses.replace(refined, state=self._collapsed(refined.state))
        if knobs.num_candidates > 1:
            penalty = knobs.ranking_length_penalty
            scores = (
                self._scores_of(judge, refined.state, source_inputs, penalty)
                if knobs.rank_by == "teacher"
                else own_scores(refined.state, penalty)
            )
            refined = refined.rows(best_rows(scores, knobs.num_candidates))
        state = refined.state
        if not knobs.return_dict_in_generate:
            return state.tokens
        history = refined.history if with_history else None
        return NARGenerateOutput(
            state.tokens, state.scores, state.lengths, refined.iterations, history
        )

    def _judge(self, kwargs: dict[str, Any]) -> Any:
        """Take the autoregressive model that ranks candidates; one that is given ranks them."""
        given = [kwargs.pop(name, None) for name in ("rescoring_model", "teacher")]
        judges = [judge for judge in given if judge is not None]
        if len(judges) > 1:
            raise ValueError("`teacher` is another name of `rescoring_model`; give one of them.")
        if judges and kwargs.get("rank_by") is None:
            kwargs["rank_by"] = "teacher"
        return judges[0] if judges else None

    def _scores_of(
        self,
        judge: Any,
        state: RefinementState,
        source_inputs: Mapping[str, Tensor | None],
        length_penalty: float,
    ) -> Tensor:
        """Return what the judge says of each candidate, `[batch * candidates]`."""
        ids, mask = (source_inputs[name] for name in ("input_ids", "attention_mask"))
        ids = cast("Tensor", ids)
        mask = (ids != self.pad_token_id).long() if mask is None else mask
        return teacher_scores(judge, state, ids, mask, length_penalty)

    def _check_candidates(
        self,
        knobs: DecodingKnobs,
        judge: Any,
        generator: Any,
        source_inputs: Mapping[str, Tensor | None],
    ) -> None:
        """Check what candidates differ in, and who ranks them."""
        if knobs.num_candidates > 1 and knobs.rank_by == "teacher":
            check_teacher(judge, self.config, next(iter(source_inputs)))
        if knobs.length_beam > 1 and source_inputs["target_lengths"] is not None:
            raise ValueError(
                "`length_beam` must be 1 where `target_lengths` are given, as there is nothing to "
                "choose from. Leave one of them out."
            )
        if generator is None or isinstance(generator, torch.Generator):
            return
        sentences = len(cast("Tensor", next(iter(source_inputs.values()))))
        given = list(generator) if isinstance(generator, list | tuple) else [generator]
        if len(given) != sentences or not all(isinstance(g, torch.Generator) for g in given):
            raise ValueError(
                f"`generator` must be one `torch.Generator`, or one for each of the {sentences} "
                f"sentences; got {generator!r}."
            )

    def _collapsed(self, state: RefinementState) -> RefinementState:
        tokens, scores, mask = collapse_repeats(
            state.tokens, state.scores, state.target_mask, self.pad_token_id
        )
        return dataclasses.replace(state, tokens=tokens, scores=scores, target_mask=mask)

    def _source_inputs(
        self, inputs: Tensor | None, kwargs: dict[str, Any]
    ) -> dict[str, Tensor | None]:
        """Take the source out of `kwargs`, and drop what decoding does not need."""
        given = {name: kwargs.pop(name, None) for name in self.source_inputs}
        forms = {name: value for name, value in given.items() if value is not None}
        if inputs is not None:
            forms["the first argument"] = inputs
        if len(forms) != 1:
            raise ValueError(
                f"`generate` needs the source once, as {' or '.join(f'`{n}`' for n in given)} or "
                f"as first argument; got {'both' if forms else 'neither'}."
            )
        for name in IGNORED_INPUTS:
            kwargs.pop(name, None)
        source = {name: kwargs.pop(name, None) for name in ("attention_mask", "target_lengths")}
        name, value = next(iter(forms.items()))
        name = name if name in given else self.main_input_name
        self._check_source_inputs(name, value, **source)
        return {name: value, **source}

    def _check_source_inputs(
        self,
        name: str,
        value: Tensor,
        attention_mask: Tensor | None,
        target_lengths: Tensor | None,
    ) -> None:
        """Check the values that a network would otherwise fail on, or silently misread."""
        for checked, tensor, floats in (
            (name, value, name != "input_ids"),
            ("target_lengths", target_lengths, False),
        ):
            is_right = isinstance(tensor, Tensor) and tensor.is_floating_point() == floats
            if tensor is not None and not is_right:
                raise ValueError(
                    f"`{checked}` must be a tensor of {'numbers' if floats else 'whole numbers'}, "
                    f"got {tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__}. "
                    + (
                        "Use the model's image processor."
                        if checked == "pixel_values"
                        else "Tokenize text with return_tensors='pt'."
                    )
                )
        vocabulary = self.config.vocab_size
        is_ids = name == "input_ids" and value.numel()
        if is_ids and not bool(((value >= 0) & (value < vocabulary)).all()):
            raise ValueError(
                f"`input_ids` must be in [0, {vocabulary}), the model's vocabulary, but are in "
                f"[{int(value.min())}, {int(value.max())}]. Use the model's own tokenizer."
            )
        if attention_mask is not None and bool(
            (attention_mask[:, 1:] > attention_mask[:, :-1]).any()
        ):
            raise ValueError(
                "`attention_mask` must have its padding at the right, but a row has it elsewhere. "
                "Tokenize with padding_side='right'."
            )
        if target_lengths is not None and (
            target_lengths.shape != value.shape[:1] or bool((target_lengths < 1).any())
        ):
            raise ValueError(
                f"`target_lengths` must be a tensor of {len(value)} lengths, one for each "
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
        classes = 2 * self.config.max_length_offset + 1
        if knobs.length_beam > classes:
            raise ValueError(
                f"`length_beam` must be at most {classes}, the lengths that the model knows; got "
                f"{knobs.length_beam}."
            )
        limit = self.config.max_target_length
        strategy: Any = self.refinements[name]
        known = {field.name for field in dataclasses.fields(strategy)}
        special = {knob: getattr(knobs, knob) for knob in STRATEGY_KNOBS}
        for knob, value in special.items():
            if knob not in known and value != NAR_KNOBS[knob]:
                raise ValueError(
                    f'`{knob}` has no meaning for the refinement "{name}"; got {value!r}. Leave it '
                    f"out."
                )
        if knobs.num_latents > 1 and not hasattr(strategy, "start"):
            raise ValueError(
                f'`num_latents` has no meaning for the refinement "{name}", which has no latents; '
                f"got {knobs.num_latents}. Leave it out."
            )
        built: RefinementStrategy = strategy(
            iterations=knobs.num_refinement_iterations,
            stop_early=knobs.stop_early,
            max_length=limit if knobs.max_length is None else knobs.max_length,
            **{knob: value for knob, value in special.items() if knob in known},
        )
        return built
