import json
import shutil
import stat
import sys

import pytest

from hf_nar.evaluation.comet import comet_score

PROGRAM = """#!{python}
import argparse, json, sys

parser = argparse.ArgumentParser()
for option in ("-s", "-t", "-r", "--model", "--gpus", "--to_json"):
    parser.add_argument(option, required=True)
for option in ("--quiet", "--only_system"):
    parser.add_argument(option, action="store_true")
options = parser.parse_args()
if options.model == "broken":
    sys.exit("first line\\nModel 'broken' not supported by COMET.")
names = {{"src": options.s, "mt": options.t, "ref": options.r}}
sides = {{name: open(file, encoding="utf-8").read().splitlines() for name, file in names.items()}}
rows = [dict(zip(sides, row)) for row in zip(*sides.values(), strict=True)]
for i, row in enumerate(rows):
    row["COMET"] = 0.5 + i / 4
with open(options.to_json, "w") as stream:
    json.dump({{options.t: rows}}, stream)
with open({log!r}, "w") as stream:
    json.dump([vars(options), rows], stream)
"""


@pytest.fixture
def log(tmp_path, monkeypatch):
    """Put a program on the path that takes the options of `comet-score` 2.2 and notes them."""
    program, log = tmp_path / "comet-score", tmp_path / "log.json"
    program.write_text(PROGRAM.format(python=sys.executable, log=str(log)))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    return log


def test_the_score_is_the_mean_over_sentences(log):
    found = comet_score(["s1", "s2"], ["m1", "m2"], ["r1", "r2"], model="owner/name")

    assert found.value == pytest.approx(0.625)
    assert found.signature == "comet-score|model:owner/name"
    options, rows = json.loads(log.read_text())
    assert [(row["src"], row["mt"], row["ref"]) for row in rows] == [
        ("s1", "m1", "r1"),
        ("s2", "m2", "r2"),
    ]
    assert (options["model"], options["gpus"]) == ("owner/name", "0")


def test_no_sign_inside_a_text_ends_a_line(log):
    comet_score(["a\rb", "c\u2028d"], ["", "x"], ["y", "z"], use_gpu=True)

    options, rows = json.loads(log.read_text())
    assert [row["src"] for row in rows] == ["a b", "c d"]
    assert options["gpus"] == "1"


@pytest.mark.usefixtures("log")
def test_a_failure_is_told_by_its_last_line():
    with pytest.raises(OSError, match=r"ended with code 1: Model 'broken' not supported by COMET"):
        comet_score(["s"], ["m"], ["r"], model="broken")


def test_without_the_program_there_is_a_hint(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("comet-score") is None

    with pytest.raises(ValueError, match=r"needs the program `comet-score`.* environment of its"):
        comet_score(["s"], ["m"], ["r"])
