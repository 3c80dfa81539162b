from itertools import pairwise

import pytest

from hf_nar.plots.labels import along, around, place_labels, spread


def test_places_that_are_far_enough_stay():
    assert spread([30.0, 0.0, 10.0], gap=10.0) == [30.0, 0.0, 10.0]


def test_places_that_crowd_are_spread_around_their_mean():
    assert spread([1.0, 0.0, 50.0], gap=10.0) == [5.5, -4.5, 50.0]


def test_a_group_pushes_its_neighbours():
    moved = spread([0.0, 0.0, 0.0, 12.0], gap=10.0)

    assert [high - low for low, high in pairwise(moved)] == [10.0] * 3
    assert sum(moved) == pytest.approx(12.0)


def test_no_place_is_moved_below_the_lowest():
    assert spread([1.0, 2.0, 3.0], gap=10.0, lowest=0.0) == [0.0, 10.0, 20.0]


def boxes(corners, sizes):
    pairs = zip(corners, sizes, strict=True)
    return [(x, y, x + width, y + height) for (x, y), (width, height) in pairs]


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_a_lone_label_stands_at_the_right():
    [(x, y)] = place_labels([(0.0, 0.0)], [(20.0, 10.0)], [], (-100, -100, 100, 100))

    assert (x > 0, y) == (True, -5.0)


def test_labels_cover_neither_each_other_nor_points_nor_lines():
    anchors = [(0.0, 0.0), (12.0, 3.0), (25.0, -4.0), (40.0, 40.0)]
    sizes = [(60.0, 10.0)] * 4
    obstacles = [*(around(*anchor, 4.0) for anchor in anchors), *along(anchors)]

    placed = boxes(place_labels(anchors, sizes, obstacles, (-200, -200, 200, 200)), sizes)

    for number, box in enumerate(placed):
        assert not any(overlap(box, other) for other in placed[number + 1 :])
        assert not any(overlap(box, other) for other in obstacles)


def test_a_label_does_not_leave_the_frame():
    [(x, _)] = place_labels([(95.0, 50.0)], [(30.0, 10.0)], [], (0, 0, 100, 100))

    assert x + 30 <= 95
