from hf_nar.evaluation.report import QualityTable, comparison_lines

ROW = {
    "label": "1 iteration",
    "bleu": 29.8,
    "bleu_tokenised": 31.0,
    "comet": 0.81234,
    "bleu_signature": "tok:13a",
    "bleu_tokenised_signature": "tok:none",
    "comet_signature": "model",
    "length_ratio": 0.8536,
    "exact_length_share": 0.208,
    "repetition_share": 0.1769,
    "mean_iterations": 1.0,
    "seconds": 3.56,
}


def test_columns_are_aligned():
    table = QualityTable(["1 iteration", "num_beams=2,length_penalty=0.6"], ["bleu", "comet"])

    unknown = {**ROW, "label": "num_beams=2,length_penalty=0.6", "mean_iterations": None}
    lines = [table.header(), table.row(ROW), table.row({**unknown, "seconds": None})]

    assert lines == [
        "setting                           BLEU   COMET  length ratio  exact length  repeats"
        "  mean iterations  seconds",
        "1 iteration                      29.80  0.8123         0.854         20.8%   17.69%"
        "             1.00      3.6",
        "num_beams=2,length_penalty=0.6   29.80  0.8123         0.854         20.8%   17.69%"
        "                -        -",
    ]


def test_tokenised_bleu_is_in_a_column_that_says_so():
    table = QualityTable(["1 iteration"], ["bleu", "bleu-tokenised"])

    assert "  BLEU  BLEU (tokenised, not comparable)  length" in table.header()
    assert len(table.header()) == len(table.row(ROW))
    assert table.signatures(ROW) == [
        "BLEU: tok:13a",
        "BLEU (tokenised, not comparable): tok:none",
    ]


def test_likelihoods_have_columns_where_rows_have_them():
    table = QualityTable(["1 iteration"], ["bleu"], ["log_likelihood", "elbo", "marginal"])

    row = table.row({**ROW, "log_likelihood": -0.1234, "elbo": -20.5, "marginal": None})

    assert "mean iterations  log p(word)     ELBO  log p(y|x)  seconds" in table.header()
    assert "             1.00       -0.123  -20.500           -      3.6" in row


def test_a_comparison_shows_both_systems_and_what_is_known_of_the_difference():
    entry = {
        "file": "their.txt",
        "label": "greedy",
        "metric": "bleu",
        "score": 29.8,
        "other_score": 27.41,
        "difference": 2.39,
        "p_value": 0.000999,
        "interval": [28.1, 31.5],
        "other_interval": [25.9, 29.0],
    }
    worse = {**entry, "label": "beam 4", "difference": -0.5, "p_value": 0.1234}

    assert comparison_lines([entry, worse], 1000, 12345) == [
        "Paired bootstrap resampling, 1000 samples, seed 12345:",
        "setting  metric  score (95%)             against    score (95%)             difference  p",
        "greedy   BLEU    29.80 (28.10 to 31.50)  their.txt  27.41 (25.90 to 29.00)  +2.39       "
        "< 0.001",
        "beam 4   BLEU    29.80 (28.10 to 31.50)  their.txt  27.41 (25.90 to 29.00)  -0.50       "
        "0.123",
    ]


def test_a_name_cannot_steer_the_terminal():
    label = "x=\x1b]0;title\x07"

    assert "\x1b" not in QualityTable([label], ["bleu"]).row({**ROW, "label": label})
