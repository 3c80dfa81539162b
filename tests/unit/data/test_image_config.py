import pytest

from hf_nar.data.image_config import ImageCorpusConfig

SCENES = {"builder": "digit_scenes", "num_scenes": 5}


def test_a_recipes_section_becomes_a_config():
    config = ImageCorpusConfig.from_dict({"dataset": "owner/name", "caption_field": "captions"})

    assert config.origin == "owner/name"
    assert config.rows_config().dataset == "owner/name"
    assert config.rows_config().split == "train"
    assert ImageCorpusConfig.from_dict({**SCENES, "seed": 3}).origin == "digit_scenes"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either a `dataset` or a `builder`; got neither"),
        ({**SCENES, "dataset": "a/b"}, "either a `dataset` or a `builder`; got both"),
        ({"builder": "scenes", "num_scenes": 5}, "`builder` must be one of digit_scenes"),
        ({"builder": "digit_scenes"}, "must have `num_scenes`"),
        ({**SCENES, "image_field": "picture"}, "`image_field` must be left out .+ a builder"),
        ({"dataset": "a/b", "seed": 1}, "`seed` must be left out .+ a dataset"),
        ({"dataset": "a/b", "split": 1}, "`split` must be text, got 1"),
        ({**SCENES, "num_scenes": "5"}, "`num_scenes` must be a whole number"),
        ({**SCENES, "num_scenes": True}, "`num_scenes` must be a whole number"),
        ({"dataset": "a/b", "streaming": True}, "known options only, got `streaming`"),
    ],
)
def test_options_that_describe_no_corpus_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ImageCorpusConfig.from_dict(options)
