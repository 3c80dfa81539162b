"""The README.md of a model folder, written from its config, its recipe and its results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_nar.cards.families import FAMILIES, LATENT_REFINEMENT, Family
from hf_nar.cards.tables import hardware, latency_table, quality_table, speed_table
from hf_nar.evaluation.model_identity import weights_digest
from hf_nar.evaluation.traces import format_trace
from hf_nar.inference import TranslationTrace

RESULTS_FILE, TRAINING_FILE = "results.json", "training.json"
# Sections of a results file, each with the command that writes it; a teacher needs the first only.
NEEDED_SECTIONS = {"quality": "evaluate", "latency": "latency", "benchmark": "benchmark"}

QUICKSTART = """\
```python
from transformers import AutoModel, AutoTokenizer

folder = "{folder}"  # or its id on the Hub
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype="float32")
sentences = [{example}]
ids = model.generate(**tokenizer(sentences, return_tensors="pt"))
print(tokenizer.batch_decode(ids, skip_special_tokens=True))
# {printed}
```"""

TEACHER_QUICKSTART = """\
```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

folder = "{folder}"  # or its id on the Hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype="float32")
sentences = [{example}]
ids = model.generate(**tokenizer(sentences, return_tensors="pt"))
print(tokenizer.batch_decode(ids, skip_special_tokens=True))
# {printed}
```"""


@dataclass(frozen=True)
class ModelFacts:
    """What a card is written from.

    Args:
        name: Name of the model folder.
        path: The model folder, from where the card is made if it lies below.
        card: The recipe's `card` section: title, language, license, datasets and so on.
        training: What the run wrote.
        results: What `hf-nar evaluate`, `hf-nar latency` and `hf-nar benchmark` wrote.
    """

    name: str
    path: str
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
        training, results = (read_json(folder / name) for name in (TRAINING_FILE, RESULTS_FILE))
        card = training.get("recipe", {}).get("card") or {}
        missing = [key for key in ("title", "language", "license") if key not in card]
        if missing:
            raise ValueError(
                f"The recipe of {folder} must have `card.{missing[0]}`; add it and export again."
            )
        digest = weights_digest(folder)
        for section, command in NEEDED_SECTIONS.items():
            if section not in results:
                if section == "quality" or not results["quality"].get("is_autoregressive"):
                    raise ValueError(
                        f'{folder / RESULTS_FILE} must hold "{section}", but does not. Measure it '
                        f"with `hf-nar {command} --output`."
                    )
            elif results[section].get("weights_sha256") != digest:
                raise ValueError(
                    f"{folder / RESULTS_FILE} must hold figures of the weights beside it, but its "
                    f'"{section}" is not of these. Measure again with `hf-nar {command}`.'
                )
        path, here = folder.resolve(), Path.cwd()
        shown = path.relative_to(here) if path.is_relative_to(here) else Path(path.name)
        return cls(path.name, shown.as_posix(), card, training, results)

    @property
    def is_teacher(self) -> bool:
        """Whether the model is autoregressive, and its network one of transformers."""
        return bool(self.results["quality"].get("is_autoregressive"))

    @property
    def family(self) -> Family:
        """What a card says of the model's family; the model is no teacher.

        Raises:
            ValueError: If the results are of no family of this package.
        """
        name = self.results["quality"].get("family")
        if name not in FAMILIES:
            raise ValueError(
                f"The results of {self.name} must name its family, one of {', '.join(FAMILIES)}; "
                f"got {name!r}. Measure again with `hf-nar evaluate`."
            )
        recipe = self.training.get("recipe", {})
        return LATENT_REFINEMENT if recipe.get("stage", "model") != "model" else FAMILIES[name]

    @property
    def tags(self) -> list[str]:
        """Tags of the card beside its task."""
        if self.is_teacher:
            return ["teacher"]
        return ["non-autoregressive", str(self.results["quality"]["family"]), "custom_code"]

    @property
    def default_quality(self) -> Mapping[str, Any]:
        """The figures of the decoding that the model has as its default.

        Raises:
            ValueError: If it was not measured.
        """
        for row in self.results["quality"]["rows"]:
            if row.get("is_default"):
                default: Mapping[str, Any] = row
                return default
        raise ValueError(
            f"The results of {self.name} must have the decoding that the model has as its own. "
            f"Measure it with `hf-nar evaluate`, with its `--iterations` or `--beams`."
        )


def render_card(facts: ModelFacts) -> str:
    """Return the card as Markdown with YAML metadata."""
    ours = (_summary, _quickstart, _quality, _speed, _trace, _decoding, _training, _limits)
    sections = (_summary, _quickstart, _quality, _training, _limits) if facts.is_teacher else ours
    text = "\n\n".join(section(facts) for section in sections)
    usual = "" if facts.is_teacher else facts.family.citation
    citation = facts.card.get("citation", usual)
    ending = f"\n\n## Citation\n\n```bibtex\n{citation.strip()}\n```" if citation else ""
    return f"---\n{_metadata(facts)}\n---\n\n{text}{ending}\n"


def read_json(file: Path) -> dict[str, Any]:
    """Return what a command wrote.

    Raises:
        OSError: If the file is missing.
        ValueError: If it is no JSON.
    """
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
    quality, card, default = facts.results["quality"], facts.card, facts.default_quality
    result = EvalResult(
        task_type="translation",
        dataset_type=card.get("datasets", ["unknown"])[0],
        dataset_name=card.get("test_set", quality["source_file"]),
        metric_type="sacrebleu",
        metric_value=default["bleu"],
        metric_args={"signature": default["bleu_signature"]},
    )
    data = ModelCardData(
        language=card["language"],
        license=card["license"],
        license_name=card.get("license_name"),
        library_name="transformers",
        pipeline_tag="translation",
        tags=["translation", *facts.tags],
        datasets=card.get("datasets"),
        metrics=["sacrebleu", "chrf"],
        model_name=facts.name,
        eval_results=[result],
    )
    return str(data.to_yaml()).strip()


def _summary(facts: ModelFacts) -> str:
    return f"# {facts.name}\n\n{facts.card['title']}\n\n{str(facts.card.get('about', '')).strip()}"


def _quickstart(facts: ModelFacts) -> str:
    example = facts.results["quality"]["example"]
    text = (TEACHER_QUICKSTART if facts.is_teacher else QUICKSTART).format(
        folder=facts.path,
        example=json.dumps(example["source"], ensure_ascii=False),
        printed=[example["translation"]],
    )
    return f"## Use\n\nWith `transformers` and `torch` alone:\n\n{text}"


def _quality(facts: ModelFacts) -> str:
    quality = facts.results["quality"]
    row = quality["rows"][0]
    dropped = "" if facts.is_teacher else ", repeated tokens dropped"
    return (
        f"## Quality\n\n{facts.card.get('test_set', quality['source_file'])}, "
        f"{quality['sentences']} sentences, {quality['dtype']}{dropped}. The model's own decoding "
        f"is in bold.\n\n"
        f"{quality_table(quality)}\n\n{_terms(quality)}"
        f"BLEU: `{row['bleu_signature']}`. chrF: `{row['chrf_signature']}`. "
        f"Measured on {hardware(quality['environment'])}\n\n"
        f"```\n{quality['command']}\n```"
    )


def _terms(quality: Mapping[str, Any]) -> str:
    """Return what the words in the table's first column mean, as a paragraph; "" if all are plain.

    They are those of `readable_label`.
    """
    knobs = [row.get("setting", {}) for row in quality["rows"]]
    terms = []
    if any(values.get("stop_early") is False for values in knobs):
        terms.append(
            "Fixed: every sentence gets all iterations; otherwise it is finished when its draft "
            "repeats."
        )
    if any(values.get("jaccard_threshold") for values in knobs):
        terms.append(
            "Jaccard: it is finished, too, when the Jaccard distance between the tokens of its "
            "draft and of the draft before is below this."
        )
    if any("patience" in values for values in knobs):
        terms.append(
            "Patience: its draft must repeat so many times in a row; elsewhere as often as "
            "`generation_config.json` says."
        )
    refinements = {values.get("refinement") for values in knobs}
    if refinements & {"score", "energy"}:
        terms.append(
            "Prior mean: no iteration. Delta: each moves the latents to their posterior mean given "
            "the draft. Score, energy: each moves them by a step of that network; words are "
            "decoded once, at the end."
        )
    if any(values.get("num_latents", 1) > 1 for values in knobs):
        terms.append(
            "Latents: each length starts with so many, the prior mean and samples around it."
        )
    if any(values.get("length_beam", 1) > 1 for values in knobs):
        terms.append(
            "Lengths: so many of the most likely lengths are decoded side by side, and the best "
            "translation is kept, by the model's own score or by a teacher's."
        )
    teacher = quality.get("ranking_teacher")
    if teacher and teacher.get("weights_sha256"):
        terms.append(f"SHA-256 of that teacher's weights: `{teacher['weights_sha256']}`.")
    return f"{' '.join(terms)}\n\n" if terms else ""


def _speed(facts: ModelFacts) -> str:
    latency, benchmark = facts.results["latency"], facts.results["benchmark"]
    return (
        f"## Speed\n\nAgainst its teacher, in one run, all systems in turn, text in, text out, on "
        f"{benchmark['source']}:\n\n{speed_table(benchmark)}\n\n"
        f"Measured on {hardware(benchmark['environment'], 'ctranslate2')}\n\n"
        f"```\n{benchmark['command']}\n```\n\n"
        f"Median time of one translation at batch size {latency['batch_size']}, "
        f"{latency['dtype']}, token ids in, token ids out, source and target of the same length, "
        f"every iteration run; beside it the arithmetic of its matrix products.\n\n"
        f"{latency_table(latency)}\n\nMeasured on {hardware(latency['environment'])}\n\n"
        f"```\n{latency['command']}\n```"
    )


def traces(facts: ModelFacts) -> str:
    """Return the drafts of a few sentences as a text block, with what changed in brackets."""
    examples = (TranslationTrace(**trace) for trace in facts.results["quality"]["traces"])
    text = "\n".join(format_trace(example, colour=False) for example in examples)
    return f"```\n{text.rstrip()}\n```"


def _trace(facts: ModelFacts) -> str:
    most = facts.results["quality"]["rows"][-1]["iterations"]
    return (
        f"## Drafts\n\nThe first sentences of the test set that one of {most} iterations changed; "
        f"what changed is in brackets, repeated tokens are not yet dropped.\n\n{traces(facts)}"
    )


def _decoding(facts: ModelFacts) -> str:
    return f"## Decode differently\n\n{facts.family.decoding}"


def _training(facts: ModelFacts) -> str:
    training, card = facts.training, facts.card
    lines = [
        f"- Data: {card.get('training_data', ', '.join(card.get('datasets', [])))}",
        f"- {training['parameters'] / 1e6:.1f} million parameters, {training['steps']} steps, "
        f"{training['epochs']} epochs, {training['processes']} process(es) on "
        f"{training['device']}, {training['hours']} hours",
        f"- Validation BLEU{' (greedy)' if facts.is_teacher else ''} before the weights were "
        f"rounded to {training['dtype']}: {training['validation_bleu']}; {_origin(training)}",
        f"- Command: `{training['command']}`",
    ]
    return "## Training\n\n" + "\n".join(lines)


def _origin(training: Mapping[str, Any]) -> str:
    if training["averaged_checkpoints"] > 1:
        return f"they are the mean of the last {training['averaged_checkpoints']} checkpoints"
    return f"they are those of step {training['best_step']}, the best on the validation set"


def _limits(facts: ModelFacts) -> str:
    return f"## Limits and licence\n\n{str(facts.card.get('limits', '')).strip()}"
