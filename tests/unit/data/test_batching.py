from itertools import pairwise

import numpy as np
import pytest
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader

from hf_nar.data.batching import TokenBatchSampler

MAX_TOKENS = 400


def random_lengths(pairs=3000, seed=0):
    random = np.random.default_rng(seed)
    source = random.lognormal(2.7, 0.6, pairs).clip(1, 100).astype(int)
    target = (source * random.normal(1.0, 0.2, pairs)).clip(1, 100).astype(int)
    return source, target


def sampler(epoch=0, **options):
    batches = TokenBatchSampler(*random_lengths(), MAX_TOKENS, **{"seed": 1, **options})
    batches.set_epoch(epoch)
    return batches


def cost(batch, source, target):
    return len(batch) * max(max(source[i], target[i]) for i in batch)


def padding(batches, source, target):
    padded = sum(
        len(batch) * (max(source[i] for i in batch) + max(target[i] for i in batch))
        for batch in batches
    )
    return 1 - (sum(source) + sum(target)) / padded


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("lengths_seed", range(5))
def test_every_pair_comes_once_an_epoch_and_within_the_budget(lengths_seed, shuffle):
    source, target = random_lengths(pairs=200 + lengths_seed, seed=lengths_seed)
    batches = TokenBatchSampler(source, target, MAX_TOKENS, seed=1, shuffle=shuffle)

    for epoch in range(4):
        batches.set_epoch(epoch)
        found = list(batches)

        assert sorted(i for batch in found for i in batch) == list(range(len(source)))
        assert max(cost(batch, source, target) for batch in found) <= MAX_TOKENS
        assert len(found) == len(batches)


def test_batches_are_full():
    source, target = random_lengths()

    found = list(sampler(shuffle=False))

    for batch, following in pairwise(found):
        assert cost([*batch, following[0]], source, target) > MAX_TOKENS


def test_epochs_differ_in_order_and_in_the_pairs_that_meet():
    first, second = list(sampler(epoch=0)), list(sampler(epoch=1))

    assert first != second
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}


def test_long_batches_are_spread_over_the_epoch():
    source, target = random_lengths()

    longest = [max(max(source[i], target[i]) for i in batch) for batch in sampler()]

    ranks = np.argsort(np.argsort(longest))
    assert abs(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1]) < 0.4  # sorted: 1


def test_the_same_seed_and_epoch_give_the_same_batches():
    assert list(sampler(epoch=2)) == list(sampler(epoch=2))


def test_seeds_differ():
    assert list(sampler(seed=1)) != list(sampler(seed=2))


def test_without_shuffle_epochs_are_equal_and_longest_comes_first():
    source, target = random_lengths()

    found = list(sampler(shuffle=False, epoch=0))

    assert found == list(sampler(shuffle=False, epoch=1))
    assert cost(found[0][:1], source, target) == max(source.max(), target.max())


@pytest.mark.parametrize("epoch", [0, 3])
def test_padding_share_agrees_with_counting_and_is_small(epoch):
    batches = sampler(epoch=epoch)

    share = batches.padding_share()

    assert share == pytest.approx(padding(list(batches), *random_lengths()))
    assert share < 0.10
    unsorted = [list(range(start, start + 16)) for start in range(0, 2992, 16)]
    assert padding(unsorted, *random_lengths()) > 0.4


def test_a_case_done_by_hand():
    batches = TokenBatchSampler([5, 1, 2, 5], [4, 2, 2, 1], max_tokens=10, seed=0, shuffle=False)

    assert sorted(map(sorted, batches)) == [[0, 3], [1, 2]]
    assert batches.padding_share() == pytest.approx(1 - 22 / (2 * (5 + 4) + 2 * (2 + 2)))


def test_equal_sides_neighbour_each_other():
    source = [10, 2, 10, 2, 10, 2]
    target = [2, 10, 2, 10, 2, 10]

    found = list(TokenBatchSampler(source, target, max_tokens=30, seed=0))

    assert sorted(map(sorted, found)) == [[0, 2, 4], [1, 3, 5]]


def test_a_data_loader_takes_it_and_accelerate_passes_the_epoch_on():
    batches = sampler()
    loader = DataLoader(range(3000), batch_sampler=batches, collate_fn=list)
    prepared = prepare_data_loader(loader, num_processes=2, process_index=1, put_on_device=False)

    prepared.set_epoch(5)

    assert batches.epoch == 5
    assert [list(batch) for batch in loader] == list(sampler(epoch=5))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([3, 3, 11], [3, 3, 3], r"pair 2 has a source of 11 tokens and the budget is 10"),
        ([3, 3], [3, 12], r"pair 1 has a target of 12 tokens and the budget is 10"),
        ([3, 3], [3, 0], r"`target_lengths` must be at least 1, .* pair 1 has 0"),
        ([3, 3], [3], r"one length for each pair, got 2 and 1"),
        ([], [], r"one length for each pair, got 0 and 0"),
    ],
)
def test_lengths_that_do_not_fit_are_named(source, target, message):
    with pytest.raises(ValueError, match=message):
        TokenBatchSampler(source, target, max_tokens=10, seed=0)


def test_a_negative_seed_is_named():
    with pytest.raises(ValueError, match="`seed` must be at least 0, got -1"):
        TokenBatchSampler([1], [1], max_tokens=10, seed=-1)
