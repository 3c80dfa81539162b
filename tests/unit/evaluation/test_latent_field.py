"""Steps of score and energy networks around the latents of a sentence."""

import pytest
import torch
from conftest import tiny_sentences
from tiny_networks import refiner_model

from hf_nar.evaluation.latent_field import ARROWS, measure_latent_field
from hf_nar.inference import Translator
from hf_nar.remote_code.latent_drafts import draft_from_latent
from hf_nar.remote_code.refinement_state import own_scores, real_positions

SOURCE = "Ein Hund läuft im Schnee."
PLACES = [(0, 0), (3, 14), (9, 2)]  # row and column of some arrows


def new_translator(tokenizer, axis="target", **options):
    model = refiner_model(axis, vocab_size=len(tokenizer), **{"latent_dim": 2, **options})
    return Translator(model, tokenizer)


@pytest.fixture
def translator(tiny_tokenizer):
    return new_translator(tiny_tokenizer)


class Directly:
    """The same as the field, one latent at a time and by the shortest way there is."""

    def __init__(self, translator, field):
        self.model = translator.model
        ids = torch.tensor([translator.tokenizer(SOURCE)["input_ids"]])
        with torch.no_grad():
            self.source = self.model.encode(ids)
            self.prior = self.model.infer_prior(self.source).mean
        self.field = field

    def latent(self, x, y):
        axes = torch.tensor(self.field.axes)
        vector = torch.tensor(self.field.origin) + x * axes[0] + y * axes[1]
        if self.field.position is None:
            return vector.view_as(self.prior)
        latent = self.prior.clone()
        latent[0, self.field.position - 1] = vector
        return latent

    def context(self, refiner, latent):
        lengths = self.model.predict_length(latent, self.source)
        return self.model.read_source(refiner, real_positions(lengths), self.source)

    def step(self, refiner, latent):
        with torch.no_grad():
            step = self.model.latent_step(refiner, latent, self.context(refiner, latent))[0]
        chosen = step.flatten() if self.field.position is None else step[self.field.position - 1]
        return torch.tensor(self.field.axes) @ chosen


@pytest.mark.parametrize("axis", ["source", "target"])
@pytest.mark.parametrize(("dim", "position"), [(2, 3), (4, 2), (4, None)])
def test_arrows_are_steps_at_their_places(axis, dim, position, tiny_tokenizer):
    translator = new_translator(tiny_tokenizer, axis, latent_dim=dim)

    field = measure_latent_field(translator, SOURCE, 1, 2, position)

    directly = Directly(translator, field)
    assert [found.refiner for found in field.fields] == ["score", "energy"]
    for found in field.fields:
        for row, column in PLACES:
            latent = directly.latent(field.arrow_x[column], field.arrow_y[row])
            step = (found.steps_x[row][column], found.steps_y[row][column])
            expected = directly.step(found.refiner, latent).tolist()
            assert step == pytest.approx(expected, rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("axis", ["source", "target"])
def test_the_grid_holds_log_probability_and_energy_at_its_places(axis, tiny_tokenizer):
    translator = new_translator(tiny_tokenizer, axis)

    field = measure_latent_field(translator, SOURCE, 1, 9)

    directly = Directly(translator, field)
    energies = field.fields[1].energy
    for row, column in [(0, 0), (2, 8), (8, 1)]:  # in the first batch and in the second
        latent = directly.latent(field.grid_x[column], field.grid_y[row])
        with torch.no_grad():
            draft = draft_from_latent(directly.model, directly.source, latent, 30)
            context = directly.context("energy", latent)
            energy = directly.model.refiners["energy"](latent, context)
        expected = max(float(own_scores(draft)), -1e9) if draft.lengths[0] > 1 else 0.0
        assert field.log_probability[row][column] == pytest.approx(expected, abs=1e-3)
        assert energies[row][column] == pytest.approx(float(energy), rel=1e-3, abs=1e-3)
    assert field.fields[0].energy is None


def test_a_latent_of_two_numbers_is_its_own_plane(translator):
    field = measure_latent_field(translator, SOURCE, 2, 3, position=2)

    score = field.paths[1].points
    directly = Directly(translator, field)
    assert (field.axes, field.origin, field.is_exact) == ([[1, 0], [0, 1]], [0, 0], True)
    assert [score[0].x, score[0].y] == pytest.approx(directly.prior[0, 1].tolist(), abs=1e-5)
    moved = [score[1].x - score[0].x, score[1].y - score[0].y]
    assert moved == pytest.approx(directly.step("score", directly.prior).tolist(), abs=1e-3)


def test_paths_are_those_of_generate(translator):
    field = measure_latent_field(translator, SOURCE, 2, 2)

    assert [path.refinement for path in field.paths] == ["delta_posterior", "score", "energy"]
    for path in field.paths:
        assert [p.label for p in path.points] == ["prior mean", "iteration 1", "iteration 2"]
        for iterations, point in enumerate(path.points):
            [trace] = translator.trace(
                [SOURCE],
                refinement=path.refinement,
                num_refinement_iterations=iterations,
                collapse_repeats=False,
            )
            assert point.draft[:-1] == trace.drafts[-1]


def test_the_position_that_delta_moves_most_is_shown(translator):
    shown = measure_latent_field(translator, SOURCE, 1, 2)

    directly = Directly(translator, shown)
    with torch.no_grad():
        draft = draft_from_latent(directly.model, directly.source, directly.prior, 30)
        posterior = directly.model.infer_posterior(draft.tokens, draft.target_mask, directly.source)
    ways = (posterior.mean - directly.prior)[0].norm(dim=-1)
    assert shown.position == int(ways.argmax()) + 1


def test_latents_of_more_numbers_are_shown_together(tiny_tokenizer):
    translator = new_translator(tiny_tokenizer, latent_dim=4)

    field = measure_latent_field(translator, SOURCE, 2, 2)

    assert (field.position, field.is_exact) == (None, False)
    assert 0 < field.explained <= 1
    for path in field.paths:
        for point in path.points:
            assert field.grid_x[0] < point.x < field.grid_x[-1]
            assert field.grid_y[0] < point.y < field.grid_y[-1]


def test_arrows_stand_evenly_inside_the_grid(translator):
    field = measure_latent_field(translator, SOURCE, 1, 2)

    width = field.grid_x[-1] - field.grid_x[0]
    assert len(field.arrow_x) == len(field.arrow_y) == ARROWS
    assert field.arrow_x[1] - field.arrow_x[0] == pytest.approx(width / ARROWS, abs=1e-4)
    assert field.arrow_x[0] - field.grid_x[0] == pytest.approx(width / ARROWS / 2, abs=1e-4)


def test_measuring_repeats_and_leaves_no_gradients(translator):
    fields = [measure_latent_field(translator, SOURCE, 1, 3) for _ in range(2)]

    assert fields[0] == fields[1]
    assert all(parameter.grad is None for parameter in translator.model.parameters())


def test_a_model_without_energy_has_one_field(tiny_tokenizer):
    translator = new_translator(tiny_tokenizer, num_energy_layers=0)

    field = measure_latent_field(translator, SOURCE, 1, 2)

    assert [found.refiner for found in field.fields] == ["score"]
    assert [path.refinement for path in field.paths] == ["delta_posterior", "score"]


def test_a_model_without_refiners_has_no_field(tiny_model, tiny_tokenizer):
    with pytest.raises(ValueError, match=r"LaNMTForConditionalGeneration has none.*stage: refiner"):
        measure_latent_field(Translator(tiny_model, tiny_tokenizer), SOURCE)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "`iterations` must be at least 1"),
        ({"resolution": 1}, "`resolution` must be at least 2"),
        ({"position": 0}, "`position` must be in 1 to"),
        ({"position": 99}, "`position` must be in 1 to"),
        ({"source": " "}, "`source` must be a sentence"),
        ({"source": " ".join(tiny_sentences()[:9])}, "`source` must have at most 30 tokens"),
    ],
)
def test_what_cannot_be_measured_is_named(translator, options, message):
    with pytest.raises(ValueError, match=message):
        measure_latent_field(translator, **{"source": SOURCE, **options})


def test_one_number_alone_has_no_plane(tiny_tokenizer):
    translator = new_translator(tiny_tokenizer, latent_dim=1)

    with pytest.raises(ValueError, match="at least two numbers"):
        measure_latent_field(translator, SOURCE, position=1)
