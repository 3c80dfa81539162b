import json

import pytest
from pyarrow import parquet

from hf_nar.data.distillation_output import (
    METADATA_KEY,
    check_finished,
    check_suffix,
    line_rows,
    read_overlong,
    write_rows,
)
from hf_nar.teacher import Hypothesis

FACTS = {
    "teacher": "t",
    "teacher_digest": "0",
    "settings": {"beams": 4},
    "environment": {"torch": "2", "threads": 1},
}


def rows_of(mix_raw: bool) -> list[dict]:
    best = [Hypothesis("A.", -0.1234567), Hypothesis("B.", -2.0)]
    return [
        *line_rows(0, ("a", "x"), best, "t", mix_raw),
        *line_rows(1, (" ", "y"), [], "t", mix_raw),
    ]


def test_a_line_has_a_row_for_each_translation_best_first():
    rows = rows_of(mix_raw=False)

    assert [(row["line"], row["rank"], row["target"], row["score"]) for row in rows] == [
        (0, 0, "A.", -0.12346),
        (0, 1, "B.", -2.0),
        (1, 0, "", None),
    ]
    assert {row["origin"] for row in rows} == {"teacher"}


def test_the_raw_pair_follows_the_teachers():
    rows = rows_of(mix_raw=True)

    assert [(row["origin"], row["source"], row["target"]) for row in rows] == [
        ("teacher", "a", "A."),
        ("teacher", "a", "B."),
        ("raw", "a", "x"),
        ("teacher", " ", ""),
        ("raw", " ", "y"),
    ]
    assert (rows[2]["score"], rows[2]["rank"], rows[2]["teacher"]) == (None, None, None)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_an_output_says_where_it_comes_from(tmp_path, suffix):
    output = tmp_path / f"out.{suffix}"
    assert not check_finished(output, FACTS)

    write_rows(output, rows_of(mix_raw=False), FACTS)

    assert check_finished(output, FACTS)
    assert check_finished(output, {**FACTS, "environment": {"torch": "3"}})
    assert check_finished(output, {**FACTS, "teacher": "elsewhere"})
    with pytest.raises(ValueError, match="exists already, and `teacher` was 't' and is now 'u'"):
        check_finished(output, {**FACTS, "teacher": "u", "teacher_digest": "1"})


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_overlong_lines_are_found_in_the_output(tmp_path, suffix):
    rows = [
        *line_rows(0, ("a", ""), [Hypothesis("A.", -1.0)], "t", mix_raw=True),
        *line_rows(1, (" ", ""), [], "t", mix_raw=True),
        *line_rows(2, ("too long", ""), [], "t", mix_raw=True),
        *line_rows(3, ("b", ""), [Hypothesis("", -1.0)], "t", mix_raw=True),
    ]
    write_rows(tmp_path / f"out.{suffix}", rows, FACTS)

    assert read_overlong(tmp_path / f"out.{suffix}") == [2]


def test_parquet_has_its_origin_in_the_metadata_too(tmp_path):
    write_rows(tmp_path / "out.parquet", rows_of(mix_raw=False), FACTS)

    table = parquet.read_table(tmp_path / "out.parquet")

    assert json.loads(table.schema.metadata[METADATA_KEY]) == FACTS
    assert json.loads(table["settings"][0].as_py()) == FACTS
    assert table["settings"][1:].to_pylist() == [None, None]


@pytest.mark.parametrize("content", [b"", b"Hallo\n", b"{}\n", b'{"settings": null}\n', b"[]\n"])
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_file_of_someone_else_is_never_written_over(tmp_path, content, suffix):
    output = tmp_path / f"out.{suffix}"
    output.write_bytes(content)

    with pytest.raises(ValueError, match="exists already, and it was not made by this command"):
        check_finished(output, FACTS)


@pytest.mark.parametrize("name", ["out", "out.json", "out.jsonl.gz"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"`output` must end in .jsonl or .parquet"):
        check_suffix(tmp_path / name)
