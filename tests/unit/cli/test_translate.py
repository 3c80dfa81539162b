import io

import pytest
from tiny_folders import save_refiners

from hf_nar.cli.main import main
from hf_nar.inference import Translator, line_generators

LINES = ["Ein Hund läuft im Schnee.", "", "Eine Katze", "Ein Vogel sitzt unter dem Baum."]
LONG = "A " * 50


@pytest.fixture
def run(tiny_folder, monkeypatch, capsys):
    """Return a function that runs `hf-nar translate` with the tiny model."""

    def translate(*arguments, stdin=b""):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main(["translate", str(tiny_folder), *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return translate


@pytest.fixture
def expected(tiny_model, tiny_tokenizer):
    return Translator(tiny_model, tiny_tokenizer).translate(LINES)


def as_bytes(lines):
    return "".join(f"{line}\n" for line in lines).encode()


@pytest.mark.parametrize("options", [(), ("--batch-size", 1), ("--window", 100)])
def test_standard_input_gives_one_line_for_each_line(run, expected, options):
    code, out, err = run(*options, stdin=as_bytes(LINES))

    assert (code, out.split("\n"), err) == (0, [*expected, ""], "")


def test_arguments_are_lines(run, expected):
    code, out, _ = run(*LINES[:1], "\n".join(LINES[1:]))

    assert (code, out) == (0, as_bytes(expected).decode())


def test_files_are_read_and_written(run, expected, tmp_path):
    (tmp_path / "in.de").write_bytes(as_bytes(LINES))

    code, out, _ = run("--input", tmp_path / "in.de", "--output", tmp_path / "out.en")

    assert (code, out) == (0, "")
    assert (tmp_path / "out.en").read_bytes() == as_bytes(expected)


def test_no_input_gives_no_output(run):
    assert run(stdin=b"") == (0, "", "")


def test_the_last_line_may_lack_its_end(run, expected):
    assert run(stdin="\n".join(LINES).encode())[1] == as_bytes(expected).decode()


def test_only_a_line_feed_ends_a_line(run):
    text = "Ein Hund\u2028eine Katze\x0bein Kind\x85ein Mann\r\nEine Frau\n"

    _, out, _ = run(stdin=text.encode())

    assert out.count("\n") == 2
    assert "\r" not in out


def test_iterations_reach_the_model(run):
    _, no_refinement, _ = run(LINES[0], "--trace", "--iterations", 0)
    _, one, _ = run(LINES[0], "--trace", "--iterations", 1)

    assert "iteration" not in no_refinement
    assert "iteration 1" in one
    assert "iteration 2" not in one


def test_a_line_that_is_too_long_leaves_an_empty_one_and_code_1(run, expected):
    code, out, err = run("--batch-size", 2, stdin=as_bytes([*LINES[:3], LONG, LINES[3]]))

    assert code == 1
    assert out.split("\n") == [*expected[:3], "", expected[3], ""]
    assert "line 4 has " in err
    assert "at most 40" in err
    assert err.count("\n") == 1


def test_text_that_is_not_utf8_is_an_error_that_names_the_line(run):
    code, _, err = run(stdin=b"Ein Hund\nEin K\xe4fer\n")

    assert code == 2
    assert "line 2 of standard input" in err


def test_earlier_batches_are_out_before_a_bad_line_is_met(run, expected):
    _, out, _ = run("--batch-size", 1, stdin=LINES[0].encode() + b"\nEin K\xe4fer\n")

    assert out == f"{expected[0]}\n"


def test_two_inputs_are_refused(run, tmp_path):
    code, _, err = run("Ein Hund", "--input", tmp_path / "in.de")

    assert code == 2
    assert "not both" in err


def test_the_input_is_not_written_over(run, tmp_path):
    (tmp_path / "in.de").write_bytes(as_bytes(LINES))

    code, _, err = run("--input", tmp_path / "in.de", "--output", tmp_path / "in.de")

    assert code == 2
    assert "another file" in err
    assert (tmp_path / "in.de").read_bytes() == as_bytes(LINES)


@pytest.mark.parametrize(
    "options",
    [("--input", "nowhere.de"), ("--output", "nowhere/out.en"), ("--dtype", "int8")],
)
def test_a_bad_option_is_one_line_and_code_2(run, options):
    code, out, err = run(*options, stdin=b"Ein Hund\n")

    assert (code, out) == (2, "")
    assert err.startswith("hf-nar: error: ")
    assert err.count("\n") == 1


def test_a_model_that_is_not_there_is_one_line_and_code_2(capsys):
    assert main(["translate", "./nowhere", "Ein Hund"]) == 2

    err = capsys.readouterr().err
    assert "no such folder" in err
    assert err.count("\n") == 1


def test_a_reader_that_goes_away_ends_the_run(tiny_folder, monkeypatch, capsys):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr("sys.stdout", Closed())

    assert main(["translate", str(tiny_folder), "Ein Hund"]) == 141
    assert capsys.readouterr().err == ""


# Refinement in the latent space


@pytest.fixture
def refiners(tmp_path, tiny_tokenizer):
    return save_refiners(tmp_path / "refiners", tiny_tokenizer)


@pytest.fixture
def ascend(refiners, capsys):
    """Return a function that translates with score and energy network."""

    def translate(*arguments):
        code = main(["translate", str(refiners), *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return translate


def test_knobs_of_latents_reach_the_model(ascend, refiners):
    options = {"--refinement": "score", "--iterations": 3, "--step-size": 0.5}
    options |= {"--step-tolerance": 0.9, "--num-latents": 3, "--latent-temperature": 8.0}
    text = "\n".join(LINES)

    _, out, err = ascend(
        text, *(part for option in options.items() for part in option), "--line-search", "--seed", 5
    )

    knobs = {name[2:].replace("-", "_"): value for name, value in options.items()}
    knobs["num_refinement_iterations"] = knobs.pop("iterations")
    translator = Translator.from_pretrained(refiners, device="cpu", line_search=True, **knobs)
    noise = line_generators(5, len(LINES))
    right = translator.translate(LINES, generator=noise)
    assert (out.split("\n")[:-1], err.count("error")) == (right, 0)


@pytest.mark.parametrize(
    "option", [("--step-size", 0.3), ("--step-tolerance", 0.9), ("--line-search",)]
)
def test_each_knob_of_a_step_changes_drafts_or_probability(ascend, option):
    plain, changed = (
        ascend(*LINES, "--refinement", "score", "--iterations", 3, "--trace", *more)[1]
        for more in ((), option)
    )

    assert plain != changed


def test_a_line_has_its_own_noise_whatever_its_batch(ascend):
    options = ["--refinement", "score", "--num-latents", 4, "--latent-temperature", 8.0]
    text = "\n".join(LINES)

    first, again, other = (
        ascend(text, *options, *more)[1]
        for more in (["--batch-size", 1], ["--seed", 12345], ["--seed", 1])
    )

    assert first == again != other
    assert first != ascend(text, *options[:4])[1]  # at another temperature


def test_a_trace_of_score_inference_marks_what_each_iteration_changed(ascend):
    _, out, _ = ascend(*LINES, "--refinement", "score", "--iterations", 2, "--trace")

    rows = [line for line in out.splitlines() if line]
    names = ["source", "draft", "iteration", "iteration", "translation", "probability"]
    assert [line.split()[0] for line in rows] == names * 3  # an empty line has no drafts
    assert not any("[" in line for line in rows if line.startswith("draft"))
    assert any("[" in line for line in rows if line.startswith("iteration"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", 1], "`--seed` is for samples of latents"),
        (["--latent-temperature", 1], "Give `--num-latents 5`"),
        (["--step-size", 0.5], "`step_size` has no meaning"),
        (["--refinement", "nonsense"], 'no refinement "nonsense"'),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(ascend, tmp_path, options, message):
    code, out, err = ascend(LINES[0], *options, "--output", tmp_path / "out.txt")

    assert (code, out) == (2, "")
    assert message in err
    assert not (tmp_path / "out.txt").exists()
