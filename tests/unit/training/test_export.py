import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from hf_nar import remote_code
from hf_nar.inference import Translator
from hf_nar.training.export import export_folder

PACKAGE = Path(remote_code.__file__).parent
TEXTS = ["Ein Hund läuft im Schnee.", "Eine Katze"]


@pytest.fixture
def folder(tiny_model, tiny_tokenizer, tmp_path):
    export_folder(tiny_model, tiny_tokenizer, tmp_path / "export")
    return tmp_path / "export"


def test_weights_are_saved_in_half_the_bytes_and_the_model_keeps_its_own(folder, tiny_model):
    saved = load_file(folder / "model.safetensors")

    assert {value.dtype for value in saved.values()} == {torch.bfloat16}
    assert {value.dtype for value in tiny_model.parameters()} == {torch.float32}
    for name, value in saved.items():
        assert torch.equal(value, tiny_model.state_dict()[name].bfloat16()), name


def test_another_dtype_can_be_asked_for(tiny_model, tiny_tokenizer, tmp_path):
    export_folder(tiny_model, tiny_tokenizer, tmp_path, dtype=torch.float32)

    texts = Translator.from_pretrained(tmp_path, device="cpu").translate(TEXTS)

    assert texts == Translator(tiny_model, tiny_tokenizer).translate(TEXTS)


def test_every_auto_class_is_named(folder):
    config = json.loads((folder / "config.json").read_text())

    assert config["auto_map"] == {
        "AutoConfig": "configuration_lanmt.LaNMTConfig",
        "AutoModel": "modeling_lanmt.LaNMTForConditionalGeneration",
        "AutoModelForSeq2SeqLM": "modeling_lanmt.LaNMTForConditionalGeneration",
    }


def test_the_pipeline_is_named(folder):
    config = json.loads((folder / "config.json").read_text())

    assert config["custom_pipelines"] == {
        "translation": {
            "impl": "pipeline_translation.TranslationPipeline",
            "pt": ["AutoModelForSeq2SeqLM"],
            "type": "text",
        }
    }


def test_the_code_is_whole_and_that_of_the_package(folder):
    files = {file.stem: file.read_text("utf-8") for file in folder.glob("*.py")}

    assert {"modeling_lanmt", "pipeline_translation", "handler"} <= files.keys()
    for name, text in files.items():
        assert text == (PACKAGE / f"{name}.py").read_text("utf-8")
        assert set(re.findall(r"^from \.(\w+) import", text, re.MULTILINE)) <= files.keys()


def test_only_safe_weights_are_written(folder):
    kinds = {file.suffix for file in folder.rglob("*") if file.is_file()}

    assert kinds == {".json", ".py", ".safetensors"}


def test_the_tokenizer_loads_without_trust_and_says_the_same(folder, tiny_tokenizer):
    tokenizer = AutoTokenizer.from_pretrained(folder)

    assert tokenizer(TEXTS)["input_ids"] == tiny_tokenizer(TEXTS)["input_ids"]
    assert tokenizer.mask_token_id == tiny_tokenizer.mask_token_id


def test_decoding_knobs_are_exported(tiny_model, tiny_tokenizer, tmp_path):
    tiny_model.generation_config.num_refinement_iterations = 5
    tiny_model.generation_config.stop_early = False

    export_folder(tiny_model, tiny_tokenizer, tmp_path)

    knobs = json.loads((tmp_path / "generation_config.json").read_text())
    assert knobs["num_refinement_iterations"] == 5
    assert knobs["stop_early"] is False


def test_exporting_twice_gives_the_same_files(folder, tiny_model, tiny_tokenizer):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    export_folder(tiny_model, tiny_tokenizer, folder)

    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
