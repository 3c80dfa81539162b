import pytest
import sacrebleu

from hf_nar.evaluation.metrics import score
from hf_nar.evaluation.significance import compare_systems

REFERENCES = ["A dog runs.", "A cat sits.", "A man waits.", "It rains."]


def test_a_sentence_is_right_if_it_equals_its_reference_but_for_spaces():
    hypotheses = ["A dog runs. ", "A  cat sits.", "a man waits.", "It rains"]

    found = score("exact", hypotheses, REFERENCES)

    assert found.value == 50.0
    assert found.signature == f"nrefs:1|version:{sacrebleu.__version__}"


def test_the_right_sentence_of_another_line_does_not_count():
    assert score("exact", REFERENCES[1:] + REFERENCES[:1], REFERENCES).value == 0.0


def test_systems_can_be_compared_by_it():
    references = REFERENCES * 25
    worse = ["no"] * 60 + references[60:]

    compared = compare_systems("exact", references, worse, references, samples=100)

    assert (compared.score, compared.other_score, compared.difference) == (100.0, 40.0, 60.0)
    assert compared.p_value < 0.05
    assert compared.other_interval[0] == pytest.approx(40, abs=15)
