import hashlib
import importlib.metadata
import json
import platform
import shlex

import pytest
import sacrebleu
import torch

from hf_nar.evaluation.results import (
    check_results_file,
    environment,
    processor,
    write_results,
)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "results.json"


def write(file, kind, content, model="owner/name", arguments=("evaluate",)):
    write_results(file, kind, model, list(arguments), content)
    return json.loads(file.read_text("utf-8"))


def test_kinds_stand_beside_each_other(file):
    write(file, "quality", {"rows": [1]})

    results = write(file, "latency", {"rows": [2]})

    assert {kind: entry["rows"] for kind, entry in results.items()} == {
        "quality": [1],
        "latency": [2],
    }


def test_a_kind_is_replaced_as_a_whole(file):
    write(file, "quality", {"rows": [1], "sentences": 3})

    results = write(file, "quality", {"rows": [2]})

    assert results["quality"]["rows"] == [2]
    assert "sentences" not in results["quality"]


def test_the_command_can_be_pasted_into_a_shell(file):
    arguments = ["evaluate", "my model", "--source-file", "it's.de", "--iterations", "0,1"]

    command = write(file, "quality", {}, arguments=arguments)["quality"]["command"]

    assert shlex.split(command) == ["hf-nar", *arguments]
    assert "'my model'" in command


def test_the_weights_that_were_measured_are_named_by_their_digest(file, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.safetensors").write_bytes(b"weights")

    results = write(file, "quality", {}, model=str(tmp_path / "model"))

    assert results["quality"]["weights_sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_a_run_without_a_saved_model_names_no_weights(file, tmp_path, monkeypatch):
    (tmp_path / "model.safetensors").write_bytes(b"another model")
    monkeypatch.chdir(tmp_path)

    assert write(file, "benchmark", {}, model=None)["benchmark"]["weights_sha256"] is None


def test_text_of_any_language_stays_readable(file):
    write(file, "quality", {"note": "Übung"})

    assert "Übung" in file.read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON .*Choose another `--output`"), ("[1]", "is no JSON object")],
)
def test_a_file_that_is_none_of_ours_is_refused_and_kept(file, text, message):
    file.write_text(text)

    with pytest.raises(ValueError, match=message):
        write(file, "quality", {})
    assert file.read_text() == text


def test_a_missing_folder_is_one_clear_sentence(tmp_path):
    message = r"must be in a folder that exists, but .*nowhere does not. Make it first"

    with pytest.raises(FileNotFoundError, match=message):
        write(tmp_path / "nowhere/results.json", "quality", {})


def test_a_file_can_be_checked_before_anything_is_measured(file):
    assert check_results_file(file) == {}
    assert not file.exists()
    write(file, "latency", {})
    assert list(check_results_file(file)) == ["latency"]


def test_the_environment_names_hardware_and_versions():
    facts = environment(torch.device("cpu"))

    assert facts["torch"] == torch.__version__
    assert facts["threads"] == torch.get_num_threads()
    assert facts["device"] == processor()
    assert facts["device"].endswith(" cores")
    assert facts["sacrebleu"] == sacrebleu.__version__
    assert facts["platform"].startswith(platform.system())
    assert json.loads(json.dumps(facts)) == facts


def test_a_package_that_is_not_installed_is_left_out(monkeypatch):
    def version(package, real=importlib.metadata.version):
        if package == "sentencepiece":
            raise importlib.metadata.PackageNotFoundError(package)
        return real(package)

    assert "sentencepiece" in environment(torch.device("cpu"))
    monkeypatch.setattr("importlib.metadata.version", version)

    assert "sentencepiece" not in environment(torch.device("cpu"))
