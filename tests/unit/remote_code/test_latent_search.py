"""Candidates that start at latents around the prior mean."""

import dataclasses

import pytest
import torch
from tiny_networks import EOS, batch_of, refiner_model, rows_of
from tiny_refinement import new_refinement_model
from tiny_teachers import lively_judge

from hf_nar.remote_code.candidate_search import teacher_scores
from hf_nar.remote_code.generation_nar import refine_until_finished
from hf_nar.remote_code.refinement_state import RefinementState, collapse_repeats, own_scores

SIZES = (9, 12, 3)
PARTS = ("tokens", "scores", "target_mask")
STRATEGIES = ["delta_posterior", "score", "energy", "none"]


@pytest.fixture(params=["source", "target"])
def model(request):
    return refiner_model(request.param)


@pytest.fixture(params=STRATEGIES)
def knobs(request):
    return {"refinement": request.param, "num_refinement_iterations": 2}


@pytest.fixture(scope="module")
def teacher():
    return lively_judge()


def seeds(*numbers):
    return [torch.Generator().manual_seed(number) for number in numbers]


def one(row):
    return batch_of(*SIZES)[row : row + 1, : SIZES[row]]


def generate(model, source, **knobs):
    return model.generate(source, return_dict_in_generate=True, **knobs)


def candidates(model, row, seed, num_latents, temperature, lengths, knobs):
    """Make each candidate of one sentence by itself; return their states, repeats dropped."""
    generator = torch.Generator().manual_seed(seed)
    strategy = model.build_strategy(model.resolve_knobs(knobs))
    states = []
    for length in lengths:
        known = None if length is None else torch.tensor([length])
        source = model.encode(one(row), target_lengths=known)
        prior = model.infer_prior(source)
        noise = torch.randn(num_latents, *prior.mean.shape[1:], generator=generator)
        noise[0] = 0
        for each in noise:
            start = strategy.start(model, source, prior.mean + temperature * prior.std * each)
            state = refine_until_finished(strategy, model, source, start).state
            parts = collapse_repeats(state.tokens, state.scores, state.target_mask, 0)
            states.append(dataclasses.replace(state, **dict(zip(PARTS, parts, strict=True))))
    return states


def test_one_latent_is_no_search(model, knobs):
    ids = batch_of(*SIZES)

    plain = generate(model, ids, **knobs)
    searched = generate(model, ids, num_latents=1, latent_temperature=9.0, **knobs)

    assert searched.sequences.tolist() == plain.sequences.tolist()
    assert torch.equal(searched.scores, plain.scores)


def test_without_temperature_all_candidates_are_the_mean(model, knobs):
    ids = batch_of(*SIZES)

    plain = generate(model, ids, **knobs)
    searched = generate(model, ids, num_latents=3, latent_temperature=0, **knobs)

    for row in range(len(SIZES)):
        assert rows_of(searched, row) == rows_of(plain, row)


@pytest.mark.parametrize("seed", range(4))
def test_the_mean_is_always_among_them_so_search_is_never_worse(model, knobs, seed):
    ids = batch_of(*SIZES, seed=seed)
    generator = torch.Generator().manual_seed(seed)

    plain = generate(model, ids, **knobs)
    found = generate(
        model, ids, num_latents=5, latent_temperature=2.0, generator=generator, **knobs
    )

    def means(output):
        words = (output.lengths - 1).clamp(min=1)
        return (output.scores.sum(-1) / words).masked_fill(output.lengths == 1, -torch.inf)

    assert (means(found) >= means(plain) - 1e-4).all()


def test_search_finds_something_else(model):
    ids = batch_of(9, 12, 3, 7, 5, 10)
    found = [
        generate(model, ids, refinement="none", generator=torch.Generator().manual_seed(1), **each)
        for each in (
            {},
            {"num_latents": 4, "latent_temperature": 2.0},
            {"num_latents": 8, "latent_temperature": 2.0},
        )
    ]

    assert len({str([rows_of(each, row) for row in range(6)]) for each in found}) > 1


def test_the_same_seed_gives_the_same_and_another_one_does_not(model):
    ids = batch_of(*SIZES)

    def found(seed):
        return generate(
            model,
            ids,
            refinement="none",
            num_latents=4,
            latent_temperature=2.0,
            generator=torch.Generator().manual_seed(seed),
        )

    first, second, other = found(1), found(1), found(2)

    assert first.sequences.tolist() == second.sequences.tolist()
    assert torch.equal(first.scores, second.scores)
    assert first.sequences.tolist() != other.sequences.tolist()


def test_without_a_generator_the_global_seed_holds(model):
    found = []
    for _ in range(2):
        torch.manual_seed(8)
        found.append(model.generate(batch_of(*SIZES), num_latents=4, latent_temperature=2.0))

    assert found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("length_beam", [1, 3])
def test_with_a_generator_for_each_sentence_its_batch_does_not_matter(model, knobs, length_beam):
    search = {"num_latents": 4, "latent_temperature": 2.0, "length_beam": length_beam, **knobs}

    together = generate(model, batch_of(*SIZES), generator=seeds(5, 6, 7), **search)

    for row, seed in enumerate((5, 6, 7)):
        alone = generate(model, one(row), generator=seeds(seed), **search)
        assert rows_of(together, row) == rows_of(alone, 0)
        assert together.iterations[row] == alone.iterations[0]
        size = int(alone.lengths[0])
        torch.testing.assert_close(
            together.scores[row, :size], alone.scores[0], rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("length_beam", [1, 3])
@torch.no_grad()
def test_each_candidate_is_what_it_is_alone_and_the_likeliest_is_kept(model, knobs, length_beam):
    search = {"num_latents": 3, "latent_temperature": 2.0, "length_beam": length_beam}
    found = generate(model, batch_of(*SIZES), generator=seeds(5, 6, 7), **search, **knobs)

    for row, seed in enumerate((5, 6, 7)):
        lengths = [None]
        if length_beam > 1:
            lengths = model.likely_lengths(model.encode(one(row)), length_beam)[0].tolist()
        states = candidates(model, row, seed, 3, 2.0, lengths, knobs)
        best = max(states, key=lambda state: float(own_scores(state)))
        assert rows_of(found, row) == best.tokens[0].tolist()


@pytest.mark.parametrize("length_beam", [1, 2])
@torch.no_grad()
def test_a_teachers_ranking_is_that_of_candidates_scored_one_at_a_time(
    model,
    knobs,
    length_beam,
    teacher,
):
    search = {"num_latents": 3, "latent_temperature": 2.0, "length_beam": length_beam}
    found = generate(
        model,
        batch_of(*SIZES),
        generator=seeds(5, 6, 7),
        rescoring_model=teacher,
        **search,
        **knobs,
    )

    for row, seed in enumerate((5, 6, 7)):
        lengths = [None]
        if length_beam > 1:
            lengths = model.likely_lengths(model.encode(one(row)), length_beam)[0].tolist()
        states = candidates(model, row, seed, 3, 2.0, lengths, knobs)
        losses = [teacher(one(row), labels=state.tokens).loss for state in states]
        best = states[torch.stack(losses).argmin()]
        assert rows_of(found, row) == best.tokens[0].tolist()


def test_a_teacher_sees_each_translation_of_a_sentence_once(model, teacher):
    seen = []
    hook = teacher.register_forward_pre_hook(
        lambda _, __, inputs: seen.append(inputs["decoder_input_ids"].tolist()), with_kwargs=True
    )
    ids = torch.cat([batch_of(*SIZES)] * 2)  # equal translations of two sentences are two

    search = {"num_latents": 5, "latent_temperature": 0.0, "refinement": "none"}
    model.generate(ids, rescoring_model=teacher, **search)
    model.generate(ids, rescoring_model=teacher, length_beam=2, **search)
    hook.remove()

    assert len(seen[0]) == len(ids)
    assert len(ids) < len(seen[1]) <= 2 * len(ids)


def test_scores_of_equal_candidates_are_equal_and_none_is_mixed_up(teacher):
    tokens = torch.stack([batch_of(6, seed=seed)[0] for seed in (1, 2, 1, 1, 3, 2)])
    mask = torch.ones_like(tokens, dtype=torch.bool)
    state = RefinementState(tokens, tokens.float(), mask, mask[:, 0])
    sources = batch_of(7, 5)

    scores = teacher_scores(teacher, state, sources, (sources != 0).long())

    for row in range(6):
        source = sources[row // 3 : row // 3 + 1, : (7, 5)[row // 3]]
        loss = teacher(source, labels=tokens[row : row + 1]).loss
        torch.testing.assert_close(scores[row], -loss.detach())
    assert scores[0] == scores[2] != scores[3]


def test_a_teacher_that_is_given_ranks_unless_the_call_says_otherwise(model, teacher):
    search = {"num_latents": 6, "latent_temperature": 3.0, "refinement": "none"}

    def found(**knobs):
        generator = torch.Generator().manual_seed(3)
        return model.generate(batch_of(*SIZES), generator=generator, **search, **knobs).tolist()

    by_teacher = found(rescoring_model=teacher)
    assert by_teacher == found(teacher=teacher) == found(teacher=teacher, rank_by="teacher")
    assert by_teacher != found() == found(rescoring_model=teacher, rank_by="own")
    with pytest.raises(ValueError, match="`teacher` is another name of `rescoring_model`"):
        found(teacher=teacher, rescoring_model=teacher)


def test_empty_sources_have_empty_translations(model, knobs):
    ids = batch_of(*SIZES)
    ids[1] = 0

    found = generate(model, ids, num_latents=3, generator=seeds(5, 6, 7), **knobs)

    assert found.sequences[1, :2].tolist() == [EOS, 0]
    alone = generate(model, one(0), num_latents=3, generator=seeds(5), **knobs)
    assert rows_of(found, 0) == rows_of(alone, 0)


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_latents": 0}, "`num_latents` must be an integer and at least 1, got 0. Use 1 for"),
        ({"num_latents": 2.0}, "`num_latents` must be an integer and at least 1"),
        ({"num_latents": True}, "`num_latents` must be an integer and at least 1"),
        ({"latent_temperature": -1.0}, "`latent_temperature` must be finite and not negative"),
        ({"latent_temperature": float("nan")}, "`latent_temperature` must be finite"),
        ({"latent_temperature": float("inf")}, "`latent_temperature` must be finite"),
        ({"latent_temperature": "hot"}, "`latent_temperature` must be a number, got 'hot'"),
        ({"latent_temperature": True}, "`latent_temperature` must be a number, got True"),
        ({"output_history": 1}, "`output_history` must be True or False, got 1"),
        ({"num_latents": 2, "rank_by": "teacher"}, "needs the model itself as `rescoring_model=`"),
        (
            {"num_latents": 2, "generator": []},
            "`generator` must be one `torch.Generator`, or one for",
        ),
        ({"num_latents": 2, "generator": seeds(1, 2)}, "for each of the 3 sentences"),
        (
            {"num_latents": 2, "generator": [1, 2, 3]},
            "`generator` must be one `torch.Generator`, or one for",
        ),
        (
            {"num_latents": 2, "generator": 42},
            "`generator` must be one `torch.Generator`, or one for",
        ),
        (
            {"num_latents": 2, "generator": "abc"},
            "`generator` must be one `torch.Generator`, or one for",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(knobs, message):
    with pytest.raises(ValueError, match=message):
        refiner_model().generate(batch_of(*SIZES), **knobs)


def test_a_family_without_latents_refuses_to_search_them():
    with pytest.raises(ValueError, match=r"`num_latents` has no meaning.*which has no latents"):
        new_refinement_model().generate(batch_of(5), num_latents=2)
