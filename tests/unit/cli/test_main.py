import pytest

import hf_nar
from hf_nar.cli import main as main_module
from hf_nar.cli.main import BAD_CALL, CLOSED_PIPE, INTERRUPTED, main


@pytest.fixture
def failing(monkeypatch):
    """Return a function that makes `hf-nar fail` raise an error."""

    def arrange(error):
        app = main_module.typer.Typer(rich_markup_mode=None)
        app.callback()(main_module._options)

        @app.command()
        def fail():
            raise error

        monkeypatch.setattr(main_module, "app", app)

    return arrange


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hf-nar {hf_nar.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["--help"], ["translate", "--help"]])
def test_help_is_no_error(capsys, arguments):
    assert main(arguments) == 0
    assert "Usage: hf-nar" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["translat"], ["translate"], ["translate", "m", "--batch-size", "0"], ["--wat"]]
)
def test_a_bad_call_is_one_line_and_code_2(capsys, arguments):
    assert main(arguments) == BAD_CALL

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hf-nar: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "error", [ValueError("one\n  two"), FileNotFoundError("one two"), OSError("one two")]
)
def test_an_expected_error_is_one_line_and_code_2(capsys, failing, error):
    failing(error)

    assert main(["fail"]) == BAD_CALL
    assert capsys.readouterr().err == "hf-nar: error: one two\n"


def test_debug_shows_where_an_error_came_from(capsys, failing):
    failing(ValueError("wrong"))

    assert main(["--debug", "fail"]) == BAD_CALL

    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.endswith("hf-nar: error: wrong\n")


def test_the_environment_can_ask_for_debug(capsys, failing, monkeypatch):
    monkeypatch.setenv("HF_NAR_DEBUG", "1")
    failing(ValueError("wrong"))

    main(["fail"])

    assert "Traceback" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(failing):
    failing(KeyError("ours"))

    with pytest.raises(KeyError, match="ours"):
        main(["fail"])


def test_ctrl_c_ends_without_a_traceback(capsys, failing):
    failing(KeyboardInterrupt())

    assert main(["fail"]) == INTERRUPTED
    assert capsys.readouterr().err == "hf-nar: interrupted\n"


def test_a_reader_that_goes_away_is_no_error(capsys, failing, monkeypatch):
    monkeypatch.setattr(main_module, "_drop_output", lambda: None)
    failing(BrokenPipeError())

    assert main(["fail"]) == CLOSED_PIPE
    assert capsys.readouterr().err == ""


def test_env_names_the_versions(capsys):
    assert main(["env"]) == 0

    out = capsys.readouterr().out
    for name in ("python", "torch", "transformers", "hf-nar", "cuda"):
        assert f"\n{name} " in f"\n{out}"
