import pytest

from hf_nar.evaluation.settings import choose_settings, parse_setting


def test_the_usual_settings_depend_on_the_kind_of_model():
    ours, theirs = (choose_settings(kind, None, None, []) for kind in (False, True))

    assert [setting.label for setting in ours] == ["0 iterations", "1 iteration", "4 iterations"]
    assert [setting.knobs["num_refinement_iterations"] for setting in ours] == [0, 1, 4]
    assert [setting.label for setting in theirs] == ["greedy", "beam 4"]
    assert [setting.knobs for setting in theirs] == [
        {"num_beams": 1, "do_sample": False},
        {"num_beams": 4, "do_sample": False},
    ]


def test_only_what_is_asked_for_is_measured():
    ours = choose_settings(False, [2], None, ["stop_early=false"])
    theirs = choose_settings(True, None, None, ["num_beams=2", "num_beams=2"])

    assert [setting.label for setting in ours] == ["2 iterations", "stop_early=false"]
    assert [setting.label for setting in theirs] == ["num_beams=2"]


@pytest.mark.parametrize(
    ("kind", "iterations", "beams", "message"),
    [(True, [1], None, "Use `--beams`"), (False, None, [1], "Use `--iterations`")],
)
def test_an_option_of_the_other_kind_is_refused(kind, iterations, beams, message):
    with pytest.raises(ValueError, match=message):
        choose_settings(kind, iterations, beams, [])


def test_values_are_yaml_and_may_hold_commas():
    setting = parse_setting("num_beams=2, early_stopping=never,suppress_tokens=[5, 6],x=0.5,y=true")

    assert setting.knobs == {
        "num_beams": 2,
        "early_stopping": "never",
        "suppress_tokens": [5, 6],
        "x": 0.5,
        "y": True,
    }
    assert setting.label == "num_beams=2,early_stopping=never,suppress_tokens=[5,6],x=0.5,y=true"


def test_a_setting_cannot_leave_the_folder_of_its_file():
    assert parse_setting("x=../a/b").file_stem == "x=..-a-b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be names and values .* got ''"),
        ("num_beams", "must be names and values"),
        ("num_beams=", "must be names and values"),
        ("num beams=1", "must be names and values"),
        ("a=1,a=2", "has `a` twice"),
        ("a=[1", "value of `a` is no YAML"),
    ],
)
def test_another_form_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_setting(text)
