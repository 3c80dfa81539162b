"""What is scored: a model with its settings, or a file of translations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from hf_nar.auto import hub_commit
from hf_nar.evaluation.likelihood import DEFINITION, Likelihood, measure_likelihood
from hf_nar.evaluation.model_identity import model_identity
from hf_nar.evaluation.quality import example_traces
from hf_nar.evaluation.results import environment
from hf_nar.evaluation.sentences import Sentences
from hf_nar.evaluation.settings import Setting
from hf_nar.evaluation.systems import (
    WORD_LOG_PROB,
    System,
    Translations,
    given_translations,
    is_default,
    run_setting,
)
from hf_nar.inference import TranslationTrace, Translator


@dataclass(frozen=True)
class Output:
    """Translations by one setting.

    Args:
        setting: How was translated.
        translations: Of the test set.
        is_default: Whether the setting is the model's own.
        iterations: Refinement iterations allowed; None if there is no such thing.
        likelihood: Of the translations under the model; None if it is not asked for.
    """

    setting: Setting
    translations: Translations
    is_default: bool
    iterations: int | None
    likelihood: Likelihood | None = None


class Candidate(Protocol):
    """What can be scored."""

    @property
    def name(self) -> str:
        """Model or file, as it was given."""

    @property
    def labels(self) -> list[str]:
        """The labels of the settings."""

    @property
    def likelihoods(self) -> list[str]:
        """The names of the likelihoods that rows have."""

    def outputs(self, sentences: Sentences) -> Iterator[Output]:
        """Yield the translations by each setting."""

    def facts(self, sentences: Sentences, outputs: Sequence[Output]) -> dict[str, Any]:
        """Return what a results file says beside the figures."""


@dataclass(frozen=True)
class ModelCandidate:
    """A model with its settings.

    Args:
        name: Folder or Hub id.
        system: The model.
        settings: How to translate, each once.
        batch_size: Sentences at once.
        seed: For settings that sample, and for likelihoods.
        rank_with: Folder or Hub id of the teacher that ranks; None where none does.
        likelihood_samples: Samples of latents for the likelihood of translations and references;
            None measures none.
    """

    name: str
    system: System
    settings: Sequence[Setting]
    batch_size: int
    seed: int
    rank_with: str | None = None
    likelihood_samples: int | None = None

    @property
    def labels(self) -> list[str]:
        """The labels of the settings."""
        return [setting.label for setting in self.settings]

    @property
    def likelihoods(self) -> list[str]:
        """The names of the likelihoods that rows have."""
        own = ["log_likelihood"] if isinstance(self.system, Translator) else []
        return own if self.likelihood_samples is None else [*own, "elbo", "marginal"]

    def outputs(self, sentences: Sentences) -> Iterator[Output]:
        """Translate with one setting after the other."""
        sources = sentences.sources or []
        for setting in self.settings:
            translations = run_setting(
                self.system, sources, sentences.references, setting, self.batch_size, self.seed
            )
            yield Output(
                setting,
                translations,
                is_default(self.system, setting),
                self._iterations(setting),
                self._likelihood(sources, self._ids(translations.traces)),
            )

    def facts(self, sentences: Sentences, outputs: Sequence[Output]) -> dict[str, Any]:
        """Return environment, checkpoint and examples."""
        system, config = self.system, self.system.model.config
        is_ours = isinstance(system, Translator)
        first = (sentences.sources or [])[:1]
        traces: list[TranslationTrace] = example_traces(outputs[-1].translations.traces)
        references: Any = outputs[-1].translations.reference_tokens
        rated = self._likelihood(sentences.sources or [], references)
        return {
            "environment": environment(system.model.device),
            "family": str(config.model_type),
            "is_autoregressive": not is_ours,
            "checkpoint": _identity(self.name),
            "ranking_teacher": None if self.rank_with is None else _identity(self.rank_with),
            "batch_size": self.batch_size,
            "dtype": str(system.model.dtype).removeprefix("torch."),
            "default_iterations": self._iterations(Setting("", {}, "")),
            "tokens": "subwords of the last draft" if is_ours else "subwords of the translation",
            "log_likelihood": WORD_LOG_PROB if is_ours else None,
            "likelihood": None
            if rated is None
            else {
                "definition": DEFINITION,
                "samples": self.likelihood_samples,
                "references": rated.as_row(),
            },
            "example": {"source": first[0], "translation": system.translate(first)[0]},
            "traces": traces,
        }

    def _iterations(self, setting: Setting) -> int | None:
        if not isinstance(self.system, Translator):
            return None
        return int(self.system.strategy(setting.knobs).iterations)

    def _likelihood(
        self, sources: Sequence[str], targets: Sequence[Sequence[int]]
    ) -> Likelihood | None:
        """Measure how likely targets are, ids of their tokens; None if it is not asked for."""
        if self.likelihood_samples is None or not isinstance(self.system, Translator):
            return None
        return measure_likelihood(
            self.system, sources, targets, self.likelihood_samples, self.batch_size, self.seed
        )

    def _ids(self, traces: Sequence[TranslationTrace]) -> list[list[int]]:
        """Return the ids of the tokens of translations."""
        ids: Any = self.system.tokenizer.convert_tokens_to_ids
        return [ids(trace.tokens) for trace in traces]


def _identity(name: str) -> dict[str, str | None]:
    """Return what identifies a folder or Hub id that was loaded."""
    return model_identity(name, None if Path(name).is_dir() else hub_commit(name, None))


@dataclass(frozen=True)
class FileCandidate:
    """Translations that another system made.

    Args:
        name: Their file.
        label: Name in tables.
        texts: The translations.
    """

    name: str
    label: str
    texts: list[str]

    @property
    def labels(self) -> list[str]:
        """The only label."""
        return [self.label]

    @property
    def likelihoods(self) -> list[str]:
        """None: there is no model."""
        return []

    def outputs(self, sentences: Sentences) -> Iterator[Output]:
        """Yield what is there."""
        translations = given_translations(self.texts, sentences.references)
        yield Output(Setting(self.label, {}, self.label), translations, False, None)

    def facts(self, sentences: Sentences, outputs: Sequence[Output]) -> dict[str, Any]:
        """Return the environment; there is no model to tell of."""
        source = sentences.sources[0] if sentences.sources else None
        unknown = ("family", "is_autoregressive", "checkpoint", "ranking_teacher", "batch_size")
        return {
            "environment": environment(torch.device("cpu")),
            **dict.fromkeys((*unknown, "dtype", "default_iterations")),
            **dict.fromkeys(("log_likelihood", "likelihood")),
            "tokens": "words by 13a",
            "example": {"source": source, "translation": self.texts[0]},
            "traces": [],
        }
