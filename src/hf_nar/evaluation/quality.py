"""How good translations are."""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from hf_nar.inference import TranslationTrace, Translator


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


@dataclass(frozen=True)
class Quality:
    """Quality of one decoding setting on one test set.

    Args:
        iterations: Refinement iterations allowed.
        mean_iterations: Iterations used, mean over sentences.
        bleu: See `CorpusScores`, as `chrf`, the signatures and `length_ratio`.
        chrf: See `CorpusScores`.
        length_ratio: See `CorpusScores`.
        exact_length_share: Share of sentences whose last draft has as many subwords as the
            reference.
        repetition_share: Share of tokens in the last drafts that equal the token before them;
            `collapse_repeats` removes these.
        seconds: For all sentences, from text to text.
        bleu_signature: See `CorpusScores`.
        chrf_signature: See `CorpusScores`.
    """

    iterations: int
    mean_iterations: float
    bleu: float
    chrf: float
    length_ratio: float
    exact_length_share: float
    repetition_share: float
    seconds: float
    bleu_signature: str
    chrf_signature: str


def measure_quality(
    translator: Translator,
    sources: Sequence[str],
    references: Sequence[str],
    iterations: int,
    batch_size: int,
) -> tuple[Quality, list[TranslationTrace]]:
    """Translate a test set and score it.

    Args:
        translator: The model with its tokenizer.
        sources: Raw sentences.
        references: One for each source.
        iterations: Refinement iterations.
        batch_size: Sentences at once.

    Returns:
        The figures, and the translations with their drafts in the order of the sources.

    Raises:
        ValueError: If the numbers of sources and references differ, or a source is too long.
    """
    start = time.perf_counter()
    traces = translator.trace(sources, batch_size=batch_size, num_refinement_iterations=iterations)
    seconds = time.perf_counter() - start
    texts = [trace.translation for trace in traces]
    scores = corpus_scores(texts, references)
    drafts = [trace.drafts[-1] for trace in traces]  # without the end token
    repeats = sum(sum(map(operator.eq, draft, draft[1:])) for draft in drafts)
    lengths = [len(ids) - 1 for ids in translator.tokenizer(list(references))["input_ids"]]
    right = sum(len(draft) == length for draft, length in zip(drafts, lengths, strict=True))
    quality = Quality(
        iterations=iterations,
        mean_iterations=sum(trace.iterations for trace in traces) / len(traces),
        bleu=round(scores.bleu, 2),
        chrf=round(scores.chrf, 2),
        length_ratio=round(scores.length_ratio, 4),
        exact_length_share=round(right / len(drafts), 4),
        repetition_share=round(repeats / max(sum(map(len, drafts)), 1), 4),
        seconds=round(seconds, 2),
        bleu_signature=scores.bleu_signature,
        chrf_signature=scores.chrf_signature,
    )
    return quality, traces


def example_traces(traces: Sequence[TranslationTrace], count: int = 3) -> list[TranslationTrace]:
    """Return the first `count` traces that an iteration changed.

    They are the first ones and not chosen by hand, so that they show what is usual.
    """
    changed = (trace for trace in traces if trace.drafts[0] != trace.drafts[-1])
    return list(islice(changed, count))
