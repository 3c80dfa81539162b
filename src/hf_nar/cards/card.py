"""The README.md of a trained model's folder, written from its recipe and its results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_nar.cards.facts import ModelFacts, common_metadata
from hf_nar.cards.files import as_list
from hf_nar.cards.markdown import code_span, fenced, inline, prose
from hf_nar.cards.papers import CANDIDATES, STRATEGIES, bibtex
from hf_nar.cards.tables import hardware, latency_table, quality_table, speed_table
from hf_nar.cards.unsuited import unsuited
from hf_nar.evaluation.traces import format_trace
from hf_nar.inference import TranslationTrace

QUICKSTART = """\
from transformers import {auto_class}, AutoTokenizer

folder = {folder}  # or its id on the Hub; then pin a revision, too
tokenizer = AutoTokenizer.from_pretrained(folder{trust})
model = {auto_class}.from_pretrained(folder{trust}, dtype="float32")
ids = model.generate(**tokenizer([{example}], return_tensors="pt"))
print(tokenizer.batch_decode(ids, skip_special_tokens=True))
# {printed}"""

PIPELINE = """\
from transformers import pipeline

translator = pipeline("translation", model=folder, trust_remote_code=True, dtype="float32")
print(translator({example}))
# {printed}"""
TRUST = ", trust_remote_code=True"
VERSIONS = ("hf-nar", "torch", "transformers", "tokenizers", "sacrebleu", "ctranslate2", "python")


def render_card(facts: ModelFacts) -> str:
    """Return the card as Markdown with YAML metadata."""
    ours = [] if facts.is_teacher else [_speed, _trace, _decoding]
    ending = [_training, _reported, _limits, _not_for, _versions, _citation]
    texts = (section(facts) for section in [_summary, _quickstart, _quality, *ours, *ending])
    return f"---\n{_metadata(facts)}\n---\n\n" + "\n\n".join(filter(None, texts)) + "\n"


def _metadata(facts: ModelFacts) -> str:
    quality, card, default = facts.results["quality"], facts.card, facts.default_quality
    datasets = card.get("datasets")
    result = EvalResult(
        task_type="translation",
        dataset_type=as_list(datasets)[0] if datasets else "unknown",
        dataset_name=card.get("test_set", quality["source_file"]),
        metric_type="sacrebleu",
        metric_value=default["bleu"],
        metric_args={"signature": default["bleu_signature"]},
    )
    data = ModelCardData(
        **common_metadata(card),
        pipeline_tag="translation",
        tags=["translation", *facts.tags],
        base_model=card.get("base_model"),
        datasets=datasets,
        metrics=["sacrebleu", "chrf"],
        model_name=facts.name,
        eval_results=[result],
    )
    return str(data.to_yaml()).strip()


def _summary(facts: ModelFacts) -> str:
    parts = [f"# {inline(facts.name)}", prose(facts.card["title"])]
    return "\n\n".join(filter(None, [*parts, prose(str(facts.card.get("about", "")))]))


def _quickstart(facts: ModelFacts) -> str:
    example = facts.results["quality"]["example"]
    sentence = json.dumps(example["source"], ensure_ascii=False)
    code = QUICKSTART.format(
        auto_class="AutoModelForSeq2SeqLM" if facts.is_teacher else "AutoModel",
        folder=json.dumps(facts.path, ensure_ascii=False),
        trust="" if facts.is_teacher else TRUST,
        example=sentence,
        printed=[example["translation"]],
    )
    text = f"## Use\n\nWith `transformers` and `torch` alone:\n\n{fenced(code, 'python')}"
    if "translation" not in facts.config.get("custom_pipelines", {}):
        return text
    printed = [{"translation_text": example["translation"]}]
    code = PIPELINE.format(example=sentence, printed=printed)
    return (
        f"{text}\n\nOr with the pipeline that transformers had before version 5, and that the "
        f"model brings along:\n\n{fenced(code, 'python')}"
    )


def _quality(facts: ModelFacts) -> str:
    quality = facts.results["quality"]
    row = quality["rows"][0]
    dropped = "" if facts.is_teacher else ", repeated tokens dropped"
    chrf = f" chrF: {code_span(row['chrf_signature'])}." if "chrf_signature" in row else ""
    return (
        f"## Quality\n\n{_test_set(facts)}, {quality['sentences']} sentences, "
        f"{quality['dtype']}{dropped}. The model's own decoding is in bold.\n\n"
        f"{quality_table(quality)}\n\n{_terms(quality)}"
        f"BLEU: {code_span(row['bleu_signature'])}.{chrf} "
        f"Measured on {hardware(quality['environment'])}\n\n{fenced(quality['command'])}"
    )


def _test_set(facts: ModelFacts) -> str:
    return inline(str(facts.card.get("test_set", facts.results["quality"]["source_file"])))


def _terms(quality: Mapping[str, Any]) -> str:
    """Return what the words in the table's first column mean, as a paragraph; "" if all are plain.

    They are those of `readable_label`.
    """
    knobs = [row.get("setting", {}) for row in quality["rows"]]
    terms = _stopping_terms(knobs)
    refinements = {values.get("refinement") for values in knobs}
    if refinements & {"score", "energy"}:
        terms.append(
            "Prior mean: no iteration. Delta: each moves the latents to their posterior mean given "
            "the draft. Score, energy: each moves them by a step of that network; words are "
            "decoded at the end."
        )
    if any("likelihood_steps" in values for values in knobs):
        terms.append(
            "Likelihood steps: after these, so many steps up the likelihood of the draft itself, "
            "each of which decodes it once; where a row of score does not say, as many as the "
            "model's generation_config.json has."
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
    if any(values.get("ranking_length_penalty", 1) != 1 for values in knobs):
        terms.append(
            "Length penalty: for that score the summed log probability is divided by the length to "
            "this power; otherwise by the length."
        )
    teacher = quality.get("ranking_teacher")
    if teacher and teacher.get("weights_sha256"):
        terms.append(f"SHA-256 of that teacher's weights: `{teacher['weights_sha256']}`.")
    return f"{' '.join(terms)}\n\n" if terms else ""


def _stopping_terms(knobs: Sequence[Mapping[str, Any]]) -> list[str]:
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
    return terms


def _speed(facts: ModelFacts) -> str:
    latency, benchmark = facts.results["latency"], facts.results["benchmark"]
    return (
        f"## Speed\n\nAgainst its teacher, in one run, all systems in turn, text in, text out, on "
        f"{inline(str(benchmark['source']))}:\n\n{speed_table(benchmark)}\n\n"
        f"Measured on {hardware(benchmark['environment'], 'ctranslate2')}\n\n"
        f"{fenced(benchmark['command'])}\n\n"
        f"Median time of one translation at batch size {latency['batch_size']}, "
        f"{latency['dtype']}, token ids in, token ids out, source and target of the same length, "
        f"every iteration run; beside it the arithmetic of its matrix products.\n\n"
        f"{latency_table(latency)}\n\nMeasured on {hardware(latency['environment'])}\n\n"
        f"{fenced(latency['command'])}"
    )


def traces(facts: ModelFacts) -> str:
    """Return the drafts of a few sentences as a text block, with what changed in brackets."""
    examples = (TranslationTrace(**trace) for trace in facts.results["quality"]["traces"])
    return fenced("\n".join(format_trace(example, colour=False) for example in examples))


def _trace(facts: ModelFacts) -> str:
    quality = facts.results["quality"]
    if not quality["traces"]:
        return ""
    return (
        f"## Drafts\n\nThe first sentences of the test set that one of "
        f"{quality['rows'][-1]['iterations']} iterations changed; what changed is in brackets, "
        f"repeated tokens are not yet dropped.\n\n{traces(facts)}"
    )


def _decoding(facts: ModelFacts) -> str:
    code = facts.family.decoding(facts.results["quality"]["example"]["source"])
    return f"## Decode differently\n\n{fenced(code, 'python')}"


def _training(facts: ModelFacts) -> str:
    training, card = facts.training, facts.card
    processes = training["processes"]
    data = card.get("training_data") or ", ".join(as_list(card.get("datasets", [])))
    lines = [
        *([f"Data: {prose(data)}"] if data else []),
        *([f"Teacher: {_teacher(facts)}"] if facts.teacher and not facts.is_teacher else []),
        f"{training['parameters'] / 1e6:.1f} million parameters, {training['steps']} steps, "
        f"{training['epochs']} epochs, {processes} process{'es' * (processes > 1)} on "
        f"{training['device']}, {training['hours']} hours",
        f"Validation BLEU{' (greedy)' if facts.is_teacher else ''} before the weights were "
        f"rounded to {training['dtype']}: {training['validation_bleu']}; {_origin(training)}",
        f"Command: {code_span(training['command'])}",
    ]
    return "## Training\n\n" + "\n".join(f"- {line}" for line in lines)


def _teacher(facts: ModelFacts) -> str:
    base_model = facts.card.get("base_model")
    if base_model:
        return f"[{inline(base_model)}](https://huggingface.co/{base_model})"
    return inline(str(facts.teacher))


def _origin(training: Mapping[str, Any]) -> str:
    if training["averaged_checkpoints"] > 1:
        return f"they are the mean of the last {training['averaged_checkpoints']} checkpoints"
    if training["best_step"] is None:
        return "they are those of the last step"
    return f"they are those of step {training['best_step']}, the best on the validation set"


def _reported(facts: ModelFacts) -> str:
    return facts.reported.section() if facts.reported else ""


def _limits(facts: ModelFacts) -> str:
    text = prose(str(facts.card.get("limits", "")))
    return f"## Limits and licence\n\n{text}" if text else ""


def _not_for(facts: ModelFacts) -> str:
    lines = [*map(prose, map(str, as_list(facts.card.get("not_for", [])))), *unsuited(facts)]
    return "## When not to use it\n\n" + "\n".join(f"- {line}" for line in lines)


def _versions(facts: ModelFacts) -> str:
    quality = facts.results["quality"]
    measured = [
        f"{name} {quality['environment'][name]}"
        for name in VERSIONS
        if name in quality["environment"]
    ]
    return (
        f"## Versions\n\n"
        f"- Trained with torch {inline(str(facts.training['torch']))}, saved by transformers "
        f"{inline(str(facts.config.get('transformers_version', 'of an unknown version')))}\n"
        f"- Measured with {inline(', '.join(measured))}\n"
        f"- SHA-256 of the weights: {code_span(str(quality['weights_sha256']))}"
    )


def _citation(facts: ModelFacts) -> str:
    text = str(facts.card.get("citation", "")).strip()
    if not text and not facts.is_teacher:
        text = bibtex([*facts.family.papers, *_strategy_papers(facts.settings)])
    return f"## Citation\n\n{fenced(text, 'bibtex')}" if text else ""


def _strategy_papers(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the papers of the strategies that figures were measured with, by their keys."""
    names = [knobs["refinement"] for knobs in settings if knobs.get("refinement") in STRATEGIES]
    picks = any(
        knobs.get("length_beam", 1) > 1 and knobs.get("rank_by") == "teacher" for knobs in settings
    )
    return [*(STRATEGIES[name] for name in names), *[CANDIDATES] * picks]
