"""Published numbers agree with the results files they come from."""

import re
from pathlib import Path

import pytest
import yaml

from hf_nar.cli.main import main

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(folder for folder in (ROOT / "model_cards").iterdir() if folder.is_dir())
LARGEST_FOLDER = 12 * 2**20  # bytes


def test_cards_and_readme_agree_with_their_results(capsys):
    figures = re.search(r"^FIGURES := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    results = [f"--results={ROOT / file}" for file in figures[1].split()]
    arguments = [*map(str, FOLDERS), *results, f"--readme={ROOT / 'README.md'}", "--check"]

    code = main(["card", *arguments])

    assert code == 0, capsys.readouterr().err


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_card_has_metadata_and_no_gaps(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")

    head = yaml.safe_load(text.split("---")[1])
    assert head["pipeline_tag"] == "translation"
    assert head["library_name"] == "transformers"
    assert head["model-index"][0]["results"][0]["metrics"][0]["type"] == "sacrebleu"
    assert "\n\n\n" not in text
    assert not re.search(r"\bNone\b|\bnan\b|OUTPUT", text)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_model_folder_is_small_and_holds_no_pickle(folder):
    files = [file for file in folder.rglob("*") if file.is_file()]

    assert sum(file.stat().st_size for file in files) <= LARGEST_FOLDER
    assert {file.suffix for file in files} <= {".json", ".md", ".py", ".safetensors", ".svg"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_code_in_a_model_folder_is_the_packages_own(folder):
    for file in folder.glob("*.py"):
        original = ROOT / "src/hf_nar/remote_code" / file.name
        assert file.read_text(encoding="utf-8") == original.read_text(encoding="utf-8"), file.name
