from itertools import chain

import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from hf_nar.data.batching import TokenBatchSampler
from hf_nar.data.dealing import FILLER, EvenBatches, FillingCollator

LENGTHS = [1 + i * 7 % 13 for i in range(50)]


def batches(epoch=0, seed=3):
    sampler = TokenBatchSampler(LENGTHS, LENGTHS, max_tokens=40, seed=seed)
    sampler.set_epoch(epoch)
    return sampler


def dealt(processes, epoch=0, skip=0):
    """Return the collated batches of each process in an epoch, as accelerate deals them."""
    shares = []
    for rank in range(processes):
        loader = DataLoader(
            list(range(50)),
            batch_sampler=EvenBatches(batches(), processes),
            collate_fn=FillingCollator(lambda rows: {"rows": rows}, list(range(50)), [7, 8]),
        )
        prepared = prepare_data_loader(loader, num_processes=processes, process_index=rank)
        prepared.set_epoch(epoch)
        if skip:
            prepared = skip_first_batches(prepared, skip)
        shares.append(list(prepared))
    return shares


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
def test_each_pair_comes_once_and_processes_take_as_many_steps(processes):
    shares = dealt(processes)

    real = [batch["rows"] for batch in chain(*shares) if FILLER not in batch]
    assert sorted(chain(*real)) == list(range(50))
    assert len({len(share) for share in shares}) == 1
    assert len(shares) * len(shares[0]) - len(real) < processes


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("epoch", [0, 1])
def test_any_number_of_processes_sees_the_same_batches_in_the_same_order(processes, epoch):
    shares = dealt(processes, epoch)

    in_turn = [batch["rows"] for step in zip(*shares, strict=True) for batch in step]
    expected = list(batches(epoch))
    assert in_turn[: len(expected)] == expected


def test_a_filler_is_a_real_batch_that_is_marked_and_comes_last():
    sizes = {len(batches()) % processes for processes in (2, 3)}
    shares = dealt(3)

    fillers = [(i, batch) for share in shares for i, batch in enumerate(share) if FILLER in batch]
    assert sizes != {0}
    assert fillers
    for place, batch in fillers:
        assert place == len(shares[0]) - 1
        assert batch["rows"] == [7, 8]
    assert FILLER not in shares[0][-1]


def test_what_was_seen_before_a_stop_is_skipped_in_each_process():
    whole, rest = dealt(3, epoch=1), dealt(3, epoch=1, skip=2)

    assert rest == [share[2:] for share in whole]


def test_there_may_be_fewer_batches_than_processes():
    shares = [list(EvenBatches([[0], [1]], processes=5))]

    assert shares == [[[0], [1], [], [], []]]
