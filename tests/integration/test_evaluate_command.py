import gzip
import json

import pytest
import sacrebleu
from tiny_folders import save_refinement, save_refiners
from tiny_runs import tiny_pairs
from tiny_teachers import save_teacher

from hf_nar.cli.main import main
from hf_nar.evaluation.likelihood import measure_likelihood
from hf_nar.inference import Translator, line_generators
from hf_nar.teacher import Teacher

SOURCES, REFERENCES = (list(side) for side in zip(*tiny_pairs()[:8], strict=True))


def write_lines(file, lines):
    text = "".join(f"{line}\n" for line in lines).encode()
    file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
    return file


@pytest.fixture
def texts(tmp_path):
    """Return a folder with a test set and two systems' translations of it."""
    write_lines(tmp_path / "test.de", SOURCES)
    write_lines(tmp_path / "test.en", REFERENCES)
    write_lines(tmp_path / "good.en", [text.replace("A ", "One ") for text in REFERENCES])
    write_lines(tmp_path / "bad.en", [text[::-1] for text in REFERENCES])
    return tmp_path


@pytest.fixture
def run(texts, capsys):
    """Return a function that runs `hf-nar evaluate` and gives code, table, errors and results."""

    def evaluate(*arguments, source="test.de"):
        output = texts / "results.json"
        files = ["--target-file", texts / "test.en", "--output", output]
        if source:
            files += ["--source-file", texts / source]
        code = main(["evaluate", *map(str, [*arguments, *files]), "--device", "cpu"])
        out, err = capsys.readouterr()
        quality = json.loads(output.read_text())["quality"] if output.is_file() else None
        return code, out, err, quality

    return evaluate


@pytest.fixture
def marian(tmp_path, tiny_tokenizer):
    return save_teacher(tmp_path / "marian", "marian", tiny_tokenizer, max_length=24)


def assert_one_sentence(result, *parts):
    """Check for code 2, one line of error that holds the parts, and no results."""
    code, out, err, quality = result
    assert (code, out, quality) == (2, "", None)
    assert err.startswith("hf-nar: error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


# Models


def test_our_model_is_measured_by_several_settings_in_one_call(run, tiny_folder, texts):
    options = ["--iterations", "0,2", "--setting", "num_refinement_iterations=3,stop_early=true"]

    code, out, err, quality = run(tiny_folder, *options, "--translations", texts / "out")

    assert (code, err) == (0, "")
    labels = ["0 iterations", "2 iterations", "num_refinement_iterations=3,stop_early=true"]
    assert [row["label"] for row in quality["rows"]] == labels
    assert [row["iterations"] for row in quality["rows"]] == [0, 2, 3]
    assert [row["is_default"] for row in quality["rows"]] == [False, False, True]
    lines = out.splitlines()
    assert [line[: len(label)] for line, label in zip(lines[1:], labels, strict=False)] == labels
    assert lines[4].startswith("BLEU: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    translator = Translator.from_pretrained(tiny_folder, device="cpu")
    stems = ["iterations-0", "iterations-2", labels[2]]
    for row, stem in zip(quality["rows"], stems, strict=True):
        expected = translator.translate(SOURCES, **row["setting"])
        assert (texts / f"out/{stem}.txt").read_text().split("\n")[:-1] == expected
        assert row["bleu"] == round(sacrebleu.corpus_bleu(expected, [REFERENCES]).score, 2)
        assert row["chrf"] == round(sacrebleu.corpus_chrf(expected, [REFERENCES]).score, 2)


def test_a_results_file_says_what_was_measured_where_and_how(run, tiny_folder):
    _, _, _, quality = run(tiny_folder, "--batch-size", 3, "--seed", 7)

    assert quality["default_iterations"] == 3  # the fixture's generation_config.json
    assert (quality["family"], quality["is_autoregressive"]) == ("lanmt", False)
    assert (quality["sentences"], quality["batch_size"], quality["seed"]) == (8, 3, 7)
    assert (quality["source_file"], quality["target_file"]) == ("test.de", "test.en")
    assert quality["checkpoint"]["weights_sha256"] == quality["weights_sha256"] is not None
    assert quality["checkpoint"]["revision"] is quality["checkpoint"]["git_commit"] is None
    assert quality["dtype"] == "float32"
    assert quality["example"]["source"] == SOURCES[0]
    assert quality["command"].startswith("hf-nar ")
    assert quality["environment"]["sacrebleu"] == sacrebleu.__version__
    assert [row["iterations"] for row in quality["rows"]] == [0, 1, 4]
    assert set(quality["rows"][0]) >= {
        *("label", "setting", "is_default", "iterations", "mean_iterations", "bleu", "chrf"),
        *("length_ratio", "exact_length_share", "repetition_share", "seconds"),
        *("bleu_signature", "chrf_signature"),
    }
    assert quality["against"] == []


def test_an_autoregressive_model_is_measured_in_the_same_way(run, marian, tiny_tokenizer):
    code, _, _, quality = run(marian, "--setting", "num_beams=3", "--beams", "1,4")

    assert code == 0
    assert [row["label"] for row in quality["rows"]] == ["greedy", "beam 4", "num_beams=3"]
    assert [row["is_default"] for row in quality["rows"]] == [False, False, True]
    assert (quality["family"], quality["is_autoregressive"]) == ("marian", True)
    assert (quality["default_iterations"], quality["traces"]) == (None, [])
    teacher = Teacher.from_pretrained(marian, device="cpu")
    for row in quality["rows"]:
        assert row["iterations"] is row["mean_iterations"] is None
        expected = teacher.translate(SOURCES, **row["setting"])
        assert row["chrf"] == round(sacrebleu.corpus_chrf(expected, [REFERENCES]).score, 2)
        counts = [len(tiny_tokenizer(text)["input_ids"]) for text in expected]
        right = [len(tiny_tokenizer(text)["input_ids"]) for text in REFERENCES]
        hits = sum(a == b for a, b in zip(counts, right, strict=True))
        assert row["exact_length_share"] == hits / 8
    assert len({row["chrf"] for row in quality["rows"]}) > 1
    assert quality["example"]["translation"] == teacher.translate(SOURCES[:1])[0]


# Refinement in the latent space


@pytest.fixture
def refiners(tmp_path, tiny_tokenizer):
    return save_refiners(tmp_path / "refiners", tiny_tokenizer, axis="target")


def test_one_file_holds_quality_and_likelihood_of_every_way_to_refine(run, refiners, marian):
    search = "refinement=score,num_refinement_iterations=1,length_beam=2,num_latents=2"
    ways = ["--refinement", "none,delta_posterior, score,energy", "--iterations", "1,2"]
    ways += ["--setting", f"{search},rank_by=teacher", "--rank-with", marian]

    code, out, err, quality = run(refiners, *ways, "--likelihood", 2, "--seed", 7)

    assert code == 0, err
    rows = {row["label"]: row for row in quality["rows"]}
    assert list(rows) == [
        *("prior mean", "delta, 1 iteration", "delta, 2 iterations", "score, 1 iteration"),
        *("score, 2 iterations", "energy, 1 iteration", "energy, 2 iterations"),
        f"{search},rank_by=teacher",
    ]
    assert [row["iterations"] for row in rows.values()] == [0, 1, 2, 1, 2, 1, 2, 1]
    assert len({row["log_likelihood"] for row in rows.values()}) > 4
    translator = Translator.from_pretrained(refiners, device="cpu", teacher=marian)
    score, searched = rows["score, 1 iteration"], rows[f"{search},rank_by=teacher"]
    traces = translator.trace(SOURCES, **score["setting"])
    ids = [translator.tokenizer.convert_tokens_to_ids(trace.tokens) for trace in traces]
    rated = measure_likelihood(translator, SOURCES, ids, samples=2, seed=7)
    assert {name: score[name] for name in rated.as_row()} == rated.as_row()
    assert score["marginal"] > score["elbo"]
    texts = translator.translate(SOURCES, 32, line_generators(7, 8), **searched["setting"])
    assert searched["chrf"] == round(sacrebleu.corpus_chrf(texts, [REFERENCES]).score, 2)
    assert quality["likelihood"]["samples"] == 2
    assert quality["likelihood"]["references"].keys() == rated.as_row().keys()
    assert "Burda" in quality["likelihood"]["definition"]
    assert "log p(word)" in out.splitlines()[0]
    assert "ELBO  log p(y|x)" in out.splitlines()[0]


def test_only_a_model_with_latents_has_such_a_likelihood(run, marian, tmp_path, tiny_tokenizer):
    other = save_refinement(tmp_path / "other", tiny_tokenizer)

    assert_one_sentence(run(other, "--likelihood", 2), "of the family refinement_nar has none")
    assert_one_sentence(run(marian, "--likelihood", 2), "`--likelihood` is for models with latents")
    assert_one_sentence(run("--hypotheses", "x.en", "--likelihood", 2), "`--likelihood` is for a")


def test_pairs_with_an_empty_side_are_left_out_on_all_sides(run, texts):
    write_lines(texts / "test.de", ["", *SOURCES[1:]])
    write_lines(texts / "same.en", ["wrong", *REFERENCES[1:]])

    _, _, err, quality = run("--hypotheses", texts / "same.en")

    assert err == "1 pairs with an empty side are left out\n"
    assert (quality["sentences"], quality["rows"][0]["bleu"]) == (7, 100)


# Other systems


def test_a_file_of_translations_is_scored_without_a_model_or_sources(run, texts):
    code, out, _, quality = run("--hypotheses", texts / "good.en", source=None)

    assert code == 0
    good = [text.replace("A ", "One ") for text in REFERENCES]
    (row,) = quality["rows"]
    assert row["bleu"] == round(sacrebleu.corpus_bleu(good, [REFERENCES]).score, 2) < 100
    assert (row["label"], row["exact_length_share"], row["length_ratio"]) == ("good.en", 1, 1)
    assert (row["iterations"], row["seconds"], row["setting"]) == (None, None, {})
    assert quality["source_file"] is quality["family"] is quality["checkpoint"] is None
    assert quality["hypotheses_file"] == "good.en"
    assert "\ngood.en " in out


def test_systems_are_compared_by_each_metric(run, texts):
    systems = ["--against", texts / "bad.en", "--against", texts / "good.en"]
    options = ["--metrics", "bleu,ter", "--bootstrap-samples", 50, "--seed", 3]

    code, out, _, quality = run("--hypotheses", texts / "good.en", *systems, *options)

    assert code == 0
    found = {(entry["file"], entry["metric"]): entry for entry in quality["against"]}
    assert list(found) == [
        (file, metric) for file in ("bad.en", "good.en") for metric in ("bleu", "ter")
    ]
    assert found["bad.en", "bleu"]["difference"] > 0 > found["bad.en", "ter"]["difference"]
    assert found["bad.en", "bleu"]["p_value"] < 0.05
    assert found["good.en", "bleu"]["p_value"] == 1
    assert found["bad.en", "bleu"]["label"] == "good.en"
    assert "bs:50|seed:3|" in found["bad.en", "bleu"]["signature"]
    assert quality["bootstrap_samples"] == 50
    assert "\nPaired bootstrap resampling, 50 samples, seed 3:\n" in out
    assert run("--hypotheses", texts / "good.en", *systems, *options)[3] == quality


def test_two_files_of_one_name_are_told_apart(run, texts):
    (texts / "b").mkdir()
    write_lines(texts / "b/bad.en", REFERENCES)

    files = [texts / "bad.en", texts / "b/bad.en"]
    options = [part for file in files for part in ("--against", file)]
    _, _, _, quality = run("--hypotheses", texts / "good.en", "--metrics", "bleu", *options)

    assert [entry["file"] for entry in quality["against"]] == [str(file) for file in files]


def test_compressed_files_are_read(run, texts):
    zipped = write_lines(texts / "good.gz", [text.replace("A ", "One ") for text in REFERENCES])

    plain = run("--hypotheses", texts / "good.en")[3]["rows"][0]

    _, _, _, quality = run("--hypotheses", zipped, "--against", zipped, "--metrics", "bleu")
    assert quality["rows"][0]["bleu"] == plain["bleu"]
    assert quality["against"][0]["p_value"] == 1


def test_metrics_are_chosen(run, texts):
    options = ("--metrics", "ter,bleu-tokenised")

    _, out, _, quality = run("--hypotheses", texts / "good.en", *options)

    row = quality["rows"][0]
    assert row["ter_signature"].startswith("nrefs:1|case:lc|tok:tercom")
    assert "tok:none" in row["bleu_tokenised_signature"]
    assert "bleu" not in row
    assert "BLEU (tokenised, not comparable)" in out.splitlines()[0]


# Errors


@pytest.mark.parametrize("option", ["--hypotheses", "--against"])
def test_a_file_of_the_wrong_length_is_one_clear_sentence(run, tiny_folder, texts, option):
    short = write_lines(texts / "short.en", REFERENCES[:5])
    model = [] if option == "--hypotheses" else [tiny_folder]

    result = run(*model, option, short)

    assert_one_sentence(result, f"{short} has 5 and {texts / 'test.en'} has 8")


def test_an_unknown_metric_is_one_clear_sentence(run, tiny_folder):
    result = run(tiny_folder, "--metrics", "bleu,blue")

    assert_one_sentence(result, "got 'blue'. Did you mean bleu?")


@pytest.mark.parametrize("option", ["--hypotheses", "--against", "--source-file"])
def test_a_missing_file_is_one_clear_sentence(run, texts, tiny_folder, option):
    model = [] if option == "--hypotheses" else [tiny_folder]
    source = None if option == "--source-file" else "test.de"

    result = run(*model, option, texts / "nowhere", source=source)

    assert_one_sentence(result, f"`{option}` must be an existing file, got {texts / 'nowhere'}")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--setting", "num_iterations=2"], "did you mean `num_refinement_iterations`"),
        (["--beams", "4"], "Use `--iterations`"),
        (["--iterations", "one"], "`--iterations` must be numbers"),
        (["--refinement", "score"], "needs a trained score network"),
        (["--refinement", "delta_posterior,"], "`--refinement` must be names with commas"),
        (["--likelihood", "0"], "must be at least 1, got 0"),
        (["--prefix", "go: "], "`--prefix` is for autoregressive models"),
        (["--seed", "0"], "seed must be at least 1"),
        (["--bootstrap-samples", "50"], "`--bootstrap-samples` is for `--against` only"),
        (["--comet-model", "x"], "`--comet-model` is for `--metrics comet` only"),
        (["--hypotheses", "x.en"], "Give a model or `--hypotheses`, one of the two; got both"),
    ],
)
def test_a_wrong_option_is_an_error_before_anything_is_translated(
    run, tiny_folder, options, message
):
    assert_one_sentence(run(tiny_folder, *options), message)


def test_options_of_models_are_checked_for_autoregressive_ones_too(run, marian):
    assert_one_sentence(run(marian, "--iterations", "1"), "Use `--beams`")
    assert_one_sentence(run(marian, "--setting", "num_beems=1"), "Did you mean `num_beams`")
    language = run(marian, "--target-language", "eng_Latn")
    assert_one_sentence(language, "multilingual tokenizer", "'eng_Latn'")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "got neither"),
        (["--hypotheses", "good.en", "--beams", "4"], "`--beams` is for a model"),
        (["--hypotheses", "good.en", "--translations", "out"], "`--translations` is for a model"),
        (["--hypotheses", "good.en", "--batch-size", "4"], "`--batch-size` is for a model"),
    ],
)
def test_without_a_model_nothing_is_translated(run, options, message):
    assert_one_sentence(run(*options), message)


def test_a_model_needs_sources(run, tiny_folder):
    assert_one_sentence(run(tiny_folder, source=None), "Give `--source-file`")


def test_comet_is_looked_for_first_and_needs_sources(run, texts, monkeypatch):
    monkeypatch.setenv("PATH", str(texts))
    options = ["--hypotheses", texts / "good.en", "--metrics", "comet"]

    assert_one_sentence(run(*options), "program `comet-score`", "leave comet out")

    program = texts / "comet-score"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert_one_sentence(run(*options, source=None), "Give `--source-file`")
    against = run(*options, "--against", texts / "bad.en")
    assert_one_sentence(against, "Add bleu or chrf")


def test_the_results_file_is_checked_first(texts, tiny_folder, capsys):
    files = ["--source-file", str(texts / "test.de"), "--target-file", str(texts / "test.en")]
    output = str(texts / "nowhere/results.json")

    assert main(["evaluate", str(tiny_folder), *files, "--output", output]) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert "must be in a folder that exists" in err
