"""Text from outside is shown as it is, and cannot mark anything up."""

import pytest

from hf_nar.cards.markdown import code_span, fenced, inline, prose, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("CTranslate2 int8 beam 4", "CTranslate2 int8 beam 4"),
        ("test_2016_flickr.de.gz", "test_2016_flickr.de.gz"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b", r"a \| b"),
        ("_a_ *b* `c` [d](e)", r"\_a\_ \*b\* \`c\` \[d\](e)"),
        ("one\ntwo", r"one\\ntwo"),
        ("\x1b[31m", r"\\x1b\[31m"),
        ("AT&amp;T", "AT&amp;amp;T"),
    ],
)
def test_a_name_stands_as_it_is_in_a_line(text, shown):
    assert inline(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("drop a *token* with `a < b`, a < b", "drop a *token* with `a < b`, a &lt; b"),
        ("one\n  line\n\n\n\nanother", "one line\n\nanother"),
        ("# no heading", r"\# no heading"),
        ("```python\nno block\n```", r"\`\`\`python no block ```"),
        ("---", r"\-\-\-"),
        (r"\``a` <b> `c` ", r"\``a` &lt;b> `c`"),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y>"),
        ("`unclosed <b>", "`unclosed &lt;b>"),
    ],
)
def test_prose_keeps_its_emphasis_and_opens_no_block(text, shown):
    assert prose(text) == shown


@pytest.mark.parametrize("text", ["```", "a\n```\nb", "````", "<script>"])
def test_a_block_of_code_ends_only_at_its_own_fence(text):
    first, *lines, last = fenced(text, "text").split("\n")

    assert first == f"{last}text"
    assert set(last) == {"`"}
    assert lines == text.split("\n")
    assert all(last not in line for line in lines)


@pytest.mark.parametrize(
    ("text", "span"), [("a", "`a`"), ("a`b", "``a`b``"), ("`", "`` ` ``"), ("a\nb", r"`a\nb`")]
)
def test_a_piece_of_code_keeps_its_backticks(text, span):
    assert code_span(text) == span


def test_a_table_has_words_to_the_left_and_numbers_to_the_right():
    assert table(["a", "b"], [["x", "1"]], texts=1) == "| a | b |\n| --- | ---: |\n| x | 1 |"
