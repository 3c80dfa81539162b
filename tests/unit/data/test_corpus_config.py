import pytest

from hf_nar.data.corpus_config import CorpusConfig

FIELDS = {"source_field": "translation.de", "target_field": "translation.en"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "exactly one of .* got none of them"),
        (
            {"source_file": "a", "target_file": "b", "dataset": "c"},
            "exactly one of .* got `source_file` with `target_file` and `dataset`",
        ),
        ({"source_file": "a"}, "both `source_file` and `target_file`; `target_file` is missing"),
        ({"target_file": "a"}, "`source_file` is missing"),
        ({"json_file": "a", "source_field": "x"}, "`target_field` is missing"),
        ({"dataset": "a", "target_field": "x"}, "`source_field` is missing"),
        (
            {"source_file": "a", "target_file": "b", "source_field": "x"},
            "`source_field` must be left out",
        ),
        ({"json_file": "a", **FIELDS, "split": "test"}, "`split` must be left out"),
        ({"json_file": "a", **FIELDS, "revision": "main"}, "`revision` must be left out"),
        ({"dataset": "a", **FIELDS, "name": 2014}, "`name` must be text, got 2014"),
        ({"dataset": "a", **FIELDS, "streaming": "no"}, "`streaming` must be true or false"),
        ({"datset": "a"}, "got `datset`. Use some of: source_file, .*dataset"),
    ],
    ids=str,
)
def test_a_contradiction_in_the_options_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        CorpusConfig.from_dict(options)


def test_from_dict_keeps_every_option():
    options = {"dataset": "a/b", "name": "de-en", "split": "validation", "revision": "v1", **FIELDS}

    config = CorpusConfig.from_dict(options)

    assert config == CorpusConfig(**options)
    assert config.kind == "dataset"
