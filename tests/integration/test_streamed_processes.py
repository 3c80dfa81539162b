"""Two processes that stream one corpus, and go on from a checkpoint."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_runs import write_recipe

ROOT = Path(__file__).parents[2]
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


def run_two(folder, recipe):
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    streamed = ["data.train.streaming=true", "data.validation.streaming=true"]
    command = [*LAUNCH, ROOT / "training/train.py", recipe, *streamed]
    subprocess.run(
        [sys.executable, *map(str, command)],
        env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
        cwd=folder,
        check=True,
    )


@pytest.mark.slow
def test_two_processes_go_on_in_a_stream_to_the_same_weights(tmp_path):
    recipe = write_recipe(tmp_path, max_steps=12, save_steps=5, eval_steps=5)
    run = tmp_path / "run"
    run_two(tmp_path, recipe)
    weights = load_file(run / "checkpoint-12/model.safetensors")
    positions = [
        json.loads((run / f"checkpoint-12/stream_position_{rank}.json").read_text())
        for rank in range(2)
    ]
    for folder in ("checkpoint-10", "checkpoint-12", "export"):
        shutil.rmtree(run / folder)

    run_two(tmp_path, recipe)

    again = load_file(run / "checkpoint-12/model.safetensors")
    assert all(again[name].equal(weights[name]) for name in weights)
    assert positions == [
        json.loads((run / f"checkpoint-12/stream_position_{rank}.json").read_text())
        for rank in range(2)
    ]
    assert positions[0]["processes"] == 2
