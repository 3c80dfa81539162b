"""An exported folder works for someone who has transformers and torch, but not this package."""

import json

import pytest
import torch
from clean_process import run_alone
from conftest import TINY_VOCABULARY
from tiny_networks import refiner_model
from transformers import AutoTokenizer

from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration
from hf_nar.training.export import export_folder

TEXTS = ["Ein Hund läuft im Schnee.", "Eine Katze", "Ein Vogel sitzt unter dem Baum."]

SCRIPT = """
import json, sys
sys.modules["hf_nar"] = None  # importing it fails from here on
folder, texts = sys.argv[1], json.loads(sys.argv[2])
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

try:
    import hf_nar
except ImportError:
    found = {"package": False}
tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
safe = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
plain = AutoTokenizer.from_pretrained(folder)  # asks in a terminal, because of the model's code
found["ids"] = tokenizer(texts)["input_ids"]
found["safe_ids"] = safe(texts)["input_ids"]
found["plain_ids"] = plain(texts)["input_ids"]
batch = tokenizer(texts, return_tensors="pt", padding=True)
for auto_class in (AutoModel, AutoModelForSeq2SeqLM):
    model = auto_class.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
    found[auto_class.__name__] = {
        "module": type(model).__module__,
        "knobs": model.generation_config.to_diff_dict(),
        **{
            str(count): model.generate(**batch, num_refinement_iterations=count).tolist()
            for count in (0, 3)
        },
        "default": model.generate(**batch).tolist(),
    }
padding = torch.full_like(batch["input_ids"][:1], tokenizer.pad_token_id)
found["padding"] = model.generate(
    torch.cat([batch["input_ids"], padding]),
    attention_mask=torch.cat([batch["attention_mask"], torch.zeros_like(padding)]),
).tolist()
found["refined"] = []
for other in json.loads(sys.argv[3]):
    model = AutoModel.from_pretrained(other, trust_remote_code=True, dtype=torch.float32).eval()
    outputs = {"default": model.generate(**batch).tolist()}
    for name in model.refinements:
        knobs = {"refinement": name, "num_refinement_iterations": 3}
        outputs[name] = model.generate(**batch, **knobs).tolist()
    found["refined"].append(outputs)
print()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def exported(tiny_folder, tmp_path_factory):
    """Return an exported folder whose model says other things in each iteration."""
    model = LaNMTForConditionalGeneration.from_pretrained(tiny_folder)
    torch.manual_seed(0)
    for part in (model.posterior_head, model.lm_head, model.latent_projection):
        torch.nn.init.normal_(part.weight, std=1.0)
    model.generation_config.num_refinement_iterations = 2
    model.generation_config.collapse_repeats = False
    folder = tmp_path_factory.mktemp("export") / "lanmt-1.5"  # a dot, as names on the Hub have
    export_folder(model, AutoTokenizer.from_pretrained(tiny_folder), folder)
    return folder


@pytest.fixture(scope="module")
def refined(exported, tmp_path_factory):
    """Return exported folders of models with refiners, one for each axis of latents."""
    folders = []
    for axis, layers in (("source", "num_target_layers"), ("target", "num_source_layers")):
        shape = {"max_position_embeddings": 40, "max_target_length": 48, layers: 1}
        model = refiner_model(axis, vocab_size=TINY_VOCABULARY, **shape)
        knobs = {"refinement": "score", "num_refinement_iterations": 2, "step_size": 0.5}
        model.generation_config.update(**knobs)
        folder = tmp_path_factory.mktemp("refined") / f"lanmt-{axis}"
        export_folder(model, AutoTokenizer.from_pretrained(exported), folder)
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="module")
def found(exported, refined, tmp_path_factory):
    """Return what the other process found; it is started once."""
    questions = (str(exported), json.dumps(TEXTS), json.dumps(refined))
    return run_alone(SCRIPT, *questions, home=tmp_path_factory.mktemp("home"))


@pytest.fixture
def model(exported):
    return LaNMTForConditionalGeneration.from_pretrained(exported, dtype=torch.float32).eval()


@pytest.fixture
def batch(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported)
    return tokenizer(TEXTS, return_tensors="pt", padding=True)


each_auto_class = pytest.mark.parametrize("auto_class", ["AutoModel", "AutoModelForSeq2SeqLM"])


@each_auto_class
def test_it_generates_the_same_tokens_with_the_code_in_the_folder(found, model, batch, auto_class):
    drafts = [model.generate(**batch, num_refinement_iterations=n).tolist() for n in (0, 3)]

    assert found["package"] is False
    assert found[auto_class]["module"].startswith("transformers_modules.")
    assert [found[auto_class][count] for count in ("0", "3")] == drafts
    assert drafts[0] != drafts[1]


@each_auto_class
def test_knobs_come_with_the_folder(found, model, batch, auto_class):
    knobs = found[auto_class]["knobs"]

    assert knobs["num_refinement_iterations"] == 2
    assert knobs["collapse_repeats"] is False
    assert knobs["max_length"] == model.config.max_target_length
    expected = model.generate(**batch, num_refinement_iterations=2, collapse_repeats=False)
    assert found[auto_class]["default"] == expected.tolist()


def test_the_tokenizer_needs_no_trust(found, batch, exported):
    assert found["safe_ids"] == found["plain_ids"] == found["ids"]
    assert found["ids"] == AutoTokenizer.from_pretrained(exported)(TEXTS)["input_ids"]


@pytest.mark.parametrize("axis", ["source", "target"])
def test_refiners_come_with_the_folder_and_refine_as_here(found, refined, batch, axis):
    number = ["source", "target"].index(axis)
    model = LaNMTForConditionalGeneration.from_pretrained(refined[number], dtype=torch.float32)
    model.eval()

    outputs = found["refined"][number]

    for name in ("score", "energy", "delta_posterior", "none"):
        own = model.generate(**batch, refinement=name, num_refinement_iterations=3)
        assert outputs[name] == own.tolist(), name
    knobs = {"refinement": "score", "num_refinement_iterations": 2, "step_size": 0.5}
    assert outputs["default"] == model.generate(**batch, **knobs).tolist()
    assert len({str(tokens) for tokens in outputs.values()}) == 5


def test_a_row_of_padding_changes_no_other_row(found):
    *rows, empty = found["padding"]

    assert rows == found["AutoModelForSeq2SeqLM"]["default"]
    assert empty == [2] + [0] * (len(empty) - 1)
