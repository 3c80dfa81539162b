"""An exported folder does what transformers expects of one, offline and without this package."""

import json

import pytest
import torch
from clean_process import run_alone
from tiny_exports import export_families

from hf_nar.inference import Translator

TEXTS = ["Ein Hund läuft im Schnee.", "", "Eine Katze", "Ein Vogel sitzt unter dem Baum."]
WAYS = {
    "float32": {"dtype": "float32"},
    "as saved": {},
    "bfloat16": {"dtype": "bfloat16"},
    "device map": {"dtype": "float32", "device_map": "auto"},
    "low memory": {"dtype": "float32", "low_cpu_mem_usage": True},
    "eager": {"dtype": "float32", "attn_implementation": "eager"},
    "sdpa": {"dtype": "float32", "attn_implementation": "sdpa"},
}
SCRIPT = """
import importlib.util, json, socket, sys
sys.modules["hf_nar"] = None  # importing it fails from here on

def refuse(*arguments):
    raise AssertionError(f"the network was asked for {arguments[1:]}")

for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = refuse
from transformers import (
    AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, pipeline
)

trust = {"trust_remote_code": True}
folders, ways, texts = map(json.loads, sys.argv[1:])

def save_again(folder, again):
    AutoModelForSeq2SeqLM.from_pretrained(folder, **trust).save_pretrained(again)
    AutoTokenizer.from_pretrained(folder, **trust).save_pretrained(again)

def load(folder, batch, auto_class, **options):
    model = auto_class.from_pretrained(folder, **trust, **options)
    return {
        "sequences": model.generate(**batch).tolist(),
        "logits": model(**batch).logits.float().tolist(),
        "dtype": str(model.dtype),
        "attention": model.config._attn_implementation,
        "class": [type(model).__module__, type(model).__name__],
    }

def translate(folder):
    translator = pipeline("translation", model=folder, dtype="float32", batch_size=2, **trust)
    return {
        "class": type(translator).__module__,
        "one": translator(texts[0]),
        "list": translator(texts),
        "generator": list(translator((text for text in texts), num_refinement_iterations=0)),
    }

def answer(folder):
    spec = importlib.util.spec_from_file_location("handler", f"{folder}/handler.py")
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    return handler.EndpointHandler()({"inputs": texts})

def look_at(folder, again):
    config = AutoConfig.from_pretrained(folder, **trust)
    tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    save_again(folder, again)
    untold = pipeline(model=folder, dtype="float32", device_map="auto", **trust)
    return {
        "config": [config.model_type, type(config).__module__],
        "knobs": GenerationConfig.from_pretrained(folder).to_diff_dict(),
        "base": load(folder, batch, AutoModel, dtype="float32"),
        "ways": {
            way: load(folder, batch, AutoModelForSeq2SeqLM, **options)
            for way, options in ways.items()
        },
        "pipeline": translate(folder),
        "pipeline again": translate(again),
        "task": [untold.task, untold(texts)],
        "handler": answer(folder),
    }

found = {family: look_at(*pair) for family, pair in folders.items()}
print()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folders(_loaded_tokenizer, tmp_path_factory):
    """Return the folder of each family, and one that the other process saves it to again."""
    exported = export_families(tmp_path_factory.mktemp("export"), _loaded_tokenizer)
    again = tmp_path_factory.mktemp("again")
    return {family: (folder, again / family) for family, folder in exported.items()}


@pytest.fixture(scope="module")
def found_in(folders, tmp_path_factory):
    """Return what another process found in the folders; it is started once."""
    names = {family: list(map(str, pair)) for family, pair in folders.items()}
    questions = map(json.dumps, (names, WAYS, TEXTS))
    return run_alone(SCRIPT, *questions, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(params=["lanmt", "refinement_nar"])
def family(request):
    return request.param


@pytest.fixture
def found(found_in, family):
    return found_in[family]


@pytest.fixture
def expected(folders, family):
    """Return what the package itself makes of the texts."""
    return Translator.from_pretrained(folders[family][0], device="cpu")


def each(found, field):
    return {way: result[field] for way, result in found["ways"].items()}


def test_the_auto_classes_find_config_network_and_knobs(found, family):
    model_type, module = found["config"]
    networks = [found["base"], *found["ways"].values()]

    assert model_type == family
    assert module.startswith("transformers_modules.")
    assert found["knobs"]["num_refinement_iterations"] == 2
    assert all(network["class"] == found["base"]["class"] for network in networks)
    assert found["base"]["class"][0].startswith("transformers_modules.")


def test_a_model_has_the_dtype_that_was_asked_for_or_saved(found):
    for way, dtype in each(found, "dtype").items():
        is_half = way in {"as saved", "bfloat16"}
        assert dtype == ("torch.bfloat16" if is_half else "torch.float32"), way


def test_attention_is_the_one_that_was_asked_for(found):
    for way, attention in each(found, "attention").items():
        assert attention == ("eager" if way == "eager" else "sdpa"), way


def test_it_translates_the_same_however_it_is_loaded(found, expected):
    batch = expected.tokenizer(TEXTS, return_tensors="pt", padding=True)
    sequences = expected.model.generate(**batch).tolist()

    assert found["base"]["sequences"] == sequences
    for way, result in each(found, "sequences").items():
        if way not in {"as saved", "bfloat16"}:
            assert result == sequences, way


def test_logits_do_not_depend_on_the_attention_and_bfloat16_is_what_was_saved(found):
    logits = {way: torch.tensor(values) for way, values in each(found, "logits").items()}

    torch.testing.assert_close(logits["eager"], logits["sdpa"], atol=1e-4, rtol=1e-4)
    assert torch.equal(logits["bfloat16"], logits["as saved"])
    assert torch.isfinite(logits["bfloat16"]).all()


def test_saving_again_gives_the_same_files(folders, found, family):
    before, after = (
        {file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders[family]
    )
    # The same class; its old name is known to older versions, too.
    name = b'"PreTrainedTokenizerFast"', b'"TokenizersBackend"'
    before["tokenizer_config.json"] = before["tokenizer_config.json"].replace(*name)

    assert before.keys() - after.keys() == {"handler.py"}  # nothing that is loaded names it
    assert {name for name in after if after[name] != before[name]} == set()


@pytest.mark.parametrize("which", ["pipeline", "pipeline again"])
def test_the_pipeline_of_transformers_4_is_back(found, expected, which):
    result = found[which]
    translations = expected(TEXTS)

    assert result["class"].startswith("transformers_modules.")
    assert result["list"] == translations
    assert result["one"] == translations[:1]
    drafts = expected(TEXTS, num_refinement_iterations=0)
    assert result["generator"] == [[draft] for draft in drafts]
    assert drafts != translations


def test_the_task_need_not_be_named(found, expected):
    assert found["task"] == ["translation", expected(TEXTS)]


def test_the_handler_of_an_endpoint_answers(found, expected):
    assert found["handler"] == expected(TEXTS)
