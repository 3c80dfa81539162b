import json
import math
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
import sacrebleu
import torch
from datasets import Dataset
from tiny_runs import tiny_pairs
from transformers import DataCollatorForSeq2Seq

from hf_nar.inference import Translator
from hf_nar.training.callbacks import JsonLinesLog
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.schedules import KLBudgetSchedule
from hf_nar.training.trainer import NARTrainer

TERMS = ("word_loss", "kl_loss", "kl", "length_loss")


@dataclass
class RecordingCollator(DataCollatorForSeq2Seq):
    """Keep the sources of every batch."""

    batches: list[list[tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, features: list[dict[str, Any]], return_tensors: str | None = None) -> Any:
        self.batches.append([tuple(row["input_ids"]) for row in features])
        return super().__call__(features, return_tensors)


@pytest.fixture
def pairs():
    return tiny_pairs()[:40]


@pytest.fixture
def make_trainer(tiny_model, tiny_tokenizer, pairs, tmp_path):
    """Return a function that makes a trainer of the tiny model on 40 pairs."""

    def make(validation=(), **arguments):
        encoded = tiny_tokenizer(
            text=[source for source, _ in pairs], text_target=[target for _, target in pairs]
        )
        rows = Dataset.from_dict({name: encoded[name] for name in ("input_ids", "labels")})
        fixed = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "logging_steps": 1}
        options = {**fixed, "tokens_per_batch": 200, "save_strategy": "no", **arguments}
        return NARTrainer(
            args=NARTrainingArguments(output_dir=str(tmp_path), **options),
            model=tiny_model,
            train_dataset=rows,
            eval_dataset=rows.select(range(10)),
            data_collator=RecordingCollator(tiny_tokenizer),
            validation_sources=[source for source, _ in validation],
            validation_references=[target for _, target in validation],
            processing_class=tiny_tokenizer,
        )

    return make


def entries_with(trainer, key):
    return [entry for entry in trainer.state.log_history if key in entry]


def test_every_log_entry_has_the_loss_terms_and_the_budget(make_trainer):
    trainer = make_trainer(max_steps=3)

    trainer.train()

    entries = entries_with(trainer, "loss")
    assert len(entries) == 3
    for entry in entries:
        assert {*TERMS, "kl_budget"} <= entry.keys()
        assert all(math.isfinite(entry[name]) for name in TERMS)


def test_logged_terms_are_means_over_the_batches_since_the_last_entry(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=4, logging_steps=2)
    seen = []
    tiny_model.register_forward_hook(lambda _, __, output: seen.append(output.word_loss.item()))

    trainer.train()

    logged = [entry["word_loss"] for entry in entries_with(trainer, "loss")]
    assert logged == pytest.approx([(seen[0] + seen[1]) / 2, (seen[2] + seen[3]) / 2], abs=1e-4)


def test_the_log_file_has_the_same_entries_as_json(make_trainer, tmp_path):
    trainer = make_trainer(max_steps=2)

    trainer.train()

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert (lines[0]["step"], lines[0]["processes"]) == (0, 1)  # a process began
    for line, entry in zip(lines[1:], trainer.state.log_history, strict=True):
        assert line.items() >= {k: v for k, v in entry.items() if k != "total_flos"}.items()
        assert line["seconds"] >= 0


def test_numbers_that_json_lacks_are_logged_as_text(make_trainer, tmp_path):
    trainer = make_trainer()

    JsonLinesLog().on_log(trainer.args, trainer.state, trainer.control, logs={"loss": math.nan})

    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["loss"] == "nan"


def test_the_budget_given_to_the_model_follows_the_schedule(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=5, kl_budget=2.0, kl_budget_hold=0.2)
    budgets = []
    tiny_model.register_forward_pre_hook(
        lambda _, __, kwargs: budgets.append(kwargs["kl_budget"]), with_kwargs=True
    )

    trainer.train()

    schedule = KLBudgetSchedule(2.0, 0.2)
    assert budgets == [schedule.at(step, 5) for step in range(5)]
    assert len(set(budgets)) > 2


def test_each_epoch_deals_all_pairs_in_other_batches(make_trainer):
    trainer = make_trainer(num_train_epochs=2)

    trainer.train()

    batches = trainer.data_collator.batches
    first, second = batches[: len(batches) // 2], batches[len(batches) // 2 :]
    pairs_of_epoch = [sorted(chain.from_iterable(epoch)) for epoch in (first, second)]
    assert len(pairs_of_epoch[0]) == 40
    assert pairs_of_epoch[0] == pairs_of_epoch[1]
    assert first != second


def test_a_batch_holds_no_more_tokens_than_asked_for(make_trainer):
    trainer = make_trainer(num_train_epochs=1, tokens_per_batch=100)

    trainer.train()

    batches = trainer.data_collator.batches
    assert len(batches) > 5
    assert max(len(batch) * max(map(len, batch)) for batch in batches) <= 100


def test_every_parameter_learns(make_trainer, tiny_model):
    before = {name: value.clone() for name, value in tiny_model.named_parameters()}

    make_trainer(max_steps=3, kl_budget=0.0, learning_rate=0.01, weight_decay=0.0).train()

    same = [n for n, value in tiny_model.named_parameters() if torch.equal(value, before[n])]
    assert same == []


def test_accumulating_gradients_does_not_rescale_the_loss(make_trainer, tiny_model):
    start = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    entries = []
    for steps in (1, 2, 4):
        tiny_model.load_state_dict(start)
        trainer = make_trainer(max_steps=1, gradient_accumulation_steps=steps, max_grad_norm=1e9)
        trainer.train()
        entries += entries_with(trainer, "loss")

    for entry in entries[1:]:
        assert entry["loss"] == pytest.approx(entries[0]["loss"], rel=0.1)
        assert entry["grad_norm"] == pytest.approx(entries[0]["grad_norm"], rel=0.4)
        assert entry["word_loss"] == pytest.approx(entries[0]["word_loss"], rel=0.1)


@pytest.fixture
def validation(tiny_model, tiny_tokenizer, pairs):
    """Return sentences with the model's own translations as references, but every third one."""
    torch.nn.init.normal_(tiny_model.lm_head.weight, std=1.0)
    pieces = tiny_tokenizer.convert_ids_to_tokens(range(len(tiny_tokenizer)))
    starts_word = torch.tensor([piece.startswith("▁") for piece in pieces])
    tiny_model.lm_head.bias.data[starts_word] += 10  # BLEU needs sentences of several words
    sources = [source for source, _ in pairs[:9]]
    texts = Translator(tiny_model, tiny_tokenizer).translate(sources, num_refinement_iterations=2)
    targets = [pairs[i][1] if i % 3 == 0 else text for i, text in enumerate(texts)]
    return list(zip(sources, targets, strict=True))


def test_eval_bleu_is_that_of_translations_scored_by_sacrebleu(
    make_trainer, tiny_model, tiny_tokenizer, validation
):
    trainer = make_trainer(validation, validation_iterations=2)

    metrics = trainer.evaluate()

    sources, references = zip(*validation, strict=True)
    texts = [
        Translator(tiny_model, tiny_tokenizer).translate([text], num_refinement_iterations=2)[0]
        for text in sources
    ]
    expected = sacrebleu.corpus_bleu(texts, [list(references)]).score
    assert 20 < expected < 90
    assert metrics["eval_bleu"] == pytest.approx(expected)
    assert {f"eval_{name}" for name in TERMS} <= metrics.keys()


def test_validation_leaves_the_model_training(make_trainer, tiny_model, validation):
    trainer = make_trainer(validation, max_steps=1)
    tiny_model.train()

    trainer.validation_bleu()

    assert tiny_model.training


def test_sources_and_references_must_be_as_many(tiny_model, tiny_tokenizer, tmp_path):
    with pytest.raises(ValueError, match="must have the same length, got 2 and 1"):
        NARTrainer(
            NARTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none"),
            model=tiny_model,
            validation_sources=["a", "b"],
            validation_references=["a"],
            processing_class=tiny_tokenizer,
        )


def test_without_a_budget_of_its_own_a_run_takes_the_models(make_trainer, tiny_model):
    tiny_model.config.kl_budget = 0.25

    assert make_trainer(max_steps=1).kl_budget.budget == 0.25
    assert make_trainer(max_steps=1, kl_budget=2.0).kl_budget.budget == 2.0


def test_bleu_is_of_the_validation_set_only(make_trainer, validation):
    trainer = make_trainer(validation)

    assert "eval_bleu" in trainer.evaluate()
    assert "dev_bleu" not in trainer.evaluate(trainer.train_dataset, metric_key_prefix="dev")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_iterations": -1}, "`validation_iterations` must be at least 0"),
        ({"tokens_per_batch": 0}, "`tokens_per_batch` must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        NARTrainingArguments(output_dir=str(tmp_path), **options)
