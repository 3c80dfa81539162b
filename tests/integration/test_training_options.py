"""What a recipe may switch on to save memory or time leaves the training what it was."""

import copy
import json

import datasets
import pytest
import torch
import yaml
from tiny_networks import batch_of, labels_of, new_model, refiner_model
from tiny_refinement import new_refinement_model
from tiny_runs import tiny_recipe, write_recipe
from torch._dynamo.utils import counters

from hf_nar.cli.main import main

REFINEMENT = {
    "d_model": 16,
    "d_ff": 32,
    "num_attention_heads": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "max_position_embeddings": 40,
    "max_target_length": 40,
    "max_length_offset": 6,
}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def trained_refiners():
    model = refiner_model(refiner_word_weight=1.0)
    model.train_refiners()
    return model


NETWORKS = {
    "source latents": new_model,
    "target latents": lambda: new_model(latent_axis="target"),
    "refiners": trained_refiners,
    "refinement": new_refinement_model,
}


def gradients(model, is_checkpointed):
    """Return the gradients of a copy, and how often a first layer has run."""
    model = copy.deepcopy(model).train()
    if is_checkpointed:
        switch = "activation_checkpointing_enable"  # older: the other name
        getattr(model, switch, model.gradient_checkpointing_enable)()
    runs = []
    layers = [m for m in model.modules() if type(m).__name__ in {"EncoderLayer", "CrossLayer"}]
    for layer in layers:
        norm = layer.self_attn_norm
        norm.register_forward_hook(lambda module, _, __: runs.append(module.training))
    torch.manual_seed(3)
    loss = model(input_ids=batch_of(4, 9, 6), labels=labels_of(7, 5, 8)).loss
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return found, sum(runs)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same_with_checkpointing(name):
    model = NETWORKS[name]()

    plain, runs = gradients(model, is_checkpointed=False)
    checkpointed, runs_again = gradients(model, is_checkpointed=True)

    assert runs_again > runs  # layers run again in the backward pass
    assert any(value.abs().max() > 0 for value in plain.values())
    torch.testing.assert_close(checkpointed, plain)


def losses_of(folder):
    lines = (folder / "run/log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]


def write_family(folder, family, **training):
    write_recipe(folder, **training)
    recipe = tiny_recipe(folder)
    recipe["training"] |= training
    if family == "refinement_nar":
        recipe |= {"family": family, "model": REFINEMENT}
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("family", ["lanmt", "refinement_nar"])
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing` is deprecated:FutureWarning")
def test_checkpointing_and_bfloat16_train_nearly_as_without(family, tmp_path, capsys):
    for name in ("plain", "cheap"):
        (tmp_path / name).mkdir()
    options = {"max_steps": 3, "eval_steps": 3, "save_steps": 3}
    plain = write_family(tmp_path / "plain", family, **options)
    cheap = write_family(tmp_path / "cheap", family, **options)

    assert main(["train", plain]) == 0, capsys.readouterr().err
    switches = ["training.bf16=true", "training.gradient_checkpointing=true"]
    assert main(["train", cheap, *switches]) == 0, capsys.readouterr().err

    first, second = losses_of(tmp_path / "plain"), losses_of(tmp_path / "cheap")
    assert first != second
    assert second == pytest.approx(first, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "falling"), [("lanmt", "kl_budget_hold"), ("refinement_nar", "corruption_hold")]
)
def test_a_compiled_network_trains_as_a_plain_one_does(family, falling, tmp_path, capsys):
    torch._dynamo.reset()
    counters.clear()
    for name in ("plain", "compiled"):
        (tmp_path / name).mkdir()
    options = {"max_steps": 6, "eval_steps": 6, "save_steps": 6, "tokens_per_batch": 200}
    options |= {falling: 0.0}  # the network is given another number in each step
    plain = write_family(tmp_path / "plain", family, **options)
    # Finds the graphs that any backend is given, but makes no code of them, which takes minutes.
    compiled = write_family(tmp_path / "compiled", family, **options, torch_compile_backend="eager")

    for recipe in (plain, compiled):
        assert main(["train", recipe, "model.dropout=0.0"]) == 0, capsys.readouterr().err

    assert losses_of(tmp_path / "compiled") == pytest.approx(losses_of(tmp_path / "plain"))
    assert not counters["graph_break"]
    # One for all batches; another where two sizes of the first happen to be the same.
    assert 1 <= counters["stats"]["unique_graphs"] <= 2
