"""`forward` reads a draft, given as `decoder_input_ids`, and a source given as vectors."""

import pytest
import torch
from tiny_networks import PAD, batch_of, labels_of, new_model, noisy_latents
from tiny_refinement import make_lively, new_refinement_model

from hf_nar.remote_code.refinement_state import real_positions

SOURCES, TARGETS = (6, 9), (7, 4)


def lanmt(axis):
    model = new_model(latent_axis=axis)
    noisy_latents(model)
    return model


def tokens_again(**options):
    model = new_refinement_model(**options)
    make_lively(model)
    return model


@pytest.fixture(params=[lambda: lanmt("source"), lambda: lanmt("target"), tokens_again])
def model(request):
    return request.param()


@pytest.fixture
def source():
    return batch_of(*SOURCES)


@pytest.fixture
def draft():
    return batch_of(*TARGETS, seed=3)


@pytest.mark.parametrize("axis", ["source", "target"])
def test_logits_of_a_latent_model_are_those_of_the_next_delta_iteration(axis, source, draft):
    model = lanmt(axis)
    lengths = torch.tensor(TARGETS)
    strategy = model.refinements["delta_posterior"](iterations=1, max_length=30)
    encoded = model.encode(source, target_lengths=lengths)
    state = strategy.draft(model, encoded)
    state = type(state)(**{**vars(state), "tokens": draft, "target_mask": real_positions(lengths)})

    output = model(source, decoder_input_ids=draft)

    refined = strategy.refine(model, encoded, state)
    words = model._allow_words_only(output.logits.clone(), lengths).argmax(-1)
    assert words.masked_fill(~real_positions(lengths), PAD).equal(refined.tokens)
    assert output.lengths.equal(lengths)
    posterior = model.infer_posterior(draft, real_positions(lengths), encoded)
    torch.testing.assert_close(output.posterior_mean, posterior.mean)


def test_logits_in_token_space_are_those_of_the_second_pass(source, draft):
    model, lengths = tokens_again(), torch.tensor(TARGETS)
    encoded = model.encode(source, target_lengths=lengths)
    strategy = model.refinements["iterative"](iterations=1, max_length=30)
    state = strategy.draft(model, encoded)
    state = type(state)(**{**vars(state), "tokens": draft})

    logits = model(source, decoder_input_ids=draft).logits

    again = model.decode_again(state, encoded).logits
    torch.testing.assert_close(model._allow_words_only(logits, lengths), again)


def test_the_draft_decides_the_logits(model, source, draft):
    other = draft.clone()
    other[0, 2] += 1

    first, second = (model(source, decoder_input_ids=ids).logits for ids in (draft, other))

    assert not torch.allclose(first[0], second[0])
    torch.testing.assert_close(first[1], second[1])


def test_padding_of_a_draft_may_stand_anywhere_and_is_not_read(model, source, draft):
    expected = model(source, decoder_input_ids=draft).logits
    left = torch.full((2, 9), 33)  # words where padding should be
    mask = torch.zeros(2, 9)
    left[0, 2:], mask[0, 2:] = draft[0], 1
    left[1, 4:8], mask[1, 4:8] = draft[1, :4], 1

    logits = model(source, decoder_input_ids=left, decoder_attention_mask=mask).logits

    for row, length in enumerate(TARGETS):
        torch.testing.assert_close(
            logits[row, :length], expected[row, :length], atol=1e-5, rtol=1e-5
        )


def test_with_labels_the_loss_is_that_of_turning_the_draft_into_them(model, source, draft):
    labels = labels_of(*TARGETS, seed=4)

    given = model(source, labels=labels, decoder_input_ids=draft)
    own = model(source, labels=labels)

    assert not torch.allclose(given.loss, own.loss)
    with torch.no_grad():
        logits = model(source, decoder_input_ids=draft).logits
    is_two_passes = model.config.model_type == "lanmt" or model.config.num_training_passes == 2
    if is_two_passes:
        torch.testing.assert_close(given.logits, logits)


def test_gradients_of_a_given_draft_reach_every_parameter_that_learns_anyway(model, source, draft):
    labels = labels_of(*TARGETS, seed=4)
    learns = []
    for options in ({}, {"decoder_input_ids": draft}):
        model.zero_grad(set_to_none=True)
        model.train()(source, labels=labels, **options).loss.backward()
        learns.append({name for name, value in model.named_parameters() if value.grad is not None})

    assert learns[0] == learns[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_attention_mask": torch.ones(2, 7)}, "must come with the draft"),
        ({"decoder_input_ids": torch.ones(2, 31).long()}, r"1 to 30 tokens .* got \[2, 31\]"),
        (
            {"decoder_input_ids": batch_of(7, 4), "decoder_attention_mask": torch.ones(2, 3)},
            r"must have the shape of `decoder_input_ids`, \[2, 7\]; got \[2, 3\]",
        ),
        (
            {"decoder_input_ids": batch_of(7, 4), "labels": labels_of(7, 5, 1)[:2, :6]},
            r"as long as `labels` in each row.*got \[7, 4\]",
        ),
    ],
)
def test_a_draft_that_does_not_fit_is_refused(model, source, options, message):
    with pytest.raises(ValueError, match=message):
        model(source, **options)


def test_a_draft_that_no_pass_would_read_is_refused(source, draft):
    with pytest.raises(ValueError, match="no pass reads tokens"):
        tokens_again(next_input="states")(source, decoder_input_ids=draft)


def test_vectors_in_the_place_of_ids_give_the_same(model, source):
    mask = (source != PAD).long()
    vectors = model.get_input_embeddings()(source)

    ids = model(source, attention_mask=mask).logits
    torch.testing.assert_close(model(inputs_embeds=vectors, attention_mask=mask).logits, ids)
    generated = model.generate(inputs_embeds=vectors, attention_mask=mask)
    assert generated.equal(model.generate(source, attention_mask=mask))


@pytest.mark.parametrize("both", [True, False])
def test_a_source_is_given_once(model, source, both):
    vectors = model.get_input_embeddings()(source)
    forms = {"input_ids": source, "inputs_embeds": vectors} if both else {}

    with pytest.raises(ValueError, match="as `input_ids` or `inputs_embeds`; got"):
        model(**forms)


def test_a_padding_token_between_words_is_a_word_and_left_padding_an_error():
    model = tokens_again()
    between = torch.tensor([[7, PAD, 9, 2, PAD]])

    mask = model.encode(between).mask

    assert mask.tolist() == [[True, True, True, True, False]]
    with pytest.raises(ValueError, match="padding at the right"):
        model.encode(torch.tensor([[PAD, 7, 9, 2]]))
