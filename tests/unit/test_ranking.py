"""Translations of several lengths, of which a teacher keeps the best."""

import pytest
import torch
from tiny_folders import save_refinement
from tiny_teachers import new_teacher, save_teacher

from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.inference import Translator
from hf_nar.teacher import Teacher

TEXTS = ["Ein Hund läuft im Schnee.", "Eine Katze", "Ein Vogel sitzt unter dem Baum.", ""]
RANKED = {"length_beam": 4, "rank_by": "teacher"}


@pytest.fixture
def model_folder(tmp_path, tiny_tokenizer):
    return save_refinement(tmp_path / "model", tiny_tokenizer)


@pytest.fixture
def teacher_folder(tmp_path, tiny_tokenizer):
    return save_teacher(tmp_path / "marian", "marian", tiny_tokenizer)


def best_by_hand(translator, teacher, text):
    """Decode each likely length alone, score it with the teacher, and return the best text."""
    tokenizer, model = translator.tokenizer, translator.model
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    found = []
    for length in model.likely_lengths(model.encode(ids), RANKED["length_beam"])[0]:
        draft = model.generate(ids, target_lengths=length[None])
        start = torch.full((1, 1), teacher.config.decoder_start_token_id)
        shifted = torch.cat([start, draft[:, :-1]], dim=1)
        logits = teacher(input_ids=ids, decoder_input_ids=shifted).logits
        score = logits.log_softmax(-1).gather(-1, draft[..., None]).mean()
        found.append((float(score), tokenizer.decode(draft[0], skip_special_tokens=True)))
    return max(found)[1]


@torch.no_grad()
def test_the_teacher_keeps_the_translation_that_it_finds_likeliest(model_folder, teacher_folder):
    translator = Translator.from_pretrained(
        model_folder, device="cpu", teacher=teacher_folder, **RANKED
    )

    texts = translator.translate(TEXTS)

    teacher = Teacher.from_pretrained(teacher_folder, device="cpu").model
    assert texts == [*(best_by_hand(translator, teacher, text) for text in TEXTS[:3]), ""]
    assert texts != translator.translate(TEXTS, rank_by="own")
    assert [trace.translation for trace in translator.trace(TEXTS)] == texts


def test_a_teacher_of_another_vocabulary_is_refused(model_folder, tmp_path):
    words = train_tokenizer(["Ganz andere Wörter."] * 3, tmp_path / "words", vocab_size=19)
    other = save_teacher(tmp_path / "other", "marian", words)

    with pytest.raises(
        ValueError, match="own vocabulary, of 90 tokens, but has another one, of 19"
    ):
        Translator.from_pretrained(model_folder, device="cpu", teacher=other)


def test_a_teacher_for_shorter_texts_is_refused(tmp_path, tiny_tokenizer, teacher_folder):
    longer = save_refinement(tmp_path / "longer", tiny_tokenizer, longest=41)

    with pytest.raises(ValueError, match="as long as the model's, 41 tokens, but takes 40"):
        Translator.from_pretrained(longer, device="cpu", teacher=teacher_folder)


def test_ranking_without_a_teacher_is_refused_at_once(model_folder):
    with pytest.raises(ValueError, match="Give `teacher=`, or `--rank-with`"):
        Translator.from_pretrained(model_folder, device="cpu", **RANKED)


def test_a_latent_model_is_ranked_by_a_teacher_too(tiny_model, tiny_tokenizer):
    tiny_model.config.max_target_length = 40
    teacher = Teacher(new_teacher("marian", tiny_tokenizer), tiny_tokenizer)
    translator = Translator(tiny_model, tiny_tokenizer, teacher)

    own, ranked = (
        translator.translate(TEXTS, length_beam=5, rank_by=judge) for judge in ("own", "teacher")
    )

    assert own != ranked
