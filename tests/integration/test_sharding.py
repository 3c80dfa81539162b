"""FSDP2 gives the weights of plain data parallelism."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_networks import new_model, refiner_model

from hf_nar.training.sharding import check_shardable, whole_copy

ROOT = Path(__file__).parents[2]


def test_sharded_networks_of_both_families_train_as_whole_ones_do(tmp_path):
    """The config is the one that is documented; whole copies translate in one process alone."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    own = {"PYTHONPATH": path, "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    script = [str(ROOT / "tests/sharded_steps.py"), str(ROOT / "training/accelerate/fsdp.yaml")]

    process = subprocess.run(
        [sys.executable, *launch, *script],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )

    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.count("is as with DDP") == 2 * 3


def test_a_model_that_is_not_sharded_is_its_own_whole_copy():
    model = new_model()

    assert whole_copy(model) is model


def test_refiners_are_not_sharded():
    model = refiner_model()
    check_shardable(model, is_sharded=True)
    model.train_refiners()
    check_shardable(model, is_sharded=False)

    with pytest.raises(ValueError, match="Refiners must be trained with whole weights"):
        check_shardable(model, is_sharded=True)
