from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hf_nar.remote_code.refinement_iterative import IterativeRefinement
from hf_nar.remote_code.refinement_state import (
    DecodedDraft,
    RefinementState,
    jaccard_distance,
    real_positions,
)

PAD = 0


def network(*drafts, lengths=(4,)):
    """Answer with the given drafts `[batch, target_len]`, one in each pass; keep what was asked."""
    asked = []

    def decoded(state):
        asked.append(state)
        tokens = torch.tensor(drafts[len(asked) - 1])
        logits = torch.nn.functional.one_hot(tokens, 10).float() * 20
        return DecodedDraft(logits, states=torch.full((*tokens.shape, 2), float(len(asked))))

    return SimpleNamespace(
        pad_token_id=PAD,
        asked=asked,
        predict_length=lambda source: torch.tensor(lengths),
        decode_first=lambda lengths, source: decoded(None),
        decode_again=lambda state, source: decoded(state),
    )


def run(strategy, net):
    states = [strategy.draft(net, None)]
    for _ in range(strategy.iterations):
        states.append(strategy.refine(net, None, states[-1]))
    return states


def test_each_pass_reads_draft_and_states_of_the_pass_before():
    net = network([[5, 5, 6, 2]], [[5, 6, 6, 2]], [[5, 6, 7, 2]])

    states = run(IterativeRefinement(iterations=2), net)

    assert [state.tokens.tolist() for state in states] == [
        [[5, 5, 6, 2]],
        [[5, 6, 6, 2]],
        [[5, 6, 7, 2]],
    ]
    assert net.asked[1] is states[0]
    assert net.asked[2].states.unique().tolist() == [2.0]
    assert [state.iteration for state in states] == [0, 1, 2]


def test_a_row_is_finished_when_its_draft_repeats_and_only_then():
    net = network([[5, 6, 2], [7, 8, 2]], [[6, 5, 2], [7, 8, 2]], lengths=(3, 3))

    states = run(IterativeRefinement(iterations=1), net)

    assert states[0].is_finished.tolist() == [False, False]
    assert states[1].is_finished.tolist() == [False, True]


def test_a_threshold_finishes_rows_whose_draft_is_near_enough():
    drafts = [[5, 6, 7, 8, 2]], [[5, 6, 7, 9, 2]]  # 4 of 6 tokens in common: distance 1/3

    finished = [
        run(IterativeRefinement(iterations=1, jaccard_threshold=t), network(*drafts, lengths=(5,)))[
            -1
        ].is_finished.item()
        for t in (0.0, 0.33, 0.34, 1.0)
    ]

    assert finished == [False, False, True, True]


def test_patience_waits_for_as_many_repeats_without_a_break():
    drafts = [5, 6, 2], [5, 6, 2], [7, 6, 2], [7, 6, 2], [7, 6, 2], [7, 6, 2]

    def finished(patience):
        net = network(*([draft] for draft in drafts), lengths=(3,))
        states = run(IterativeRefinement(iterations=5, patience=patience), net)
        return [state.is_finished.item() for state in states]

    assert finished(1) == [False, True, False, True, True, True]
    assert finished(2) == [False, False, False, False, True, True]
    assert finished(3) == [False, False, False, False, False, True]


def test_without_early_stop_no_row_is_ever_finished():
    net = network([[5, 6, 2]], [[5, 6, 2]], lengths=(3,))

    states = run(IterativeRefinement(iterations=1, stop_early=False, jaccard_threshold=0.9), net)

    assert not states[1].is_finished.any()


def test_lengths_are_limited():
    net = network([[5, 2]], lengths=(9,))
    asked = []
    net.decode_first = lambda lengths, source: (
        asked.append(lengths.tolist())
        or DecodedDraft(torch.zeros(1, 2, 10), states=torch.zeros(1, 2, 2))
    )

    state = IterativeRefinement(iterations=0, max_length=2).draft(net, None)

    assert asked == [[2]]
    assert state.lengths.tolist() == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "Use 0 to decode once"),
        ({"iterations": True}, "`num_refinement_iterations` must be an integer"),
        ({"max_length": 0}, "`max_length` must be at least 1"),
        ({"stop_early": "no"}, "`stop_early` must be true or false"),
        ({"jaccard_threshold": 1.5}, r"`jaccard_threshold` must be in \[0, 1\]"),
        ({"jaccard_threshold": "near"}, "`jaccard_threshold` must be a number"),
        ({"jaccard_threshold": True}, "`jaccard_threshold` must be a number"),
        ({"patience": 0}, "`patience` must be an integer and at least 1, got 0"),
        ({"patience": 1.5}, "`patience` must be an integer and at least 1"),
    ],
)
def test_a_wrong_field_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        IterativeRefinement(**options)


def slow_distance(first, second):
    rest, common = list(second), 0
    for token in first:
        if token in rest:
            rest.remove(token)
            common += 1
    return 1 - common / (len(first) + len(second) - common)


def test_the_jaccard_distance_counts_tokens_as_often_as_they_occur():
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 9, (2, 50), generator=generator)
    states = []
    for row_lengths in lengths:
        mask = real_positions(row_lengths)
        tokens = torch.randint(0, 5, mask.shape, generator=generator)  # poison: 0 is a word, too
        finished = torch.zeros(50, dtype=torch.bool)
        states.append(RefinementState(tokens, tokens.float(), mask, finished))

    distances = jaccard_distance(*states)

    rows = [
        [tokens[mask].tolist() for tokens, mask in zip(s.tokens, s.target_mask, strict=True)]
        for s in states
    ]
    expected = [slow_distance(*pair) for pair in zip(*rows, strict=True)]
    torch.testing.assert_close(distances, torch.tensor(expected))
    assert 0.0 in expected


def test_padding_of_another_width_changes_no_distance():
    mask = torch.tensor([[True, True, False]])
    state = RefinementState(
        torch.tensor([[5, 6, 9]]), torch.zeros(1, 3), mask, torch.tensor([False])
    )
    narrow = replace(
        state, tokens=state.tokens[:, :2], scores=state.scores[:, :2], target_mask=mask[:, :2]
    )

    assert jaccard_distance(state, narrow).tolist() == [0.0]
