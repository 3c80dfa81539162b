"""Metrics of translations: which there are, and their scores with signatures."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from hf_nar.evaluation.exact_match import ExactMatch

COMET = "comet"
COLUMNS = {
    "bleu": "BLEU",
    "chrf": "chrF",
    "ter": "TER",
    "bleu-tokenised": "BLEU (tokenised, not comparable)",
    "exact": "exact",
    COMET: "COMET",
}
# sacreBLEU's own settings, so that its signatures say everything. `tokenize="none"` counts words as
# the texts' spaces part them, which is what papers on tokenised text report; `force` keeps
# sacreBLEU from warning of just that.
_METRICS: dict[str, tuple[type[Metric], dict[str, Any]]] = {
    "bleu": (BLEU, {"tokenize": "13a"}),
    "chrf": (CHRF, {}),
    "ter": (TER, {}),
    "bleu-tokenised": (BLEU, {"tokenize": "none", "force": True}),
    "exact": (ExactMatch, {}),
}
_TOKENIZE: Any = cast(Any, Tokenizer13a)()  # the library gives it no types


@dataclass(frozen=True)
class Score:
    """One metric of one set of translations.

    Args:
        value: As its column shows it: 0 to 100, COMET about 0 to 1. Higher is better but for TER.
        signature: How it was computed, in the words of the library that did.
    """

    value: float
    signature: str


def parse_metrics(text: str) -> list[str]:
    """Return the metrics of an option such as `bleu,chrf`, in order, each once.

    Raises:
        ValueError: If one is unknown.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in COLUMNS:
            close = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.0)
            raise ValueError(
                f"A metric must be one of {', '.join(COLUMNS)}; got {name!r}. Did you mean "
                f"{close[0]}?"
            )
    return list(dict.fromkeys(names))


def build_metric(name: str) -> Metric:
    """Return sacreBLEU's metric of a name in `COLUMNS`, COMET apart."""
    kind, options = _METRICS[name]
    return kind(**options)


def score(name: str, hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Score translations by a metric of sacreBLEU.

    Args:
        name: Of the metric.
        hypotheses: Translations.
        references: One for each translation.

    Raises:
        ValueError: If there are none, or their number differs from that of the references.
    """
    check_counts(hypotheses, references)
    metric = build_metric(name)
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    return Score(value, str(metric.get_signature()))


def length_ratio(hypotheses: Sequence[str], references: Sequence[str]) -> float:
    """Return the words of all translations over those of all references, as BLEU counts them."""
    return _count_words(hypotheses) / max(_count_words(references), 1)


def words(text: str) -> list[str]:
    """Return the words and signs of a text by sacreBLEU's tokenizer 13a."""
    return str(_TOKENIZE(text.rstrip())).split()


def _count_words(texts: Sequence[str]) -> int:
    return sum(len(words(text)) for text in texts)


def check_counts(hypotheses: Sequence[str], references: Sequence[object]) -> None:
    """Check that there is one translation for each reference.

    Raises:
        ValueError: If there is not, or there are none at all.
    """
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"There must be one translation for each reference and at least one, got "
            f"{len(hypotheses)} translations and {len(references)} references."
        )
