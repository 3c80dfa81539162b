import itertools
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from hf_nar.evaluation.benchmark import (
    Cell,
    Effort,
    LargestBatch,
    Ratio,
    Timing,
    find_largest_batch,
    measure_cell,
    overtakings,
    ratios_of,
    rows_of,
)
from hf_nar.evaluation.benchmark_networks import write_random_networks
from hf_nar.evaluation.benchmark_report import cell_lines, overtaking_lines
from hf_nar.evaluation.benchmark_run import TextSource, check_lengths, check_sentences
from hf_nar.evaluation.engine_loading import SystemLoader
from hf_nar.evaluation.engines import list_systems, select_systems

CPU = torch.device("cpu")
CELL = Cell(batch_size=2, length=5)
HARDWARE = "some CPU, 2 cores, 1 CPU thread"


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    networks = write_random_networks("tiny", folder, seed=3)
    loader = SystemLoader(networks, folder / "converted", CPU, None, 1)
    specs = list_systems(loader.translator().model, [0, 1], CPU, False)
    return [loader.load(spec) for spec in select_systems(specs, "ours,transformers greedy")]


@pytest.fixture
def calls(systems, monkeypatch):
    """Names of the systems in the order in which they translate, with the batch."""
    seen = []
    for system in systems:

        def run(tokens, length, system=system, run=system.run):
            seen.append((system.spec.name, tokens["input_ids"].tolist()))
            return run(tokens, length)

        monkeypatch.setattr(system, "run", run)
    return seen


def batches(cell=CELL):
    return TextSource("random tokens", 0, 120).batches(cell)


def timing(text, model=None, tokens=10):
    return Timing({"text": text, "model": text / 2 if model is None else model}, tokens)


def test_systems_take_turns_on_the_same_batch_and_each_follows_each_other(systems, calls):
    timings = measure_cell(systems, CELL, batches(), Effort(rounds=12, warm_up=1))

    names = [system.spec.name for system in systems]
    rounds = [calls[i : i + 3] for i in range(0, len(calls), 3)]
    assert [len(of_system) for of_system in timings] == [12, 12, 12]
    assert len(rounds) == 13  # one to warm up
    assert all(sorted(name for name, _ in r) == sorted(names) for r in rounds)
    neighbours = {(r[i][0], r[i + 1][0]) for r in rounds for i in range(2)}
    assert neighbours == set(itertools.permutations(names, 2))
    for r in rounds:
        assert r[0][1] == r[1][1] == r[2][1]
    assert rounds[1][0][1] != rounds[2][0][1]


def test_a_slow_cell_ends_after_three_rounds(systems):
    timings = measure_cell(systems, CELL, batches(), Effort(rounds=30, warm_up=4, seconds=0))

    assert {len(of_system) for of_system in timings} == {3}


def test_the_whole_takes_longer_than_the_model_and_tokens_are_counted(systems):
    timings = measure_cell(systems, CELL, batches(), Effort(rounds=2, warm_up=0))

    for of_system in timings:
        for one in of_system:
            assert 0 < one.seconds["model"] < one.seconds["text"]
            assert one.tokens == 2 * 5


def test_rows_sum_up_each_scope():
    timings = [timing(0.1 * i, 0.01 * i) for i in (1, 2, 3, 4, 10)]

    text, model = rows_of("LaNMT", CELL, timings)

    assert (text.scope, text.p50_ms, text.p95_ms, text.rounds) == ("text", 300, 1000, 5)
    assert (model.scope, model.p50_ms, model.p95_ms) == ("model", 30, 100)
    assert text.sentences_per_second == pytest.approx(2 / 0.3, abs=1e-3)
    assert text.tokens_per_second == pytest.approx(10 / 0.3, abs=0.1)


def test_ratios_are_taken_round_by_round_and_of_other_engines_only():
    ours, other = system("LaNMT", is_ours=True), system("CTranslate2", is_ours=False)
    mine, theirs = [timing(1), timing(10), timing(2)], [timing(2), timing(30), timing(2)]

    ratios = ratios_of([ours, other], CELL, [mine, theirs])

    assert [(r.system, r.engine, r.scope) for r in ratios] == [
        ("LaNMT", "CTranslate2", "text"),
        ("LaNMT", "CTranslate2", "model"),
    ]
    assert ratios[0].times_faster == 2  # of 2, 3 and 1


def system(name, is_ours):
    return SimpleNamespace(spec=SimpleNamespace(name=name, is_ours=is_ours))


def ratio(batch_size, times_faster, engine="CTranslate2", scope="text", length=25):
    return Ratio("LaNMT", engine, batch_size, length, scope, times_faster)


def test_an_engine_overtakes_at_the_smallest_batch_at_which_it_is_faster():
    found = overtakings(
        [
            *(ratio(size, times) for size, times in ((1, 2.5), (8, 1.0), (32, 0.9), (64, 0.8))),
            ratio(1, 0.5, scope="model"),
            ratio(1, 3.0, engine="transformers"),
            ratio(1, 0.7, length=50),
        ]
    )

    assert [(item.engine, item.length, item.batch_size) for item in found] == [
        ("CTranslate2", 25, 32),
        ("transformers", 25, None),
        ("CTranslate2", 50, 1),
    ]


def test_no_ratio_is_printed_without_batch_size_hardware_and_engine():
    rows = rows_of("LaNMT", CELL, [timing(1)]) + rows_of("CTranslate2", CELL, [timing(2.5)])

    lines = cell_lines(CELL, rows, [ratio(2, 2.5)], HARDWARE)

    title = next(i for i, line in enumerate(lines) if line.startswith("times faster than"))
    assert f"batch size 2, 5 tokens, {HARDWARE}" in lines[title]
    assert lines[title + 1].split() == ["engine", "LaNMT"]
    assert lines[title + 2].split() == ["CTranslate2", "2.50"]
    assert not any("2.50" in line.split() for line in lines[:title])


def test_where_engines_overtake_is_said_with_hardware_and_sizes_measured():
    found = overtakings([ratio(1, 2.0), ratio(8, 0.5), ratio(1, 3.0, engine="transformers")])

    lines = overtaking_lines(found, [1, 8], HARDWARE)

    assert "of 1, 8, text to text, 25 tokens, " + HARDWARE in lines[1]
    assert [line.split() for line in lines[3:]] == [["CTranslate2", "8"], ["transformers", "never"]]


def largest(max_memory=1e9, max_seconds=1e9, fits=1e9, start=1, loading=100.0):
    """Find it for a machine with 100 MB in use, 10 MB and 1 second more for each sentence.

    `loading` is the most that it had in use before.
    """
    sizes = []

    def seconds_of(size):
        if size > fits:
            raise MemoryError
        sizes.append(size)
        return float(size)

    def peak_of():
        return max(loading, 100.0 + 10 * max(sizes, default=0))

    found = find_largest_batch(seconds_of, peak_of, 100.0, start, max_memory, max_seconds)
    return found, sizes


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_memory": 500.0}, LargestBatch(32, "memory")),
        ({"max_memory": 700.0, "loading": 300.0}, LargestBatch(32, "memory")),
        ({"max_seconds": 20.0}, LargestBatch(16, "time")),
        ({"fits": 40}, LargestBatch(32, "memory")),
        ({"max_seconds": 20.0, "start": 3}, LargestBatch(12, "time")),
    ],
)
def test_the_largest_batch_is_found_by_doubling(limits, expected):
    found, sizes = largest(**limits)

    assert found == expected
    assert max(sizes) == expected.batch_size  # one that is too large is not even tried


def test_real_sentences_come_in_an_order_of_the_seeds_and_start_again_at_the_end():
    sentences = [f"sentence {i}" for i in range(5)]
    cell = Cell(3, None)

    first, second = (TextSource("a", 1, sentences=sentences).batches(cell) for _ in range(2))
    other = TextSource("a", 2, sentences=sentences).batches(cell)

    drawn = [next(first) for _ in range(4)]
    assert drawn == [next(second) for _ in range(4)]
    assert drawn[0] != next(other)
    assert {text for batch in drawn for text in batch} == set(sentences)
    assert all(len(batch) == 3 for batch in drawn)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "`--repeats` must be at least 1, got 0"),
        ({"warm_up": -1}, "`--warm-up` must be at least 0, got -1"),
        ({"seconds": -1.0}, "`--cell-seconds` must be at least 0, got -1.0"),
    ],
)
def test_an_effort_out_of_range_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Effort(**options)


# Tests before this one may have left room in the heap of their process, which is used first.
MEMORY_OF_A_FRESH_PROCESS = """
import json, torch
from hf_nar.evaluation.benchmark_memory import process_peak_mb, resident_mb

before = process_peak_mb()
block = torch.ones(int(before * 1e6 / 8))  # half as much again, and touched
held, grown = resident_mb(), process_peak_mb() - before
size = block.numel() * 4 / 1e6
del block
print(json.dumps([before, grown, size, held - resident_mb(), process_peak_mb() - held]))
"""


def test_peak_memory_grows_by_what_a_process_holds_and_stays_when_it_is_given_back():
    command = [sys.executable, "-c", MEMORY_OF_A_FRESH_PROCESS]
    done = subprocess.run(command, check=True, capture_output=True, text=True)

    before, grown, size, given_back, over = json.loads(done.stdout)

    assert 0.3 * before < grown < 0.7 * before
    assert given_back == pytest.approx(size, rel=0.4)
    assert over > -1  # the system counts some pages late


@pytest.mark.parametrize("length", [1, 41])
def test_a_length_that_a_model_cannot_make_is_refused(length):
    with pytest.raises(ValueError, match=rf"must be in \[2, 40\] .* got {length}"):
        check_lengths([5, length], 40)


def test_sentences_that_are_too_long_and_files_without_any_are_refused(systems):
    with pytest.raises(ValueError, match=r"at most 3 tokens .* number 2 has 4"):
        check_sentences(systems, ["w5", "w5 w6 w7"], 3)
    with pytest.raises(ValueError, match="has none"):
        check_sentences(systems, [], 3)


def test_an_unknown_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match="one of base, tiny; got 'big'"):
        write_random_networks("big", tmp_path, seed=0)
