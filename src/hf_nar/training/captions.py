"""Training on images with captions: what differs from training on pairs of sentences."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_nar.captioner import Captioner
from hf_nar.data.image_corpus import CaptionExamples, ImageCorpus, load_image_corpus
from hf_nar.data.processes import first_of_each_node
from hf_nar.evaluation.captions import caption_scores
from hf_nar.images import ImageReader, load_image_processor
from hf_nar.remote_code.losses_nar import IGNORED_LABEL
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.recipe import Recipe, check_keys
from hf_nar.training.trainer import NARTrainer

logger = logging.getLogger(__name__)


class CaptionCollator:
    """Open and process the images of a batch, and pad its captions.

    Args:
        reader: Of the model's images.
    """

    def __init__(self, reader: ImageReader) -> None:
        self.reader = reader

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Return `pixel_values` `[batch, channels, height, width]` and `labels`."""
        images, numbers = zip(*((row["image"], row["number"]) for row in examples), strict=True)
        labels = [torch.tensor(row["labels"]) for row in examples]
        return {
            "pixel_values": self.reader.read(images, numbers),
            "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED_LABEL),
        }


class CaptionTrainer(NARTrainer):
    """Train a captioner; BLEU is measured against all captions of a validation image.

    Adds to `NARTrainer` the share of exact captions, `eval_exact`.

    Args:
        args: See `NARTrainingArguments`.
        reader: Of the model's images.
        validation: Images that are described for `eval_bleu`, with their captions.
        is_vision_frozen: Whether the vision encoder keeps its weights.
        **kwargs: As for `NARTrainer`; the data sets are `CaptionExamples`.
    """

    def __init__(
        self,
        args: NARTrainingArguments,
        reader: ImageReader,
        validation: ImageCorpus,
        is_vision_frozen: bool = False,
        **kwargs: Any,
    ) -> None:
        model: Any = kwargs["model"]
        self.validation = validation
        self.image_processor = reader.processor
        self.vision_encoder: nn.Module = model.vision_encoder
        self.is_vision_frozen = is_vision_frozen
        self.vision_encoder.requires_grad_(not is_vision_frozen)
        super().__init__(
            args,
            validation_sources=validation.rows["image"],
            validation_references=validation.captions,
            data_collator=CaptionCollator(reader),
            **kwargs,
        )

    def _batch_lengths(self, dataset: Any) -> tuple[Any, Any]:
        """Return the visual positions of each image and the tokens of each caption.

        Captions shorter than their image count as long as it. They cost nothing then, and batches
        are not sorted by their length: a vision encoder with batch normalisation would read it off
        the statistics of the batch in training, and miss it afterwards.
        """
        return batch_lengths(dataset, self.data_collator([dataset[0]]), self.vision_encoder)

    def compute_loss(self, model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Return the loss; statistics and dropout of a frozen vision encoder stay as they are."""
        if self.is_vision_frozen:
            self.vision_encoder.eval()
        return super().compute_loss(model, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Save a checkpoint with the network's own names of weights.

        The library would write the weights of some vision encoders, such as ViT, under their names
        of earlier versions, and leave them out, without an error, where it loads a checkpoint.
        """
        model: Any = self.accelerator.unwrap_model(self.model)
        model.save_pretrained = partial(model.save_pretrained, save_original_format=False)
        try:
            super()._save(output_dir, state_dict)
        finally:
            del model.save_pretrained  # the class's own again

    def _generated(self, model: PreTrainedModel, indices: range) -> list[str]:
        captioner = Captioner(
            model,
            self._tokenizer,
            self.image_processor,
            num_refinement_iterations=self.args.validation_iterations,
        )
        mine: Any = self.validation.rows.select(indices)["image"]  # read a batch at a time
        return captioner.caption(mine, self.args.per_device_eval_batch_size)

    def _scores(self, hypotheses: list[str]) -> dict[str, float]:
        scores = caption_scores(hypotheses, self.validation.captions)
        return {"bleu": scores.bleu, "exact": scores.exact}


def caption_trainer(
    recipe: Recipe,
    arguments: NARTrainingArguments,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
) -> CaptionTrainer:
    """Return the trainer of a recipe whose source is an image.

    Raises:
        OSError: If a file or the image processor cannot be read.
        ValueError: If a corpus or the image processor is not usable, or does not fit the model.
    """
    reader = ImageReader(build_image_processor(recipe))
    with first_of_each_node():
        train, _ = _examples(recipe, tokenizer, "train")
        validation, images = _examples(recipe, tokenizer, "validation")
    network: Any = model
    _check_channels(reader, network.vision_encoder)
    return CaptionTrainer(
        args=arguments,
        reader=reader,
        validation=images,
        is_vision_frozen=recipe.vision.frozen,
        model=model,
        train_dataset=train,
        eval_dataset=validation,
        processing_class=tokenizer,
    )


def batch_lengths(
    examples: CaptionExamples, example: Mapping[str, Tensor], vision_encoder: nn.Module
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lengths that batches are made by; see `CaptionTrainer`.

    Args:
        examples: Images with their captions.
        example: A batch of one of them.
        vision_encoder: Of the model.

    Returns:
        Source and target lengths, each `[captions]`.
    """
    positions = count_positions(vision_encoder, example["pixel_values"])
    lengths = examples.target_lengths()
    return np.full_like(lengths, positions), np.maximum(lengths, positions)


def captions_to_train(
    recipe: Recipe, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> tuple[CaptionExamples, Tensor, tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the examples of an epoch, the picture of one, and the lengths of `batch_lengths`.

    Raises:
        OSError: As `caption_trainer`.
        ValueError: As `caption_trainer`.
    """
    collate = CaptionCollator(ImageReader(build_image_processor(recipe)))
    network: Any = model
    _check_channels(collate.reader, network.vision_encoder)
    examples, _ = _examples(recipe, tokenizer, "train")
    _examples(recipe, tokenizer, "validation")
    example = collate([examples[0]])
    return (
        examples,
        example["pixel_values"],
        batch_lengths(examples, example, network.vision_encoder),
    )


def build_image_processor(recipe: Recipe) -> Any:
    """Return the recipe's image processor: a saved one, or ViT's with the recipe's fields.

    Raises:
        OSError: If there is no such saved one.
        ValueError: If a field is unknown, or stands beside a name.
    """
    fields = dict(recipe.data.image_processor)
    if "name" in fields:
        name = str(fields.pop("name"))
        if fields:
            raise ValueError(
                f"`data.image_processor` must have either `name` or fields, as a saved image "
                f"processor has its own; got {name} and `{next(iter(fields))}`. Keep one."
            )
        return load_image_processor(name)
    known = [*ViTImageProcessorPil().to_dict(), "do_center_crop", "crop_size"]
    check_keys(list(fields), known, "data.image_processor.")
    return ViTImageProcessorPil(**fields)


@torch.no_grad()
def count_positions(vision_encoder: nn.Module, pixel_values: Tensor) -> int:
    """Return how many source positions the network makes of an image."""
    was_training = vision_encoder.training
    device = next(vision_encoder.parameters()).device
    states = vision_encoder.eval()(pixel_values.to(device)).last_hidden_state
    vision_encoder.train(was_training)
    return int(np.prod(states.shape[2:]) if states.ndim == 4 else states.shape[1])


def _check_channels(reader: ImageReader, vision_encoder: Any) -> None:
    wanted = vision_encoder.config.num_channels
    if reader.channels != wanted:
        raise ValueError(
            f"`data.image_processor.image_mean` must have a value for each of the {wanted} "
            f"`num_channels` of `model.vision_config`, got {reader.channels}. Change one of them."
        )


def _examples(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, part: str
) -> tuple[CaptionExamples, ImageCorpus]:
    corpus = load_image_corpus(recipe.data.image_corpus(part))
    examples = CaptionExamples(corpus, tokenizer, recipe.data.max_target_tokens)
    if PartialState().is_main_process:
        logger.warning(
            "%s: %s images with %s captions kept, %s images dropped without a caption, %s captions "
            "for their length.",
            part,
            len(corpus),
            len(examples),
            corpus.without_captions,
            examples.overlong_dropped,
        )
    return examples, corpus
