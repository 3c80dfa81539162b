import copy
import json
import math
import random
import statistics
from pathlib import Path

import pytest
import torch
from accelerate.utils import DistributedType
from tiny_runs import tiny_pairs
from tiny_teachers import new_teacher
from tiny_trainers import change_gradients, change_losses, tiny_trainer
from transformers import TrainerCallback

from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.numerical_safety import SHOWN_SENTENCES, Counts
from hf_nar.training.recipe import Recipe

RECIPES = sorted((Path(__file__).parents[3] / "training/recipes").glob("*.yaml"))


class Snapshots(TrainerCallback):
    """Keep weights and moments as they are after each step."""

    def __init__(self):
        self.weights = []
        self.moments = []

    def on_step_end(self, args, state, control, model=None, optimizer=None, **_):
        self.weights.append([value.detach().clone() for value in model.parameters()])
        self.moments.append(copy.deepcopy(optimizer.state_dict()["state"]))


def times_nan(loss):
    return loss * math.nan


def plus_infinity(loss):
    return loss + math.inf  # its gradient is as before


def equal(first, second):
    return torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


def same_weights(first, second):
    return all(map(equal, first, second))


def same_moments(first, second):
    return all(equal(first[i][name], second[i][name]) for i in first for name in first[i])


@pytest.fixture
def make_trainer(tiny_model, tiny_tokenizer, tmp_path):
    """Return a function that makes a trainer of the tiny model that takes snapshots."""

    def make(**arguments):
        trainer = tiny_trainer(tiny_model, tiny_tokenizer, tmp_path, **arguments)
        trainer.snapshots = Snapshots()
        trainer.add_callback(trainer.snapshots)
        return trainer

    return make


def lines_with(key, folder):
    lines = map(json.loads, (folder / "log.jsonl").read_text("utf-8").splitlines())
    return [line for line in lines if key in line]


@pytest.mark.parametrize(
    ("optim", "change"),
    [
        ("adamw_torch_fused", times_nan),
        ("adamw_torch_fused", plus_infinity),
        ("adamw_torch", times_nan),
        ("adafactor", plus_infinity),
    ],
)
def test_a_loss_that_is_not_finite_changes_neither_weights_nor_moments(
    make_trainer, tiny_model, optim, change
):
    trainer = make_trainer(max_steps=4, optim=optim, weight_decay=0.1)
    change_losses(tiny_model, {3}, change)

    trainer.train()

    weights, moments = trainer.snapshots.weights, trainer.snapshots.moments
    assert same_weights(weights[1], weights[2])
    assert same_moments(moments[1], moments[2])
    assert not same_weights(weights[0], weights[1])
    assert not same_weights(weights[2], weights[3])


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_skips_the_step(make_trainer, tiny_model, tmp_path, factor):
    trainer = make_trainer(max_steps=3)
    change_gradients(tiny_model.lm_head.bias, {2}, factor)

    trainer.train()

    assert same_weights(trainer.snapshots.weights[0], trainer.snapshots.weights[1])
    (line,) = lines_with("skipped_step", tmp_path)
    assert line["not_finite"] == "gradient"
    assert len(line["batches"][0]["sentences"]) == SHOWN_SENTENCES


def test_finite_steps_are_those_of_the_library(make_trainer, tiny_model, monkeypatch):
    start = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    trainer = make_trainer(max_steps=3)
    trainer.train()

    tiny_model.load_state_dict(start)
    plain = make_trainer(max_steps=3)
    monkeypatch.setattr(plain, "_look_at", lambda *_: plain._parts.clear())
    plain.train()

    assert same_weights(trainer.snapshots.weights[-1], plain.snapshots.weights[-1])


def test_one_bad_batch_of_several_skips_the_whole_step(make_trainer, tiny_model, tmp_path):
    trainer = make_trainer(max_steps=3, gradient_accumulation_steps=2)
    change_losses(tiny_model, {4}, times_nan)

    trainer.train()

    weights = trainer.snapshots.weights
    assert same_weights(weights[0], weights[1])
    assert not same_weights(weights[1], weights[2])
    assert [line["skipped_step"] for line in lines_with("skipped_step", tmp_path)] == [2]


def test_a_skipped_step_is_logged_with_the_sentences_of_its_batch(
    make_trainer, tiny_model, tmp_path, caplog
):
    trainer = make_trainer(max_steps=3)
    seen = []
    tiny_model.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["input_ids"]), with_kwargs=True
    )
    change_losses(tiny_model, {2}, times_nan)

    trainer.train()

    (line,) = lines_with("skipped_step", tmp_path)
    (batch,) = line["batches"]
    assert (line["skipped_step"], line["skipped_steps"], line["not_finite"]) == (2, 1, "loss")
    assert (batch["process"], batch["loss"]) == (0, "nan")
    assert len(batch["sentences"]) == len(seen[1])
    assert set(batch["sentences"]) <= {source for source, _ in tiny_pairs()[:40]}
    assert [entry["skipped_steps"] for entry in lines_with("loss", tmp_path)] == [0, 1, 1]
    (warning,) = [i.message for i in caplog.records if "skipped" in i.message]
    assert warning.startswith("Step 2 was skipped, as its loss was not finite; 1 so far.")
    assert batch["sentences"][0] in warning


def test_a_skipped_step_does_not_spoil_the_mean_loss(make_trainer, tiny_model, tmp_path):
    trainer = make_trainer(max_steps=4, logging_steps=4)
    change_losses(tiny_model, {2}, times_nan)

    trainer.train()

    (entry,) = lines_with("loss", tmp_path)
    assert 1 < entry["loss"] < 100


def spoil_losses(model, passes):
    for name in ("loss", "word_loss"):
        change_losses(model, passes, times_nan, name)


def spoil_gradients(model, passes):
    change_gradients(model.lm_head.bias, passes, math.inf)


@pytest.mark.parametrize("spoil", [spoil_losses, spoil_gradients])
def test_the_means_of_loss_terms_leave_out_a_skipped_step(
    make_trainer, tiny_model, tmp_path, spoil
):
    trainer = make_trainer(max_steps=2, logging_steps=2)
    terms = []
    tiny_model.register_forward_hook(lambda *seen: terms.append(float(seen[-1].word_loss)))
    spoil(tiny_model, {2})

    trainer.train()

    (entry,) = lines_with("loss", tmp_path)
    assert entry["word_loss"] == round(terms[0], 4) != round(terms[1], 4)


def test_where_all_steps_were_skipped_there_are_no_loss_terms(make_trainer, tiny_model, tmp_path):
    trainer = make_trainer(max_steps=1)
    spoil_losses(tiny_model, {1})

    trainer.train()

    (entry,) = lines_with("loss", tmp_path)
    assert entry["skipped_steps"] == 1
    assert "word_loss" not in entry


def test_too_many_skipped_steps_in_a_row_end_training(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=20, max_skipped_steps=3, logging_steps=20)
    change_losses(tiny_model, range(5, 20), times_nan)

    with pytest.raises(FloatingPointError, match="but the last 3 steps, up to step 7, had none"):
        trainer.train()

    assert trainer.state.global_step <= 9  # steps are looked at three at a time


def test_skipped_steps_that_are_not_in_a_row_end_nothing(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=9, max_skipped_steps=2)
    change_losses(tiny_model, {2, 4, 6, 8}, times_nan)

    trainer.train()

    assert trainer.counts.skipped_steps == 4


def test_counts_are_part_of_a_checkpoint(make_trainer, tiny_model, tmp_path):
    change_losses(tiny_model, {1, 3, 4}, times_nan)
    make_trainer(max_steps=4, save_strategy="steps", save_steps=4).train()

    trainer = make_trainer(max_steps=5)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))

    assert trainer.counts.skipped_steps == 3
    assert trainer.counts.losses == 2


def test_a_teachers_bad_step_is_skipped_and_its_sentences_named(tiny_tokenizer, tmp_path):
    teacher = new_teacher("marian", tiny_tokenizer)
    trainer = tiny_trainer(teacher, tiny_tokenizer, tmp_path, max_steps=3)
    trainer.snapshots = Snapshots()
    trainer.add_callback(trainer.snapshots)
    change_losses(teacher, {2}, times_nan, "logits")

    trainer.train()

    assert same_weights(trainer.snapshots.weights[0], trainer.snapshots.weights[1])
    (entry,) = lines_with("skipped_step", tmp_path)
    assert entry["batches"][0]["sentences"][0] in {source for source, _ in tiny_pairs()}


# What torch's scaler does on a GPU with fp16


def test_a_step_that_the_gradient_scaler_skips_is_not_counted(make_trainer, tiny_model, tmp_path):
    trainer = make_trainer(max_steps=3)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    change_gradients(tiny_model.lm_head.bias, {2}, math.inf)

    trainer.train()

    assert same_weights(trainer.snapshots.weights[0], trainer.snapshots.weights[1])
    assert trainer.accelerator.scaler.get_scale() == 4.0
    assert trainer.counts.skipped_steps == 0
    assert lines_with("skipped_step", tmp_path) == []


def test_with_a_gradient_scaler_a_bad_loss_is_counted_once(make_trainer, tiny_model, tmp_path):
    trainer = make_trainer(max_steps=3)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    change_losses(tiny_model, {2}, times_nan)

    trainer.train()

    assert same_weights(trainer.snapshots.weights[0], trainer.snapshots.weights[1])
    assert trainer.counts.skipped_steps == 1
    assert len(lines_with("skipped_step", tmp_path)) == 1


def test_a_gradient_scaler_that_finds_no_scale_ends_training_too(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=9, max_skipped_steps=3)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    change_gradients(tiny_model.lm_head.bias, range(1, 10), math.nan)

    with pytest.raises(FloatingPointError, match="the last 3 steps"):
        trainer.train()


# With DeepSpeed


class Engine:
    """What DeepSpeed's engine does in a backward pass, on one process."""

    def backward(self, loss, **_):
        loss.backward()


def test_with_deepspeed_nothing_of_a_step_is_looked_at_or_held(
    make_trainer, tiny_model, monkeypatch
):
    trainer = make_trainer(max_steps=3)
    trainer.create_optimizer_and_scheduler(3)
    batch = next(iter(trainer.get_train_dataloader()))
    accelerator = trainer.accelerator
    monkeypatch.setitem(accelerator.state.__dict__, "distributed_type", DistributedType.DEEPSPEED)
    monkeypatch.setattr(accelerator, "deepspeed_engine_wrapped", Engine(), raising=False)
    change_losses(tiny_model, {2}, times_nan)
    trainer.current_gradient_accumulation_steps = 1
    tokens = (batch["labels"] >= 0).sum()

    parts = [trainer.training_step(tiny_model, dict(batch), tokens) for _ in range(2)]
    norm = trainer._get_grad_norm(tiny_model, torch.tensor(math.inf))
    trainer.log({"loss": 1.0})

    assert [bool(part.isfinite()) for part in parts] == [True, False]
    assert norm == math.inf
    held = [trainer._seen, trainer._losses, trainer._batches, trainer._parts]
    assert held == [[]] * 4
    assert trainer.state.log_history[-1]["skipped_steps"] == 0
    assert trainer.state.log_history[-1]["word_loss"] > 0


# Spikes


def test_deviations_are_those_of_the_losses_before():
    chance = random.Random(0)
    losses = [chance.gauss(3, 0.5) for _ in range(40)]
    counts = Counts()
    for loss in losses:
        counts.deviations(loss)

    above = counts.deviations(6.0)

    expected = (6.0 - statistics.fmean(losses)) / statistics.pstdev(losses)
    assert above == pytest.approx(expected, rel=0.2)


def test_the_first_losses_are_no_spikes():
    counts = Counts()

    assert [counts.deviations(loss) for loss in (3.0, 2.9, 50.0)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("limit", "expected"), [(6.0, [25]), (0.0, [])])
def test_a_spike_of_the_loss_is_logged(make_trainer, tiny_model, tmp_path, limit, expected):
    trainer = make_trainer(max_steps=26, learning_rate=0.0, loss_spike_deviations=limit)
    change_losses(tiny_model, {25}, lambda loss: loss * 20)

    trainer.train()

    lines = lines_with("loss_spike", tmp_path)
    assert [line["spike_step"] for line in lines] == expected
    assert all(line["loss_spike"] > line["loss_mean"] + 6 * line["loss_std"] for line in lines)


# Clipping


def test_every_recipe_says_how_gradients_are_clipped_and_ours_do():
    limits = {file.stem: Recipe.load(file).training.get("max_grad_norm") for file in RECIPES}

    assert [name for name, limit in limits.items() if limit is None] == []
    ours = {name for name in limits if name.startswith(("multi30k", "digit"))}
    assert len(ours) > 5
    assert all(limits[name] > 0 for name in ours)  # the papers' do not clip


def test_gradients_are_clipped(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=1, max_grad_norm=0.01)
    norms = []

    class Norm(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **_):
            norms.append(torch.stack([i.grad.norm() for i in model.parameters()]).norm().item())

    trainer.add_callback(Norm())
    trainer.train()

    assert norms == [pytest.approx(0.01, rel=1e-3)]
    assert trainer.state.log_history[0]["grad_norm"] > 0.1


def test_without_clipping_a_bad_step_is_skipped_all_the_same(make_trainer, tiny_model):
    trainer = make_trainer(max_steps=3, max_grad_norm=0.0)
    change_losses(tiny_model, {2}, times_nan)

    trainer.train()

    assert same_weights(trainer.snapshots.weights[0], trainer.snapshots.weights[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_skipped_steps": 0}, "`max_skipped_steps` must be at least 1"),
        ({"loss_spike_deviations": -1.0}, "`loss_spike_deviations` must not be negative"),
    ],
)
def test_wrong_limits_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        NARTrainingArguments(output_dir=str(tmp_path), **options)
