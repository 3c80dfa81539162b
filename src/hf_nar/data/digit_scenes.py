"""A toy task with pictures: scenes of handwritten digits, and captions that say what is where.

It is learned in minutes on a CPU. The digits are the 1,797 of scikit-learn, 8 x 8 pixels each.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from datasets import Dataset, Features, Image, Value
from numpy.typing import NDArray
from PIL import Image as Pictures

SceneSplit = Literal["train", "validation", "test"]

SCENE_SIZE = 36  # pixels, both ways
_CELL = 12  # a scene has 3 x 3 cells, and a cell at most one digit
_DIGIT = 8
_PATCH = 10  # around a digit, which is turned and scaled in it
_MAX_TURN = 0.15  # radians
_SCALES = (1.0, 1.2)
_BRIGHTEST = 16  # of scikit-learn's digits
_MAX_DIGITS = 3
_HELD_OUT_SHARE = 0.1  # of the pictures of each digit, for validation and for test each
_SPLIT_SEED = 0  # which pictures of digits belong to which split never changes
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLACES = (
    "at the top left",
    "at the top",
    "at the top right",
    "at the left",
    "in the middle",
    "at the right",
    "at the bottom left",
    "at the bottom",
    "at the bottom right",
)


def digit_scenes(num_scenes: int, seed: int, split: SceneSplit = "train") -> Dataset:
    """Draw scenes of 1 to 3 handwritten digits, with captions in reading order.

    A caption is such as "a seven at the top left, an eight in the middle and a two at the right".
    Each digit lies anywhere within its ninth of the scene, turned a little and of another size.
    Splits share no picture of a digit, so
    no scene either: about 1,430 pictures are for training, 180 for validation, 180 for the test.

    Args:
        num_scenes: Number of scenes, at least 1.
        seed: Seed of the draw, at least 0.
        split: Whose digits are used.

    Returns:
        Rows with an `image`, grey, 36 x 36 pixels, and a `caption`.

    Raises:
        ValueError: If the split is unknown, there are no scenes, the seed is negative, or
            scikit-learn is not installed.
    """
    if split not in get_args(SceneSplit):
        raise ValueError(
            f"`split` must be one of {', '.join(get_args(SceneSplit))}, got {split!r}."
        )
    if num_scenes < 1:
        raise ValueError(f"`num_scenes` must be at least 1, got {num_scenes}. Ask for more.")
    if seed < 0:
        raise ValueError(f"`seed` must be at least 0, got {seed}. Use another number.")
    pictures, labels = _digits(split)
    random = np.random.default_rng(seed)
    rows = [_scene(pictures, labels, random) for _ in range(num_scenes)]
    return Dataset.from_dict(
        {
            "image": [Pictures.fromarray(canvas) for canvas, _ in rows],
            "caption": [caption for _, caption in rows],
        },
        features=Features({"image": Image(), "caption": Value("string")}),
    )


def _digits(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the pictures of a split, `[digits, 8, 8]`, and what they show, `[digits]`."""
    try:
        from sklearn.datasets import load_digits  # late: an optional dependency
    except ImportError as error:
        raise ValueError(
            "Digit scenes are made of scikit-learn's digits, and scikit-learn is not installed. "
            'Run: pip install "hf-nar[scenes]"'
        ) from error
    pixels, labels = load_digits(return_X_y=True)
    pictures = np.rint(pixels.reshape(-1, _DIGIT, _DIGIT) * 255 / _BRIGHTEST).astype(np.uint8)
    random = np.random.default_rng(_SPLIT_SEED)
    chosen: list[int] = []
    for digit in range(10):  # so that each split has as much of each digit
        order = random.permutation(np.flatnonzero(labels == digit))
        held_out = round(len(order) * _HELD_OUT_SHARE)
        parts = np.split(order, [held_out, 2 * held_out])
        chosen += dict(zip(("validation", "test", "train"), parts, strict=True))[split].tolist()
    return pictures[chosen], labels[chosen].astype(np.int64)


def _scene(
    pictures: NDArray[np.uint8], labels: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.uint8], str]:
    canvas = np.zeros((SCENE_SIZE, SCENE_SIZE), np.uint8)
    count = random.integers(1, _MAX_DIGITS, endpoint=True)
    cells = np.sort(random.choice(len(_PLACES), size=count, replace=False))
    digits = random.integers(len(pictures), size=count)
    shifts = random.integers(0, _CELL - _PATCH, size=(count, 2), endpoint=True)
    for cell, digit, shift in zip(cells, digits, shifts, strict=True):
        top, left = np.array(divmod(cell, 3)) * _CELL + shift
        canvas[top : top + _PATCH, left : left + _PATCH] = _varied(pictures[digit], random)
    return canvas, _caption(labels[digits].tolist(), cells.tolist())


def _varied(picture: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a digit turned by a random angle and scaled by a random factor, `[10, 10]`."""
    turn, scale = random.uniform(-_MAX_TURN, _MAX_TURN), random.uniform(*_SCALES)
    cosine, sine = np.cos(turn) / scale, np.sin(turn) / scale
    # Where each pixel comes from, so that the centre stays the centre.
    centre, old_centre = _PATCH / 2, _DIGIT / 2
    across = (cosine, sine, old_centre - (cosine + sine) * centre)
    down = (-sine, cosine, old_centre - (cosine - sine) * centre)
    image = Pictures.fromarray(picture)
    turned = image.transform(
        (_PATCH, _PATCH),
        Pictures.Transform.AFFINE,
        (*across, *down),
        Pictures.Resampling.BILINEAR,
    )
    return np.asarray(turned)


def _caption(digits: list[int], cells: list[int]) -> str:
    parts = [
        f"{'an' if digit == 8 else 'a'} {_NAMES[digit]} {_PLACES[cell]}"
        for digit, cell in zip(digits, cells, strict=True)
    ]
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last
