"""Score and energy networks: what they give, and what they do not touch."""

import pytest
import torch
from tiny_networks import batch_of, labels_of, refiner_model

from hf_nar.remote_code.refinement_state import real_positions, take_rows

AXES = pytest.mark.parametrize("axis", ["source", "target"])
NAMES = pytest.mark.parametrize("name", ["score", "energy"])
SOURCES, TARGETS = (6, 9, 3), (4, 8, 5)


def prepared(model, name, ids=None, lengths=TARGETS):
    """Return latents at the prior mean and what the refiner reads beside them."""
    lengths = torch.tensor(lengths)
    ids = batch_of(*SOURCES) if ids is None else ids
    with torch.no_grad():
        source = model.encode(ids, target_lengths=lengths)
        context = model.read_source(name, real_positions(lengths), source)
        return model.infer_prior(source).mean, context


@AXES
@NAMES
def test_a_step_is_zero_on_padding_and_nothing_is_read_there(axis, name):
    model = refiner_model(axis)
    latent, context = prepared(model, name)
    padding = ~context.latent_mask[..., None]

    step = model.latent_step(name, latent, context)
    poisoned = model.latent_step(name, latent.masked_fill(padding, 50.0), context)

    assert padding.any()
    assert (step.masked_select(padding) == 0).all()
    assert (step.masked_select(~padding) != 0).all()
    torch.testing.assert_close(poisoned, step)


@AXES
@NAMES
def test_a_step_of_a_row_does_not_depend_on_its_batch(axis, name):
    model = refiner_model(axis)

    latent, context = prepared(model, name)
    together = model.latent_step(name, latent, context)

    for row, (size, length) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        one = batch_of(*SOURCES)[row : row + 1, :size]
        alone = model.latent_step(name, *prepared(model, name, one, [length]))
        width = alone.shape[1]
        torch.testing.assert_close(together[row, :width], alone[0], rtol=1e-4, atol=1e-5)


@AXES
@NAMES
def test_a_step_depends_on_the_source(axis, name):
    model = refiner_model(axis)
    latent, context = prepared(model, name)
    _, other = prepared(model, name, batch_of(*SOURCES, seed=4))

    first, second = (model.latent_step(name, latent, each) for each in (context, other))

    assert not torch.allclose(first, second)


@AXES
def test_the_energys_gradient_agrees_with_finite_differences(axis):
    model = refiner_model(axis).double()
    latent, context = prepared(model, "energy")
    network = model.refiners["energy"]
    directions = torch.randn(4, *latent.shape, dtype=torch.float64)
    gradient = model.latent_step("energy", latent, context)

    for direction in directions:
        with torch.no_grad():
            above, below = (network(latent + h * direction, context) for h in (1e-5, -1e-5))
        slope = (above - below) / 2e-5
        torch.testing.assert_close(slope, (gradient * direction).sum((1, 2)), rtol=1e-6, atol=1e-9)
    assert gradient.dtype == torch.float64


@AXES
@pytest.mark.parametrize("seed", range(5))
def test_a_small_enough_step_raises_the_energy_of_every_row(axis, seed):
    torch.manual_seed(seed)
    model = refiner_model(axis).double()
    latent, context = prepared(model, "energy", batch_of(*SOURCES, seed=seed))
    network, energies = model.refiners["energy"], []

    for _ in range(20):
        with torch.no_grad():
            energies.append(network(latent, context))
        latent = latent + 1e-4 * model.latent_step("energy", latent, context)

    rises = torch.stack(energies).diff(dim=0)
    assert (rises > 0).all()


@AXES
def test_the_energy_can_be_trained_whatever_attention_the_model_was_loaded_with(axis):
    gradients = []
    for implementation in ("sdpa", "eager"):
        model = refiner_model(axis)
        model.set_attn_implementation(implementation)
        assert model.config._attn_implementation == implementation
        latent, context = prepared(model, "energy")
        model.latent_step("energy", latent, context, differentiable=True).square().sum().backward()
        layer = model.refiners["energy"].layers.layers[0]
        gradients.append(layer.self_attn.qkv_proj.weight.grad)

    assert (gradients[0] != 0).any()
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


def test_gradients_of_the_energys_weights_agree_with_finite_differences():
    model = refiner_model("target").double()
    latent, context = prepared(model, "energy")
    weight = model.refiners["energy"].latent_projection.weight
    direction = torch.randn_like(weight)

    def loss():
        return model.latent_step("energy", latent, context, differentiable=True).square().sum()

    loss().backward()
    with torch.no_grad():
        before = weight.clone()
        weight.copy_(before + 1e-5 * direction)
        above = loss().item()
        weight.copy_(before - 1e-5 * direction)
        below = loss().item()

    slope = (above - below) / 2e-5
    assert slope == pytest.approx((weight.grad * direction).sum().item(), rel=1e-5)


def test_a_step_that_nobody_differentiates_holds_no_graph():
    model = refiner_model()
    latent, context = prepared(model, "energy")

    assert not model.latent_step("energy", latent, context).requires_grad
    assert model.latent_step("energy", latent, context, differentiable=True).requires_grad


def test_energy_inference_takes_gradients_also_where_they_are_off():
    model = refiner_model()
    latent, context = prepared(model, "energy")
    expected = model.latent_step("energy", latent, context)

    with torch.no_grad():
        torch.testing.assert_close(model.latent_step("energy", latent, context), expected)
    assert not latent.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_in_inference_mode_only_the_energy_is_refused():
    model = refiner_model()

    with torch.inference_mode():
        assert model.generate(batch_of(4), refinement="score").shape[0] == 1
        with pytest.raises((RuntimeError, ValueError), match='no_grad`, or the refinement "score"'):
            model.generate(batch_of(4), refinement="energy")


@NAMES
def test_a_model_without_the_network_says_how_to_get_it(name):
    model = refiner_model(**{f"num_{name}_layers": 0})

    with pytest.raises(ValueError, match=f"`num_{name}_layers` = 0. Train one.*stage: refiner"):
        model.generate(batch_of(4), refinement=name)


@NAMES
def test_only_the_network_that_a_config_asks_for_exists(name):
    other = {"score": "energy", "energy": "score"}[name]
    model = refiner_model(**{f"num_{other}_layers": 0, f"num_{name}_layers": 2})

    assert list(model.refiners) == [name]
    assert len(model.refiners[name].layers.layers) == 2


@AXES
@NAMES
def test_what_a_refiner_reads_is_taken_by_rows_with_the_state(axis, name):
    model = refiner_model(axis)
    latent, context = prepared(model, name)
    rows = torch.tensor([2, 0])

    step = model.latent_step(name, latent[rows], take_rows(context, rows))

    torch.testing.assert_close(step, model.latent_step(name, latent, context)[rows])


@AXES
def test_forward_does_not_read_refiners_until_they_are_trained(axis):
    with_refiners = refiner_model(axis)
    labels = labels_of(*TARGETS)
    before = with_refiners(batch_of(*SOURCES), labels=labels)
    for parameter in with_refiners.refiners.parameters():
        torch.nn.init.constant_(parameter, torch.nan)

    after = with_refiners(batch_of(*SOURCES), labels=labels)

    assert torch.equal(before.loss, after.loss)
    assert before.score_loss is None
