"""Ragged batches of a step train as one large batch would."""

import copy

import pytest
import torch
from datasets import Dataset
from tiny_networks import new_model, refiner_model
from tiny_refinement import new_refinement_model
from tiny_teachers import new_teacher

from hf_nar.data.dealing import FILLER
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.trainer import NARTrainer
from hf_nar.training.weighing import WeightedMeans, count_items

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
# Sources and targets are ragged in different ways: no count stands for another.
SIZES = [(3, 9), (4, 8), (9, 3), (8, 2), (5, 5), (2, 7), (7, 2), (3, 3), (6, 4)]


def refinement(_):
    return new_refinement_model(sample_drafts=False, denoising_share=0.0, **NO_DROPOUT)


def refiners(axis):
    still = {"refiner_noise": 0.0, "refiner_own_steps": 0.0, "refiner_source_noise": 0.0}
    model = refiner_model(axis, **still, **NO_DROPOUT)
    model.train_refiners()
    return model


def teacher(tokenizer):
    model = new_teacher("marian", tokenizer)
    for layer in model.modules():
        if hasattr(layer, "dropout"):
            layer.dropout = 0.0
    return model


NETWORKS = {
    "refinement": refinement,
    "refiners, latents of the source": lambda _: refiners("source"),
    "refiners, latents of the target": lambda _: refiners("target"),
    "teacher": teacher,
}


def pairs():
    generator = torch.Generator().manual_seed(5)

    def words(length):
        drawn = torch.randint(5, 40, (length - 1,), generator=generator).tolist()
        return [*drawn, 2]

    return Dataset.from_list(
        [{"input_ids": words(source), "labels": words(target)} for source, target in SIZES]
    )


@pytest.fixture
def train(tiny_tokenizer, tmp_path):
    """Return a function that takes one step on all pairs and gives weights and log."""

    def train(model, tokens_per_batch, batches):
        arguments = NARTrainingArguments(
            output_dir=str(tmp_path),
            use_cpu=True,
            disable_tqdm=True,
            max_steps=1,
            optim="sgd",
            learning_rate=0.1,
            max_grad_norm=1e9,
            logging_steps=1,
            save_strategy="no",
            tokens_per_batch=tokens_per_batch,
            gradient_accumulation_steps=batches,
        )
        trainer = NARTrainer(
            args=arguments, model=model, train_dataset=pairs(), processing_class=tiny_tokenizer
        )
        assert len(trainer.get_train_dataloader()) == batches
        trainer.train()
        return model.state_dict(), trainer.state.log_history[0]

    return train


@pytest.mark.parametrize("name", NETWORKS)
def test_accumulated_ragged_batches_train_as_one_large_batch(name, train, tiny_tokenizer):
    model = NETWORKS[name](tiny_tokenizer)
    other, before = copy.deepcopy(model), copy.deepcopy(model.state_dict())

    large, log = train(model, 1000, 1)
    small, its_log = train(other, 21, 4)

    change = max((large[key] - before[key]).abs().max() for key in large)
    assert change > 1e-3
    for key, value in large.items():
        torch.testing.assert_close(small[key], value, rtol=1e-4, atol=float(change) * 1e-4)
    assert its_log["loss"] == pytest.approx(log["loss"], rel=1e-4)
    assert its_log["grad_norm"] == pytest.approx(log["grad_norm"], rel=1e-3)


def test_items_are_target_tokens_or_where_refiners_are_trained_latents():
    batch = {
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]),
        "labels": torch.tensor([[5, 2, -100], [6, 7, 2]]),
    }

    assert count_items(new_model(), batch) == 5
    assert count_items(refiners("source"), batch) == 7
    assert count_items(refiners("target"), batch) == 5
    assert count_items(new_model(), {**batch, FILLER: True}) == 0


def test_means_are_weighted_and_start_again():
    means = WeightedMeans()
    means.add({"loss": torch.tensor(1.0)}, torch.tensor(3))
    means.add({"loss": torch.tensor(5.0)}, torch.tensor(1))

    assert means.take(lambda values: values) == {"loss": 2.0}
    assert means.take(lambda values: values) == {}


def test_means_leave_out_what_a_bad_step_has_added():
    means = WeightedMeans()
    for value, is_bad in ((1.0, False), (float("nan"), True), (4.0, False)):
        means.add({"loss": torch.tensor(value)}, torch.tensor(2.0))
        means.keep_unless(torch.tensor(is_bad))
    means.add({"loss": torch.tensor(4.0)}, torch.tensor(2.0))

    assert means.take(lambda values: values) == {"loss": 3.0}


def test_there_are_no_means_of_nothing_but_bad_steps():
    means = WeightedMeans()
    means.add({"loss": torch.tensor(float("nan"))}, torch.tensor(2.0))
    means.keep_unless(torch.tensor(True))

    assert means.take(lambda values: values) == {}
    means.add({"loss": torch.tensor(5.0)}, torch.tensor(2.0))
    assert means.take(lambda values: values) == {"loss": 5.0}
