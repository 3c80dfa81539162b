"""Every recipe of the project can be read, and its network and arguments be built."""

from pathlib import Path

import pytest
import torch
import yaml

from hf_nar.remote_code.configuration_refinement_nar import PRESETS
from hf_nar.training.models import build_model
from hf_nar.training.recipe import Recipe
from hf_nar.training.run import training_arguments

TRAINING = Path(__file__).parents[2] / "training"
KINDS = {"text", "json", "dataset", "corrupted"}
RECIPES = sorted((TRAINING / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_recipe_can_be_built(file, tiny_tokenizer):
    recipe = Recipe.load(file, ["training.use_cpu=true"])

    with torch.device("meta"):  # shapes without memory
        model = build_model(recipe, tiny_tokenizer)

    assert model.num_parameters() > 1e5
    assert training_arguments(recipe).max_steps > 0
    for part in ("train", "validation"):
        if recipe.data.source == "image":
            assert recipe.data.image_corpus(part).origin
        else:
            assert recipe.data.corpus(part).kind in KINDS
    assert {"title", "language", "license"} <= recipe.card.keys()


@pytest.mark.parametrize(
    "file", sorted((TRAINING / "accelerate").glob("*.yaml")), ids=lambda file: file.stem
)
def test_an_accelerate_configuration_can_be_read(file):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))

    assert config.to_dict() == {**config.to_dict(), **yaml.safe_load(file.read_text())}


@pytest.mark.parametrize(
    ("name", "preset", "apart"),
    [
        ("iwslt16-ende-refinement", "iwslt16", set()),
        ("wmt14-ende-refinement", "wmt", set()),
        ("coco-refinement", "coco", {"feature_size"}),  # there the vision encoder's own width
    ],
)
def test_the_recipes_of_the_paper_have_the_values_of_its_presets(name, preset, apart):
    model = Recipe.load(TRAINING / "recipes" / f"{name}.yaml").model

    differing = {
        field: (model.get(field), value)
        for field, value in PRESETS[preset].items()
        if field not in apart and model.get(field) != value
    }

    assert differing == {}
