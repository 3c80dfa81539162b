"""Strategies and metrics against refinement iterations."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_results import quality, teacher_quality

pytest.importorskip("matplotlib", reason="pictures are an extra")

from matplotlib.text import Text

from hf_nar.plots.quality import iterations_figure
from hf_nar.plots.sources import Section
from hf_nar.plots.style import picture_style


@pytest.fixture(autouse=True)
def _style():
    with picture_style():
        yield


def section(content, folder="model"):
    return Section(Path(folder) / "results.json", "quality", content)


def row(refinement, iterations, bleu, **values):
    knobs = {"refinement": refinement, "num_refinement_iterations": iterations}
    if refinement == "none":
        del knobs["num_refinement_iterations"]
    return {"setting": knobs, "iterations": iterations, "bleu": bleu, **values}


def compared(**values):
    """Return results with the prior mean, and one and two iterations of delta and score."""
    rows = [
        row("none", 0, 20.0, log_likelihood=-0.9),
        row("delta_posterior", 1, 25.0, log_likelihood=-0.5, elbo=-30.0),
        row("delta_posterior", 2, 26.0, log_likelihood=-0.4, elbo=-25.0),
        row("score", 1, 24.0, log_likelihood=-0.6, elbo=None),
        row("score", 2, 25.5, log_likelihood=-0.3),
    ]
    return quality(rows=rows, **values)


def curves(axes):
    return [list(map(tuple, line.get_xydata())) for line in axes.lines]


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_each_strategy_has_a_line_that_starts_at_the_prior_mean():
    figure = iterations_figure([section(compared())])

    assert curves(figure.axes[0]) == [
        [(0, 20), (1, 25), (2, 26)],
        [(0, 20), (1, 24), (2, 25.5)],
    ]
    assert {"delta", "score"} <= set(texts(figure))
    assert "model" not in texts(figure)


def test_a_strategy_that_was_measured_without_iterations_keeps_that_point():
    content = compared()
    content["rows"].append(row("score", 0, 19.0))

    figure = iterations_figure([section(content)])

    assert curves(figure.axes[0])[1][0] == (0, 19)


def test_strategies_of_several_models_are_told_apart():
    figure = iterations_figure([section(compared()), section(quality(), "other")])

    assert {"model, delta", "model, score", "other"} <= set(texts(figure))
    assert len({line.get_color() for line in figure.axes[0].lines}) == 3


def test_each_metric_has_a_diagram_of_its_own():
    figure = iterations_figure([section(compared())], metrics=["bleu", "log_likelihood", "elbo"])

    assert len(figure.axes) == 3
    assert curves(figure.axes[1])[0] == [(0, -0.9), (1, -0.5), (2, -0.4)]
    assert curves(figure.axes[2]) == [[(1, -30), (2, -25)]]
    assert {"BLEU", "ELBO of a translation, nats"} <= set(texts(figure))
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    colours = [axes.lines[0].get_color() for axes in figure.axes]
    assert len(set(colours)) == 1


def test_diagrams_do_not_cover_each_other():
    figure = iterations_figure([section(compared())], metrics=["bleu", "log_likelihood"])

    upper, lower = (axes.get_position() for axes in figure.axes)
    assert upper.y0 > lower.y1
    assert lower.y0 > 0


def test_a_teacher_has_a_level_where_it_has_the_metric():
    sections = [section(compared()), section(teacher_quality(), "teacher")]

    bleu, own = iterations_figure(sections, metrics=["bleu", "log_likelihood"]).axes

    assert [len(axes.lines) for axes in (bleu, own)] == [3, 2]


def test_numbers_stand_on_a_single_line_with_a_real_minus_sign():
    content = compared()
    content["rows"] = content["rows"][:3]

    found = texts(iterations_figure([section(content)], metrics=["log_likelihood"]))

    assert {"\u22120.90", "\u22120.50", "\u22120.40"} <= set(found)


def test_a_metric_that_nobody_measured_is_an_error():
    with pytest.raises(ValueError, match=r"must have ELBO .* but none that was given has"):
        iterations_figure([section(quality())], metrics=["bleu", "elbo"])


@pytest.mark.parametrize("metrics", [["blue"], []])
def test_an_unknown_metric_is_an_error(metrics):
    with pytest.raises(ValueError, match="must be one of bleu, chrf"):
        iterations_figure([section(quality())], metrics=metrics)
