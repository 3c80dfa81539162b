import random

import pytest
from conftest import tiny_sentences
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_nar.data.encoding import PairEncoder
from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.data.word_encoding import WordEncoder

ONE_REPLACE = normalizers.Replace(Regex(" {2,}"), "▁")

# Accents that join what is before, marks that join what is after, spaces of other kinds, emoji,
# ligatures, decomposed letters, half-width sounds, special tokens.
ODD = [
    "́",
    "á",
    "\u0600",
    "\xa0",
    "a\xa0b",
    "\u3000",
    "\t",
    "ﬁ",
    "½",
    "ｶﾞ",
    "ﾞ",
    "ำ",
    "👍🏽",
    "🏽",
    "\u200d",
    "👩\u200d🚀",
    "ガ",
    "한",
    "\u200b",
    "\ufeff",
    "\u00b4",
    "<mask>",
    "a<mask>b",
    "</s>",
    "<s>",
    "▁",
    "▁a",
    "a▁b",
    "İ",
    "ß",
    "ǅ",
    "ﷺ",
    "ൎ",
    "क्षि",
    "ि",
    "\x85",
    "\u2028",
]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def trained(tmp_path_factory, request):
    return train_tokenizer(tiny_sentences(), tmp_path_factory.mktemp("t"), 90, request.param)


@pytest.fixture(scope="module")
def unigram(tmp_path_factory):
    """Knows the odd characters, too: else most would be the same unknown one."""
    odd = [f"{start}{word}" for word in ODD if word.strip() for start in ("", "x")] * 5
    return train_tokenizer([*tiny_sentences(), *odd], tmp_path_factory.mktemp("t"), 125)


def odd_sentences(count):
    chance = random.Random(0)
    plain = [word for sentence in tiny_sentences() for word in sentence.split(" ")]
    letters = [character for word in ODD for character in word]
    for _ in range(count):
        words = [chance.choice((chance.choice(plain), chance.choice(ODD), "")) for _ in range(6)]
        words.append("".join(chance.choices([*letters, *"abc"], k=3)))
        chance.shuffle(words)
        yield " ".join(words)


def test_words_give_the_ids_that_the_tokenizer_gives_whatever_the_text(unigram):
    sentences = [*odd_sentences(5000), *tiny_sentences(), "", " ", "  a  "]

    found = [ids.tolist() for ids in WordEncoder.of(unigram).encode(sentences)]

    assert found == unigram(sentences)["input_ids"]


def test_forgetting_words_changes_nothing(unigram):
    encoder = WordEncoder.of(unigram)
    encoder.words = 10
    sentences = [*tiny_sentences()[:200], *odd_sentences(200)]
    random.Random(0).shuffle(sentences)

    found = [encoder.encode(sentences[i : i + 3])[0].tolist() for i in range(0, 400, 3)]

    assert found == unigram(sentences[::3])["input_ids"]
    assert len(encoder._known) + len(encoder._older) < 60


def test_a_tokenizer_that_looks_across_spaces_is_asked_itself(tmp_path):
    tokenizer = train_tokenizer(tiny_sentences(), tmp_path, 90, "bpe")

    assert WordEncoder.of(tokenizer) is None


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC(), ONE_REPLACE])
def test_a_tokenizer_for_which_more_spaces_mean_something_is_asked_itself(normalizer):
    pieces = [("<unk>", 0.0), ("</s>", 0.0), ("▁", -2.0), ("▁a", -3.0), ("a", -3.0)]
    backend = Tokenizer(models.Unigram(pieces, 0))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    end = [("</s>", 1)]
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=end)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")

    assert WordEncoder.of(tokenizer) is None


def test_pairs_have_the_ids_of_the_tokenizer(trained):
    sentences = tiny_sentences()
    pairs = list(zip(sentences[:50], sentences[-50:], strict=True))

    found = PairEncoder(trained, 100, 100).examples(pairs)

    expected = trained(text=sentences[:50], text_target=sentences[-50:])
    assert [row["input_ids"].tolist() for row in found] == expected["input_ids"]
    assert [row["labels"].tolist() for row in found] == expected["labels"]
