import contextlib
import warnings
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_nar.images import ImageReader, load_image_processor, open_image


def reader(**options):
    return ImageReader(ViTImageProcessorPil(**{"size": {"height": 4, "width": 6}, **options}))


def grey():
    return ImageReader(ViTImageProcessorPil(do_resize=False, image_mean=[0.0], image_std=[1.0]))


def png(image):
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def gradient(width=5, height=3):
    return np.arange(width * height, dtype=np.uint8).reshape(height, width)


def test_every_form_of_an_image_gives_the_same_pixels(tmp_path):
    array = gradient()
    image = Image.fromarray(array)
    file = tmp_path / "image.png"
    image.save(file)
    forms = [
        image,
        file,
        str(file),
        array,
        array[..., None],
        array.tolist(),
        {"bytes": png(image), "path": None},
        {"bytes": None, "path": str(file)},
    ]

    pixels = grey().read(forms)

    assert pixels.shape == (len(forms), 1, 3, 5)
    assert all((row == pixels[0]).all() for row in pixels)
    assert pixels[0, 0].mul(255).round().int().tolist() == array.tolist()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_colours_become_what_the_processor_wants(mode):
    image = Image.new("RGB", (5, 3), "white").convert(mode)

    assert reader().read([image]).shape == (1, 3, 4, 6)
    assert grey().read([image]).min() == 1.0


def test_a_palette_with_transparency_gives_no_warning():
    image = Image.new("P", (2, 2))
    image.info["transparency"] = b"\x00\x10"

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_image(image, 0, "RGB").mode == "RGB"


def test_a_turned_photograph_is_put_upright():
    image = Image.new("L", (5, 3))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    stream = BytesIO()
    image.save(stream, "JPEG", exif=exif)

    assert open_image({"bytes": stream.getvalue()}, 0, "L").size == (3, 5)


@pytest.mark.parametrize("cut", [0, 10, 40, 60])
def test_a_broken_image_is_named(cut):
    content = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 9), np.uint8)))

    with pytest.raises(ValueError, match="Image 7 must be one that Pillow can open, but one in"):
        grey().read([{"bytes": content[:cut], "path": None}], [7])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_damage_anywhere_in_a_file_is_no_other_error(kind):
    random = np.random.default_rng(0)
    stream = BytesIO()
    Image.fromarray(random.integers(0, 256, (9, 9), np.uint8)).save(stream, kind)
    content = stream.getvalue()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        with contextlib.suppress(ValueError):  # whatever Pillow itself raises
            open_image({"bytes": bytes(damaged)}, 0, "L")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"Image 1 must be a file, but there is no .+x\.png"
    ):
        grey().read([gradient(), tmp_path / "x.png"])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4, 2), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros(3, np.uint8),
        np.zeros((0, 4), np.uint8),
        np.full((3, 4), 256),
        np.full((3, 4), -1),
        np.full((3, 4), 0.5),
    ],
)
def test_an_array_that_is_no_image_is_refused_with_its_shape(array):
    with pytest.raises(ValueError, match=r"Image 0 must be an array .+ got \w+ \["):
        grey().read([array])


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_a_channel_are_refused(mode):
    with pytest.raises(ValueError, match="must have 8 bits a channel"):
        grey().read([Image.new(mode, (2, 2))])


def test_what_is_no_image_is_refused_by_its_type():
    with pytest.raises(ValueError, match=r"got int\. For several images pass a flat list"):
        grey().read([7])


def test_images_that_stay_of_different_sizes_are_refused():
    with pytest.raises(ValueError, match=r"one size .+ got 3 x 5, 4 x 5"):
        grey().read([gradient(), gradient(height=4)])


def test_a_processor_of_two_channels_is_refused():
    with pytest.raises(ValueError, match="1 value, for grey images, or 3"):
        ImageReader(ViTImageProcessorPil(image_mean=[0.5, 0.5]))


def test_a_saved_processor_gives_the_same_pixels(tmp_path):
    original = reader(image_mean=[0.1, 0.2, 0.3])
    original.processor.save_pretrained(tmp_path)

    loaded = ImageReader(load_image_processor(str(tmp_path)))

    image = Image.fromarray(gradient(9, 9))
    assert (loaded.read([image]) == original.read([image])).all()


def test_a_folder_without_a_processor_is_named(tmp_path):
    with pytest.raises(OSError, match=r"Cannot load the image processor .+preprocessor_config"):
        load_image_processor(str(tmp_path))
