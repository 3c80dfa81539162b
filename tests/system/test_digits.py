"""Does it learn? A small network must copy and reverse digits, from files to translations."""

import datasets
import pytest
import yaml

from hf_nar.cli.main import main
from hf_nar.data.digits import digits_corpus
from hf_nar.inference import Translator

TRAIN_PAIRS, VALIDATION_PAIRS, TEST_PAIRS = 20_000, 100, 300


def write_pairs(folder, part, rows):
    for side in ("source", "target"):
        text = "".join(f"{line}\n" for line in rows[side])
        (folder / f"{part}.{side}").write_text(text, encoding="utf-8")


def recipe_of(folder, seed, steps):
    return {
        "output": str(folder / "run"),
        "data": {
            "folder": str(folder),
            "train": {"source_file": "train.source", "target_file": "train.target"},
            "validation": {"source_file": "val.source", "target_file": "val.target"},
            "max_source_tokens": 20,
            "max_target_tokens": 20,
        },
        "tokenizer": {"vocab_size": 26},  # specials, digits with and without a space, the space
        "model": {
            "d_model": 64,
            "d_ff": 256,
            "num_attention_heads": 4,
            "num_prior_layers": 2,
            "num_target_layers": 1,
            "num_posterior_layers": 2,
            "num_decoder_layers": 2,
            "latent_dim": 8,
            "dropout": 0.0,
            "activation_dropout": 0.0,
            "attention_dropout": 0.0,
            "label_smoothing": 0.0,
            "max_position_embeddings": 32,
            "max_target_length": 32,
            "max_length_offset": 3,
        },
        "generation": {"num_refinement_iterations": 1, "collapse_repeats": False},
        "training": {
            "seed": seed,
            "use_cpu": True,
            "disable_tqdm": True,
            "max_steps": steps,
            "tokens_per_batch": 768,
            "learning_rate": 2.0e-3,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 100,
            "adam_beta2": 0.98,
            "max_grad_norm": 1.0,
            "kl_budget": 1.0,
            "kl_budget_hold": 0.3,
            "logging_steps": 100,
            "eval_steps": steps,
            "save_steps": steps,
        },
    }


@pytest.mark.slow
@pytest.mark.parametrize(("task", "steps", "seed"), [("copy", 500, 1), ("reverse", 1500, 2)])
def test_a_small_network_learns_a_task_on_digits(task, steps, seed, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    sizes = {"train": TRAIN_PAIRS, "val": VALIDATION_PAIRS}
    for i, (part, size) in enumerate(sizes.items()):
        write_pairs(tmp_path, part, digits_corpus(size, seed=10 * seed + i, task=task))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(recipe_of(tmp_path, seed, steps)), encoding="utf-8")

    code = main(["train", str(recipe)])

    assert code == 0
    test = digits_corpus(TEST_PAIRS, seed=10 * seed + 9, task=task)
    translator = Translator.from_pretrained(tmp_path / "run/export", device="cpu")
    texts = translator.translate(list(test["source"]), batch_size=50)
    right = sum(text == target for text, target in zip(texts, test["target"], strict=True))
    exact_match = right / TEST_PAIRS
    assert exact_match >= 0.9, f"{task} with seed {seed}"
