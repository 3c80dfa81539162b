import shutil

import numpy as np
import pytest
from PIL import Image
from tiny_captioners import new_captioner

from hf_nar import Captioner, Translator
from hf_nar.data.digit_scenes import digit_scenes
from hf_nar.training.export import export_folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the folder of a captioner with random weights; do not change it."""
    folder = tmp_path_factory.mktemp("captioner")
    captioner = new_captioner(folder / "tokenizer")
    export_folder(
        captioner.model,
        captioner.tokenizer,
        folder / "export",
        image_processor=captioner.reader.processor,
    )
    return folder / "export"


@pytest.fixture(scope="module")
def captioner(exported):
    return Captioner.from_pretrained(exported, device="cpu")


@pytest.fixture(scope="module")
def images():
    return digit_scenes(7, seed=0)["image"][:]


def test_an_image_gives_a_list_with_one_dict(captioner, images):
    answer = captioner(images[0])

    assert answer == [{"generated_text": captioner.caption(images[:1])[0]}]


def test_a_path_and_an_array_give_what_the_image_gives(captioner, images, tmp_path):
    images[1].save(tmp_path / "scene.png")

    expected = captioner(images[1])

    assert captioner(tmp_path / "scene.png") == expected
    assert captioner(str(tmp_path / "scene.png")) == expected
    assert captioner(np.asarray(images[1])) == expected


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_batches_change_neither_order_nor_captions(captioner, images, batch_size):
    one_by_one = [captioner.caption([image])[0] for image in images]

    assert captioner.caption(images, batch_size=batch_size) == one_by_one
    assert len(set(one_by_one)) > 2  # else the order would not show


def test_an_iterator_is_read_a_batch_at_a_time(captioner, images):
    read = []
    stream = (read.append(image) or image for image in images)

    answers = captioner(stream, batch_size=2)
    first = next(answers)

    assert read == images[:2]
    assert [first, *answers] == captioner(images)


def test_no_images_give_no_captions(captioner):
    assert captioner([]) == []


def test_a_batch_without_room_is_refused(captioner, images):
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        captioner(images, batch_size=0)


def test_a_broken_image_is_named_by_its_place_in_the_list(captioner, images, tmp_path):
    (tmp_path / "x.png").write_bytes(b"nothing")

    with pytest.raises(ValueError, match=r"Image 2 must be .+ but .+x\.png is not"):
        captioner([*images[:2], tmp_path / "x.png"], batch_size=1)


def test_an_image_of_another_size_than_the_encoder_takes_is_refused(captioner):
    with pytest.raises(ValueError, match="size"):
        captioner(Image.new("L", (20, 20)))


def test_a_trace_has_the_first_draft_and_one_for_each_iteration(captioner, images):
    traces = captioner.trace(images, num_refinement_iterations=2, collapse_repeats=False)
    captions = captioner.caption(images, num_refinement_iterations=2, collapse_repeats=False)

    for trace, caption in zip(traces, captions, strict=True):
        assert trace.caption == caption
        assert len(trace.drafts) == trace.iterations + 1
        assert "".join(trace.drafts[-1]).replace("▁", " ").strip() == caption
        assert len(trace.scores) == len(trace.drafts[-1]) + 1  # and the end token


def test_a_knob_of_a_call_comes_before_the_captioners_own(exported, images):
    captioner = Captioner.from_pretrained(exported, device="cpu", num_refinement_iterations=0)

    assert captioner.trace(images[:1])[0].iterations == 0
    assert captioner.trace(images[:1], num_refinement_iterations=1)[0].iterations == 1
    with pytest.raises(ValueError, match="did you mean `num_refinement_iterations`"):
        captioner(images[0], num_refinement_iteration=2)


def test_half_precision_is_used_if_asked_for(exported, images):
    captioner = Captioner.from_pretrained(exported, device="cpu", dtype="bfloat16")

    assert str(captioner.model.dtype) == "torch.bfloat16"
    assert len(captioner(images)) == len(images)


def test_a_captioner_and_a_translator_refuse_each_others_models(exported, tiny_folder):
    with pytest.raises(ValueError, match=r"takes images\. Use `hf_nar\.Captioner`"):
        Translator.from_pretrained(exported, device="cpu")
    with pytest.raises(ValueError, match=r"no `vision_config`\. For text use `hf_nar\.Translator`"):
        Captioner.from_pretrained(tiny_folder, device="cpu")


def test_a_folder_without_an_image_processor_is_refused(exported, tmp_path):
    folder = shutil.copytree(exported, tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()

    with pytest.raises(OSError, match="Cannot load the image processor"):
        Captioner.from_pretrained(folder, device="cpu")
