"""Ascent by a learnt step: when rows stop, how far they step, and when they are decoded."""

import dataclasses
from dataclasses import dataclass, replace

import pytest
import torch
from tiny_networks import batch_of, refiner_model
from torch.utils.flop_counter import FlopCounterMode

from hf_nar.remote_code.generation_nar import refine_until_finished
from hf_nar.remote_code.latent_drafts import draft_from_latent
from hf_nar.remote_code.refinement_energy import EnergyAscent
from hf_nar.remote_code.refinement_score import LINE_SEARCH, ScoreAscent
from hf_nar.remote_code.refinement_state import own_scores

STRATEGIES = pytest.mark.parametrize("strategy_class", [ScoreAscent, EnergyAscent])
PAD, WORD = 0, 10


@dataclass(frozen=True)
class Point:
    mean: torch.Tensor
    std: torch.Tensor | None = None


@dataclass(frozen=True)
class Field:
    """Latents `[batch, 1, 1]`, how much of each a step takes away, and where its word is likely."""

    latent: torch.Tensor
    rate: torch.Tensor
    likely_at: torch.Tensor

    @property
    def latent_mask(self):
        return torch.ones(len(self.latent), 1, dtype=torch.bool)


def field_of(latents, rates, likely_at=None):
    rows = (latents, rates, likely_at or [0.0] * len(latents))
    return Field(*(torch.tensor(row)[:, None, None] for row in rows))


class Sink:
    """An oracle whose steps shrink: from latent z, a row with rate r steps by -r z."""

    pad_token_id = PAD

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.rows: list[int] = []

    def infer_prior(self, source):
        return Point(source.latent)

    def read_source(self, refiner, target_mask, source):
        self.calls.append(f"read {refiner}")
        return source

    def latent_step(self, refiner, latent, context):
        self.calls.append(refiner)
        self.rows.append(len(latent))
        return -context.rate * latent

    def predict_length(self, latent, source):
        return torch.full((len(latent),), 2)

    def decode(self, latent, lengths, source):
        self.calls.append("decode")
        logits = torch.zeros(len(lengths), 2, 40)
        logits[:, :, WORD] = 9 - (latent - source.likely_at).square()[..., 0]
        return logits


def run(strategy, source, network=None, with_history=False):
    network = network or Sink()
    draft = strategy.draft(network, source)
    return refine_until_finished(strategy, network, source, draft, with_history)


@STRATEGIES
def test_iterations_ask_for_steps_alone_and_the_draft_is_decoded_at_the_end(strategy_class):
    network, name = Sink(), strategy_class.refiner

    refined = run(strategy_class(iterations=3), field_of([1.0], [0.5]), network)

    assert network.calls == [f"read {name}", name, name, name, "decode"]
    assert refined.state.latent.item() == 0.125
    assert refined.state.tokens.tolist() == [[WORD, WORD]]
    assert refined.state.iteration == 3
    assert refined.iterations.tolist() == [3]


def test_with_history_every_latent_is_decoded():
    network = Sink()

    refined = run(ScoreAscent(iterations=3), field_of([1.0], [0.5]), network, with_history=True)

    assert network.calls.count("decode") == len(refined.history) == 4


def test_no_iteration_decodes_from_the_prior_mean():
    network = Sink()

    refined = run(ScoreAscent(iterations=0), field_of([1.0], [0.5]), network)

    assert refined.state.latent.item() == 1.0
    assert network.calls == ["read score", "decode"]


@pytest.mark.parametrize("size", [0.25, 2])
def test_the_step_size_is_a_factor_of_each_step(size):
    refined = run(ScoreAscent(iterations=1, step_size=size), field_of([1.0], [0.5]))

    assert refined.state.latent.item() == 1 - size / 2


def test_each_row_stops_when_its_own_step_is_small_against_its_first():
    strategy = ScoreAscent(iterations=9, step_tolerance=0.3)
    source = field_of([8.0, 1.0, 0.001], [0.5, 0.9, 0.5])

    refined = run(strategy, source)

    # The steps of the first and the last shrink to a half each time, those of the second to 0.1.
    assert refined.iterations.tolist() == [3, 2, 3]
    assert refined.state.latent.flatten().tolist() == pytest.approx([1.0, 0.01, 0.000125])
    assert refined.state.is_finished.all()


def test_a_row_that_stopped_is_left_alone_and_not_computed():
    strategy, network = ScoreAscent(iterations=4, step_tolerance=0.3), Sink()

    together = run(strategy, field_of([8.0, 1.0], [0.1, 0.9]), network)

    assert network.rows == [2, 2, 1, 1]
    assert together.iterations.tolist() == [4, 2]
    alone = run(strategy, field_of([1.0], [0.9]))
    assert together.state.latent[1] == alone.state.latent[0]
    assert together.state.scores[1].tolist() == alone.state.scores[0].tolist()


@pytest.mark.parametrize("options", [{}, {"step_tolerance": 0.3, "stop_early": False}])
def test_without_a_tolerance_or_early_stop_every_iteration_is_run(options):
    refined = run(ScoreAscent(iterations=6, **options), field_of([1.0, 1.0], [1.0, 0.5]))

    assert refined.iterations.tolist() == [6, 6]


def test_a_row_that_does_not_move_harms_nobody():
    refined = run(ScoreAscent(iterations=5, step_tolerance=0.3), field_of([0.0, 1.0], [0.5, 0.9]))

    assert refined.state.latent[0] == 0
    assert refined.iterations[1] == 2


def test_a_line_search_picks_the_factor_whose_draft_is_likeliest_for_each_row():
    source = field_of([4.0] * 3, [0.5] * 3, likely_at=[3.0, 2.0, 1.0])  # steps of -2
    network = Sink()

    refined = run(ScoreAscent(iterations=1, line_search=True), source, network)

    assert refined.state.latent.flatten().tolist() == [3.0, 2.0, 1.0]
    assert LINE_SEARCH == (0.5, 1.0, 1.5)
    assert network.calls == ["read score", "score", *["decode"] * 3, "decode"]


def test_a_line_search_multiplies_the_step_size():
    source = field_of([4.0], [0.5], likely_at=[3.5])

    refined = run(ScoreAscent(iterations=1, step_size=0.5, line_search=True), source)

    assert refined.state.latent.item() == 3.5


@pytest.mark.parametrize("axis", ["source", "target"])
@STRATEGIES
@torch.no_grad()
def test_a_line_search_of_a_network_ends_at_the_best_of_three_drafts(axis, strategy_class):
    model = refiner_model(axis)
    source = model.encode(batch_of(6, 12, 3))
    plain = strategy_class(iterations=1, max_length=30)
    searching = replace(plain, line_search=True)
    start = plain.draft(model, source)
    step = plain.refine(model, source, start).latent - start.latent

    found = searching.finish(model, source, searching.refine(model, source, start))

    drafts = [draft_from_latent(model, source, start.latent + f * step, 30) for f in LINE_SEARCH]
    scores = torch.stack([own_scores(draft) for draft in drafts])
    torch.testing.assert_close(own_scores(found), scores.max(0).values, rtol=1e-4, atol=1e-4)
    assert (scores.max(0).values > scores.min(0).values).any()


@pytest.mark.parametrize("axis", ["source", "target"])
@STRATEGIES
@torch.no_grad()
def test_likelihood_steps_end_at_a_likelier_draft_of_the_same_length(axis, strategy_class):
    model = refiner_model(axis)
    source = model.encode(batch_of(6, 12, 3))
    plain = strategy_class(iterations=1, max_length=30)
    refined = plain.refine(model, source, plain.draft(model, source))

    drafts = [
        replace(plain, likelihood_steps=steps).finish(model, source, refined) for steps in (0, 1, 3)
    ]

    likelihoods = torch.stack([own_scores(draft).sum() for draft in drafts])
    assert (likelihoods.diff() > 0).all()  # of all rows: a step of fixed size may be too long
    assert all(torch.equal(draft.target_mask, drafts[0].target_mask) for draft in drafts)


@pytest.mark.parametrize("knobs", [{"refinement": "energy"}, {"likelihood_steps": 1}])
def test_steps_that_take_gradients_can_be_counted_in_flops(knobs):
    model, lengths = refiner_model(), torch.tensor([7])
    flops = []
    for iterations in (1, 3):
        options = {"refinement": "score", **knobs, "num_refinement_iterations": iterations}
        with FlopCounterMode(display=False) as counter:
            model.generate(batch_of(6), target_lengths=lengths, **options)
        flops.append(counter.get_total_flops())

    assert flops[1] > flops[0] > 0


def test_likelihood_steps_in_inference_mode_are_refused_in_one_sentence():
    model = refiner_model()

    with torch.inference_mode(), pytest.raises(RuntimeError, match="or `likelihood_steps=0`"):
        model.generate(batch_of(6), refinement="score", likelihood_steps=1)


@pytest.mark.parametrize("axis", ["source", "target"])
@pytest.mark.parametrize("refinement", ["score", "energy"])
def test_stopped_rows_do_not_depend_on_their_batch(axis, refinement):
    model, sizes = refiner_model(axis), (5, 12, 3, 9)
    for refiner in model.refiners.values():
        torch.nn.init.normal_(refiner.latent_projection.weight, std=2.0)
    knobs = {"refinement": refinement, "num_refinement_iterations": 8, "step_tolerance": 0.75}

    together = model.generate(batch_of(*sizes), return_dict_in_generate=True, **knobs)

    for row, size in enumerate(sizes):
        one = batch_of(*sizes)[row : row + 1, :size]
        alone = model.generate(one, return_dict_in_generate=True, **knobs)
        width = int(alone.lengths[0])
        assert together.iterations[row] == alone.iterations[0]
        assert together.sequences[row, :width].tolist() == alone.sequences[0].tolist()


@pytest.mark.parametrize("refinement", ["score", "energy"])
@pytest.mark.parametrize(
    "knobs",
    [{"step_size": 0.1}, {"step_tolerance": 0.9}, {"line_search": True}, {"likelihood_steps": 2}],
)
def test_every_knob_changes_something(refinement, knobs):
    model = refiner_model("target")
    shared = {"refinement": refinement, "num_refinement_iterations": 6}

    first, second = (
        model.generate(batch_of(9, 12, 5), return_dict_in_generate=True, **shared, **each)
        for each in ({}, knobs)
    )

    assert not torch.equal(first.scores, second.scores) or (
        first.iterations.tolist() != second.iterations.tolist()
    )


@STRATEGIES
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, "`step_size` must be positive and finite, got 0.0"),
        ({"step_size": -1}, "`step_size` must be positive and finite, got -1"),
        ({"step_size": float("inf")}, "`step_size` must be positive and finite, got inf"),
        ({"step_size": float("nan")}, "`step_size` must be positive and finite, got nan"),
        ({"step_size": True}, "`step_size` must be a number, got True"),
        ({"step_size": "big"}, "`step_size` must be a number, got 'big'"),
        ({"step_tolerance": 1.0}, r"`step_tolerance` must be in \[0, 1\), got 1.0. Use 0 to run"),
        ({"step_tolerance": -0.1}, r"`step_tolerance` must be in \[0, 1\), got -0.1"),
        ({"step_tolerance": float("nan")}, r"`step_tolerance` must be in \[0, 1\), got nan"),
        ({"step_tolerance": False}, "`step_tolerance` must be a number, got False"),
        ({"likelihood_steps": -1}, "`likelihood_steps` must be an integer and at least 0, got -1"),
        ({"likelihood_steps": 0.5}, "`likelihood_steps` must be an integer"),
        ({"line_search": 1}, "`line_search` must be true or false, got 1"),
        ({"iterations": -1}, "Use 0 to decode from the prior mean"),
        ({"max_length": 0}, "`max_length` must be at least 1"),
    ],
)
def test_wrong_knobs_are_refused(strategy_class, options, message):
    with pytest.raises(ValueError, match=message):
        strategy_class(**options)


@pytest.mark.parametrize("refinement", ["delta_posterior", "none"])
@pytest.mark.parametrize(
    "knobs",
    [{"step_size": 0.5}, {"step_tolerance": 0.1}, {"line_search": True}, {"likelihood_steps": 1}],
)
def test_knobs_of_steps_are_refused_where_there_are_none(refinement, knobs):
    with pytest.raises(ValueError, match=f'no meaning for the refinement "{refinement}"'):
        refiner_model().generate(batch_of(5), refinement=refinement, **knobs)


def test_strategies_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ScoreAscent().step_size = 2.0
