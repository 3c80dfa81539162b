import copy

import pytest
import torch
from tiny_networks import PAD, batch_of, new_model
from tiny_refinement import make_lively, new_refinement_model
from tiny_teachers import lively_judge

from hf_nar.remote_code.candidate_search import best_rows, teacher_scores
from hf_nar.remote_code.refinement_state import RefinementState, own_scores, real_positions


@pytest.fixture(params=["refinement_nar", "lanmt"])
def model(request):
    model = new_refinement_model() if request.param == "refinement_nar" else new_model()
    make_lively(model)
    return model


@pytest.fixture(scope="module")
def teacher():
    return lively_judge()


def generate(model, source, **knobs):
    fixed = {"num_refinement_iterations": 3, "return_dict_in_generate": True, "max_length": 30}
    return model.generate(source, **{**fixed, **knobs})


def test_a_beam_keeps_the_length_with_the_best_mean_score(model):
    source = batch_of(9, 12, 5)
    with torch.no_grad():
        lengths = model.likely_lengths(model.encode(source), 4)

    output = generate(model, source, length_beam=4)

    alone = [generate(model, source, target_lengths=column) for column in lengths.T]
    means = torch.stack([each.scores.sum(-1) / (each.lengths - 1) for each in alone])
    means = means.nan_to_num(-torch.inf)  # no words
    for row, best in enumerate(means.argmax(0).tolist()):
        size = int(output.lengths[row])
        assert size == alone[best].lengths[row]
        assert output.sequences[row, :size].tolist() == alone[best].sequences[row, :size].tolist()
        assert output.iterations[row] == alone[best].iterations[row]
        draft = alone[best].history[0][row]
        assert output.history[0][row][: len(draft)].tolist()[: lengths[row, best]] == (
            draft[: lengths[row, best]].tolist()
        )
    assert output.sequences.shape[1] == output.lengths.max()
    assert len(set(means.argmax(0).tolist())) > 1  # a beam has something to choose from


def test_a_beam_of_one_is_the_most_likely_length(model):
    source = batch_of(9, 12, 5)

    first, second = generate(model, source, length_beam=1), generate(model, source)

    assert first.sequences.tolist() == second.sequences.tolist()


def test_a_beam_of_one_sentence_does_not_depend_on_the_others(model):
    source = batch_of(9, 12, 5)

    together = generate(model, source, length_beam=5)

    for row, length in enumerate((9, 12, 5)):
        alone = generate(model, source[row : row + 1, :length], length_beam=5)
        size = int(alone.lengths[0])
        assert together.sequences[row, :size].tolist() == alone.sequences[0].tolist()
        assert together.iterations[row] == alone.iterations[0]


def test_likely_lengths_are_limited_as_every_length_is(model):
    source = batch_of(9, 3)
    source[1, :] = PAD
    with torch.no_grad():
        lengths = model.likely_lengths(model.encode(source, extra_length=-30), 3)

    assert lengths.tolist() == [[1, 1, 1], [1, 1, 1]]
    assert generate(model, source, length_beam=3).lengths[1] == 1


def test_a_teacher_ranks_by_its_own_mean_log_probability(model, teacher):
    source = batch_of(9, 12, 5)
    with torch.no_grad():
        lengths = model.likely_lengths(model.encode(source), 4)

    output = generate(model, source, length_beam=4, rank_by="teacher", teacher=teacher)

    for row, source_length in enumerate((9, 12, 5)):
        one, candidates = source[row : row + 1, :source_length], []
        for length in lengths[row].tolist():
            tokens = generate(model, one, target_lengths=torch.tensor([length])).sequences[0]
            loss = teacher(one, labels=tokens[None]).loss  # a mean over tokens
            candidates.append((-loss.item(), tokens.tolist()))
        size = int(output.lengths[row])
        assert output.sequences[row, :size].tolist() == max(candidates)[1]
    own = generate(model, source, length_beam=4)
    assert own.history[-1].tolist() != output.history[-1].tolist()  # another length was best


def test_padding_changes_no_score_of_a_teacher(teacher):
    tokens, source = batch_of(7, 4), batch_of(6, 3)
    mask = real_positions(torch.tensor([7, 4]))
    state = RefinementState(tokens, tokens.float(), mask, torch.zeros(2, dtype=torch.bool))

    together = teacher_scores(teacher, state, source, (source != PAD).long())

    alone = RefinementState(tokens[1:, :4], tokens[1:, :4].float(), mask[1:, :4], mask[:1, 0])
    narrow = source[1:, :3]
    expected = teacher_scores(teacher, alone, narrow, torch.ones_like(narrow))
    torch.testing.assert_close(together[1:], expected)


def test_the_end_token_counts_for_nothing_and_a_row_without_words_loses():
    mask = torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
    scores = torch.tensor([[-0.6, -0.2, 0.0], [-0.5, 0.0, 0.0], [0.0, 0.0, 0.0]])
    state = RefinementState(mask.long(), scores, mask, torch.zeros(3, dtype=torch.bool))

    torch.testing.assert_close(own_scores(state), torch.tensor([-0.4, -0.5, -torch.inf]))


def test_a_length_penalty_divides_the_sum_by_a_power_of_the_number_of_words():
    mask = torch.tensor([[True, True, True, True, True], [True, True, True, False, False]])
    scores = torch.tensor([[-0.4, -0.4, -0.4, -0.4, 0.0], [-0.3, -0.3, 0.0, 0.0, 0.0]])
    state = RefinementState(mask.long(), scores, mask, torch.zeros(2, dtype=torch.bool))

    torch.testing.assert_close(own_scores(state, 2.0), torch.tensor([-1.6 / 16, -0.6 / 4]))
    torch.testing.assert_close(own_scores(state, 0.0), torch.tensor([-1.6, -0.6]))


@pytest.mark.parametrize("rank_by", ["own", "teacher"])
def test_a_higher_length_penalty_keeps_longer_translations(model, teacher, rank_by):
    source = batch_of(9, 12, 5)
    judge = {"rescoring_model": teacher} if rank_by == "teacher" else {}
    with torch.no_grad():
        lengths = model.likely_lengths(model.encode(source), 4)

    def kept(penalty):
        knobs = {"length_beam": 4, "collapse_repeats": False, "ranking_length_penalty": penalty}
        return generate(model, source, rank_by=rank_by, **judge, **knobs).lengths

    assert kept(30.0).tolist() == lengths.max(-1).values.tolist()
    assert kept(1.0).tolist() != kept(30.0).tolist()


def test_a_teacher_divides_by_the_same_power(teacher):
    tokens, source = batch_of(7, 4), batch_of(6, 3)
    mask = real_positions(torch.tensor([7, 4]))
    state = RefinementState(tokens, tokens.float(), mask, torch.zeros(2, dtype=torch.bool))
    real = (source != PAD).long()

    means, found = (teacher_scores(teacher, state, source, real, alpha) for alpha in (1.0, 2.5))

    torch.testing.assert_close(found, means * torch.tensor([7, 4]) ** -1.5)


def test_of_equal_candidates_the_first_wins():
    assert best_rows(torch.tensor([1.0, 1.0, 0.0, 2.0]), 2).tolist() == [0, 3]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"length_beam": 0}, "`length_beam` must be an integer and at least 1"),
        (
            {"ranking_length_penalty": -0.5},
            "`ranking_length_penalty` must be finite and not negative",
        ),
        (
            {"ranking_length_penalty": "long"},
            "`ranking_length_penalty` must be a number, got 'long'",
        ),
        ({"length_beam": 2.0}, "`length_beam` must be an integer and at least 1"),
        ({"length_beam": 12}, "`length_beam` must be at most 11, the lengths that"),
        ({"length_beam": 2, "target_lengths": torch.tensor([4])}, "nothing to choose from"),
        ({"rank_by": "length"}, "`rank_by` must be one of own, teacher"),
        ({"length_beam": 2, "rank_by": "teacher"}, "needs the model itself as `rescoring_model=`"),
    ],
)
def test_what_cannot_be_searched_is_refused(model, knobs, message):
    with pytest.raises(ValueError, match=message):
        generate(model, batch_of(6), **knobs)


@pytest.mark.parametrize("field", ["vocab_size", "pad_token_id", "eos_token_id"])
def test_a_teacher_of_another_vocabulary_is_refused(model, teacher, field):
    other = copy.deepcopy(teacher)
    setattr(other.config, field, 59)

    with pytest.raises(ValueError, match=f"own vocabulary, but its `{field}` is 59 and not"):
        generate(model, batch_of(6), length_beam=2, rank_by="teacher", teacher=other)


def test_what_is_no_teacher_or_still_learns_is_refused(model, teacher):
    for other in (model, copy.deepcopy(teacher).train(), torch.nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="must be an autoregressive sequence-to-sequence"):
            generate(model, batch_of(6), length_beam=2, rank_by="teacher", teacher=other)
