import pytest

from hf_nar.inference import Translator
from hf_nar.remote_code.handler import EndpointHandler
from hf_nar.training.export import export_folder

TEXTS = ["Ein Hund läuft im Schnee.", "", "Eine Katze"]


@pytest.fixture(scope="module")
def folder(_loaded_model, _loaded_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("endpoint") / "model"
    export_folder(_loaded_model, _loaded_tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def handler(folder):
    return EndpointHandler(str(folder))


def test_it_answers_with_the_translations_in_the_order_of_the_texts(handler, folder):
    expected = Translator.from_pretrained(folder, device="cpu")(TEXTS)

    assert handler({"inputs": TEXTS}) == expected
    assert handler({"inputs": TEXTS[0]}) == expected[:1]
    assert handler({"inputs": []}) == []


def test_parameters_are_knobs_of_decoding(handler):
    parameters = {"num_refinement_iterations": 0, "batch_size": 2, "return_drafts": True}

    [result] = handler({"inputs": TEXTS[0], "parameters": parameters})

    assert len(result["drafts"]) == 1


@pytest.mark.parametrize(
    ("request_data", "error", "message"),
    [
        ("Ein Hund", TypeError, "must be an object with `inputs`, got str"),
        ({}, ValueError, "must have `inputs`.* has nothing"),
        ({"input": "Ein Hund"}, ValueError, "must have `inputs`.* has input"),
        ({"inputs": 3}, TypeError, "`inputs` must be a text or a flat list"),
        ({"inputs": ["Ein Hund", None]}, TypeError, "`inputs` must be a text or a flat list"),
        ({"inputs": "Hund", "parameters": [1]}, TypeError, "`parameters` must be an object"),
        ({"inputs": "Hund", "parameters": {"num_workers": 2}}, ValueError, "got `num_workers`"),
        ({"inputs": "Hund", "parameters": {"target_lengths": [3]}}, ValueError, "target_lengths"),
        ({"inputs": "Hund", "parameters": {"batch_size": 0}}, ValueError, "at least 1, got 0"),
        ({"inputs": "Hund", "parameters": {"return_drafts": 1}}, ValueError, "true or false"),
        ({"inputs": "Hund " * 50}, ValueError, "at most 40 tokens"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_send(handler, request_data, error, message):
    with pytest.raises(error, match=message):
        handler(request_data)


def test_a_hub_id_is_not_loaded(tmp_path):
    with pytest.raises(NotADirectoryError, match="must be a model's folder, got 'owner/name'"):
        EndpointHandler("owner/name")


def test_weights_that_are_not_safetensors_are_not_read(folder, tmp_path):
    copy = tmp_path / "model"
    copy.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (copy / file.name).write_bytes(file.read_bytes())
    (copy / "pytorch_model.bin").write_bytes(b"not to be unpickled")

    with pytest.raises(OSError, match=r"model\.safetensors"):
        EndpointHandler(str(copy))
