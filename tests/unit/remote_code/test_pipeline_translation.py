from itertools import count, islice

import pytest
import torch
from torch.utils.data import Dataset

from hf_nar.inference import Translator
from hf_nar.remote_code.pipeline_translation import TranslationPipeline

TEXTS = ["Ein Hund läuft im Schnee.", "", "Eine Katze", " \t", "Ein Vogel sitzt unter dem Baum."]


class Texts(Dataset):
    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, number):
        return TEXTS[number]


@pytest.fixture
def lively_model(tiny_model):
    """Return a model that says other things in each iteration."""
    torch.manual_seed(0)
    for part in (tiny_model.posterior_head, tiny_model.lm_head, tiny_model.latent_projection):
        torch.nn.init.normal_(part.weight, std=1.0)
    return tiny_model


@pytest.fixture
def pipe(lively_model, tiny_tokenizer):
    return TranslationPipeline(lively_model, tiny_tokenizer, device="cpu")


@pytest.fixture
def expected(lively_model, tiny_tokenizer):
    return Translator(lively_model, tiny_tokenizer)(TEXTS)


def test_a_text_gives_a_list_of_one_result_as_in_transformers_4(pipe, expected):
    assert pipe(TEXTS[0]) == [expected[0]]
    assert expected[0]["translation_text"]


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_a_list_gives_what_the_translator_gives_in_the_same_order(pipe, expected, batch_size):
    assert pipe(TEXTS, batch_size=batch_size) == expected
    assert pipe(tuple(TEXTS), batch_size=batch_size) == expected


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("texts", [lambda: (text for text in TEXTS), lambda: iter(TEXTS), Texts])
def test_iterators_and_data_sets_give_a_list_of_one_for_each_text(
    pipe, expected, texts, batch_size
):
    assert list(pipe(texts(), batch_size=batch_size)) == [[result] for result in expected]


def test_an_iterator_without_end_is_read_as_results_are_taken(pipe):
    taken = []
    endless = (taken.append(number) or TEXTS[number % 2] for number in count())

    results = list(islice(pipe(endless, batch_size=2), 3))

    assert len(results) == 3
    assert len(taken) <= 4


def test_nothing_gives_nothing(pipe):
    assert pipe([]) == []
    assert list(pipe(iter([]))) == []


def test_texts_without_words_have_empty_translations(pipe):
    assert pipe([TEXTS[1], TEXTS[3]]) == [{"translation_text": ""}] * 2


def test_knobs_of_the_constructor_hold_until_a_call_says_otherwise(lively_model, tiny_tokenizer):
    translator = Translator(lively_model, tiny_tokenizer)
    first, second = (translator(TEXTS[:1], num_refinement_iterations=n) for n in (0, 2))

    pipe = TranslationPipeline(
        lively_model, tiny_tokenizer, device="cpu", num_refinement_iterations=0
    )

    assert pipe(TEXTS[0]) == first
    assert pipe(TEXTS[0], num_refinement_iterations=2) == second
    assert first != second


@pytest.mark.parametrize("batch_size", [1, 3])
def test_drafts_come_with_the_translation_when_they_are_asked_for(
    pipe, lively_model, tiny_tokenizer, batch_size
):
    found = pipe(TEXTS, batch_size=batch_size, return_drafts=True, num_refinement_iterations=3)

    traces = Translator(lively_model, tiny_tokenizer).trace(TEXTS, num_refinement_iterations=3)
    assert [len(result["drafts"]) for result in found if result["translation_text"]] == [
        len(trace.drafts) for trace in traces if trace.translation
    ]
    drafts = tiny_tokenizer.convert_tokens_to_ids(traces[0].drafts[0])
    assert found[0]["drafts"][0] == tiny_tokenizer.decode(drafts)
    assert len(set(found[0]["drafts"])) > 1


@pytest.mark.parametrize("texts", [3, None, ["Ein Hund", 3], [["Ein Hund"]], {"text": "Ein Hund"}])
def test_what_is_no_text_is_refused(pipe, texts):
    with pytest.raises(TypeError, match=r"must be a string.* pass a flat list"):
        pipe(texts)


def test_a_text_that_is_too_long_is_refused(pipe):
    with pytest.raises(ValueError, match=r"at most 40 tokens.* Split it into sentences"):
        pipe("Ein Hund " * 40)


def test_an_unknown_knob_is_refused_by_name(pipe):
    with pytest.raises(ValueError, match=r"`num_beam`: did you mean `length_beam`"):
        pipe(TEXTS[0], num_beam=3)


def test_a_model_whose_config_the_library_has_changed_can_be_saved(pipe, lively_model, tmp_path):
    """`pipeline()` puts a class in the place of its name there."""
    task = {"impl": "pipeline_translation.TranslationPipeline", "pt": (torch.nn.Linear,)}
    lively_model.config.custom_pipelines = {"translation": task}

    TranslationPipeline(lively_model, pipe.tokenizer, device="cpu").save_pretrained(tmp_path)

    assert '"Linear"' in (tmp_path / "config.json").read_text()
