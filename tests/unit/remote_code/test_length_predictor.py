import math

import pytest
import torch

from hf_nar.remote_code.length_predictor import LengthPredictor, LengthTransform, uniform_copy


def slow_weights(std: float, source_lengths: list[int], target_lengths: list[int]) -> torch.Tensor:
    """The paper's formula, position by position."""
    rows = torch.zeros(len(source_lengths), max(target_lengths), max(source_lengths))
    for b, (n, m) in enumerate(zip(source_lengths, target_lengths, strict=True)):
        for j in range(m):
            scores = [math.exp(-((k - j * n / m) ** 2) / (2 * std**2)) for k in range(n)]
            for k in range(n):
                rows[b, j, k] = scores[k] / sum(scores)
    return rows


def mask_of(lengths: list[int]) -> torch.Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


@pytest.mark.parametrize("std", [0.05, 0.7, 3.0])
def test_length_transform_agrees_with_the_formula_position_by_position(std):
    transform = LengthTransform(std=std, std_floor=1e-3)
    sources, targets = [5, 8, 1, 3], [6, 3, 4, 3]

    weights = transform.weights(mask_of(sources), torch.tensor(targets), 6)

    torch.testing.assert_close(weights, slow_weights(std, sources, targets), atol=1e-5, rtol=1e-4)


def test_length_transform_is_a_gaussian_and_not_a_power_of_two():
    transform = LengthTransform(std=1.0, std_floor=1e-3)

    weights = transform.weights(mask_of([8]), torch.tensor([6]), 6)

    expected = [0.0, 0.0, 0.05, 0.24, 0.40, 0.24, 0.05, 0.0]  # source position 4 at j = 3
    assert weights[0, 3].tolist() == pytest.approx(expected, abs=0.006)


def test_padding_gets_no_weight_even_where_the_gaussian_is_narrow_and_far():
    transform = LengthTransform(std=0.01, std_floor=1e-3)
    mask = mask_of([2, 40])

    weights = transform.weights(mask, torch.tensor([30, 30]), 30)

    assert weights[0, :, 2:].abs().max() == 0
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 30))


def test_positions_after_the_end_of_a_target_are_zero():
    transform = LengthTransform(std=1.0, std_floor=1e-3)

    spread = transform(torch.ones(2, 4, 3), mask_of([4, 4]), torch.tensor([2, 5]), 5)

    assert spread[0, 2:].abs().max() == 0
    torch.testing.assert_close(spread[1], torch.ones(5, 3))


def test_std_can_be_learnt():
    transform = LengthTransform(std=1.0, std_floor=1e-3)
    hidden = torch.arange(4.0)[None, :, None]

    transform(hidden, mask_of([4]), torch.tensor([4]), 4)[0, 0].sum().backward()

    assert transform.std.item() == pytest.approx(1.0)
    assert transform.raw_std.grad.abs().item() > 1e-3


def test_length_classes_and_lengths_are_each_others_inverse():
    predictor = LengthPredictor(d_model=4, max_offset=50)
    source, target = torch.tensor([5, 5, 10]), torch.tensor([5, 9, 3])

    classes = predictor.target_class(source, target)
    logits = torch.nn.functional.one_hot(classes, 101).float()

    assert classes.tolist() == [50, 54, 43]
    assert predictor.most_likely_length(logits, source).tolist() == [5, 9, 3]


def test_far_lengths_go_to_the_last_class_and_lengths_are_at_least_one():
    predictor = LengthPredictor(d_model=4, max_offset=2)

    classes = predictor.target_class(torch.tensor([5, 50]), torch.tensor([50, 5]))
    shortest = predictor.most_likely_length(torch.eye(5)[:1], torch.tensor([1]))

    assert classes.tolist() == [4, 0]
    assert shortest.tolist() == [1]


def test_length_logits_ignore_poisoned_padding():
    predictor = LengthPredictor(d_model=4, max_offset=2)
    hidden = torch.randn(1, 3, 4)
    poisoned = torch.cat([hidden, torch.full((1, 2, 4), 1e4)], dim=1)

    logits = predictor(hidden, mask_of([3]))

    padded = predictor(poisoned, torch.tensor([[True, True, True, False, False]]))
    torch.testing.assert_close(padded, logits)


def test_a_uniform_copy_spreads_the_source_evenly():
    source = torch.arange(5.0)[None, :, None].expand(4, -1, 2)
    mask = torch.arange(5) < torch.tensor([[5], [3], [2], [1]])
    lengths = torch.tensor([3, 5, 1, 4])

    copied = uniform_copy(source, mask, lengths, 6)

    assert copied.shape == (4, 6, 2)
    rows = [row[:length, 0].tolist() for row, length in zip(copied, lengths, strict=True)]
    assert rows == [[0, 2, 4], [0, 1, 1, 2, 2], [0], [0, 0, 0, 0]]  # 0.5 and 1.5 go up


def test_likely_lengths_are_those_of_the_best_classes():
    predictor = LengthPredictor(d_model=4, max_offset=2)
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0], [9.0, 8.0, 0.0, 1.0, 2.0]])

    lengths = predictor.likely_lengths(logits, torch.tensor([7, 2]), 3)

    assert lengths.tolist() == [[6, 8, 7], [1, 1, 4]]  # never below the end token


def test_a_second_layer_sees_the_mean_of_real_positions():
    predictor = LengthPredictor(d_model=4, max_offset=2, num_layers=2)
    hidden, mask = torch.randn(1, 3, 4), torch.tensor([[True, True, False]])

    logits = predictor(hidden, mask)

    mean = hidden[:, :2].mean(1)
    torch.testing.assert_close(logits, predictor.classifier(predictor.hidden(mean).relu()))
