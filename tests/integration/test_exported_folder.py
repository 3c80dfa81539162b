"""An exported folder does what transformers expects of one, offline and without this package."""

import pytest
import torch
from stranger import TEXTS, look_at_folders
from tiny_exports import export_families

from hf_nar.inference import Translator


@pytest.fixture(scope="module")
def folders(_loaded_tokenizer, tmp_path_factory):
    """Return the folder of each family, and one that the other process saves it to again."""
    exported = export_families(tmp_path_factory.mktemp("export"), _loaded_tokenizer)
    again = tmp_path_factory.mktemp("again")
    return {family: (folder, again / family) for family, folder in exported.items()}


@pytest.fixture(scope="module")
def found_in(folders, tmp_path_factory):
    """Return what another process found in the folders; it is started once."""
    return look_at_folders(folders, home=tmp_path_factory.mktemp("home"))


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
