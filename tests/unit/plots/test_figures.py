"""What is in the figures; that files can be written is tested with the command."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_results import (
    NAMES,
    benchmark,
    latent_space,
    quality,
    teacher_quality,
    trace,
)

pytest.importorskip("matplotlib", reason="pictures are an extra")

from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Annotation, Text

from hf_nar.plots.drafts import drafts_figure
from hf_nar.plots.latency import latency_figure
from hf_nar.plots.latent import latent_figure
from hf_nar.plots.quality import iterations_figure
from hf_nar.plots.sources import Section
from hf_nar.plots.style import WIDTH, picture_style, text_width, wrap
from hf_nar.plots.tradeoff import SpeedPoint, pareto_figure, pareto_front, speed_points


@pytest.fixture(autouse=True)
def _style():
    with picture_style():
        yield


def section(name, content, folder="model"):
    return Section(Path(folder) / "results.json", name, content)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def curves(figure):
    return [list(map(tuple, line.get_xydata())) for line in figure.axes[0].lines]


def test_latency_has_a_line_and_a_name_for_each_system():
    figure = latency_figure(section("benchmark", benchmark()))

    assert curves(figure) == [
        [(10, 10 * number + 10), (50, 10 * number + 50)] for number in (1, 2, 3, 4)
    ]
    assert set(NAMES) <= set(texts(figure))
    assert "Some CPU, 2 cores, 1 thread, float32. Timed from token ids to token ids." in texts(
        figure
    )


def test_batch_size_and_scope_choose_the_times():
    figure = latency_figure(section("benchmark", benchmark()), batch_size=8, scope="text")

    assert curves(figure)[0] == [(10, 91), (50, 411)]
    assert "milliseconds for 8 sentences at once, median" in texts(figure)


def test_ours_differ_from_others_in_colour_and_marker():
    lines = latency_figure(section("benchmark", benchmark())).axes[0].lines

    reds = [line.get_color()[0] > line.get_color()[2] for line in lines]
    assert reds == [False, False, True, True]
    assert [line.get_marker() for line in lines] == ["o", "o", "s", "s"]
    assert len({line.get_color() for line in lines}) == 4


def test_milliseconds_can_be_logarithmic():
    plain, logarithmic = (
        latency_figure(section("benchmark", benchmark()), logarithmic=choice).axes[0]
        for choice in (False, True)
    )

    assert (plain.get_yscale(), plain.get_ylim()[0]) == ("linear", 0)
    assert min(plain.get_ylim()[1], logarithmic.get_ylim()[1]) > 90  # the slowest is inside
    assert logarithmic.get_yscale() == "log"
    assert [label.get_text() for label in logarithmic.get_yticklabels()] == ["20", "50", "100"]


def test_one_length_gives_no_line():
    content = benchmark()
    content["rows"] = [row for row in content["rows"] if row["length"] != 50]

    with pytest.raises(ValueError, match=r"at least two lengths, but .* has only 10"):
        latency_figure(section("benchmark", content))


@pytest.mark.parametrize("options", [{"batch_size": 3}, {"scope": "other"}])
def test_times_that_were_not_measured_are_an_error(options):
    with pytest.raises(ValueError, match=r"has batch sizes \[1, 8\] and scopes"):
        latency_figure(section("benchmark", benchmark()), **options)


def test_a_system_without_an_entry_is_an_error():
    content = benchmark()
    content["systems"].pop()

    with pytest.raises(ValueError, match="none for 'CTranslate2 int8 beam 4'"):
        latency_figure(section("benchmark", content))


def test_iterations_has_a_line_for_a_model_and_a_level_for_its_teacher():
    figure = iterations_figure(
        [section("quality", quality()), section("quality", teacher_quality(), "teacher")]
    )

    line, level = curves(figure)
    assert line == [(0, 20), (1, 25), (4, 26)]
    assert [y for _, y in level] == [31, 31]
    assert {"model", "teacher, beam 4", "20.0", "25.0", "26.0"} <= set(texts(figure))


def test_labels_replace_the_names_of_folders():
    sections = [section("quality", quality()), section("quality", quality(), "other")]

    figure = iterations_figure(sections, labels=["raw", "distilled"])

    assert {"raw", "distilled"} <= set(texts(figure))
    assert not {"model", "other", "20.0"} & set(texts(figure))


@pytest.mark.parametrize("labels", [["one"], ["same", "same"], ["1", "2", "3"]])
def test_each_model_has_its_own_label(labels):
    sections = [section("quality", quality()), section("quality", quality(), "other")]

    with pytest.raises(ValueError, match="one label for each of the 2"):
        iterations_figure(sections, labels=labels)


def test_a_setting_with_other_knobs_is_no_point_of_the_line():
    content = quality()
    knobs = {"num_refinement_iterations": 2, "collapse_repeats": False}
    content["rows"].append({"iterations": 2, "bleu": 3.0, "label": "x", "setting": knobs})

    assert curves(iterations_figure([section("quality", content)]))[0] == [
        (0, 20),
        (1, 25),
        (4, 26),
    ]


def test_a_teacher_alone_has_no_iterations():
    with pytest.raises(ValueError, match="by the number of refinement iterations"):
        iterations_figure([section("quality", teacher_quality())])


def test_different_test_sets_are_not_compared():
    sections = [
        section("quality", quality()),
        section("quality", teacher_quality(sentences=999), "teacher"),
    ]

    with pytest.raises(ValueError, match="one test set"):
        iterations_figure(sections)


def test_speed_and_bleu_come_from_the_benchmark():
    points, left_out = speed_points(section("benchmark", benchmark()), 1, "text")

    assert points == [
        SpeedPoint("LaNMT, 1 iteration", True, 100.0, 25.0),
        SpeedPoint("LaNMT, 4 iterations", True, 50.0, 26.0),
        SpeedPoint("transformers beam 4", False, 100 / 3, 31.0),
    ]
    assert left_out == ["CTranslate2 int8 beam 4"]


def test_no_bleu_at_all_gives_no_picture():
    content = benchmark()
    for system in content["systems"]:
        system["bleu"] = None

    with pytest.raises(ValueError, match=r"must have a BLEU to be shown.*`--target-file`"):
        pareto_figure(section("benchmark", content))


def test_speed_that_was_not_measured_is_an_error():
    with pytest.raises(ValueError, match="has: batch size 1, scope model"):
        pareto_figure(section("benchmark", benchmark()), scope="x")


def test_the_front_leaves_out_what_another_beats():
    points = [
        SpeedPoint(str(i), True, *at) for i, at in enumerate([(1, 9), (2, 9), (3, 5), (2, 4)])
    ]

    assert [point.name for point in pareto_front(points)] == ["1", "2"]


def test_pareto_names_its_points_and_joins_the_front():
    figure, left_out = pareto_figure(section("benchmark", benchmark()))

    assert curves(figure)[0] == [(100 / 3, 31), (50, 26), (100, 25)]
    assert {"LaNMT, 1 iteration", "transformers beam 4"} <= set(texts(figure))
    assert left_out == ["CTranslate2 int8 beam 4"]
    assert "CTranslate2 int8 beam 4" not in texts(figure)
    assert any(text.startswith("sacreBLEU on test.de.") for text in texts(figure))


def boxes(figure, kind):
    patches = figure.findobj(FancyBboxPatch)
    return [patch for patch in patches if (patch.get_gid() or "").startswith(kind)]


def test_changed_tokens_are_marked():
    figure = drafts_figure(section("quality", quality()))

    assert len(boxes(figure, "changed")) == 2
    assert len(boxes(figure, "token")) == 18
    assert {"iteration 2", "no change", "not in the draft before", "\u2423"} <= set(texts(figure))


def test_the_sentence_can_be_chosen():
    content = quality(traces=[trace(), trace(source="Zwei")])

    assert "Zwei" in texts(drafts_figure(section("quality", content), sentence=2))
    with pytest.raises(ValueError, match=r"in \[1, 2\].* got 3"):
        drafts_figure(section("quality", content), sentence=3)


def test_a_surer_token_is_darker():
    translation = boxes(drafts_figure(section("quality", quality())), "token")[-5:]

    darkness = [-sum(patch.get_facecolor()[:3]) for patch in translation]
    assert sorted(range(5), key=darkness.__getitem__) == [3, 2, 1, 0, 4]


def test_repeats_that_were_dropped_are_said():
    drafts = [["▁A", "▁dog", "▁dog", "▁runs"]]
    content = quality(traces=[trace(drafts=drafts, scores=[-0.1, -0.1, -0.1, 0.0])])

    found = texts(drafts_figure(section("quality", content)))

    assert "repeats dropped" in found
    assert found.count("dog") == 3


def test_scores_of_other_tokens_shade_nothing():
    figure = drafts_figure(section("quality", quality(traces=[trace(scores=[-0.1])])))

    assert len(boxes(figure, "token")) == 13
    assert "probability 0" not in texts(figure)


def test_long_sentences_wrap_and_stay_inside():
    words = [f"▁word{'x' * number}" for number in range(0, 200, 12)]
    content = quality(traces=[trace(drafts=[words], source=" ".join(words))])

    figure = drafts_figure(section("quality", content))

    tokens = boxes(figure, "token")
    assert all(patch.get_x() + patch.get_width() <= WIDTH for patch in tokens)
    assert len({patch.get_y() for patch in tokens}) > 3
    assert max(patch.get_y() for patch in tokens) < figure.get_figheight() * 72


def test_drafts_must_be_lists_of_tokens():
    with pytest.raises(ValueError, match="must be lists of tokens"):
        drafts_figure(section("quality", quality(traces=[trace(drafts=[["a", 1]])])))


def test_latent_names_its_points_and_joins_what_is_close():
    found = texts(latent_figure(section("latent_space", latent_space())))

    assert {
        "prior mean  \u221230.5",
        "iterations 1\u20132  \u221230.5",
        "posterior mean  \u221230.5",
    } <= set(found)
    assert "log p(reference | latent) in nats" in found
    assert any("holds 90% of their spread" in text for text in found)


def test_latent_has_an_arrow_for_each_visible_move_and_one_to_the_posterior():
    figure = latent_figure(section("latent_space", latent_space()))

    arrows = [note for note in figure.findobj(Annotation) if note.arrow_patch]
    ends = [(note.xyann, note.xy) for note in arrows]
    assert ends == [((-1.0, 1.0), (1.0, 0.0)), ((-1.0, 1.0), (-0.5, -0.5))]


def test_a_grid_that_does_not_fit_its_axes_is_an_error():
    with pytest.raises(ValueError, match=r'"log_likelihood" .* must list 5 numbers'):
        latent_figure(section("latent_space", latent_space(log_likelihood=[[1.0]])))
    with pytest.raises(ValueError, match=r'"grid_y" .* must list 1 numbers'):
        latent_figure(section("latent_space", latent_space(log_likelihood=[[1.0] * 5])))


@pytest.mark.parametrize("key", ["grid_x", "grid_y"])
@pytest.mark.parametrize("ticks", [[1.0], [0.0, 0.0], [1.0, 0.0]])
def test_a_grid_must_be_a_grid(key, ticks):
    with pytest.raises(ValueError, match="at least two columns and rows"):
        latent_figure(section("latent_space", latent_space(**{key: ticks})))


def test_a_model_without_drafts_has_no_picture_of_them():
    with pytest.raises(ValueError, match="must have drafts that changed"):
        drafts_figure(section("quality", teacher_quality()))


def test_dollar_signs_are_no_formulas():
    figure = drafts_figure(section("quality", quality()), title="$x^2$")

    assert "$x^2$" in texts(figure)
    assert not any(text.get_parse_math() for text in figure.findobj(Text))


def test_text_is_wrapped_by_its_width():
    lines = wrap("one two " * 30 + "x" * 300, 200.0)

    assert len(lines) > 5
    assert all(text_width(line) <= 200.0 for line in lines)
    assert lines[-1].endswith("…")
