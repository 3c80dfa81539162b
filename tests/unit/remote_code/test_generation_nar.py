import pytest
import torch
from tiny_networks import EOS, PAD, batch_of, new_model, noisy_latents
from transformers import GenerationConfig

from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration

SPECIAL = (PAD, 1, 3, 4)


@pytest.fixture
def model() -> LaNMTForConditionalGeneration:
    model = new_model()
    noisy_latents(model)
    for name in ("latent_projection", "lm_head", "length_predictor.classifier"):
        torch.nn.init.normal_(model.get_submodule(name).weight, std=0.7)
    return model


def test_batched_and_one_by_one_give_the_same_tokens(model):
    source = batch_of(5, 12, 2, 9)

    together = model.generate(source, num_refinement_iterations=5, return_dict_in_generate=True)

    for i, length in enumerate([5, 12, 2, 9]):
        alone = model.generate(
            source[i : i + 1, :length], num_refinement_iterations=5, return_dict_in_generate=True
        )
        size = int(alone.lengths[0])
        assert together.lengths[i] == size
        assert together.iterations[i] == alone.iterations[0]
        assert torch.equal(together.sequences[i, :size], alone.sequences[0])
        torch.testing.assert_close(together.scores[i, :size], alone.scores[0])
    assert len(set(together.iterations.tolist())) > 1  # rows did stop at different times


def test_the_same_call_twice_is_equal(model):
    source = batch_of(5, 12)

    assert torch.equal(model.generate(source), model.generate(source))


def test_special_tokens_stand_only_where_they_belong(model):
    output = model.generate(batch_of(5, 12, 9), return_dict_in_generate=True)

    for row, length in zip(output.sequences, output.lengths, strict=True):
        assert row[length - 1] == EOS
        assert not set(row[: length - 1].tolist()) & {*SPECIAL, EOS}
        assert (row[length:] == PAD).all()


def test_scores_are_log_probabilities_and_history_holds_every_draft(model):
    output = model.generate(
        batch_of(5, 12), num_refinement_iterations=3, return_dict_in_generate=True
    )

    assert output.scores.shape == output.sequences.shape
    assert (output.scores <= 0).all()
    assert len(output.history) == 1 + int(output.iterations.max())


def test_no_iteration_gives_the_first_draft_of_forward(model):
    source = batch_of(6)

    output = model.generate(
        source,
        num_refinement_iterations=0,
        collapse_repeats=False,
        max_length=30,
        return_dict_in_generate=True,
    )

    forward = model(source)
    assert output.lengths.tolist() == forward.lengths.tolist()
    words = forward.logits[..., 5:].argmax(-1) + 5
    assert torch.equal(output.sequences[0, :-1], words[0, :-1])


@pytest.mark.parametrize(
    ("knobs", "other"),
    [
        ({"num_refinement_iterations": 0}, {"num_refinement_iterations": 1}),
        ({"collapse_repeats": False}, {"collapse_repeats": True}),
        ({"extra_length": 3}, {"extra_length": 0}),
        ({"max_length": 4}, {"max_length": 30}),
        ({"max_new_tokens": 4}, {"max_new_tokens": 30}),
        ({"stop_early": False, "max_length": 2}, {"stop_early": True, "max_length": 2}),
        ({"target_lengths": torch.tensor([4, 4, 4])}, {}),
    ],
)
def test_every_knob_changes_something(model, knobs, other):
    source = batch_of(9, 12, 5)
    shared = {"num_refinement_iterations": 6, "return_dict_in_generate": True}

    first, second = (model.generate(source, **{**shared, **each}) for each in (knobs, other))

    same_tokens = first.sequences.tolist() == second.sequences.tolist()
    assert not (same_tokens and first.iterations.tolist() == second.iterations.tolist())


def test_an_extra_length_is_added_to_predicted_lengths_only(model):
    source = batch_of(9, 12, 5)
    source[2, :] = PAD
    fixed = {"num_refinement_iterations": 0, "collapse_repeats": False, "max_length": 30}

    def lengths(**knobs):
        output = model.generate(source, **fixed, **knobs, return_dict_in_generate=True)
        return output.lengths.tolist()

    plain = lengths()
    assert lengths(extra_length=2) == [plain[0] + 2, plain[1] + 2, 1]
    assert lengths(extra_length=-99) == [1, 1, 1]
    known = torch.tensor([4, 5, 6])
    assert lengths(extra_length=2, target_lengths=known) == [4, 5, 6]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"num_beams": 4}, "`num_beams` has no meaning.*use|`num_refinement_iterations`"),
        ({"do_sample": True}, "`do_sample` has no meaning"),
        ({"temperature": 0.5}, "`temperature` has no meaning"),
        ({"num_return_sequences": 2}, "see `history`"),
        ({"repetition_penalty": 1.2}, "`collapse_repeats=True` removes"),
        ({"num_refinement_iteration": 2}, "did you mean `num_refinement_iterations`"),
        ({"max_lenght": 2}, "did you mean `max_length`"),
        ({"refinement": "mask_predict"}, "it supports: delta_posterior"),
        ({"num_refinement_iterations": -1}, "Use 0 to decode from the prior mean"),
        ({"max_length": 0}, "`max_length` must be at least 1"),
        ({"streamer": object()}, "read `history`"),
        ({"logits_processor": [object()]}, "`logits_processor` must be empty"),
        ({"num_refinement_iteration": None}, "did you mean `num_refinement_iterations`"),
        ({"num_refinement_iterations": 1.5}, "`num_refinement_iterations` must be an integer"),
        ({"max_length": 4.5}, "`max_length` must be an integer"),
        ({"collapse_repeats": "no"}, "`collapse_repeats` must be True or False"),
        ({"extra_length": 1.5}, "`extra_length` must be an integer"),
        ({"extra_length": True}, "`extra_length` must be an integer"),
        ({"stop_early": 0}, "`stop_early` must be True or False"),
        ({"eos_token_id": 9}, "`eos_token_id` must be the one that the model was trained with, 2"),
        ({"output_attentions": True}, "`output_attentions` has no meaning"),
        ({"suppress_tokens": [7]}, "`suppress_tokens` has no meaning"),
        ({"target_lengths": [4]}, "`target_lengths` must be a tensor of whole numbers, got list"),
        ({"target_lengths": torch.tensor([4, 4])}, "`target_lengths` must be a tensor of 1"),
        ({"target_lengths": torch.tensor([4.0])}, "whole numbers, got torch.float32"),
        ({"target_lengths": torch.tensor([0])}, "at least 1 for its end token"),
        (
            {"generation_config": GenerationConfig(num_refinement_iteration=0)},
            "did you mean `num_refinement_iterations`",
        ),
        ({"generation_config": GenerationConfig(num_beams=4)}, "`num_beams` has no meaning"),
    ],
)
def test_wrong_knobs_are_refused_with_what_to_do(model, knobs, message):
    with pytest.raises(ValueError, match=message):
        model.generate(batch_of(5), **knobs)


def test_harmless_knobs_of_the_library_are_accepted(model):
    source = batch_of(5, 9)
    expected = model.generate(source)

    output = model.generate(
        input_ids=source,
        num_return_sequences=1,
        streamer=None,
        num_beams=1,
        do_sample=False,
        use_cache=True,
        synced_gpus=False,
        labels=source,
        logits_processor=None,
    )

    assert torch.equal(output, expected)


def test_the_source_must_be_given_once(model):
    with pytest.raises(ValueError, match="got neither"):
        model.generate()
    with pytest.raises(ValueError, match="got both"):
        model.generate(batch_of(5), input_ids=batch_of(5))


def test_knobs_survive_saving(model, tmp_path):
    model.generation_config.num_refinement_iterations = 4
    model.generation_config.collapse_repeats = False
    model.save_pretrained(tmp_path)

    loaded = LaNMTForConditionalGeneration.from_pretrained(tmp_path).eval()

    assert loaded.generation_config.num_refinement_iterations == 4
    assert loaded.generation_config.collapse_repeats is False
    source = batch_of(9, 12)
    assert torch.equal(loaded.generate(source), model.generate(source))


def test_a_generation_config_of_the_call_wins_and_is_not_changed(model):
    source = batch_of(9, 12)
    config = GenerationConfig(num_refinement_iterations=0, max_length=30)
    before = config.to_dict()

    output = model.generate(source, generation_config=config, return_dict_in_generate=True)

    assert output.iterations.tolist() == [0, 0]
    assert config.to_dict() == before


@pytest.mark.parametrize("row", [[EOS], [PAD, PAD], [1, EOS, PAD], [4, 3, PAD, EOS]])
def test_a_source_without_words_has_an_empty_translation(model, row):
    source = batch_of(4, 3)
    source[1] = torch.tensor(row + [PAD] * (4 - len(row)))

    output = model.generate(source, num_refinement_iterations=3, return_dict_in_generate=True)

    assert output.sequences[1, :2].tolist() == [EOS, PAD]
    assert torch.isfinite(output.scores).all()
    alone = model.generate(source[:1], num_refinement_iterations=3)
    assert torch.equal(output.sequences[:1, : alone.shape[1]], alone)


def test_a_source_of_one_token_and_a_source_at_the_limit_work(model):
    assert model.generate(torch.tensor([[7]])).shape[0] == 1
    assert model.generate(batch_of(30)).shape[1] <= 30


def test_a_misspelt_knob_in_the_models_own_config_is_refused(model):
    model.generation_config.colapse_repeats = False

    with pytest.raises(ValueError, match="did you mean `collapse_repeats`"):
        model.generate(batch_of(5))


def test_a_length_of_the_call_wins_over_any_of_the_configs(model):
    source = batch_of(12, 9)
    config = GenerationConfig(max_new_tokens=20)
    model.generation_config.max_length = 5

    of_call = model.generate(source, generation_config=config, max_length=3)
    of_config = model.generate(source, generation_config=GenerationConfig())

    assert of_call.shape[1] <= 3
    assert of_config.shape[1] <= 5


@pytest.mark.parametrize(
    ("source", "mask", "message"),
    [
        (torch.tensor([[7, 60]]), None, "in \\[0, 60\\), the model's vocabulary"),
        (torch.tensor([[-1, 7]]), None, "Use the model's own tokenizer"),
        ("Ein Hund", None, "Tokenize text with return_tensors='pt'"),
        (torch.tensor([[1.0]]), None, "whole numbers, got torch.float32"),
        (torch.tensor([[PAD, 7]]), torch.tensor([[0, 1]]), "padding_side='right'"),
        (torch.tensor([[7, 8]]), torch.tensor([[1]]), "must have the shape of `input_ids`"),
    ],
)
def test_a_source_that_would_be_misread_is_refused(model, source, mask, message):
    with pytest.raises(ValueError, match=message):
        model.generate(source, attention_mask=mask)
