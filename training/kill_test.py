"""Kill a small training run at random moments, and check that nothing is lost.

    python training/kill_test.py --kills 20 --seed 0
    python training/kill_test.py --kills 20 --processes 2

A run of its own corpus is trained once without a break. Then it is trained again and killed: by
SIGKILL, all processes at once, at a random step, while it writes a checkpoint, while it starts, and
at last while it exports. After each kill every folder that is named as a checkpoint must load. In
the end the weights must be those of the unbroken run, bit for bit. It prints what it did and exits
with 1 where something is wrong. Every start imports torch anew; that is most of the time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
import yaml
from safetensors.torch import load_file
from transformers import TrainerState
from transformers.trainer_pt_utils import safe_globals

from hf_nar.training.checkpoint import WEIGHTS_FILE, checkpoint_folders
from hf_nar.training.manifest import damage
from hf_nar.training.whole_folders import UNFINISHED

SCRIPT = Path(__file__).with_name("train.py")
SAVE_STEPS = 5
MOST_STEPS = 12  # from one kill to the next
SECONDS = 180  # in which anything must have happened
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def write_recipe(folder: Path, kills: int) -> Path:
    """Write a corpus of number words with their reversal, and a recipe of a tiny network."""
    chance = random.Random(0)
    for part, count in (("train", 200), ("val", 4)):
        rows = [chance.choices(WORDS, k=chance.randint(2, 8)) for _ in range(count)]
        for side, step in (("source", 1), ("target", -1)):
            text = "".join(" ".join(row[::step]) + "\n" for row in rows)
            (folder / f"{part}.{side}").write_text(text, encoding="utf-8")
    recipe = {
        "output": str(folder / "run"),
        "data": {
            "folder": str(folder),
            "train": {"source_file": "train.source", "target_file": "train.target"},
            "validation": {"source_file": "val.source", "target_file": "val.target"},
        },
        "tokenizer": {"vocab_size": 30},
        "model": {
            **dict.fromkeys(("d_model", "d_ff"), 16),
            **dict.fromkeys(("num_prior_layers", "num_target_layers"), 1),
            **dict.fromkeys(("num_posterior_layers", "num_decoder_layers"), 1),
            "num_attention_heads": 2,
            "latent_dim": 4,
        },
        "training": {
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": MOST_STEPS * (kills + 1),
            "tokens_per_batch": 300,
            "learning_rate": 1.0e-3,
            "logging_steps": 1,
            "eval_steps": SAVE_STEPS,
            "save_steps": SAVE_STEPS,
            "save_total_limit": 3,
        },
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


@dataclass
class Run:
    """A run that is started, killed and started again.

    Args:
        folder: Of its corpus, recipe and output.
        recipe: What it runs.
        processes: How many train.
    """

    folder: Path
    recipe: Path
    processes: int

    @property
    def output(self) -> Path:
        """Where it writes."""
        return self.folder / "run"

    def start(self) -> psutil.Popen:
        """Start the real command, with nothing but its errors kept."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
        many = [*launcher, str(self.processes)] if self.processes > 1 else []
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        environment["HF_HOME"] = str(self.folder / "hf")
        with (self.folder / "errors.txt").open("ab") as errors:
            return psutil.Popen(
                [sys.executable, *many, str(SCRIPT), str(self.recipe)],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Let it run to its end."""
        if self.start().wait(timeout=10 * SECONDS):
            raise SystemExit(f"The run failed: {self.errors()}")

    def errors(self) -> str:
        """Return what it said last."""
        return (self.folder / "errors.txt").read_text(encoding="utf-8", errors="replace")[-3000:]

    def logged_step(self) -> int:
        """Return the last step of the log."""
        log = self.output / "log.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
        return int(json.loads(lines[-1])["step"]) if lines else 0

    def last_checkpoint(self) -> int:
        """Return the step of the last checkpoint."""
        folders = checkpoint_folders(self.output)
        return int(folders[-1].name.split("-")[1]) if folders else 0


def kill(process: psutil.Popen) -> None:
    """Kill a process and all that it has started, wherever they are."""
    for member in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            member.send_signal(signal.SIGKILL)
    process.wait()


def wait_for(happened: Callable[[], bool], process: psutil.Popen, run: Run) -> None:
    """Wait until a function returns true, while the process lives."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            kill(process)
            raise SystemExit(f"The run ended or hung before it was killed: {run.errors()}")
        time.sleep(0.0005)


def kill_once(run: Run, aim: str, chance: random.Random) -> tuple[int, float]:
    """Start a run and kill it; return the step it had logged, and the seconds since its start."""
    before, began = run.last_checkpoint(), time.monotonic()
    log_before = len((run.output / "log.jsonl").read_bytes()) if before else 0
    target = before + chance.randint(1, MOST_STEPS - 1)
    process = run.start()

    def reached() -> bool:
        log = run.output / "log.jsonl"
        is_new = log.is_file() and log.stat().st_size > log_before
        return is_new and before <= run.logged_step() and run.logged_step() >= target

    def saving() -> bool:
        try:
            folders = checkpoint_folders(run.output / UNFINISHED)
        except FileNotFoundError:  # just removed
            return False
        return any(int(folder.name.split("-")[1]) >= target for folder in folders)

    def exporting() -> bool:
        return (run.output / UNFINISHED / "export").exists()

    if aim == "start":
        time.sleep(chance.uniform(0, 8))
    else:
        if aim == "saving":  # not what the kill before has left
            wait_for(lambda: not (run.output / UNFINISHED).exists(), process, run)
        moments = {"step": reached, "saving": saving, "export": exporting}
        wait_for(moments[aim], process, run)
        time.sleep(chance.uniform(0, 0.1))
    kill(process)
    return run.logged_step(), time.monotonic() - began


def problems(run: Run) -> list[str]:
    """Return what is wrong with the folders that a killed run has left."""
    found = []
    for folder in checkpoint_folders(run.output):
        if problem := damage(folder):
            found.append(f"{folder.name}: {problem}")
            continue
        load_file(folder / WEIGHTS_FILE)
        TrainerState.load_from_json(str(folder / "trainer_state.json"))
        states = [*folder.glob("rng_state*.pth"), folder / "optimizer.pt", folder / "scheduler.pt"]
        if len(states) != run.processes + 2:
            found.append(f"{folder.name} has {len(states)} states")
        with safe_globals():
            for state in states:
                torch.load(state, weights_only=True)
    export = run.output / "export"
    if export.exists() and not (export / "training.json").is_file():
        found.append("export is not whole")
    return found


def differences(run: Run, unbroken: Path) -> list[str]:
    """Return the weights that differ from those of the unbroken run."""
    last = checkpoint_folders(unbroken)[-1].name
    found = []
    for name in (last, "export"):
        expected, weights = (load_file(i / name / WEIGHTS_FILE) for i in (unbroken, run.output))
        found += [f"{name}: {key}" for key in expected if not expected[key].equal(weights[key])]
    states = [
        TrainerState.load_from_json(str(output / last / "trainer_state.json"))
        for output in (unbroken, run.output)
    ]
    if states[0].best_global_step != states[1].best_global_step:
        found.append(f"{last}: the best step")
    return found


def aims_of(kills: int, chance: random.Random) -> list[str]:
    """Return what each kill is aimed at; the last one at the export."""
    aims = chance.choices(["step", "saving", "start"], [9, 9, 2], k=kills - 1)
    return [*aims, "export"]


def kill_and_check(run: Run, options: argparse.Namespace) -> list[str]:
    """Kill a run again and again, print what happened, and return what was wrong."""
    chance = random.Random(options.seed)
    say("kill  aimed at  logged step  checkpoints afterwards            unfinished        seconds")
    wrong: list[str] = []
    for number, aim in enumerate(aims_of(options.kills, chance), start=1):
        step, seconds = kill_once(run, aim, chance)
        wrong += (found := problems(run))
        kept = " ".join(i.name.split("-")[1] for i in checkpoint_folders(run.output))
        left = " ".join(sorted(i.name for i in (run.output / UNFINISHED).glob("*")))
        say(f"{number:4}  {aim:8}  {step:11}  {kept:32}  {left:16}  {seconds:7.1f}  {found or ''}")
    return wrong


def main() -> int:
    """Read the options, do it all and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="kill-test-"))
    run = Run(folder, write_recipe(folder, options.kills), options.processes)
    run.finish()
    unbroken = run.output.rename(folder / "unbroken")
    say(f"An unbroken run took {time.monotonic() - began:.0f} seconds.")

    wrong = kill_and_check(run, options)
    run.finish()
    wrong += problems(run) + differences(run, unbroken)

    damaged = [i.name for i in run.output.glob("damaged-*")]
    wrong += [f"{name} was set aside" for name in damaged]
    say(f"{options.kills} kills, {time.monotonic() - began:.0f} seconds.")
    if wrong:
        say(f"Wrong: {'; '.join(wrong)}. See {folder}.")
        return 1
    say("Every folder loaded, every run went on, and the weights are those of the unbroken run.")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
