import itertools

import pytest
import torch
from conftest import tiny_sentences
from tiny_networks import refiner_model

from hf_nar.evaluation.latent_space import Plane, measure_latent_space
from hf_nar.inference import Translator

SOURCE, TARGET = "Ein Hund läuft im Schnee.", "A dog runs in the snow."


@pytest.fixture
def translator(tiny_model, tiny_tokenizer):
    torch.nn.init.normal_(tiny_model.posterior_head.weight, std=1.0)  # as strong as a trained one
    return Translator(tiny_model, tiny_tokenizer)


@pytest.fixture
def space(translator):
    return measure_latent_space(translator, SOURCE, TARGET, iterations=2, resolution=5)


def directly(translator, latent, target=TARGET):
    """Return log p(target | latent) by the shortest way there is."""
    model, tokenizer = translator.model, translator.tokenizer
    source = model.encode(torch.tensor([tokenizer(SOURCE)["input_ids"]]))
    ids = torch.tensor(tokenizer(target)["input_ids"])
    latent = latent.float().view(1, -1, model.config.latent_dim)
    with torch.inference_mode():
        logits = model.decode(latent, torch.tensor([len(ids)]), source)[0]
    return sum(float(row.log_softmax(-1)[i]) for row, i in zip(logits, ids, strict=True))


def latents_of(translator):
    """Return prior mean and posterior mean as long vectors."""
    model, tokenizer = translator.model, translator.tokenizer
    source = model.encode(torch.tensor([tokenizer(SOURCE)["input_ids"]]))
    target = torch.tensor([tokenizer(TARGET)["input_ids"]])
    with torch.inference_mode():
        prior = model.infer_prior(source).mean
        posterior = model.infer_posterior(target, torch.ones_like(target, dtype=torch.bool), source)
    return prior.flatten(), posterior.mean.flatten()


def in_plane(space, x, y):
    axes, origin = torch.tensor(space.axes).double(), torch.tensor(space.origin).double()
    return origin + x * axes[0] + y * axes[1]


def test_the_grid_holds_the_likelihood_at_its_places(translator, space):
    prior = space.points[0]
    column = min(range(5), key=lambda i: abs(space.grid_x[i] - prior.x))
    row = min(range(5), key=lambda i: abs(space.grid_y[i] - prior.y))

    for i, j in {(row, column), (0, 4), (3, 1)}:
        latent = in_plane(space, space.grid_x[j], space.grid_y[i])
        assert space.log_likelihood[i][j] == pytest.approx(directly(translator, latent), abs=1e-3)


def test_points_hold_their_own_likelihood(translator, space):
    prior, posterior = latents_of(translator)

    assert space.points[0].log_likelihood == pytest.approx(directly(translator, prior), abs=1e-3)
    last = space.points[-1].log_likelihood
    assert last == pytest.approx(directly(translator, posterior), abs=1e-3)


def test_the_points_are_where_the_plane_says(translator, space):
    for point, latent in zip(
        (space.points[0], space.points[-1]), latents_of(translator), strict=True
    ):
        distance = (in_plane(space, point.x, point.y) - latent).norm()
        assert float(distance) == pytest.approx(point.distance, abs=1e-4)


def test_the_path_has_every_iteration_and_its_draft(translator, space):
    assert [point.label for point in space.points] == [
        "prior mean",
        "iteration 1",
        "iteration 2",
        "posterior mean",
    ]
    [trace] = translator.trace([SOURCE], num_refinement_iterations=2, collapse_repeats=False)
    assert [point.draft[:-1] for point in space.points[:-1]] == trace.drafts
    assert {point.draft[-1] for point in space.points} == {"</s>"}


def test_the_path_ends_where_a_draft_repeats(tiny_model, tiny_tokenizer):
    torch.nn.init.zeros_(tiny_model.posterior_head.weight)  # the posterior ignores the draft
    translator = Translator(tiny_model, tiny_tokenizer)

    space = measure_latent_space(translator, SOURCE, TARGET, iterations=9, resolution=2)

    assert len(space.points) <= 4


def test_the_grid_reaches_beyond_the_points_equally(space):
    for ticks, places in (
        (space.grid_x, [point.x for point in space.points]),
        (space.grid_y, [point.y for point in space.points]),
    ):
        assert min(places) - ticks[0] == pytest.approx(ticks[-1] - max(places), abs=1e-4)
        assert min(places) - ticks[0] > 0
    margins = [
        t[0] - min(getattr(p, a) for p in space.points)
        for t, a in ((space.grid_x, "x"), (space.grid_y, "y"))
    ]
    assert margins[0] == pytest.approx(margins[1], abs=1e-4)
    assert [len(row) for row in space.log_likelihood] == [5] * 5


@pytest.mark.parametrize("refinement", ["delta_posterior", "score", "energy"])
def test_latents_of_target_length_have_that_of_the_reference(refinement, tiny_tokenizer):
    model = refiner_model("target", vocab_size=len(tiny_tokenizer))
    model.generation_config.refinement = refinement
    translator = Translator(model, tiny_tokenizer)

    space = measure_latent_space(translator, SOURCE, TARGET, iterations=2, resolution=2)

    ids = torch.tensor([tiny_tokenizer(TARGET)["input_ids"]])
    length = torch.tensor([ids.shape[1]])
    source = model.encode(torch.tensor([tiny_tokenizer(SOURCE)["input_ids"]]), None, length)
    with torch.no_grad():
        latent = model.infer_prior(source).mean
        scores = model.decode(latent, length, source).log_softmax(-1)
    expected = float(scores.gather(-1, ids[..., None]).sum())
    assert space.points[0].log_likelihood == pytest.approx(expected, abs=1e-3)
    assert len(space.origin) == latent.numel()
    assert {len(point.draft) for point in space.points} == {ids.shape[1]}
    assert tiny_tokenizer.pad_token not in space.points[1].draft
    assert space.points[0].x != space.points[1].x


def test_drafts_are_as_long_as_those_of_generate(translator):
    before = measure_latent_space(translator, SOURCE, TARGET, iterations=1, resolution=2)
    translator.model.generation_config.extra_length = 2

    after = measure_latent_space(translator, SOURCE, TARGET, iterations=1, resolution=2)

    assert len(after.points[0].draft) == len(before.points[0].draft) + 2


def test_sentences_and_tokens_are_kept(space):
    assert (space.source, space.target) == (SOURCE, TARGET)
    assert (space.source_tokens[-1], space.target_tokens[-1]) == ("</s>", "</s>")
    assert "".join(space.target_tokens[:-1]).replace("\u2581", " ").strip() == TARGET


def test_measuring_changes_nothing_and_repeats(translator, space):
    assert measure_latent_space(translator, SOURCE, TARGET, iterations=2, resolution=5) == space


@pytest.mark.parametrize("size", [2, 3, 50])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_plane_holds_its_points_where_it_can(size, count):
    points = torch.randn(count, size)
    plane = Plane.through(points)

    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    distances = (plane.at(plane.coordinates(points)) - points.double()).norm(dim=-1)
    spread = (points.double() - points.double().mean(0)).square().sum()
    assert plane.explained == pytest.approx(1 - float(distances.square().sum() / spread))
    if count < 4 or size == 2:
        torch.testing.assert_close(distances, torch.zeros_like(distances), atol=1e-6, rtol=0)


def test_points_on_a_line_have_a_plane():
    points = torch.arange(4.0)[:, None] * torch.tensor([[1.0, 2.0, 2.0]])

    plane = Plane.through(points)

    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    expected = torch.tensor([[-4.5, 0], [-1.5, 0], [1.5, 0], [4.5, 0]], dtype=torch.float64)
    torch.testing.assert_close(plane.coordinates(points), expected)
    torch.testing.assert_close(plane.axes, Plane.through(points).axes)


def test_points_that_coincide_have_a_plane():
    points = torch.full((3, 7), 0.1)

    plane = Plane.through(points)

    torch.testing.assert_close(plane.axes @ plane.axes.T, torch.eye(2, dtype=torch.float64))
    assert plane.explained == 1.0
    torch.testing.assert_close(plane.at(plane.coordinates(points)), points.double())


def test_latents_that_coincide_still_have_a_grid(tiny_model, tiny_tokenizer):
    for head in (tiny_model.prior_head, tiny_model.posterior_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)

    space = measure_latent_space(Translator(tiny_model, tiny_tokenizer), SOURCE, TARGET, 1, 3)

    assert space.grid_x == [-1.0, 0.0, 1.0]
    assert (space.points[0].x, space.explained) == (0.0, 1.0)


def test_the_first_axis_points_from_the_prior_to_the_posterior():
    points = torch.randn(4, 9)

    for order in itertools.permutations(range(4)):
        places = Plane.through(points[list(order)]).coordinates(points[list(order)])
        assert places[-1, 0] >= places[0, 0]
        assert places[0, 1] >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "`iterations` must be at least 1"),
        ({"resolution": 1}, "`resolution` must be at least 2"),
        ({"source": " "}, "`source` must be a sentence"),
        ({"target": ""}, "`target` must be a sentence"),
        ({"source": " ".join(tiny_sentences()[:9])}, "`source` must have at most 40 tokens"),
        ({"target": " ".join(tiny_sentences()[:9])}, "`target` must have at most 48 tokens"),
        ({"target": "A dog 🐕."}, "`target` must consist of tokens"),
    ],
)
def test_what_cannot_be_measured_is_named(translator, options, message):
    arguments = {"source": SOURCE, "target": TARGET, "iterations": 1, "resolution": 2, **options}

    with pytest.raises(ValueError, match=message):
        measure_latent_space(translator, **arguments)
