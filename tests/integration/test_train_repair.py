"""Text repair from the recipe on: one text, its corrupted copies, and a network of refinement."""

import json

import datasets
import pytest
import yaml
from tiny_runs import tiny_recipe, write_corpus

from hf_nar.cli.main import main


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_network_is_trained_on_one_text_and_repairs_a_corrupted_one(tmp_path, monkeypatch):
    write_corpus(tmp_path / "data")
    recipe = tiny_recipe(tmp_path)
    recipe["family"] = "refinement_nar"
    recipe["data"]["train"] = {"text_file": "train.en", "corruption_rate": 0.2, "seed": 1}
    recipe["data"]["validation"] = {"text_file": "val.en", "corruption_rate": 0.2, "seed": 2}
    own = ("prior", "target", "posterior")
    shape = {k: v for k, v in recipe["model"].items() if k.split("_")[1] not in own}
    shape |= {"num_encoder_layers": 1, "num_training_passes": 2}
    del shape["latent_dim"]
    recipe["model"] = shape
    recipe["tokenizer"] = {"vocab_size": 50}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    corrupting = ["corrupt", "data/val.en", "--rate", "0.2", "--seed", "3", "--output", "noisy"]
    evaluating = ["evaluate", "run/export", "--source-file", "noisy", "--target-file"]
    evaluating += ["data/val.en", "--metrics", "bleu,exact", "--iterations", "0,1"]
    evaluating += ["--against", "noisy", "--output", "results.json"]
    codes = [main(call) for call in (["train", "recipe.yaml"], corrupting, evaluating)]

    assert codes == [0, 0, 0]
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [entry["word_loss"] for entry in log if "word_loss" in entry]
    assert losses[-1] < losses[0]
    quality = json.loads((tmp_path / "results.json").read_text())["quality"]
    assert [row["iterations"] for row in quality["rows"]] == [0, 1]
    assert all(0 <= row["exact"] <= 100 for row in quality["rows"])
    assert {row["metric"] for row in quality["against"]} == {"bleu", "exact"}
