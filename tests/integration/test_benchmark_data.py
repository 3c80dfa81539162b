"""The benchmark of the data side: its figures, and the memory that reading takes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "training/benchmark_data.py"
READING = ("mapped", "streamed")
BY_WORKERS = ("mapped_by_workers", "streamed_by_workers")


def measure(folder, pairs, *options):
    output = folder / f"{pairs}.json"
    command = [SCRIPT, "--pairs", pairs, "--folder", folder, "--output", output, *options]
    subprocess.run([sys.executable, *map(str, command)], check=True, stdout=subprocess.DEVNULL)
    return json.loads(output.read_text())


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (READING, []),
        pytest.param(BY_WORKERS, ["--workers", 2], marks=pytest.mark.slow),
    ],
    ids=["alone", "by workers"],
)
def test_both_ways_read_each_pair_once_and_pad_little(parts, options, tmp_path):
    figures = measure(tmp_path, 3000, "--vocab-size", 400, "--tokens", 2048, *options)

    for part in parts:
        assert figures[part]["pairs"] == figures["tokenize"]["pairs"] == 3000
        assert figures[part]["tokens"] == figures["tokenize"]["tokens"]
        assert 0 < figures[part]["padding_share"] < 0.2
        assert 0 < figures[part]["peak_own_mb"] < figures[part]["peak_rss_mb"]
    assert list(tmp_path.iterdir()) == [tmp_path / "3000.json"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    small, large = (measure(tmp_path, pairs) for pairs in (200_000, 1_000_000))

    for part in READING:
        assert large[part]["peak_rss_mb"] <= 1000
        # The lengths of pairs and their order take some 70 bytes each where tokens are stored.
        assert large[part]["peak_own_mb"] - small[part]["peak_own_mb"] <= 100
        assert large[part]["own_growth_mb"] <= 50
