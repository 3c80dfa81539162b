"""What stands in the card of a trained model."""

import dataclasses
import re

import pytest
import yaml
from card_facts import committed_facts
from markdown_it import MarkdownIt

from hf_nar.cards.card import render_card
from hf_nar.cards.facts import check_card_section
from hf_nar.cards.reported import Reported, ReportedTable

SECTIONS = (
    "Use|Quality|Speed|Drafts|Decode differently|Training|Limits and licence|"
    "When not to use it|Versions|Citation"
)
EVIL = "``` x ```` <script>alert(1)</script> | # y <!-- /name traces --> ![](a)\n```\n# Title\n---"


def head(card):
    return yaml.safe_load(card.split("---\n")[1])


def outline(card):
    """Return the blocks of a card as a reader's program sees them, without their text."""
    body = card.split("\n---\n", 1)[1]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(body)
    inner = [child.type for token in tokens for child in token.children or []]
    return [token.type for token in tokens] + [name for name in inner if "html" in name]


def test_a_card_has_all_its_sections_in_order():
    headings = re.findall(r"^## (.*)$", render_card(committed_facts()), re.M)

    assert headings == SECTIONS.split("|")


def test_text_from_outside_breaks_nothing_in_a_card():
    facts = committed_facts()
    quality = facts.results["quality"]
    evil_trace = {**quality["traces"][0], "source": EVIL, "translation": EVIL, "drafts": [[EVIL]]}
    rows = [{**row, "label": EVIL} for row in quality["rows"]]
    environment = {**quality["environment"], "device": EVIL}
    example = {"source": EVIL, "translation": EVIL}
    texts = dict.fromkeys(("title", "about", "limits", "training_data", "test_set"), EVIL)
    evil = committed_facts(
        texts,
        {"transformers_version": EVIL},
        traces=[evil_trace],
        rows=rows,
        environment=environment,
        example=example,
        command=EVIL,
    )
    evil = dataclasses.replace(evil, name=EVIL, path=EVIL)
    evil.results["benchmark"] |= {"source": EVIL, "environment": environment}
    evil.training["command"] = EVIL
    for part in ("systems", "rows"):
        for one in evil.results["benchmark"][part]:
            key = "name" if part == "systems" else "system"
            one[key] += EVIL

    plain = outline(render_card(committed_facts({"limits": "a\n\nb", "about": "a\n\nb"})))
    broken = outline(render_card(evil))

    assert [name for name in broken if "html" in name] == []
    assert broken.count("heading_open") == 11
    assert broken.count("fence") == plain.count("fence")
    assert broken.count("td_open") == plain.count("td_open")


def test_the_metadata_have_the_default_decodings_figure_and_its_signature():
    facts = committed_facts()
    metadata = head(render_card(facts))

    metric = metadata["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == facts.default_quality["bleu"]
    assert metric["args"]["signature"] == facts.default_quality["bleu_signature"]


def test_a_teacher_on_the_hub_is_the_base_model_and_another_one_is_only_named():
    on_the_hub = render_card(committed_facts({"base_model": "Helsinki-NLP/opus-mt-de-en"}))
    elsewhere = render_card(committed_facts({"teacher": "our-teacher"}))

    assert head(on_the_hub)["base_model"] == "Helsinki-NLP/opus-mt-de-en"
    assert "(https://huggingface.co/Helsinki-NLP/opus-mt-de-en)" in on_the_hub
    assert "base_model" not in head(elsewhere)
    assert "- Teacher: our-teacher\n" in elsewhere


def test_a_teacher_that_speed_is_compared_with_needs_no_further_word():
    assert "- Teacher: teacher-multi30k-deen\n" in render_card(committed_facts())


@pytest.mark.parametrize("name", ["teacher-multi30k-deen", "src/hf_nar", "a/b/c", "a/b c", 3])
def test_a_base_model_must_be_an_id_on_the_hub(name, monkeypatch, request):
    monkeypatch.chdir(request.config.rootpath)
    card = {"title": "t", "language": "de", "license": "mit", "base_model": name}

    with pytest.raises(ValueError, match=r"`card\.base_model` must be an id on the Hub"):
        check_card_section(card, "It")


@pytest.mark.parametrize(
    ("best_step", "words"),
    [(7, "those of step 7, the best on"), (None, "those of the last step\n")],
)
def test_a_card_says_which_weights_of_a_run_it_has(best_step, words):
    facts = committed_facts()
    facts.training.update(averaged_checkpoints=1, best_step=best_step)

    assert f"they are {words}" in render_card(facts)


def test_a_misspelt_key_of_the_card_section_is_refused():
    card = {"title": "t", "language": "de", "license": "mit", "basemodel": "a/b"}

    with pytest.raises(ValueError, match=r"did you mean `card\.base_model`"):
        check_card_section(card, "It")


def test_a_card_says_where_another_system_is_better_and_faster():
    facts = committed_facts()
    best = max(system["bleu"] for system in facts.results["benchmark"]["systems"])

    text = render_card(facts)
    for row in facts.results["benchmark"]["rows"]:
        if row["system"].startswith("LaNMT"):
            row["sentences_per_second"] *= 1000
    for system in facts.results["benchmark"]["systems"]:
        system["bleu"] = 1.0

    assert f"has {best:.2f} BLEU on the same sentences" in text
    assert "at batch size 1, 8, 32 the teacher in CTranslate2 int8 greedy is faster" in text
    assert not re.search("is faster than every|worth waiting", render_card(facts))


def test_a_card_has_a_pipeline_where_the_model_has_one():
    entry = {"translation": {"impl": "pipeline_translation.TranslationPipeline"}}

    with_one = render_card(committed_facts(config={"custom_pipelines": entry}))
    without = render_card(committed_facts(config={"custom_pipelines": {}}))

    assert with_one.count('pipeline("translation"') == 1
    assert "pipeline(" not in without


def test_the_papers_of_the_measured_strategies_are_cited_once_each():
    rows = [dict(row) for row in committed_facts().results["quality"]["rows"]]
    rows[0]["setting"] = {"refinement": "score", "num_refinement_iterations": 1}
    rows[1]["setting"] |= {"length_beam": 3, "rank_by": "teacher"}

    cited = re.findall(r"@\w+\{(\w+),", render_card(committed_facts(rows=rows)))

    assert cited == [
        "shu2020latent",
        "kim2016sequence",
        "lee2020iterative",
        "gu2018nonautoregressive",
    ]


def test_figures_of_others_stand_apart_from_measured_ones():
    tables = [ReportedTable("Quality.", "A paper.", ["system", "BLEU"], [["theirs", "99.90"]])]
    reported = Reported([], tables, ["shu2020latent"])

    card = render_card(dataclasses.replace(committed_facts(), reported=reported))

    section = re.search(r"^## Reported by the paper$(.*?)^## ", card, re.M | re.S)[1]
    assert "None of these figures was measured by this project." in section
    assert "| theirs | 99.90 |" in section
    assert card.count("99.90") == 1
