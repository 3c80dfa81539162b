import random
from itertools import chain, groupby

import pytest
import torch

from hf_nar.remote_code import refinement_state
from hf_nar.remote_code.refinement_state import (
    RefinementState,
    collapse_repeats,
    keep_finished,
    most_likely_tokens,
    real_positions,
    same_draft,
)

PAD, POISON = 0, -99.0


def state_of(rows: list[list[int]], finished: list[bool] | None = None) -> RefinementState:
    """Drafts whose padding is poisoned: a rule that reads it gives itself away."""
    lengths = torch.tensor([len(row) for row in rows])
    mask = real_positions(lengths)
    tokens = torch.full(mask.shape, 77).masked_scatter(mask, torch.tensor(list(chain(*rows))))
    scores = torch.where(mask, -tokens.float(), POISON)
    is_finished = torch.tensor(finished or [False] * len(rows))
    return RefinementState(tokens, scores, mask, is_finished, latent=lengths.float()[:, None, None])


def test_real_positions_are_as_wide_as_asked_for_or_as_the_longest():
    lengths = torch.tensor([2, 1])

    assert real_positions(lengths).tolist() == [[True, True], [True, False]]
    assert real_positions(lengths, 3).tolist() == [[True, True, False], [True, False, False]]


def test_collapse_repeats_agrees_with_groupby_on_200_random_batches():
    chance = random.Random(0)
    for _ in range(200):
        rows = [[chance.choice([5, 6]) for _ in range(chance.randint(1, 8))] for _ in range(3)]
        state = state_of(rows)

        tokens, scores, mask = collapse_repeats(state.tokens, state.scores, state.target_mask, PAD)

        expected = [[token for token, _ in groupby(row)] for row in rows]
        kept = [[int(i) for i in row[m]] for row, m in zip(tokens, mask, strict=True)]
        assert kept == expected
        assert tokens.shape[1] == max(map(len, expected))
        assert (tokens[~mask] == PAD).all()
        assert torch.equal(scores, torch.where(mask, -tokens.float(), 0.0))


def test_most_likely_tokens_have_the_log_probability_of_the_whole_distribution():
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.tensor([[True, True, True], [True, False, False]])

    tokens, scores = most_likely_tokens(logits, mask, PAD)

    best, expected = logits.float().log_softmax(-1).max(-1)
    assert torch.equal(tokens, torch.where(mask, expected, PAD))
    torch.testing.assert_close(scores, torch.where(mask, best, 0.0))


@pytest.mark.parametrize("at_once", [1, 6, 13, 1000])  # logits, of 6 for each token
def test_most_likely_tokens_do_not_depend_on_how_many_are_looked_at_together(at_once, monkeypatch):
    logits = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 4, [True] * 2 + [False] * 2, [True] * 3 + [False]])
    whole = most_likely_tokens(logits, mask, PAD)
    monkeypatch.setattr(refinement_state, "CACHED_LOGITS", at_once)

    tokens, scores = most_likely_tokens(logits, mask, PAD)

    assert torch.equal(tokens, whole[0])
    torch.testing.assert_close(scores, whole[1])


def test_drafts_are_the_same_however_they_are_padded():
    narrow, wide = state_of([[5, 6], [5, 6], [7, 8]]), state_of([[5, 6], [5, 7], [7, 8, 9]])

    assert same_draft(narrow, wide).tolist() == [True, False, False]
    assert same_draft(wide, narrow).tolist() == [True, False, False]


def test_finished_rows_are_frozen_and_others_move_on():
    old = state_of([[5, 6, 7], [5]], finished=[True, False])
    new = state_of([[9], [8, 8]], finished=[False, True])

    merged = keep_finished(old, new, PAD)

    assert merged.tokens[0, :3].tolist() == [5, 6, 7]
    assert merged.tokens[1, :2].tolist() == [8, 8]
    assert merged.lengths.tolist() == [3, 2]
    assert merged.is_finished.tolist() == [True, True]
    assert merged.latent.flatten().tolist() == [3.0, 2.0]
    assert merged.scores[0, :3].tolist() == [-5.0, -6.0, -7.0]
    assert merged.tokens[1, 2] == PAD


def test_the_batch_is_no_wider_than_its_longest_draft():
    old = state_of([[5], [5, 6, 7, 8]], finished=[True, False])
    new = state_of([[9], [8, 8]])

    merged = keep_finished(old, new, PAD)

    assert merged.tokens.tolist() == [[5, PAD], [8, 8]]
