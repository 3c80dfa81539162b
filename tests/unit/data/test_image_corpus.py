import copy
import json

import numpy as np
import pytest
from datasets import Array2D, Dataset, Features, Image, Value
from PIL import Image as Pictures
from tiny_captioners import scene_tokenizer

from hf_nar.data.image_corpus import CaptionExamples, ImageCorpusConfig, load_image_corpus
from hf_nar.images import open_image

ONE_EACH = [["a one at the top"], ["a two at the left"], ["a six at the right"]]


def picture(value):
    return Pictures.fromarray(np.full((4, 4), value, np.uint8))


def brightness(stored):
    return open_image(stored, 0, "L").getpixel((0, 0))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return scene_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def save(tmp_path):
    """Return a function that saves rows as a dataset and gives its config."""

    def save_rows(captions, image="image", caption="caption", **options):
        rows = {image: [picture(10 * i) for i in range(len(captions))], caption: captions}
        Dataset.from_dict(rows).cast_column(image, Image()).save_to_disk(tmp_path / "rows")
        return ImageCorpusConfig(dataset=tmp_path / "rows", **options)

    return save_rows


@pytest.fixture
def image_folder(tmp_path):
    """Return a folder of image files with a metadata.jsonl, two captions to each."""
    folder = tmp_path / "pictures" / "train"
    folder.mkdir(parents=True)
    lines = []
    for i in range(3):
        picture(10 * i).save(folder / f"{i}.png")
        lines.append({"file_name": f"{i}.png", "captions": [f"first of {i}", f"second of {i}"]})
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder.parent


def test_scenes_are_a_corpus_without_a_file():
    config = ImageCorpusConfig(builder="digit_scenes", num_scenes=5, seed=2, split="test")

    corpus = load_image_corpus(config)

    assert len(corpus) == 5
    assert all(len(texts) == 1 for texts in corpus.captions)
    assert open_image(corpus.images([3])[0], 3, "L").size == (36, 36)


def test_a_saved_dataset_keeps_images_and_captions_together(save):
    corpus = load_image_corpus(save(ONE_EACH))

    assert corpus.captions == ONE_EACH
    assert [brightness(stored) for stored in corpus.images([2, 0])] == [20, 0]


def test_a_folder_of_image_files_is_read_with_all_captions(image_folder, monkeypatch, tmp_path):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    config = ImageCorpusConfig(dataset=image_folder, caption_field="captions")

    corpus = load_image_corpus(config)

    assert sorted(corpus.all_captions())[:2] == ["first of 0", "first of 1"]
    shown = [(brightness(corpus.images([i])[0]), corpus.captions[i][1]) for i in range(3)]
    assert sorted(shown) == [(0, "second of 0"), (10, "second of 1"), (20, "second of 2")]


def test_columns_may_have_other_names(save):
    config = save(
        ["one", "two"],
        image="picture",
        caption="text",
        image_field="picture",
        caption_field="text",
    )

    corpus = load_image_corpus(config)

    assert corpus.captions == [["one"], ["two"]]
    assert brightness(corpus.images([1])[0]) == 10


def test_a_column_of_arrays_serves_too(tmp_path):
    arrays = [np.full((4, 4), 10 * i, np.uint8) for i in range(2)]
    features = Features({"image": Array2D((4, 4), "uint8"), "caption": Value("string")})
    rows = Dataset.from_dict({"image": arrays, "caption": ["one", "two"]}, features=features)
    rows.save_to_disk(tmp_path / "rows")

    corpus = load_image_corpus(ImageCorpusConfig(dataset=tmp_path / "rows"))

    assert [brightness(stored) for stored in corpus.images([0, 1])] == [0, 10]


def test_images_without_a_caption_are_dropped_and_counted(save):
    corpus = load_image_corpus(save([["", " "], ["a two", ""], []]))

    assert corpus.captions == [["a two"]]
    assert corpus.without_captions == 2
    assert brightness(corpus.images([0])[0]) == 10


def test_a_broken_image_fails_only_when_it_is_opened(tmp_path):
    rows = {"image": [{"bytes": b"no image", "path": None}], "caption": ["a one"]}
    features = Features({"image": Image(), "caption": Value("string")})
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "rows")
    corpus = load_image_corpus(ImageCorpusConfig(dataset=tmp_path / "rows"))

    with pytest.raises(ValueError, match="Image 0 must be one that Pillow can open"):
        brightness(corpus.images([0])[0])


@pytest.mark.parametrize(
    ("captions", "options", "message"),
    [
        (["one"], {"image_field": "img"}, "`image_field` must be a column .+`img`; it has: image"),
        (["one"], {"caption_field": "text"}, "`caption_field` must be a column"),
        ([1], {}, "row 0: a caption must be text or a list of texts, got 1"),
        ([["one"], [""]][1:], {}, "at least one image with a caption"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_named(save, captions, options, message):
    with pytest.raises(ValueError, match=message):
        load_image_corpus(save(captions, **options))


def test_each_caption_is_an_example_with_its_image(save, tokenizer):
    captions = [["a one at the top", "a two at the top"], ["a six in the middle"]]

    examples = CaptionExamples(load_image_corpus(save(captions)), tokenizer, 32)

    assert len(examples) == 3
    rows = [examples[i] for i in range(3)]
    assert [brightness(row["image"]) for row in rows] == [0, 0, 10]
    assert [row["number"] for row in rows] == [0, 0, 1]
    texts = [tokenizer.decode(row["labels"], skip_special_tokens=True) for row in rows]
    assert texts == [*captions[0], *captions[1]]
    assert all(row["labels"][-1] == tokenizer.eos_token_id for row in rows)
    assert examples.target_lengths().tolist() == [len(row["labels"]) for row in rows]


def test_several_examples_come_at_once_as_torch_asks_for_them(save, tokenizer):
    examples = CaptionExamples(load_image_corpus(save(ONE_EACH)), tokenizer, 32)

    assert examples.__getitems__([2, 0]) == [examples[2], examples[0]]


def test_captions_that_are_too_long_are_dropped_and_counted(save, tokenizer):
    captions = [["a one at the top", "a one at the top and a two at the bottom right"], ["a six"]]
    limit = len(tokenizer(captions[0][0]).input_ids)

    examples = CaptionExamples(load_image_corpus(save(captions)), tokenizer, limit)

    assert examples.overlong_dropped == 1
    assert [row["number"] for row in (examples[0], examples[1])] == [0, 1]


@pytest.mark.parametrize(
    ("limit", "message"), [(0, "must be at least 1, got 0"), (1, "none has at most 1 tokens")]
)
def test_a_limit_that_leaves_nothing_is_refused(save, tokenizer, limit, message):
    with pytest.raises(ValueError, match=message):
        CaptionExamples(load_image_corpus(save(ONE_EACH)), tokenizer, limit)


def test_a_tokenizer_without_an_end_token_is_refused(save, tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.backend_tokenizer.post_processor = None

    with pytest.raises(ValueError, match="must append its end token"):
        CaptionExamples(load_image_corpus(save(ONE_EACH)), tokenizer, 32)
