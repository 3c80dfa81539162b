import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_networks import refiner_model
from tiny_teachers import new_teacher

from hf_nar.inference import Translator, line_generators
from hf_nar.teacher import Teacher

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
def ascending(tiny_tokenizer):
    """Return a translator with score and energy network, which starts at samples of latents."""
    shape = {"max_position_embeddings": 40, "max_target_length": 40}
    model = refiner_model(vocab_size=len(tiny_tokenizer), **shape)
    return Translator(model, tiny_tokenizer, refinement="score", latent_temperature=9.0)


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


def test_the_tokens_of_a_trace_read_as_the_translation_and_have_the_scores(translator):
    for trace in translator.trace(TEXTS[:3]):
        assert "".join(trace.tokens).replace("▁", " ").strip() == trace.translation
        assert len(trace.scores) == len(trace.tokens) + 1  # the end token


@pytest.mark.parametrize("refinement", ["score", "energy"])
def test_a_translation_is_decoded_once_and_a_trace_after_each_iteration(ascending, refinement):
    decode, passes = ascending.model.decode, []
    ascending.model.decode = lambda *args: passes.append(1) or decode(*args)
    knobs = {"refinement": refinement, "num_refinement_iterations": 3}

    texts = ascending.translate(TEXTS[:3], **knobs)

    assert len(passes) == 1
    traces = ascending.trace(TEXTS[:3], **knobs)
    assert len(passes) == 5
    assert [trace.translation for trace in traces] == texts
    assert all(len(trace.drafts) == 4 for trace in traces)
    assert any(trace.drafts[0] != trace.drafts[3] for trace in traces)


def test_a_trace_without_drafts_is_otherwise_the_same(ascending):
    full, short = (
        ascending.trace(TEXTS[:3], output_history=with_drafts)[0] for with_drafts in (True, False)
    )

    assert short.drafts == []
    assert (short.tokens, short.scores, short.iterations) == (
        *(full.tokens, full.scores, full.iterations),
    )


def test_a_generator_for_each_text_makes_translations_independent_of_others(ascending):
    def noise(*numbers):
        return [line_generators(7, 1, first=number)[0] for number in numbers]

    together = ascending.translate(TEXTS, 2, noise(0, 1, 2, 3, 4), num_latents=5)

    for number in (0, 1, 2, 4):
        alone = ascending.translate([TEXTS[number]], 1, noise(number), num_latents=5)
        assert alone == [together[number]]
    assert together != ascending.translate(TEXTS, 2, noise(5, 6, 7, 8, 9), num_latents=5)
    with pytest.raises(ValueError, match="one for each of the 5 texts; got 2"):
        ascending.translate(TEXTS, 2, noise(1, 2), num_latents=5)


def test_one_generator_is_drawn_from_batch_after_batch(ascending):
    first, second = (
        ascending.translate(TEXTS, 2, torch.Generator().manual_seed(3), num_latents=5)
        for _ in range(2)
    )

    assert first == second


def test_lines_have_the_noise_of_their_number():
    first, second = line_generators(7, 2, first=3), line_generators(7, 4, first=1)

    assert [g.initial_seed() for g in first] == [10, 11]
    assert [g.initial_seed() for g in second] == [8, 9, 10, 11]


def test_a_refinement_without_its_network_is_refused_at_once(tiny_model, tiny_tokenizer):
    with pytest.raises(ValueError, match="needs a trained score network, but the model has none"):
        Translator(tiny_model, tiny_tokenizer, refinement="score")


def test_a_teacher_ranks_only_where_it_is_asked_to(ascending, tiny_tokenizer):
    teacher = Teacher(new_teacher("marian", tiny_tokenizer), tiny_tokenizer)
    with_teacher = Translator(ascending.model, tiny_tokenizer, teacher, length_beam=5)

    own = with_teacher.translate(TEXTS[:3])

    assert own == ascending.translate(TEXTS[:3], refinement="delta_posterior", length_beam=5)
    assert own != with_teacher.translate(TEXTS[:3], rank_by="teacher")


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
