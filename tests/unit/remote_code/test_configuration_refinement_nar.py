import pytest

from hf_nar.remote_code.configuration_refinement_nar import PRESETS, RefinementNARConfig
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_decoders": 0}, "`num_decoders` must be at least 1, got 0"),
        ({"num_training_passes": 1.5}, "`num_training_passes` must be an integer"),
        ({"cross_attention": "first"}, "`cross_attention` must be one of layer_to_layer, last"),
        ({"feed_forward": "gated"}, "`feed_forward` must be one of residual, highway"),
        ({"first_input": "random"}, "`first_input` must be one of copy, soft_copy, mean"),
        ({"next_input": "all"}, "`next_input` must be one of both, tokens, states"),
        ({"soft_copy_std": 0.0}, "`soft_copy_std` must be above 0.001"),
        ({"denoising_share": 1.5}, r"`denoising_share` must be in \[0, 1\]"),
        ({"sample_drafts": 1}, "`sample_drafts` must be true or false"),
        ({"corruption_rates": [0.1, 0.2]}, "one rate, or one for each of the 3 drafts"),
        ({"corruption_rates": []}, "one rate, or one for each of the 3 drafts"),
        ({"corruption_rates": [1.5]}, r"`corruption_rates` must be in \[0, 1\], got 1.5"),
        ({"corruption_weights": {"shuffle": 1.0}}, "must name operations, got `shuffle`"),
        ({"corruption_weights": {"swap": -1.0}}, "`corruption_weights` must be numbers of at lea"),
        ({"corruption_weights": {"swap": 0.0}}, "finite and not all 0"),
        ({"corruption_weights": {"swap": float("inf")}}, "finite and not all 0"),
        ({"corruption_weights": {"swap": "x"}}, "`corruption_weights` must be numbers"),
        ({"num_decoders": 5}, "at most `num_training_passes`.*got 5 and 4. Lower one"),
        ({"num_training_passes": 1}, "got 2 and 1"),
        (
            {"next_input": "states", "share_embeddings": False, "tie_word_embeddings": False},
            "Embeddings of drafts that nothing reads must be tied",
        ),
        ({"soft_copy_std": float("nan")}, "`soft_copy_std` must be above 0.001"),
        ({"feature_size": -1}, "`feature_size` must be an integer and not negative"),
        ({"vision_config": {"hidden_size": 8}}, "must name a vision model of transformers"),
        ({"d_model": 15, "num_attention_heads": 5}, "`d_model` must be even"),
        ({"pad_token_id": 2}, "`pad_token_id` and `eos_token_id` must differ"),
    ],
)
def test_a_wrong_field_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        RefinementNARConfig(**options)


def test_a_config_survives_saving(tmp_path):
    config = RefinementNARConfig(
        num_decoders=3,
        corruption_rates=[0.6, 0.3, 0.1],
        corruption_weights={"drop": 2.0},
        vision_config={"model_type": "vit", "hidden_size": 16},
    )

    config.save_pretrained(tmp_path)

    loaded = RefinementNARConfig.from_pretrained(tmp_path)
    assert loaded.corruption_rates == [0.6, 0.3, 0.1]
    assert loaded.corruption_weights == {"drop": 2.0}
    assert loaded.vision_config == {"model_type": "vit", "hidden_size": 16}
    assert loaded.to_diff_dict() == config.to_diff_dict()


def test_two_configs_do_not_share_their_lists():
    RefinementNARConfig().corruption_rates.append(0.9)

    assert RefinementNARConfig().corruption_rates == [0.1]


@pytest.mark.parametrize("rates", [0.1, ["0.1"], [True], None])
def test_rates_must_be_a_list_of_numbers(rates):
    with pytest.raises((ValueError, TypeError), match="corruption_rates"):
        RefinementNARConfig(corruption_rates=rates)


# Stacks without embeddings and length predictor, as computed from the authors' code (with their
# two feed-forward networks in each highway block). Ours has a layer norm more in each stack, since
# norms come before the blocks: 2 d for the encoder and for each of the two decoders.
@pytest.mark.parametrize(
    ("name", "encoder", "decoder"),
    [("iwslt16", 4_383_570, 7_491_610), ("wmt", 12_619_776, 25_239_552)],
)
def test_presets_have_the_sizes_of_the_authors(name, encoder, decoder):
    config = RefinementNARConfig.preset(name, vocab_size=10)
    model = RefinementNARForConditionalGeneration(config)

    def count(part):
        return sum(parameter.numel() for parameter in part.parameters())

    assert count(model.encoder) == encoder + 2 * config.d_model
    assert [count(part) for part in model.decoders] == [decoder + 2 * config.d_model] * 2


def test_a_preset_can_be_changed_and_an_unknown_one_is_refused():
    assert RefinementNARConfig.preset("coco", vocab_size=100).first_input == "mean"
    assert set(PRESETS) == {"iwslt16", "wmt", "coco"}
    with pytest.raises(ValueError, match="one of iwslt16, wmt, coco; got 'wmt15'"):
        RefinementNARConfig.preset("wmt15")
