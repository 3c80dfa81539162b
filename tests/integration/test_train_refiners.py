"""`hf-nar train` with `stage: refiner`: score and energy networks on top of a trained model."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
import yaml
from safetensors.torch import load_file
from tiny_runs import tiny_pairs, tiny_recipe, write_recipe

from hf_nar.cli.main import main
from hf_nar.inference import Translator

TERMS = {f"{name}_{term}" for name in ("score", "energy") for term in ("loss", "cosine", "error")}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Return the folder of a finished run that trained the whole model."""
    folder = tmp_path_factory.mktemp("base")
    recipe = str(write_recipe(folder))
    assert main(["train", recipe, "model.dropout=0.0", "training.max_steps=3"]) == 0
    return folder


def write_second(folder: Path, base: Path, **model: object) -> str:
    recipe = tiny_recipe(base)
    recipe["output"] = str(folder / "run")
    recipe["stage"] = "refiner"
    recipe["init_from"] = str(base / "run/export")
    recipe["tokenizer"] = {"name": str(base / "run/export")}
    refiners = {"num_score_layers": 1, "num_energy_layers": 1, "dropout": 0.2}
    recipe["model"] |= {**refiners, **model}
    recipe["generation"] |= {"refinement": "score", "num_refinement_iterations": 3}
    file = folder / "refiner.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """Return the folder of a finished run that trained refiners."""
    folder = tmp_path_factory.mktemp("refiner")
    assert main(["train", write_second(folder, base)]) == 0
    return folder


def weights_of(folder: Path):
    return load_file(folder / "model.safetensors")


def log_of(folder: Path) -> list[dict]:
    lines = (folder / "run/log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_all_but_the_refiners_is_as_it_was(base, finished):
    first, last = (weights_of(folder / "run/export") for folder in (base, finished))

    assert {name for name in last if name not in first} == {
        name for name in last if name.startswith("refiners.")
    }
    for name, value in first.items():
        assert value.equal(last[name]), name


def test_refiners_learn_and_stand_in_every_checkpoint(finished):
    first, last = (weights_of(finished / f"run/checkpoint-{step}") for step in (3, 6))

    names = [name for name in first if name.startswith("refiners.")]
    still = [name for name in names if first[name].equal(last[name])]
    # A constant added to an energy moves nothing.
    assert set(still) <= {"refiners.energy.head.bias", "refiners.energy.layers.norm.bias"}
    assert {name.split(".")[1] for name in names} == {"score", "energy"}


def test_the_log_has_the_terms_of_refiners_and_no_others(finished):
    log = log_of(finished)
    training = [entry for entry in log if "loss" in entry]
    validation = [entry for entry in log if "eval_loss" in entry]

    assert [entry["step"] for entry in training] == [1, 2, 3, 4, 5, 6]
    for entry in training:
        assert entry.keys() >= TERMS
        assert not entry.keys() & {"word_loss", "kl", "kl_budget", "length_loss"}
        expected = entry["score_loss"] + entry["energy_loss"]
        assert entry["loss"] == pytest.approx(expected, rel=0.01, abs=2e-3)
    assert len(validation) == 2
    for entry in validation:
        assert entry.keys() >= {f"eval_{term}" for term in TERMS} | {"eval_bleu"}


def test_the_export_refines_by_score_and_can_by_energy(finished):
    folder = finished / "run/export"
    knobs = json.loads((folder / "generation_config.json").read_text())
    sources = [source for source, _ in tiny_pairs()[:3]]

    translator = Translator.from_pretrained(folder, device="cpu")

    assert (knobs["refinement"], knobs["num_refinement_iterations"]) == ("score", 3)
    assert list(translator.model.refiners) == ["score", "energy"]
    expected = translator.translate(sources, refinement="score", num_refinement_iterations=3)
    assert translator.translate(sources) == expected
    assert len(translator.translate(sources, refinement="energy")) == 3
    facts = json.loads((folder / "training.json").read_text())
    assert facts["recipe"]["stage"] == "refiner"


def test_a_run_that_stopped_goes_on_to_the_same_weights(finished, tmp_path):
    run = finished / "run"
    whole = shutil.copytree(run, tmp_path / "whole")
    shutil.rmtree(run / "export")
    shutil.rmtree(run / "checkpoint-6")

    code = main(["train", str(finished / "refiner.yaml")])

    assert code == 0
    for folder in ("checkpoint-6", "export"):
        first, second = weights_of(run / folder), weights_of(whole / folder)
        assert first.keys() == second.keys()
        assert all(value.equal(second[name]) for name, value in first.items()), folder


def test_refiners_of_an_export_can_be_trained_further(finished, base, tmp_path):
    recipe = write_second(tmp_path, base)

    code = main(["train", recipe, f"init_from={finished / 'run/export'}", "training.max_steps=1"])

    assert code == 0
    first, last = (weights_of(each / "run/export") for each in (finished, tmp_path))
    name = "refiners.score.layers.layers.0.feed_forward.fc1.weight"
    step = (last[name].float() - first[name].float()).abs().max()
    assert 0 < step < 0.02  # not far from where it started


def test_refiners_can_go_on_with_a_model_that_was_trained_further(finished, base, tmp_path):
    further = str(tmp_path / "further.yaml")
    tuned = tiny_recipe(base) | {"output": str(tmp_path / "further")}
    tuned["init_from"] = str(base / "run/export")
    tuned["tokenizer"] = {"name": str(base / "run/export")}
    Path(further).write_text(yaml.safe_dump(tuned), encoding="utf-8")
    assert main(["train", further, "model.dropout=0.0", "training.max_steps=2"]) == 0
    recipe = write_second(tmp_path, base)
    begun = f"refiners_from={finished / 'run/export'}"

    model = f"init_from={tmp_path / 'further/export'}"
    assert main(["train", recipe, model, begun, "training.max_steps=1"]) == 0

    last = weights_of(tmp_path / "run/export")
    frozen, start = weights_of(tmp_path / "further/export"), weights_of(finished / "run/export")
    assert all(last[name].equal(value) for name, value in frozen.items())
    name = "refiners.score.layers.layers.0.feed_forward.fc1.weight"
    assert 0 < (last[name].float() - start[name].float()).abs().max() < 0.02


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["refiners_from=runs/x", "stage=model"], "`refiners_from` is for `stage: refiner`"),
        (["refiners_from=BASE"], "must be a model with what `stage: refiner` trains"),
        (['init_from=""'], "`stage: refiner` must have `family: lanmt` and, in `init_from`"),
        (["family=refinement_nar"], "`stage: refiner` must have `family: lanmt`"),
        (["stage=second"], "stage"),
        (["model.num_score_layers=0", "model.num_energy_layers=0"], "must be set in it"),
        (
            [
                "model.latent_axis=target",
                "model.num_target_layers=null",
                "model.num_source_layers=1",
            ],
            "is missing",
        ),
    ],
    ids=[
        "no-stage",
        "no-refiners",
        "from-nothing",
        "other-family",
        "no-such-stage",
        "no-refiner",
        "other-axis",
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, base, capsys, overrides, message):
    recipe = write_second(tmp_path, base)
    overrides = [text.replace("BASE", str(base / "run/export")) for text in overrides]

    code = main(["train", recipe, "generation.refinement=delta_posterior", *overrides])

    error = capsys.readouterr().err.splitlines()
    assert code == 2
    assert error[-1].startswith("hf-nar: error: ")
    assert message in error[-1]


def test_target_latents_train_from_source_latents_and_get_refiners(tmp_path, base):
    other = {
        "latent_axis": "target",
        "num_target_layers": None,
        "num_source_layers": 1,
        "num_score_layers": 0,
        "num_energy_layers": 0,
    }
    first = write_second(tmp_path, base, **other)
    knobs = ["stage=model", "generation.refinement=delta_posterior", "training.max_steps=1"]
    knobs += ["training.save_steps=1", "training.eval_steps=1"]
    assert main(["train", first, *knobs]) == 0
    (tmp_path / "second").mkdir()
    second = write_second(tmp_path / "second", tmp_path, **{**other, "num_score_layers": 1})
    data = [f"data.folder={base / 'data'}", *knobs[2:]]

    assert main(["train", second, *data]) == 0

    exported = tmp_path / "second/run/export"
    assert json.loads((exported / "config.json").read_text())["latent_axis"] == "target"
    texts = Translator.from_pretrained(exported, device="cpu").translate(["Ein Hund."])
    assert len(texts) == 1
