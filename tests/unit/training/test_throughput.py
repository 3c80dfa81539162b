"""What a log entry says of speed is true, and measuring it costs no wait for the device."""

import json
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from tiny_networks import batch_of, labels_of, new_model
from tiny_refinement import new_refinement_model
from tiny_runs import tiny_pairs
from torch.utils.flop_counter import FlopCounterMode
from transformers import MarianConfig, MarianMTModel, TrainerCallback

from hf_nar.data.dealing import FILLER
from hf_nar.training import throughput
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.throughput import ModelFlops, ThroughputMeter, peak_flops
from hf_nar.training.trainer import NARTrainer

SECONDS = 4.0  # of an optimizer step, by the clock of these tests
DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1}


@pytest.fixture
def clock(monkeypatch):
    """Return a clock for throughput that goes only when it is told to."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    return now


class Ticking(TrainerCallback):
    """Let a step take `SECONDS`, and what is no training an hour."""

    def __init__(self, clock):
        self.clock = clock

    def on_optimizer_step(self, *_, **__):
        self.clock.seconds += SECONDS

    def on_evaluate(self, *_, **__):
        self.clock.seconds += 3600


class Recording(NARTrainer):
    """Keep every batch that is trained on; let saving take an hour."""

    clock = SimpleNamespace(seconds=0.0)

    def training_step(self, model, inputs, *args, **kwargs):
        batch = (self.state.global_step, inputs)
        self.batches = [*getattr(self, "batches", []), batch]
        return super().training_step(model, inputs, *args, **kwargs)

    def _save(self, *args, **kwargs):
        self.clock.seconds += 3600
        super()._save(*args, **kwargs)


@pytest.fixture
def train(tiny_model, tiny_tokenizer, tmp_path, clock):
    """Return a function that trains the tiny model, and returns the trainer."""

    def run(**arguments):
        sources, targets = zip(*tiny_pairs()[:40], strict=True)
        encoded = tiny_tokenizer(text=list(sources), text_target=list(targets))
        rows = Dataset.from_dict({name: encoded[name] for name in ("input_ids", "labels")})
        fixed = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "save_strategy": "no"}
        options = {**fixed, "tokens_per_batch": 200, **arguments}
        trainer = Recording(
            args=NARTrainingArguments(output_dir=str(tmp_path), **options),
            model=tiny_model,
            train_dataset=rows,
            eval_dataset=rows.select(range(4)),
            processing_class=tiny_tokenizer,
            callbacks=[Ticking(clock)],
        )
        trainer.clock = clock
        trainer.train()
        return trainer

    return run


def entries(trainer):
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def real_tokens(batch):
    return int(batch["attention_mask"].sum()), int((batch["labels"] != -100).sum())


def test_an_entry_has_the_real_tokens_of_the_batches_since_the_last_one(train):
    trainer = train(max_steps=6, logging_steps=2, gradient_accumulation_steps=2)

    for i, entry in enumerate(entries(trainer)):
        batches = [batch for step, batch in trainer.batches if step // 2 == i]
        source, target = (sum(side) for side in zip(*map(real_tokens, batches), strict=True))
        positions = sum(b["input_ids"].numel() + b["labels"].numel() for b in batches)
        assert entry["seconds_per_step"] == SECONDS
        assert entry["tokens_per_second"] == pytest.approx((source + target) / 8, abs=0.06)
        assert entry["target_tokens_per_second"] == pytest.approx(target / 8, abs=0.06)
        assert entry["padding_share"] == pytest.approx(1 - (source + target) / positions, abs=1e-4)
        assert "model_flops_utilisation" not in entry  # the peak of a CPU is not known
    assert i == 2
    assert len(trainer.batches) > 6


def test_the_figures_are_in_the_file_too(train, tmp_path):
    trainer = train(max_steps=2)

    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    logged = [line["tokens_per_second"] for line in lines if "loss" in line]
    assert logged == [entry["tokens_per_second"] for entry in entries(trainer)]


def test_the_time_of_evaluation_and_saving_is_none_of_training(train, clock):
    trainer = train(max_steps=4, eval_strategy="steps", save_strategy="steps", eval_steps=1,
                    save_steps=2, logging_steps=2)  # fmt: skip

    assert clock.seconds > 5 * 3600
    assert [entry["seconds_per_step"] for entry in entries(trainer)] == [SECONDS] * 2


def test_the_flops_of_an_entry_are_those_of_its_real_tokens(train, tiny_model):
    trainer = train(max_steps=1)
    [(_, batch)] = trainer.batches

    with FlopCounterMode(display=False) as counter:
        tiny_model.train()(**{**batch, "kl_budget": 1.0}).loss.backward()

    tokens = sum(real_tokens(batch))
    positions = batch["input_ids"].numel() + batch["labels"].numel()
    expected = counter.get_total_flops() * tokens / positions / SECONDS
    assert entries(trainer)[0]["model_flops_per_second"] == pytest.approx(expected, rel=1e-3)


def test_counting_in_the_first_step_leaves_the_others_compiled(train, tiny_model, monkeypatch):
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    forward = torch.compile(type(tiny_model).forward, backend=backend)
    monkeypatch.setattr(type(tiny_model), "forward", forward)

    first = train(max_steps=1)
    assert entries(first)[0]["model_flops_per_second"] > 0
    assert not graphs
    train(max_steps=2)

    assert graphs


def marian():
    small = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 60}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 1, "decoder_layers": 1}
    ids = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 1}
    return MarianMTModel(MarianConfig(**small, **heads, **layers, **ids, attention_dropout=0.1))


def flops_of(model, counter):
    with counter:
        if isinstance(counter, ModelFlops):
            counter.is_forward = True
        loss = model(input_ids=batch_of(5, 9), labels=labels_of(6, 7)).loss
        if isinstance(counter, ModelFlops):
            counter.is_forward = False
        loss.backward()
    return counter.total if isinstance(counter, ModelFlops) else counter.get_total_flops()


@pytest.mark.parametrize(
    "build",
    [
        lambda: new_model(**DROPOUT).train(),
        lambda: new_model(latent_axis="target", **DROPOUT).train(),
        lambda: new_refinement_model(**DROPOUT).train(),
        lambda: marian().train(),
    ],
    ids=["lanmt", "target-latents", "refinement", "teacher"],
)
def test_matrix_products_are_counted_as_by_pytorchs_counter(build):
    assert flops_of(build(), ModelFlops()) == flops_of(build(), FlopCounterMode(display=False)) > 0


def test_fused_attention_counts_as_much_as_plain_products():
    plain, fused = new_model(dropout=0.0, attention_dropout=0.0).train(), new_model().train()
    plain.set_attn_implementation("eager")
    for layer in fused.modules():
        if hasattr(layer, "scaling"):
            layer.dropout = 0.0  # else it is not fused on a CPU

    counted, expected = (flops_of(model, ModelFlops()) for model in (fused, plain))

    # The backward pass of the fused one computes the scores once more.
    assert expected < counted < 1.1 * expected


def test_what_checkpointing_computes_again_is_not_counted():
    plain, checkpointed = new_model(**DROPOUT).train(), new_model(**DROPOUT).train()
    enable = getattr(checkpointed, "activation_checkpointing_enable", None)  # the name of 5.23
    (enable or checkpointed.gradient_checkpointing_enable)({"use_reentrant": False})

    assert flops_of(checkpointed, ModelFlops()) == flops_of(plain, ModelFlops())


def batch(filler=False):
    rows = {"attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]), "labels": labels_of(2, 3)}
    return {**rows, FILLER: True} if filler else rows


def test_fillers_count_for_nothing(clock):
    meter = ThroughputMeter(torch.device("cpu"))
    meter.count(batch())
    meter.count(batch(filler=True))
    clock.seconds += 5

    figures = meter.take(1, lambda rows: rows, None)

    assert figures["tokens_per_second"] == 2.0
    assert figures["padding_share"] == pytest.approx(2 / 12, abs=1e-4)


def test_tokens_and_peaks_are_of_all_processes(clock):
    meter = ThroughputMeter(torch.device("cpu"))
    positions = meter.count(batch())
    meter.flops_per_position = 60.0
    clock.seconds += 5

    figures = meter.take(2, lambda rows: rows.expand(3, -1), peak=500.0)

    assert positions == 12
    assert figures["tokens_per_second"] == 6.0
    assert figures["seconds_per_step"] == 2.5
    assert figures["model_flops_per_second"] == 360.0
    assert figures["model_flops_utilisation"] == pytest.approx(360 / 1500, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4e12, 66.9e12),
        ("NVIDIA H100 PCIe", 756e12, 51e12),
        ("NVIDIA A100-SXM4-40GB", 312e12, 19.5e12),
        ("Tesla V100-SXM2-32GB", 125e12, 15.7e12),
        ("NVIDIA L40S", 362e12, 91.6e12),
        ("NVIDIA L4", 121e12, 30.3e12),
        ("NVIDIA L40", None, None),
        ("NVIDIA H100 NVL", None, None),
    ],
)
def test_the_peak_goes_by_the_devices_name(name, half, single):
    assert peak_flops(name, is_half=True) == half
    assert peak_flops(name, is_half=False) == single


def test_float32_that_may_be_rounded_has_a_peak_of_its_own():
    assert peak_flops("NVIDIA A100-SXM4-80GB", is_half=False, is_tf32=True) == 156e12
