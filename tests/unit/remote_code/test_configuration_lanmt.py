import json

import pytest

from hf_nar.remote_code.configuration_lanmt import LaNMTConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"d_model": 100, "num_attention_heads": 8}, "multiple of `num_attention_heads`"),
        ({"d_model": 15, "num_attention_heads": 5}, "`d_model` must be even"),
        ({"num_decoder_layers": 0}, "`num_decoder_layers` must be at least 1, got 0"),
        ({"dropout": 1.0}, r"`dropout` must be in \[0, 1\), got 1.0. Use 0 for none"),
        ({"std_floor": 0.0}, "`std_floor` must be positive"),
        ({"length_transform_std": 0.0005}, "must be larger than `std_floor`"),
        ({"kl_budget": -1.0}, "`kl_budget` must not be negative"),
        ({"mask_token_id": 99, "vocab_size": 50}, "Take it from the tokenizer"),
        ({"pad_token_id": 2}, "`pad_token_id` and `eos_token_id` must differ"),
        ({"eos_token_id": None}, "`eos_token_id` must be set"),
        ({"dropout": "high"}, "`dropout` must be a number, got 'high'"),
        ({"share_embeddings": "no"}, "`share_embeddings` must be true or false"),
        ({"unk_token_id": 99, "vocab_size": 50}, "`unk_token_id` must be in"),
        ({"activation_function": "gelux"}, "`activation_function` must be one of"),
        ({"d_model": 64.0}, "`d_model` must be an integer"),
        ({"latent_axis": "both"}, "`latent_axis` must be one of source, target; got 'both'"),
        (
            {"num_source_layers": 2},
            "`num_source_layers` must be left out where `latent_axis` is so",
        ),
        ({"num_target_layers": 0}, "`num_target_layers` must be an integer and at least 1, got 0"),
        (
            {"latent_axis": "target", "num_target_layers": 2},
            "`num_target_layers` must be left out where `latent_axis` is target.*got 2. Set `num",
        ),
        (
            {"latent_axis": "target", "num_source_layers": 0},
            "`num_source_layers` must be an integer and at least 1, got 0",
        ),
        ({"latent_axis": "target", "num_source_layers": True}, "must be an integer and at least 1"),
        ({"num_score_layers": -1}, "`num_score_layers` must be an integer and at least 0, got -1"),
        ({"num_energy_layers": 1.0}, "`num_energy_layers` must be an integer and at least 0"),
        ({"refiner_iterations": 0}, "`refiner_iterations` must be at least 1, got 0"),
        ({"refiner_noise": -0.1}, "`refiner_noise` must not be negative, got -0.1"),
        ({"refiner_noise": "much"}, "`refiner_noise` must be a number, got 'much'"),
        (
            {"consistency_weight": -1.0, "posterior_noise": 0.2},
            "`consistency_weight` must not be negative, got -1.0",
        ),
        ({"consistency_weight": 0.5}, "without `posterior_noise` there is nothing to be consist"),
    ],
)
def test_a_wrong_field_is_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        LaNMTConfig(**options)


def test_a_config_survives_saving(tmp_path):
    config = LaNMTConfig(d_model=64, kl_budget=0.5, unk_token_id=None)

    config.save_pretrained(tmp_path)

    loaded = LaNMTConfig.from_pretrained(tmp_path)
    assert (loaded.d_model, loaded.kl_budget, loaded.unk_token_id) == (64, 0.5, None)
    assert loaded.to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(
    ("axis", "layers"), [("source", (None, 6)), ("target", (6, None))], ids=["source", "target"]
)
def test_each_axis_has_the_encoder_that_it_needs_and_survives_saving(tmp_path, axis, layers):
    config = LaNMTConfig(latent_axis=axis, num_score_layers=3, refiner_noise=0.25)

    config.save_pretrained(tmp_path)

    loaded = LaNMTConfig.from_pretrained(tmp_path)
    for each in (config, loaded):
        assert each.latent_axis == axis
        assert (each.num_source_layers, each.num_target_layers) == layers
        assert (each.num_score_layers, each.num_energy_layers) == (3, 0)
        assert each.refiner_noise == 0.25
    assert loaded.to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(("axis", "field"), [("source", "target"), ("target", "source")])
def test_the_size_of_that_encoder_survives_saving(tmp_path, axis, field):
    config = LaNMTConfig(latent_axis=axis, **{f"num_{field}_layers": 2})

    config.save_pretrained(tmp_path)

    assert getattr(LaNMTConfig.from_pretrained(tmp_path), f"num_{field}_layers") == 2


def test_a_config_of_before_latent_axes_is_one_with_source_length_latents(tmp_path):
    old = {"model_type": "lanmt", "num_prior_layers": 3, "num_target_layers": 1, "latent_dim": 4}
    (tmp_path / "config.json").write_text(json.dumps(old), encoding="utf-8")

    loaded = LaNMTConfig.from_pretrained(tmp_path)

    assert (loaded.latent_axis, loaded.num_source_layers) == ("source", None)
    assert (loaded.num_prior_layers, loaded.num_target_layers) == (3, 1)
    assert (loaded.num_score_layers, loaded.num_energy_layers) == (0, 0)
    assert loaded.consistency_weight == 0


def test_a_config_of_before_that_says_nothing_of_target_layers_has_six(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "lanmt"}', encoding="utf-8")

    assert LaNMTConfig.from_pretrained(tmp_path).num_target_layers == 6
