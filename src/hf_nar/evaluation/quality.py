"""How good translations are."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from hf_nar.evaluation.metrics import Score, check_counts, length_ratio, score
from hf_nar.evaluation.settings import Setting
from hf_nar.evaluation.systems import Translations
from hf_nar.inference import TranslationTrace

DECIMALS = {"comet": 4}  # 2 for all that end at 100


@dataclass(frozen=True)
class CorpusScores:
    """Scores of a set of translations against one reference each.

    Args:
        bleu: sacreBLEU, cased, tokenised by 13a, 0 to 100.
        chrf: chrF2, 0 to 100.
        bleu_signature: How BLEU was computed.
        chrf_signature: How chrF was computed.
        length_ratio: Tokens of all translations over tokens of all references, by 13a.
    """

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str
    length_ratio: float


def corpus_scores(hypotheses: Sequence[str], references: Sequence[str]) -> CorpusScores:
    """Score translations.

    Raises:
        ValueError: If there are none, or their number differs from that of the references.
    """
    bleu, chrf = (score(name, hypotheses, references) for name in ("bleu", "chrf"))
    return CorpusScores(
        bleu=bleu.value,
        chrf=chrf.value,
        bleu_signature=bleu.signature,
        chrf_signature=chrf.signature,
        length_ratio=length_ratio(hypotheses, references),
    )


@dataclass(frozen=True)
class Quality:
    """Quality of one decoding setting on one test set.

    Args:
        setting: How was translated.
        is_default: Whether that is what the model does when it is told nothing.
        scores: By the name of the metric.
        length_ratio: Words of all translations over words of all references, by 13a.
        exact_length_share: Share of sentences with as many tokens as the reference; which tokens,
            `run_setting` and `given_translations` say.
        repetition_share: Share of tokens that equal the token before them. For a
            non-autoregressive model, `collapse_repeats` removes these afterwards.
        mean_iterations: Iterations used, mean over sentences; None if there is no such thing.
        seconds: For all sentences, from text to text; None if it is not known.
        log_likelihood: Of the words of a translation, by the model itself; see `word_log_prob`.
            None if it is not known.
    """

    setting: Setting
    is_default: bool
    scores: Mapping[str, Score]
    length_ratio: float
    exact_length_share: float
    repetition_share: float
    mean_iterations: float | None
    seconds: float | None
    log_likelihood: float | None = None

    def as_row(self, iterations: int | None) -> dict[str, Any]:
        """Return a row of a results file, figures rounded.

        Args:
            iterations: Refinement iterations allowed; None for an autoregressive model.
        """
        row: dict[str, Any] = {
            "label": self.setting.label,
            "setting": dict(self.setting.knobs),
            "is_default": self.is_default,
            "iterations": iterations,
            "mean_iterations": self.mean_iterations,
        }
        for name, found in self.scores.items():
            row[name.replace("-", "_")] = round(found.value, DECIMALS.get(name, 2))
        row["length_ratio"] = round(self.length_ratio, 4)
        row["exact_length_share"] = round(self.exact_length_share, 4)
        row["repetition_share"] = round(self.repetition_share, 4)
        if self.log_likelihood is not None:
            row["log_likelihood"] = round(self.log_likelihood, 4)
        row["seconds"] = None if self.seconds is None else round(self.seconds, 2)
        for name, found in self.scores.items():
            row[f"{name.replace('-', '_')}_signature"] = found.signature
        return row


def measure_quality(
    setting: Setting,
    translations: Translations,
    references: Sequence[str],
    scores: Mapping[str, Score],
    is_default: bool = False,
) -> Quality:
    """Measure what a metric does not: lengths, repetition, iterations.

    Args:
        setting: How was translated.
        translations: The translations with their tokens.
        references: One for each translation.
        scores: By the name of the metric.
        is_default: Whether the setting is the model's own.

    Raises:
        ValueError: If the numbers of translations and references differ, or are 0.
    """
    check_counts(translations.texts, references)
    used = translations.iterations
    return Quality(
        setting=setting,
        is_default=is_default,
        scores=scores,
        length_ratio=length_ratio(translations.texts, references),
        exact_length_share=exact_length_share(translations.tokens, translations.reference_tokens),
        repetition_share=repetition_share(translations.tokens),
        mean_iterations=None if used is None else sum(used) / len(used),
        seconds=translations.seconds,
        log_likelihood=translations.log_likelihood,
    )


def repetition_share(sentences: Sequence[Sequence[Hashable]]) -> float:
    """Return the share of all tokens that equal the token before them in their sentence."""
    repeats = sum(sum(map(operator.eq, tokens, tokens[1:])) for tokens in sentences)
    return repeats / max(sum(map(len, sentences)), 1)


def exact_length_share(
    sentences: Sequence[Sequence[Hashable]], references: Sequence[Sequence[Hashable]]
) -> float:
    """Return the share of sentences that have as many tokens as their reference."""
    pairs = zip(sentences, references, strict=True)
    return sum(len(tokens) == len(right) for tokens, right in pairs) / max(len(sentences), 1)


def example_traces(traces: Sequence[TranslationTrace], count: int = 3) -> list[TranslationTrace]:
    """Return the first `count` traces that an iteration changed.

    They are the first ones and not chosen by hand, so that they show what is usual.
    """
    changed = (trace for trace in traces if trace.drafts[0] != trace.drafts[-1])
    return list(islice(changed, count))
