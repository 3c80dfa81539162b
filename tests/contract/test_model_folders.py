"""The model folders of this repository hold the code that they name, as the package has it."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent for file in (ROOT / "model_cards").glob("*/config.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_holds_the_code_that_its_config_names_and_no_other(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    named = {*config.get("auto_map", {}).values()}
    named |= {task["impl"] for task in config.get("custom_pipelines", {}).values()}
    todo = [name.partition(".")[0] for name in named]
    needed = {"handler"} if named else set()  # a teacher's code is in transformers
    while todo:
        needed.add(name := todo.pop())
        text = (ROOT / f"src/hf_nar/remote_code/{name}.py").read_text(encoding="utf-8")
        todo += set(re.findall(r"^from \.(\w+) import", text, re.MULTILINE)) - needed

    assert {file.stem for file in folder.glob("*.py")} == needed, "renew it with `write_code`"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_folder_with_code_names_its_pipeline(folder):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))

    assert ("auto_map" in config) == ("translation" in config.get("custom_pipelines", {}))
