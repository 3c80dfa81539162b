"""One evaluation from the test set to the content of a results file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_nar.evaluation.candidates import Candidate, Output
from hf_nar.evaluation.comet import comet_score, find_comet
from hf_nar.evaluation.metrics import COMET, Score, score
from hf_nar.evaluation.quality import measure_quality
from hf_nar.evaluation.sentences import Sentences
from hf_nar.evaluation.significance import check_resampling, compare_systems


@dataclass(frozen=True)
class Evaluation:
    """What translations are measured by.

    Args:
        sentences: The test set.
        metrics: Names of the metrics.
        others: Translations of other systems by the name of their file.
        samples: Of the bootstrap.
        seed: Of the bootstrap.
        comet_model: For COMET.
        use_gpu: Whether COMET may use a GPU.

    Raises:
        ValueError: If a metric cannot be had, or a comparison cannot be made.
    """

    sentences: Sentences
    metrics: Sequence[str]
    others: Mapping[str, Sequence[str]]
    samples: int
    seed: int
    comet_model: str
    use_gpu: bool = False

    def __post_init__(self) -> None:
        check_resampling(self.samples, self.seed)
        if COMET in self.metrics:
            find_comet()
            if self.sentences.sources is None:
                raise ValueError("COMET looks at the source too. Give `--source-file`.")
        if self.others and not self.compared:
            raise ValueError(
                "`--against` compares by sacreBLEU's metrics, and `--metrics` has none of them. "
                "Add bleu or chrf; for COMET there is the program comet-compare."
            )

    @property
    def compared(self) -> list[str]:
        """The metrics that systems are compared by."""
        return [name for name in self.metrics if name != COMET]

    def scores(self, texts: Sequence[str]) -> dict[str, Score]:
        """Score translations by each metric."""
        references = self.sentences.references
        found = {}
        for name in self.metrics:
            if name == COMET:
                sources = self.sentences.sources or []
                found[name] = comet_score(
                    sources, texts, references, self.comet_model, self.use_gpu
                )
            else:
                found[name] = score(name, texts, references)
        return found

    def comparisons(self, label: str, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Compare translations with each other system by each metric."""
        references = self.sentences.references
        return [
            {
                "file": file,
                "label": label,
                **dataclasses.asdict(
                    compare_systems(name, texts, others, references, self.samples, self.seed)
                ),
            }
            for file, others in self.others.items()
            for name in self.compared
        ]


def run_evaluation(
    evaluation: Evaluation,
    candidate: Candidate,
    show: Callable[[dict[str, Any]], None],
    translations_folder: Path | None = None,
) -> dict[str, Any]:
    """Measure a model or a file by each of its settings.

    Args:
        evaluation: What to measure by.
        candidate: What to measure.
        show: Called with each row as soon as it is known.
        translations_folder: Where to write the translations by each setting; it is there.

    Returns:
        The part "quality" of a results file.

    Raises:
        OSError: If a file cannot be written, or COMET fails.
        ValueError: If a source is too long for the model.
    """
    rows, against, outputs = [], [], []
    for output in candidate.outputs(evaluation.sentences):
        texts = output.translations.texts
        row = _row(output, evaluation)
        if translations_folder:
            file = translations_folder / f"{output.setting.file_stem}.txt"
            file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        show(row)
        rows.append(row)
        against += evaluation.comparisons(output.setting.label, texts)
        outputs = [output]  # the drafts of earlier ones would fill the memory
    facts = candidate.facts(evaluation.sentences, outputs)
    traces = [dataclasses.asdict(trace) for trace in facts.pop("traces")]
    return {
        "sentences": len(evaluation.sentences.references),
        "rows": rows,
        "against": against,
        "bootstrap_samples": evaluation.samples if against else None,
        "seed": evaluation.seed,
        **facts,
        "traces": traces,
    }


def _row(output: Output, evaluation: Evaluation) -> dict[str, Any]:
    translations, references = output.translations, evaluation.sentences.references
    scores = evaluation.scores(translations.texts)
    quality = measure_quality(output.setting, translations, references, scores, output.is_default)
    row = quality.as_row(output.iterations)
    return row if output.likelihood is None else {**row, **output.likelihood.as_row()}
