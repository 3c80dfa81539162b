"""`hf-nar benchmark`, from the call to the results file."""

import gzip
import json
import os
import sys

import pytest
import torch

import hf_nar.evaluation
from hf_nar.cli.main import main
from hf_nar.evaluation.benchmark_networks import write_random_networks
from hf_nar.evaluation.quality import corpus_scores
from hf_nar.inference import Translator

SIZES = ["--repeats", "2", "--warm-up", "1", "--no-memory"]
COUNTS = ("1 iteration", "4 iterations")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """The command sets variables and torch's threads for its whole process."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(capsys):
    def run(*arguments):
        code = main(["benchmark", *map(str, arguments)])
        return code, *capsys.readouterr()

    return run


def test_random_networks_are_measured_into_a_results_file(run, tmp_path, monkeypatch):
    pytest.importorskip("ctranslate2")
    file = tmp_path / "results.json"
    options = ["--batch-size", "1,3", "--length", "6,10", "--seed", "7"]
    (tmp_path / "model.safetensors").write_bytes(b"not what is measured")
    monkeypatch.chdir(tmp_path)

    code, out, err = run("--random-init", "tiny", *options, *SIZES, "--output", file)

    assert (code, err.count("error")) == (0, 0)
    results = json.loads(file.read_text("utf-8"))["benchmark"]
    check_schema(results)
    assert (results["shape"], results["source"], results["seed"]) == ("tiny", "random tokens", 7)
    assert results["dtype"] == "float32"
    assert results["weights_sha256"] is None
    assert "peak MB beyond libraries" in out
    names = {system["name"]: system for system in results["systems"]}
    cells = {(1, 6), (3, 6), (1, 10), (3, 10)}
    for name in names:
        rows = [row for row in results["rows"] if row["system"] == name]
        assert {(row["batch_size"], row["length"]) for row in rows} == cells
        assert {row["scope"] for row in rows} == {"text", "model"}
        assert {row["rounds"] for row in rows} == {2}
        assert name in out
    ours = [name for name, system in names.items() if system["is_ours"]]
    plain = [
        "LaNMT, 0 iterations",
        "LaNMT, 1 iteration",
        "LaNMT, 4 iterations",
        *(f"LaNMT, {name}, {n}" for name in ("score", "energy") for n in COUNTS),
    ]
    assert ours == [*plain, *(f"{name}, packed" for name in plain)]
    assert len(results["ratios"]) == len(cells) * 2 * 14 * (len(names) - 14)
    assert len(results["overtakes"]) == 2 * 14 * (len(names) - 14)
    assert [
        (step["refinement"], step["fewer"], step["more"], step["of_first"] is None)
        for step in results["steps"][:3]
    ] == [
        ("delta_posterior", "LaNMT, 1 iteration", "LaNMT, 4 iterations", False),
        ("score", "LaNMT, score, 1 iteration", "LaNMT, score, 4 iterations", False),
        ("energy", "LaNMT, energy, 1 iteration", "LaNMT, energy, 4 iterations", False),
    ]
    assert len(results["steps"]) == len(cells) * 2 * 3
    assert "one iteration, model alone, batch size 3, 10 tokens" in out
    assert "CTranslate2 int8 greedy, 12-1" in names
    for batch_size, length in cells:
        assert (
            f"batch size {batch_size}, {length} tokens, {results['environment']['device']}" in out
        )


def check_schema(results):
    keys = {
        "systems": {
            "name": str,
            "engine": str,
            "is_ours": bool,
            "precision": str,
            "decoding": dict,
            "parameters": int,
            "size_mb": float,
        },
        "rows": {
            "system": str,
            "batch_size": int,
            "scope": str,
            "p50_ms": float,
            "p95_ms": float,
            "sentences_per_second": float,
            "tokens_per_second": float,
            "rounds": int,
        },
        "ratios": {
            "system": str,
            "engine": str,
            "batch_size": int,
            "scope": str,
            "times_faster": float,
        },
        "overtakes": {"engine": str, "ours": str},
    }
    optional = {
        "systems": {"peak_memory_mb", "bleu", "bleu_signature"},
        "overtakes": {"length", "batch_size"},
    }
    for part, types in keys.items():
        assert results[part]
        for entry in results[part]:
            assert set(entry) == {*types, *optional.get(part, {"length"})}
            for key, kind in types.items():
                assert type(entry[key]) is kind, (part, key)
    assert {"device", "threads", "torch", "ctranslate2"} <= set(results["environment"])
    assert results["command"].startswith("hf-nar ")


def test_strategies_and_axes_can_be_chosen_and_stand_in_one_run(run, tmp_path):
    file = tmp_path / "results.json"

    code, out, err = run("--random-init", "tiny", "--systems", "ours,transformers greedy",
        "--latent-axis", "source,target", "--refinement", "delta_posterior,score",
        "--iterations", "0,1", "--weights", "plain", "--length", "5", *SIZES,
        "--output", file)  # fmt: skip

    assert code == 0, err
    results = json.loads(file.read_text("utf-8"))["benchmark"]
    axes = ("LaNMT", "LaNMT with target latents")
    systems = ("0 iterations", "1 iteration", "score, 1 iteration")
    expected = [f"{axis}, {system}" for axis in axes for system in systems]
    assert [s["name"] for s in results["systems"] if s["is_ours"]] == expected
    assert results["steps"][1]["fewer"] == "LaNMT, 0 iterations"  # the same draft for both
    assert len(results["steps"]) == 4
    sizes = {system["name"]: system["parameters"] for system in results["systems"]}
    assert sizes["LaNMT, 1 iteration"] != sizes["LaNMT with target latents, 1 iteration"]
    assert out.count("LaNMT with target latents, score, 1 iteration") >= 3


def test_all_rows_of_fixed_length_have_the_same_tokens_for_each_batch(run, tmp_path):
    file = tmp_path / "results.json"

    run("--random-init", "tiny", "--systems", "ours,transformers greedy", "--length", "6",
        "--iterations", "1", *SIZES, "--output", file)  # fmt: skip

    for row in json.loads(file.read_text("utf-8"))["benchmark"]["rows"]:
        tokens = row["tokens_per_second"] / row["sentences_per_second"]
        assert tokens == pytest.approx(6, rel=1e-3)


def test_real_models_are_measured_on_real_text_of_natural_length(run, tmp_path, tiny_folder):
    pytest.importorskip("ctranslate2")
    teacher = write_random_networks("tiny", tmp_path, seed=0)["teacher"]
    config = json.loads((tmp_path / "teacher/generation_config.json").read_text("utf-8"))
    text = json.dumps({**config, "max_length": 20})
    (tmp_path / "teacher/generation_config.json").write_text(text, encoding="utf-8")
    source = tmp_path / "test.de.gz"
    with gzip.open(source, "wt", encoding="utf-8") as stream:
        stream.write("Ein Hund läuft im Schnee.\n\nEin Kind schläft.\nEine Frau sitzt am Haus.\n")
    texts = Translator.from_pretrained(tiny_folder).translate(
        ["Ein Hund läuft im Schnee.", "Ein Kind schläft.", "Eine Frau sitzt am Haus."],
        num_refinement_iterations=1,
    )
    references = [texts[0], "A child sleeps by the house.", texts[2]]
    target = tmp_path / "test.en"
    target.write_text("{}\n\n{}\n{}\n".format(*references), "utf-8")
    file = tmp_path / "results.json"

    code, out, err = run(
        tiny_folder, "--teacher", teacher, "--source-file", source, "--target-file", target,
        "--batch-size", "2", "--iterations", "1", "--weights", "plain", *SIZES, "--output", file,
    )  # fmt: skip

    assert code == 0, err
    results = json.loads(file.read_text("utf-8"))["benchmark"]
    check_schema(results)
    assert (results["shape"], results["source"]) == (None, "test.de.gz")
    assert {row["length"] for row in results["rows"]} == {None}
    assert results["weights_sha256"]
    assert not [system for system in results["systems"] if "12-1" in system["name"]]
    [ours] = [system for system in results["systems"] if system["is_ours"]]
    assert ours["bleu"] == round(corpus_scores(texts, references).bleu, 2)
    assert all(system["bleu_signature"] for system in results["systems"])
    assert "sentences of natural length" in out


def test_the_largest_batch_is_measured_and_its_size_is_said(run, tmp_path):
    file = tmp_path / "results.json"

    code, out, _ = run(
        "--random-init", "tiny", "--systems", "ours", "--iterations", "0", "--length", "5",
        "--weights", "plain", "--batch-size", "2,max", "--max-memory", "0.000001", *SIZES,
        "--output", file,
    )  # fmt: skip

    assert code == 0
    assert "largest batch at 5 tokens: 2; twice that exceeds memory" in out
    rows = json.loads(file.read_text("utf-8"))["benchmark"]["rows"]
    assert [row["batch_size"] for row in rows] == [2, 2]  # two scopes, and not measured twice


def test_the_time_of_a_batch_limits_the_largest_one(run):
    code, out, _ = run(
        "--random-init", "tiny", "--systems", "ours", "--iterations", "0", "--length", "5",
        "--batch-size", "max", "--max-seconds", "0.000001", *SIZES,
    )  # fmt: skip

    assert code == 0
    assert "largest batch at 5 tokens: 1; twice that exceeds time" in out


def test_threads_are_set_for_every_library_and_said(run, tmp_path):
    file = tmp_path / "results.json"

    _, out, _ = run("--random-init", "tiny", "--systems", "ours", "--length", "5", "--threads", "2",
                    *SIZES, "--output", file)  # fmt: skip

    assert torch.get_num_threads() == 2
    assert os.environ["OMP_NUM_THREADS"] == os.environ["RAYON_NUM_THREADS"] == "2"
    assert json.loads(file.read_text("utf-8"))["benchmark"]["environment"]["threads"] == 2
    assert "2 CPU threads" in out


def test_a_run_of_ours_alone_prints_no_ratios(run):
    _, out, _ = run("--random-init", "tiny", "--systems", "ours", "--length", "5", *SIZES)

    assert "times faster" not in out
    assert "overtakes" not in out


def test_a_dtype_is_that_of_ours_and_transformers(run, tmp_path):
    file = tmp_path / "results.json"

    run("--random-init", "tiny", "--systems", "ours,transformers greedy", "--length", "5",
        "--dtype", "bfloat16", *SIZES, "--output", file)  # fmt: skip

    results = json.loads(file.read_text("utf-8"))["benchmark"]
    assert results["dtype"] == "bfloat16"
    assert {system["precision"] for system in results["systems"]} == {"bfloat16"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --random-init, or MODEL with --teacher and --source-file; got a part"),
        (["model"], "got a part of these, or neither"),
        (["model", "--random-init", "tiny"], "got both"),
        (["--random-init", "tiny", "--target-file", "x"], "Give `--source-file`"),
        (["m", "--teacher", "t", "--source-file", "s", "--length", "5"], "is for random words"),
        (
            ["--random-init", "tiny", "--max-memory", "1"],
            "`--max-memory` is for `--batch-size max`",
        ),
        (["--random-init", "tiny", "--max-seconds", "9"], "`--max-seconds` is for `--batch-size"),
        (["--random-init", "big"], "one of base, tiny; got 'big'"),
        (["--random-init", "tiny", "--latent-axis", "both"], "of source, target; got 'both'"),
        (["--random-init", "tiny", "--refinement", "scores"], "energy, none; got 'scores'"),
        (["--random-init", "tiny", "--weights", "int8"], "of plain, packed; got 'int8'"),
        (
            ["--random-init", "tiny", "--weights", "packed", "--dtype", "bfloat16"],
            "cannot be packed here: the model is bfloat16 on cpu",
        ),
        (
            ["--random-init", "tiny", "--family", "refinement_nar", "--latent-axis", "target"],
            "`--latent-axis` is for lanmt",
        ),
        (
            ["m", "--teacher", "t", "--source-file", "s", "--latent-axis", "target"],
            "`--latent-axis` is for `--random-init`",
        ),
        (["--random-init", "tiny", "--batch-size", "0"], "at least 1, or max; got 0"),
        (["--random-init", "tiny", "--batch-size", "-2"], "numbers with commas"),
        (["--random-init", "tiny", "--threads", "0"], "`--threads` must be at least 1, got 0"),
        (["--random-init", "tiny", "--length", "999"], "must be in [2, 512]"),
        (["--random-init", "tiny", "--systems", "Marian"], "got 'Marian'"),
        (["--random-init", "tiny", "--repeats", "0"], "`--repeats` must be at least 1"),
        (["--random-init", "tiny", "--device", "abacus"], "got 'abacus'"),
        (["--random-init", "tiny", "--output", "no/such/results.json"], "folder that exists"),
    ],
)
def test_a_bad_call_is_one_line(run, arguments, message):
    code, _, err = run(*arguments)

    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_missing_engine_is_one_line_that_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.delitem(sys.modules, "hf_nar.evaluation.engine_ctranslate2", raising=False)
    monkeypatch.delattr(hf_nar.evaluation, "engine_ctranslate2", raising=False)

    code, _, err = run("--random-init", "tiny", *SIZES)

    assert code == 2
    assert len(err.splitlines()) == 1
    assert 'pip install "hf-nar[benchmark]"' in err


def test_a_teacher_that_cannot_be_compiled_is_left_out_with_a_line(run, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no compiler here\nand more")

    monkeypatch.setattr("hf_nar.evaluation.engine_torch.CompileConfig", broken)

    code, out, err = run("--random-init", "tiny", "--systems", "all", "--length", "5",
                         "--iterations", "0", *SIZES)  # fmt: skip

    name = "transformers greedy, compiled with static cache"
    assert code == 0
    assert f"{name} is left out, as it does not run here: no compiler here" in err
    assert name not in out


@pytest.mark.slow
def test_the_peak_memory_of_each_system_leaves_out_the_libraries(run, tmp_path):
    pytest.importorskip("ctranslate2")
    file = tmp_path / "results.json"
    systems = "LaNMT, 1 iteration,CTranslate2 int8 greedy"

    code, _, err = run("--random-init", "tiny", "--systems", systems, "--length", "5",
                       *SIZES[:4], "--output", file)  # fmt: skip

    assert code == 0, err
    for system in json.loads(file.read_text("utf-8"))["benchmark"]["systems"]:
        assert 0 < system["peak_memory_mb"] < 100  # torch alone takes more
