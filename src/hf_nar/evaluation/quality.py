"""How good translations are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF


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
    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(
            f"There must be one translation for each reference and at least one, got "
            f"{len(hypotheses)} translations and {len(references)} references."
        )
    bleu, chrf = BLEU(tokenize="13a"), CHRF()
    bleu_score = bleu.corpus_score(list(hypotheses), [list(references)])
    chrf_score = chrf.corpus_score(list(hypotheses), [list(references)])
    return CorpusScores(
        bleu=bleu_score.score,
        chrf=chrf_score.score,
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
        length_ratio=bleu_score.sys_len / max(bleu_score.ref_len, 1),
    )
