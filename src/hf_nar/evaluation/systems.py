"""What is evaluated: our models, autoregressive ones, and files of translations."""

from __future__ import annotations

import dataclasses
import difflib
import re
import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

from hf_nar.auto import model_types
from hf_nar.evaluation.metrics import words
from hf_nar.evaluation.settings import Setting
from hf_nar.inference import TranslationTrace, Translator, line_generators
from hf_nar.remote_code.decoding_knobs import LIBRARY_KNOBS
from hf_nar.teacher import Teacher

System = Translator | Teacher
# These change what `generate` returns, not the translation.
OUTPUT_KNOBS = ("return_dict_in_generate", "num_return_sequences", "output_history")
WORD_LOG_PROB = (
    "nats: mean over sentences of the mean log-probability of a word of the translation, repeats "
    "dropped and the end token left out, as the model gave it when it decoded the word"
)


@dataclass(frozen=True)
class Translations:
    """What a system made of a test set.

    Args:
        texts: One for each sentence.
        tokens: The tokens of each sentence that are counted; see `run_setting`.
        reference_tokens: The tokens of each reference, of the same kind.
        seconds: For all sentences, from text to text; None if it is not known.
        iterations: Refinement iterations of each sentence; None if there is no such thing.
        traces: The drafts of each sentence; none if there are no drafts.
        log_likelihood: What a non-autoregressive model gives its own words; see `word_log_prob`.
    """

    texts: list[str]
    tokens: Sequence[Sequence[Hashable]]
    reference_tokens: Sequence[Sequence[Hashable]]
    seconds: float | None = None
    iterations: list[int] | None = None
    traces: list[TranslationTrace] = field(default_factory=list)
    log_likelihood: float | None = None


def load_system(
    name: str, device: str | None, rank_with: str | None = None, **languages: str | None
) -> System:
    """Load one of our models, or any autoregressive sequence-to-sequence model.

    Args:
        name: Folder or Hub id.
        device: Where to translate; None takes the GPU if there is one.
        rank_with: Folder or Hub id of a teacher that ranks translations of one of ours.
        **languages: `prefix`, `source_language` and `target_language` of `Teacher`; None if not
            given.

    Raises:
        OSError: If there is no such model, or a file of it is missing or damaged.
        ValueError: If it is neither, or an option is for the other kind of model.
    """
    given = {option: value for option, value in languages.items() if value is not None}
    try:
        model_type = PreTrainedConfig.get_config_dict(name)[0].get("model_type")
    except OSError:
        return Translator.from_pretrained(name, device=device)  # says what is wrong
    if model_type not in model_types():
        if rank_with is not None:
            raise ValueError(
                f"`--rank-with` is for non-autoregressive models, and {name} is {model_type!r}. "
                f"Leave it out."
            )
        return Teacher.from_pretrained(name, device=device, **given)
    if given:
        option = next(iter(given))
        raise ValueError(
            f"`--{option.replace('_', '-')}` is for autoregressive models, and {name} is "
            f"{model_type!r}. Leave it out."
        )
    return Translator.from_pretrained(name, device=device, teacher=rank_with)


def check_setting(system: System, setting: Setting) -> None:
    """Refuse a setting that a system cannot follow, before anything is translated.

    Raises:
        ValueError: If a knob is unknown, would be ignored or has a wrong value.
    """
    for knob in OUTPUT_KNOBS:
        if knob in setting.knobs:
            raise ValueError(
                f"A setting must be about the translation, but `{knob}` is about what `generate` "
                f"returns. Leave it out."
            )
    if isinstance(system, Translator):
        system.strategy(setting.knobs)
        _check_candidates(system, setting)
    else:
        _check_library_knobs(system.model.generation_config, setting)


def _check_candidates(system: Translator, setting: Setting) -> None:
    ranks, knobs = system.ranks_by_teacher(setting.knobs), system.knobs(setting.knobs)
    if ranks and system.teacher is None:
        raise ValueError(
            f"A setting with rank_by=teacher needs a teacher, but none is given: {setting.label}. "
            f"Give `--rank-with`."
        )
    if setting.knobs.get("rank_by") == "teacher" and not ranks:
        raise ValueError(
            f"`rank_by` chooses among several lengths or latents, but here is one: "
            f"{setting.label}. Add length_beam=5 or num_latents=5, or leave it out."
        )
    if "latent_temperature" in setting.knobs and knobs.num_latents == 1:
        raise ValueError(
            f"`latent_temperature` is for samples of latents, but here is none: {setting.label}. "
            f"Add num_latents=5, or leave it out."
        )


def _check_library_knobs(own: GenerationConfig | None, setting: Setting) -> None:
    for name in setting.knobs:
        if name not in LIBRARY_KNOBS or name.startswith("_"):
            close = difflib.get_close_matches(name, LIBRARY_KNOBS, n=1)
            hint = f"Did you mean `{close[0]}`?" if close else "See its documentation."
            raise ValueError(
                f"A knob must be one of transformers' `generate`; got `{name}`. {hint}"
            )
    beams = setting.knobs.get("num_beams", 1)
    if not isinstance(beams, int) or isinstance(beams, bool) or beams < 1:
        raise ValueError(f"`num_beams` must be a whole number and at least 1, got {beams!r}.")
    merged = GenerationConfig(**_effective(own, {}))
    merged.update(**setting.knobs)
    try:
        merged.validate(strict=True)
    except ValueError as error:
        # Strictness is for the setting: what the model's own config says in vain is not ours.
        complaints = re.findall(r"^- `(\w+)`: (.*)$", str(error), flags=re.MULTILINE)
        mine = [f"`{name}`: {text}" for name, text in complaints if name in setting.knobs]
        if mine or not complaints:
            raise ValueError(mine[0] if mine else str(error)) from error


def is_default(system: System, setting: Setting) -> bool:
    """Say whether a setting is what the model does when it is told nothing."""
    if isinstance(system, Translator):
        mine, default = (system.knobs(knobs) for knobs in (setting.knobs, {}))
        strategies = [system.strategy(knobs) for knobs in (setting.knobs, {})]
        same = dataclasses.replace(mine, refinement=default.refinement) == default
        return bool(same and strategies[0] == strategies[1])
    own = system.model.generation_config
    return _effective(own, setting.knobs) == _effective(own, {})


def _effective(own: GenerationConfig | None, knobs: Any) -> dict[str, Any]:
    """Return the library's knobs in force that are not None."""
    values = {**(own.to_dict() if own else {}), **knobs}
    said = {name: value for name, value in values.items() if value is not None}
    said.pop("transformers_version", None)
    said.pop("_from_model_config", None)
    return {"num_beams": 1, "do_sample": False, **said}


def run_setting(
    system: System,
    sources: Sequence[str],
    references: Sequence[str],
    setting: Setting,
    batch_size: int,
    seed: int = 1,
) -> Translations:
    """Translate a test set.

    Tokens are subwords of the model's tokenizer without the special ones. For a non-autoregressive
    model they are those of the last draft, before `collapse_repeats` removes any; for an
    autoregressive one, those of its translation, tokenised again.

    Args:
        system: The model with its tokenizer.
        sources: Raw sentences; those of similar length are translated together.
        references: One for each source.
        setting: How to translate.
        batch_size: Sentences at once.
        seed: For settings that sample. Latent search has noise for each sentence that depends on
            the seed and the sentence's number alone.

    Raises:
        ValueError: If a source is too long for the model.
    """
    torch.manual_seed(seed)
    if isinstance(system, Translator):
        return _run_ours(system, sources, references, setting, batch_size, seed)
    start = time.perf_counter()
    texts = system.translate(sources, batch_size=batch_size, **setting.knobs)
    seconds = time.perf_counter() - start
    return Translations(
        texts=texts,
        tokens=_target_tokens(system.tokenizer, texts),
        reference_tokens=_target_tokens(system.tokenizer, references),
        seconds=seconds,
    )


def _run_ours(
    system: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    setting: Setting,
    batch_size: int,
    seed: int,
) -> Translations:
    """Translate with one of our models; the time is that of translations without their drafts."""

    def trace(with_drafts: bool) -> list[TranslationTrace]:
        samples = system.knobs(setting.knobs).num_latents > 1
        return system.trace(
            sources,
            batch_size=batch_size,
            generator=line_generators(seed, len(sources)) if samples else None,
            output_history=with_drafts,
            **setting.knobs,
        )

    decodes_at_the_end = hasattr(system.strategy(setting.knobs), "refiner")
    start = time.perf_counter()
    traces = trace(with_drafts=not decodes_at_the_end)
    seconds = time.perf_counter() - start
    if decodes_at_the_end:  # their drafts are made for them alone, and not part of the time
        traces = trace(with_drafts=True)
    return Translations(
        texts=[trace.translation for trace in traces],
        tokens=[trace.drafts[-1] for trace in traces],
        reference_tokens=_target_tokens(system.tokenizer, references),
        seconds=seconds,
        iterations=[trace.iterations for trace in traces],
        traces=traces,
        log_likelihood=word_log_prob(traces),
    )


def word_log_prob(traces: Sequence[TranslationTrace]) -> float | None:
    """Return the mean over sentences of the mean natural-log probability of a word.

    A word is a subword of the translation, repeats dropped and the end token left out. It has the
    probability that the model gave it when it was decoded, with the latents or the draft that
    refinement had come to.

    Returns:
        None where no sentence has a word; others without words are left out.
    """
    means = [sum(words) / len(words) for trace in traces if (words := trace.scores[:-1])]
    return sum(means) / len(means) if means else None


def given_translations(texts: list[str], references: Sequence[str]) -> Translations:
    """Return translations of a system that is not here; tokens are words by sacreBLEU's 13a."""
    return Translations(
        texts=texts,
        tokens=[words(text) for text in texts],
        reference_tokens=[words(text) for text in references],
    )


def _target_tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(text_target=list(texts), add_special_tokens=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    return ids
