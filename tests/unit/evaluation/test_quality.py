import pytest
import sacrebleu

from hf_nar.evaluation.metrics import Score
from hf_nar.evaluation.quality import (
    corpus_scores,
    exact_length_share,
    example_traces,
    measure_quality,
    repetition_share,
)
from hf_nar.evaluation.settings import parse_setting
from hf_nar.evaluation.systems import Translations
from hf_nar.inference import TranslationTrace

REFERENCES = ["A dog runs in the snow.", "The cat sits on the street, alone.", "A man waits."]
HYPOTHESES = ["A dog runs in a snow.", "The cat sits on the street, alone.", "Man waits there."]


def test_scores_are_those_of_sacrebleu():
    scores = corpus_scores(HYPOTHESES, REFERENCES)

    bleu = sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES])
    chrf = sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES])
    assert 0 < bleu.score < 100
    assert scores.bleu == pytest.approx(bleu.score)
    assert scores.chrf == pytest.approx(chrf.score)
    assert scores.length_ratio == pytest.approx(bleu.sys_len / bleu.ref_len)
    assert "tok:13a" in scores.bleu_signature
    assert scores.chrf_signature.startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")


def test_a_copy_of_the_references_has_the_best_scores():
    scores = corpus_scores(REFERENCES, REFERENCES)

    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)
    assert scores.length_ratio == 1


def test_case_counts():
    lower = [text.lower() for text in REFERENCES]

    assert corpus_scores(lower, REFERENCES).bleu < 90


@pytest.mark.parametrize(
    ("sentences", "share"),
    [
        (["a a b", "c"], 1 / 4),
        (["a a a b b"], 3 / 5),  # each token that equals the one before it
        (["a b a b"], 0),
        (["a", "a"], 0),  # not across sentences
        (["", ""], 0),
    ],
)
def test_repetition_is_counted_within_each_sentence(sentences, share):
    assert repetition_share([sentence.split() for sentence in sentences]) == share


def test_a_length_is_right_if_it_is_the_references():
    sentences = [["x", "y"], ["x", "x"], [], ["x", "y"]]
    references = [["a", "b"], ["a"], [], ["a", "b", "c"]]

    assert exact_length_share(sentences, references) == 0.5


def test_a_row_holds_every_figure_rounded():
    translations = Translations(
        texts=["one two two", "one"],
        tokens=[["one", "two", "two"], ["one"]],
        reference_tokens=[["one", "two", "three"], ["one", "two"]],
        seconds=1.23456,
        iterations=[1, 2],
        log_likelihood=-0.123456,
    )
    scores = {"bleu-tokenised": Score(12.3456, "how"), "comet": Score(0.123456, "by")}

    quality = measure_quality(
        parse_setting("stop_early=false"),
        translations,
        ["one two three", "one two"],
        scores,
        is_default=True,
    )

    assert quality.as_row(iterations=4) == {
        "label": "stop_early=false",
        "setting": {"stop_early": False},
        "is_default": True,
        "iterations": 4,
        "mean_iterations": 1.5,
        "bleu_tokenised": 12.35,
        "comet": 0.1235,
        "length_ratio": 0.8,
        "exact_length_share": 0.5,
        "repetition_share": 0.25,
        "log_likelihood": -0.1235,
        "seconds": 1.23,
        "bleu_tokenised_signature": "how",
        "comet_signature": "by",
    }


def test_what_is_not_known_is_none():
    translations = Translations(["one"], [["one"]], [["one"]])

    row = measure_quality(parse_setting("x=1"), translations, ["one"], {}).as_row(None)

    assert (row["iterations"], row["mean_iterations"], row["seconds"]) == (None, None, None)
    assert "log_likelihood" not in row


def test_translations_and_references_must_be_as_many():
    with pytest.raises(ValueError, match="one translation for each reference"):
        measure_quality(parse_setting("x=1"), Translations(["a"], [[]], [[]]), ["a", "b"], {})


def test_examples_are_the_first_that_an_iteration_changed():
    traces = [
        TranslationTrace(str(i), "", [["a"], ["b" if i % 2 else "a"]], [], 1) for i in range(9)
    ]

    assert [trace.source for trace in example_traces(traces, 3)] == ["1", "3", "5"]
