from hf_nar.evaluation.traces import changed_tokens, escape_controls, format_trace, mark_changes
from hf_nar.inference import TranslationTrace


def test_changed_tokens_are_bracketed():
    before = ["▁A", "▁dog", "▁run", "▁run", "▁."]
    after = ["▁A", "▁dog", "▁is", "▁run", "ning", "▁."]

    assert mark_changes(before, after, colour=False) == "A dog [is] run[ning] ."


def test_a_shift_is_not_a_change():
    before = ["▁dog", "▁in", "▁the", "▁snow"]

    assert mark_changes(before, ["▁A", *before], colour=False) == "[A] dog in the snow"


def test_changes_are_highlighted_on_a_terminal():
    assert mark_changes(["▁A"], ["▁The"], colour=True) == "\x1b[7mThe\x1b[0m"


def test_nothing_is_marked_in_a_first_draft():
    assert mark_changes(None, ["▁A", "▁dog"], colour=True) == "A dog"


def test_a_trace_shows_every_draft():
    drafts = [["▁A", "▁dog", "▁dog"], ["▁A", "▁dog", "▁runs"]]
    trace = TranslationTrace("Ein Hund läuft", "A dog runs", drafts, [-0.1, -0.1, -0.1, 0.0], 1)

    assert format_trace(trace, colour=False).splitlines() == [
        "source       Ein Hund läuft",
        "draft        A dog dog",
        "iteration 1  A dog [runs]",
        "translation  A dog runs",
        "probability  0.90 (geometric mean over tokens)",
    ]


def test_a_trace_of_foreign_text_cannot_steer_the_terminal():
    text = "a\x1b]0;title\x07b\u202ec\r\u200c"

    assert escape_controls(text) == "a\\x1b]0;title\\x07b\\u202ec\\r\u200c"
    trace = TranslationTrace(text, text, [[text]], [-0.1], 0)
    assert "\x1b" not in format_trace(trace, colour=False)


def test_each_token_of_a_draft_is_new_or_not():
    before = ["▁A", "▁dog", "▁run", "▁run", "▁."]

    assert changed_tokens(before, ["▁A", "▁dog", "▁is", "▁run", "ning", "▁."]) == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert changed_tokens(before, before[1:]) == [False] * 4
    assert changed_tokens([], ["▁A"]) == [True]
    assert changed_tokens(None, ["▁A"]) == [False]
