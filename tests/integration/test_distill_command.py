"""`hf-nar distill` from a teacher's folder to a corpus, killed and started again."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import datasets
import huggingface_hub
import psutil
import pytest
import torch
from pyarrow import parquet
from tiny_distillation import LIMIT, arguments, distil, rows_of, save_marian, write_corpus
from tiny_teachers import save_teacher
from tqdm import tqdm
from transformers import MarianMTModel

from hf_nar.data.corpus import CorpusConfig, load_corpus
from hf_nar.data.distillation import DistillationRun, describe_run
from hf_nar.data.distillation_input import DistillationInput
from hf_nar.data.distillation_parts import Parts
from hf_nar.data.distillation_settings import DistillationSettings
from hf_nar.teacher import Teacher

ROOT = Path(__file__).parents[2]
FAST = ("--beams", "2", "--max-length", "8")
SLOW = ("--beams", "4", "--max-length", "12", "--tokens-per-batch", "200")  # many small batches


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def marian(tmp_path_factory, _loaded_tokenizer) -> Path:
    return save_marian(tmp_path_factory.mktemp("marian"), _loaded_tokenizer)


@pytest.fixture(scope="module")
def t5(tmp_path_factory, _loaded_tokenizer) -> Path:
    return save_teacher(tmp_path_factory.mktemp("t5"), "t5", _loaded_tokenizer)


def test_every_line_is_there_once_in_its_order(marian, tmp_path, capsys):
    german = write_corpus(tmp_path)

    code = distil(marian, tmp_path, "out.jsonl", *FAST)

    rows = rows_of(tmp_path / "out.jsonl")
    teacher = Teacher.from_pretrained(marian, device="cpu")
    alone = teacher.hypotheses(german[:1], num_beams=2, max_length=8)[0][0]
    assert [row["line"] for row in rows] == list(range(len(german)))
    assert [row["source"] for row in rows] == german
    assert rows[0]["target"] == alone.text
    assert rows[0]["score"] == pytest.approx(alone.score, abs=1e-4)
    assert len({row["target"] for row in rows}) > 5  # the tiny teacher listens to its source
    assert {row["teacher"] for row in rows} == {marian.name}  # not where it lies
    assert not (tmp_path / "out.jsonl.parts").exists()
    captured = capsys.readouterr()
    assert captured.out == f"{tmp_path / 'out.jsonl'} holds the translations of 20 lines.\n"
    assert code == 1
    assert (rows[3]["target"], rows[3]["score"]) == ("", None)
    assert (rows[5]["target"], rows[5]["score"]) == ("", None)
    assert captured.err.startswith(f"hf-nar: 1 line(s) have more than {LIMIT} tokens")
    assert "those with `line` 5. Split them." in captured.err


def test_the_output_says_how_it_was_made(marian, tmp_path):
    write_corpus(tmp_path)

    distil(marian, tmp_path, "out.jsonl", *FAST)

    facts = json.loads(rows_of(tmp_path / "out.jsonl")[0]["settings"])
    assert facts["teacher"] == marian.name
    assert facts["lines"] == 20
    assert facts["settings"]["beams"] == 2
    assert len(facts["teacher_digest"]) == len(facts["input_digest"]) == 64
    assert facts["environment"]["torch"] == torch.__version__
    assert facts["environment"]["threads"] == torch.get_num_threads()


def test_the_export_of_a_run_is_named_with_the_run(marian, tmp_path, capsys):
    write_corpus(tmp_path, count=6)
    first = shutil.copytree(marian, tmp_path / "a/my-teacher/export")
    second = shutil.copytree(marian, tmp_path / "b/moved/export")
    distil(first, tmp_path, "out.jsonl", *FAST)

    distil(second, tmp_path, "out.jsonl", *FAST)

    assert rows_of(tmp_path / "out.jsonl")[0]["teacher"] == "my-teacher/export"
    assert "was there already" in capsys.readouterr().out  # the same teacher, elsewhere


@pytest.fixture
def hub_teacher(marian, tmp_path, monkeypatch) -> str:
    """Put a teacher of two revisions where the library keeps what it took from the Hub."""
    cache = tmp_path / "cache/models--someone--teacher"
    (cache / "refs").mkdir(parents=True)
    for name, commit in (("main", "a" * 40), ("old", "b" * 40)):
        (cache / "refs" / name).write_text(commit)
        shutil.copytree(marian, cache / "snapshots" / commit)
    old = MarianMTModel.from_pretrained(marian)
    old.final_logits_bias.zero_()
    old.save_pretrained(cache / "snapshots" / ("b" * 40))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return "someone/teacher"


def test_a_revision_of_the_teacher_can_be_chosen(hub_teacher, tmp_path, capsys):
    write_corpus(tmp_path, count=6)
    distil(hub_teacher, tmp_path, "main.jsonl", *FAST)
    distil(hub_teacher, tmp_path, "old.jsonl", *FAST, "--teacher-revision", "old")

    code = distil(hub_teacher, tmp_path, "old.jsonl", *FAST)

    main_rows, old_rows = (rows_of(tmp_path / f"{name}.jsonl") for name in ("main", "old"))
    facts = json.loads(old_rows[0]["settings"])
    assert [row["score"] for row in main_rows] != [row["score"] for row in old_rows]
    assert (facts["teacher"], facts["teacher_digest"]) == (hub_teacher, "b" * 40)
    assert facts["settings"]["teacher_revision"] == "old"
    assert json.loads(main_rows[0]["settings"])["teacher_digest"] == "a" * 40
    assert code == 2
    assert "exists already" in capsys.readouterr().err


def test_t5_with_several_translations_and_the_raw_pair(t5, tmp_path):
    german = write_corpus(tmp_path)
    options = ("--target-file", "a.en", "--mix-raw", "--n-best", "2", "--prefix", "Ein ")

    code = distil(t5, tmp_path, "out.jsonl", *FAST, *options)

    rows = rows_of(tmp_path / "out.jsonl")
    english = (tmp_path / "a.en").read_text().splitlines()
    teacher = Teacher.from_pretrained(t5, device="cpu", prefix="Ein ")
    alone = teacher.hypotheses(german[:1], num_hypotheses=2, num_beams=2, max_length=8)[0]
    assert code == 0  # T5 has no longest source
    assert [row["rank"] for row in rows if row["line"] == 0] == [0, 1, None]
    assert [row["target"] for row in rows[:3]] == [*(item.text for item in alone), english[0]]
    assert [row["target"] for row in rows if row["origin"] == "raw"] == english
    assert [row["rank"] for row in rows if row["line"] == 3] == [0, None]


@pytest.mark.parametrize(
    "options",
    [
        ("--beams", "1"),
        ("--max-length", "5"),
        ("--length-penalty", "4"),
        ("--prefix", "Ein "),
        ("--dtype", "bfloat16"),
    ],
    ids=lambda options: options[0],
)
def test_each_setting_changes_the_output(marian, tmp_path, options):
    write_corpus(tmp_path, count=12)
    distil(marian, tmp_path, "first.jsonl", *FAST)

    distil(marian, tmp_path, "second.jsonl", *FAST, *options)

    first, second = (rows_of(tmp_path / f"{name}.jsonl") for name in ("first", "second"))
    assert [(r["target"], r["score"]) for r in first] != [(r["target"], r["score"]) for r in second]


def test_students_can_train_on_either_format(marian, tmp_path):
    write_corpus(tmp_path)
    (tmp_path / "folder").mkdir()
    distil(marian, tmp_path, "out.jsonl", *FAST)
    distil(marian, tmp_path, "folder/train.parquet", *FAST)
    fields = {"source_field": "source", "target_field": "target"}

    lines = load_corpus(CorpusConfig(json_file=tmp_path / "out.jsonl", **fields))
    table = load_corpus(CorpusConfig(dataset=tmp_path / "folder", **fields))
    plain = datasets.load_dataset("json", data_files=str(tmp_path / "out.jsonl"), split="train")

    assert list(lines.pairs) == list(table.pairs)
    assert lines.empty_dropped == table.empty_dropped == 2
    assert parquet.read_table(tmp_path / "folder/train.parquet").to_pylist() == [
        row | {"settings": other["settings"]}
        for row, other in zip(
            rows_of(tmp_path / "out.jsonl"),
            parquet.read_table(tmp_path / "folder/train.parquet").to_pylist(),
            strict=True,
        )
    ]
    assert plain["target"] == [row["target"] for row in rows_of(tmp_path / "out.jsonl")]


def test_a_finished_output_is_left_as_it_is(marian, tmp_path, capsys):
    write_corpus(tmp_path)
    distil(marian, tmp_path, "out.jsonl", *FAST)
    before, said = (tmp_path / "out.jsonl").stat(), capsys.readouterr().err
    (tmp_path / "out.jsonl.parts").mkdir()  # as if killed before it was removed

    code = distil(marian, tmp_path, "out.jsonl", *FAST)

    captured = capsys.readouterr()
    assert code == 1
    assert "was there already" in captured.out
    assert captured.err == said  # overlong lines are named again
    after = (tmp_path / "out.jsonl").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not (tmp_path / "out.jsonl.parts").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="opens no folders")
def test_the_output_is_on_the_disk_before_the_parts_are_removed(marian, tmp_path, monkeypatch):
    write_corpus(tmp_path, count=6)
    output, parts = tmp_path / "out.jsonl", tmp_path / "out.jsonl.parts"
    synced = []
    original = os.fsync

    def recorded(number: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(number).st_mode)
        synced.append((is_folder, output.exists(), parts.exists()))
        original(number)

    monkeypatch.setattr(os, "fsync", recorded)

    distil(marian, tmp_path, "out.jsonl", *FAST)

    assert synced[-2:] == [(False, False, True), (True, True, True)]  # the file, then its name


def test_any_number_of_processes_gives_the_same_output(marian, tmp_path):
    write_corpus(tmp_path)
    settings = DistillationSettings(beams=2, max_length=8)
    lines = DistillationInput({"source_file": tmp_path / "a.de"}, lines_per_shard=6)
    teacher = Teacher.from_pretrained(marian, device="cpu")
    facts = describe_run(str(marian), teacher, lines, settings)
    outputs = []
    for world in (1, 3):
        output = tmp_path / f"{world}.jsonl"
        parts = Parts(output, facts)
        parts.prepare()
        for rank in reversed(range(world)):
            with tqdm(total=20, disable=True) as progress:
                DistillationRun(teacher, lines, parts, settings, facts).translate_share(
                    rank, world, progress
                )
            assert parts.complete() == {number for number in range(4) if number % world >= rank}
        run = DistillationRun(teacher, lines, parts, settings, facts)
        assert run.done == {0, 1, 2, 3}
        run.write(output)
        outputs.append(output.read_bytes())

    assert outputs[0] == outputs[1]


def test_a_bar_counts_the_lines(marian, tmp_path, monkeypatch, capsys):
    write_corpus(tmp_path)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    distil(marian, tmp_path, "out.jsonl", *FAST)

    assert "20/20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--source-file", "b.de"), "`source_file` must be an existing file"),
        (("--output", "out.txt"), "`output` must end in .jsonl or .parquet, got out.txt"),
        (("--n-best", "5"), "`n_best` must be at most `beams`, got 5 of 4"),
        (("--mix-raw",), "`mix_raw` needs raw targets"),
        (("--json-file", "a.json"), "A corpus must be exactly one of"),
        (("--teacher", "./nowhere"), "Cannot load a teacher from ./nowhere"),
        (("--source-language", "de"), "only with a multilingual tokenizer"),
        (("--target-language", "en"), "only with a multilingual tokenizer"),
        (("--max-length", "41"), "`max_length` must be at most 40, the positions that"),
        (("--device", "abacus"), "`device` must be one that torch knows"),
        (("--teacher-revision", "v1"), "`teacher_revision` must be left out for a folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_said_in_one_line(marian, tmp_path, capsys, options, message):
    write_corpus(tmp_path)

    code = distil(marian, tmp_path, "out.jsonl", *options)

    error = capsys.readouterr().err.splitlines()
    assert code == 2
    assert message in error[-1]
    assert len(error) == 1
    assert {file.name for file in tmp_path.iterdir()} == {"a.de", "a.en"}


def test_a_model_of_ours_is_no_teacher(tiny_folder, tmp_path, capsys):
    write_corpus(tmp_path)

    code = distil(tiny_folder, tmp_path, "out.jsonl")

    assert code == 2
    assert "must be an autoregressive sequence-to-sequence model" in capsys.readouterr().err
    assert {file.name for file in tmp_path.iterdir()} == {"a.de", "a.en"}


def test_an_output_of_other_settings_or_another_input_is_refused(marian, tmp_path, capsys):
    write_corpus(tmp_path)
    distil(marian, tmp_path, "out.jsonl", *FAST)
    before = (tmp_path / "out.jsonl").read_bytes()

    code = distil(marian, tmp_path, "out.jsonl", *FAST, "--beams", "3")
    (tmp_path / "a.de").write_text("Ein Hund.\n")
    second_code = distil(marian, tmp_path, "out.jsonl", *FAST)

    errors = capsys.readouterr().err.splitlines()
    assert code == second_code == 2
    assert "`beams` was 2 and is now 3" in errors[-2]
    assert "`input_digest` was" in errors[-1]
    assert (tmp_path / "out.jsonl").read_bytes() == before


# Killed


PROGRAM = "from hf_nar.cli.main import main; raise SystemExit(main())"


def start(command: list[str], folder: Path) -> psutil.Popen:
    threads = str(torch.get_num_threads())  # as here: a resume compares it
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"}
    return psutil.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE)


def kill_after(process: psutil.Popen, folder: Path, batches: int) -> None:
    """Kill a process and its children as soon as so many batches lie on the disk."""
    while sum(file.read_bytes().count(b"\n") for file in folder.glob("*.parts/shard-*")) < batches:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.01)
    for child in [process, *process.children(recursive=True)]:
        child.kill()
    process.communicate()


def test_killed_in_the_middle_it_goes_on_without_losing_or_repeating_a_line(marian, tmp_path):
    german = write_corpus(tmp_path, count=160)
    command = [sys.executable, "-c", PROGRAM, *arguments(marian, tmp_path, "out.jsonl", *SLOW)]
    kill_after(start(command, tmp_path), tmp_path, batches=5)
    part = tmp_path / "out.jsonl.parts/shard-00000.part"
    with part.open("a+b") as stream:
        stream.write(b'{"lines": [7, 8')  # as if killed while it was writing
        stream.seek(0)
        kept = stream.read()
    assert not (tmp_path / "out.jsonl").exists()

    with pytest.MonkeyPatch.context() as patch:
        translated = count_translated(patch)
        distil(marian, tmp_path, "out.jsonl", *SLOW)

    lines = [line for row in kept.splitlines()[:-1] for line in json.loads(row)["lines"]]
    distil(marian, tmp_path, "uninterrupted.jsonl", *SLOW)
    assert len(lines) + sum(translated) == len(german)
    assert [row["line"] for row in rows_of(tmp_path / "out.jsonl")] == list(range(160))
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "uninterrupted.jsonl").read_bytes()


def count_translated(patch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by the number of lines in each batch that a teacher is given."""
    sizes: list[int] = []
    original = Teacher.hypotheses

    def counted(self, lines, *args, **kwargs):
        sizes.append(len(lines))
        return original(self, lines, *args, **kwargs)

    patch.setattr(Teacher, "hypotheses", counted)
    return sizes


@pytest.mark.slow
def test_several_processes_killed_and_started_again_give_the_same_output(marian, tmp_path):
    german = write_corpus(tmp_path, count=2500)
    options = (*FAST, "--tokens-per-batch", "200")
    distil(marian, tmp_path, "alone.parquet", *options)

    for world, batches in ((2, 20), (2, 120), (3, None)):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node", str(world), str(ROOT / "training/distill.py")]
        command += arguments(marian, tmp_path, "shared.parquet", *options)[1:]
        process = start(command, tmp_path)
        if batches:
            kill_after(process, tmp_path, batches)
            assert not (tmp_path / "shared.parquet").exists()
        else:
            errors = process.communicate()[1].decode()

    assert "1 line(s) have more than" in errors
    assert len(parquet.read_table(tmp_path / "shared.parquet")) == len(german)
    assert (tmp_path / "shared.parquet").read_bytes() == (tmp_path / "alone.parquet").read_bytes()
