import pytest

from hf_nar.evaluation.settings import choose_settings, parse_setting, readable_label


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


def test_each_way_to_refine_is_measured_with_each_number_of_iterations():
    ways = ["none", "delta_posterior", "score"]

    settings = choose_settings(False, [1, 2], None, [], ways)

    assert [setting.label for setting in settings] == [
        *("prior mean", "delta, 1 iteration", "delta, 2 iterations"),
        *("score, 1 iteration", "score, 2 iterations"),
    ]
    assert settings[0].knobs == {"refinement": "none"}
    assert settings[3].knobs == {"refinement": "score", "num_refinement_iterations": 1}
    assert len({setting.file_stem for setting in settings}) == 5


def test_ways_to_refine_have_the_usual_numbers_of_iterations():
    settings = choose_settings(False, None, None, ["stop_early=false"], ["score"])

    assert [setting.label for setting in settings] == [
        *("score, 0 iterations", "score, 1 iteration", "score, 4 iterations", "stop_early=false"),
    ]


def test_an_autoregressive_model_does_not_refine():
    with pytest.raises(ValueError, match=r"`--refinement` is for non-autoregressive models"):
        choose_settings(True, None, None, [], ["score"])


@pytest.mark.parametrize(
    ("knobs", "label"),
    [
        ("refinement=none", "prior mean"),
        ("refinement=none,num_latents=5", "prior mean, 5 latents"),
        ("refinement=score,num_refinement_iterations=1", "score, 1 iteration"),
        ("refinement=energy,num_refinement_iterations=4,stop_early=false", "energy, 4 iterations"),
        (
            "refinement=score,num_refinement_iterations=6,step_tolerance=0.0625",
            "score, at most 6 iterations, tolerance 0.0625",
        ),
        (
            "refinement=score,num_refinement_iterations=2,step_size=0.8,line_search=true",
            "score, 2 iterations, step size 0.8, line search",
        ),
        (
            "refinement=score,num_refinement_iterations=2,likelihood_steps=1",
            "score, 2 iterations, 1 likelihood step",
        ),
        (
            "refinement=score,num_refinement_iterations=1,likelihood_steps=0",
            "score, 1 iteration, no likelihood steps",
        ),
        (
            "refinement=score,num_refinement_iterations=1,length_beam=3,num_latents=3,"
            "rank_by=teacher",
            "score, 1 iteration, 3 lengths x 3 latents ranked by teacher",
        ),
        (
            "num_refinement_iterations=1,num_latents=9,latent_temperature=1.0",
            "at most 1 iteration, 9 latents, temperature 1",
        ),
        (
            "refinement=delta_posterior,num_refinement_iterations=1,stop_early=false",
            "delta, 1 iteration, fixed",
        ),
        (
            "num_refinement_iterations=1,extra_length=2,length_beam=9,ranking_length_penalty=2.5,"
            "rank_by=teacher",
            "at most 1 iteration, extra length 2, 9 lengths ranked by teacher, length penalty 2.5",
        ),
        ("refinement=iterative,num_refinement_iterations=2", "iterative, at most 2 iterations"),
        ("refinement=score", None),
    ],
)
def test_a_table_says_in_words_what_was_done(knobs, label):
    assert readable_label(parse_setting(knobs).knobs) == label


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
