import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_nar.inference import Translator

TEXTS = [
    "Ein Hund läuft im Schnee.",
    "Eine Katze",
    "Ein Vogel sitzt unter dem Baum. Ein Pferd wartet am Haus.",
    "",
    "Ein Kind schläft.",
]
LONG = "A " * 50


@pytest.fixture
def translator(tiny_model, tiny_tokenizer):
    return Translator(tiny_model, tiny_tokenizer)


@pytest.fixture
def folder(tiny_folder, tmp_path):
    """Return a copy of the model folder that a test may damage."""
    return shutil.copytree(tiny_folder, tmp_path / "model")


def refuse(*args, **kwargs):
    raise AssertionError("the model was called")


def test_a_text_gives_a_list_with_one_dict(translator):
    answer = translator(TEXTS[0])

    assert list(answer[0]) == ["translation_text"]
    assert answer == [{"translation_text": translator.translate([TEXTS[0]])[0]}]


def test_an_iterator_is_read_a_batch_at_a_time(translator):
    read = []
    texts = (read.append(text) or text for text in TEXTS)

    answers = translator(texts, batch_size=2)
    first = next(answers)

    assert read == TEXTS[:2]
    assert [first, *answers] == translator(TEXTS)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batches_change_neither_order_nor_translation(translator, batch_size):
    one_by_one = [translator.translate([text])[0] for text in TEXTS]

    together = translator.translate(TEXTS, batch_size=batch_size)

    assert together == one_by_one
    assert len(set(one_by_one)) > 2  # else the order would not show


@pytest.mark.parametrize("text", ["", " ", "\t\u00a0\n"])
def test_a_text_without_words_never_reaches_the_model(translator, monkeypatch, text):
    monkeypatch.setattr(translator.model, "generate", refuse)

    assert translator(text) == [{"translation_text": ""}]
    assert translator.trace([text])[0].drafts == [[]]


def test_no_texts_give_no_translations(translator):
    assert translator([]) == []


def test_a_text_that_is_too_long_is_named_with_its_count_and_the_limit(translator):
    count = len(translator.tokenizer(LONG)["input_ids"])

    with pytest.raises(ValueError, match=f"at most 40 tokens .+ number 1 has {count}"):
        translator(["Ein Hund", LONG])

    assert translator.too_long(["Ein Hund", LONG]) == {1: count}


def test_a_text_of_just_the_longest_length_is_translated(translator):
    text = " ".join(["A"] * 19) + "."
    assert len(translator.tokenizer(text)["input_ids"]) == translator.max_source_tokens

    assert translator.too_long([text]) == {}
    translator(text)


def test_what_is_no_string_is_refused(translator):
    with pytest.raises(TypeError, match="number 1 is int"):
        translator(["Ein Hund", 7])


def test_a_batch_without_room_is_refused(translator):
    with pytest.raises(ValueError, match="Use 1 for one by one"):
        translator("Ein Hund", batch_size=0)


def test_a_misspelled_knob_is_refused(translator):
    with pytest.raises(ValueError, match="did you mean `num_refinement_iterations`"):
        translator("Ein Hund", num_refinement_iteration=2)


def test_a_knob_of_a_call_comes_before_the_translators_own(tiny_model, tiny_tokenizer):
    translator = Translator(tiny_model, tiny_tokenizer, num_refinement_iterations=0)

    assert translator.trace(TEXTS[:1])[0].iterations == 0
    assert translator.trace(TEXTS[:1], num_refinement_iterations=1)[0].iterations == 1


def test_a_trace_has_the_first_draft_and_one_for_each_iteration(translator):
    for trace, text in zip(translator.trace(TEXTS), translator.translate(TEXTS), strict=True):
        assert trace.translation == text
        assert len(trace.drafts) == trace.iterations + 1


def test_the_last_draft_reads_as_the_translation(translator):
    trace = translator.trace(TEXTS[:1], collapse_repeats=False)[0]

    assert "".join(trace.drafts[-1]).replace("▁", " ").strip() == trace.translation
    assert len(trace.scores) == len(trace.drafts[-1]) + 1  # and the end token
    assert all(score <= 0 for score in trace.scores)


def test_a_translation_has_no_line_break(translator, monkeypatch):
    monkeypatch.setattr(translator.tokenizer, "decode", lambda *_, **__: "one\ntwo\u2028three")

    assert translator.translate(TEXTS[:1]) == ["one two three"]


def test_a_folder_loads_in_evaluation_mode(tiny_folder, translator):
    loaded = Translator.from_pretrained(tiny_folder, device="cpu")

    assert not loaded.model.training
    assert loaded(TEXTS) == translator(TEXTS)


@pytest.mark.parametrize(("dtype", "expected"), [(None, "float32"), ("bfloat16", "bfloat16")])
def test_the_cpu_gets_float32_unless_asked(tiny_model, folder, dtype, expected):
    tiny_model.to(torch.bfloat16).save_pretrained(folder)

    loaded = Translator.from_pretrained(folder, device="cpu", dtype=dtype)

    assert loaded.model.dtype == getattr(torch, expected)


def test_code_in_the_folder_is_not_run(folder):
    (folder / "modeling_lanmt.py").write_text("raise SystemExit('code of the folder ran')\n")

    Translator.from_pretrained(folder)


def drop_config(folder):
    (folder / "config.json").unlink()


def cut_config(folder):
    (folder / "config.json").write_text('{"model_type": "lan')


def change_family(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "marian"}))


def widen(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_ff": 64}))


def contradict(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_model": 17}))


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def cut_weights(folder):
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])


def empty_weights(folder):
    (folder / "model.safetensors").write_bytes(b"")


def lose_a_parameter(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("prior_head.bias")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def drop_tokenizer(folder):
    for name in ("tokenizer.json", "tokenizer_config.json", "sentencepiece.model"):
        (folder / name).unlink()


def cut_tokenizer(folder):
    text = (folder / "tokenizer.json").read_text("utf-8")
    (folder / "tokenizer.json").write_text(text[: len(text) // 2], "utf-8")


def grow_tokenizer(folder):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.add_tokens(["Donaudampfschifffahrt"])
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (drop_config, OSError, "must hold config.json"),
        (cut_config, OSError, "config.json is damaged"),
        (change_family, ValueError, "must be one of hf_nar's"),
        (widen, ValueError, "must fit its config.json"),
        (contradict, ValueError, "must be a multiple of"),
        (drop_weights, OSError, "must hold model.safetensors"),
        (cut_weights, OSError, "damaged or cut off"),
        (empty_weights, OSError, "damaged or cut off"),
        (lose_a_parameter, ValueError, "such as prior_head.bias"),
        (drop_tokenizer, OSError, "must hold tokenizer.json"),
        (cut_tokenizer, OSError, "must hold tokenizer.json"),
        (grow_tokenizer, ValueError, "The tokenizer must fit the model"),
    ],
)
def test_a_damaged_folder_is_named_with_what_is_wrong(folder, damage, error, message):
    damage(folder)

    with pytest.raises(error, match=message) as caught:
        Translator.from_pretrained(folder)

    assert damage is contradict or str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./nowhere", "a/b/nowhere", "owner/nowhere", "nowhere"])
def test_a_model_that_is_nowhere_is_named(name):
    with pytest.raises(OSError, match=f"{name}.*There is no such folder|{name}.*no such folder"):
        Translator.from_pretrained(name)


def test_a_file_is_no_model_folder(tiny_folder):
    with pytest.raises(FileNotFoundError, match="must be a folder"):
        Translator.from_pretrained(tiny_folder / "model.safetensors")


@pytest.mark.parametrize("device", ["gpu", "cuda:77", "meta"])
def test_a_device_that_is_not_there_is_refused(tiny_folder, device):
    with pytest.raises(ValueError, match="`device` must be"):
        Translator.from_pretrained(tiny_folder, device=device)


def test_an_unknown_dtype_is_refused(tiny_folder):
    with pytest.raises(ValueError, match="float32, bfloat16, float16; got 'int8'"):
        Translator.from_pretrained(tiny_folder, dtype="int8")
