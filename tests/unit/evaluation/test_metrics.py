import pytest
import sacrebleu

from hf_nar.evaluation.metrics import COLUMNS, length_ratio, parse_metrics, score, words

REFERENCES = ["A dog runs in the snow.", "The cat sits on the street, alone.", "A man waits."]
HYPOTHESES = ["A dog runs in a snow.", "The cat sits on the street, alone.", "Man waits there."]


def test_scores_and_signatures_are_those_of_sacrebleu():
    found = {name: score(name, HYPOTHESES, REFERENCES) for name in ("bleu", "chrf", "ter")}

    assert found["bleu"].value == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert found["chrf"].value == sacrebleu.corpus_chrf(HYPOTHESES, [REFERENCES]).score
    assert found["ter"].value == sacrebleu.corpus_ter(HYPOTHESES, [REFERENCES]).score
    assert len({found[name].value for name in found}) == 3
    version = f"version:{sacrebleu.__version__}"
    assert found["bleu"].signature == f"nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|{version}"
    assert found["chrf"].signature == f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|{version}"
    assert found["ter"].signature.startswith("nrefs:1|case:lc|tok:tercom")


def test_tokenised_bleu_takes_words_as_spaces_part_them():
    spaced = [text.replace(".", " .").replace(",", " ,") for text in HYPOTHESES]
    references = [text.replace(".", " .").replace(",", " ,") for text in REFERENCES]

    tokenised = score("bleu-tokenised", spaced, references)

    assert tokenised.value == pytest.approx(score("bleu", HYPOTHESES, REFERENCES).value)
    assert score("bleu-tokenised", HYPOTHESES, REFERENCES).value != tokenised.value
    assert "tok:none" in tokenised.signature
    assert "not comparable" in COLUMNS["bleu-tokenised"]


def test_lengths_are_counted_as_bleu_does():
    bleu = sacrebleu.corpus_bleu(HYPOTHESES[:2], [REFERENCES[1:]])

    assert length_ratio(HYPOTHESES[:2], REFERENCES[1:]) == bleu.sys_len / bleu.ref_len
    assert words("A dog, alone.") == ["A", "dog", ",", "alone", "."]
    assert length_ratio(["one two three.", ""], ["one, two", "three four five six seven"]) == 4 / 8


def test_metrics_are_read_in_order_and_once():
    assert parse_metrics("chrf, bleu,chrf") == ["chrf", "bleu"]


@pytest.mark.parametrize(
    ("text", "unknown", "nearest"),
    [
        ("blue", "'blue'", "bleu"),
        ("bleu,chrF", "'chrF'", "chrf"),
        ("BLEU-tokenized", "'BLEU-tokenized'", "bleu-tokenised"),
        ("", "''", ""),
    ],
)
def test_an_unknown_metric_is_refused_by_naming_the_nearest(text, unknown, nearest):
    with pytest.raises(ValueError, match=f"got {unknown}. Did you mean {nearest}"):
        parse_metrics(text)


@pytest.mark.parametrize(("hypotheses", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_as_many_translations_as_references_are_needed(hypotheses, references):
    with pytest.raises(ValueError, match="one translation for each reference and at least one"):
        score("chrf", hypotheses, references)
