"""One process, several, and several machines train alike from the same global batches."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tiny_runs import tiny_recipe, write_corpus
from torch.testing import assert_close

from hf_nar.training.trainer import LOSS_TERMS

ROOT = Path(__file__).parents[2]
STEPS = 20
SCRIPT = ROOT / "tests/seeded_runs.py"
KINDS = ["lanmt", "refinement", "teacher", "refiner"]
NETWORKS = KINDS[:2]
# Two network namespaces, one of them inside the other's user namespace, with a cable between them.
TWO_NETWORKS = r"""
set -e
ip link set lo up
unshare --net sleep 600 &
other=$!
trap 'kill $other' EXIT
while [ "$(readlink /proc/$other/ns/net)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
ip link add near type veth peer name far
ip link set far netns $other
ip addr add 192.0.2.1/24 dev near
ip link set near up
nsenter --target $other --net sh -c 'ip link set lo up
    ip addr add 192.0.2.2/24 dev far; ip link set far up'
GLOO_SOCKET_IFNAME=far nsenter --target $other --net "$@" --machine_rank 1 {script} &
second=$!
GLOO_SOCKET_IFNAME=near "$@" --machine_rank 0 {script}
wait $second
"""
# What must be the same in a log entry, of training or, with a prefix, of evaluation. Speed is not,
# nor is the epoch: a filler of two processes counts as a part of it.
ALIKE = {
    "step",
    "loss",
    "grad_norm",
    "learning_rate",
    "kl_budget",
    "corruption_scale",
    "bleu",
    *LOSS_TERMS,
}
LOOPBACK = socket.inet_ntoa(socket.INADDR_LOOPBACK.to_bytes(4, "big"))
NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
SHAPE = {
    "d_model": 16,
    "d_ff": 32,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "max_target_length": 40,
    "max_length_offset": 6,
    **NO_DROPOUT,
}
REFINEMENT = {"num_encoder_layers": 1, "num_decoder_layers": 1, "num_training_passes": 3}
TEACHER = {
    "d_model": 16,
    "max_position_embeddings": 40,
    **NO_DROPOUT,
    **{
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": 1, "ffn_dim": 32, "attention_heads": 2}.items()
    },
}
# Plain gradient descent: Adam would hide a gradient that is too large by any factor.
TRAINING = {
    "max_steps": STEPS,
    "optim": "sgd",
    "learning_rate": 0.1,
    "max_grad_norm": 1.0e9,
    "eval_steps": STEPS // 2,
    "save_steps": STEPS // 2,
    "tokens_per_batch": 150,
}


def write_recipes(folder: Path, trained: Path) -> list[str]:
    """Write a recipe for each kind of loss, all on one corpus.

    Args:
        folder: Of recipes and what they make.
        trained: Folder of the run whose LaNMT is refined.
    """
    write_corpus(folder / "data")
    base = tiny_recipe(folder)
    base["training"] |= TRAINING
    lanmt = base["model"] | NO_DROPOUT | {"posterior_noise": 0.2, "consistency_weight": 0.5}
    refiners = {"num_score_layers": 1, "num_energy_layers": 1, "refiner_own_steps": 0.5}
    kinds = {
        "lanmt": {"model": lanmt},
        "refinement": {"family": "refinement_nar", "model": SHAPE | REFINEMENT},
        "teacher": {"family": "marian", "model": TEACHER, "generation": {}},
        "refiner": {
            "stage": "refiner",
            "init_from": str(trained / "lanmt/export"),
            "tokenizer": {"name": str(trained / "lanmt/export")},
            "model": lanmt | refiners,
            "generation": {"refinement": "score"},
        },
    }
    assert list(kinds) == KINDS
    files = []
    for name, parts in kinds.items():
        recipe = {**base, **parts, "output": str(folder / name)}
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return [str(file) for file in files]


def run(folder: Path, commands: list[list[object]], *arguments: object) -> Path:
    """Run commands side by side until all have ended; return the folder."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    own = {"PYTHONPATH": path, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [str(part) for part in (*command, *arguments)],
            env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    for process, error in zip(processes, errors, strict=True):
        assert process.returncode == 0, error[-3000:]
    return folder


def launch(*options: object) -> list[object]:
    """Return the command that starts two processes on a CPU."""
    config = ROOT / "training/accelerate/cpu_two.yaml"
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, *options]


def machines(address: str, port: int) -> list[object]:
    """Return the command of each of two machines, but for its rank."""
    where = ["--main_process_ip", address, "--main_process_port", port]
    return launch("--num_machines", 2, *where)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """Return what one process makes of the recipes, with two batches in each step."""
    folder = tmp_path_factory.mktemp("one")
    recipes = write_recipes(folder, folder)
    accumulating = "training.gradient_accumulation_steps=2"
    return run(folder, [[sys.executable, SCRIPT]], *recipes, accumulating)


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]


def assert_alike(one: Path, other: Path, kinds: list[str]) -> None:
    """Compare all losses and weights of two folders of runs."""
    for kind in kinds:
        entries, others = (
            [entry for entry in log_of(folder / kind) if {"loss", "eval_loss"} & entry.keys()]
            for folder in (one, other)
        )
        assert log_of(other / kind)[0]["processes"] == 2
        assert len(entries) == len(others) == STEPS + 2
        for entry, its_other in zip(entries, others, strict=True):
            names = [name for name in entry if name.removeprefix("eval_") in ALIKE]
            assert names == [name for name in its_other if name.removeprefix("eval_") in ALIKE]
            assert len(names) > 2
            for name in names:
                close = pytest.approx(entry[name], rel=1e-3, abs=2e-4)
                assert its_other[name] == close, (kind, entry["step"], name)
        weights, its_weights = (
            load_file(folder / f"{kind}/checkpoint-{STEPS}/model.safetensors")
            for folder in (one, other)
        )
        assert_close(its_weights, weights, rtol=1e-4, atol=1e-5)


def test_the_epoch_ends_within_the_run_and_its_batches_are_odd(one):
    for kind in KINDS:
        epochs = [entry["epoch"] for entry in log_of(one / kind) if "loss" in entry]
        batches = round(2 / epochs[0])  # two in a step

        assert batches % 2 == 1
        assert 1.5 < epochs[-1] < STEPS


def test_two_processes_train_as_one_does(one, tmp_path):
    two = run(tmp_path, [launch(SCRIPT)], *write_recipes(tmp_path, one))

    assert_alike(one, two, KINDS)


def test_two_machines_train_as_one_process_does(one, tmp_path):
    port = free_port()
    commands = [[*machines(LOOPBACK, port), "--machine_rank", rank, SCRIPT] for rank in range(2)]

    run(tmp_path, commands, *write_recipes(tmp_path, one)[:2])

    assert_alike(one, tmp_path, NETWORKS)


def test_two_machines_in_networks_of_their_own_train_as_one_process_does(one, tmp_path):
    namespaces = ["unshare", "--user", "--map-root-user", "--net"]
    tools = [tool for tool in ("unshare", "nsenter", "ip") if shutil.which(tool) is None]
    if tools:
        pytest.skip(f"network namespaces need {tools[0]}")
    cable = ["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"]
    tried = subprocess.run([*namespaces, *cable], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"network namespaces are not permitted here: {tried.stderr.strip()}")
    recipes = write_recipes(tmp_path, one)[:2]
    script = TWO_NETWORKS.format(script=shlex.join([str(SCRIPT), *recipes]))
    command = [*namespaces, "bash", "-c", script, "bash", *machines("192.0.2.1", 29500)]

    run(tmp_path, [command])

    assert_alike(one, tmp_path, NETWORKS)


def free_port() -> int:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        return int(server.getsockname()[1])
