"""A check names the file, the line, what is there and what must be."""

import re

import pytest

from hf_nar.cards.folder import check_texts


def check(tmp_path, there, wanted):
    file = tmp_path / "README.md"
    file.write_text(there, encoding="utf-8")
    check_texts({file: wanted})


def test_a_card_that_agrees_passes(tmp_path):
    check(tmp_path, "a\nb\n", "a\nb\n")


@pytest.mark.parametrize(
    ("there", "wanted", "message"),
    [
        ("a\n1.0\n", "a\n1.5\n", "README.md must agree .* line 2 is '1.0' and must be '1.5'"),
        ("a\n", "a\nb\n", "line 2 is '' and must be 'b'"),
        ("a", "a\n", "line 2 is missing and must be ''"),
        ("a\nb\n", "a\n", "line 2 is 'b' and must be ''"),
    ],
)
def test_the_first_line_that_differs_is_named(there, wanted, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check(tmp_path, there, wanted)


def test_of_a_long_line_the_part_that_differs_is_shown(tmp_path):
    with pytest.raises(ValueError, match=r"line 1 is '…x+1y+…' and must be '…x+2y+…'"):
        check(tmp_path, "x" * 500 + "1" + "y" * 500, "x" * 500 + "2" + "y" * 500)


def test_all_files_that_differ_are_named(tmp_path):
    files = [tmp_path / name for name in ("a.md", "b.md", "c.md")]
    files[0].write_text("old", encoding="utf-8")
    files[1].write_text("same", encoding="utf-8")

    with pytest.raises(ValueError, match=f"So must {re.escape(str(files[2]))}"):
        check_texts({files[0]: "new", files[1]: "same", files[2]: "new"})
