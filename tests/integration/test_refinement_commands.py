"""Commands with a model of the refinement family."""

import hashlib
import json

import pytest
from tiny_folders import save_refinement
from tiny_runs import tiny_pairs
from tiny_teachers import save_teacher

from hf_nar.cli.main import main
from hf_nar.inference import Translator

SOURCES, REFERENCES = (list(side) for side in zip(*tiny_pairs()[:8], strict=True))
BEAM = "num_refinement_iterations=2,length_beam=4"


@pytest.fixture
def folder(tmp_path, tiny_tokenizer):
    return save_refinement(tmp_path / "model", tiny_tokenizer)


@pytest.fixture
def marian(tmp_path, tiny_tokenizer):
    return save_teacher(tmp_path / "marian", "marian", tiny_tokenizer)


@pytest.fixture
def run(tmp_path, capsys):
    """Return a function that runs a command and gives code, output, errors and results."""

    def run(*arguments):
        output = tmp_path / "results.json"
        code = main([*map(str, arguments), "--output", str(output)])
        out, err = capsys.readouterr()
        return code, out, err, json.loads(output.read_text()) if output.is_file() else None

    return run


@pytest.fixture
def evaluate(run, tmp_path):
    for name, lines in (("test.de", SOURCES), ("test.en", REFERENCES)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def evaluate(model, *options):
        files = ["--source-file", tmp_path / "test.de", "--target-file", tmp_path / "test.en"]
        return run("evaluate", *model, *files, "--device", "cpu", *options)

    return evaluate


def assert_one_sentence(result, message):
    code, _, err, results = result
    assert (code, results) == (2, None)
    assert err.count("\n") == 1
    assert message in err


# evaluate


def test_fixed_adaptive_and_ranked_settings_are_measured(evaluate, folder, marian):
    settings = [
        *("num_refinement_iterations=3,stop_early=false", BEAM),
        *(f"{BEAM},rank_by=teacher", "num_refinement_iterations=3,jaccard_threshold=1.0"),
    ]
    options = [part for setting in settings for part in ("--setting", setting)]

    code, _, err, results = evaluate([folder], *options, "--rank-with", marian)

    assert code == 0, err
    quality = results["quality"]
    fixed, own, ranked, adaptive = quality["rows"]
    assert (fixed["mean_iterations"], adaptive["iterations"]) == (3, 3)
    assert adaptive["mean_iterations"] < 3
    assert own["chrf"] != ranked["chrf"]
    assert quality["family"] == "refinement_nar"
    digest = hashlib.sha256((marian / "model.safetensors").read_bytes()).hexdigest()
    assert quality["ranking_teacher"]["weights_sha256"] == digest


def test_without_a_teacher_a_results_file_names_none(evaluate, folder):
    assert evaluate([folder], "--setting", BEAM)[3]["quality"]["ranking_teacher"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--setting", f"{BEAM},rank_by=teacher"], "none is given: num_refinement_iterations=2"),
        (["--setting", "rank_by=teacher", "--rank-with", "MARIAN"], "Add length_beam=5"),
        (["--setting", BEAM, "--rank-with", "MARIAN"], "is for `--setting length_beam=5,rank_by="),
        (["--setting", "rank_by=me"], "`rank_by` must be one of own, teacher"),
        (["--rank-with", "nowhere"], "Cannot load a teacher from nowhere"),
    ],
)
def test_ranking_that_cannot_be_or_changes_nothing_is_refused(
    evaluate, folder, marian, options, message
):
    options = [str(marian) if option == "MARIAN" else option for option in options]

    assert_one_sentence(evaluate([folder], *options), message)


def test_other_systems_are_not_ranked(evaluate, marian, tmp_path):
    option = ("--rank-with", marian)

    assert_one_sentence(evaluate([marian], *option), "`--rank-with` is for non-autoregressive")
    hypotheses = ["--hypotheses", tmp_path / "test.en"]
    files = ["--target-file", tmp_path / "test.en"]
    assert main([*map(str, ("evaluate", *hypotheses, *files, *option))]) == 2


# translate


def translated(capsys, *arguments):
    code = main(["translate", *map(str, arguments), "--device", "cpu"])
    return code, *capsys.readouterr()


def test_a_teacher_chooses_among_lengths_on_the_command_line(folder, marian, capsys):
    own, ranked = (
        translated(capsys, folder, *SOURCES, "--length-beam", 4, *options)
        for options in ([], ["--rank-with", marian])
    )

    translator = Translator.from_pretrained(folder, device="cpu", teacher=marian, length_beam=4)
    assert own[:2] == (0, "".join(f"{text}\n" for text in translator.translate(SOURCES)))
    expected = translator.translate(SOURCES, rank_by="teacher")
    assert ranked[:2] == (0, "".join(f"{text}\n" for text in expected))
    assert own != ranked


def test_a_teacher_without_lengths_to_choose_from_is_refused(folder, marian, capsys):
    code, out, err = translated(capsys, folder, SOURCES[0], "--rank-with", marian)

    assert (code, out) == (2, "")
    assert "Give `--length-beam 5` or `--num-latents 5`, or leave it out" in err


def test_every_draft_of_the_kept_length_is_shown(folder, capsys):
    _, out, _ = translated(capsys, folder, SOURCES[0], "--trace", "--length-beam", 4)

    model = Translator.from_pretrained(folder, device="cpu", length_beam=4)
    trace = model.trace(SOURCES[:1])[0]
    assert out.count("iteration") == trace.iterations > 0
    assert trace.translation in out


# latency, landscape, benchmark


def test_latency_runs_every_pass_whatever_the_model_does_by_itself(run, folder):
    knobs = folder / "generation_config.json"
    knobs.write_text(json.dumps({**json.loads(knobs.read_text()), "length_beam": 3}))

    sizes = ["--lengths", "5", "--iterations", "0,2", "--repeats", "1"]
    code, _, err, results = run("latency", folder, *sizes)

    assert code == 0, err
    none, two = results["latency"]["rows"]
    decoder = two["gflop"] - none["gflop"]
    assert none["gflop"] > 0
    assert decoder > 0


def test_a_model_without_latents_has_no_landscape(run, folder):
    result = run("landscape", folder, "--source", "Ein Hund", "--target", "A dog")

    assert_one_sentence(result, "must refine latents, but RefinementNAR")


def test_a_benchmark_takes_the_family(run, folder, tmp_path, tiny_tokenizer):
    teacher = save_teacher(tmp_path / "teacher", "marian", tiny_tokenizer, max_length=20)
    source = tmp_path / "test.de"
    source.write_text("Ein Hund läuft im Schnee.\nEin Kind schläft.\n", encoding="utf-8")

    code, _, err, results = run(
        "benchmark", folder, "--teacher", teacher, "--source-file", source,
        "--systems", "ours,transformers greedy", "--iterations", "1,3",
        "--repeats", "1", "--warm-up", "0", "--no-memory",
    )  # fmt: skip

    assert code == 0, err
    names = [system["name"] for system in results["benchmark"]["systems"]]
    assert names[:2] == ["RefinementNAR, 1 iteration", "RefinementNAR, 3 iterations"]
    assert results["benchmark"]["family"] == "refinement_nar"


def test_a_benchmark_of_random_weights_can_be_of_each_family(run):
    sizes = ["--systems", "ours", "--length", "5", "--repeats", "1", "--no-memory"]
    sizes += ["--weights", "plain"]
    options = ["--random-init", "tiny", "--warm-up", "0", "--iterations", "2", *sizes]

    code, _, err, results = run("benchmark", *options, "--family", "refinement_nar")

    assert code == 0, err
    content = results["benchmark"]
    assert [system["name"] for system in content["systems"]] == ["RefinementNAR, 2 iterations"]
    assert (content["family"], content["shape"]) == ("refinement_nar", "tiny")
    assert run("benchmark", *options)[3]["benchmark"]["family"] == "lanmt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--random-init", "tiny", "--family", "marian"], "must be one of lanmt, refinement_nar"),
        (
            ["model", "--teacher", "t", "--source-file", "s", "--family", "lanmt"],
            "`--family` is for `--random-init`",
        ),
    ],
)
def test_a_wrong_family_is_one_clear_sentence(run, options, message):
    assert_one_sentence(run("benchmark", *options), message)
