"""What a push asks of a folder; its code is checked in tests of `hf-nar check`."""

import json

import pytest
from safetensors.torch import load_file, save_file
from tiny_pushes import describe, save_student, write_card

from hf_nar.hub.folder_check import check_folder, write_hub_card


@pytest.fixture
def folder(tiny_tokenizer, tmp_path):
    return save_student(tmp_path / "tiny-lanmt", tiny_tokenizer)


@pytest.fixture
def check(folder, tmp_path):
    return lambda: check_folder(folder, tmp_path / "copy" / folder.name)


def change_json(file, **changes):
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")


def do_not_load(folder):
    """Let the code differ, so that a test that is about something else is quick."""
    (folder / "handler.py").unlink()


def test_knobs_that_loading_loses_are_named(folder, check):
    change_json(folder / "generation_config.json", _from_model_config=True)

    with pytest.raises(ValueError, match=r"loses .*num_refinement_iterations"):
        check()


@pytest.mark.slow  # another process
def test_weights_must_be_complete(folder, check):
    weights = load_file(folder / "model.safetensors")
    del weights["length_predictor.classifier.bias"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    describe(folder, folder)

    with pytest.raises(ValueError, match=r"missing_keys.*length_predictor.classifier.bias"):
        check()


def test_figures_must_be_of_these_weights(folder, check):
    weights = load_file(folder / "model.safetensors")
    save_file(weights, folder / "model.safetensors", {"format": "pt", "other": "bytes"})

    with pytest.raises(ValueError, match="must hold figures of the weights beside it"):
        check()


def test_one_other_digit_in_the_card_is_an_error_that_names_the_users_file(folder, check):
    card = folder / "README.md"
    card.write_text(card.read_text("utf-8").replace("37.44", "37.45", 1), "utf-8")

    with pytest.raises(ValueError, match=f"{card} must agree with its results, but line "):
        check()


def test_a_card_must_be_there(folder, check):
    (folder / "README.md").unlink()

    with pytest.raises(
        ValueError, match=r"README.md must agree with its results, but is not there"
    ):
        check()


def test_a_card_may_have_been_written_from_another_folder(folder, check, monkeypatch):
    do_not_load(folder)
    monkeypatch.chdir(folder.parent.parent)
    write_card(folder)
    assert f'folder = "{folder.parent.name}/tiny-lanmt"' in (folder / "README.md").read_text(
        "utf-8"
    )
    monkeypatch.chdir(folder)

    assert check().other_code == ["handler.py"]


def test_a_card_must_say_its_licence(folder, check):
    training = json.loads((folder / "training.json").read_text("utf-8"))
    training["recipe"]["card"]["license"] = ""
    change_json(folder / "training.json", **training)
    write_card(folder)

    with pytest.raises(ValueError, match=r"must say its license, but .* Add `card.license`"):
        check()


def test_a_folder_without_weights_is_none(folder, check):
    (folder / "model.safetensors").unlink()

    with pytest.raises(ValueError, match=r"must hold weights, but .* no \.safetensors file"):
        check()


def test_a_folder_of_another_model_is_none(folder, check):
    change_json(folder / "config.json", model_type="bert")

    with pytest.raises(ValueError, match="'bert'"):
        check()


def test_a_folder_without_config_is_none(folder, check):
    (folder / "config.json").unlink()

    with pytest.raises(FileNotFoundError, match=r"must hold config.json, but .* does not"):
        check()


def test_a_model_that_reads_images_has_no_card_yet(folder, check):
    change_json(folder / "config.json", vision_config={"model_type": "vit"})

    with pytest.raises(ValueError, match=r"reads images. Upload it with `hf upload`"):
        check()


def test_code_that_is_not_the_packages_is_not_sent_unless_trusted(folder, check):
    do_not_load(folder)

    with pytest.raises(
        ValueError, match=r"but handler.py is not. Renew it with `hf-nar check .*tiny-lanmt --fix`"
    ):
        check().require_own_code()


def test_the_card_on_the_hub_loads_the_model_from_there(folder, check):
    do_not_load(folder)
    checked = check()

    write_hub_card(checked.facts, folder, "someone/a-model")

    assert 'folder = "someone/a-model"' in (folder / "README.md").read_text("utf-8")
