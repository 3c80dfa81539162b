"""How fast batches are read from a corpus that is too large for the memory, and what that takes.

    python training/benchmark_data.py --pairs 5000000 --output training/results/data-side.json

Pairs of made-up sentences are written into a temporary folder: words as frequent as Zipf's law has
them, sentences as long as those of news. They are tokenized and stored once, and one whole pass is
read from the stored tokens, memory-mapped; then one pass is streamed from the text. Each part runs
in a process of its own, on one thread. With `--workers` both passes are read once more by as many
processes. The memory is that of the largest process, looked at from outside:

- `own` is its memory without the pages of files that are mapped into it;
- RSS is that and the pages of mapped files, libraries too, that it has read and not let go of;
- USS is RSS without what other processes have, too. A file that only one maps counts in full.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHILD, WORDS, MEDIAN_WORDS, LONGEST_WORDS, TOKENIZER_PAIRS = "--child", 200_000, 20.0, 100, 20_000
MAX_TOKENS = 256  # of a side
READING = ("mapped", "streamed")
PARTS = ("tokenize", *READING)
UTILISATION = 0.4  # of the peak, assumed
CONSONANTS = (
    "b",
    "d",
    "f",
    "g",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "r",
    "s",
    "t",
    "v",
    "z",
    "sch",
    "st",
)
VOWELS = ("a", "e", "i", "o", "u", "ei", "au")


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5_000_000, help="Pairs of the corpus.")
    parser.add_argument("--tokens", type=int, default=4096, help="Tokens of a batch.")
    parser.add_argument(
        "--workers", type=int, default=0, help="Read once more by as many other processes."
    )
    parser.add_argument("--parts", help="Only these, by their names in the results, with commas.")
    parser.add_argument("--vocab-size", type=int, default=32000, help="Of the tokenizer.")
    parser.add_argument("--folder", type=Path, help="Where the temporary folder is made.")
    parser.add_argument("--output", type=Path, help="Write the figures here, too, as JSON.")
    parser.add_argument(CHILD, choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def made_up_words() -> list[str]:
    """Return different words of one syllable or more, the shortest first."""
    syllables = [first + last for first in CONSONANTS for last in VOWELS]
    words = []
    for number in range(WORDS):
        parts, rest = "", number + 1
        while rest:
            rest, place = divmod(rest - 1, len(syllables))
            parts += syllables[place]
        words.append(parts)
    return words


def write_corpus(folder: Path, pairs: int) -> None:
    """Write `source.txt` and `target.txt`, the same for each number of pairs."""
    import numpy as np

    random, words = np.random.default_rng(1), np.array(made_up_words(), dtype=object)
    shares = np.cumsum(1 / np.arange(1, WORDS + 1))
    with (folder / "source.txt").open("w") as source, (folder / "target.txt").open("w") as target:
        for start in range(0, pairs, 100_000):
            count = min(100_000, pairs - start)
            lengths = random.lognormal(np.log(MEDIAN_WORDS), 0.55, count)
            for file, ratio in ((source, 1.0), (target, random.normal(1.0, 0.15, count))):
                sizes = np.clip(lengths * ratio, 1, LONGEST_WORDS).astype(int)
                drawn = random.random(int(sizes.sum())) * shares[-1]
                text = words[np.searchsorted(shares, drawn)].tolist()
                ends = np.cumsum(sizes).tolist()
                starts = [0, *ends[:-1]]
                lines = (" ".join(text[i:j]) + ".\n" for i, j in zip(starts, ends, strict=True))
                file.writelines(lines)


def train_tokenizer(folder: Path, vocab_size: int) -> None:
    """Train a tokenizer on the first of the sentences."""
    from itertools import islice

    from hf_nar.data.tokenizer import train_tokenizer

    sentences: list[str] = []
    for name in ("source.txt", "target.txt"):
        with (folder / name).open() as file:
            sentences += islice(file, TOKENIZER_PAIRS)
    train_tokenizer([line.strip() for line in sentences], folder / "tokenizer", vocab_size)


def corpus_of(folder: Path, is_streamed: bool) -> tuple[Any, Any]:
    """Return the pairs, and the tokenizer."""
    from transformers import PreTrainedTokenizerFast

    from hf_nar.data.corpus import CorpusConfig, load_corpus

    files = folder / "source.txt", folder / "target.txt"
    pairs = load_corpus(CorpusConfig(*files, streaming=is_streamed)).pairs
    return pairs, PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")


def tokenize(folder: Path) -> dict[str, Any]:
    """Store pairs and tokens as a training run does, and say how long each took."""
    from hf_nar.data.corpus import token_lengths, tokenize_corpus

    start = time.perf_counter()
    pairs, tokenizer = corpus_of(folder, False)
    loaded = time.perf_counter()
    examples = tokenize_corpus(pairs, tokenizer, MAX_TOKENS, MAX_TOKENS).examples
    seconds = time.perf_counter() - loaded
    tokens = sum(int(token_lengths(examples, side).sum()) for side in ("input_ids", "labels"))
    return {
        "pairs": len(examples),
        "tokens": tokens,
        "seconds_to_store_the_pairs": round(loaded - start, 1),
        "seconds": round(seconds, 1),
        "pairs_per_second": round(len(examples) / seconds),
        "tokens_per_second": round(tokens / seconds),
    }


def mapped_loader(folder: Path, given: argparse.Namespace, collate: Any) -> Any:
    """Return what gives an epoch of batches from the stored tokens, as the trainer reads them."""
    from torch.utils.data import DataLoader

    from hf_nar.data.batching import TokenBatchSampler
    from hf_nar.data.collating import fast_examples
    from hf_nar.data.corpus import token_lengths, tokenize_corpus

    pairs, tokenizer = corpus_of(folder, False)
    examples = tokenize_corpus(pairs, tokenizer, MAX_TOKENS, MAX_TOKENS).examples
    lengths = [token_lengths(examples, side) for side in ("input_ids", "labels")]
    sampler: Any = TokenBatchSampler(lengths[0], lengths[1], given.tokens, seed=0)
    return DataLoader(
        fast_examples(examples, collate),
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=given.workers,
    )


def streamed_loader(folder: Path, given: argparse.Namespace, collate: Any) -> Any:
    """Return what gives batches without end from the text, as the trainer reads them."""
    from torch.utils.data import DataLoader

    from hf_nar.data.corpus import tokenize_corpus
    from hf_nar.data.streaming import READ_AHEAD, StreamedTokenBatches
    from hf_nar.training.stream_positions import PositionedCollator

    pairs, tokenizer = corpus_of(folder, True)
    stream = tokenize_corpus(pairs, tokenizer, MAX_TOKENS, MAX_TOKENS).examples
    return DataLoader(
        StreamedTokenBatches(stream, given.tokens, seed=0),
        batch_size=None,
        collate_fn=PositionedCollator(collate),
        num_workers=given.workers,
        prefetch_factor=READ_AHEAD if given.workers else None,
    )


def one_pass(loader: Any, workers: int) -> Iterator[Any]:
    """Yield the batches of one pass; of a loader without end, those of each worker's first."""
    ended: set[int] = set()
    for batch in loader:
        position = batch.pop("stream_position", None)
        worker, passes = (0, 0) if position is None else position.tolist()[:2]
        if not passes:
            yield batch
            continue
        ended.add(worker)
        if len(ended) == max(1, workers):
            return


def read(folder: Path, given: argparse.Namespace, open_loader: Any) -> dict[str, Any]:
    """Read a pass and say how fast that was, from when the corpus was opened."""
    import torch

    from hf_nar.data.collating import PairCollator
    from hf_nar.remote_code.losses_nar import IGNORED_LABEL

    torch.set_num_threads(1)
    pairs = source = target = positions = count = 0
    begin = time.perf_counter()
    loader = open_loader(folder, given, PairCollator(0))
    opened = time.perf_counter()
    for batch in one_pass(loader, given.workers):
        if not count:
            first = time.perf_counter()
            say(f"{CHILD} reading")
        pairs += len(batch["labels"])
        source += int(batch["attention_mask"].sum())
        target += int((batch["labels"] != IGNORED_LABEL).sum())
        positions += batch["labels"].numel() + batch["input_ids"].numel()
        count += 1
    seconds = time.perf_counter() - opened
    return {
        "pairs": pairs,
        "tokens": source + target,
        "batches": count,
        "seconds_to_open": round(opened - begin, 1),
        "seconds_to_the_first_batch": round(first - opened, 1),
        "seconds": round(seconds, 1),
        "pairs_per_second": round(pairs / seconds),
        "tokens_per_second": round((source + target) / seconds),
        "target_tokens_per_second": round(target / seconds),
        "padding_share": round(1 - (source + target) / positions, 4),
    }


class Memory:
    """What a process and those it has started take, seen from outside."""

    def __init__(self, process: int) -> None:
        import psutil

        self.process = psutil.Process(process)
        self.gone = psutil.NoSuchProcess
        self.peaks = dict.fromkeys(("own", "rss", "uss"), 0.0)
        self.reading: list[float] = []

    def look(self, is_reading: bool) -> None:
        """Look at all of them, and keep the most that one of them had."""
        try:
            found = [self.process, *self.process.children(recursive=True)]
            sizes = [process.memory_full_info() for process in found]
        except self.gone:
            return
        figures = {
            "own": max(size.rss - size.shared for size in sizes) / 1e6,
            "rss": max(size.rss for size in sizes) / 1e6,
            "uss": max(size.uss for size in sizes) / 1e6,
        }
        self.peaks = {kind: max(self.peaks[kind], figures[kind]) for kind in figures}
        if is_reading and figures["own"]:
            self.reading.append(figures["own"])

    def figures(self) -> dict[str, float]:
        """Return the peaks in MB, and the growth of a peak over the last two thirds of reading."""
        figures = {f"peak_{kind}_mb": round(value, 1) for kind, value in self.peaks.items()}
        third = len(self.reading) // 3
        if third:
            early, late = max(self.reading[third : 2 * third]), max(self.reading[2 * third :])
            figures["own_growth_mb"] = round(late - early, 1)
        return figures


def run_part(part: str, folder: Path, given: argparse.Namespace, workers: int) -> dict[str, Any]:
    """Run a part in a process of its own; return its figures and its memory."""
    own = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    own |= {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(folder / "cache")}
    own |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    arguments = [f"--tokens={given.tokens}", f"--workers={workers}", f"--folder={folder}"]
    log = folder / f"{part}.log"
    with log.open("w") as file:
        child = subprocess.Popen(
            [sys.executable, __file__, CHILD, part, *arguments],
            env={**os.environ, **own},
            stdout=file,
        )
        memory = Memory(child.pid)
        while child.poll() is None:
            start = time.perf_counter()
            memory.look(f"{CHILD} reading" in log.read_text())
            # Looking takes long where much is mapped, and must not take the part's own time.
            time.sleep(max(0.2, 20 * (time.perf_counter() - start)))
    if child.returncode:
        raise SystemExit(f"The part `{part}` failed; see above.")
    figures: dict[str, Any] = json.loads(log.read_text().splitlines()[-1])
    return figures | memory.figures()


def consumption() -> dict[str, Any]:
    """Estimate the tokens a second that GPUs train LaNMT's base shape on."""
    import torch

    from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
    from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
    from hf_nar.training.throughput import PEAKS

    with torch.device("meta"):
        network = LaNMTForConditionalGeneration(LaNMTConfig())
    parameters = network.num_parameters()
    speeds = {
        name: round(2 * PEAKS[name][0] * UTILISATION / (6 * parameters))
        for name in ("A100", "H100 80GB HBM3")
    }
    return {
        "is_estimate": True,
        "how": "peak in 16-bit floats x utilisation / (6 FLOP x parameters) target tokens a "
        "second, as if each parameter were used once for each pair of a source and a target token; "
        "twice that with the source tokens",
        "parameters": parameters,
        "utilisation": UTILISATION,
        "tokens_per_second": speeds,
    }


def main() -> None:
    """Measure, or be one of the parts."""
    given = options()
    if given.child:
        kinds = {"mapped": mapped_loader, "streamed": streamed_loader}
        part, folder = given.child, given.folder
        figures = tokenize(folder) if part == "tokenize" else read(folder, given, kinds[part])
        say(json.dumps(figures))
        return
    runs = {part: (part, 0) for part in PARTS}
    if given.workers:
        runs |= {f"{part}_by_workers": (part, given.workers) for part in READING}
    asked = given.parts.split(",") if given.parts else []
    if unknown := [name for name in asked if name not in runs]:
        raise SystemExit(f"--parts must be of {', '.join(runs)}, got {unknown[0]}. Use these.")
    results: dict[str, Any] = {"pairs": given.pairs, "tokens_per_batch": given.tokens}
    results |= {"workers": given.workers, "cores": len(os.sched_getaffinity(0))}
    with tempfile.TemporaryDirectory(dir=given.folder) as made:
        folder = Path(made)
        write_corpus(folder, given.pairs)
        train_tokenizer(folder, given.vocab_size)
        files = [folder / "source.txt", folder / "target.txt"]
        results["corpus_mb"] = round(sum(file.stat().st_size for file in files) / 1e6, 1)
        for name in asked or runs:
            part, workers = runs[name]
            results[name] = run_part(part, folder, given, workers)
            say(f"{name}: {json.dumps(results[name])}")
    results["consumption"] = consumption()
    needed = results["consumption"]["tokens_per_second"]
    for part, figures in results.items():
        if part.startswith(READING):
            figures["times_what_is_consumed"] = {
                device: round(figures["tokens_per_second"] / speed, 2)
                for device, speed in needed.items()
            }
    say(json.dumps(results["consumption"]))
    if given.output:
        given.output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
