"""Runs that are asked to stop, killed or damaged, and what the next start makes of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import datasets
import pytest
import yaml
from safetensors.torch import load_file
from tiny_runs import tiny_pairs, write_recipe
from torch.nn.modules.module import register_module_forward_pre_hook

from hf_nar.cli.main import main
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.interruption import EXIT_CODE, StopRequest

ROOT = Path(__file__).parents[2]
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@contextmanager
def signal_in_pass(number, asked):
    """Have this process get a signal in one of the forward passes in training, from 1."""
    count = 0

    def ask(module, _):
        nonlocal count
        if isinstance(module, LaNMTForConditionalGeneration) and module.training:
            count += 1
            if count == number:
                os.kill(os.getpid(), asked)

    hook = register_module_forward_pre_hook(ask)
    yield
    hook.remove()


def steps_of(run):
    return sorted(int(folder.name.split("-")[1]) for folder in run.glob("checkpoint-*"))


def same_weights(first, second):
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def logged(run):
    """Return what a run logged of its steps: of one that was done twice, the last time."""
    lines = map(json.loads, (run / "log.jsonl").read_text("utf-8").splitlines())
    found = {}
    for line in lines:
        for kind in {"loss", "eval_bleu"} & line.keys():
            values = {k: v for k, v in line.items() if "second" not in k and "runtime" not in k}
            found[line["step"], kind] = values
    return found


def state_of(checkpoint):
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    return {key: state[key] for key in ("global_step", "epoch", "best_metric", "best_global_step")}


OPTIONS = {"logging_steps": 3, "eval_steps": 4, "save_steps": 4, "max_steps": 10}
OPTIONS |= {"tokens_per_batch": 300, "kl_budget": 1.0}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """Return the folder of a run without a break, saved after steps 4, 8 and 10."""
    folder = tmp_path_factory.mktemp("unbroken")
    assert main(["train", str(write_recipe(folder, **OPTIONS))]) == 0
    return folder / "run"


@pytest.fixture
def copied(unbroken, tmp_path):
    """Return the unbroken run, put back as it was at the end, and a copy to compare with."""
    backup = shutil.copytree(unbroken, tmp_path / "backup")
    yield unbroken, backup
    shutil.rmtree(unbroken)
    shutil.copytree(backup, unbroken)


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_the_run_write_a_checkpoint_and_say_so(tmp_path, caplog, asked):
    recipe = write_recipe(tmp_path, **OPTIONS)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    with signal_in_pass(3, asked):
        code = main(["train", str(recipe)])

    assert code == EXIT_CODE == 75
    assert steps_of(tmp_path / "run") == [3]
    assert not (tmp_path / "run/export").exists()
    said = [i.message for i in caplog.records if "asked to stop" in i.message]
    assert said == [
        f"Training was asked to stop and has written {tmp_path / 'run/checkpoint-3'}. "
        "Run it again to go on."
    ]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_a_run_that_was_stopped_twice_ends_like_one_that_was_not(tmp_path, unbroken):
    recipe, run = write_recipe(tmp_path, **OPTIONS), tmp_path / "run"
    for number, expected in ((3, [3]), (5, [3, 4, 8])):  # in the second epoch, too
        with signal_in_pass(number, signal.SIGTERM):
            assert main(["train", str(recipe)]) == EXIT_CODE
        assert steps_of(run) == expected

    assert main(["train", str(recipe)]) == 0

    for step in (4, 8, 10):
        name = f"checkpoint-{step}"
        assert same_weights(run / name, unbroken / name)
        assert state_of(run / name) == state_of(unbroken / name)
    assert same_weights(run / "export", unbroken / "export")
    assert logged(run) == logged(unbroken)


def test_a_run_by_epochs_is_evaluated_at_the_end_of_one_before_it_stops(tmp_path):
    options = {"eval_strategy": "epoch", "save_strategy": "epoch", "tokens_per_batch": 1000}
    options |= {"num_train_epochs": 2, "max_steps": -1}
    for folder in ("whole", "stopped"):
        recipe = yaml.safe_load(write_recipe(tmp_path / folder, **options).read_text())
        del recipe["training"]["max_steps"]
        (tmp_path / folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    recipes = {folder: str(tmp_path / folder / "recipe.yaml") for folder in ("whole", "stopped")}
    assert main(["train", recipes["whole"]]) == 0
    first, last = steps_of(tmp_path / "whole/run")

    with signal_in_pass(first, signal.SIGTERM):  # the last step of the first epoch
        assert main(["train", recipes["stopped"]]) == EXIT_CODE

    run, whole = tmp_path / "stopped/run", tmp_path / "whole/run"
    assert (first, "eval_bleu") in logged(run)
    assert state_of(run / f"checkpoint-{first}") == state_of(whole / f"checkpoint-{first}")
    assert main(["train", recipes["stopped"]]) == 0
    assert same_weights(run / f"checkpoint-{last}", whole / f"checkpoint-{last}")


def test_a_stop_with_one_kept_checkpoint_leaves_the_last_one_to_go_on_from(tmp_path):
    recipe = write_recipe(tmp_path, **OPTIONS, save_total_limit=1)

    with signal_in_pass(6, signal.SIGTERM):
        assert main(["train", str(recipe)]) == EXIT_CODE

    assert steps_of(tmp_path / "run") == [4, 6]  # the best one and the last one


def test_the_same_signal_passed_on_by_a_launcher_counts_once():
    with StopRequest() as request:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)

    assert request.signal == signal.SIGTERM


def test_a_streamed_corpus_goes_on_where_it_was_stopped(tmp_path):
    rows = [{"de": source, "en": target} for source, target in tiny_pairs()[:100]]
    (tmp_path / "rows").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows/train.jsonl").write_text(text, encoding="utf-8")
    corpus = {"dataset": str(tmp_path / "rows"), "streaming": True}
    corpus |= {"source_field": "de", "target_field": "en"}
    calls = [
        ["train", str(write_recipe(tmp_path / folder)), f"data.train={json.dumps(corpus)}"]
        for folder in ("whole", "stopped")
    ]
    assert main(calls[0]) == 0

    with signal_in_pass(4, signal.SIGTERM):
        assert main(calls[1]) == EXIT_CODE
    assert main(calls[1]) == 0

    assert same_weights(tmp_path / "stopped/run/checkpoint-6", tmp_path / "whole/run/checkpoint-6")


# Damage


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(copied, caplog, name):
    run, whole = copied
    shutil.rmtree(run / "checkpoint-10")
    with (run / "checkpoint-8" / name).open("r+b") as file:
        file.truncate(100)

    code = main(["train", str(run.parent / "recipe.yaml")])

    assert code == 0
    said = " ".join(i.message for i in caplog.records)
    assert f"{run / 'checkpoint-8'} is damaged: {name} has 100 bytes" in said
    assert f"Going on from {run / 'checkpoint-4'}." in said
    assert (run / "damaged-checkpoint-8/trainer_state.json").is_file()
    for step in (8, 10):
        assert same_weights(run / f"checkpoint-{step}", whole / f"checkpoint-{step}")


def test_a_log_that_was_cut_off_in_a_line_is_gone_on_with(copied):
    run, _ = copied
    shutil.rmtree(run / "checkpoint-10")
    with (run / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 9, "los')

    assert main(["train", str(run.parent / "recipe.yaml")]) == 0

    assert (10, "loss") in logged(run)


# Other processes


def start(folder, *command, **options):
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def outcome(folder, *command):
    """Return the exit code and the output of a process."""
    process = start(folder, *command)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


@pytest.mark.slow
def test_a_second_signal_ends_the_process_at_once(tmp_path):
    script = tmp_path / "wait.py"
    script.write_text(
        "import time\n"
        "from hf_nar.training.interruption import StopRequest\n"
        "with StopRequest() as request:\n"
        "    print('ready', flush=True)\n"
        "    while not request.signal:\n"
        "        time.sleep(0.01)\n"
        "    time.sleep(2.5)\n"
        "    print('again', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with start(tmp_path, script) as process:
        for line in ("ready\n", "again\n"):
            assert process.stdout.readline() == line
            process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=30) == -signal.SIGTERM


@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_a_signal_to_the_whole_group_leaves_time_for_a_checkpoint_with_loader_workers(
    tmp_path, streaming
):
    options = {**OPTIONS, "dataloader_num_workers": 1, "max_steps": 2000, "logging_steps": 1}
    recipe = write_recipe(tmp_path, **options)
    given = yaml.safe_load(recipe.read_text())
    given["data"]["train"]["streaming"] = streaming
    recipe.write_text(yaml.safe_dump(given))
    log = tmp_path / "run/log.jsonl"
    with start(tmp_path, ROOT / "training/train.py", recipe, start_new_session=True) as process:
        while process.poll() is None and not (log.is_file() and '"loss"' in log.read_text()):
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=60)

    assert process.returncode == EXIT_CODE, output
    assert steps_of(tmp_path / "run")


# In one of the processes something happens in its n-th forward pass in training.
SPY = """
import hashlib, os, signal, sys
import torch
from torch.nn.modules.module import register_module_forward_hook
from hf_nar.cli.main import main
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.trainer import NARTrainer

kind, number, *arguments = sys.argv[1:]
rank, count = os.environ["RANK"], 0

def act(module, inputs, output):
    global count
    if isinstance(module, LaNMTForConditionalGeneration) and torch.is_grad_enabled():
        count += 1
        if count == int(number) and rank == "1":
            if kind == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
            if kind == "nan":
                output["loss"] = output["loss"] * float("nan")
    return output

def noted(self, *args, **kwargs):
    train(self, *args, **kwargs)
    digest = hashlib.sha256()
    for value in self.model.state_dict().values():
        digest.update(value.numpy().tobytes())
    with open(f"weights-{rank}", "w") as file:
        file.write(digest.hexdigest())

train, NARTrainer.train = NARTrainer.train, noted
register_module_forward_hook(act)
code = main(["train", *arguments])
with open(f"code-{rank}", "w") as file:
    file.write(str(code))
raise SystemExit(code)
"""


def run_two(folder, kind, number, *arguments):
    """Run two processes; return the launcher's exit code and output, and those of the two."""
    (folder / "spy.py").write_text(SPY)
    code, output = outcome(folder, *LAUNCH, folder / "spy.py", kind, number, *arguments)
    files = [folder / f"code-{rank}" for rank in range(2)]
    return code, output, [int(file.read_text()) for file in files if file.is_file()]


@pytest.mark.slow
def test_two_processes_stop_at_one_step_and_go_on_to_the_same_weights(tmp_path):
    recipes = {}
    for name in ("whole", "stopped"):
        recipes[name] = write_recipe(tmp_path / name, **{**OPTIONS, "tokens_per_batch": 200})
    assert run_two(tmp_path / "whole", "nothing", 0, recipes["whole"])[2] == [0, 0]

    code, output, codes = run_two(tmp_path / "stopped", "signal", 5, recipes["stopped"])

    run, whole = tmp_path / "stopped/run", tmp_path / "whole/run"
    assert codes == [EXIT_CODE, EXIT_CODE]
    assert code != 0
    assert steps_of(run) == [4, 5]
    assert output.count("was asked to stop and has written") == 1
    assert run_two(tmp_path / "stopped", "nothing", 0, recipes["stopped"])[2] == [0, 0], output
    assert same_weights(run / "checkpoint-10", whole / "checkpoint-10")
    assert same_weights(run / "export", whole / "export")
    assert state_of(run / "checkpoint-10") == state_of(whole / "checkpoint-10")

    shutil.rmtree(run / "checkpoint-10")
    script = ROOT / "training/train.py"
    code, output = outcome(tmp_path / "stopped", script, recipes["stopped"])
    assert code == 0, output
    assert "checkpoint-8 was written by 2 process(es) and this run has 1" in output


@pytest.mark.slow
def test_two_processes_skip_the_same_step_and_name_the_one_whose_loss_it_was(tmp_path):
    recipe = write_recipe(tmp_path, **{**OPTIONS, "tokens_per_batch": 200})

    _, output, codes = run_two(tmp_path, "nan", 3, recipe)

    assert codes == [0, 0], output
    lines = map(json.loads, (tmp_path / "run/log.jsonl").read_text("utf-8").splitlines())
    (skipped,) = [line for line in lines if "skipped_step" in line]
    assert (skipped["skipped_step"], skipped["skipped_steps"]) == (3, 1)
    assert [batch["process"] for batch in skipped["batches"]] == [1]
    assert (tmp_path / "weights-0").read_text() == (tmp_path / "weights-1").read_text()


@pytest.mark.slow
def test_random_kills_lose_nothing(tmp_path):
    code, output = outcome(tmp_path, ROOT / "training/kill_test.py", "--kills", 4, "--seed", 5)

    assert code == 0, output
    assert "the weights are those of the unbroken run" in output
