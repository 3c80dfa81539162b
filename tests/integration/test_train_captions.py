"""`hf-nar train` on images, what it exports, and `hf-nar evaluate-captions` on that."""

import json

import datasets
import pytest
import torch
import yaml
from datasets import Dataset, Image
from safetensors.torch import load_file
from tiny_captioners import TINY_SHAPE, TINY_VIT, caption_recipe
from transformers import AutoConfig, AutoImageProcessor, AutoModel

from hf_nar import Captioner
from hf_nar.cli.main import main
from hf_nar.data.digit_scenes import digit_scenes
from hf_nar.evaluation.captions import caption_scores

SCENES = ["--builder", "digit_scenes", "--num-scenes", "6", "--seed", "9"]


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def train(folder, recipe, *overrides):
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return main(["train", str(file), *overrides])


def log_of(folder):
    lines = (folder / "run/log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def same_weights(first, second):
    a, b = (load_file(folder / "run/export/model.safetensors") for folder in (first, second))
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def vision_weights(run):
    model = Captioner.from_pretrained(run / "export", device="cpu").model
    return model.vision_encoder.state_dict()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a finished run of the tiny recipe."""
    folder = tmp_path_factory.mktemp("finished")
    assert train(folder, caption_recipe(folder)) == 0
    return folder


def test_the_log_has_bleu_and_exact_captions_of_real_decoding(finished):
    entries = [entry for entry in log_of(finished) if "eval_bleu" in entry]

    assert [entry["step"] for entry in entries] == [2, 4]
    assert all(0 <= entry["eval_exact"] <= 1 for entry in entries)


def test_the_exported_model_scores_what_was_logged(finished):
    captioner = Captioner.from_pretrained(finished / "run/export", device="cpu")
    rows = digit_scenes(7, seed=2, split="validation")
    facts = json.loads((finished / "run/export/training.json").read_text("utf-8"))

    captions = captioner.caption(rows["image"][:])

    scores = caption_scores(captions, [[text] for text in rows["caption"]])
    assert scores.bleu == pytest.approx(facts["validation_bleu"], abs=0.5)  # it is in bfloat16
    assert facts["recipe"]["data"]["source"] == "image"


def test_the_auto_classes_load_model_and_image_processor(finished):
    folder = finished / "run/export"

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)

    pixels = processor(digit_scenes(2, seed=0)["image"][:], return_tensors="pt").pixel_values
    assert pixels.shape == (2, 1, 36, 36)
    assert model.generate(pixel_values=pixels.to(model.dtype)).shape[0] == 2


def test_a_batch_costs_its_visual_positions_where_they_are_more_than_the_words(finished, tmp_path):
    recipe = caption_recipe(tmp_path)
    recipe["model"] = {**TINY_SHAPE, "vision_config": {**TINY_VIT, "patch_size": 6}}
    recipe["model"]["max_position_embeddings"] = 40
    recipe["training"].update(max_steps=2, tokens_per_batch=37)

    code = train(tmp_path, recipe, "training.num_train_epochs=1", "training.eval_steps=2")

    assert code == 0  # 6 x 6 patches and the class token: one image fills a batch
    last = [entry for entry in log_of(tmp_path) if "epoch" in entry][-1]
    assert last["epoch"] == pytest.approx(2 / 60, abs=1e-3)


def test_a_run_goes_on_from_its_last_checkpoint(finished, tmp_path):
    recipe = caption_recipe(tmp_path)
    assert train(tmp_path, recipe) == 0
    (tmp_path / "run/checkpoint-4/model.safetensors").unlink()

    assert train(tmp_path, recipe) == 0

    assert same_weights(tmp_path, finished)


def test_a_run_may_start_with_the_weights_of_another(finished, tmp_path):
    recipe = {**caption_recipe(tmp_path), "init_from": str(finished / "run/export")}
    recipe["tokenizer"] = {"name": str(finished / "run/export")}

    assert train(tmp_path, recipe, "training.learning_rate=0.0") == 0

    assert same_weights(tmp_path, finished)


def test_all_captions_of_an_image_are_trained_on(tmp_path):
    images = digit_scenes(6, seed=0)["image"][:]
    captions = [["a one at the top", "a one above", "a two in the middle"]] * 6
    rows = Dataset.from_dict({"image": images, "captions": captions}).cast_column("image", Image())
    rows.save_to_disk(tmp_path / "rows")
    recipe = caption_recipe(tmp_path)
    corpus = {"dataset": str(tmp_path / "rows"), "caption_field": "captions"}
    recipe["data"].update(train=corpus, validation=corpus)
    recipe["tokenizer"]["vocab_size"] = 40
    recipe["training"].update(max_steps=1, eval_steps=1, save_steps=1, tokens_per_batch=10 * 18)

    assert train(tmp_path, recipe) == 0

    assert [entry["epoch"] for entry in log_of(tmp_path) if "loss" in entry] == [1.0]


def test_a_saved_vision_encoder_is_started_with_and_kept_if_frozen(tmp_path):
    options = {name: value for name, value in TINY_VIT.items() if name != "model_type"}
    torch.manual_seed(5)
    encoder = AutoModel.from_config(AutoConfig.for_model("vit", **options))
    encoder.save_pretrained(tmp_path / "encoder")
    saved = {name: value.bfloat16().float() for name, value in encoder.state_dict().items()}

    for frozen in (True, False):
        folder = tmp_path / str(frozen)
        recipe = caption_recipe(folder)
        recipe["vision"] = {"init_from": str(tmp_path / "encoder"), "frozen": frozen}
        assert train(folder, recipe, "training.learning_rate=0.01") == 0

        trained = vision_weights(folder / "run")
        distance = max(float((trained[name] - saved[name]).abs().max()) for name in trained)
        assert (distance == 0) is frozen
        assert distance < 0.2  # new ones would differ more


def test_statistics_of_a_frozen_vision_encoder_stay_as_they_are(tmp_path):
    vision = {
        "model_type": "resnet",
        "num_channels": 1,
        "embedding_size": 8,
        "hidden_sizes": [8],
        "depths": [1],
        "layer_type": "basic",
    }
    running = {}
    for frozen in (True, False):
        folder = tmp_path / str(frozen)
        recipe = caption_recipe(folder)
        recipe["model"] = {**TINY_SHAPE, "vision_config": vision, "max_position_embeddings": 81}
        recipe["vision"] = {"frozen": frozen}
        recipe["training"].update(max_steps=2, tokens_per_batch=1000)
        assert train(folder, recipe) == 0
        weights = vision_weights(folder / "run")
        running[frozen] = [value for name, value in weights.items() if "running_mean" in name]

    assert all((value == 0).all() for value in running[True])
    assert any((value != 0).any() for value in running[False])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.vision_config=null"], "`data.source` must be image exactly where"),
        (["data.source=text"], "`data.image_processor` must be left out where"),
        (["data.source=sound"], "`data.source` must be one of text, image"),
        (["data.folder=data"], "`data.folder` must be left out where `data.source` is image"),
        (
            [
                "data.image_processor.image_mean=[0.1,0.1,0.1]",
                "data.image_processor.image_std=[1,1,1]",
            ],
            "a value for each of the 1 `num_channels`",
        ),
        (["data.image_processor.sizes=3"], "no key `data.image_processor.sizes`: did you mean"),
        (["data.train.streaming=true"], "known options only, got `streaming`"),
        (["init_from=runs/x", "vision.init_from=runs/y"], "Keep one of them"),
        (["vision.frozen=1"], "`vision.frozen` in the recipe must be of type bool"),
        (["family=lanmt"], "no key `model."),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(tmp_path, overrides, message, capsys):
    assert train(tmp_path, caption_recipe(tmp_path), *overrides) == 2
    assert message in capsys.readouterr().err


def test_a_vision_encoder_of_another_shape_is_refused(tmp_path, capsys):
    options = {**TINY_VIT, "hidden_size": 4, "num_attention_heads": 1}
    config = AutoConfig.for_model(options.pop("model_type"), **options)
    AutoModel.from_config(config).save_pretrained(tmp_path / "encoder")
    recipe = {**caption_recipe(tmp_path), "vision": {"init_from": str(tmp_path / "encoder")}}

    assert train(tmp_path, recipe) == 2
    assert "must be a model with the shape of `model.vision_config`" in capsys.readouterr().err


def test_the_command_writes_what_it_shows(finished, tmp_path, capsys):
    file = tmp_path / "results.json"
    model = str(finished / "run/export")

    code = main(["evaluate-captions", model, *SCENES, "--iterations", "0,2", "--output", str(file)])

    assert code == 0
    lines = capsys.readouterr().out.splitlines()
    results = json.loads(file.read_text("utf-8"))["captions"]
    assert results["command"].startswith(f"hf-nar evaluate-captions {model} --builder digit_scenes")
    assert [row["iterations"] for row in results["rows"]] == [0, 2]
    assert [row["is_default"] for row in results["rows"]] == [False, True]
    assert lines[1].split()[1] == f"{results['rows'][0]['bleu']:.2f}"
    assert results["images"] == 6
    assert results["environment"]["torch"] == torch.__version__
    rows = digit_scenes(6, seed=9, split="test")
    assert [example["references"] for example in results["examples"]] == [
        [text] for text in rows["caption"][:4]
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either a `dataset` or a `builder`; got neither"),
        ([*SCENES, "--split", "dev"], "`split` must be one of train, validation, test"),
        ([*SCENES, "--iterations", "x"], "`--iterations` must be numbers"),
    ],
)
def test_a_wrong_call_is_refused(finished, arguments, message, capsys):
    assert main(["evaluate-captions", str(finished / "run/export"), *arguments]) == 2
    assert message in capsys.readouterr().err
