"""Published numbers agree with the results files they come from."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from hf_nar.cli.main import main

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(folder for folder in (ROOT / "model_cards").iterdir() if folder.is_dir())
TRAINED = [folder for folder in FOLDERS if (folder / "model.safetensors").is_file()]
UNTRAINED = [folder for folder in FOLDERS if folder not in TRAINED]
LARGEST_FOLDER = 12 * 2**20  # bytes


def name(folder: Path) -> str:
    return folder.name


def test_cards_and_readme_agree_with_their_results(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    figures = re.search(r"^FIGURES := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    results = [f"--results={file}" for file in figures[1].split()]
    folders = [str(folder.relative_to(ROOT)) for folder in FOLDERS]

    code = main(["card", *folders, *results, "--readme=README.md", "--check"])

    assert code == 0, capsys.readouterr().err


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Return copies of a trained and an untrained model's folder, with new cards."""
    cards = tmp_path / "model_cards"
    for folder in ("lanmt-multi30k-deen", "lanmt-wmt14-ende"):
        shutil.copytree(ROOT / "model_cards" / folder, cards / folder)
    shutil.copytree(ROOT / "training/recipes", tmp_path / "training/recipes")
    monkeypatch.chdir(tmp_path)
    assert main(["card", *map(str, cards.iterdir())]) == 0
    return cards


@pytest.mark.parametrize(
    ("folder", "place"),
    [
        ("lanmt-multi30k-deen", r"^    - type: sacrebleu\n      value: \d+\.(\d)"),  # metadata
        ("lanmt-multi30k-deen", r"^## Quality$.*?^\| \*\*[^|]*\*\* \| \d+\.(\d)"),
        ("lanmt-multi30k-deen", r"^## Speed$.*?^\| \*\*LaNMT[^|]*\*\* \|[^|]*\| \d+\.(\d)"),
        ("lanmt-multi30k-deen", r"^## Training$.*?(\d) steps"),
        ("lanmt-wmt14-ende", r"^## Reported by the paper$.*?^\| LaNMT[^|]*\| \d+\.(\d)"),
    ],
    ids=["metadata", "quality", "speed", "training", "reported"],
)
def test_one_other_digit_in_a_card_fails_the_check(folder, place, copied, capsys):
    card = copied / folder / "README.md"
    text = card.read_text("utf-8")
    start, end = re.search(place, text, re.M | re.S).span(1)
    changed = str((int(text[start]) + 1) % 10)
    assert main(["card", str(copied / folder), "--check"]) == 0

    card.write_text(text[:start] + changed + text[end:], encoding="utf-8")
    code = main(["card", str(copied / folder), "--check"])

    line = text.count("\n", 0, start) + 1
    error = capsys.readouterr().err
    assert code == 2
    assert f"{card} must agree with its results, but line {line} is " in error


@pytest.mark.parametrize("key", ["bleu", "chrf"])
def test_another_result_fails_the_check_of_a_card(key, copied):
    results = copied / "lanmt-multi30k-deen/results.json"
    text = results.read_text("utf-8")
    results.write_text(re.sub(rf'"{key}": \d+\.\d+', f'"{key}": 99.0', text, count=1), "utf-8")

    assert main(["card", str(copied / "lanmt-multi30k-deen"), "--check"]) == 2


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_card_has_metadata_and_no_gaps(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")

    head = yaml.safe_load(text.split("---")[1])
    assert head["pipeline_tag"] in {"translation", "image-to-text"}
    assert head["library_name"] == "transformers"
    assert {"language", "license", "tags"} <= head.keys()
    assert "\n\n\n" not in text
    assert not re.search(r"\bNone\b(?! of these)|\bnan\b|OUTPUT", text)


@pytest.mark.parametrize("folder", TRAINED, ids=name)
def test_the_metadata_of_a_trained_model_hold_its_bleu(folder):
    head = yaml.safe_load((folder / "README.md").read_text("utf-8").split("---")[1])

    [result] = head["model-index"][0]["results"]
    [metric] = result["metrics"]
    assert metric["type"] == "sacrebleu"
    assert metric["args"]["signature"].startswith("nrefs:1|")


@pytest.mark.parametrize("folder", UNTRAINED, ids=name)
def test_a_setting_without_weights_says_so_and_claims_no_figure(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")

    assert "**No weights have been trained by this project yet.**" in text
    assert "model-index" not in yaml.safe_load(text.split("---")[1])
    assert {file.name for file in folder.iterdir()} == {"README.md", "reported.json"}


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_model_folder_is_small_and_holds_no_pickle(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) <= LARGEST_FOLDER
    assert {file.suffix for file in files} <= {".json", ".md", ".py", ".safetensors", ".svg"}


@pytest.mark.parametrize("folder", TRAINED, ids=name)
def test_the_code_in_a_model_folder_is_the_packages_own(folder):
    for file in folder.glob("*.py"):
        original = ROOT / "src/hf_nar/remote_code" / file.name
        assert file.read_text(encoding="utf-8") == original.read_text(encoding="utf-8"), file.name
