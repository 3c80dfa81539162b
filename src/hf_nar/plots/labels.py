"""Where labels go, so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

Box = tuple[float, float, float, float]  # left, bottom, right, top

GAP = 7.0  # between a point and its label, in points


def spread(places: Sequence[float], gap: float, lowest: float = -math.inf) -> list[float]:
    """Move places apart until neighbours are `gap` from each other, as little as that takes.

    Places that are far enough stay; those that crowd are spread evenly around their mean.

    Args:
        places: In any order.
        gap: Smallest distance.
        lowest: No place is moved below it.

    Returns:
        The new places, in the order of `places`.
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[int]] = []
    for i in order:
        groups.append([i])
        while len(groups) > 1 and _start(groups[-1], places, gap, lowest) < (
            _start(groups[-2], places, gap, lowest) + len(groups[-2]) * gap
        ):
            crowded = groups.pop()
            groups[-1] += crowded
    moved = [0.0] * len(places)
    for group in groups:
        for number, i in enumerate(group):
            moved[i] = _start(group, places, gap, lowest) + number * gap
    return moved


def _start(group: Sequence[int], places: Sequence[float], gap: float, lowest: float) -> float:
    middle = sum(places[i] for i in group) / len(group)
    return max(middle - (len(group) - 1) * gap / 2, lowest)


def place_labels(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
) -> list[tuple[float, float]]:
    """Find a place for the label of each point, beside it, that covers as little as possible.

    Args:
        anchors: The points.
        sizes: Width and height of each label.
        obstacles: What labels should not cover: the points, and lines as strings of small boxes.
        frame: What labels should not leave.

    Returns:
        The left lower corner of each label.
    """
    placed: list[Box] = []
    for (x, y), (width, height) in zip(anchors, sizes, strict=True):
        boxes = [
            (left, bottom, left + width, bottom + height)
            for distance in (GAP, 2.5 * GAP, 4 * GAP)
            for left, bottom in _corners(x, y, width, height, distance)
        ]
        costs = [
            10 * sum(_overlap(box, other) > 0 for other in placed)
            + 10 * (_overlap(box, frame) < width * height - 1e-6)
            + sum(_overlap(box, other) > 0 for other in obstacles)
            for box in boxes
        ]
        placed.append(boxes[costs.index(min(costs))])  # the first of the best: sides come first
    return [(box[0], box[1]) for box in placed]


def _corners(
    x: float, y: float, width: float, height: float, distance: float
) -> list[tuple[float, float]]:
    """Return places right, left, above, below and at the four corners of a point."""
    near = distance * 0.7
    return [
        (x + distance, y - height / 2),
        (x - distance - width, y - height / 2),
        (x - width / 2, y + distance),
        (x - width / 2, y - distance - height),
        (x + near, y + near),
        (x - near - width, y + near),
        (x + near, y - near - height),
        (x - near - width, y - near - height),
    ]


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def around(x: float, y: float, radius: float) -> Box:
    """Return the box around a point."""
    return (x - radius, y - radius, x + radius, y + radius)


def along(points: Sequence[tuple[float, float]], step: float = 4.0) -> list[Box]:
    """Return small boxes along the line through points."""
    boxes = []
    for (x, y), (end_x, end_y) in pairwise(points):
        count = max(int(((end_x - x) ** 2 + (end_y - y) ** 2) ** 0.5 / step), 1)
        for number in range(count + 1):
            share = number / count
            boxes.append(around(x + share * (end_x - x), y + share * (end_y - y), 1.0))
    return boxes
