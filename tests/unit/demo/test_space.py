import ast
import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from hf_nar.demo import app
from hf_nar.demo.space import FILES, write_space

PACKAGE = Path(app.__file__).parent


def test_a_space_holds_the_page_itself_and_its_settings(tmp_path):
    write_space(tmp_path / "space", "owner/name", revision="v1", examples=["Ein Hund."])

    for name in FILES:
        assert (tmp_path / "space" / name).read_bytes() == (PACKAGE / name).read_bytes()
    settings = app.Settings(**json.loads((tmp_path / "space/settings.json").read_text("utf-8")))
    assert settings == app.Settings(
        "owner/name", revision="v1", examples=["Ein Hund."], languages=[]
    )


def test_the_readme_tells_the_hub_what_to_run(tmp_path):
    write_space(tmp_path, "owner/name")

    head = yaml.safe_load((tmp_path / "README.md").read_text("utf-8").split("---\n")[1])
    assert head["sdk"] == "gradio"
    assert head["sdk_version"] == version("gradio")
    assert (tmp_path / head["app_file"]).is_file()
    assert head["models"] == ["owner/name"]


def test_a_space_installs_the_versions_that_are_installed_here(tmp_path):
    write_space(tmp_path, "owner/name")

    index, *lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert index.startswith("--extra-index-url https://")
    versions = {name: version(name).split("+")[0] for name in ("torch", "transformers", "gradio")}
    assert lines == [f"{name}=={number}" for name, number in versions.items()]


@pytest.mark.parametrize("model", ["folder", "./owner/name", "a/b/c", "/owner/name"])
def test_a_space_shows_a_model_of_the_hub(tmp_path, model):
    with pytest.raises(ValueError, match="with an id like owner/name; got"):
        write_space(tmp_path / "space", model)
    assert not (tmp_path / "space").exists()


def test_a_wrong_setting_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match="colour"):
        write_space(tmp_path / "space", "owner/name", colour="red")
    assert not (tmp_path / "space").exists()


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py")])
def test_a_file_of_a_space_needs_nothing_that_a_space_lacks(name):
    allowed = {"gradio", "starlette", "torch", "transformers", *sys.stdlib_module_names}
    allowed |= {Path(file).stem for file in FILES}
    for node in ast.walk(ast.parse((PACKAGE / name).read_text("utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in allowed
