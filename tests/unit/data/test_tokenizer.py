# ruff: noqa: RUF001  (the look-alike characters are the point)
import json
import random
import unicodedata

import pytest
import sentencepiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_nar.data.tokenizer import convert_sentencepiece, save_tokenizer, train_tokenizer

WORDS = [
    ["the", "cat", "sat", "on", "a", "mat", "while", "two", "small", "dogs", "ran"],
    ["der", "Hund", "läuft", "über", "die", "Straße", "und", "größere", "Äpfel", "fallen"],
    ["быстрая", "лиса", "прыгает", "через", "ленивую", "собаку"],
    ["η", "γρήγορη", "αλεπού", "πηδάει", "πάνω"],
    ["الثعلب", "البني", "السريع", "يقفز"],
    ["तेज़", "भूरी", "लोमड़ी", "कूदती", "है"],
    ["敏捷的", "棕色", "狐狸", "跳过", "懒狗。"],
    ["すばやい", "茶色の", "ｷﾂﾈ", "が、"],
    ["빠른", "갈색", "여우가", "뛰어넘는다"],
    ["été", "ﬁne", "①", "½", "™", "Ⅷ", "3,141.59", "http://a.b/c?d=e&f", "🙂", "🎉"],
]
ODD = [
    "",
    " ",
    "   ",
    "  two  spaces   inside and   outside  ",
    "tab\tand\x0bvertical\x0cfeed",
    "line\nfeed\r\nreturn\rend\n",
    "\u00a0no\u00a0break\u00a0",
    "narrow\u202fem\u2003ideographic\u3000thin\u2009",
    "\ufeffmark at the start and \ufeff inside",
    "zero\u200bwidth\u200cjoin\u200der and soft\u00adhyphen",
    "next\x85line\u2028line\u2029paragraph",
    "👨‍👩‍👧‍👦 🇩🇪 👍🏽 🙂🙂 🎉!",
    "\x00null\x01control\x7f",
    "combining e\u0301 n\u0303 \u0301 alone",
    "unknown ꙮ ⌬ 𐍈 𝕏 ꙮꙮꙮ the ꙮcat",
    "ＦＵＬＬ ｗｉｄｔｈ １２３ ﷺ",
    "שלום עולם \u202eright to left\u202c",
    unicodedata.normalize("NFD", "Tiếng Việt có nhiều dấu phụ ở trên các nguyên âm"),
    unicodedata.normalize("NFD", "빠른 갈색 여우가 ἄνθρωπος ᾧ Straße größere Äpfel"),
    "a",
    "ß",
    "?!?!...---",
]


def corpus():
    """300 sentences; some words are glued together, so that there are many pieces to find."""
    draw = random.Random(7)
    sentences = [draw.choices(words, k=draw.randint(2, 9)) for words in WORDS * 30]
    return ["".join(word + draw.choice(["", " "]) for word in words) for words in sentences]


@pytest.fixture(scope="module", params=["unigram", "bpe"])
def trained(request, tmp_path_factory):
    """Folder of a tokenizer trained on ten languages."""
    folder = tmp_path_factory.mktemp(request.param)
    train_tokenizer(corpus(), folder, vocab_size=400, model_type=request.param)
    return folder


def train_raw(folder, **options):
    """Train a model that `train_tokenizer` would not make."""
    prefix = folder / "raw"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_prefix=str(prefix),
        **{"vocab_size": 350, "character_coverage": 1.0, "minloglevel": 2, **options},
    )
    return prefix.with_suffix(".model")


def assert_same_as_sentencepiece(tokenizer, model_file):
    original = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
    eos, unk = original.eos_id(), original.unk_id()
    for text in [*corpus(), *ODD]:
        ids = tokenizer(text)["input_ids"]
        assert ids == [*original.encode(text), eos], repr(text)
        if unk not in ids:  # sentencepiece writes unknown text as U+2047
            assert tokenizer.decode(ids, skip_special_tokens=True) == original.decode(ids[:-1])


def test_the_folder_encodes_and_decodes_as_sentencepiece_does(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained)

    assert_same_as_sentencepiece(tokenizer, trained / "sentencepiece.model")


def test_the_odd_strings_reach_unknown_characters(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained)

    unknown = [text for text in ODD if tokenizer.unk_token_id in tokenizer(text)["input_ids"]]

    assert 0 < len(unknown) < len(ODD)


@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": True, "vocab_size": 620},
        {"byte_fallback": True, "vocab_size": 620, "model_type": "bpe"},
        {"add_dummy_prefix": False},
        {"normalization_rule_name": "identity"},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "add_dummy_prefix": False,
            "model_type": "bpe",
        },
        {"user_defined_symbols": ["<de>", "<en>"]},
    ],
    ids=str,
)
def test_models_of_others_convert_faithfully(tmp_path, options):
    model_file = train_raw(tmp_path, **options)

    tokenizer = convert_sentencepiece(model_file)

    assert_same_as_sentencepiece(tokenizer, model_file)


def test_a_model_without_pad_and_mask_gets_the_next_ids(tmp_path):
    model_file = train_raw(tmp_path)

    tokenizer = convert_sentencepiece(model_file)

    assert {tokenizer.pad_token_id, tokenizer.mask_token_id} == {350, 351}
    assert len(tokenizer) == 352
    assert tokenizer.eos_token_id == 2


def test_special_tokens_have_the_first_ids(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained)

    special = ["pad", "bos", "eos", "unk", "mask"]
    assert [getattr(tokenizer, f"{name}_token_id") for name in special] == [0, 1, 2, 3, 4]
    assert tokenizer.convert_ids_to_tokens([0, 1, 2, 3, 4]) == [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "<mask>",
    ]
    assert len(tokenizer) == 400


def test_a_batch_is_padded_right_with_eos_on_both_sides(trained):
    tokenizer = AutoTokenizer.from_pretrained(trained)

    batch = tokenizer(["the cat", "a mat ran on"], text_target=["der Hund", "die"], padding=True)

    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
        real = [token for token, keep in zip(ids, mask, strict=True) if keep]
        assert ids == real + [0] * (len(ids) - len(real))
        assert real[-1] == 2
    assert all(2 in labels for labels in batch["labels"])


def test_the_folder_names_a_class_that_every_version_knows(trained):
    config = json.loads((trained / "tokenizer_config.json").read_text())

    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["model_input_names"] == ["input_ids", "attention_mask"]
    assert isinstance(AutoTokenizer.from_pretrained(trained), PreTrainedTokenizerFast)


def test_saved_files_do_not_depend_on_the_last_call(trained, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(trained)
    save_tokenizer(tokenizer, tmp_path / "before")
    tokenizer(["the cat", "a"], padding=True, truncation=True, max_length=2)
    padding, truncation = (
        tokenizer.backend_tokenizer.padding,
        tokenizer.backend_tokenizer.truncation,
    )

    save_tokenizer(tokenizer, tmp_path / "after")

    names = sorted(file.name for file in (tmp_path / "before").iterdir())
    assert "tokenizer.json" in names
    for name in names:
        before, after = (tmp_path / when / name for when in ("before", "after"))
        assert after.read_bytes() == before.read_bytes()
    assert padding
    assert truncation
    assert tokenizer.backend_tokenizer.padding == padding
    assert tokenizer.backend_tokenizer.truncation == truncation


def test_training_again_gives_the_same_files(trained, tmp_path):
    kind = "bpe" if "bpe" in trained.name else "unigram"

    train_tokenizer(corpus(), tmp_path, vocab_size=400, model_type=kind)

    for name in ("sentencepiece.model", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (trained / name).read_bytes()


def test_a_sample_is_drawn_by_its_seed_from_the_whole_corpus(tmp_path):
    first_half_then_second = [*["abcd efgh"] * 500, *["ijkl mnop"] * 500]

    files = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        tokenizer = train_tokenizer(
            first_half_then_second, tmp_path / folder, 22, max_sentences=40, seed=seed
        )
        files.append((tmp_path / folder / "sentencepiece.model").read_bytes())
        assert 3 not in tokenizer("abcd mnop")["input_ids"]

    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_too_large_names_the_largest_that_works(tmp_path, kind):
    with pytest.raises(ValueError, match="`vocab_size` must be at most") as caught:
        train_tokenizer(corpus(), tmp_path, vocab_size=100_000, model_type=kind)
    largest = int(str(caught.value).split("at most ")[1].split()[0])

    tokenizer = train_tokenizer(corpus(), tmp_path, vocab_size=largest, model_type=kind)

    assert len(tokenizer) == largest


def test_a_vocabulary_too_small_names_the_smallest(tmp_path):
    with pytest.raises(ValueError, match=r"`vocab_size` must be at least \d+ .* got 20"):
        train_tokenizer(corpus(), tmp_path, vocab_size=20)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sentences": []}, "`sentences` must hold some text"),
        ({"sentences": ["", "  "]}, "`sentences` must hold some text"),
        ({"model_type": "word"}, "`model_type` must be one of unigram, bpe"),
        ({"character_coverage": 1.5}, "`character_coverage` must be over 0 and at most 1"),
        ({"vocab_size": 0}, "`vocab_size` must be more than the 5 special"),
        ({"max_sentences": 0}, "`max_sentences` must be at least 1"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        train_tokenizer(**{"sentences": ["a b"], "output": tmp_path / "new", **arguments})

    assert not (tmp_path / "new").exists()


def test_an_error_of_the_corpus_keeps_its_name(tmp_path):
    def broken():
        yield "a b c"
        raise ValueError("line 2 is broken")

    with pytest.raises(ValueError, match=r"^line 2 is broken$"):
        train_tokenizer(broken(), tmp_path)


def test_a_model_cut_anywhere_is_one_clear_error(trained, tmp_path):
    data = (trained / "sentencepiece.model").read_bytes()
    settings = data.index(b"\x0a\x08nmt_nfkc") - 4  # the last message: tag, 3 bytes of length
    cuts = [*range(400), settings, *range(400, len(data), 7919), len(data) - 1]
    assert data[settings] == 0x1A

    for cut in cuts:
        (tmp_path / "cut.model").write_bytes(data[:cut])
        with pytest.raises(ValueError, match="`model_file` must be a SentencePiece model"):
            convert_sentencepiece(tmp_path / "cut.model")


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR",
        b'{"model": "json"}',
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01abc",
        b"\xff" * 50,
        bytes(1000),
    ],
    ids=["png", "json", "huge length", "endless number", "zeros"],
)
def test_another_file_is_one_clear_error(tmp_path, data):
    (tmp_path / "other.model").write_bytes(data)

    with pytest.raises(ValueError, match=r"`model_file` must be .*other\.model cannot be read: "):
        convert_sentencepiece(tmp_path / "other.model")


def conversion_error(model_file):
    try:
        convert_sentencepiece(model_file)
    except ValueError as error:
        return str(error)
    return None


def test_a_flipped_byte_never_escapes_as_another_error(trained, tmp_path):
    data = (trained / "sentencepiece.model").read_bytes()
    draw = random.Random(3)
    refused = 0
    for _ in range(100):
        place = draw.randrange(6000)  # the pieces
        flipped = data[:place] + bytes([data[place] ^ (1 << draw.randrange(8))]) + data[place + 1 :]
        (tmp_path / "flipped.model").write_bytes(flipped)
        message = conversion_error(tmp_path / "flipped.model")
        assert message is None or "`model_file` must be a SentencePiece model" in message
        refused += message is not None

    assert refused > 10


@pytest.mark.parametrize(
    "options", [{"treat_whitespace_as_suffix": True}, {"remove_extra_whitespaces": False}], ids=str
)
def test_a_model_whose_spaces_cannot_be_kept_is_refused(tmp_path, options):
    model_file = train_raw(tmp_path, **options)

    with pytest.raises(ValueError, match="treats spaces in a way that fast tokenizers cannot"):
        convert_sentencepiece(model_file)


@pytest.mark.parametrize("kind", ["word", "char"])
def test_a_model_of_another_kind_is_refused(tmp_path, kind):
    model_file = train_raw(tmp_path, model_type=kind, vocab_size=60, hard_vocab_limit=False)

    with pytest.raises(ValueError, match="neither a unigram nor a BPE model"):
        convert_sentencepiece(model_file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="`model_file` must be an existing file"):
        convert_sentencepiece(tmp_path / "none.model")
