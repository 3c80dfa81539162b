"""Cards of settings that were not trained, and their files."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from hf_nar.cards.folder import load_facts, render

RECIPE = Path(__file__).parents[3] / "training/recipes/wmt14-ende-lanmt.yaml"
TABLE = {
    "title": "Quality.",
    "source": "A paper.",
    "columns": ["system", "BLEU"],
    "rows": [["theirs <b>", "26.10"]],
    "note": "Of their own test set.",
}


def write(folder, recipes=("mine.yaml",), tables=(TABLE,), citations=("shu2020latent",), **more):
    shutil.copy(RECIPE, folder / "mine.yaml")
    content = {"recipes": recipes, "tables": tables, "citations": citations, **more}
    (folder / "reported.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_card_without_weights_says_so_and_has_no_measured_figure(tmp_path):
    card = render(load_facts(write(tmp_path)))

    head = yaml.safe_load(card.split("---\n")[1])
    assert "model-index" not in head
    assert "no-weights" in head["tags"]
    assert "**No weights have been trained by this project yet.**" in card
    assert "Quality. Source: A paper.\n\n| system | BLEU |" in card
    assert "| theirs &lt;b&gt; | 26.10 |" in card
    assert RECIPE.read_text("utf-8").strip() in card


def test_a_setting_whose_figures_nobody_checked_shows_none(tmp_path):
    card = render(load_facts(write(tmp_path, tables=[])))

    assert "No figure is given here" in card
    assert "figures that others report" not in card


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": []}, "must name the recipes"),
        ({"citations": ["shu2021"]}, "must be some of .*got shu2021"),
        ({"citations": []}, "got none"),
        ({"tables": [{**TABLE, "rows": [["theirs", 26.1]]}]}, "Write figures as they are reported"),
        ({"tables": [{**TABLE, "rows": [["theirs"]]}]}, "2 texts, one for each column"),
        ({"tables": [{"title": "Quality."}]}, "must have title, source, columns, rows, note"),
        ({"table": []}, "no key `table`: did you mean `tables`"),
    ],
)
def test_a_reported_file_that_cannot_be_used_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        load_facts(write(tmp_path, **changes))


def test_a_recipe_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.yaml"):
        load_facts(write(tmp_path, recipes=["gone.yaml"]))
