"""Keeping the posterior under noise near to the one without (Zhu et al. 2022, section 3)."""

import pytest
import torch
from tiny_networks import batch_of, labels_of, new_model, noisy_latents

AXES = pytest.mark.parametrize("axis", ["source", "target"])
EXACT = {"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}
SOURCES, TARGETS = (6, 9, 3), (4, 8, 5)


def output_of(axis, seed=0, is_training=True, **options):
    model = new_model(latent_axis=axis, **EXACT, **options)
    noisy_latents(model)
    torch.manual_seed(seed)
    return model.train(is_training)(batch_of(*SOURCES), labels=labels_of(*TARGETS))


@AXES
def test_the_term_is_there_in_training_with_a_weight_only(axis):
    weighted = {"posterior_noise": 0.5, "consistency_weight": 0.3}

    assert output_of(axis, **weighted).consistency_loss > 0
    assert output_of(axis, is_training=False, **weighted).consistency_loss is None
    assert output_of(axis, posterior_noise=0.5).consistency_loss is None


@AXES
def test_the_loss_grows_by_the_weighted_term_of_each_latent(axis):
    plain = output_of(axis, posterior_noise=0.5)
    num_latents = sum(SOURCES if axis == "source" else TARGETS)

    for weight in (0.3, 2.0):
        output = output_of(axis, posterior_noise=0.5, consistency_weight=weight)
        term = weight * output.consistency_loss * num_latents / sum(TARGETS)
        torch.testing.assert_close(output.loss, plain.loss + term)


@AXES
def test_without_a_replaced_word_nothing_diverges(axis):
    output = output_of(axis, posterior_noise=1e-9, consistency_weight=1.0)

    assert output.consistency_loss.item() == pytest.approx(0.0, abs=1e-5)


@AXES
def test_the_term_pulls_on_the_posterior(axis):
    gradients = []
    for weight in (0.0, 5.0):
        model = new_model(
            latent_axis=axis, posterior_noise=0.5, consistency_weight=weight, **EXACT
        ).train()
        noisy_latents(model)
        torch.manual_seed(0)
        model(batch_of(*SOURCES), labels=labels_of(*TARGETS)).loss.backward()
        gradients.append(model.posterior_head.weight.grad)

    assert not torch.allclose(*gradients)


@AXES
def test_wider_padding_changes_nothing(axis):
    """Noise is drawn by position, so the rows are padded on both sides of the comparison."""
    model = new_model(latent_axis=axis, posterior_noise=0.99, consistency_weight=1.0, **EXACT)
    noisy_latents(model)
    labels = labels_of(5)
    labels[:, :4] = 7  # whatever is drawn, nothing changes

    for wide in (labels, torch.nn.functional.pad(labels, (0, 4), value=-100)):
        output = model.train()(batch_of(6), labels=wide)
        assert output.consistency_loss.item() == pytest.approx(0.0, abs=1e-5)
