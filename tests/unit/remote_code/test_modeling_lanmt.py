import copy

import pytest
import torch
from safetensors import safe_open
from tiny_networks import EOS, PAD, VOCABULARY, batch_of, new_model, noisy_latents

from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration


def test_padding_changes_nothing_even_if_it_is_poisoned():
    model = new_model()
    source, target = batch_of(6), batch_of(4, seed=1)
    wide = torch.cat([source, torch.full((1, 5), 33)], dim=1)  # words where padding should be
    mask = torch.tensor([[1] * 6 + [0] * 5])
    labels = torch.cat([target, torch.full((1, 3), -100)], dim=1)

    alone = model(source, labels=target)
    padded = model(wide, attention_mask=mask, labels=labels)

    torch.testing.assert_close(padded.logits[:, :4], alone.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(padded.loss, alone.loss)
    for name in ("word_loss", "kl", "kl_loss", "length_loss"):
        torch.testing.assert_close(padded[name], alone[name])


def test_the_loss_of_a_batch_is_the_mean_over_target_tokens_of_its_rows():
    model = new_model(kl_budget=0.0)
    source, target = batch_of(6, 9, 2), batch_of(4, 3, 8, padding=-100, seed=1)

    together = model(source, labels=target).loss * 15

    alone = [
        model(source[i : i + 1, :n], labels=target[i : i + 1, :m]).loss * m
        for i, (n, m) in enumerate([(6, 4), (9, 3), (2, 8)])
    ]
    torch.testing.assert_close(together, sum(alone), rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_sum_of_its_terms_over_the_same_number_of_tokens():
    model = new_model()
    source, target = batch_of(6, 3), batch_of(4, 5, padding=-100, seed=1)

    output = model(source, labels=target)

    word, kl, length = output.word_loss * 9, output.kl_loss * 9, output.length_loss * 2
    torch.testing.assert_close(output.loss, (word + kl + length) / 9)
    assert output.kl_loss >= 1.0 > output.kl  # the budget is a floor


def test_the_kl_budget_of_a_call_wins_over_the_configs():
    model = new_model(kl_budget=1.0)
    source, target = batch_of(6), batch_of(4, seed=1)

    assert model(source, labels=target).kl_loss == pytest.approx(1.0)
    assert model(source, labels=target, kl_budget=7.0).kl_loss == pytest.approx(7.0)
    no_budget = model(source, labels=target, kl_budget=0.0)
    torch.testing.assert_close(no_budget.kl_loss, no_budget.kl)


def test_latents_are_sampled_in_training_and_not_in_evaluation():
    model = new_model(dropout=0.0, activation_dropout=0.0, attention_dropout=0.0)
    source, target = batch_of(6), batch_of(4, seed=1)

    evaluated = [model(source, labels=target).logits for _ in range(2)]
    trained = [model.train()(source, labels=target).logits for _ in range(2)]

    assert torch.equal(*evaluated)
    assert not torch.allclose(*trained)


def test_the_posterior_sees_noise_in_training_only():
    source, labels = batch_of(6, 5), batch_of(7, 6)
    labels[labels == 0] = -100
    plain, noised = new_model(dropout=0.0), new_model(dropout=0.0, posterior_noise=0.9)

    def posterior_of(model):
        return model(source, labels=labels).posterior_mean

    assert posterior_of(noised).equal(posterior_of(plain))
    for model in (plain, noised):
        model.train()
    assert not torch.allclose(posterior_of(noised), posterior_of(plain))


def test_every_parameter_learns_and_cross_attention_has_weights_of_its_own():
    model = new_model(kl_budget=0.0).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    model(batch_of(6, 8), labels=batch_of(4, 7, padding=-100, seed=1)).loss.backward()
    optimizer.step()

    names = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert names == []
    assert any("decoder.layers.0.cross_attn.kv_proj" in name for name in before)


@pytest.mark.parametrize("with_labels", [True, False])
def test_attention_implementations_agree(with_labels):
    model = new_model()
    noisy_latents(model)
    other = copy.deepcopy(model)
    other.set_attn_implementation("eager")
    labels = batch_of(4, 7, padding=-100, seed=1) if with_labels else None
    source = batch_of(6, 9)

    ours, theirs = model(source, labels=labels), other(source, labels=labels)

    assert (model.config._attn_implementation, other.config._attn_implementation) == (
        "sdpa",
        "eager",
    )
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=1e-5)


def test_attention_looks_both_ways_without_a_mask():
    model = new_model()
    source = batch_of(6)
    changed = source.clone()
    changed[0, 4] = (changed[0, 4] + 1) % VOCABULARY

    first = model.encode(source).states[0, 0]

    assert not torch.allclose(first, model.encode(changed).states[0, 0])


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant):
    gradients = []
    for checkpointing in (False, True):
        model = new_model(dropout=0.0, activation_dropout=0.0, attention_dropout=0.0).train()
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", None)  # the name of 5.23
            (enable or model.gradient_checkpointing_enable)({"use_reentrant": reentrant})
        torch.manual_seed(1)
        model(batch_of(6, 8), labels=batch_of(4, 7, padding=-100, seed=1)).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})

    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_bfloat16_computes_the_loss_in_float32_and_near_float32s():
    model = new_model()
    source, labels = batch_of(6, 9), batch_of(4, 7, padding=-100, seed=1)
    exact = model(source, labels=labels).loss

    half = model.bfloat16()(source, labels=labels)

    assert half.logits.dtype == torch.bfloat16
    assert half.loss.dtype == torch.float32
    torch.testing.assert_close(half.loss, exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("tie", [True, False])
def test_saved_once_and_loaded_whole_however_embeddings_are_shared(tmp_path, share, tie):
    model = new_model(share_embeddings=share, tie_word_embeddings=tie)
    noisy_latents(model)
    source, labels = batch_of(6, 9), batch_of(4, 7, padding=-100, seed=1)

    model.save_pretrained(tmp_path)
    loaded, info = LaNMTForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        names = file.keys()
        tables = [name for name in names if "embeddings" in name or "lm_head.w" in name]
    expected = {"source_embeddings.weight", "length_embeddings.weight"}
    expected |= set() if share else {"target_embeddings.weight"}
    expected |= set() if tie else {"lm_head.weight"}
    assert set(tables) == expected
    assert not info["missing_keys"]
    torch.testing.assert_close(
        loaded.eval()(source, labels=labels).logits, model(source, labels=labels).logits
    )


def test_resizing_the_vocabulary_keeps_training_possible():
    model = new_model()

    model.resize_token_embeddings(VOCABULARY + 8)

    output = model(batch_of(6), labels=torch.tensor([[VOCABULARY + 7, EOS]]))
    assert output.logits.shape[-1] == VOCABULARY + 8 == model.config.vocab_size
    assert torch.isfinite(output.loss)


def test_separate_vocabularies_cannot_be_resized_silently():
    with pytest.raises(ValueError, match="only if source and target share embeddings"):
        new_model(share_embeddings=False).resize_token_embeddings(VOCABULARY + 8)


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="kl_bugdet"):
        new_model()(batch_of(6), kl_bugdet=0.0)


@pytest.mark.parametrize(
    ("source", "labels", "message"),
    [
        (torch.full((1, 31), 7), None, "Source has 31 tokens, but the model takes at most 30"),
        (torch.full((1, 5), 7), torch.full((1, 31), 7), "Labels have 31 tokens"),
        (torch.zeros(1, 0).long(), None, "at least one token"),
        (torch.zeros(4).long(), None, r"\[batch, source_len\]"),
    ],
)
def test_input_that_does_not_fit_is_refused(source, labels, message):
    with pytest.raises(ValueError, match=message):
        new_model()(source, labels=labels)


def test_rows_of_padding_and_empty_targets_give_no_nan():
    model = new_model().train()
    source = batch_of(6, 2)
    source[1] = PAD
    labels = batch_of(4, 2, padding=-100, seed=1)
    labels[1] = -100

    output = model(source, labels=labels)
    output.loss.backward()

    assert torch.isfinite(output.loss)
    gradients = [value.grad for value in model.parameters()]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
