"""How much faster several processes train than one, on the CPUs of this machine.

    python training/benchmark_processes.py --processes 2

An epoch of made-up pairs, as long as those of Multi30k, is trained by one process, by one process
with as many batches in a step as there are processes, which is the same work, and by several. Each
process has one thread. The first epoch warms up, the second is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VOCABULARY, FIRST_WORD, END = 4000, 5, 2
CHILD = "--child"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2, help="How many are compared with one.")
    parser.add_argument("--tokens", type=int, default=2048, help="Tokens of a batch.")
    parser.add_argument("--pairs", type=int, default=4000, help="Pairs of an epoch.")
    parser.add_argument("--width", type=int, default=128, help="Width of the network.")
    parser.add_argument(
        "--layers", type=int, default=4, help="Layers of its prior and its decoder."
    )
    parser.add_argument("--output", type=Path, help="Write the figures here, too, as JSON.")
    parser.add_argument(CHILD, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--accumulate", type=int, default=1, help=argparse.SUPPRESS)
    return parser.parse_args()


def made_up_pairs(pairs: int) -> Any:
    """Return pairs of random words, 4 to 40 tokens long, about 14 in the middle."""
    import numpy as np
    from datasets import Dataset

    random = np.random.default_rng(0)
    source = np.clip(random.lognormal(2.65, 0.35, pairs), 4, 40).astype(int)
    target = np.clip(source * random.normal(1.0, 0.15, pairs), 4, 40).astype(int)

    def words(length: int) -> list[int]:
        return [*random.integers(FIRST_WORD, VOCABULARY, length - 1).tolist(), END]

    return Dataset.from_dict(
        {"input_ids": [words(n) for n in source], "labels": [words(n) for n in target]}
    )


def network(width: int, layers: int) -> Any:
    """Return a LaNMT with new weights."""
    from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
    from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration

    half = max(1, layers // 2)
    config = LaNMTConfig(
        vocab_size=VOCABULARY,
        d_model=width,
        d_ff=4 * width,
        num_attention_heads=max(1, width // 32),
        num_prior_layers=layers,
        num_target_layers=half,
        num_posterior_layers=half,
        num_decoder_layers=layers,
    )
    return LaNMTForConditionalGeneration(config)


def tokenizer() -> Any:
    """Return a tokenizer that only pads."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, "w3")), pad_token="w0", eos_token="w2"
    )


def train(given: argparse.Namespace) -> None:
    """Train two epochs, as one of several processes or alone; write down the second's figures."""
    import torch
    from transformers import TrainerCallback

    from hf_nar.training.config import NARTrainingArguments
    from hf_nar.training.trainer import NARTrainer

    class Clock(TrainerCallback):
        """Note when each epoch begins and ends."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            """Note the time."""
            self.times.append(time.perf_counter())

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            """Note the time."""
            self.times.append(time.perf_counter())

    torch.manual_seed(0)
    pairs, clock = made_up_pairs(given.pairs), Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = NARTrainingArguments(
            output_dir=folder,
            use_cpu=True,
            num_train_epochs=2,
            tokens_per_batch=given.tokens,
            gradient_accumulation_steps=given.accumulate,
            save_strategy="no",
            logging_steps=50,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = NARTrainer(
            args=arguments,
            model=network(given.width, given.layers),
            train_dataset=pairs,
            processing_class=tokenizer(),
            callbacks=[clock],
        )
        trainer.train()
    if trainer.is_world_process_zero():
        tokens = sum(map(len, pairs["input_ids"])) + sum(map(len, pairs["labels"]))
        seconds = clock.times[3] - clock.times[2]
        figures = {
            "processes": trainer.accelerator.num_processes,
            "batches_of_a_step": trainer.accelerator.num_processes * given.accumulate,
            "steps": trainer.state.global_step // 2,
            "seconds": round(seconds, 2),
            "tokens_per_second": round(tokens / seconds),
            "parameters": trainer.model.num_parameters(),
        }
        given.child.write_text(json.dumps(figures), encoding="utf-8")


def measure(given: argparse.Namespace, processes: int, accumulate: int) -> dict[str, Any]:
    """Start processes and return their figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        own = [__file__, CHILD, str(file), "--accumulate", str(accumulate)]
        for name in ("tokens", "pairs", "width", "layers"):
            own += [f"--{name}", str(getattr(given, name))]
        launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        subprocess.run(
            [sys.executable, *(launch if processes > 1 else []), *own],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    say("  ".join(f"{name} {value}" for name, value in figures.items()))
    return figures


def main() -> None:
    """Compare and print."""
    given = options()
    if given.child:
        train(given)
        return
    count = given.processes
    one, same = measure(given, 1, 1), measure(given, 1, count)
    several = measure(given, count, 1)
    speed = several["tokens_per_second"]
    result = {
        "runs": [one, same, several],
        "speedup_at_the_same_batch_of_each": round(speed / one["tokens_per_second"], 2),
        "speedup_at_the_same_work": round(speed / same["tokens_per_second"], 2),
    }
    for name, value in list(result.items())[1:]:
        say(f"{name} {value}")
    if given.output:
        given.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
