"""How good captions are, where an image has one reference or several."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_nar.auto import hub_commit
from hf_nar.captioner import Captioner, CaptionTrace
from hf_nar.data.image_corpus import ImageCorpus
from hf_nar.evaluation.metrics import build_metric, check_counts
from hf_nar.evaluation.model_identity import model_identity
from hf_nar.evaluation.results import environment


@dataclass(frozen=True)
class CaptionScores:
    """Scores of captions against all references of their images.

    Args:
        bleu: sacreBLEU, cased, tokenised by 13a, 0 to 100.
        exact: Share of captions that are, but for spaces, one of their references.
        bleu_signature: How BLEU was computed.
    """

    bleu: float
    exact: float
    bleu_signature: str


def caption_scores(captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score captions.

    Args:
        captions: One for each image.
        references: Of each image, at least one.

    Raises:
        ValueError: If there are no captions, their number differs from that of the images, or an
            image has no reference.
    """
    check_counts(captions, references)
    for i, texts in enumerate(references):
        if not texts:
            raise ValueError(f"Each image must have a reference, but image {i} has none. Drop it.")
    metric = build_metric("bleu")
    # Columns of references; what an image lacks is None, as sacreBLEU wants it.
    columns: Any = [list(column) for column in itertools.zip_longest(*references)]
    value = metric.corpus_score(list(captions), columns).score
    pairs = zip(captions, references, strict=True)
    exact = sum(_plain(text) in map(_plain, texts) for text, texts in pairs)
    return CaptionScores(value, exact / len(captions), str(metric.get_signature()))


def _plain(text: str) -> str:
    return " ".join(text.split())


def evaluate_captioner(
    name: str,
    captioner: Captioner,
    corpus: ImageCorpus,
    iterations: Sequence[int],
    batch_size: int,
    show: Callable[[dict[str, Any]], None],
    num_examples: int = 4,
) -> dict[str, Any]:
    """Describe the images of a corpus with several numbers of iterations, and score it.

    Args:
        name: Folder or Hub id of the model.
        captioner: The model.
        corpus: Images with references.
        iterations: Refinement iterations; 0 is the first draft alone.
        batch_size: Images at once.
        show: Called with each row as soon as it is known.
        num_examples: Images, the first ones, of which the last row's drafts are kept.

    Returns:
        The part "captions" of a results file.

    Raises:
        OSError: If an image is not there.
        ValueError: If an image is broken, or `iterations` is empty or out of range.
    """
    if not iterations:
        raise ValueError("`iterations` must name a number of iterations, got none. Use 0,1,4.")
    network: Any = captioner.model
    default = int(network.resolve_knobs(captioner.generate_kwargs).num_refinement_iterations)
    for count in iterations:
        network.resolve_knobs({"num_refinement_iterations": count})
    rows, traces = [], list[CaptionTrace]()
    images: Any = corpus.rows["image"]  # a column, of which a batch is read at a time
    for count in iterations:
        started = time.perf_counter()
        traces = captioner.trace(images, batch_size, num_refinement_iterations=count)
        seconds = time.perf_counter() - started
        scores = caption_scores([trace.caption for trace in traces], corpus.captions)
        row = {
            "iterations": count,
            "is_default": count == default,
            "bleu": round(scores.bleu, 2),
            "exact": round(scores.exact, 4),
            "mean_iterations": round(sum(trace.iterations for trace in traces) / len(traces), 4),
            "seconds": round(seconds, 2),
            "bleu_signature": scores.bleu_signature,
        }
        show(row)
        rows.append(row)
    revision = None if Path(name).is_dir() else hub_commit(name, None)
    return {
        "images": len(corpus),
        "references": sum(map(len, corpus.captions)),
        "rows": rows,
        "environment": environment(captioner.model.device),
        "family": str(captioner.model.config.model_type),
        "checkpoint": model_identity(name, revision),
        "parameters": captioner.model.num_parameters(),
        "batch_size": batch_size,
        "dtype": str(captioner.model.dtype).removeprefix("torch."),
        "examples": [
            {
                "references": list(corpus.captions[i]),
                "caption": trace.caption,
                "drafts": trace.drafts,
                "iterations": trace.iterations,
            }
            for i, trace in enumerate(traces[:num_examples])
        ],
    }
