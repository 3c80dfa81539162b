"""Does it learn to see? A small network must describe scenes of one or more digits."""

import pytest
import yaml
from tiny_captioners import TINY_PROCESSOR

from hf_nar import Captioner
from hf_nar.cli.main import main
from hf_nar.data.digit_scenes import digit_scenes
from hf_nar.evaluation.captions import caption_scores

TEST_SCENES = 200


def recipe_of(folder, seed):
    return {
        "output": str(folder / "run"),
        "family": "refinement_nar",
        "data": {
            "source": "image",
            "train": {"builder": "digit_scenes", "num_scenes": 16000, "seed": 1},
            "validation": {
                "builder": "digit_scenes",
                "num_scenes": 100,
                "seed": 2,
                "split": "validation",
            },
            "image_processor": TINY_PROCESSOR,
            "max_target_tokens": 32,
        },
        "tokenizer": {"vocab_size": 96, "model_type": "bpe"},
        "model": {
            "vision_config": {
                "model_type": "resnet",
                "num_channels": 1,
                "embedding_size": 16,
                "hidden_sizes": [32, 64],
                "depths": [1, 1],
                "layer_type": "basic",
            },
            "d_model": 64,
            "d_ff": 128,
            "num_attention_heads": 4,
            "num_encoder_layers": 1,
            "num_decoder_layers": 1,
            "first_input": "mean",
            "dropout": 0.0,
            "activation_dropout": 0.0,
            "attention_dropout": 0.0,
            "label_smoothing": 0.0,
            "num_training_passes": 2,
            "max_position_embeddings": 25,
            "max_target_length": 32,
            "max_length_offset": 16,
        },
        "generation": {"num_refinement_iterations": 2, "collapse_repeats": False},
        "training": {
            "seed": seed,
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": 2000,
            "tokens_per_batch": 800,
            "learning_rate": 1.5e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 100,
            "adam_beta2": 0.98,
            "max_grad_norm": 1.0,
            "logging_steps": 100,
            "eval_steps": 2000,
            "save_steps": 2000,
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_small_network_learns_to_describe_scenes(seed, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe_of(tmp_path, seed)), encoding="utf-8")

    code = main(["train", str(file)])

    assert code == 0
    test = digit_scenes(TEST_SCENES, seed=3, split="test")
    captioner = Captioner.from_pretrained(tmp_path / "run/export", device="cpu")
    captions = captioner.caption(test["image"][:], batch_size=50)
    scores = caption_scores(captions, [[text] for text in test["caption"]])
    assert scores.exact >= 0.7, f"seed {seed}"
