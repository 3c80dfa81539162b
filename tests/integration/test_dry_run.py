"""`hf-nar train --dry-run` says what training then does, and leaves no trace."""

import gc
import json
import os
import re
import subprocess
import sys
import weakref

import datasets
import pytest
import torch
from tiny_networks import batch_of, labels_of, new_model
from tiny_runs import write_recipe

from hf_nar.cli.main import main
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.dry_run import memory_of, parts_of, plan_run
from hf_nar.training.interruption import EXIT_CODE
from hf_nar.training.memory import measure_activations
from hf_nar.training.recipe import Recipe


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Keep the datasets library out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def say(tmp_path, capsys):
    """Return a function that says what a tiny run would be, as one text with single spaces."""
    file = write_recipe(tmp_path)

    def run(*overrides):
        code = main(["train", str(file), "--dry-run", *overrides])
        said = capsys.readouterr()
        assert code == 0, said.err
        return " ".join(said.out.split())

    return run


def test_it_leaves_the_output_folder_alone(say, tmp_path):
    say()

    assert not (tmp_path / "run").exists()


def test_training_takes_the_steps_and_tokens_that_it_said(say, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(file.read_text("utf-8").replace("max_steps: 6", "num_train_epochs: 1"))
    said = say()
    assert main(["train", str(file)]) == 0

    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    entries = [entry for entry in log if "tokens_per_second" in entry]
    seconds = [entry["seconds_per_step"] for entry in entries]
    tokens = [e["tokens_per_second"] * s for e, s in zip(entries, seconds, strict=True)]
    facts = json.loads((tmp_path / "run/export/training.json").read_text())
    assert f"steps {facts['steps']}, {facts['steps']} an epoch (1.0 epochs)" in said
    assert f"parameters {facts['parameters']:,}, of which" in said
    stated = int(re.search(r"([\d,]+) real tokens in", said)[1].replace(",", ""))
    assert sum(tokens) == pytest.approx(stated, rel=5e-3)  # the log is rounded


def test_it_says_which_checkpoints_there_will_be_and_where_a_run_would_go_on(say, tmp_path):
    settings = ["training.max_steps=7", "training.save_total_limit=2"]
    said = say(*settings)
    assert "3 of" in said
    assert "at most 3 kept at a time output" in said
    assert said.endswith("run, a new run")
    assert main(["train", str(tmp_path / "recipe.yaml"), *settings]) == 0
    size = sum(f.stat().st_size for f in (tmp_path / "run/checkpoint-7").glob("*.[sp]*t*"))

    again = say(*settings)
    other = say("training.learning_rate=0.1")

    plan = plan_run(Recipe.load(tmp_path / "recipe.yaml", settings))
    assert memory_of(plan).checkpoint == pytest.approx(size, rel=0.6)  # tiny ones are mostly names
    assert again.endswith("run, going on from checkpoint-7")
    assert "holds checkpoints of another recipe: training would refuse it" in other


@pytest.mark.parametrize("dry_run", [["--dry-run"], []], ids=["dry-run", "training"])
@pytest.mark.parametrize("every", [3, 0.5])
def test_a_stream_without_a_number_of_steps_is_refused(tmp_path, capsys, dry_run, every):
    file = write_recipe(tmp_path, save_steps=every, eval_steps=every)
    file.write_text(file.read_text("utf-8").replace("max_steps: 6", "num_train_epochs: 1"))

    code = main(["train", str(file), *dry_run, "data.train.streaming=true"])

    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert error.startswith("hf-nar: error: A streamed corpus is not counted and has no epochs, so")
    assert not (tmp_path / "run").exists()


def test_a_stream_is_said_to_be_one(say, tmp_path):
    said = say("data.train.streaming=true", "data.validation.streaming=true")

    assert "data a stream, not counted an epoch" in said
    assert "steps 6 " in said


def test_a_run_of_no_epochs_has_no_checkpoints_of_a_share_of_it(say, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(file.read_text("utf-8").replace("max_steps: 6", "num_train_epochs: 0"))

    assert "checkpoints 0 of" in say("training.save_steps=0.5", "training.eval_steps=0.5")


def test_processes_and_accumulation_share_out_the_batches(say, tmp_path):
    plan = plan_run(
        Recipe.load(tmp_path / "recipe.yaml", ["training.gradient_accumulation_steps=2"])
    )
    alone = plan_run(Recipe.load(tmp_path / "recipe.yaml"))

    assert plan.steps_per_epoch == -(-alone.steps_per_epoch // 2)
    assert plan.tokens_per_step == 2 * alone.tokens_per_step


def test_a_limit_that_drops_many_pairs_is_warned_of(say):
    said = say("data.max_target_tokens=16")

    assert re.search(r"warning: [1-9][\d.]*% of the pairs are longer than", said)


def test_a_run_that_ends_before_it_evaluates_is_warned_of(say):
    said = say("training.max_steps=2", "training.warmup_steps=4")

    assert "warning: The run ends in its warm-up of 4 steps." in said
    assert "warning: `training.eval_steps` is more than the 2 steps of the run." in said


def test_parts_are_told_with_what_is_frozen():
    model = new_model(num_score_layers=1, num_energy_layers=1)
    model.train_refiners(["score"])

    parts = parts_of(model)

    assert sum(count for count, _ in parts.values()) == model.num_parameters()
    assert parts["refiners.score"][0] == parts["refiners.score"][1] > 0
    assert parts["refiners.energy"][1] == parts["decoder"][1] == 0


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_activations_of_many_rows_are_those_measured(attention, tmp_path):
    model = new_model(attn_implementation=attention)
    arguments = NARTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    estimate = measure_activations(model, (9, 7), None, arguments).bytes_of(12)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(batch_of(*[9] * 12), labels=labels_of(*[7] * 12))

    exact = sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
    assert estimate == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("refiners", [{}, {"num_score_layers": 1, "num_energy_layers": 1}])
def test_what_was_measured_is_given_free(refiners, tmp_path):
    model = new_model(**refiners)
    if refiners:
        model.train_refiners()
    weights = [weakref.ref(parameter) for parameter in model.parameters()]

    arguments = NARTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    measure_activations(model, (9, 7), None, arguments)
    del model
    gc.collect()

    assert [weight() for weight in weights if weight() is not None] == []


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_checkpointing_and_bfloat16_keep_less(tmp_path):
    def size(**options):
        arguments = NARTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **options)
        return measure_activations(new_model(), (20, 20), None, arguments).for_row

    assert size(bf16=True) < size()
    assert size(gradient_checkpointing=True) < 0.7 * size()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_stepz=3", "did you mean `training.max_steps`?"),
        ("training.tokens_per_batch=10", "must hold the longest pair"),
        ("data.train.target_file=none.en", "none.en"),
        (
            "data.train={dataset: nobody/nothing, source_field: a, target_field: b}",
            "nobody/nothing",
        ),
        ("training.report_to=tensorbored", "`training.report_to` must name trackers"),
        ("training.report_to=clearml", "clearml is not. Install its package"),
    ],
)
def test_what_training_would_refuse_is_refused_in_one_sentence(tmp_path, capsys, override, message):
    file = write_recipe(tmp_path)

    code = main(["train", str(file), "--dry-run", override])

    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert error.startswith("hf-nar: error: ")
    assert message in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("familly=lanmt", "`family`"),
        ("model.d_modell=8", "`model.d_model`"),
        ("training.lerning_rate=1", "`training.learning_rate`"),
        ("data.train.sourcefile=x", "`source_file`?"),
        ("data.max_source_token=3", "`data.max_source_tokens`"),
        ("tokenizer.vocabsize=3", "`tokenizer.vocab_size`"),
        ("generation.step_sise=1", "`generation.step_size`"),
    ],
)
def test_an_unknown_key_names_the_nearest_at_any_depth(tmp_path, capsys, key, hint):
    code = main(["train", str(write_recipe(tmp_path)), "--dry-run", key])

    assert code == 2
    assert hint in capsys.readouterr().err.splitlines()[-1]


def test_help_fits_a_screen_and_names_all_there_is():
    program = "from hf_nar.cli.main import main; raise SystemExit(main(['train', '--help']))"
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)

    lines = done.stdout.rstrip().splitlines()
    text = " ".join(done.stdout.split())
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for word in (
        "recipe",
        "overrides",
        "key=value",
        "--dry-run",
        f"code {EXIT_CODE}",
        "checkpoint",
    ):
        assert word in text
