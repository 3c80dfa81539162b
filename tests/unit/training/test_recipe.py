import re
from pathlib import Path

import pytest
import yaml
from conftest import tiny_sentences
from tiny_runs import tiny_recipe

from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.training.models import build_model
from hf_nar.training.recipe import Recipe
from hf_nar.training.run import training_arguments

RECIPES = sorted((Path(__file__).parents[3] / "training/recipes").glob("*.yaml"))
KINDS = {"text", "json", "dataset", "corrupted"}


@pytest.fixture
def values(tmp_path):
    return tiny_recipe(tmp_path)


@pytest.fixture
def load(tmp_path, values):
    """Return a function that writes `values` and loads them with overrides."""

    def write_and_load(*overrides):
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        return Recipe.load(file, overrides)

    return write_and_load


def test_sections_and_defaults_are_read(load, values):
    recipe = load()

    assert recipe.output == values["output"]
    assert recipe.family == "lanmt"
    assert recipe.tokenizer.model_type == "unigram"
    assert recipe.data.max_source_tokens == 32
    assert recipe.training["max_steps"] == 6


def test_files_are_found_in_the_folder_unless_they_are_absolute(load, values, tmp_path):
    values["data"]["validation"]["target_file"] = str(tmp_path / "elsewhere.en")

    corpus = load().data.corpus("validation")

    assert corpus.source_file == str(tmp_path / "data" / "val.de")
    assert corpus.target_file == str(tmp_path / "elsewhere.en")


def test_a_text_to_corrupt_is_found_in_the_folder(load, values, tmp_path):
    values["data"]["train"] = {"text_file": "train.en", "corruption_rate": 0.2, "seed": 4}

    corpus = load().data.corpus("train")

    assert corpus.text_file == str(tmp_path / "data" / "train.en")
    assert (corpus.kind, corpus.corruption_rate, corpus.seed) == ("corrupted", 0.2, 4)


def test_overrides_are_yaml_values_at_any_depth(load):
    recipe = load(
        "training.learning_rate=1.0e-4",
        "training.bf16=true",
        "training.lr_scheduler_type=cosine",
        "data.train.source_file=a=b.de",
        "model.dropout=0",
        "output=runs/mine",
    )

    assert recipe.training["learning_rate"] == 1e-4
    assert recipe.training["bf16"] is True
    assert recipe.training["lr_scheduler_type"] == "cosine"
    assert recipe.data.train["source_file"] == "a=b.de"
    assert recipe.model["dropout"] == 0
    assert recipe.output == "runs/mine"


def test_an_override_may_start_a_section(load, values):
    del values["generation"]

    assert load("generation.stop_early=false").generation == {"stop_early": False}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.max_steps", "must be key=value, such as training.max_steps=100"),
        ("=3", "must be key=value"),
        ("output.folder=3", "`output` is not a mapping"),
        ("output=[", "must be YAML"),
        ("optput=x", "no key `optput`: did you mean `output`?"),
        ("data.foldr=x", "no key `data.foldr`: did you mean `data.folder`?"),
        ("tokenizer.vocabsize=9", "no key `tokenizer.vocabsize`: did you mean"),
        (
            "zzz=1",
            "no key `zzz`: use output, data, family, stage, init_from, refiners_from, tokenizer",
        ),
        ("tokenizer.vocab_size=many", "`tokenizer.vocab_size` in the recipe must be of type int"),
        ("output=3", "`output` in the recipe must be of type str"),
        ("data=3", "`data` in the recipe must be a mapping"),
        ("tokenizer.vocab_size=null", "must be of type int"),
    ],
)
def test_wrong_overrides_are_refused_with_what_to_do(load, override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(override)


@pytest.mark.parametrize(
    ("section", "key", "name"),
    [(None, "output", "output"), (None, "data", "data"), ("data", "validation", "data.validation")],
)
def test_a_missing_key_is_named_with_its_section(load, values, section, key, name):
    del (values[section] if section else values)[key]

    with pytest.raises(ValueError, match=re.escape(f"The recipe must set `{name}`")):
        load()


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\x00"])
def test_what_is_no_yaml_is_refused_in_one_line(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match="A recipe must be YAML, but") as error:
        Recipe.load(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_what_is_no_mapping_is_refused(tmp_path, text):
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")

    with pytest.raises(ValueError, match="must be a mapping of keys to values"):
        Recipe.load(file)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ValueError, match="A recipe must be YAML"):
        Recipe.load(tmp_path / "recipe.yaml")


def test_yaml_and_back_gives_the_same_recipe(load, tmp_path):
    recipe = load("training.learning_rate=1.0e-4", "data.folder=Übung")
    file = tmp_path / "again.yaml"
    file.write_text(recipe.to_yaml(), encoding="utf-8")

    assert Recipe.load(file) == recipe


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_recipes_of_this_project_load(file):
    recipe = Recipe.load(file, ["training.use_cpu=true"])

    assert training_arguments(recipe).max_steps > 0
    for part in ("train", "validation"):
        if recipe.data.source == "image":
            assert recipe.data.image_corpus(part).origin
        else:
            assert recipe.data.corpus(part).kind in KINDS


def test_training_knobs_become_arguments_over_this_projects_defaults(load):
    arguments = training_arguments(load("training.kl_budget=0.25", "training.eval_steps=1"))

    assert arguments.kl_budget == 0.25
    assert arguments.eval_steps == 1
    assert arguments.metric_for_best_model == "bleu"
    assert arguments.greater_is_better


def test_an_unknown_training_knob_names_the_nearest(load):
    with pytest.raises(ValueError, match=r"`training.max_step`: did you mean `training.max_steps`"):
        training_arguments(load("training.max_step=1"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(tiny_sentences(), tmp_path_factory.mktemp("tokenizer"), vocab_size=90)


def test_a_model_has_the_recipes_shape_the_tokenizers_ids_and_the_recipes_knobs(load, tokenizer):
    model = build_model(load("model.dropout=0.3"), tokenizer)

    assert model.config.dropout == 0.3
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.mask_token_id == tokenizer.mask_token_id
    assert model.generation_config.num_refinement_iterations == 2
    assert model.generation_config.collapse_repeats is False
    assert model.generation_config.stop_early is True


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.d_modle=3", "`model.d_modle`: did you mean `model.d_model`?"),
        ("generation.colapse_repeats=1", "did you mean `generation.collapse_repeats`?"),
        ("family=cmlm", "refinement_nar, or for a teacher a sequence-to-sequence"),
        ("model.d_model=17", "`d_model` must be a multiple"),
    ],
)
def test_a_wrong_model_is_refused_with_what_to_do(load, tokenizer, override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build_model(load(override), tokenizer)


def test_a_given_vocabulary_size_in_the_model_section_is_refused(load, tokenizer):
    with pytest.raises(ValueError, match=r"`model\.vocab_size`"):
        build_model(load("model.vocab_size=99"), tokenizer)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate=1e-4", "`training.learning_rate` in the recipe must be a number"),
        ("training.tokens_per_batch=true", "must be a number; YAML takes 1.0e-4 for one"),
        ("training.bf16=maybe", "`training.bf16` in the recipe must be true or false"),
        ("model.d_model=wide", "`model.d_model` in the recipe must be a number"),
        ("model.share_embeddings=1", "`model.share_embeddings` in the recipe must be true or"),
        ("generation.num_refinement_iterations=-1", "Use 0 to decode from the prior mean"),
        ("generation.refinement=beam", "it supports: delta_posterior"),
        ("model.activation_function=gelux", "`activation_function` must be one of"),
        ("generation.num_refinement_iterations=x", "must be a number"),
        ("generation.stop_early=maybe", "must be true or false"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(load, tokenizer, override, message):
    recipe = load(override)

    with pytest.raises(ValueError, match=re.escape(message)):
        (training_arguments(recipe), build_model(recipe, tokenizer))
