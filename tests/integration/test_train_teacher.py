"""`hf-nar train` with a network of transformers: the teacher, and what a student starts from."""

import json
import shutil

import pytest
import torch
import yaml
from conftest import TINY_VOCABULARY, tiny_sentences
from datasets import Dataset
from safetensors.torch import load_file
from tiny_runs import tiny_recipe, write_corpus
from tiny_teachers import new_teacher
from torch.utils.data import DataLoader
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from hf_nar.cli.main import main
from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.teacher import Teacher
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.trainer import NARTrainer, SmoothedWordLoss

SIDES = {
    f"{side}_{name}": value
    for side in ("encoder", "decoder")
    for name, value in {"layers": 1, "ffn_dim": 32, "attention_heads": 2}.items()
}
SHAPES = {
    "marian": {"d_model": 16, "max_position_embeddings": 40, **SIDES},
    "m2m_100": {"d_model": 16, "max_position_embeddings": 40, **SIDES},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2},
}


def write_teacher_recipe(folder, family):
    write_corpus(folder / "data")
    recipe = tiny_recipe(folder)
    recipe |= {"family": family, "model": SHAPES[family]}
    recipe["generation"] = {"num_beams": 2, "max_length": 20}
    recipe["training"]["label_smoothing_factor"] = 0.1
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


@pytest.mark.parametrize("family", SHAPES)
def test_a_teacher_is_trained_exported_and_loaded_by_transformers_alone(family, tmp_path, capsys):
    file = write_teacher_recipe(tmp_path, family)

    code = main(["train", str(file), "training.average_checkpoints=2"])

    assert code == 0, capsys.readouterr().err
    export = tmp_path / "run/export"
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]
    assert [entry["step"] for entry in log if "eval_bleu" in entry] == [3, 6]
    model = AutoModelForSeq2SeqLM.from_pretrained(export, trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(export)
    assert model.generation_config.num_beams == 2
    assert model.generation_config.max_length == 20
    assert model.config.vocab_size == len(tokenizer)
    assert not list(export.glob("*.py"))
    assert len(Teacher.from_pretrained(export).translate(["Ein Hund läuft.", ""])) == 2


def test_a_teacher_goes_on_after_a_stop_as_if_there_had_been_none(tmp_path, capsys):
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = write_teacher_recipe(tmp_path / "whole", "marian")
    stopped = write_teacher_recipe(tmp_path / "stopped", "marian")
    assert main(["train", str(whole)]) == 0
    assert main(["train", str(stopped)]) == 0
    run = tmp_path / "stopped/run"
    for file in (run / "checkpoint-6").iterdir():
        file.unlink()
    (run / "checkpoint-6").rmdir()

    assert main(["train", str(stopped)]) == 0

    first = load_file(tmp_path / "whole/run/checkpoint-6/model.safetensors")
    second = load_file(run / "checkpoint-6/model.safetensors")
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("family=bert", "refinement_nar, or for a teacher a sequence-to-sequence"),
        ("model.encoder_layer=2", "did you mean `model.encoder_layers`?"),
        ("model.encoder_layers=two", "`model.encoder_layers` in the recipe must be a number"),
        ("generation.num_beam=4", "did you mean `generation.num_beams`?"),
        ("data.max_target_tokens=99", "`data.max_target_tokens` must be at most 40"),
        ("init_from=nowhere", "A model folder must hold model.safetensors, but nowhere"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, capsys, override, message):
    file = write_teacher_recipe(tmp_path, "marian")

    code = main(["train", str(file), override])

    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert error.startswith("hf-nar: error: ")
    assert message in error


def test_a_run_starts_with_the_weights_it_is_told(tmp_path, capsys):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = write_teacher_recipe(tmp_path / "first", "marian")
    second = write_teacher_recipe(tmp_path / "second", "marian")
    assert main(["train", str(first)]) == 0
    start = tmp_path / "first/run/export"

    still = ["training.learning_rate=0.0", "training.max_steps=3"]
    code = main(["train", str(second), f"init_from={start}", *still])

    assert code == 0, capsys.readouterr().err
    before, after = (
        load_file(folder / "model.safetensors")
        for folder in (start, tmp_path / "second/run/export")
    )
    assert all(before[name].equal(after[name]) for name in before)
    code = main(
        ["train", str(second), f"init_from={start}", "model.d_model=8", f"output={tmp_path}/other"]
    )
    assert code == 2
    assert "Saved weights must have the model's shapes" in capsys.readouterr().err


def test_weights_of_another_vocabulary_are_refused(tmp_path, capsys):
    file = write_teacher_recipe(tmp_path, "marian")
    assert main(["train", str(file)]) == 0
    (tmp_path / "second").mkdir()
    second = write_teacher_recipe(tmp_path / "second", "marian")

    start = [f"init_from={tmp_path / 'run/export'}", "tokenizer.model_type=bpe"]
    code = main(["train", str(second), *start])

    assert code == 2
    assert "must be a model of the run's own vocabulary" in capsys.readouterr().err


def test_a_run_that_goes_on_does_not_need_what_it_started_from(tmp_path, capsys):
    file = write_teacher_recipe(tmp_path, "marian")
    assert main(["train", str(file)]) == 0
    (tmp_path / "second").mkdir()
    second = write_teacher_recipe(tmp_path / "second", "marian")
    start = tmp_path / "run/export"
    assert main(["train", str(second), f"init_from={start}"]) == 0
    for checkpoint in ("checkpoint-6", "export"):
        shutil.rmtree(tmp_path / "second/run" / checkpoint)
    shutil.rmtree(start)

    code = main(["train", str(second), f"init_from={start}"])

    assert code == 0, capsys.readouterr().err


def test_accumulated_batches_give_the_gradient_of_one_large_batch(tmp_path):
    """The library divides a mean loss by the number of accumulated batches, but not this one."""
    updates = []
    for name, options in (
        ("one", {"per_device_train_batch_size": 4}),
        ("two", {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}),
    ):
        tokenizer = train_tokenizer(tiny_sentences(), tmp_path / name, TINY_VOCABULARY)
        model = new_teacher("marian", tokenizer)
        for layer in model.modules():
            if hasattr(layer, "dropout"):
                layer.dropout = 0.0
        before = model.lm_head.weight.detach().clone()
        pairs = [("Ein Hund.", "A dog."), ("Ein Kind im Schnee.", "A child in the snow.")] * 2
        encoded = [tokenizer(text=source, text_target=target) for source, target in pairs]
        arguments = NARTrainingArguments(
            output_dir=str(tmp_path / name), use_cpu=True, disable_tqdm=True, max_steps=1,
            optim="sgd", learning_rate=1.0, max_grad_norm=0.0, save_strategy="no", **options,
        )  # fmt: skip
        rows = Dataset.from_list([dict(row) for row in encoded])
        trainer = PlainBatches(
            args=arguments, model=model, train_dataset=rows, processing_class=tokenizer
        )
        trainer.train()
        updates.append(model.lm_head.weight.detach() - before)

    assert updates[0].abs().max() > 1e-3
    torch.testing.assert_close(updates[0], updates[1])


class PlainBatches(NARTrainer):
    """Batches of a fixed number of pairs, in order."""

    def get_train_dataloader(self):
        size = self.args.per_device_train_batch_size
        return DataLoader(self.train_dataset, size, collate_fn=self.data_collator)


def test_the_loss_is_a_mean_over_the_tokens_of_all_accumulated_batches():
    labels = torch.tensor([[5, 6, -100], [7, -100, -100]])
    logits = torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(0))
    outputs = type("Outputs", (), {"logits": logits})
    loss = SmoothedWordLoss(label_smoothing=0.3)

    rows = [type("Outputs", (), {"logits": logits[i : i + 1]}) for i in range(2)]
    parts = [loss(rows[i], labels[i : i + 1], num_items_in_batch=3) for i in range(2)]

    log_probs = logits.log_softmax(-1)
    expected = 0.0
    for row, position, token in ((0, 0, 5), (0, 1, 6), (1, 0, 7)):
        expected -= 0.7 * log_probs[row, position, token] + 0.3 * log_probs[row, position].mean()
    assert torch.allclose(loss(outputs, labels), expected / 3)
    assert torch.allclose(sum(parts), expected / 3)
