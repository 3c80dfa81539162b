"""Weights of one network as the start of another."""

import pytest
import torch
from tiny_networks import batch_of, labels_of, new_model, refiner_model
from tiny_refinement import new_refinement_model

from hf_nar.training.warm_start import starting_weights

SHARED = {
    "source_embeddings.weight": "source_embeddings.weight",
    "source_encoder.layers.1.feed_forward.fc1.weight": "prior.layers.1.feed_forward.fc1.weight",
    "source_encoder.norm.bias": "prior.norm.bias",
    "decoder.layers.0.cross_attn.kv_proj.weight": "decoder.layers.0.cross_attn.kv_proj.weight",
    "latent_projection.weight": "latent_projection.weight",
    "lm_head.bias": "lm_head.bias",
}
NEW = {"prior", "prior_head", "posterior", "posterior_head", "length_predictor"}


def saved(model):
    """Return weights as a checkpoint holds them: tied ones once."""
    tied = model.all_tied_weights_keys
    return {n: v.clone() + 1 for n, v in model.state_dict().items() if n not in tied}


def start(model, weights):
    """Load what a model starts with; return its weights before and after."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    missing, unexpected = model.load_state_dict(starting_weights(model, weights), strict=False)
    assert set(missing) <= set(model.all_tied_weights_keys)
    assert unexpected == []
    model.tie_weights()
    return before, model.state_dict()


def target_model(**options):
    return new_model(latent_axis="target", num_source_layers=2, **options)


def test_target_latents_start_with_what_source_latents_have_in_common():
    other = saved(new_model())

    before, after = start(target_model(), other)

    for ours, theirs in SHARED.items():
        assert torch.equal(after[ours], other[theirs]), ours
    for name, value in after.items():
        part = name.split(".")[0]
        assert torch.equal(value, before[name]) == (part in NEW), name


def test_a_network_that_started_so_computes_the_same_source_states():
    first, second = new_model(), target_model()
    start(second, {n: v for n, v in first.state_dict().items() if n != "lm_head.weight"})
    ids = batch_of(6, 9)

    torch.testing.assert_close(second.encode(ids).states, first.encode(ids).states)
    assert torch.isfinite(second(ids, labels=labels_of(4, 7)).loss)


@pytest.mark.parametrize("axis", ["source", "target"])
def test_refiners_start_new_on_a_trained_model(axis):
    other = saved(new_model(latent_axis=axis))
    torch.manual_seed(3)

    before, after = start(refiner_model(axis), other)

    for name, value in after.items():
        if name.startswith("refiners."):
            assert torch.equal(value, before[name])
        elif name in other:
            assert torch.equal(value, other[name])
    assert any(name.startswith("refiners.") for name in after)


def test_a_refiner_that_is_there_is_kept_and_one_that_is_not_starts_new():
    other = saved(refiner_model(num_energy_layers=0))

    before, after = start(refiner_model(), other)

    score, energy = (f"refiners.{name}.head.weight" for name in ("score", "energy"))
    assert torch.equal(after[score], other[score])
    assert torch.equal(after[energy], before[energy])


def test_a_part_that_is_missing_is_not_made_up():
    other = saved(new_model())
    del other["decoder.norm.weight"]

    weights = starting_weights(new_model(), other)

    assert "decoder.norm.weight" not in weights


def test_source_latents_cannot_start_with_target_latents():
    weights = starting_weights(new_model(), saved(target_model()))

    model = new_model()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert "target_encoder.norm.weight" in missing
    assert "source_encoder.norm.weight" in unexpected


def test_other_families_start_with_what_was_saved():
    model = new_refinement_model()
    weights = {"source_embeddings.weight": torch.zeros(1)}

    assert starting_weights(model, weights) == weights
