"""A finished run whose best checkpoint was damaged before it is exported again."""

import json

import datasets
from safetensors.torch import load, load_file
from tiny_runs import write_recipe

from hf_nar.cli.main import main
from hf_nar.training.manifest import write_manifest


def test_the_last_weights_are_exported_and_that_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    recipe, run = str(write_recipe(tmp_path)), tmp_path / "run"
    assert main(["train", recipe]) == 0
    state_file = run / "checkpoint-6/trainer_state.json"
    state = json.loads(state_file.read_text())
    state |= {"best_model_checkpoint": str(run / "checkpoint-3"), "best_global_step": 3}
    state_file.write_text(json.dumps(state))
    write_manifest(run / "checkpoint-6", 1)
    best = load((run / "checkpoint-3/model.safetensors").read_bytes())  # not mapped: it is cut now
    (run / "checkpoint-3/model.safetensors").write_bytes(b"")

    assert main(["train", recipe]) == 0

    exported, last = (
        load_file(run / name / "model.safetensors") for name in ("export", "checkpoint-6")
    )
    assert all(value.equal(last[name].to(value.dtype)) for name, value in exported.items())
    assert not all(value.equal(best[name].to(value.dtype)) for name, value in exported.items())
    assert json.loads((run / "export/training.json").read_text())["best_step"] is None
    said = "The best checkpoint, checkpoint-3, is not there: taking the last one."
    assert said in [i.message for i in caplog.records]
