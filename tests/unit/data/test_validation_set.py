import pytest

from hf_nar.data import validation_set
from hf_nar.data.corpus import CorpusConfig
from hf_nar.data.validation_set import held_in_memory, load_validation_set


@pytest.fixture
def files(tmp_path):
    for name, lines in (("de", "ein\n\ndrei\n"), ("en", "one\ntwo\nthree\n")):
        (tmp_path / name).write_text(lines, encoding="utf-8")
    return {"source_file": tmp_path / "de", "target_file": tmp_path / "en"}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_stream_has_the_pairs_of_the_corpus(files, streaming, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    corpus = load_validation_set(CorpusConfig(**files, streaming=streaming))

    assert corpus.pairs[:] == {"source": ["ein", "drei"], "target": ["one", "three"]}


def test_a_stream_that_is_too_long_is_refused_before_it_is_read_to_its_end(monkeypatch):
    monkeypatch.setattr(validation_set, "STREAM_LIMIT", 3)
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield {"source": "a", "target": "b"}

    with pytest.raises(ValueError, match="must have at most 3 pairs, but has more"):
        held_in_memory(endless())

    assert len(read) == 4


def test_a_stream_at_the_limit_is_held(monkeypatch):
    monkeypatch.setattr(validation_set, "STREAM_LIMIT", 3)

    assert len(held_in_memory({"source": "a", "target": "b"} for _ in range(3))) == 3
