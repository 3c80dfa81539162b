import json
import os
import stat
import sys

import datasets
import pytest
import torch

from hf_nar.data.distillation import pick_process_device, plan_batches
from hf_nar.data.distillation_input import DistillationInput
from hf_nar.data.distillation_parts import Batch, Parts, describe_difference
from hf_nar.data.distillation_settings import DistillationSettings
from hf_nar.teacher import Hypothesis

FACTS = {
    "teacher": "t",
    "teacher_digest": "0",
    "settings": {"beams": 4},
    "environment": {"torch": "2", "threads": 1},
}


def batch(*lines: int) -> Batch:
    return Batch(list(lines), [[Hypothesis(f"Zeile {i}\t„{i}“\u2028.", -i / 7)] for i in lines])


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture
def parts(tmp_path):
    folder = Parts(tmp_path / "out.jsonl", FACTS)
    folder.prepare()
    return folder


# Batches


def test_lines_of_similar_length_go_together_the_longest_first():
    batches = plan_batches([3, 9, 2, 8, 3], tokens=18)

    assert batches == [[1, 3], [0, 4, 2]]


def test_padding_counts_in_a_batch():
    assert plan_batches([6, 2, 2, 2], tokens=12) == [[0, 1], [2, 3]]


def test_a_line_longer_than_the_budget_goes_alone():
    assert plan_batches([30, 4, 4], tokens=8) == [[0], [1, 2]]


def test_lines_that_are_not_translated_come_first_and_cost_nothing():
    assert plan_batches([0, 5, 0, 5], tokens=5) == [[0, 2], [1], [3]]


# Processes


@pytest.mark.parametrize("device", [None, "cuda"])
def test_each_of_several_processes_takes_its_own_gpu(device):
    own = torch.device("cuda:1")

    assert pick_process_device(device, 2, own) == own


def test_one_process_takes_the_device_that_it_is_told():
    assert pick_process_device("cuda:1", 1, torch.device("cuda:0")) == "cuda:1"
    assert pick_process_device(None, 1, torch.device("cuda:0")) == torch.device("cuda:0")


def test_several_processes_cannot_share_a_numbered_gpu():
    with pytest.raises(ValueError, match=r"no number with several processes.*got 'cuda:0' for 2"):
        pick_process_device("cuda:0", 2, torch.device("cuda:1"))


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beams": 0}, "`beams` must be at least 1, got 0"),
        ({"n_best": 0}, "`n_best` must be at least 1, got 0"),
        ({"tokens_per_batch": 0}, "`tokens_per_batch` must be at least 1, got 0"),
        ({"max_length": 1}, "`max_length` must be at least 2, got 1"),
        ({"beams": 2, "n_best": 3}, "`n_best` must be at most `beams`, got 3 of 2"),
        ({"beams": 1, "length_penalty": 2.0}, "a meaning only with several beams, got 2.0"),
    ],
)
def test_settings_out_of_their_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DistillationSettings(**settings)


# Input


def test_source_text_alone_is_enough(tmp_path):
    (tmp_path / "a.de").write_text("eins\n\n drei\u2028 \n", encoding="utf-8")

    lines = DistillationInput({"source_file": tmp_path / "a.de"})

    assert list(lines) == [("eins", ""), ("", ""), (" drei\u2028 ", "")]
    assert not lines.has_targets


def test_rows_with_an_empty_side_are_kept(tmp_path):
    rows = [{"de": "a", "en": None}, {"de": "", "en": "B"}, {"de": "c", "en": "C"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fields = {"source_field": "de", "target_field": "en"}

    from_file = DistillationInput({"json_file": tmp_path / "a.jsonl", **fields})
    from_dataset = DistillationInput({"dataset": tmp_path, **fields})

    assert list(from_file) == [("a", ""), ("", "B"), ("c", "C")]
    assert list(from_dataset) == list(from_file)


def test_a_dataset_needs_only_its_source_field(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"translation": {"de": "a"}}\n')

    lines = DistillationInput({"dataset": tmp_path, "source_field": "translation.de"})

    assert list(lines) == [("a", "")]


def test_a_field_that_a_dataset_lacks_is_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"de": "a"}\n')

    with pytest.raises(ValueError, match="field `en` must be there, but the fields are: de"):
        list(DistillationInput({"dataset": tmp_path, "source_field": "en"}))


def test_shards_are_consecutive_rows(tmp_path):
    (tmp_path / "a").write_text("".join(f"{i}\n" for i in range(5)))

    shards = DistillationInput({"source_file": tmp_path / "a"}, lines_per_shard=2).shards()

    assert [[source for source, _ in shard] for shard in shards] == [["0", "1"], ["2", "3"], ["4"]]


def test_the_digest_knows_where_a_line_ends_and_targets_if_they_matter(tmp_path):
    (tmp_path / "a").write_text("ab\nc\n")
    (tmp_path / "b").write_text("a\nbc\n")
    (tmp_path / "x").write_text("x\ny\n")
    first, second, paired = (
        DistillationInput({"source_file": tmp_path / "a"}),
        DistillationInput({"source_file": tmp_path / "b"}),
        DistillationInput({"source_file": tmp_path / "a", "target_file": tmp_path / "x"}),
    )

    assert first.measure(with_targets=False)[1] == 2
    assert first.measure(with_targets=False) != second.measure(with_targets=False)
    assert first.measure(with_targets=False) == paired.measure(with_targets=False)
    assert first.measure(with_targets=False) != paired.measure(with_targets=True)


def test_a_corpus_without_lines_is_refused(tmp_path):
    (tmp_path / "a").write_text("")

    with pytest.raises(ValueError, match="There must be a line to translate"):
        DistillationInput({"source_file": tmp_path / "a"}).measure(with_targets=False)


# Parts


def test_batches_come_back_in_the_order_of_the_lines(parts):
    with parts.open_shard(3) as shard:
        shard.append(batch(2, 0))
        shard.append(Batch([1], [[]]))

    found = parts.read(3, 3)

    assert found == [batch(0).hypotheses[0], [], batch(2).hypotheses[0]]
    assert parts.complete() == {3}


def test_a_shard_that_was_cut_off_anywhere_keeps_its_whole_batches(parts):
    with parts.open_shard(0) as shard:
        shard.append(batch(2, 0))
        shard.append(batch(1))
    data = (parts.folder / "shard-00000.jsonl").read_bytes()
    first = data.index(b"\n") + 1

    for size in range(len(data) + 1):
        file = parts.folder / "shard-00001.part"
        file.write_bytes(data[:size])
        with parts.open_shard(1) as shard:
            kept = len(shard.batches)
            for missing in (batch(2, 0), batch(1))[kept:]:
                shard.append(missing)

        assert kept == (size >= first) + (size == len(data))
        assert (parts.folder / "shard-00001.jsonl").read_bytes() == data


def test_an_error_leaves_a_shard_incomplete(parts):
    def interrupted() -> None:
        with parts.open_shard(0) as shard:
            shard.append(batch(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    with parts.open_shard(0) as shard:
        assert shard.batches == [batch(0)]


@pytest.mark.parametrize(
    "damage",
    [b"{}\n", b"\x00\xff\n", b'{"lines": [0, 1], "hypotheses": [[]]}\n', b'{"lines": [1], "hy\n'],
)
def test_a_damaged_part_is_named_and_left_alone(parts, damage):
    file = parts.folder / "shard-00000.part"
    file.write_bytes(damage + batch(0).to_json().encode())

    with pytest.raises(ValueError, match=r"shard-00000.part is damaged.*Delete this one file"):
        parts.open_shard(0).__enter__()

    assert file.read_bytes().startswith(damage)


@pytest.mark.parametrize(
    "batches", [[batch(0)], [batch(0, 1), batch(1)], [batch(0), batch(2)]], ids=str
)
def test_a_complete_part_must_hold_each_line_once(parts, batches):
    with parts.open_shard(0) as shard:
        for item in batches:
            shard.append(item)

    with pytest.raises(ValueError, match="does not hold each of its 2 lines once"):
        parts.read(0, 2)


def test_a_complete_part_that_was_cut_is_refused(parts):
    with parts.open_shard(0) as shard:
        shard.append(batch(0))
    file = parts.folder / "shard-00000.jsonl"
    file.write_bytes(file.read_bytes() + b'{"li')

    with pytest.raises(ValueError, match="is damaged"):
        parts.read(0, 1)


def test_a_part_of_another_plan_is_refused(parts):
    with parts.open_shard(0) as shard:
        shard.append(batch(0, 1))

        with pytest.raises(ValueError, match="other batches than it should"):
            shard.check_plan([[1, 0], [2]])


@pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")
def test_two_processes_cannot_write_the_same_part(parts):
    with (
        parts.open_shard(0),
        pytest.raises(OSError, match="is being written by another process"),
    ):
        parts.open_shard(0).__enter__()


def test_a_full_disk_is_said_and_whole_batches_are_kept(parts):
    resource = pytest.importorskip("resource")
    room, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(batch(0).to_json().encode())

    def write_two() -> None:
        with parts.open_shard(0) as shard:
            shard.append(batch(0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 9, hard))
            try:
                shard.append(batch(1))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))

    with pytest.raises(OSError, match=r"Cannot write .*shard-00000.part: .*make room"):
        write_two()

    assert (parts.folder / "shard-00000.part").stat().st_size == size + 9
    with parts.open_shard(0) as shard:
        assert shard.batches == [batch(0)]


def test_parts_of_another_run_are_refused(parts, tmp_path):
    other = Parts(tmp_path / "out.jsonl", {**FACTS, "settings": {"beams": 2}})

    with pytest.raises(ValueError, match=r"`beams` was 4 and is now 2.*delete the folder"):
        other.prepare()

    assert json.loads((parts.folder / "manifest.json").read_text()) == FACTS


def test_parts_of_another_number_of_threads_are_refused(parts, tmp_path):
    other = Parts(tmp_path / "out.jsonl", {**FACTS, "environment": {"torch": "2", "threads": 8}})

    with pytest.raises(ValueError, match="`threads` was 1 and is now 8"):
        other.check()


def test_a_teacher_that_was_moved_is_the_same_one(parts, tmp_path):
    Parts(tmp_path / "out.jsonl", {**FACTS, "teacher": "elsewhere"}).check()

    with pytest.raises(ValueError, match="`teacher_digest` was '0' and is now '1'"):
        Parts(tmp_path / "out.jsonl", {**FACTS, "teacher_digest": "1"}).check()


@pytest.mark.skipif(sys.platform == "win32", reason="opens no folders")
def test_the_manifest_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    manifest = tmp_path / "out.jsonl.parts/manifest.json"
    synced = []
    original = os.fsync

    def recorded(number: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(number).st_mode), manifest.exists()))
        original(number)

    monkeypatch.setattr(os, "fsync", recorded)

    Parts(tmp_path / "out.jsonl", FACTS).prepare()

    assert synced == [(False, False), (True, True)]  # the file, then the folder with its name


def test_a_damaged_manifest_is_refused(parts):
    (parts.folder / "manifest.json").write_text("{")

    with pytest.raises(ValueError, match=r"manifest.json there is damaged"):
        parts.check()


def test_a_difference_is_found_in_depth():
    assert describe_difference(FACTS, FACTS) == ""
    assert describe_difference({"a": {"b": 1}}, {"a": {"b": None}}) == "`b` was 1 and is now None"
    assert describe_difference({"a": 1}, {"b": 1}) == "`a` was 1 and is now None"
