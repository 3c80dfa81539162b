"""What a run writes about itself, beside its weights and into a tracker."""

import json

import datasets
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import write_recipe

from hf_nar.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the output folder of a run with a tracker."""
    folder = tmp_path_factory.mktemp("records")
    file = str(write_recipe(folder, report_to="tensorboard"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
        assert main(["train", file]) == 0
    return folder / "run"


def entries(run):
    log = [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
    return [entry for entry in log if "loss" in entry]


@pytest.mark.parametrize(
    "name", ["loss", "word_loss", "tokens_per_second", "padding_share", "model_flops_per_second"]
)
def test_a_tracker_gets_what_the_log_has(run, name):
    [events] = run.glob("runs/*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()

    tracked = [(event.step, event.value) for event in accumulator.Scalars(f"train/{name}")]

    logged = [(entry["step"], pytest.approx(entry[name], rel=1e-5)) for entry in entries(run)]
    assert tracked == logged
    assert len(tracked) == 6


def test_the_environment_lies_beside_the_weights_and_travels_with_them(run):
    environments = json.loads((run / "environment.json").read_text())
    facts = json.loads((run / "export/training.json").read_text())

    assert facts["environments"] == environments
    assert [start["from_step"] for start in environments] == [0]
    assert environments[0]["command"].startswith("hf-nar train ")
    assert environments[0]["packages"]["torch"] == facts["torch"]
