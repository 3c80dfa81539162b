import re
from dataclasses import replace
from html import unescape

import pytest

from hf_nar.demo.drafts import Html, Translation, element, marked, notice, shaded, show

FOUND = Translation(
    source="Ein Hund rennt.",
    tokens=["▁A", "▁dog", "▁run", "s", "."],
    probabilities=[0.99, 0.5, 0.25, 0.75, 1.0],
    drafts=[
        ["▁A", "▁cat", "▁run", "s", "."],
        ["▁A", "▁dog", "▁run", "s", "."],
        ["▁A", "▁dog", "▁run", "s", "."],
    ],
    milliseconds=10.0,
)
TAGS = {"article", "h2", "h3", "p", "span", "ol", "ul", "li", "mark", "small", "i", "b"}
TAGS |= {"details", "summary"}
HOSTILE = "<script>alert('1')</script>&\"<u x='"


def text_of(markup):
    return unescape(re.sub(r"<[^>]*>", "", markup))


def test_text_in_an_element_is_escaped():
    assert element("p", "<b>", "&amp;") == "<p>&lt;b&gt;&amp;amp;</p>"


def test_an_attribute_cannot_be_left():
    assert element("p", title="\"'><") == '<p title="&quot;&#x27;&gt;&lt;"></p>'


def test_an_element_in_an_element_stays_one():
    assert element("p", element("b", "<"), class_="x") == '<p class="x"><b>&lt;</b></p>'


def test_joining_or_cutting_html_makes_text_again():
    inner = element("b", "x")

    assert not isinstance(inner + "<i>", Html)
    assert element("p", inner[:3]) == "<p>&lt;b&gt;</p>"


@pytest.mark.parametrize(
    "changes",
    [
        {"source": HOSTILE},
        {"tokens": [HOSTILE] * 5},
        {"drafts": [[HOSTILE], [HOSTILE, "x", HOSTILE]]},
        {"unknown": [HOSTILE]},
        {"teacher_text": HOSTILE},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_no_text_from_outside_becomes_a_tag(changes):
    markup = show(replace(FOUND, **changes))

    assert set(re.findall(r"<([^\s/>]+)", markup)) <= TAGS
    assert HOSTILE in text_of(markup)


def test_a_language_code_cannot_leave_its_attribute():
    assert "<script" not in show(FOUND, ['"><script>', '"><script>'])


def test_a_notice_is_escaped():
    assert notice("<i>") == '<p class="note">&lt;i&gt;</p>'


def test_each_token_has_its_probability_as_shade_and_as_text():
    first, second = [part for part in shaded(["▁A", "▁dog"], [0.987, 0.5]) if part.strip()]

    assert first == '<span class="token" style="--p:0.99" title="99%">A</span>'
    assert second == '<span class="token" style="--p:0.50" title="50%">dog</span>'


def test_shaded_tokens_read_as_the_translation():
    assert text_of("".join(shaded(FOUND.tokens, FOUND.probabilities))) == "A dog runs."


def test_a_token_that_is_only_a_space_takes_no_room_of_its_own():
    assert text_of("".join(shaded(["▁A", "▁", "li"], [0.1, 0.2, 0.3]))) == "A li"


def test_the_first_draft_has_nothing_marked():
    assert "".join(marked(None, ["▁A", "▁dog"])) == "A dog"


def test_neighbours_that_are_new_are_marked_together_and_without_the_space_before():
    before, draft = ["▁A", "▁cat", "s", "▁run"], ["▁A", "▁do", "gs", "▁run"]

    assert "".join(marked(before, draft)) == "A <mark>dogs</mark> run"


def test_part_of_a_word_can_be_marked():
    assert "".join(marked(["▁run", "s"], ["▁run", "ning"])) == "run<mark>ning</mark>"


def test_what_only_moved_is_not_marked():
    assert "<mark>" not in "".join(marked(["▁A", "▁B"], ["▁B"]))


def test_every_draft_is_shown_and_one_like_that_before_says_so():
    markup = show(FOUND)

    for label in ("First draft", "Iteration 1", "Iteration 2"):
        assert f"<h3>{label}</h3>" in markup
    assert "Iteration 3" not in markup
    assert markup.count("no change") == 1


def test_a_dead_end_of_drafts_is_shown_once():
    only = replace(FOUND, drafts=FOUND.drafts[:1])

    assert "no change" not in show(only)


def test_times_stand_beside_each_other_and_the_longest_fills_its_row():
    markup = show(replace(FOUND, teacher_text="A dog runs.", teacher_milliseconds=40.0))

    assert re.findall(r"--share:([\d.]+)", markup) == ["0.250", "1.000"]
    assert re.findall(r"<b>([^<]+)</b>", markup) == ["10.0 ms", "40.0 ms"]


def test_without_a_teacher_none_is_mentioned():
    assert "teacher" not in show(FOUND)


def test_texts_name_their_languages():
    markup = show(FOUND, ["de", "en"])

    assert '<p lang="de" dir="auto">Ein Hund rennt.</p>' in markup
    assert markup.count('lang="en"') == 4  # the translation and three drafts


def test_unknown_characters_are_named_in_one_sentence():
    markup = show(replace(FOUND, unknown=["漢", "🙂"]))

    assert "The model does not know 漢 🙂 and makes something up in its place." in markup
