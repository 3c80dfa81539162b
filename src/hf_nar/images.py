"""Images as a network takes them: opened, in the right colours, and made to pixel values."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor

try:
    from PIL import Image, ImageOps
except ImportError as error:
    raise ValueError(
        'Images need Pillow, which is not installed. Run: pip install "hf-nar[images]"'
    ) from error

ImageInput = Any  # a Pillow image, a path, an array, or the bytes and path of a data set

# One channel or three for a processor with one mean or three.
_MODES = {1: "L", 3: "RGB"}
_ARRAY_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
# What Pillow raises on broken files, beside OSError, depends on their format.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


class ImageReader:
    """Turns images into pixel values by a model's image processor.

    Args:
        processor: An image processor of transformers, with one or three means of channels.

    Raises:
        ValueError: If it is for another number of channels.
    """

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        means = getattr(processor, "image_mean", None)
        self.channels = len(means) if isinstance(means, Sequence) else 3
        if self.channels not in _MODES:
            raise ValueError(
                f"`image_mean` of the image processor must have 1 value, for grey images, or 3, "
                f"for colours; got {means!r}."
            )

    def read(
        self, images: Sequence[ImageInput], numbers: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Return pixel values, `[images, channels, height, width]`.

        Args:
            images: Pillow images, paths, arrays, or the bytes and path that a data set stores.
            numbers: What messages call them; where it is not given, they count from 0.

        Raises:
            OSError: If a file is not there.
            ValueError: If an image is broken, has other channels than an image has, or the images
                come out of different sizes.
        """
        mode = _MODES[self.channels]
        named = zip(images, numbers or range(len(images)), strict=True)
        opened = [open_image(image, number, mode) for image, number in named]
        processed = self.processor(opened, return_tensors=None)["pixel_values"]
        pixels = [torch.as_tensor(np.asarray(image, dtype=np.float32)) for image in processed]
        if len({image.shape for image in pixels}) > 1:
            sizes = sorted({f"{image.shape[-2]} x {image.shape[-1]}" for image in pixels})
            raise ValueError(
                f"All images must have one size after the image processor, got {', '.join(sizes)}. "
                f"Let it resize: `do_resize: true`, with a height and a width in `size`."
            )
        return torch.stack(pixels)


def open_image(image: ImageInput, number: int, mode: str) -> Image.Image:
    """Return an image upright and in the colours of `mode`.

    Args:
        image: A Pillow image, a path, an array `[height, width]` or `[height, width, channels]`
            of bytes, or a mapping with `bytes` or `path`, as data sets store images.
        number: For messages.
        mode: "L" for grey or "RGB".

    Raises:
        OSError: If a file is not there.
        ValueError: If it is no image, broken, or of other channels than an image has.
    """
    source = _source(image, number)
    try:
        opened = source if isinstance(source, Image.Image) else Image.open(BytesIO(source))
        opened.load()
        upright = ImageOps.exif_transpose(opened)
    except _BROKEN as error:
        raise ValueError(
            f"Image {number} must be one that Pillow can open, but {_name(image)} is not: "
            f"{' '.join(str(error).split()).rstrip('.')}. Replace it."
        ) from error
    _check_depth(upright, number)
    if upright.mode == "P":  # its transparency may lie in the palette
        upright = upright.convert("RGBA")
    return upright.convert(mode)


def _source(image: ImageInput, number: int) -> Image.Image | bytes:
    """Return an image, or the content of an image file."""
    if isinstance(image, Mapping) and image.keys() & {"bytes", "path"}:
        content = image.get("bytes")
        image = image.get("path") if content is None else content
    if isinstance(image, Image.Image | bytes):
        return image
    if isinstance(image, str | Path):
        if not Path(image).is_file():
            raise FileNotFoundError(f"Image {number} must be a file, but there is no {image}.")
        return Path(image).read_bytes()
    if isinstance(image, np.ndarray | list):
        return _from_array(np.asarray(image), number)
    raise ValueError(
        f"Image {number} must be a Pillow image, a path or an array of bytes, got "
        f"{type(image).__name__}. For several images pass a flat list."
    )


def _from_array(array: np.ndarray[Any, Any], number: int) -> Image.Image:
    is_bytes = array.dtype.kind in "ui" and array.size and array.min() >= 0 and array.max() <= 255
    channels = array.shape[2] if array.ndim == 3 else 1 if array.ndim == 2 else 0
    if not is_bytes or channels not in _ARRAY_MODES:
        raise ValueError(
            f"Image {number} must be an array of whole numbers from 0 to 255 with the shape "
            f"[height, width] or [height, width, 1, 3 or 4 channels], got {array.dtype} "
            f"{list(array.shape)}. Convert it."
        )
    pixels = array.astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if array.ndim == 3 and channels == 1 else pixels)


def _check_depth(image: Image.Image, number: int) -> None:
    """Refuse images of more than 8 bits a channel: Pillow would cut off what is brighter."""
    if image.mode.partition(";")[0] in ("I", "F"):
        raise ValueError(
            f"Image {number} must have 8 bits a channel, but Pillow gives it the mode "
            f"{image.mode}. Convert it first, as only you know its brightest value."
        )


def _name(image: ImageInput) -> str:
    if isinstance(image, Mapping):
        image = image.get("path") or "one in the data set"
    return str(image) if isinstance(image, str | Path) else "what was given"


def load_image_processor(name: str, revision: str | None = None) -> Any:
    """Load the image processor of a model folder or Hub id, in the kind that needs only Pillow.

    Raises:
        OSError: If it is missing or damaged.
    """
    try:
        return AutoImageProcessor.from_pretrained(
            name, revision=revision, backend="pil", trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise OSError(
            f"Cannot load the image processor of {name}: {text}. The folder must hold "
            f"preprocessor_config.json."
        ) from error
