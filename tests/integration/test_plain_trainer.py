"""A user's own, unmodified Seq2SeqTrainer works with our models."""

import datasets
import numpy as np
import pytest
import torch
from conftest import TINY_VOCABULARY
from tiny_networks import refiner_model
from tiny_runs import tiny_pairs
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_nar.auto import register


@pytest.fixture
def rows(tiny_tokenizer):
    sources, targets = zip(*tiny_pairs()[:16], strict=True)
    encoded = tiny_tokenizer(text=list(sources), text_target=list(targets))
    return datasets.Dataset.from_dict(dict(encoded))


@pytest.fixture
def trainer(tiny_model, tiny_tokenizer, rows, tmp_path):
    return Seq2SeqTrainer(
        model=tiny_model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=4,
            predict_with_generate=True,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            learning_rate=1e-3,
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(6)),
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer, model=tiny_model),
        processing_class=tiny_tokenizer,
        compute_metrics=lambda prediction: {"shape": list(prediction.predictions.shape)},
    )


def test_it_trains_evaluates_and_predicts(trainer, tiny_model, tiny_tokenizer, rows):
    before = tiny_model.lm_head.weight.clone()

    result = trainer.train()
    metrics = trainer.evaluate()
    predicted = trainer.predict(rows.select(range(6)))

    assert result.global_step == 3
    assert np.isfinite(result.training_loss)
    assert not torch.equal(tiny_model.lm_head.weight, before)
    assert np.isfinite(metrics["eval_loss"])
    assert metrics["eval_shape"][0] == 6
    ids = np.where(predicted.predictions < 0, tiny_tokenizer.pad_token_id, predicted.predictions)
    own = tiny_model.eval().generate(torch.tensor([rows[0]["input_ids"]]))[0]
    assert ids[0, : len(own)].tolist() == own.tolist()


def test_its_checkpoints_keep_our_knobs_and_length(trainer, tiny_model, tmp_path):
    register()
    trainer.train()

    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "checkpoint-3")

    knobs = loaded.generation_config
    assert knobs.num_refinement_iterations == 3
    assert knobs.max_length == tiny_model.config.max_target_length
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_knobs_of_the_call_reach_generate(trainer, rows):
    short = trainer.predict(rows.select(range(6)), max_length=3)

    assert (np.where(short.predictions < 0, 0, short.predictions)[:, 3:] == 0).all()


@pytest.mark.parametrize("axis", ["source", "target"])
@pytest.mark.parametrize("predicts", [True, False])
def test_it_trains_refiners(tiny_tokenizer, rows, tmp_path, axis, predicts):
    limits = {"max_position_embeddings": 40, "max_target_length": 48}
    model = refiner_model(axis, vocab_size=TINY_VOCABULARY, dropout=0.2, **limits)
    model.train_refiners()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=4,
            predict_with_generate=predicts,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            learning_rate=1e-3,
            weight_decay=0.1,
        ),
        train_dataset=rows,
        eval_dataset=rows.select(range(6)),
        data_collator=DataCollatorForSeq2Seq(tiny_tokenizer, pad_to_multiple_of=8),
        processing_class=tiny_tokenizer,
    )

    trainer.train()
    metrics = trainer.evaluate()

    assert np.isfinite(metrics["eval_loss"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) or name.startswith("refiners."), name
    for name in ("score", "energy"):
        weight = f"refiners.{name}.layers.layers.0.feed_forward.fc1.weight"
        assert not torch.equal(model.state_dict()[weight], before[weight])
    loaded = type(model).from_pretrained(tmp_path / "checkpoint-3")
    assert torch.equal(loaded.state_dict()[weight], model.state_dict()[weight])
