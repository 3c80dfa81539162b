import pytest
from tiny_folders import save_refiners
from tiny_runs import tiny_pairs
from tiny_teachers import save_teacher

from hf_nar.evaluation.settings import Setting, choose_settings, parse_setting
from hf_nar.evaluation.systems import (
    check_setting,
    given_translations,
    is_default,
    load_system,
    run_setting,
    word_log_prob,
)
from hf_nar.inference import TranslationTrace, Translator, line_generators
from hf_nar.teacher import Teacher

SOURCES, REFERENCES = (list(side) for side in zip(*tiny_pairs()[:6], strict=True))


@pytest.fixture
def marian(tmp_path, tiny_tokenizer):
    return load_system(str(save_teacher(tmp_path / "marian", "marian", tiny_tokenizer, 24)), "cpu")


@pytest.fixture
def ours(tiny_folder):
    return load_system(str(tiny_folder), "cpu")


def test_the_config_decides_which_kind_a_model_is(ours, marian):
    assert isinstance(ours, Translator)
    assert isinstance(marian, Teacher)


def test_a_prefix_reaches_an_autoregressive_model_only(tmp_path, tiny_folder, tiny_tokenizer):
    folder = save_teacher(tmp_path / "t5", "t5", tiny_tokenizer)

    assert load_system(str(folder), "cpu", prefix="go: ", source_language=None).prefix == "go: "
    with pytest.raises(ValueError, match=r"`--target-language` is for autoregressive models"):
        load_system(str(tiny_folder), "cpu", prefix=None, target_language="deu_Latn")


def test_no_model_is_one_clear_sentence(tmp_path):
    with pytest.raises(OSError, match="there is no such folder"):
        load_system(str(tmp_path / "nowhere"), "cpu")


# Settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_refinement_iterations=-1", "Use 0 to decode from the prior mean"),
        ("num_refinement_iteration=2", "did you mean `num_refinement_iterations`"),
        ("num_beams=4", "no meaning for a non-autoregressive model"),
        ("collapse_repeats=2", "must be True or False"),
        ("refinement=nonsense", 'no refinement "nonsense"; it supports: delta_posterior, score'),
        ("refinement=score", "needs a trained score network, but the model has none"),
        ("step_size=0.5", "`step_size` has no meaning"),
        ("rank_by=teacher", "Add length_beam=5 or num_latents=5"),
        ("num_latents=2,rank_by=teacher", "none is given: num_latents=2"),
        ("latent_temperature=0.5", "Add num_latents=5"),
        ("return_dict_in_generate=true", "about what `generate` returns"),
        ("output_history=false", "about what `generate` returns"),
    ],
)
def test_our_models_refuse_a_wrong_knob_before_translating(ours, text, message):
    with pytest.raises(ValueError, match=message):
        check_setting(ours, parse_setting(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_beems=4", "got `num_beems`. Did you mean `num_beams`"),
        ("num_refinement_iterations=4", "got `num_refinement_iterations`"),
        ("num_beams=0", "`num_beams` must be a whole number and at least 1, got 0"),
        ("num_beams=true", "got True"),
        ("num_beams=2,early_stopping=sometimes", "early_stopping.* but is sometimes"),
        ("num_beams=1,length_penalty=0.6", "`length_penalty`.*only used in beam-based"),
        ("num_return_sequences=2", "about what `generate` returns"),
    ],
)
def test_other_models_refuse_a_wrong_knob_before_translating(marian, text, message):
    with pytest.raises(ValueError, match=message):
        check_setting(marian, parse_setting(text))


def test_what_the_models_own_config_says_in_vain_is_no_error(marian):
    marian.model.generation_config.length_penalty = 0.6  # for beams, and this is greedy
    greedy, beam = choose_settings(True, None, None, [])

    check_setting(marian, greedy)
    check_setting(marian, beam)
    check_setting(marian, parse_setting("num_beams=2,length_penalty=0.6,suppress_tokens=[5,6]"))


def test_the_models_own_setting_is_known(ours, marian):
    assert [is_default(ours, parse_setting(f"num_refinement_iterations={n}")) for n in (3, 1)] == [
        True,
        False,
    ]
    assert is_default(ours, parse_setting("collapse_repeats=true"))
    assert not is_default(ours, parse_setting("collapse_repeats=false"))
    assert is_default(marian, Setting("beam 3", {"num_beams": 3, "do_sample": False}, ""))
    assert not is_default(marian, parse_setting("num_beams=4"))


# Translating


def test_our_models_count_the_tokens_of_the_last_draft(ours):
    setting = parse_setting("num_refinement_iterations=2")

    found = run_setting(ours, SOURCES, REFERENCES, setting, batch_size=4)

    traces = ours.trace(SOURCES, num_refinement_iterations=2)
    assert found.texts == [trace.translation for trace in traces]
    assert found.tokens == [trace.drafts[-1] for trace in traces]
    assert found.iterations == [trace.iterations for trace in traces]
    subwords = [ours.tokenizer(text)["input_ids"][:-1] for text in REFERENCES]  # without the end
    assert found.reference_tokens == subwords


@pytest.fixture
def refiners(tmp_path, tiny_tokenizer):
    return load_system(str(save_refiners(tmp_path / "refiners", tiny_tokenizer)), "cpu")


def counted(system):
    """Return a list to which each decoder pass of a system adds."""
    decode, passes = system.model.decode, []
    system.model.decode = lambda *args: passes.append(1) or decode(*args)
    return passes


def test_the_drafts_of_a_score_are_made_apart_from_what_is_timed(refiners):
    setting = parse_setting("refinement=score,num_refinement_iterations=3")
    passes = counted(refiners)

    found = run_setting(refiners, SOURCES, REFERENCES, setting, batch_size=6)

    assert len(passes) == 1 + 4  # at the end, then with the drafts
    assert [len(trace.drafts) for trace in found.traces] == [4] * 6
    assert found.texts == refiners.translate(SOURCES, **setting.knobs)
    assert found.tokens == [trace.drafts[-1] for trace in found.traces]


def test_delta_iterations_decode_anyway_and_run_once(refiners):
    setting = parse_setting("num_refinement_iterations=2,stop_early=false")
    passes = counted(refiners)

    run_setting(refiners, SOURCES, REFERENCES, setting, batch_size=6)

    assert len(passes) == 3


def test_latent_search_depends_on_the_seed_and_not_on_batches(refiners):
    setting = parse_setting("refinement=score,num_latents=6,latent_temperature=9.0")

    first, again, other = (
        run_setting(refiners, SOURCES, REFERENCES, setting, batch_size=size, seed=seed)
        for size, seed in ((6, 1), (2, 1), (6, 2))
    )

    noise = line_generators(1, len(SOURCES))
    assert first.texts == again.texts == refiners.translate(SOURCES, 8, noise, **setting.knobs)
    assert first.texts != other.texts
    assert first.log_likelihood == pytest.approx(again.log_likelihood)


def test_the_words_that_are_left_have_a_mean_log_probability(ours):
    setting = parse_setting("num_refinement_iterations=1")

    found = run_setting(ours, SOURCES, REFERENCES, setting, batch_size=4)

    means = [sum(trace.scores[:-1]) / len(trace.tokens) for trace in found.traces]
    assert found.log_likelihood == pytest.approx(sum(means) / len(means))
    assert found.log_likelihood < 0


def test_a_sentence_without_words_has_no_log_probability():
    two, none = (TranslationTrace("", "", [[]], scores, 0) for scores in ([-1.0, -2.0, 0.0], [0.0]))

    assert word_log_prob([two, none]) == -1.5
    assert word_log_prob([none]) is None


def test_the_first_strategy_is_the_models_own_by_its_name_too(ours):
    named = parse_setting("refinement=delta_posterior,num_refinement_iterations=3")

    assert is_default(ours, named)
    assert not is_default(ours, parse_setting("refinement=none"))


def test_other_models_count_the_tokens_of_the_translation(marian):
    setting = parse_setting("num_beams=2")

    found = run_setting(marian, SOURCES, REFERENCES, setting, batch_size=4)

    assert found.texts == marian.translate(SOURCES, num_beams=2)
    assert found.texts != marian.translate(SOURCES, num_beams=1)
    assert found.tokens == [marian.tokenizer(text)["input_ids"][:-1] for text in found.texts]
    assert (found.iterations, found.traces) == (None, [])
    assert found.seconds > 0


def test_sampling_follows_the_seed(marian):
    setting = parse_setting("num_beams=1,do_sample=true")
    check_setting(marian, setting)

    texts = [run_setting(marian, SOURCES, REFERENCES, setting, 6, seed).texts for seed in (1, 1, 2)]

    assert texts[0] == texts[1] != texts[2]


def test_given_translations_are_counted_by_words():
    found = given_translations(["A dog, a dog."], ["A cat."])

    assert found.tokens == [["A", "dog", ",", "a", "dog", "."]]
    assert found.reference_tokens == [["A", "cat", "."]]
    assert (found.seconds, found.iterations, found.traces) == (None, None, [])
