import pytest

from hf_nar.data.digits import digits_corpus

TARGETS = {
    "copy": lambda digits: digits,
    "reverse": lambda digits: digits[::-1],
    "sort": sorted,
}


@pytest.mark.parametrize("task", TARGETS)
def test_the_target_is_what_the_task_says(task):
    pairs = digits_corpus(200, seed=1, task=task)

    for row in pairs:
        assert row["target"].split(" ") == list(TARGETS[task](row["source"].split(" ")))


def test_sources_use_every_length_and_every_digit():
    sources = [row["source"].split(" ") for row in digits_corpus(500, seed=1)]

    assert {len(source) for source in sources} == set(range(3, 13))
    assert {digit for source in sources for digit in source} == set("0123456789")


def test_a_seed_fixes_the_sources_of_all_tasks():
    corpora = [digits_corpus(50, seed=3, task=task) for task in TARGETS]

    assert len({tuple(corpus["source"]) for corpus in corpora}) == 1
    assert len(corpora[0]) == 50


def test_seeds_differ():
    assert list(digits_corpus(50, seed=1)["source"]) != list(digits_corpus(50, seed=2)["source"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "shuffle"}, "`task` must be one of copy, reverse, sort"),
        ({"num_pairs": 0}, "`num_pairs` must be at least 1, got 0"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
    ],
)
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        digits_corpus(**{"num_pairs": 5, "seed": 1, **arguments})
