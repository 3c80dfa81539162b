"""What is in the picture of a latent field."""

from __future__ import annotations

from pathlib import Path

import pytest
from picture_results import latent_field

pytest.importorskip("matplotlib", reason="pictures are an extra")

from matplotlib.quiver import Quiver
from matplotlib.text import Text

from hf_nar.plots.latent_field import latent_field_figure
from hf_nar.plots.sources import Section
from hf_nar.plots.style import picture_style


@pytest.fixture(autouse=True)
def _style():
    with picture_style():
        yield


def draw(**values):
    content = latent_field(**values)
    return latent_field_figure(Section(Path("results.json"), "latent_field", content))


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_each_refiner_has_a_map_with_its_own_path_and_that_of_delta():
    found = texts(draw())

    assert {"score network", "energy network"} <= set(found)
    assert found.count("prior mean  \u22121.50") == 2
    assert found.count("delta  \u22121.50") == 2
    assert found.count("score  \u22121.50") == 1
    assert found.count("energy  \u22121.50") == 1


def test_arrows_are_the_steps_and_the_longest_is_as_long_as_their_grid_allows():
    [arrows, _] = draw().findobj(Quiver)

    assert arrows.U.tolist() == [1.0, 0.0, -1.0] * 3
    assert arrows.V.tolist() == [1.0] * 3 + [0.0] * 3 + [-1.0] * 3
    assert 2**0.5 / arrows.scale == pytest.approx(1.3)  # cells of 1


def test_steps_of_no_length_have_no_arrows():
    still = {"refiner": "score", "energy": None}
    still |= dict.fromkeys(("steps_x", "steps_y"), [[0.0] * 3] * 3)

    [arrows] = draw(fields=[still]).findobj(Quiver)

    assert arrows.scale == 1.0


def test_an_energy_has_a_scale_of_its_own():
    figure = draw()

    bars = figure.axes[1::2]  # each after its map
    assert [axes.get_xlabel() for axes in bars] == [
        "log probability of the best draft's words",
        "energy, the higher the better",
    ]
    assert [axes.get_xlim() for axes in bars] == [(-2, 0), (-8, 0)]


def test_one_refiner_has_one_map():
    figure = draw(fields=latent_field()["fields"][:1])

    assert len(figure.axes) == 2  # with its colour bar
    assert "energy network" not in texts(figure)


def test_the_caption_says_what_is_shown():
    exact = " ".join(texts(draw()))
    plane = " ".join(texts(draw(position=None, is_exact=False, explained=0.93)))

    assert "the latent of target position 2" in exact
    assert "first number of the latent" in exact
    assert "first principal direction" in plane
    assert "holds 93% of" in plane
    assert "Prior mean: A dog" in exact
    assert "Delta, iteration 1: A dog" in exact


def test_a_position_of_more_numbers_is_seen_in_a_plane():
    found = " ".join(texts(draw(is_exact=False, explained=0.93)))

    assert "the latent of target position 2" in found
    assert "holds 93% of" in found


def test_what_does_not_fit_is_an_error():
    with pytest.raises(ValueError, match=r'"log_probability" .* must list 5 numbers'):
        draw(log_probability=[[1.0]])
    with pytest.raises(ValueError, match=r'"arrow_y" .* must list 1 numbers'):
        draw(fields=[{"refiner": "score", "steps_x": [[1.0] * 3], "steps_y": [[1.0] * 3]}])
    with pytest.raises(ValueError, match="at least two columns and rows"):
        draw(arrow_x=[1.0])
    with pytest.raises(ValueError, match="must hold that of the score network"):
        draw(paths=latent_field()["paths"][2:])
