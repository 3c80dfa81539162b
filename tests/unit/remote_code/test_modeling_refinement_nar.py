import copy
from dataclasses import replace

import pytest
import torch
from tiny_networks import EOS, PAD, VOCABULARY, batch_of
from tiny_refinement import make_lively, new_refinement_model

from hf_nar.remote_code.losses_nar import word_loss_sum
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration
from hf_nar.remote_code.refinement_iterative import IterativeRefinement

VIT = {
    "model_type": "vit",
    "hidden_size": 12,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 1,
}
RESNET = {
    "model_type": "resnet",
    "num_channels": 1,
    "embedding_size": 8,
    "hidden_sizes": [8, 12],
    "depths": [1, 1],
    "layer_type": "basic",
}
VARIANTS = [
    {},
    {"num_decoders": 1},
    {"num_decoders": 3},
    {"share_embeddings": False},
    {"share_embeddings": False, "num_decoders": 1},
    {"share_embeddings": False, "num_decoders": 3, "tie_word_embeddings": False},
    {"cross_attention": "last", "num_encoder_layers": 1},
    {"num_decoder_layers": 3},
    {"next_input": "states", "share_embeddings": False},
    {"num_training_passes": 1, "num_decoders": 1, "share_embeddings": False},
    {"num_encoder_layers": 3},
    {"feed_forward": "highway"},
    {"first_input": "soft_copy"},
    {"first_input": "mean"},
    {"next_input": "tokens"},
    {"next_input": "states"},
    {"sample_drafts": True},
    {"stop_gradient": False},
]
OF_TRAINING = ({"sample_drafts": True}, {"stop_gradient": False})
NO_DROPOUT = {"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}


def labels_of(*lengths):
    return batch_of(*lengths, padding=-100, seed=1)


def test_padding_changes_nothing_even_if_it_is_poisoned():
    model = new_refinement_model()
    source, target = batch_of(6), batch_of(4, seed=1)
    wide = torch.cat([source, torch.full((1, 5), 33)], dim=1)  # words where padding should be
    mask = torch.tensor([[1] * 6 + [0] * 5])
    labels = torch.cat([target, torch.full((1, 3), -100)], dim=1)

    alone = model(source, labels=target)
    padded = model(wide, attention_mask=mask, labels=labels)

    torch.testing.assert_close(padded.logits[:, :4], alone.logits, atol=1e-5, rtol=1e-5)
    for name in ("loss", "word_loss", "first_pass_loss", "last_pass_loss", "length_loss"):
        torch.testing.assert_close(padded[name], alone[name])


def test_the_loss_of_a_batch_is_the_mean_over_target_tokens_of_its_rows():
    model = new_refinement_model()
    source, target = batch_of(6, 9, 2), labels_of(4, 3, 8)

    together = model(source, labels=target).loss * 15

    alone = [
        model(source[i : i + 1, :n], labels=target[i : i + 1, :m]).loss * m
        for i, (n, m) in enumerate([(6, 4), (9, 3), (2, 8)])
    ]
    torch.testing.assert_close(together, sum(alone), rtol=1e-4, atol=1e-4)


def test_the_loss_is_the_sum_over_passes_and_the_length():
    model = new_refinement_model(num_training_passes=3, label_smoothing=0.0)
    source, labels = batch_of(6, 3), labels_of(4, 5)

    output = model(source, labels=labels)

    word, length = output.word_loss * 3, output.length_loss * 2 / 9
    torch.testing.assert_close(output.loss, word + length)
    last = word_loss_sum(output.logits, labels, 0.0) / 9
    torch.testing.assert_close(output.last_pass_loss, last)


def test_training_reads_what_decoding_reads():
    """With the reference's length, pass by pass, evaluation with labels is decoding."""
    model = new_refinement_model(num_training_passes=3, label_smoothing=0.0)
    make_lively(model)
    source = batch_of(6, 8)
    with torch.no_grad():
        model.lm_heads[0].bias[:5] = -1e4  # where no special token can win, both see the same
        encoded = model.encode(source, target_lengths=torch.tensor([4, 7]))
        strategy = IterativeRefinement(iterations=2)
        state = strategy.draft(model, encoded)
        for _ in range(2):
            state = strategy.refine(model, encoded, state)

        labels = state.tokens.masked_fill(~state.target_mask, -100)
        logits = model(source, labels=labels).logits

    words = state.target_mask & (state.tokens != EOS)
    assert torch.equal(logits.argmax(-1)[words], state.tokens[words])


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_every_parameter_learns(options):
    model = new_refinement_model(**options).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    model(batch_of(6, 8), labels=labels_of(4, 7)).loss.backward()
    optimizer.step()

    names = [name for name, value in model.named_parameters() if torch.equal(value, before[name])]
    assert names == []


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_saved_model_is_the_same(options, tmp_path):
    model = new_refinement_model(**options)
    source = batch_of(6, 8)

    model.save_pretrained(tmp_path)
    loaded = RefinementNARForConditionalGeneration.from_pretrained(tmp_path)

    knobs = {"num_refinement_iterations": 4}
    assert loaded.generate(source, **knobs).tolist() == model.generate(source, **knobs).tolist()


@pytest.mark.parametrize("options", [v for v in VARIANTS[1:] if v not in OF_TRAINING], ids=str)
def test_each_choice_of_shape_changes_what_is_computed(options):
    """Only the loss in evaluation can tell, and weights of the same names are the same."""
    plain, other = new_refinement_model(), new_refinement_model(**options)
    known = plain.state_dict()
    shared = {
        name: known[name] if name in known and known[name].shape == value.shape else value
        for name, value in other.state_dict().items()
    }
    other.load_state_dict(shared)
    source, labels = batch_of(6, 8), labels_of(4, 7)

    losses = [model(source, labels=labels).loss for model in (plain, other)]

    assert not torch.allclose(*losses)


def grads_of_first_pass(**options):
    """Return the gradient that reaches the first decoder from the last of two passes alone."""
    model = new_refinement_model(num_training_passes=2, **NO_DROPOUT, **options)
    output = model(batch_of(6), labels=batch_of(4, seed=1))
    last = word_loss_sum(output.logits, batch_of(4, seed=1), 0.0)
    weight = model.decoders[0].layers[0].feed_forward.fc1.weight
    return torch.autograd.grad(last, weight, allow_unused=True)[0]


def test_gradients_stop_between_passes_unless_they_are_let_through():
    assert grads_of_first_pass(stop_gradient=True) is None
    assert grads_of_first_pass(stop_gradient=False).abs().sum() > 0


def seen_drafts(model, monkeypatch, **kwargs):
    """Train once; return the tokens that the second pass read, of many equal rows."""
    seen = []
    original = model._next_input
    monkeypatch.setattr(
        model, "_next_input", lambda number, t, s: seen.append(t) or original(number, t, s)
    )
    source, labels = batch_of(6).expand(64, -1), batch_of(9, seed=1).expand(64, -1)
    model.train()(source, labels=labels, **kwargs)
    return seen, labels


def test_the_denoising_share_decides_how_many_rows_read_the_corrupted_reference(monkeypatch):
    options = {"num_training_passes": 2, "corruption_rates": [0.0], **NO_DROPOUT}

    for share, low, high in ((0.0, 0, 0), (0.5, 20, 44), (1.0, 64, 64)):
        model = new_refinement_model(denoising_share=share, **options)
        seen, labels = seen_drafts(model, monkeypatch)
        assert low <= int((seen[0] == labels).all(-1).sum()) <= high


def test_corruption_rates_go_by_pass_and_are_scaled_by_the_call(monkeypatch):
    options = {"denoising_share": 1.0, "num_training_passes": 3, **NO_DROPOUT}
    options |= {"corruption_rates": [1.0, 0.2], "corruption_weights": {"replace": 1.0}}

    def shares(**kwargs):
        seen, labels = seen_drafts(new_refinement_model(**options), monkeypatch, **kwargs)
        return [(tokens != labels).float().mean().item() for tokens in seen[:2]]

    first, second = shares()
    assert 0.75 < first <= 8 / 9  # all words; a random one may be the same
    assert 0.05 < second < 0.15  # 1 of 8


def test_a_scale_of_the_call_lowers_how_many_rows_read_the_reference(monkeypatch):
    options = {"denoising_share": 1.0, "num_training_passes": 2, "corruption_rates": [0.0]}

    def count(scale):
        model = new_refinement_model(**options, **NO_DROPOUT)
        seen, labels = seen_drafts(model, monkeypatch, corruption_scale=scale)
        return int((seen[0] == labels).all(-1).sum())

    assert count(1.0) == 64
    assert 20 <= count(0.5) <= 44
    assert count(0.0) == 0
    with pytest.raises(ValueError, match=r"`corruption_scale` must be in \[0, 1\], got 2.0"):
        count(2.0)


def test_sampled_drafts_differ_from_row_to_row(monkeypatch):
    options = {"denoising_share": 0.0, "num_training_passes": 2, **NO_DROPOUT}

    for is_sampled in (False, True):
        model = new_refinement_model(sample_drafts=is_sampled, **options)
        rows = {tuple(row.tolist()) for row in seen_drafts(model, monkeypatch)[0][0]}
        assert (len(rows) > 1) == is_sampled


def test_end_token_and_padding_of_what_is_read_are_always_the_references(monkeypatch):
    model = new_refinement_model(corruption_rates=[0.9], sample_drafts=True)
    seen = []
    original = model._next_input
    monkeypatch.setattr(
        model, "_next_input", lambda number, t, s: seen.append(t) or original(number, t, s)
    )
    labels = labels_of(4, 9, 1)

    model.train()(batch_of(6, 3, 5), labels=labels)

    assert len(seen) == 3
    for tokens in seen:
        assert [row.tolist()[n - 1 :] for row, n in zip(tokens, (4, 9, 1), strict=True)] == [
            [EOS] + [PAD] * 5,
            [EOS],
            [EOS] + [PAD] * 8,
        ]


def test_evaluation_is_deterministic_and_training_follows_its_seed():
    model = new_refinement_model(sample_drafts=True)
    source, labels = batch_of(6, 8), labels_of(4, 7)

    def losses(count):
        torch.manual_seed(7)
        return [model(source, labels=labels).loss.item() for _ in range(count)]

    assert len(set(losses(2))) == 1
    model.train()
    assert losses(2) == losses(2)
    assert len(set(losses(2))) == 2


@pytest.mark.parametrize("with_labels", [True, False])
def test_attention_implementations_agree(with_labels):
    model = new_refinement_model()
    make_lively(model)
    other = copy.deepcopy(model)
    other.set_attn_implementation("eager")
    labels = labels_of(4, 7) if with_labels else None
    source = batch_of(6, 9)

    ours, theirs = model(source, labels=labels), other(source, labels=labels)

    assert other.config._attn_implementation == "eager"
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-4, rtol=1e-4)


def test_checkpointed_gradients_are_the_same():
    model = new_refinement_model(**NO_DROPOUT).train()
    other = copy.deepcopy(model)
    enable = getattr(other, "activation_checkpointing_enable", other.gradient_checkpointing_enable)
    enable()
    grads = []
    for each in (model, other):
        torch.manual_seed(3)
        each(batch_of(6, 8), labels=labels_of(4, 7)).loss.backward()
        grads.append({name: value.grad for name, value in each.named_parameters()})

    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, msg=name)


@pytest.mark.parametrize(("vision", "size", "positions"), [(VIT, (8, 8), 5), (RESNET, (16, 24), 6)])
def test_pictures_go_through_any_vision_encoder(vision, size, positions, tmp_path):
    model = new_refinement_model(vision_config=vision, max_length_offset=15, first_input="mean")
    pictures = torch.rand(3, 1, *size)

    with torch.no_grad():
        source = model.encode(pixel_values=pictures)
        output = model.generate(pixel_values=pictures, return_dict_in_generate=True)

    assert source.states.shape == (3, positions, 16)
    assert output.sequences.tolist() == model.generate(pictures).tolist()
    alone = model.generate(pictures[1:2], return_dict_in_generate=True)
    assert output.lengths[1] == alone.lengths[0]
    model.train()(pixel_values=pictures, labels=labels_of(4, 7, 2)).loss.backward()
    assert all(value.grad is not None for _, value in model.length_predictor.named_parameters())
    unread = [name for name, value in model.named_parameters() if value.grad is None]
    assert unread == []
    model.eval().save_pretrained(tmp_path)
    loaded = RefinementNARForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value.to(loaded.state_dict()[name].dtype))
    assert loaded.generate(pixel_values=pictures).shape[0] == 3  # of another dtype than the weights


def test_a_dtype_in_a_copied_vision_config_does_not_matter():
    model = new_refinement_model(vision_config={**VIT, "dtype": "bfloat16", "torch_dtype": "half"})

    assert {value.dtype for value in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vision_config": VIT, "feature_size": 9}, "must be the vision encoder's 12, or 0; got 9"),
        ({"vision_config": {"model_type": "clip"}}, "such as clip_vision_model"),
    ],
)
def test_a_vision_encoder_whose_vectors_do_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        new_refinement_model(**options)


@pytest.mark.parametrize("share", [True, False])
def test_vectors_of_a_picture_are_a_source(share, tmp_path):
    model = new_refinement_model(feature_size=6, share_embeddings=share, max_length_offset=15)
    make_lively(model)
    vectors = torch.randn(2, 9, 6)

    output = model.generate(inputs_embeds=vectors, return_dict_in_generate=True)

    assert output.sequences.tolist() == model.generate(vectors).tolist()
    model.save_pretrained(tmp_path)
    loaded = RefinementNARForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.generate(vectors).tolist() == model.generate(vectors).tolist()
    names = [name for name, _ in model.named_parameters()]
    assert any("source_embeddings" in name for name in names) == share


def test_padding_of_vectors_changes_nothing_and_a_row_of_padding_is_possible():
    model = new_refinement_model(feature_size=6, max_length_offset=15)
    make_lively(model)
    vectors = torch.randn(2, 9, 6)
    mask = torch.tensor([[1] * 5 + [0] * 4, [0] * 9])
    poisoned = vectors.masked_fill(mask[..., None] == 0, 9.0)
    fixed = {"attention_mask": mask, "return_dict_in_generate": True}

    outputs = [model.generate(inputs_embeds=each, **fixed) for each in (vectors, poisoned)]

    size = int(outputs[0].lengths[0])
    assert torch.equal(*(output.sequences[0, :size] for output in outputs))
    assert torch.isfinite(outputs[1].scores).all()
    alone = model.generate(inputs_embeds=vectors[:1, :5])
    assert alone.tolist() == outputs[0].sequences[:1, :size].tolist()


def test_the_embeddings_of_a_model_that_reads_images_can_be_replaced():
    model = new_refinement_model(feature_size=6, share_embeddings=False)
    table = torch.nn.Embedding(60, 16)

    model.set_input_embeddings(table)

    assert model.get_input_embeddings() is table is model.target_embeddings["1"]


def test_the_length_of_a_caption_does_not_count_from_the_size_of_its_picture():
    model = new_refinement_model(feature_size=6, max_length_offset=15)
    logits = torch.zeros(2, 31)
    logits[0, 12] = logits[1, 3] = 1.0
    source = model.encode(inputs_embeds=torch.randn(2, 9, 6))

    model.first_length_logits = lambda source: logits

    assert model.predict_length(source).tolist() == [12, 3]


def test_embeddings_of_text_can_be_given_in_the_place_of_ids():
    model = new_refinement_model()
    make_lively(model)
    source = batch_of(6, 9)
    mask = (source != PAD).long()
    vectors = model.source_embeddings(source).detach()

    by_ids, by_vectors = (
        model.generate(attention_mask=mask, **form)
        for form in ({"input_ids": source}, {"inputs_embeds": vectors})
    )

    assert by_ids.tolist() == by_vectors.tolist()


@pytest.mark.parametrize(
    ("options", "source", "message"),
    [
        ({}, {"pixel_values": torch.rand(1, 1, 8, 8)}, "to this model as `input_ids`"),
        ({"vision_config": VIT}, {"input_ids": batch_of(4)}, "to this model as `pixel_values`"),
        (
            {"feature_size": 6},
            {"pixel_values": torch.rand(1, 1, 8, 8)},
            "as `inputs_embeds`; got p",
        ),
        (
            {"vision_config": VIT},
            {"pixel_values": torch.ones(1, 1, 8, 8).byte()},
            "Use the model's image processor",
        ),
        ({}, {"input_ids": batch_of(4), "inputs_embeds": torch.rand(1, 4, 16)}, "source once"),
        ({}, {}, "source once"),
        ({"feature_size": 6}, {"inputs_embeds": torch.rand(1, 4, 7)}, r"source_len, 6\], got"),
        ({"feature_size": 6}, {"inputs_embeds": torch.rand(4, 6)}, r"source_len, 6\], got"),
        ({"feature_size": 6}, {"inputs_embeds": torch.rand(1, 31, 6)}, "1 to 30 positions"),
        ({"feature_size": 6}, {"inputs_embeds": torch.ones(1, 4, 6).long()}, "tensor of numbers"),
        (
            {"feature_size": 6},
            {"inputs_embeds": torch.rand(1, 4, 6), "attention_mask": torch.ones(1, 5)},
            "one value for each source position",
        ),
    ],
)
def test_a_source_in_the_wrong_form_is_refused(options, source, message):
    with pytest.raises(ValueError, match=message):
        new_refinement_model(**options).generate(**source)


def test_a_state_of_another_strategy_is_refused():
    model = new_refinement_model()
    source = model.encode(batch_of(4))
    state = IterativeRefinement().draft(model, source)

    with pytest.raises(ValueError, match="must come from this model's `decode_first`"):
        model.decode_again(replace(state, states=None), source)


def test_a_knob_of_another_strategy_is_refused():
    from tiny_networks import new_model

    with pytest.raises(
        ValueError, match='`jaccard_threshold` has no meaning for the refinement "d'
    ):
        new_model().generate(batch_of(4), jaccard_threshold=0.5)


def test_vectors_of_another_dtype_are_read():
    model = new_refinement_model(feature_size=6, max_length_offset=15).to(torch.bfloat16)

    assert model.generate(inputs_embeds=torch.randn(2, 9, 6)).shape[0] == 2


def test_padding_at_the_left_is_refused_also_without_a_mask():
    source = torch.tensor([[PAD, PAD, 7, 8, EOS], [7, 8, 9, 7, EOS]])

    with pytest.raises(ValueError, match="padding at the right"):
        new_refinement_model().generate(source)


def test_decoder_layers_read_encoder_layers_from_the_first_to_the_last():
    for num_encoder, num_decoder, expected in (
        (2, 3, [0, 0, 1]),
        (3, 3, [0, 1, 2]),
        (3, 2, [0, 2]),
    ):
        model = new_refinement_model(num_encoder_layers=num_encoder, num_decoder_layers=num_decoder)
        states = [torch.full((1, 2, 16), float(i)) for i in range(num_encoder)]
        decoder = model.decoders[0]
        pairs = zip(decoder.layers, decoder.project_memory(states), strict=True)
        found = [
            next(
                i
                for i, state in enumerate(states)
                if torch.equal(key, layer.cross_attn.project_memory(state)[0])
            )
            for layer, (key, _) in pairs
        ]
        assert found == expected


def test_the_vocabulary_can_be_resized_where_embeddings_are_shared():
    model = new_refinement_model()

    model.resize_token_embeddings(VOCABULARY + 3)

    assert model(batch_of(4)).logits.shape[-1] == VOCABULARY + 3
    with pytest.raises(ValueError, match="`share_embeddings` is False here"):
        new_refinement_model(share_embeddings=False).resize_token_embeddings(70)
