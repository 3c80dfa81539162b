"""What is evaluated: our models, autoregressive ones, and files of translations."""

from __future__ import annotations

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
from hf_nar.inference import TranslationTrace, Translator
from hf_nar.remote_code.decoding_knobs import LIBRARY_KNOBS
from hf_nar.teacher import Teacher

System = Translator | Teacher
# These change what `generate` returns, not the translation.
OUTPUT_KNOBS = ("return_dict_in_generate", "num_return_sequences")


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
    """

    texts: list[str]
    tokens: Sequence[Sequence[Hashable]]
    reference_tokens: Sequence[Sequence[Hashable]]
    seconds: float | None = None
    iterations: list[int] | None = None
    traces: list[TranslationTrace] = field(default_factory=list)


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
        network: Any = system.model
        network.build_strategy(network.resolve_knobs(setting.knobs))
        _check_ranking(system, setting)
    else:
        _check_library_knobs(system.model.generation_config, setting)


def _check_ranking(system: Translator, setting: Setting) -> None:
    ranks = system.ranks_by_teacher(setting.knobs)
    if ranks and system.teacher is None:
        raise ValueError(
            f"A setting with rank_by=teacher needs a teacher, but none is given: {setting.label}. "
            f"Give `--rank-with`."
        )
    if setting.knobs.get("rank_by") == "teacher" and not ranks:
        raise ValueError(
            f"`rank_by` chooses among several lengths, but here is one: {setting.label}. Add "
            f"length_beam=5, or leave it out."
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
        network: Any = system.model
        return bool(network.resolve_knobs(setting.knobs) == network.resolve_knobs({}))
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
        seed: For settings that sample.

    Raises:
        ValueError: If a source is too long for the model.
    """
    torch.manual_seed(seed)
    start = time.perf_counter()
    if isinstance(system, Translator):
        traces = system.trace(sources, batch_size=batch_size, **setting.knobs)
        seconds = time.perf_counter() - start
        return Translations(
            texts=[trace.translation for trace in traces],
            tokens=[trace.drafts[-1] for trace in traces],
            reference_tokens=_target_tokens(system.tokenizer, references),
            seconds=seconds,
            iterations=[trace.iterations for trace in traces],
            traces=traces,
        )
    texts = system.translate(sources, batch_size=batch_size, **setting.knobs)
    seconds = time.perf_counter() - start
    return Translations(
        texts=texts,
        tokens=_target_tokens(system.tokenizer, texts),
        reference_tokens=_target_tokens(system.tokenizer, references),
        seconds=seconds,
    )


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
