"""Corpora of images with captions: from the Hub, a folder or a builder to examples to train on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch.utils.data
from datasets import Dataset, Image
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hf_nar.data.corpus import load_rows
from hf_nar.data.image_config import ImageCorpusConfig

__all__ = ["CaptionExamples", "ImageCorpus", "ImageCorpusConfig", "load_image_corpus"]


@dataclass(frozen=True)
class ImageCorpus:
    """Images with their captions; an image is opened only when it is needed.

    Args:
        rows: Rows with an `image`, as it is stored.
        captions: Of each image, at least one, none without text.
        without_captions: Images left out because they have no caption with text.
    """

    rows: Dataset
    captions: Sequence[Sequence[str]]
    without_captions: int = 0

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.captions)

    def images(self, indices: Sequence[int]) -> list[Any]:
        """Return images as they are stored: what `hf_nar.images` opens."""
        stored: list[Any] = self.rows[list(indices)]["image"]
        return stored

    def all_captions(self) -> Iterator[str]:
        """Yield every caption of every image."""
        return itertools.chain.from_iterable(self.captions)


class CaptionExamples(torch.utils.data.Dataset[dict[str, Any]]):
    """One example for each caption: the stored image and the caption's token ids.

    Captions that are too long are left out.

    Args:
        corpus: Images with captions.
        tokenizer: It must append its end token.
        max_target_tokens: Longest caption, in tokens with the end token.

    Raises:
        ValueError: If the limit is below 1, the tokenizer does not append its end token, or
            nothing is left.
    """

    def __init__(
        self, corpus: ImageCorpus, tokenizer: PreTrainedTokenizerBase, max_target_tokens: int
    ) -> None:
        if max_target_tokens < 1:
            raise ValueError(
                f"`max_target_tokens` must be at least 1, got {max_target_tokens}. It counts the "
                f"end token too."
            )
        self.corpus = corpus
        images = [i for i, texts in enumerate(corpus.captions) for _ in texts]
        encoded = tokenizer(text_target=list(corpus.all_captions()), verbose=False)
        all_ids: list[list[int]] = cast("Any", encoded)["input_ids"]
        if any(ids[-1:] != [tokenizer.eos_token_id] for ids in all_ids[:1]):
            raise ValueError(
                "`tokenizer` must append its end token, but it does not. Use one from "
                "`train_tokenizer`, or give it such a post-processor."
            )
        kept = [i for i, ids in enumerate(all_ids) if len(ids) <= max_target_tokens]
        if not kept:
            raise ValueError(
                f"At least one caption must fit `max_target_tokens`, but none has at most "
                f"{max_target_tokens} tokens. Raise the limit."
            )
        self.image_indices = [images[i] for i in kept]
        self.labels = [all_ids[i] for i in kept]
        self.overlong_dropped = len(all_ids) - len(kept)

    def __len__(self) -> int:
        """Return the number of captions."""
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return `image`, `labels` and the image's number in the corpus."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Return several examples; torch's loaders ask for a whole batch at once."""
        numbers = [self.image_indices[i] for i in indices]
        images = self.corpus.images(numbers)
        return [
            {"image": image, "labels": self.labels[i], "number": number}
            for i, image, number in zip(indices, images, numbers, strict=True)
        ]

    def target_lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each caption, end token included, `[captions]`."""
        return np.array([len(ids) for ids in self.labels], dtype=np.int64)


def load_image_corpus(config: ImageCorpusConfig) -> ImageCorpus:
    """Load images with captions.

    Args:
        config: Where they lie.

    Raises:
        FileNotFoundError: If the dataset does not exist.
        ValueError: If a column is missing or of the wrong kind, or nothing is left.
    """
    if config.builder:
        rows = _drawn_rows(cast(int, config.num_scenes), config.seed, config.split)
    else:
        rows = cast(Dataset, load_rows(config.rows_config()))
    for option in ("image_field", "caption_field"):
        if getattr(config, option) not in rows.column_names:
            raise ValueError(
                f"`{option}` must be a column of {config.origin}, got "
                f"`{getattr(config, option)}`; it has: {', '.join(rows.column_names)}. Use one of "
                f"these."
            )
    texts = rows.select_columns([config.caption_field])[:][config.caption_field]
    captions = [_texts(value, f"{config.origin}, row {i}") for i, value in enumerate(texts)]
    kept = [i for i, found in enumerate(captions) if found]
    if not kept:
        raise ValueError(
            f"A corpus must hold at least one image with a caption, but {config.origin} does not. "
            f"Check it and `caption_field`."
        )
    images = rows.select_columns([config.image_field])
    if config.image_field != "image":
        images = images.rename_column(config.image_field, "image")
    if isinstance(images.features["image"], Image):
        images = images.cast_column("image", Image(decode=False))  # errors are ours to explain
    if len(kept) < len(captions):
        images = images.select(kept)
    return ImageCorpus(images, [captions[i] for i in kept], len(captions) - len(kept))


@lru_cache(maxsize=2)  # a tokenizer and a trainer want the same scenes
def _drawn_rows(num_scenes: int, seed: int, split: str) -> Dataset:
    from hf_nar.data.digit_scenes import digit_scenes  # late: needs Pillow and scikit-learn

    return digit_scenes(num_scenes, seed, cast(Any, split))


def _texts(value: Any, where: str) -> list[str]:
    """Return the captions of one row that have text; null is none."""
    texts = value if isinstance(value, list) else [] if value is None else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ValueError(
                f"{where}: a caption must be text or a list of texts, got {value!r}. Use another "
                f"`caption_field`."
            )
    return [text for text in texts if text.strip()]
