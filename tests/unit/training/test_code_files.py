import json

import pytest
from tiny_captioners import TINY_SHAPE
from tiny_refinement import new_refinement_model

from hf_nar.training.code_files import HANDLER, code_files, outdated_code, write_code
from hf_nar.training.export import export_folder


@pytest.fixture
def folder(tiny_model, tiny_tokenizer, tmp_path):
    export_folder(tiny_model, tiny_tokenizer, tmp_path / "export")
    return tmp_path / "export"


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_exported_folder_is_up_to_date(folder):
    assert outdated_code(folder) == []


def test_files_that_are_missing_or_differ_are_named(folder):
    (folder / "handler.py").unlink()
    with (folder / "modeling_lanmt.py").open("a", encoding="utf-8") as file:
        file.write("# older\n")

    assert outdated_code(folder) == ["handler.py", "modeling_lanmt.py"]


def test_a_config_that_does_not_name_the_code_is_named(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["custom_pipelines"]
    (folder / "config.json").write_text(json.dumps(config))

    assert outdated_code(folder) == ["config.json"]


def test_writing_restores_an_exported_folder_byte_for_byte(folder):
    exported = contents(folder)
    config = json.loads(exported["config.json"])
    config = {**config, "auto_map": {"AutoModel": "old.Model"}, "custom_pipelines": {}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pipeline_translation.py").unlink()
    (folder / "layers_nar.py").write_text("")

    write_code(folder)

    assert contents(folder) == exported


def test_weights_are_not_touched(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(b"whatever they are")

    write_code(folder)

    assert weights.read_bytes() == b"whatever they are"


def test_a_folder_holds_the_code_of_its_own_family_only(folder):
    names = {file.name for file in folder.glob("*.py")}

    assert names == {file.name for file in code_files({"model_type": "lanmt"})}
    assert "modeling_refinement_nar.py" not in names


def test_a_model_of_images_has_no_pipeline_for_texts():
    config = new_refinement_model(**{**TINY_SHAPE, "vocab_size": 60}).config.to_dict()

    assert HANDLER not in code_files(config)
    assert HANDLER in code_files({**config, "vision_config": None})


def test_another_librarys_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "marian"}')

    with pytest.raises(ValueError, match="must be one of hf_nar's"):
        write_code(tmp_path)
