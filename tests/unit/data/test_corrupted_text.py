import gzip
from collections import Counter

import datasets
import pytest

from hf_nar.data.corpus import load_corpus
from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corrupted_text import corrupted_copies

TEXT = [
    "a man rides a bicycle along the busy street .",
    "two  dogs run\tthrough the snow .",
    "a woman in red sings .",
    "birds .",
] * 200


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Folder of the datasets library's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress("\n".join(TEXT).encode()))
    return path


def copies(text=TEXT, rate=0.3, weights=None, seed=1):
    return list(corrupted_copies(lambda: iter(text), rate, weights, seed))


def rows(config):
    return [(row["source"], row["target"]) for row in load_corpus(config).pairs]


def test_a_corpus_pairs_each_sentence_with_a_corrupted_copy_of_it(text_file):
    pairs = rows(CorpusConfig(text_file=text_file, corruption_rate=0.3, seed=1))

    assert [target for _, target in pairs] == TEXT
    assert [source for source, _ in pairs] == copies()


def test_each_copy_has_the_words_of_the_text_as_many_as_the_sentence_and_some_changed():
    found = copies(rate=0.01)  # one word in each sentence

    known = set(" ".join(TEXT).split())
    for copy, text in zip(found, TEXT, strict=True):
        assert set(copy.split()) <= known
        assert len(copy.split()) == len(text.split())
    assert sum(copy != " ".join(text.split()) for copy, text in zip(found, TEXT, strict=True)) > 500


def test_the_number_of_replaced_words_is_the_share_asked_for():
    text = [" ".join(f"{i}-{j}" for j in range(10)) for i in range(300)]

    found = copies(text, rate=0.3, weights={"replace": 1.0})

    changes = [
        sum(map(str.__ne__, copy.split(), line.split()))
        for copy, line in zip(found, text, strict=True)
    ]
    assert max(changes) == 3
    assert sum(changes) > 3 * 300 - 5  # a random word may be the word itself


def test_random_words_come_as_often_as_in_the_text():
    text = ["often often often often seldom"] * 2000

    counts = Counter(" ".join(copies(text, rate=1.0, weights={"replace": 1.0})).split())

    assert abs(counts["seldom"] / counts.total() - 0.2) < 0.02


def test_the_weights_choose_the_operations():
    text = ["1 2 3 4 5 6"] * 50

    assert copies(text, 1.0, {"swap": 1.0}) == ["2 1 4 3 6 5"] * 50
    assert copies(text, 1.0, {"drop": 1.0}) == ["1 1 1 1 1 1"] * 50


def test_the_last_word_is_corrupted_like_the_others():
    changed = {line.split()[-1] for line in copies(["1 2"] * 50, 0.5, {"swap": 1.0})}

    assert changed == {"1", "2"}


def test_the_same_seed_gives_the_same_copies_and_another_gives_others(text_file):
    options = {"text_file": text_file, "corruption_rate": 0.3}

    first = rows(CorpusConfig(**options, seed=1))

    assert rows(CorpusConfig(**options, seed=1)) == first
    assert rows(CorpusConfig(**options, seed=2)) != first


def test_the_corpus_is_cached_until_the_text_or_an_option_changes(text_file, cache):
    def files(**changes):
        options = {"text_file": text_file, "corruption_rate": 0.3, "seed": 1, **changes}
        load_corpus(CorpusConfig(**options))
        return len(list(cache.rglob("*.arrow")))

    assert files() == files() == 1
    assert files(corruption_rate=0.5) == 2
    assert files(corruption_weights={"swap": 1}) == 3
    text_file.write_bytes(gzip.compress(b"one more sentence"))
    assert files() == 4


def test_empty_lines_are_dropped_and_counted(tmp_path):
    path = tmp_path / "text"
    path.write_text("\n" * 300 + "a b c\n \nd e\n")

    corpus = load_corpus(CorpusConfig(text_file=path, corruption_rate=0.3))

    assert [row["target"] for row in corpus.pairs] == ["a b c", "d e"]
    assert corpus.empty_dropped == 301


def test_a_text_without_words_is_refused(tmp_path):
    path = tmp_path / "text"
    path.write_text("\n \n")

    with pytest.raises(ValueError, match="text does not: its 2 pairs all lack a side"):
        load_corpus(CorpusConfig(text_file=path, corruption_rate=0.3))


def test_a_missing_file_is_named_with_its_option(tmp_path):
    config = CorpusConfig(text_file=tmp_path / "none", corruption_rate=0.3)

    with pytest.raises(
        FileNotFoundError, match=r"`text_file` must be an existing file, got .*none"
    ):
        load_corpus(config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "must have `corruption_rate`; `corruption_rate` is missing"),
        ({"corruption_rate": 0}, "`corruption_rate` must be above 0 and at most 1, got 0"),
        ({"corruption_rate": 1.5}, "`corruption_rate` must be above 0 and at most 1, got 1.5"),
        ({"corruption_rate": float("nan")}, "`corruption_rate` must be above 0"),
        ({"corruption_rate": "0.3"}, "`corruption_rate` must be a number, got '0.3'"),
        ({"corruption_rate": True}, "`corruption_rate` must be a number, got True"),
        ({"corruption_weights": ["swap"]}, "`corruption_weights` must be a mapping"),
        ({"corruption_weights": {"shuffle": 1}}, "`corruption_weights` must name operations"),
        ({"corruption_weights": {"swap": "x"}}, "`corruption_weights` must be numbers"),
        ({"corruption_weights": {}}, "`corruption_weights` .* not all 0"),
        ({"seed": -1}, "`seed` must be at least 0, got -1"),
        ({"seed": 1.5}, "`seed` must be a whole number, got 1.5"),
        ({"source_field": "en"}, "`source_field` must be left out for a corpus from `text_file`"),
        ({"streaming": True}, "`streaming` must be left out for a corpus from `text_file`"),
        ({"json_file": "a"}, "exactly one of .* got `json_file` and `text_file`"),
    ],
    ids=str,
)
def test_a_contradiction_in_the_options_is_named(options, message):
    rate = {"corruption_rate": 0.1} if options else {}

    with pytest.raises(ValueError, match=message):
        CorpusConfig.from_dict({"text_file": "text", **rate, **options})


@pytest.mark.parametrize(
    "option", [{"corruption_rate": 0.1}, {"corruption_weights": {"swap": 1}}, {"seed": 1}], ids=str
)
def test_corruption_is_for_a_text_file_only(option):
    with pytest.raises(ValueError, match=f"`{next(iter(option))}` must be left out"):
        CorpusConfig(source_file="a", target_file="b", **option)
