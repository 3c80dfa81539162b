"""The README.md of a model folder, written from its config, its recipe and its results."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_nar.cards.tables import hardware, latency_table, quality_table

RESULTS_FILE, TRAINING_FILE = "results.json", "training.json"

QUICKSTART = """\
```python
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True)
ids = model.generate(**tokenizer([{example!r}], return_tensors="pt"))
print(tokenizer.batch_decode(ids, skip_special_tokens=True))
# {printed}
```"""

DECODING = """\
```python
output = model.generate(
    **inputs,
    num_refinement_iterations=4,   # 0 decodes from the prior mean; more may be better, and slower
    collapse_repeats=True,         # drop a token that repeats the one before it
    max_length=64,                 # longest translation, in tokens
    return_dict_in_generate=True,
)
output.sequences, output.scores, output.lengths, output.iterations, output.history
```"""

CITATION = """\
```bibtex
@inproceedings{shu2020latent,
  title = {Latent-Variable Non-Autoregressive Neural Machine Translation with Deterministic
           Inference Using a Delta Posterior},
  author = {Shu, Raphael and Lee, Jason and Nakayama, Hideki and Cho, Kyunghyun},
  booktitle = {AAAI},
  year = {2020}
}
```"""


@dataclass(frozen=True)
class ModelFacts:
    """What a card is written from.

    Args:
        name: Name of the model folder.
        card: The recipe's `card` section: title, language, license, datasets and so on.
        training: What the run wrote.
        results: What `hf-nar evaluate` and `hf-nar latency` wrote.
    """

    name: str
    card: Mapping[str, Any]
    training: Mapping[str, Any]
    results: Mapping[str, Any]

    @classmethod
    def load(cls, folder: Path) -> ModelFacts:
        """Read a model folder.

        Raises:
            OSError: If a file is missing.
            ValueError: If a file is no JSON, or the recipe has no card section.
        """
        training, results = (_read(folder / name) for name in (TRAINING_FILE, RESULTS_FILE))
        card = training.get("recipe", {}).get("card") or {}
        missing = [key for key in ("title", "language", "license") if key not in card]
        if missing:
            raise ValueError(
                f"The recipe of {folder} must have `card.{missing[0]}`; add it and export again."
            )
        return cls(folder.resolve().name, card, training, results)


def render_card(facts: ModelFacts) -> str:
    """Return the card as Markdown with YAML metadata."""
    sections = (_summary, _quickstart, _quality, _speed, _trace, _decoding, _training, _limits)
    text = "\n\n".join(section(facts) for section in sections)
    return f"---\n{_metadata(facts)}\n---\n\n{text}\n\n## Citation\n\n{CITATION}\n"


def _read(file: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"A card is written from {file.name}, but {file} is not there. `hf-nar train` writes "
            f"{TRAINING_FILE}; `hf-nar evaluate` and `hf-nar latency` write {RESULTS_FILE}."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} must be JSON, but is not ({error}). Write it again.") from error
    return values


def _metadata(facts: ModelFacts) -> str:
    quality, card = facts.results["quality"], facts.card
    best = max(quality["rows"], key=lambda row: row["bleu"])
    result = EvalResult(
        task_type="translation",
        dataset_type=card.get("datasets", ["unknown"])[0],
        dataset_name=card.get("test_set", quality["source_file"]),
        metric_type="sacrebleu",
        metric_value=best["bleu"],
        metric_args={"signature": best["bleu_signature"]},
    )
    data = ModelCardData(
        language=card["language"],
        license=card["license"],
        license_name=card.get("license_name"),
        library_name="transformers",
        pipeline_tag="translation",
        tags=["translation", "non-autoregressive", "lanmt", "custom_code"],
        datasets=card.get("datasets"),
        metrics=["sacrebleu", "chrf"],
        model_name=facts.name,
        eval_results=[result],
    )
    return str(data.to_yaml()).strip()


def _summary(facts: ModelFacts) -> str:
    return f"# {facts.name}\n\n{facts.card['title']}\n\n{str(facts.card.get('about', '')).strip()}"


def _quickstart(facts: ModelFacts) -> str:
    trace = facts.results["quality"]["traces"][0]
    text = QUICKSTART.format(example=trace["source"], printed=[trace["translation"]])
    return f"## Use\n\nWith `transformers` and `torch` alone:\n\n{text}"


def _quality(facts: ModelFacts) -> str:
    quality = facts.results["quality"]
    row = quality["rows"][0]
    return (
        f"## Quality\n\n{facts.card.get('test_set', quality['source_file'])}, "
        f"{quality['sentences']} sentences.\n\n{quality_table(quality)}\n\n"
        f"BLEU: `{row['bleu_signature']}`. chrF: `{row['chrf_signature']}`. "
        f"Measured on {hardware(quality['environment'])}\n\n"
        f"```\n{quality['command']}\n```"
    )


def _speed(facts: ModelFacts) -> str:
    latency = facts.results["latency"]
    return (
        f"## Speed\n\nMedian time of one translation at batch size {latency['batch_size']}, "
        f"{latency['dtype']}, token ids in, token ids out, source and target of the same length, "
        f"every iteration run; beside it the arithmetic of its matrix products.\n\n"
        f"{latency_table(latency)}\n\nMeasured on {hardware(latency['environment'])} No comparison "
        f"with an autoregressive engine was made.\n\n```\n{latency['command']}\n```"
    )


def traces(facts: ModelFacts) -> str:
    """Return the drafts of a few sentences as a text block, with the words that changed marked."""
    lines = []
    for trace in facts.results["quality"]["traces"]:
        lines.append(f"source  {trace['source']}")
        before: list[str] = []
        for i, draft in enumerate(trace["drafts"]):
            words = draft.split()
            lines.append(f"draft {i} {_marked(before, words) if i else draft}")
            before = words
        lines.append("")
    return "```\n" + "\n".join(lines).rstrip() + "\n```"


def _marked(before: list[str], after: list[str]) -> str:
    """Return the words of `after`, those that a draft changed in brackets."""
    parts = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for kind, _, _, start, end in matcher.get_opcodes():
        if start < end:
            text = " ".join(after[start:end])
            parts.append(text if kind == "equal" else f"[{text}]")
    return " ".join(parts)


def _trace(facts: ModelFacts) -> str:
    return (
        "## Drafts\n\nThe first sentences of the test set that an iteration changed; what changed "
        f"is in brackets, repeated tokens are not yet dropped.\n\n{traces(facts)}"
    )


def _decoding(facts: ModelFacts) -> str:
    return f"## Decode differently\n\n{DECODING}"


def _training(facts: ModelFacts) -> str:
    training, card = facts.training, facts.card
    lines = [
        f"- Data: {card.get('training_data', ', '.join(card.get('datasets', [])))}",
        f"- {training['parameters'] / 1e6:.1f} million parameters, {training['steps']} steps, "
        f"{training['epochs']} epochs, {training['processes']} process(es) on "
        f"{training['device']}, {training['hours']} hours",
        f"- Validation BLEU of these weights: {training['validation_bleu']}, "
        f"{training['averaged_checkpoints']} checkpoint(s) averaged",
        f"- Command: `{training['command']}`",
    ]
    return "## Training\n\n" + "\n".join(lines)


def _limits(facts: ModelFacts) -> str:
    return f"## Limits and licence\n\n{str(facts.card.get('limits', '')).strip()}"
