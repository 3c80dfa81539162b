"""Images in, captions out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_nar.images import ImageInput, ImageReader, load_image_processor
from hf_nar.parallel import ParallelGenerator, check_batch_size, load_parts, takes_images

Result = TypeVar("Result")


@dataclass(frozen=True)
class CaptionTrace:
    """How one caption came about.

    Args:
        caption: The caption.
        drafts: Vocabulary tokens of the first draft and of the draft after each iteration, as
            they were decoded: repeated tokens, which the caption drops, are still there.
        scores: Natural-log probability of each token of the caption, the end token last.
        iterations: Refinement iterations that were run for this image.
    """

    caption: str
    drafts: list[list[str]]
    scores: list[float]
    iterations: int


class Captioner(ParallelGenerator):
    """Describes images with a non-autoregressive model.

    It replaces `pipeline("image-to-text")`, which transformers 5 no longer has, and is called in
    the same way:

    >>> captioner = Captioner.from_pretrained("runs/digit-scenes/export")
    >>> captioner("scene.png")
    [{'generated_text': 'a seven at the top left and an eight in the middle'}]

    An image is a Pillow image, the path of a file, or an array of bytes with the shape
    `[height, width]` or `[height, width, channels]`.

    Args:
        model: A model of this package with a vision encoder.
        tokenizer: Its tokenizer.
        image_processor: Its image processor.
        **generate_kwargs: Knobs for `model.generate` in every call, such as
            `num_refinement_iterations`. What a call itself passes comes first.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        image_processor: Any,
        **generate_kwargs: Any,
    ) -> None:
        super().__init__(model, tokenizer, **generate_kwargs)
        self.reader = ImageReader(image_processor)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        **generate_kwargs: Any,
    ) -> Captioner:
        """Load a model with the code of this package; code in the model folder is not run.

        Args:
            folder_or_id: A folder, or the id of a model on the Hub.
            device: Where to run the model; None takes the GPU if there is one.
            dtype: `"float32"`, `"bfloat16"`, `"float16"` or a torch dtype. None takes float32 on
                the CPU, where others are slow, and the saved one elsewhere.
            revision: Commit, branch or tag on the Hub.
            **generate_kwargs: Knobs for `model.generate` in every call.

        Returns:
            A captioner, its model in evaluation mode.

        Raises:
            OSError: If there is no such model, or a file of it is missing or damaged.
            ValueError: If it is not a model of this package that takes images, its files contradict
                each other, or `device` or `dtype` cannot be used.
        """
        name = str(folder_or_id)
        model, tokenizer = load_parts(name, device, dtype, revision)
        if not takes_images(model):
            raise ValueError(
                f"A captioner must take images, but {name} has no `vision_config`. For text use "
                f"`hf_nar.Translator`."
            )
        return cls(model, tokenizer, load_image_processor(name, revision), **generate_kwargs)

    def __call__(
        self, images: ImageInput | Iterable[ImageInput], batch_size: int = 8, **knobs: Any
    ) -> list[dict[str, str]] | Iterator[dict[str, str]]:
        """Describe an image or several, in the form of transformers' image-to-text pipeline.

        Args:
            images: An image, a list of images, or an iterator, which is read a batch at a time.
            batch_size: Images described together.
            **knobs: Knobs for `model.generate`.

        Returns:
            `{"generated_text": …}` for each image: a list, or for an iterator an iterator.

        Raises:
            OSError: As `caption`.
            ValueError: As `caption`.
        """
        check_batch_size(batch_size)
        if isinstance(images, Iterator):
            return self._stream(images, batch_size, knobs)
        several = list(images) if isinstance(images, list | tuple) else [images]
        return _as_dicts(self.caption(several, batch_size, **knobs))

    def caption(self, images: Sequence[ImageInput], batch_size: int = 8, **knobs: Any) -> list[str]:
        """Describe images.

        Args:
            images: The images; they are opened a batch at a time.
            batch_size: Images described together.
            **knobs: Knobs for `model.generate`.

        Returns:
            One caption for each image, none with a line break in it.

        Raises:
            OSError: If a file is not there.
            ValueError: If an image is broken or of no known kind, or a knob is wrong.
        """
        return self._run(images, batch_size, knobs, self._text)

    def trace(
        self, images: Sequence[ImageInput], batch_size: int = 8, **knobs: Any
    ) -> list[CaptionTrace]:
        """Describe images and keep every draft; otherwise as `caption`."""

        def read(output: Any, row: int) -> CaptionTrace:
            return CaptionTrace(self._text(output, row), **self._how_it_came_about(output, row))

        return self._run(images, batch_size, knobs, read)

    def _stream(
        self, images: Iterator[ImageInput], batch_size: int, knobs: dict[str, Any]
    ) -> Iterator[dict[str, str]]:
        while batch := list(islice(images, batch_size)):
            yield from _as_dicts(self.caption(batch, batch_size, **knobs))

    def _run(
        self,
        images: Sequence[ImageInput],
        batch_size: int,
        knobs: dict[str, Any],
        read: Callable[[Any, int], Result],
    ) -> list[Result]:
        """Describe in batches; `read` makes a result of the output of `generate` and a row."""
        check_batch_size(batch_size)
        results = []
        for start in range(0, len(images), batch_size):
            numbers = range(start, min(start + batch_size, len(images)))
            pixels = self.reader.read([images[i] for i in numbers], numbers)
            output = self._generate({"pixel_values": pixels.to(self.model.dtype)}, knobs)
            results += [read(output, row) for row in range(len(numbers))]
        return results


def _as_dicts(captions: list[str]) -> list[dict[str, str]]:
    return [{"generated_text": text} for text in captions]
