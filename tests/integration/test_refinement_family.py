"""The refinement family is trained, saved and loaded as LaNMT is."""

import json
import os
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
import yaml
from tiny_refinement import make_lively, new_refinement_model
from tiny_runs import tiny_pairs, tiny_recipe, write_corpus
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from hf_nar.auto import register
from hf_nar.cli.main import main
from hf_nar.inference import Translator
from hf_nar.training.export import export_folder

TEXTS = ["Ein Hund läuft im Schnee.", "Eine Katze", "Ein Vogel sitzt unter dem Baum."]
KNOBS = [{"num_refinement_iterations": 0}, {"num_refinement_iterations": 5}, {"length_beam": 3}]
SCRIPT = """
import json, sys
sys.modules["hf_nar"] = None  # importing it fails from here on
folder, texts, knobs = sys.argv[1], *map(json.loads, sys.argv[2:])
import torch
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
model = AutoModel.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
batch = tokenizer(texts, return_tensors="pt", padding=True)
tokens = [model.generate(**batch, **each).tolist() for each in knobs]
print()
print(json.dumps({"module": type(model).__module__, "tokens": tokens}))
"""


@pytest.fixture(scope="module")
def tokenizer(tiny_folder):
    return AutoTokenizer.from_pretrained(tiny_folder)


@pytest.fixture
def model(tokenizer):
    model = new_refinement_model(vocab_size=len(tokenizer))
    make_lively(model)
    return model


def test_an_exported_folder_works_without_this_package(model, tokenizer, tmp_path):
    folder = tmp_path / "refinement-1.5"  # a dot, as names on the Hub have
    export_folder(model, tokenizer, folder, dtype=torch.float32)
    own = {"HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), json.dumps(TEXTS), json.dumps(KNOBS)],
        env={**keep, **own, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["module"].startswith("transformers_modules.")
    batch = tokenizer(TEXTS, return_tensors="pt", padding=True)
    expected = [model.generate(**batch, **each).tolist() for each in KNOBS]
    assert found["tokens"] == expected
    assert expected[0] != expected[1] != expected[2]


def test_a_users_own_trainer_trains_evaluates_and_predicts(model, tokenizer, tmp_path):
    sources, targets = zip(*tiny_pairs()[:16], strict=True)
    encoded = tokenizer(text=list(sources), text_target=list(targets))
    rows = datasets.Dataset.from_dict(dict(encoded))
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(tmp_path),
            max_steps=3,
            per_device_train_batch_size=4,
            predict_with_generate=True,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
    )

    trainer.train()
    predicted = trainer.predict(rows.select(range(6)))

    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
    assert np.isfinite(predicted.metrics["test_loss"])
    own = model.eval().generate(torch.tensor([rows[0]["input_ids"]]))[0].tolist()
    assert predicted.predictions[0, : len(own)].tolist() == own
    register()
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "checkpoint-3")
    assert loaded.generation_config.length_beam == 1
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def refinement_recipe(folder, **training):
    write_corpus(folder / "data")
    recipe = tiny_recipe(folder)
    recipe["family"] = "refinement_nar"
    for name in ("prior", "target", "posterior"):
        del recipe["model"][f"num_{name}_layers"]
    del recipe["model"]["latent_dim"]
    recipe["model"] |= {"num_encoder_layers": 1, "num_training_passes": 2}
    recipe["training"] |= training
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


def log_of(folder):
    lines = (folder / "run/log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("_own_cache")
def test_a_recipe_trains_it_and_logs_every_term(tmp_path, capsys):
    recipe = refinement_recipe(tmp_path, corruption_hold=0.5)

    assert main(["train", str(recipe)]) == 0, capsys.readouterr().err

    steps = [entry for entry in log_of(tmp_path) if "loss" in entry]
    terms = ("word_loss", "first_pass_loss", "last_pass_loss", "length_loss")
    assert all(entry[term] > 0 for entry in steps for term in terms)
    scales = [entry["corruption_scale"] for entry in steps]
    assert scales == pytest.approx([1.0, 1.0, 1.0, 1.0, 2 / 3, 1 / 3])
    translator = Translator.from_pretrained(tmp_path / "run/export", device="cpu")
    assert translator.model.config.model_type == "refinement_nar"
    traces = translator.trace(TEXTS)
    assert all(len(trace.drafts) == 1 + trace.iterations for trace in traces)


@pytest.mark.usefixtures("_own_cache")
def test_a_run_that_goes_on_ends_with_the_same_weights(tmp_path, capsys):
    recipes = {name: refinement_recipe(tmp_path / name) for name in ("whole", "halved")}
    for recipe in recipes.values():
        assert main(["train", str(recipe)]) == 0, capsys.readouterr().err
    for later in ("checkpoint-6", "export"):  # as if it had been killed after the first checkpoint
        (tmp_path / "halved/run" / later).rename(tmp_path / later)

    assert main(["train", str(recipes["halved"])]) == 0, capsys.readouterr().err

    register()
    weights = [
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path / name / "run/checkpoint-6").state_dict()
        for name in recipes
    ]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value), name


@pytest.mark.parametrize("hold", [-0.1, 1.5])
def test_a_hold_that_is_no_share_is_refused(hold, tmp_path, capsys):
    recipe = refinement_recipe(tmp_path, corruption_hold=hold)

    assert main(["train", str(recipe)]) == 2
    assert "`corruption_hold` is a share of the run" in capsys.readouterr().err
