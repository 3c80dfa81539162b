import copy

import pytest
import torch
from tiny_networks import batch_of, new_model
from torch import nn

import hf_nar
from hf_nar.packing import PackedForward, why_not_pack

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this build of torch has no oneDNN"
)
SOURCE = batch_of(5, 9)


@pytest.fixture
def model():
    return new_model(num_score_layers=1, num_energy_layers=1)


def logits(model, grad=False):
    with torch.set_grad_enabled(grad):
        return model(SOURCE).logits


def test_packed_weights_give_the_same_up_to_rounding(model):
    plain = logits(model)
    hf_nar.pack_weights(model)

    packed = logits(model)

    assert torch.allclose(packed, plain, atol=1e-5)
    assert all(type(layer.forward) is PackedForward for layer in linear_layers(model))


@pytest.mark.parametrize("refinement", ["delta_posterior", "score", "energy"])
def test_every_strategy_translates_the_same_with_packed_weights(model, refinement):
    plain = model.generate(SOURCE, refinement=refinement, num_refinement_iterations=2)
    hf_nar.pack_weights(model)

    assert torch.equal(
        model.generate(SOURCE, refinement=refinement, num_refinement_iterations=2), plain
    )


def linear_layers(model):
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


def test_packed_weights_are_used_in_inference(model):
    hf_nar.pack_weights(model)
    for layer in linear_layers(model):
        layer.forward.packed = torch.ops.mkldnn._reorder_linear_weight(
            torch.zeros_like(layer.weight), None
        )

    assert logits(model).unique().numel() == 1
    assert logits(model, grad=True).unique().numel() > 1


def test_the_model_still_trains_and_saves_what_it_did(model, tmp_path):
    names = set(model.state_dict())
    hf_nar.pack_weights(model)

    model.train()(SOURCE, labels=SOURCE).loss.backward()
    model.eval().save_pretrained(tmp_path)

    assert model.decoder.layers[0].feed_forward.fc1.weight.grad.abs().sum() > 0
    assert set(model.state_dict()) == names
    again = type(model).from_pretrained(tmp_path)
    assert torch.allclose(logits(again), logits(model), atol=1e-5)
    assert type(again.lm_head.forward) is not PackedForward


def test_a_weight_that_has_been_changed_is_no_longer_read_in_its_old_state(model):
    hf_nar.pack_weights(model)
    before = logits(model)

    with torch.no_grad():
        model.decoder.layers[0].feed_forward.fc2.weight.mul_(3)

    assert not torch.allclose(logits(model), before, atol=1e-3)


def test_weights_in_another_precision_are_used_as_they_are(model):
    hf_nar.pack_weights(model)

    model.to(torch.bfloat16)

    assert logits(model).dtype == torch.bfloat16
    assert logits(model.float()).dtype == torch.float32


def test_a_deep_copy_is_a_model_of_its_own_and_not_packed(model):
    hf_nar.pack_weights(model)

    copied = copy.deepcopy(model)

    assert copied.lm_head.forward.__self__ is copied.lm_head
    assert torch.allclose(logits(copied), logits(model), atol=1e-5)


def test_what_cannot_be_packed_is_refused_in_one_sentence(model):
    assert why_not_pack(model) is None

    with pytest.raises(ValueError, match=r"on a CPU .* but the model is bfloat16 on cpu"):
        hf_nar.pack_weights(model.to(torch.bfloat16))


def test_without_onednn_the_reason_is_given(model, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)

    with pytest.raises(ValueError, match="has no oneDNN"):
        hf_nar.pack_weights(model)
