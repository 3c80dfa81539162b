import sys

import numpy as np
import pytest

from hf_nar.data import digit_scenes as digit_scenes_module
from hf_nar.data.digit_scenes import SCENE_SIZE, _digits, digit_scenes

SPLITS = ("train", "validation", "test")
CELL = 12
PLACES = [
    "at the top left",
    "at the top",
    "at the top right",
    "at the left",
    "in the middle",
    "at the right",
    "at the bottom left",
    "at the bottom",
    "at the bottom right",
]


def pixels(row):
    return np.asarray(row["image"])


def filled_cells(canvas):
    """Return which of the 3 x 3 cells of a scene are not black."""
    cells = canvas.reshape(3, CELL, 3, CELL).max(axis=(1, 3))
    return [int(cell) for cell in np.flatnonzero(cells)]


def test_a_caption_names_the_filled_cells_in_reading_order():
    for row in digit_scenes(60, seed=0):
        parts = row["caption"].replace(" and ", ", ").split(", ")
        named = [PLACES.index(" ".join(part.split()[2:])) for part in parts]

        assert named == filled_cells(pixels(row)), row["caption"]


def test_captions_differ_in_length_and_have_the_right_article():
    captions = digit_scenes(300, seed=0)["caption"][:]

    assert {text.count(" and ") + text.count(",") for text in captions} == {0, 1, 2}
    assert len({len(text.split()) for text in captions}) > 8
    for text in captions:
        assert text.split().count("an") == text.count(" eight ") == text.count("an eight ")


def test_a_scene_is_a_small_grey_image():
    row = digit_scenes(1, seed=0)[0]

    assert row["image"].mode == "L"
    assert row["image"].size == (SCENE_SIZE, SCENE_SIZE)
    assert pixels(row).max() > 200


def test_a_digit_lies_anywhere_in_its_cell():
    rows = [pixels(row) for row in digit_scenes(300, seed=0)]
    edges = [np.flatnonzero(row.any(axis=axis)) for row in rows for axis in (0, 1)]

    assert {0, 1, 2, 3, 4} <= {int(edge[0]) % CELL for edge in edges}
    assert {8, 9, 10, 11} <= {int(edge[-1]) % CELL for edge in edges}


def test_the_same_seed_draws_the_same_scenes_and_another_seed_others():
    first, again, other = (digit_scenes(20, seed) for seed in (3, 3, 4))

    assert [pixels(row).tobytes() for row in first] == [pixels(row).tobytes() for row in again]
    assert first["caption"][:] == again["caption"][:]
    assert first["caption"][:] != other["caption"][:]


def test_splits_share_no_picture_of_a_digit():
    pictures = {split: {one.tobytes() for one in _digits(split)[0]} for split in SPLITS}

    assert [len(pictures[split]) for split in SPLITS] == [1439, 179, 179]
    assert len(set.union(*pictures.values())) == 1797
    for split in SPLITS:
        assert set(_digits(split)[1].tolist()) == set(range(10))


def test_a_scene_uses_the_digits_of_its_split(monkeypatch):
    asked = []
    monkeypatch.setattr(
        digit_scenes_module, "_digits", lambda split: asked.append(split) or _digits(split)
    )

    for split in SPLITS:
        digit_scenes(2, seed=0, split=split)

    assert asked == list(SPLITS)


def test_a_digit_is_turned_and_scaled():
    rows = [pixels(row) for row in digit_scenes(300, seed=0)]
    alone = [row for row in rows if len(filled_cells(row)) == 1]
    heights = [int((row.max(axis=1) > 60).sum()) for row in alone]

    assert min(heights) <= 8
    assert max(heights) >= 10
    assert len({row.tobytes() for row in alone}) == len(alone)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, "train"), "`num_scenes` must be at least 1"),
        ((1, -1, "train"), "`seed` must be at least 0"),
        ((1, 1, "dev"), "`split` must be one of train, validation, test, got 'dev'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        digit_scenes(*arguments)


def test_a_missing_scikit_learn_is_named_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)

    with pytest.raises(ValueError, match=r"pip install \"hf-nar\[scenes\]\""):
        digit_scenes(1, seed=0)
