import gzip
import json
import os

import datasets
import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_nar.data.corpus import CorpusConfig, load_corpus, token_lengths, tokenize_corpus
from hf_nar.data.row_streams import PairStream

NESTED = [{"translation": {"de": f"das {i}", "en": f"the {i}"}, "id": i} for i in range(5)]
FIELDS = {"source_field": "translation.de", "target_field": "translation.en"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Folder of the datasets library's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def write(tmp_path):
    """Write files of bytes or text; `.gz` ones are compressed."""

    def write_file(name, content):
        data = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return path

    return write_file


@pytest.fixture
def tokenizer():
    """One token a word, eos (id 1) at the end."""
    words = ["<unk>", "</s>", "<pad>", "a", "b", "c", "das", "the", *"01234"]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", pad_token="<pad>"
    )


def text_config(write, source, target, suffix=""):
    return CorpusConfig(
        source_file=write(f"source{suffix}", source), target_file=write(f"target{suffix}", target)
    )


def json_config(write, content, suffix=""):
    path = write(f"corpus.jsonl{suffix}", content)
    return CorpusConfig(json_file=path, source_field="de", target_field="en")


def rows(corpus):
    return [(row["source"], row["target"]) for row in corpus.pairs]


def arrow_files(folder):
    return sorted(folder.rglob("*.arrow"))


# Text files


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_line_n_meets_line_n(write, suffix):
    corpus = load_corpus(text_config(write, "eins\nzwei\n", "one\ntwo", suffix))

    assert rows(corpus) == [("eins", "one"), ("zwei", "two")]
    assert corpus.pairs.column_names == ["source", "target"]
    assert corpus.empty_dropped == 0


def test_only_a_line_feed_ends_a_line(write):
    odd = "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg\rh"

    corpus = load_corpus(text_config(write, f"{odd}\nzwei\n", "one\ntwo\n"))

    assert rows(corpus) == [(odd, "one"), ("zwei", "two")]


def test_windows_line_ends_and_a_byte_order_mark_are_removed(write):
    corpus = load_corpus(text_config(write, "\ufeffeins\r\nzwei \r\n", "one\n two\n"))

    assert rows(corpus) == [("eins", "one"), ("zwei ", " two")]


def test_pairs_with_an_empty_side_are_dropped_and_counted(write):
    corpus = load_corpus(text_config(write, "a\n\nc\n \t\u00a0\ne\n", "A\nB\n\r\nD\nE\n"))

    assert rows(corpus) == [("a", "A"), ("e", "E")]
    assert corpus.empty_dropped == 3


@pytest.mark.parametrize(
    ("source", "target", "counts"),
    [("a\nb\nc\n", "A\n", (3, 1)), ("a\n", "A\nB\nC\nD", (1, 4)), ("", "A\n", (0, 1))],
)
def test_different_line_counts_are_both_named(write, source, target, counts):
    with pytest.raises(ValueError, match=f"source has {counts[0]} and .*target has {counts[1]}"):
        load_corpus(text_config(write, source, target))


def test_bytes_that_are_not_utf8_are_named_by_file_and_line(write):
    config = text_config(write, "a\nb\n", b"A\nB\xe9!\n")

    with pytest.raises(ValueError, match=r"target, line 2: must be UTF-8, but byte 2 .* 0xe9"):
        load_corpus(config)


def test_a_damaged_archive_is_named(write, tmp_path):
    config = text_config(write, "a\n" * 999, "A\n" * 999, ".gz")
    whole = (tmp_path / "target.gz").read_bytes()

    for data in (whole[:-9], whole[:15], b"plain text\n", whole[:12] + b"\xff" + whole[13:]):
        (tmp_path / "target.gz").write_bytes(data)
        with pytest.raises(ValueError, match=r"target\.gz must be a whole gzip file"):
            load_corpus(config)


def test_a_missing_file_is_named_with_its_option(write, tmp_path):
    config = CorpusConfig(source_file=write("source", "a"), target_file=tmp_path / "none")

    with pytest.raises(
        FileNotFoundError, match=r"`target_file` must be an existing file, got .*none"
    ):
        load_corpus(config)


@pytest.mark.parametrize(("text", "reason"), [("", "it has none"), ("\n \n", "its 2 pairs all")])
def test_a_corpus_without_text_is_refused(write, text, reason):
    with pytest.raises(ValueError, match=f"at least one pair with text on both sides.*{reason}"):
        load_corpus(text_config(write, text, text))


# The cache


def test_a_changed_file_of_equal_size_and_time_is_read_again(write, tmp_path):
    config = text_config(write, "old\n", "alt\n")
    times = (tmp_path / "source").stat()
    load_corpus(config)

    write("source", "new\n")
    os.utime(tmp_path / "source", ns=(times.st_atime_ns, times.st_mtime_ns))

    assert rows(load_corpus(config)) == [("new", "alt")]


def test_text_that_moves_across_the_border_of_a_pair_is_read_again(write):
    load_corpus(text_config(write, "ab\n", "c\n"))

    assert rows(load_corpus(text_config(write, "a\n", "bc\n"))) == [("a", "bc")]


def test_using_a_corpus_again_adds_nothing_to_the_cache(write, cache, tokenizer):
    config = text_config(write, "a\nb b\n", "A\nB\n")
    tokenize_corpus(load_corpus(config).pairs, tokenizer, 9, 9)
    before = arrow_files(cache)

    tokenizer(["a", "a b"], truncation=True, max_length=2, padding=True)
    tokenize_corpus(load_corpus(config).pairs, tokenizer, 9, 9)

    assert len(before) == 2
    assert arrow_files(cache) == before


def test_a_copy_of_the_tokenizer_elsewhere_adds_nothing_to_the_cache(
    write, cache, tokenizer, tmp_path
):
    pairs = load_corpus(text_config(write, "a\nb b\n", "A\nB\n")).pairs
    for folder in (tmp_path / "one", tmp_path / "two"):
        tokenizer.save_pretrained(folder)
        tokenize_corpus(pairs, PreTrainedTokenizerFast.from_pretrained(folder), 9, 9)

    assert len(arrow_files(cache)) == 2


def test_another_limit_or_vocabulary_is_not_served_from_the_cache(write, tokenizer):
    pairs = load_corpus(text_config(write, "a\nx x\n", "b\nb\n")).pairs
    tokenize_corpus(pairs, tokenizer, 9, 9)

    shorter = tokenize_corpus(pairs, tokenizer, 2, 9)
    tokenizer.add_tokens(["x"])
    richer = tokenize_corpus(pairs, tokenizer, 9, 9)

    assert shorter.kept == 1
    assert richer.examples[1]["input_ids"] == [len(tokenizer) - 1] * 2 + [1]


# JSON


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_json_fields_become_pairs(write, suffix):
    lines = ['{"de": "ä\\u2028", "en": "A", "id": 1}', "", '{"de": "b", "en": null}']

    corpus = load_corpus(json_config(write, "\n".join(lines), suffix))

    assert rows(corpus) == [("ä\u2028", "A")]
    assert corpus.empty_dropped == 1


def test_a_nested_json_field_is_found_by_its_path(write):
    path = write("corpus.jsonl", "\n".join(map(json.dumps, NESTED)))

    corpus = load_corpus(CorpusConfig(json_file=path, **FIELDS))

    assert rows(corpus)[1] == ("das 1", "the 1")


def test_a_field_whose_name_has_a_dot_is_found_too(write, tmp_path):
    row = {"text.de": "das", "text.en": "the"}
    path = write("corpus.jsonl", json.dumps(row))
    datasets.Dataset.from_list([row]).save_to_disk(tmp_path / "dotted")
    fields = {"source_field": "text.de", "target_field": "text.en"}

    assert rows(load_corpus(CorpusConfig(json_file=path, **fields))) == [("das", "the")]
    assert rows(load_corpus(CorpusConfig(dataset=tmp_path / "dotted", **fields))) == [
        ("das", "the")
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"de": "b", "en": }', "must be one JSON object, but Expecting value at column 19"),
        ('["b", "B"]', "must be a JSON object, got list"),
        ('{"de": "b", "fr": {"x": 1}}', "field `en` must be there, but the fields are: de, fr.x"),
        ('{"de": 3, "en": "B"}', "field `de` must be text, got int"),
        ('{"de": "\\ud800", "en": "B"}', "field `de` must be valid Unicode, but surrogates"),
    ],
)
def test_a_wrong_json_line_is_named_by_file_and_line(write, line, message):
    with pytest.raises(ValueError, match=f"corpus.jsonl, line 2: {message}"):
        load_corpus(json_config(write, '{"de": "a", "en": "A"}\n' + line))


# Datasets


@pytest.fixture(params=["files", "saved", "saved with splits"])
def dataset_folder(request, tmp_path):
    """Local dataset of the nested rows and one without a target, in three layouts."""
    folder = tmp_path / "dataset"
    content = [*NESTED, {"translation": {"de": "leer", "en": None}, "id": 9}]
    if request.param == "files":
        folder.mkdir()
        (folder / "train.jsonl").write_text("\n".join(map(json.dumps, content)))
    else:
        saved = datasets.Dataset.from_list(content)
        splits = datasets.DatasetDict({"train": saved})
        (saved if request.param == "saved" else splits).save_to_disk(folder)
    return folder


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_gives_its_nested_fields(dataset_folder, streaming):
    corpus = load_corpus(CorpusConfig(dataset=dataset_folder, streaming=streaming, **FIELDS))

    assert rows(corpus) == [(f"das {i}", f"the {i}") for i in range(5)]
    assert corpus.empty_dropped == (None if streaming else 1)
    assert isinstance(corpus.pairs, PairStream) == streaming
    assert set(next(iter(corpus.pairs))) == {"source", "target"}


def test_an_unknown_split_names_those_there_are(dataset_folder):
    with pytest.raises(ValueError, match=r"split.*test.*train"):
        load_corpus(CorpusConfig(dataset=dataset_folder, split="test", **FIELDS))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("de", "`source_field` must be a field of .*dataset, got `de`; it has: .*translation"),
        ("translation.fr", "dataset, row 0: field `translation.fr` must be there.*translation.de"),
        ("id", "dataset, row 0: field `id` must be text, got int"),
    ],
)
def test_a_wrong_field_of_a_dataset_is_named(dataset_folder, field, message, streaming):
    options = {**FIELDS, "source_field": field, "streaming": streaming}
    with pytest.raises(ValueError, match=message):
        load_corpus(CorpusConfig(dataset=dataset_folder, **options))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_with_columns_named_like_ours_keeps_their_roles(tmp_path, streaming):
    swapped = [{"source": "the", "target": "das"}] * 3
    datasets.Dataset.from_list(swapped).save_to_disk(tmp_path / "swapped")

    corpus = load_corpus(
        CorpusConfig(
            dataset=tmp_path / "swapped",
            source_field="target",
            target_field="source",
            streaming=streaming,
        )
    )

    assert rows(corpus) == [("das", "the")] * 3


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset_without_text_is_refused(tmp_path, streaming):
    content = [{"de": "a", "en": " "}, {"de": "", "en": "B"}]
    datasets.Dataset.from_list(content).save_to_disk(tmp_path / "blank")
    options = {"source_field": "de", "target_field": "en", "streaming": streaming}

    with pytest.raises(ValueError, match="at least one pair with text on both sides"):
        load_corpus(CorpusConfig(dataset=tmp_path / "blank", **options))


def test_a_broken_file_of_a_dataset_is_a_clear_error(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/train.jsonl").write_text('{"de": "a"')

    with pytest.raises(ValueError, match=r"`dataset` must be readable, but .*broken is not"):
        load_corpus(CorpusConfig(dataset=tmp_path / "broken", **FIELDS))


# Tokens


def stream(pairs):
    return pairs.to_iterable_dataset()


@pytest.fixture
def pairs():
    sides = [("a", "b"), ("a b c", "a"), ("a b", "c b"), ("c", "a b c")]
    return datasets.Dataset.from_list([{"source": s, "target": t} for s, t in sides])


def test_both_sides_become_ids_that_end_in_eos(pairs, tokenizer):
    tokenized = tokenize_corpus(pairs, tokenizer, 10, 10)

    assert tokenized.examples[1] == {"input_ids": [3, 4, 5, 1], "labels": [3, 1]}
    assert tokenized.examples.column_names == ["input_ids", "labels"]
    assert (tokenized.kept, tokenized.overlong_dropped) == (4, 0)


@pytest.mark.parametrize(
    ("max_source", "max_target", "kept"), [(4, 4, 4), (3, 4, 3), (4, 3, 3), (3, 3, 2), (2, 2, 1)]
)
def test_limits_count_eos_and_drop_longer_pairs(pairs, tokenizer, max_source, max_target, kept):
    tokenized = tokenize_corpus(pairs, tokenizer, max_source, max_target)

    assert (tokenized.kept, tokenized.overlong_dropped) == (kept, 4 - kept)
    assert len(tokenized.examples) == kept
    assert max(map(len, tokenized.examples["input_ids"])) <= max_source
    assert max(map(len, tokenized.examples["labels"])) <= max_target


def test_a_stream_gives_the_same_examples(pairs, tokenizer):
    tokenized = tokenize_corpus(stream(pairs), tokenizer, 3, 3)

    assert list(tokenized.examples) == list(tokenize_corpus(pairs, tokenizer, 3, 3).examples)
    assert (tokenized.kept, tokenized.overlong_dropped) == (None, None)


@pytest.mark.parametrize("form", [list, stream])
def test_limits_that_leave_nothing_are_refused(pairs, tokenizer, form):
    rows_to_use = stream(pairs) if form is stream else pairs

    with pytest.raises(ValueError, match=r"At least one pair must fit .* 1 and 9 tokens"):
        tokenize_corpus(rows_to_use, tokenizer, 1, 9)


def test_a_limit_below_one_is_named(pairs, tokenizer):
    with pytest.raises(ValueError, match="`max_target_tokens` must be at least 1, got 0"):
        tokenize_corpus(pairs, tokenizer, 5, 0)


def test_a_tokenizer_without_eos_is_refused(pairs, tokenizer):
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()

    with pytest.raises(ValueError, match="`tokenizer` must append its eos token"):
        tokenize_corpus(pairs, tokenizer, 5, 5)


def test_token_lengths_are_those_of_the_rows(pairs, tokenizer):
    examples = tokenize_corpus(pairs, tokenizer, 9, 9).examples

    chosen = examples.select([3, 0, 1])

    assert token_lengths(chosen, "input_ids").tolist() == [2, 2, 4]
    assert token_lengths(chosen, "labels").tolist() == [4, 2, 2]
    assert token_lengths(chosen, "labels").dtype == np.int64
