"""`hf-nar check`: code that is not the package's, and folders that are not fit for the Hub."""

import json

import pytest
from hub_clients import says
from tiny_pushes import save_student, save_teacher

from hf_nar.cli.main import main


@pytest.fixture
def folder(tiny_tokenizer, tmp_path):
    return save_student(tmp_path / "tiny-lanmt", tiny_tokenizer)


def change_config(folder, **changes):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")


def test_code_that_differs_is_named_and_not_run(folder, tmp_path, capsys):
    trace = tmp_path / "was run"
    with (folder / "modeling_lanmt.py").open("a", encoding="utf-8") as file:
        file.write(f"open({str(trace)!r}, 'w').close()\n")
    (folder / "handler.py").unlink()
    (folder / "layers_of_before.py").write_text("")
    change_config(folder, auto_map={"AutoModel": "modeling_lanmt.Other"})

    code = main(["check", str(folder)])

    said = capsys.readouterr()
    states = dict(reversed(line.split()) for line in said.out.splitlines())
    assert code == 1
    assert states.pop("modeling_lanmt.py") == states.pop("config.json") == "differs"
    assert states.pop("handler.py") == "missing"
    assert states.pop("layers_of_before.py") == "extra"
    assert set(states.values()) == {"same"}
    assert says("is not the installed package's, and was not loaded. Renew it", said.err)
    assert not trace.exists()


def test_the_code_is_renewed_and_the_folder_fit(folder, capsys):
    (folder / "layers_nar.py").write_text("older")
    (folder / "pipeline_translation.py").unlink()
    change_config(folder, auto_map={}, custom_pipelines={})

    code = main(["check", str(folder), "--fix"])

    said = capsys.readouterr()
    assert code == 0, said.err
    *states, last = said.out.splitlines()
    assert {line.split()[0] for line in states} == {"same"}
    assert says("is fit for the Hub: 3[0-9] files, ", last)


def test_a_teacher_is_fit_and_brings_no_code(tiny_tokenizer, tmp_path, capsys):
    folder = save_teacher(tmp_path / "teacher", tiny_tokenizer)

    code = main(["check", str(folder)])

    said = capsys.readouterr()
    assert code == 0, said.err
    assert says("^same     config.json\n.* is fit for the Hub: 8 files, ", said.out)


@pytest.mark.slow  # another process for each
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("import hf_nar", "hf_nar"),
        ("import os\nraise ValueError(os.environ.get('HF_TOKEN', 'no token'))", "no token"),
        ("import socket\nsocket.create_connection(('example.org', 80))", "the network is off"),
    ],
    ids=["this package", "the token", "the network"],
)
def test_trusted_code_has_no_more_than_a_stranger_has(line, message, folder, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with (folder / "modeling_lanmt.py").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")

    code = main(["check", str(folder), "--trust-remote-code"])

    assert code == 2
    error = capsys.readouterr().err
    assert says("must load with transformers and torch alone, offline, but tiny-lanmt", error)
    assert says(message, error)
    assert "hf_secret" not in error


def test_weights_that_are_no_safetensors_are_refused(folder, capsys):
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10/optimizer.pt").write_bytes(b"")

    code = main(["check", str(folder)])

    assert code == 2
    assert says(
        "must be safetensors, but .* holds checkpoint-10/optimizer.pt", capsys.readouterr().err
    )
