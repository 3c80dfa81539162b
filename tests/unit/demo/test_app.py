import asyncio
from copy import deepcopy
from dataclasses import replace

import pytest
from tiny_folders import save_refinement, save_refiners
from tiny_teachers import new_teacher

from hf_nar.demo.app import Networks, Settings, build, on_one_line, translate
from hf_nar.inference import Translator

TEXT = "Ein Hund läuft im Schnee."
SETTINGS = Settings("tiny")


def quiet(share, desc):
    assert 0 <= share <= 1
    assert desc


def networks_of(folder):
    translator = Translator.from_pretrained(folder, device="cpu")
    return Networks(translator.model, translator.tokenizer)


@pytest.fixture
def networks(tiny_model, tiny_tokenizer):
    return Networks(tiny_model, tiny_tokenizer)


@pytest.fixture
def refiners(tmp_path, tiny_tokenizer):
    return networks_of(save_refiners(tmp_path / "refiners", tiny_tokenizer))


@pytest.fixture
def in_tokens(tmp_path, tiny_tokenizer):
    return networks_of(save_refinement(tmp_path / "refinement", tiny_tokenizer))


def with_teacher(networks):
    teacher = new_teacher("marian", networks.tokenizer, max_length=24)
    return replace(networks, teacher=teacher, teacher_tokenizer=networks.tokenizer)


def page_of(networks, settings=SETTINGS):
    """Return the page, built where a loop runs: gradio would make one, and leave it open."""

    async def page():
        return build(networks, settings)

    return asyncio.run(page())


def components(networks):
    page = page_of(networks)
    return {c.label: c for c in page.blocks.values() if getattr(c, "label", None)}


@pytest.mark.parametrize("text", ["", "  \n\t "])
def test_without_words_there_is_one_sentence(networks, text):
    with pytest.raises(ValueError, match=r"^There is nothing to translate yet: .*\.$"):
        on_one_line(text, networks, SETTINGS)


def test_a_text_may_be_as_long_as_the_limit_and_not_longer(networks):
    settings = replace(SETTINGS, max_characters=10)

    assert on_one_line("Ein Hund a", networks, settings) == "Ein Hund a"
    with pytest.raises(ValueError, match=r"^This text has 11 characters, and here 10 are the most"):
        on_one_line("Ein Hund ab", networks, settings)


def test_more_tokens_than_the_model_takes_are_refused(networks):
    with pytest.raises(ValueError, match=r"^This text has \d+ tokens, and for this model 40 are"):
        on_one_line("Hund " * 50, networks, SETTINGS)


def test_more_tokens_than_the_teacher_takes_are_refused(networks):
    both = with_teacher(networks)
    both.teacher.config.max_position_embeddings = 5

    assert on_one_line(TEXT, networks, SETTINGS) == TEXT
    with pytest.raises(ValueError, match="for this model 5 are the most"):
        on_one_line(TEXT, both, SETTINGS)


def test_a_text_comes_on_one_line_and_without_half_characters(networks):
    assert on_one_line(" Ein\n Hund \ud800", networks, SETTINGS) == "Ein Hund ?"


@pytest.mark.parametrize("name", ["max_characters", "max_waiting", "concurrency"])
def test_a_limit_of_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got 0"):
        Settings("tiny", **{name: 0})


def test_one_language_alone_is_refused():
    with pytest.raises(ValueError, match="`languages` must be two"):
        Settings("tiny", languages=["de"])


@pytest.mark.parametrize("name", ["networks", "refiners", "in_tokens"])
def test_the_translation_is_the_translators(name, request):
    networks = request.getfixturevalue(name)
    knobs = {"num_refinement_iterations": 3}

    found = translate(networks, TEXT, knobs, quiet)

    [trace] = Translator(networks.model, networks.tokenizer).trace([TEXT], **knobs)
    assert found.source == TEXT
    assert found.tokens == trace.tokens
    assert found.drafts == trace.drafts
    assert len(found.drafts) > 1
    assert len(found.probabilities) == len(found.tokens) > 0
    assert all(0 < p <= 1 for p in found.probabilities)
    assert found.milliseconds > 0
    assert found.teacher_text is None


@pytest.mark.parametrize("refinement", ["delta_posterior", "score", "energy", "none"])
def test_every_strategy_searches_and_shows_its_drafts(refiners, refinement):
    both = with_teacher(refiners)
    knobs = {"refinement": refinement, "length_beam": 2, "num_latents": 2}
    knobs |= {"num_refinement_iterations": 2, "rescoring_model": both.teacher}

    found = translate(both, TEXT, knobs, quiet)

    assert found.tokens
    assert len(found.drafts) == (1 if refinement == "none" else 3)


def test_the_teacher_translates_too_and_can_choose(networks):
    both = with_teacher(networks)

    found = translate(both, TEXT, {"length_beam": 3, "rescoring_model": both.teacher}, quiet)

    assert both.can_rank()
    assert found.teacher_text
    assert found.teacher_milliseconds > 0


def test_a_teacher_of_other_words_cannot_choose(networks):
    words = deepcopy(networks.tokenizer)
    words.add_tokens(["another"])

    assert with_teacher(networks).can_rank()
    assert not replace(with_teacher(networks), teacher_tokenizer=words).can_rank()
    assert not networks.can_rank()


def test_searching_gives_the_same_each_time(networks):
    knobs = {"num_latents": 4, "length_beam": 2}

    first, second = (translate(networks, TEXT, knobs, quiet) for _ in range(2))

    assert first.tokens == second.tokens


def test_characters_that_the_vocabulary_lacks_are_named_once(networks):
    found = translate(networks, "Ein 漢 Hund 漢🙂.", {}, quiet)

    assert found.unknown == ["漢", "🙂"]
    assert translate(networks, TEXT, {}, quiet).unknown == []


def test_only_strategies_with_all_their_networks_are_offered(networks, refiners, in_tokens):
    assert networks.strategies() == ["delta_posterior", "none"]
    assert refiners.strategies() == ["delta_posterior", "score", "energy", "none"]
    assert in_tokens.strategies() == ["iterative"]


def test_the_models_own_strategy_is_offered_first(refiners):
    refiners.model.generation_config.refinement = "energy"

    assert refiners.strategies()[0] == "energy"


def test_only_controls_with_an_effect_are_shown(networks, in_tokens):
    latents, tokens = (components(n) for n in (networks, in_tokens))
    ranking = "The teacher chooses the best"

    assert latents["Candidates"].visible
    assert latents["Refinement"].visible
    assert not tokens["Candidates"].visible
    assert not tokens["Refinement"].visible
    assert not latents[ranking].visible
    assert components(with_teacher(networks))[ranking].visible


def test_one_call_is_public(networks):
    page = page_of(networks, replace(SETTINGS, examples=[TEXT]))

    visible = [f.api_name for f in page.fns.values() if f.api_visibility == "public"]
    assert visible == ["translate"]
    assert len(page.fns) == 3
