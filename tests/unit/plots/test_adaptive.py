"""Fixed numbers of decoder passes against as many as a sentence needs."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from picture_results import quality, teacher_quality, write

pytest.importorskip("matplotlib", reason="pictures are an extra")

from matplotlib.text import Text

from hf_nar.cli.main import main
from hf_nar.plots.adaptive import PassPoint, adaptive_figure, pass_points
from hf_nar.plots.quality import iterations_figure
from hf_nar.plots.sources import Section
from hf_nar.plots.style import WIDTH, picture_style


@pytest.fixture(autouse=True)
def _style():
    with picture_style():
        yield


def row(iterations, mean, bleu, **knobs):
    setting = {"num_refinement_iterations": iterations, **knobs}
    facts = {"iterations": iterations, "mean_iterations": mean, "bleu": bleu}
    return {"label": "x", "setting": setting, **facts}


def refined(**changes):
    """Return 1, 2 and 10 passes, and three adaptive settings; others are in the way."""
    rows = [
        row(9, 9.0, 26.0, stop_early=False),
        row(0, 0.0, 20.0, stop_early=False),
        row(1, 1.0, 24.0, stop_early=False),
        row(9, 2.5, 25.9),
        row(9, 1.25, 25.0, jaccard_threshold=0.2),
        row(9, 1.5, 25.5, stop_early=True, jaccard_threshold=0.1),
        row(9, 2.0, 3.0, length_beam=5),
        row(9, 2.0, 4.0, collapse_repeats=False),
    ]
    return quality(**{"rows": rows, **changes})


def section(content):
    return Section(Path("model/results.json"), "quality", content)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_patience_is_a_point_of_its_own_and_is_explained():
    rows = [*refined()["rows"], row(9, 3.0, 25.95, patience=2)]

    figure = adaptive_figure(section(refined(rows=rows)))

    assert "repeated draft, patience 2" in texts(figure)
    assert any("Patience: so many times in a row." in text for text in texts(figure))
    assert not any("atience" in text for text in texts(adaptive_figure(section(refined()))))


def test_a_curve_is_of_fixed_passes_and_each_adaptive_setting_is_a_point():
    figure = adaptive_figure(section(refined()))

    curve, *points = (list(map(tuple, line.get_xydata())) for line in figure.axes[0].lines)
    assert curve == [(1, 20), (2, 24), (10, 26)]
    assert sorted(points) == [[(2.25, 25)], [(2.5, 25.5)], [(3.5, 25.9)]]
    assert {"fixed", "repeated draft", "Jaccard 0.1", "Jaccard 0.2"} <= set(texts(figure))
    assert "Adaptive: at most 10, and a sentence is" in " ".join(texts(figure))


def test_the_limit_is_in_the_name_where_it_differs():
    content = refined()
    content["rows"].append(row(3, 1.9, 25.2))

    shown = texts(adaptive_figure(section(content)))

    assert {"repeated draft, at most 4", "repeated draft, at most 10"} <= set(shown)


def test_a_draft_that_is_never_refined_is_a_point_of_the_curve():
    points = pass_points(section(quality(rows=[row(0, 0.0, 20.0), row(4, 2.0, 26.0)])))

    assert points == [PassPoint(1.0, 20.0, 1, None), PassPoint(3.0, 26.0, 5, 0.0)]


def test_names_stay_inside_the_picture_and_apart():
    rows = [row(n, float(n), 20.0 + n, stop_early=False) for n in (0, 9)]
    rows += [row(9, 9.0 - n / 100, 20.0 + n / 100, jaccard_threshold=n / 100) for n in range(8)]

    figure = adaptive_figure(section(quality(rows=rows)))

    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]  # without leaders
    assert all(box.x1 <= WIDTH * figure.dpi / 72 for box in boxes)
    floor = figure.axes[0].get_window_extent().y0
    assert all(box.y0 >= floor for box in boxes)
    heights = sorted(box.y0 for box in boxes[1:])
    assert min(b - a for a, b in pairwise(heights)) > 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (quality(rows=[row(4, 2.0, 20.0)]), "two fixed numbers .* has 0 and 1"),
        (quality(rows=[row(n, n, 20.0, stop_early=False) for n in (0, 3)]), "has 2 and 0"),
        (teacher_quality(), "of another one"),
    ],
)
def test_what_cannot_be_compared_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        adaptive_figure(section(content))


def test_the_command_draws_it(tmp_path):
    file = write(tmp_path, quality=refined())

    assert main(["plot", "adaptive", str(file), "--title", "Passes"]) == 0

    assert ET.parse(tmp_path / "adaptive.svg").getroot().get("width") == "540pt"
    assert (tmp_path / "adaptive.png").is_file()


def test_the_line_of_iterations_is_of_fixed_ones_where_there_are_more():
    line = iterations_figure([section(refined())]).axes[0].lines[0]

    assert list(map(tuple, line.get_xydata())) == [(0, 20), (1, 24), (9, 26)]
