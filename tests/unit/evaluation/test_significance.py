import os
import random

import numpy as np
import pytest
import sacrebleu
from conftest import tiny_sentences

from hf_nar.evaluation.significance import compare_systems

REFERENCES = tiny_sentences()[400:440]


def worse(texts, changes, seed=0):
    """Return texts with the words of some of them shuffled."""
    generator = random.Random(seed)
    changed = list(texts)
    for i in generator.sample(range(len(texts)), changes):
        words = texts[i].split()
        generator.shuffle(words)
        changed[i] = " ".join(words)
    return changed


GOOD, BAD = worse(REFERENCES, 5), worse(REFERENCES, 30, seed=1)


def compare(metric="bleu", first=GOOD, second=BAD, samples=100, **options):
    return compare_systems(metric, first, second, REFERENCES, samples, **options)


def test_scores_are_those_of_the_whole_test_set():
    found = compare("chrf")

    right = [sacrebleu.corpus_chrf(texts, [REFERENCES]).score for texts in (GOOD, BAD)]
    assert [found.score, found.other_score] == pytest.approx(right, abs=1e-4)
    assert found.difference == pytest.approx(right[0] - right[1], abs=1e-4)


def test_figures_are_those_of_scoring_every_resampled_test_set():
    """The same by `corpus_score` of real texts, where the library sums statistics."""
    found = compare(samples=60, seed=7)

    rows = np.random.default_rng(7).choice(len(REFERENCES), size=(60, len(REFERENCES)))
    scores = [
        [
            sacrebleu.corpus_bleu([texts[i] for i in row], [[REFERENCES[i] for i in row]]).score
            for row in rows
        ]
        for texts in (GOOD, BAD)
    ]
    differences = np.abs(np.subtract(*scores))
    extreme = (differences - differences.mean() > abs(found.difference)).sum()
    assert found.p_value == pytest.approx((extreme + 1) / 61, abs=1e-6)
    for interval, values in zip((found.interval, found.other_interval), scores, strict=True):
        ranked = np.sort(values)
        half = (ranked[-2] - ranked[1]) / 2  # 60 // 40 are cut off at each end
        right = (np.mean(values) - half, np.mean(values) + half)
        assert interval == pytest.approx(right, abs=1e-3)


def test_a_clearly_better_system_is_found():
    found = compare()

    assert found.difference > 20
    assert found.p_value < 0.05
    assert found.interval[0] < found.score < found.interval[1]
    assert found.interval[0] > found.other_interval[1]


def test_two_systems_that_are_equally_good_are_not_told_apart():
    found = compare(first=worse(REFERENCES, 15, seed=2), second=worse(REFERENCES, 15, seed=3))

    assert found.difference != 0
    assert found.p_value > 0.05


@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter", "bleu-tokenised"])
def test_a_system_is_no_better_than_itself(metric):
    found = compare(metric, GOOD, GOOD)

    assert (found.difference, found.p_value, found.metric) == (0, 1, metric)
    assert found.interval == found.other_interval


def test_the_order_of_the_systems_gives_the_sign():
    forth, back = compare(), compare(first=BAD, second=GOOD)

    assert back.difference == -forth.difference
    assert back.p_value == forth.p_value
    assert back.interval == forth.other_interval


def test_the_seed_decides_the_resampling():
    assert compare(seed=3) == compare(seed=3)
    assert compare(seed=3).interval != compare(seed=4).interval
    assert "seed:3|" in compare(seed=3).signature
    assert "bs:100|" in compare().signature


@pytest.mark.parametrize("before", [None, "99"])
def test_the_environment_is_left_as_it_was(monkeypatch, before):
    if before is None:
        monkeypatch.delenv("SACREBLEU_SEED", raising=False)
    else:
        monkeypatch.setenv("SACREBLEU_SEED", before)

    compare()

    assert os.environ.get("SACREBLEU_SEED") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 39}, "at least 40 bootstrap samples .* got 39"),
        ({"seed": 0}, "seed must be at least 1.* got 0"),
        ({"first": GOOD[1:]}, "got 39 translations and 40 references"),
        ({"second": [*BAD, "one more"]}, "got 41 translations and 40 references"),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        compare(**options)
