import pytest

from hf_nar.cards.readme import fill_readme
from hf_nar.cards.tables import hardware, quality_table, replace_block, speed_table

ENVIRONMENT = {"device": "A processor", "threads": 1, "torch": "2", "transformers": "5"}
ENVIRONMENT["ctranslate2"] = "4"


def quality_row(label, **changes):
    row = {
        "label": label,
        "is_default": False,
        "bleu": 30.0,
        "chrf": 50.0,
        "length_ratio": 0.9,
        "exact_length_share": 0.25,
        "repetition_share": 0.125,
        "mean_iterations": 1.0,
        "bleu_signature": "nrefs:1",
    }
    return {**row, **changes}


def speed_row(system, batch_size, p50_ms, rate, scope="text"):
    return {
        "system": system,
        "batch_size": batch_size,
        "scope": scope,
        "p50_ms": p50_ms,
        "sentences_per_second": rate,
    }


def benchmark(**changes):
    systems = [
        {"name": "LaNMT, 1 iteration", "is_ours": True, "size_mb": 6.0, "peak_memory_mb": 300.2},
        {"name": "engine beam 4", "is_ours": False, "size_mb": 12.4, "peak_memory_mb": None},
    ]
    rows = [
        speed_row("engine beam 4", 1, 120.04, 8.3),
        speed_row("engine beam 4", 32, 900.0, 35.5),
        speed_row("LaNMT, 1 iteration", 1, 12.0, 83.3),
        speed_row("LaNMT, 1 iteration", 1, 11.0, 90.9, scope="model"),
    ]
    command = "hf-nar benchmark --random-init base"
    measured = {"systems": systems, "rows": rows, "environment": ENVIRONMENT, "command": command}
    return {**measured, **changes}


def test_a_speed_table_has_the_teacher_first_and_a_dash_where_nothing_was_measured():
    lines = speed_table(benchmark()).splitlines()

    assert lines == [
        "| system | ms, batch 1 | sentences/s, batch 1 | sentences/s, batch 32 | MB on disk | "
        "MB in memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| engine beam 4 | 120.0 | 8.3 | 35.5 | 12 | - |",
        "| **LaNMT, 1 iteration** | 12.0 | 83.3 | - | 6 | 300 |",
    ]


def test_a_speed_table_shows_bleu_where_a_system_has_it():
    content = benchmark()
    content["systems"][1]["bleu"] = 38.125

    lines = speed_table(content).splitlines()

    assert lines[0].startswith("| system | BLEU |")
    assert lines[2].startswith("| engine beam 4 | 38.12 |")
    assert lines[3].startswith("| **LaNMT, 1 iteration** | - |")


def test_a_speed_table_can_have_a_column_for_iterations_which_a_teacher_has_not():
    content = benchmark()
    content["systems"][0]["decoding"] = {"iterations": 1}
    content["systems"][1]["decoding"] = {"num_beams": 4}

    lines = speed_table(content, with_iterations=True).splitlines()

    assert lines[0].startswith("| system | iterations | ms, batch 1 |")
    assert lines[2].startswith("| engine beam 4 | - | 120.0 |")
    assert lines[3].startswith("| **LaNMT, 1 iteration** | 1 | 12.0 |")


def test_a_speed_table_can_be_of_the_network_alone():
    lines = speed_table(benchmark(), scope="model").splitlines()

    assert lines[3] == "| **LaNMT, 1 iteration** | 11.0 | 90.9 | 6 | 300 |"


def test_the_own_decoding_of_a_model_is_bold_and_a_teacher_has_no_iterations():
    rows = [quality_row("greedy"), quality_row("beam 4", is_default=True)]
    for row in rows:
        row["mean_iterations"] = None

    teacher = quality_table({"is_autoregressive": True, "rows": rows})
    ours = quality_table({"is_autoregressive": False, "rows": [quality_row("1 iteration")]})

    assert "**beam 4**" in teacher
    assert "**greedy**" not in teacher
    assert "iterations used" not in teacher
    assert ours.splitlines()[-1] == (
        "| 1 iteration | 30.00 | 50.00 | 0.900 | 25.0% | 12.5% | 1.00 |"
    )


def test_a_figure_that_was_not_measured_is_no_column_or_a_dash():
    rows = [quality_row("file of a system", is_default=None, mean_iterations=None)]
    del rows[0]["chrf"]
    alone = quality_table({"is_autoregressive": None, "rows": rows})
    beside = quality_table({"rows": [*rows, quality_row("1 iteration")]})

    assert "chrF" not in alone
    assert "| file of a system | 30.00 | - | 0.900 |" in beside


def test_rows_of_an_earlier_version_are_refused():
    row = quality_row("1 iteration")
    del row["label"]

    with pytest.raises(ValueError, match="Measure again with `hf-nar evaluate`"):
        quality_table({"rows": [row]})


def test_a_benchmark_of_several_lengths_is_no_table():
    content = benchmark()
    for length, row in enumerate(content["rows"]):
        row["length"] = length

    with pytest.raises(ValueError, match="must be of one length, but the benchmark has 4"):
        speed_table(content)


def test_further_results_fill_their_blocks_of_a_readme():
    text = "a\n<!-- base speed -->\nold\n<!-- /base speed -->\nb\n"

    filled = fill_readme(text, [], {"base": {"benchmark": benchmark()}})

    assert "old" not in filled
    assert "A processor, 1 thread; torch 2, transformers 5, ctranslate2 4." in filled
    assert "**LaNMT, 1 iteration**" in filled
    assert "```bash\nhf-nar benchmark --random-init base\n```\n" in filled
    assert filled.endswith("<!-- /base speed -->\nb\n")


def test_a_package_that_was_not_installed_is_not_named():
    environment = {**ENVIRONMENT}
    del environment["ctranslate2"]

    assert hardware(environment, "ctranslate2") == "A processor, 1 thread; torch 2, transformers 5."


def test_a_mark_in_a_sentence_does_not_end_the_block():
    text = "<!-- a -->\nold\n<!-- /a -->\nafter\n"

    once = replace_block(text, "a", "evil <!-- /a --> sentence")

    assert replace_block(once, "a", "new") == "<!-- a -->\nnew\n<!-- /a -->\nafter\n"


def test_a_readme_without_the_marks_is_refused():
    with pytest.raises(ValueError, match="`<!-- base speed -->`"):
        fill_readme("nothing", [], {"base": {"benchmark": benchmark()}})


def test_results_that_hold_nothing_to_show_are_refused():
    with pytest.raises(ValueError, match=r'must hold "quality" or "benchmark"'):
        fill_readme("nothing", [], {"base": {"latency": {}}})


def test_exact_sentences_have_a_column_where_they_were_counted():
    rows = [{"label": "1 iteration", "bleu": 80.0, "exact": 47.0}]

    assert "| 1 iteration | 80.00 | 47.0 |" in quality_table({"rows": rows})
    assert "exact sentences" not in quality_table({"rows": [{"label": "x", "bleu": 80.0}]})
