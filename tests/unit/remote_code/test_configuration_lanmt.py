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
