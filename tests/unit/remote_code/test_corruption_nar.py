import time

import pytest
import torch

from hf_nar.remote_code.corruption_nar import (
    OPERATIONS,
    CorruptionDraws,
    apply_corruption,
    corrupt,
    draw_corruption,
)

END, PAD, POISON = 2, 1, -(10**6)
ALL = dict.fromkeys(OPERATIONS, 1.0)
VOCABULARY = torch.arange(1000, 1010)


def batch_of(*lengths, width=None):
    """Give rows of distinct words that end in END, with padding behind, and their mask."""
    width = width or max(lengths)
    tokens = torch.full((len(lengths), width), PAD)
    for row, length in enumerate(lengths):
        tokens[row, :length] = 10 + 100 * row % 900 + torch.arange(length)
        tokens[row, length - 1] = END
    return tokens, torch.arange(width) < torch.tensor(lengths)[:, None]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def applied(words, operations, new=()):
    """Apply operations by name to one unprotected sentence."""
    indices = [OPERATIONS.index(name) if name else -1 for name in operations]
    drawn = torch.tensor([list(new) or [0] * len(words)])
    draws = CorruptionDraws(torch.tensor([indices]), drawn)
    return apply_corruption(torch.tensor([words]), torch.tensor([[len(words)]]), draws)[0].tolist()


def slowly_edited(original, names, new):
    """Swap, repeat and replace in a list, one position after the other."""
    edited, last = list(original), len(original) - 1
    position = 0
    while position < last:
        if names[position] == "swap":
            edited[position], edited[position + 1] = original[position + 1], original[position]
            position += names[position + 1] == "swap"  # it does not act
        position += 1
    for position, name in enumerate(names):
        if name == "repeat" and position < last:
            edited[position + 1] = original[position]
    return [
        new_word if name == "replace" else word
        for word, name, new_word in zip(edited, names, new, strict=True)
    ]


def slowly_applied(row, length, operations, new):
    """Do what `apply_corruption` promises for one row of a batch."""
    names = [OPERATIONS[operation] if operation >= 0 else None for operation in operations]
    edited = slowly_edited(row[:length], names[:length], new[:length])
    moved = []
    for position, word in enumerate(edited):
        if names[position] == "insert":
            moved.append(new[position])
        if names[position] != "drop":
            moved.append(word)
    moved = moved or edited[:1]
    moved += moved[-1:] * (length - len(moved))
    return moved[:length] + row[length:]


@pytest.mark.parametrize("rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("weights", [ALL, *({name: 1.0} for name in OPERATIONS)])
@pytest.mark.parametrize("num_protected", [0, 1])
def test_all_rows_at_once_are_as_one_position_after_the_other(rate, weights, num_protected):
    generator = seeded()
    for lengths in [(1, 2, 3, 4, 5, 9), (17, 6, 2, 40), (1, 1)] * 10:
        tokens, mask = batch_of(*lengths)
        unprotected = mask.sum(1, keepdim=True) - num_protected
        draws = draw_corruption(unprotected, tokens.shape[1], rate, weights, VOCABULARY, generator)

        corrupted = apply_corruption(tokens, unprotected, draws)

        slow = [
            slowly_applied(row, length, *drawn)
            for row, (length,), *drawn in zip(
                *(t.tolist() for t in (tokens, unprotected, *draws)), strict=True
            )
        ]
        assert corrupted.tolist() == slow


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        ([None, None, "swap", None, None], [0, 1, 3, 2, 4]),
        (["swap", "swap", "swap", None, None], [1, 0, 3, 2, 4]),
        ([None, None, None, None, "swap"], [0, 1, 2, 3, 4]),
        ([None, "replace", None, None, None], [0, 91, 2, 3, 4]),
        (["repeat", None, None, None, None], [0, 0, 2, 3, 4]),
        (["repeat", "repeat", None, None, None], [0, 0, 1, 3, 4]),
        ([None, None, None, None, "repeat"], [0, 1, 2, 3, 4]),
        ([None, "drop", None, None, None], [0, 2, 3, 4, 4]),
        ([None, None, None, "drop", "drop"], [0, 1, 2, 2, 2]),
        (["drop"] * 5, [0, 0, 0, 0, 0]),
        (["insert", None, None, None, None], [90, 0, 1, 2, 3]),
        ([None, "insert", None, "insert", None], [0, 91, 1, 2, 93]),
        (["insert", None, "drop", None, None], [90, 0, 1, 3, 4]),
        # Who wins where two want the same position: replace, then repeat, then swap.
        (["repeat", "replace", None, None, None], [0, 91, 2, 3, 4]),
        (["swap", "replace", None, None, None], [1, 91, 2, 3, 4]),
        (["repeat", "swap", None, None, None], [0, 0, 1, 3, 4]),
        # What moves is what the others made.
        (["swap", "drop", None, None, None], [1, 2, 3, 4, 4]),
    ],
)
def test_operations_do_what_their_description_says(operations, expected):
    assert applied([0, 1, 2, 3, 4], operations, new=[90, 91, 92, 93, 94]) == expected


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_end_token_and_the_padding_stay_as_they_are(name):
    tokens, mask = batch_of(1, 2, 5, 12, 12, width=15)
    poisoned = torch.where(mask, tokens, POISON)

    corrupted = corrupt(poisoned, mask, 1.0, {name: 1.0}, VOCABULARY, generator=seeded())

    ends = mask.sum(1, keepdim=True) - 1
    assert (corrupted.gather(1, ends) == END).all()
    assert (corrupted == END).sum() == len(tokens)
    assert (corrupted[~mask] == POISON).all()
    assert (corrupted[mask] != POISON).all()
    assert not torch.equal(corrupted, poisoned)


@pytest.mark.parametrize("name", ["swap", "replace", "repeat", "drop", "insert"])
def test_the_end_token_moves_or_goes_when_nothing_is_protected(name):
    tokens, mask = batch_of(6, 6, 6, 6, width=8)

    corrupted = corrupt(tokens, mask, 1.0, {name: 1.0}, VOCABULARY, 0, seeded())

    changed = corrupted[:, 5] != END
    if name == "drop":  # all are dropped, so the first word fills the row
        assert (corrupted[:, :6] == tokens[:, :1]).all()
    assert changed.all()
    assert (corrupted[:, 6:] == PAD).all()


def test_more_tokens_can_be_protected():
    tokens, mask = batch_of(9, 2)

    corrupted = corrupt(tokens, mask, 1.0, {"replace": 1.0}, VOCABULARY, 4, seeded())

    assert torch.equal(corrupted[0, 5:], tokens[0, 5:])
    assert (corrupted[0, :5] >= 1000).all()
    assert torch.equal(corrupted[1], tokens[1])


@pytest.mark.parametrize(
    ("rate", "words", "expected"),
    [(0.53, 100, 53), (0.3, 10, 3), (0.1, 9, 1), (0.19, 10, 1), (0.99, 10, 9), (1.0, 7, 7)],
)
def test_the_number_of_corrupted_positions_is_exact(rate, words, expected):
    tokens, mask = batch_of(*[words + 1] * 50)

    corrupted = corrupt(tokens, mask, rate, {"replace": 1.0}, VOCABULARY, generator=seeded())

    assert (corrupted != tokens).sum(1).tolist() == [expected] * 50


def test_every_position_is_as_likely_as_the_others():
    tokens, mask = batch_of(*[11] * 4000)

    corrupted = corrupt(tokens, mask, 0.3, {"replace": 1.0}, VOCABULARY, generator=seeded())

    share = (corrupted != tokens)[:, :10].float().mean(0)
    torch.testing.assert_close(share, torch.full((10,), 0.3), atol=0.03, rtol=0)


def test_operations_come_as_often_as_their_weights_say():
    weights = {"swap": 1, "replace": 3, "insert": 6, "drop": 0}

    draws = draw_corruption(torch.full((500, 1), 40), 40, 1.0, weights, VOCABULARY, seeded())

    share = torch.bincount(draws.operations.flatten(), minlength=5) / draws.operations.numel()
    assert share[[OPERATIONS.index("drop"), OPERATIONS.index("repeat")]].tolist() == [0, 0]
    expected = torch.tensor([0.1, 0.3, 0, 0, 0.6])
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)


def test_random_words_are_of_the_vocabulary_as_often_as_they_stand_there():
    tokens, mask = batch_of(*[41] * 500)
    vocabulary = torch.tensor([1000, 1001, 1001, 1001])

    corrupted = corrupt(tokens, mask, 1.0, {"replace": 1.0}, vocabulary, generator=seeded())

    words = corrupted[:, :40]
    assert set(words.unique().tolist()) == {1000, 1001}
    assert abs((words == 1001).float().mean() - 0.75) < 0.01


def test_the_same_seed_corrupts_alike_and_another_does_not():
    tokens, mask = batch_of(12, 30, 7)

    def run(seed):
        return corrupt(tokens, mask, 0.3, ALL, VOCABULARY, generator=seeded(seed))

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_without_a_generator_the_seed_of_pytorch_counts():
    tokens, mask = batch_of(12, 30, 7)

    def run(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return corrupt(tokens, mask, 0.3, ALL, VOCABULARY)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_padding_a_batch_further_changes_no_draw():
    tokens, mask = batch_of(12, 30, 7)
    wide, wide_mask = batch_of(12, 30, 7, width=90)

    narrow = corrupt(tokens, mask, 0.3, ALL, VOCABULARY, generator=seeded())
    padded = corrupt(wide, wide_mask, 0.3, ALL, VOCABULARY, generator=seeded())

    assert torch.equal(padded[:, :30], narrow)


def test_rate_zero_changes_nothing_and_draws_nothing():
    tokens, mask = batch_of(12, 30, 7)
    generator = seeded()
    before = generator.get_state()

    corrupted = corrupt(tokens, mask, 0.0, {}, VOCABULARY[:0], generator=generator)

    assert torch.equal(corrupted, tokens)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_row_with_one_word_keeps_one_word(name):
    tokens, mask = torch.tensor([[5, END]]), torch.tensor([[True, True]])

    corrupted = corrupt(tokens, mask, 0.1, {name: 1.0}, VOCABULARY, generator=seeded())

    is_random = name in ("replace", "insert")
    assert corrupted[0, 1] == END
    assert (corrupted[0, 0] >= 1000) if is_random else (corrupted[0, 0] == 5)


def test_a_row_with_nothing_but_the_end_token_stays():
    tokens, mask = torch.tensor([[END]]), torch.tensor([[True]])

    for name in OPERATIONS:
        corrupted = corrupt(tokens, mask, 1.0, {name: 1.0}, VOCABULARY, generator=seeded())
        assert corrupted.tolist() == [[END]]


def test_nothing_of_the_arguments_changes():
    tokens, mask = batch_of(12, 30, 7)
    tokens_before, mask_before = tokens.clone(), mask.clone()

    corrupt(tokens, mask, 1.0, ALL, VOCABULARY, generator=seeded())

    assert torch.equal(tokens, tokens_before)
    assert torch.equal(mask, mask_before)


def test_random_words_need_no_vocabulary_when_no_operation_uses_one():
    tokens, mask = batch_of(5)

    corrupted = corrupt(tokens, mask, 1.0, {"drop": 1.0}, VOCABULARY[:0], generator=seeded())

    assert corrupted[0].tolist() == [10, 10, 10, 10, END]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 1.5}, "`rate` must be between 0 and 1, got 1.5"),
        ({"rate": float("nan")}, "`rate` must be between 0 and 1, got nan"),
        ({"num_protected": -1}, "`num_protected` must be at least 0, got -1"),
        ({"weights": {"shuffle": 1.0}}, "`weights` must name operations, got `shuffle`"),
        ({"weights": {"swap": -1.0, "drop": 2.0}}, "`weights` must be numbers of at least 0"),
        ({"weights": {"swap": float("nan")}}, "`weights` must be numbers of at least 0"),
        ({"weights": {"swap": "often"}}, "`weights` must be numbers of at least 0"),
        ({"weights": {"swap": 0.0}}, "not all 0"),
        ({"weights": {}}, "not all 0"),
        ({"vocabulary": VOCABULARY[:0]}, "`vocabulary` must hold a word"),
    ],
)
def test_wrong_arguments_are_named(changes, message):
    tokens, mask = batch_of(5)
    arguments = {"rate": 0.5, "weights": ALL, "vocabulary": VOCABULARY, **changes}

    with pytest.raises(ValueError, match=message):
        corrupt(tokens, mask, **arguments)


def test_a_batch_takes_milliseconds():
    tokens, mask = batch_of(*[64] * 64)
    vocabulary = torch.arange(8000)
    corrupt(tokens, mask, 0.3, ALL, vocabulary)

    times = []
    for _ in range(10):
        start = time.perf_counter()
        corrupt(tokens, mask, 0.3, ALL, vocabulary)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_rate_may_be_a_tensor(rate):
    tokens, mask = batch_of(9, 4, 12)

    by_number = corrupt(tokens, mask, rate, ALL, VOCABULARY, generator=seeded())
    by_tensor = corrupt(tokens, mask, torch.tensor(rate), ALL, VOCABULARY, generator=seeded())

    assert by_tensor.equal(by_number)
