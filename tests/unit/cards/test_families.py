"""What differs between the cards of the families."""

import re

import pytest
from card_facts import committed_facts

from hf_nar.auto import model_types
from hf_nar.cards.card import render_card
from hf_nar.cards.families import FAMILIES
from hf_nar.cards.tables import quality_table
from hf_nar.evaluation.settings import parse_setting, readable_label


def setting_row(text, **changes):
    row = dict(committed_facts().results["quality"]["rows"][1])
    return {**row, "label": text, "setting": dict(parse_setting(text).knobs), **changes}


def test_every_family_has_its_texts():
    assert sorted(FAMILIES) == model_types()


def test_the_card_of_a_refinement_model_speaks_of_its_own_paper_and_knobs():
    card = render_card(committed_facts(family="refinement_nar"))

    assert "\n- refinement_nar\n" in card
    assert "@inproceedings{lee2018deterministic," in card
    assert "jaccard_threshold=0.0" in card
    assert not re.search("lanmt\n|shu2020|prior mean", card)


def test_a_card_of_no_known_family_is_refused():
    with pytest.raises(ValueError, match="one of lanmt, refinement_nar; got 'marian'"):
        render_card(committed_facts(family="marian"))


def test_the_words_of_the_table_are_explained_where_they_stand():
    settings = [
        "num_refinement_iterations=3,stop_early=false",
        "num_refinement_iterations=9,jaccard_threshold=0.1",
        "num_refinement_iterations=9,length_beam=5,rank_by=teacher",
    ]
    rows = [setting_row(text) for text in settings]
    digest = {"weights_sha256": "abc123"}

    plain = render_card(committed_facts(family="refinement_nar"))
    card = render_card(committed_facts(family="refinement_nar", rows=rows, ranking_teacher=digest))

    for term in ("Fixed: every", "Jaccard: it", "Lengths: so many", "`abc123`"):
        assert term in card
        assert term not in plain


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("num_refinement_iterations=0,stop_early=false", "0 iterations"),
        ("num_refinement_iterations=1,stop_early=false", "1 iteration, fixed"),
        ("num_refinement_iterations=9,stop_early=true", "at most 9 iterations"),
        ("num_refinement_iterations=9,jaccard_threshold=0.1", "at most 9 iterations, Jaccard 0.1"),
        ("num_refinement_iterations=9,jaccard_threshold=0", "at most 9 iterations"),
        ("num_refinement_iterations=3,length_beam=5", "at most 3 iterations, 5 lengths"),
        (
            "num_refinement_iterations=3,length_beam=5,rank_by=teacher",
            "at most 3 iterations, 5 lengths ranked by teacher",
        ),
        ("num_refinement_iterations=2,collapse_repeats=false", None),
        ("length_beam=5", None),
        ("num_beams=4", None),
    ],
)
def test_knobs_are_put_in_words(text, label):
    assert readable_label(parse_setting(text).knobs) == label
    table = quality_table({"rows": [setting_row(text, is_default=True)]})
    assert f"| **{label or text}** |" in table
