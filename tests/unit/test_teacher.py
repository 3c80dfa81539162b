import math

import pytest
import torch
from conftest import tiny_sentences
from tiny_teachers import ARCHITECTURES, new_teacher, save_teacher
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, MarianMTModel

from hf_nar.teacher import Teacher

LINES = [*tiny_sentences()[:5], "", "Ein Hund.", "   "]


@pytest.fixture(params=ARCHITECTURES)
def teacher(request, tiny_tokenizer):
    return Teacher(new_teacher(request.param, tiny_tokenizer), tiny_tokenizer)


def test_texts_are_translated_as_generate_does_one_by_one(teacher):
    texts = teacher.translate(LINES, batch_size=3)

    for line, text in zip(LINES, texts, strict=True):
        if not line.strip():
            assert text == ""
            continue
        ids = teacher.model.generate(**teacher.tokenizer(line, return_tensors="pt"))
        assert text == teacher.tokenizer.decode(ids[0], skip_special_tokens=True).strip()


def test_any_two_sources_have_different_translations(teacher):
    texts = teacher.translate(tiny_sentences()[:40])

    assert len(set(texts)) > 5


def test_a_score_is_the_mean_log_probability_up_to_the_end_token(teacher):
    [[best]] = teacher.hypotheses(["Ein Hund läuft im Schnee."], num_beams=1)

    encoded = teacher.tokenizer("Ein Hund läuft im Schnee.", return_tensors="pt")
    ids = teacher.model.generate(**encoded, num_beams=1)[0].tolist()
    total, count = 0.0, 0
    for i in range(1, len(ids)):
        prefix = torch.tensor([ids[:i]])
        logits = teacher.model(**encoded, decoder_input_ids=prefix).logits[0, -1]
        total += logits.log_softmax(-1)[ids[i]].item()
        count += 1
        if ids[i] == teacher.tokenizer.eos_token_id:
            break
    assert best.score == pytest.approx(total / count, abs=1e-5)


def test_a_score_does_not_depend_on_the_batch(teacher):
    lines = tiny_sentences()[:6]

    together = teacher.hypotheses(lines, batch_size=6)
    alone = teacher.hypotheses(lines, batch_size=1)

    for [first], [second] in zip(together, alone, strict=True):
        assert first.text == second.text
        assert first.score == pytest.approx(second.score, abs=1e-4)


def test_several_hypotheses_differ_and_belong_to_their_text(teacher):
    lines = tiny_sentences()[:4]

    found = teacher.hypotheses([*lines, ""], batch_size=2, num_hypotheses=3)

    assert [len(candidates) for candidates in found] == [3, 3, 3, 3, 0]
    best = teacher.translate(lines)
    assert [candidates[0].text for candidates in found[:4]] == best
    assert all(len({c.score for c in candidates}) == 3 for candidates in found[:4])


def test_scores_are_left_out_where_they_are_not_wanted(teacher):
    [[best]] = teacher.hypotheses(["Ein Hund."], with_scores=False)

    assert math.isnan(best.score)


def test_a_prefix_is_put_before_each_text(tiny_tokenizer):
    model = new_teacher("t5", tiny_tokenizer)

    plain = Teacher(model, tiny_tokenizer).translate(["Ein Hund Ein Kind."])
    prefixed = Teacher(model, tiny_tokenizer, prefix="Ein Hund ").translate(["Ein Kind."])

    assert prefixed == plain


def test_the_target_language_is_forced_to_the_front(tiny_tokenizer):
    tiny_tokenizer.add_tokens(["xx_XX"], special_tokens=True)
    tiny_tokenizer.src_lang = None
    model = new_teacher("marian", tiny_tokenizer)

    teacher = Teacher(model, tiny_tokenizer, source_language="xx_XX", target_language="xx_XX")
    ids = model.generate(
        **tiny_tokenizer("Ein Hund.", return_tensors="pt"), **teacher.generate_kwargs
    )

    assert tiny_tokenizer.src_lang == "xx_XX"
    assert ids[0, 1] == tiny_tokenizer.convert_tokens_to_ids("xx_XX")
    with pytest.raises(ValueError, match="one that the tokenizer knows; got 'yy_YY'"):
        Teacher(model, tiny_tokenizer, target_language="yy_YY")


def test_a_language_needs_a_multilingual_tokenizer(tiny_tokenizer):
    with pytest.raises(ValueError, match="only with a multilingual tokenizer"):
        Teacher(new_teacher("t5", tiny_tokenizer), tiny_tokenizer, source_language="deu_Latn")


def test_a_text_that_is_too_long_is_refused(tiny_tokenizer):
    teacher = Teacher(new_teacher("marian", tiny_tokenizer), tiny_tokenizer)

    assert teacher.max_source_tokens == 40
    with pytest.raises(ValueError, match="at most 40 tokens for this teacher; number 1 has"):
        teacher.translate(["Ein Hund.", "Hund " * 60])


@pytest.mark.parametrize(
    ("architecture", "tokenizer_limit", "limit"),
    [("marian", None, 40), ("t5", 30, 30), ("t5", None, 256)],
)
def test_a_teacher_that_names_no_limit_is_not_cut_at_twenty_tokens(
    tiny_tokenizer, architecture, tokenizer_limit, limit
):
    if tokenizer_limit:
        tiny_tokenizer.model_max_length = tokenizer_limit
    model = new_teacher(architecture, tiny_tokenizer, max_length=None)

    Teacher(model, tiny_tokenizer)

    encoded = tiny_tokenizer("Ein Hund.", return_tensors="pt")
    ids = model.generate(**encoded, min_length=limit)  # no end token before
    assert ids.shape == (1, limit)


def test_a_limit_on_new_tokens_is_left_alone(tiny_tokenizer):
    model = new_teacher("t5", tiny_tokenizer, max_length=None)
    model.generation_config.max_new_tokens = 5

    Teacher(model, tiny_tokenizer)

    assert model.generation_config.max_length is None


def test_no_code_of_a_folder_is_run_or_asked_about(tmp_path, tiny_tokenizer, monkeypatch):
    folder = save_teacher(tmp_path / "teacher", "marian", tiny_tokenizer)
    trusted = []
    for loader in (AutoModelForSeq2SeqLM, AutoTokenizer):
        original = loader.from_pretrained

        def recorded(*args, original=original, **kwargs):
            trusted.append(kwargs.get("trust_remote_code"))
            return original(*args, **kwargs)

        monkeypatch.setattr(loader, "from_pretrained", recorded)

    Teacher.from_pretrained(folder, device="cpu")

    assert trusted == [False, False]  # None would ask the user


def test_a_teacher_is_loaded_from_its_folder(tmp_path, tiny_tokenizer):
    folder = save_teacher(tmp_path / "teacher", "marian", tiny_tokenizer)

    teacher = Teacher.from_pretrained(folder, device="cpu")

    assert isinstance(teacher.model, MarianMTModel)
    assert teacher.translate(LINES) == Teacher(
        new_teacher("marian", tiny_tokenizer), tiny_tokenizer
    ).translate(LINES)


def test_one_of_our_models_is_no_teacher(tiny_folder):
    with pytest.raises(ValueError, match="A teacher must be an autoregressive"):
        Teacher.from_pretrained(tiny_folder)


def test_a_folder_without_weights_or_with_damaged_ones_is_refused(tmp_path, tiny_tokenizer):
    folder = save_teacher(tmp_path / "teacher", "t5", tiny_tokenizer)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])

    with pytest.raises(OSError, match="Cannot load a teacher from"):
        Teacher.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(OSError, match=r"with config.json, model.safetensors"):
        Teacher.from_pretrained(folder)
    with pytest.raises(OSError, match="Cannot load a teacher from"):
        Teacher.from_pretrained(tmp_path / "nowhere")


def test_a_batch_needs_a_sentence(teacher):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        teacher.translate(LINES, batch_size=0)
