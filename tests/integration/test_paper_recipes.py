"""`--dry-run` of every recipe of the papers, on generated corpora of the same schema.

A recipe is the file as it is; only where its corpus lies is overridden, and its tokenizer is small.
"""

import json
from pathlib import Path

import datasets
import pytest
import yaml
from datasets import Dataset, Features, Translation
from PIL import Image
from tiny_runs import tiny_pairs
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_nar.cli.main import main
from hf_nar.training.recipe import Recipe

TRAINING = Path(__file__).parents[2] / "training"
PAPERS = ("wmt14", "wmt16", "iwslt16", "aspec", "coco")
NAMES = [
    file.stem
    for file in sorted((TRAINING / "recipes").glob("*.yaml"))
    if file.stem.startswith(PAPERS)
]
SPLITS = {"train": 60, "validation": 20}  # rows of the generated corpora
HUB = {"wmt/wmt14": ("de-en", ("de", "en")), "wmt/wmt16": ("ro-en", ("ro", "en"))}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def write_hub_dataset(folder, name, languages):
    """Write a folder as on the Hub: Parquet files, and a card that names its configuration."""
    files = []
    for split, rows in SPLITS.items():
        pairs = [dict(zip(languages, pair, strict=True)) for pair in tiny_pairs()[:rows]]
        features = Features({"translation": Translation(languages=languages)})
        path = folder / name / f"{split}-00000-of-00001.parquet"
        Dataset.from_dict({"translation": pairs}, features=features).to_parquet(path)
        files.append({"split": split, "path": f"{name}/{split}-*"})
    card = yaml.safe_dump({"configs": [{"config_name": name, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}---\n", encoding="utf-8")


def write_text_files(folder, recipe):
    """Write the files that a recipe names."""
    folder.mkdir()
    for part, rows in zip(
        (recipe.data.train, recipe.data.validation), SPLITS.values(), strict=True
    ):
        for option, side in (("source_file", 0), ("target_file", 1)):
            lines = "".join(f"{pair[side]}\n" for pair in tiny_pairs()[:rows])
            (folder / part[option]).write_text(lines, encoding="utf-8")


def write_images(folder):
    """Write the Karpathy split as the recipe wants it: captions of an image in one line."""
    captions = [target for _, target in tiny_pairs()]
    for split, rows in SPLITS.items():
        (folder / split).mkdir(parents=True)
        lines = []
        for i in range(rows // 4):
            Image.new("RGB", (40, 30), (i, 2 * i, 90)).save(folder / split / f"{i}.jpg")
            lines.append(
                json.dumps({"file_name": f"{i}.jpg", "captions": captions[5 * i : 5 * i + 5]})
            )
        (folder / split / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def overrides_of(tmp_path, tiny_folder):
    """Return a function that generates a recipe's corpus and returns the overrides that name it."""

    def generate(recipe):
        corpus = tmp_path / "corpus"
        overrides = [f"output={tmp_path / 'run'}", f"tokenizer.name={tiny_folder}"]
        dataset = recipe.data.train.get("dataset")
        if recipe.data.source == "image":
            write_images(corpus)
            processor = ViTImageProcessorPil(size={"height": 224, "width": 224})
            processor.save_pretrained(tmp_path / "processor")
            overrides.append(f"data.image_processor.name={tmp_path / 'processor'}")
        elif dataset in HUB:
            write_hub_dataset(corpus, *HUB[dataset])
        else:
            write_text_files(corpus, recipe)
            return [*overrides, f"data.folder={corpus}"]
        return [*overrides, f"data.train.dataset={corpus}", f"data.validation.dataset={corpus}"]

    return generate


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_of_a_papers_recipe(name, overrides_of, capsys, tmp_path):
    file = TRAINING / "recipes" / f"{name}.yaml"
    recipe = Recipe.load(file)

    code = main(["train", str(file), "--dry-run", "training.use_cpu=true", *overrides_of(recipe)])

    said = capsys.readouterr()
    text = " ".join(said.out.split())
    assert code == 0, said.err
    assert f"run {recipe.family}, stage {recipe.stage}, 1 process(es)" in text
    rows = "75 captions" if recipe.data.source == "image" else "60 pairs"
    assert f"data {rows} an epoch, 0.0% left out as too long" in text
    assert f"steps {recipe.training['max_steps']:,}, " in text
    missing = (
        f"`init_from` must be a model folder when training starts; there is no {recipe.init_from}"
    )
    assert (missing in text) == bool(recipe.init_from)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wmt14-ende-lanmt", "aspec-jaen-lanmt"])
def test_on_the_papers_number_of_gpus_a_step_has_the_papers_tokens(name):
    launch = yaml.safe_load((TRAINING / "accelerate/multi_gpu.yaml").read_text("utf-8"))
    file = TRAINING / "recipes" / f"{name}.yaml"

    tokens = Recipe.load(file).training["tokens_per_batch"] * launch["num_processes"]

    assert tokens == 8 * 8192
    assert "--config_file training/accelerate/multi_gpu.yaml" in file.read_text("utf-8")


@pytest.mark.parametrize("name", [name for name in NAMES if "lanmt" in name])
def test_the_learning_rate_is_the_peak_of_the_authors_schedule(name):
    recipe = Recipe.load(TRAINING / "recipes" / f"{name}.yaml")
    # For refiners the authors' code reads the width of its base class, also where it is narrower.
    width = 512 if recipe.trains_refiners else recipe.model["d_model"]

    peak = 2 * width**-0.5 * recipe.training["warmup_steps"] ** -0.5

    assert recipe.training["learning_rate"] == pytest.approx(peak, rel=0.01)
