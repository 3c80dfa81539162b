"""`output_hidden_states` and `output_attentions` give what the layers of a call computed."""

import copy

import pytest
import torch
from tiny_captioners import TINY_VIT
from tiny_networks import batch_of, labels_of, new_model
from tiny_refinement import make_lively, new_refinement_model

ASKED = {"output_hidden_states": True, "output_attentions": True}
STATES = ("encoder_hidden_states", "decoder_hidden_states")
WEIGHTS = ("encoder_attentions", "decoder_attentions", "cross_attentions")
SOURCES, TARGETS = (6, 9), (7, 4)
NO_DROPOUT = {"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}


def new_source_latents():
    return new_model(**NO_DROPOUT)


def new_target_latents():
    return new_model(latent_axis="target", num_source_layers=2, **NO_DROPOUT)


def new_tokens():
    model = new_refinement_model(cross_attention="layer_to_layer", **NO_DROPOUT)
    make_lively(model)
    return model


@pytest.fixture(params=[new_source_latents, new_target_latents, new_tokens])
def model(request):
    return request.param()


@pytest.fixture(params=["with labels", "without"])
def call(request):
    labels = labels_of(*TARGETS) if request.param == "with labels" else None
    return {"input_ids": batch_of(*SOURCES), "labels": labels}


def head_of(model):
    return model.get_output_embeddings()


def test_states_have_an_entry_for_what_each_layer_reads_and_one_for_what_the_stack_returns(
    model, call
):
    output = model(**call, output_hidden_states=True)

    width = output.logits.shape[1]
    assert [tuple(state.shape) for state in output.encoder_hidden_states] == [(2, 9, 16)] * 3
    assert [tuple(state.shape) for state in output.decoder_hidden_states] == [(2, width, 16)] * 3
    assert not set(WEIGHTS) & output.keys()


def test_the_last_states_are_what_the_output_layer_reads_and_what_the_decoder_reads(model, call):
    output = model(**call, output_hidden_states=True)

    read = head_of(model)(output.decoder_hidden_states[-1])
    torch.testing.assert_close(read, output.logits)
    states = model.encode(call["input_ids"], target_lengths=torch.tensor(TARGETS)).states
    torch.testing.assert_close(output.encoder_hidden_states[-1], states)
    assert output.encoder_last_hidden_state.equal(output.encoder_hidden_states[-1])


def test_the_first_states_of_the_encoder_are_embeddings_with_positions(model):
    source = batch_of(*SOURCES)

    output = model(source, output_hidden_states=True)

    torch.testing.assert_close(output.encoder_hidden_states[0], model.encode(source).embeddings)


def test_weights_are_of_each_head_and_sum_to_one_over_real_positions(model, call):
    output = model(**call, output_attentions=True)

    width = output.logits.shape[1]
    shapes = {"encoder": (9, 9), "decoder": (width, width), "cross": (width, 9)}
    for name, shape in shapes.items():
        weights = output[f"{name}_attentions"]
        assert [tuple(part.shape) for part in weights] == [(2, 2, *shape)] * 2
        for part in weights:
            torch.testing.assert_close(part.sum(-1), torch.ones(part.shape[:-1]))
        if name != "decoder":
            assert not weights[0][0, ..., 6:].any()  # padding of the shorter source
    assert output.encoder_hidden_states is None


def test_weights_and_states_are_those_that_made_the_logits_whatever_the_attention(model, call):
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")

    fused, plain = model(**call, **ASKED), eager(**call, **ASKED)

    for name in (*STATES, *WEIGHTS):
        for ours, theirs in zip(fused[name], plain[name], strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(plain.logits, eager(**call).logits)


def test_padding_changes_neither_states_nor_weights_of_real_positions(model):
    alone = model(batch_of(6), labels=labels_of(4), **ASKED)

    wide = torch.cat([batch_of(6), torch.full((1, 5), 33)], dim=1)  # words where padding should be
    mask = torch.tensor([[1] * 6 + [0] * 5])
    labels = torch.cat([labels_of(4), torch.full((1, 3), -100)], dim=1)
    if model.config.model_type == "lanmt" and model.has_target_latents:
        labels = labels_of(4)  # no wider than lengths say
    padded = model(wide, attention_mask=mask, labels=labels, **ASKED)

    for name in (*STATES, *WEIGHTS):
        for small, large in zip(alone[name], padded[name], strict=True):
            cut = large[tuple(slice(0, size) for size in small.shape)]
            torch.testing.assert_close(cut, small, atol=1e-5, rtol=1e-5)


def test_nothing_is_written_down_unless_a_call_or_the_config_asks(model, call):
    quiet = model(**call)
    model.config.output_hidden_states = True
    asked = model(**call)
    refused = model(**call, output_hidden_states=False)

    assert not {*STATES, *WEIGHTS} & (quiet.keys() | refused.keys())
    assert set(STATES) <= asked.keys()
    torch.testing.assert_close(asked.logits, quiet.logits)


def test_gradients_reach_the_first_states_and_weights(model):
    output = model(batch_of(*SOURCES), labels=labels_of(*TARGETS), **ASKED)
    first = [output[name][0] for name in (*STATES, *WEIGHTS)]

    gradients = torch.autograd.grad(output.logits[0, 0, 7], first)

    assert all(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_leaves_states_and_weights_as_they_are(model, reentrant):
    call = {"input_ids": batch_of(*SOURCES), "labels": labels_of(*TARGETS), **ASKED}
    model.train()
    torch.manual_seed(1)
    expected = model(**call)

    enable = getattr(model, "activation_checkpointing_enable", None)  # the name of 5.23
    (enable or model.gradient_checkpointing_enable)({"use_reentrant": reentrant})
    torch.manual_seed(1)
    found = model(**call)
    found.loss.backward()

    assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    for name in (*STATES, *WEIGHTS):
        assert len(found[name]) == len(expected[name])
        for ours, theirs in zip(found[name], expected[name], strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_tuple_begins_with_loss_and_logits_and_has_the_same_values(model):
    call = {"input_ids": batch_of(*SOURCES), "labels": labels_of(*TARGETS), **ASKED}

    output, values = model(**call), model(**call, return_dict=False)

    torch.testing.assert_close(values[0], output.loss)
    torch.testing.assert_close(values[1], output.logits)
    torch.testing.assert_close(values[2][-1], output.decoder_hidden_states[-1])
    assert len(values) == len(output.to_tuple()) == len(output)


def test_weights_of_an_attention_that_has_none_are_refused_in_a_sentence(model):
    model.config._attn_implementation = "flex_attention"

    with pytest.raises(ValueError, match=r"needs attention by eager or sdpa.*'flex_attention'"):
        model(batch_of(*SOURCES), output_attentions=True)


@pytest.mark.parametrize("first_input", ["mean", "copy"])
def test_states_of_a_vision_encoder_come_with_those_of_a_caption(first_input):
    model = new_refinement_model(
        vision_config=TINY_VIT, max_length_offset=15, first_input=first_input
    )
    pictures = torch.rand(
        2, TINY_VIT["num_channels"], TINY_VIT["image_size"], TINY_VIT["image_size"]
    )

    output = model(pixel_values=pictures, **ASKED)

    seen = model.vision_encoder(pixel_values=pictures, output_hidden_states=True)
    assert len(output.vision_hidden_states) == TINY_VIT["num_hidden_layers"] + 1
    for ours, theirs in zip(output.vision_hidden_states, seen.hidden_states, strict=True):
        torch.testing.assert_close(ours, theirs)
    positions = seen.last_hidden_state.shape[1]
    assert output.encoder_hidden_states[0].shape == (2, positions, 16)
    assert output.cross_attentions[0].shape[-1] == positions
    assert model(pixel_values=pictures).vision_hidden_states is None


def test_while_refiners_are_trained_nothing_else_can_be_asked_for():
    model = new_model(num_score_layers=1)
    model.train_refiners()

    with pytest.raises(ValueError, match="returns their loss alone; leave out"):
        model(batch_of(6), labels=labels_of(4), output_hidden_states=True)
