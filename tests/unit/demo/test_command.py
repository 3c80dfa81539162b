import sys

import pytest

from hf_nar.cli.main import main


def test_without_gradio_one_sentence_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)

    assert main(["demo", "folder"]) == 2
    assert capsys.readouterr().err == (
        'hf-nar: error: `hf-nar demo` needs gradio. Install it with `pip install "hf-nar[demo]"`.\n'
    )


@pytest.mark.parametrize("folder", ["./nowhere", "nowhere"])
def test_a_model_that_is_not_there_is_one_sentence(capsys, folder):
    assert main(["demo", folder]) == 2
    assert capsys.readouterr().err.startswith("hf-nar: error: The model must be a folder or a Hub")


@pytest.mark.parametrize("option", ["--max-characters", "--max-waiting", "--concurrency", "--port"])
def test_nothing_is_no_limit(capsys, option):
    assert main(["demo", "folder", option, "0"]) == 2
    assert option in capsys.readouterr().err
