import json

import pytest

from hf_nar.demo.about import MOST_EXAMPLES, About, about_model

CARD = "---\nlanguage:\n- de\n- en\n{more}---\n\n# A model\n"


@pytest.fixture
def folder(tmp_path):
    """Return a model's folder with a card, and results with five sentences."""
    (tmp_path / "README.md").write_text(CARD.format(more=""), "utf-8")
    traces = [{"source": f"Satz {number}."} for number in range(5)]
    (tmp_path / "results.json").write_text(json.dumps({"quality": {"traces": traces}}), "utf-8")
    return tmp_path


def test_languages_are_the_cards_and_sentences_those_of_the_results(folder):
    about = about_model(str(folder))

    assert about.languages == ("de", "en")
    assert about.examples == tuple(f"Satz {number}." for number in range(MOST_EXAMPLES))


def test_sentences_of_the_card_come_first(folder):
    more = "widget:\n- text: Ein Hund.\n- text: Eine Katze.\n"
    (folder / "README.md").write_text(CARD.format(more=more), "utf-8")

    assert about_model(str(folder)).examples == ("Ein Hund.", "Eine Katze.")


def test_a_folder_without_card_and_results_says_nothing(tmp_path):
    assert about_model(str(tmp_path)) == About((), ())


def test_one_language_is_no_pair(folder):
    (folder / "README.md").write_text("---\nlanguage: de\n---\n\n# A model\n", "utf-8")

    assert about_model(str(folder)).languages == ()


def test_damaged_results_are_named(folder):
    (folder / "results.json").write_text("{", "utf-8")

    with pytest.raises(ValueError, match=r"results\.json must hold JSON"):
        about_model(str(folder))
