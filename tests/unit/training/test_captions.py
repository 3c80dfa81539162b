import pytest
import torch
from tiny_captioners import TINY_PROCESSOR, TINY_SHAPE, caption_recipe, new_captioner
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from hf_nar.data.image_corpus import (
    CaptionExamples,
    ImageCorpus,
    ImageCorpusConfig,
    load_image_corpus,
)
from hf_nar.remote_code.configuration_refinement_nar import RefinementNARConfig
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration
from hf_nar.training.captions import (
    CaptionCollator,
    CaptionTrainer,
    build_image_processor,
    count_positions,
)
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.recipe import Recipe

RESNET = {
    "model_type": "resnet",
    "num_channels": 1,
    "embedding_size": 8,
    "hidden_sizes": [8, 8],
    "depths": [1, 1],
    "layer_type": "basic",
}
SCENES = ImageCorpusConfig(builder="digit_scenes", num_scenes=30, seed=1)


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return new_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def examples(captioner):
    return CaptionExamples(load_image_corpus(SCENES), captioner.tokenizer, 32)


def trainer_of(captioner, examples, folder, **arguments):
    corpus = examples.corpus
    fixed = {"use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    return CaptionTrainer(
        args=NARTrainingArguments(output_dir=str(folder), **{**fixed, **arguments}),
        reader=captioner.reader,
        validation=ImageCorpus(corpus.rows.select(range(4)), corpus.captions[:4]),
        model=captioner.model,
        train_dataset=examples,
        eval_dataset=examples,
        processing_class=captioner.tokenizer,
    )


def test_a_batch_has_pixels_and_padded_captions(captioner, examples):
    rows = [examples[i] for i in range(3)]

    batch = CaptionCollator(captioner.reader)(rows)

    assert batch["pixel_values"].shape == (3, 1, 36, 36)
    expected = captioner.reader.read([rows[1]["image"]])
    assert torch.equal(batch["pixel_values"][1:2], expected)
    for labels, row in zip(batch["labels"].tolist(), rows, strict=True):
        assert labels == row["labels"] + [-100] * (len(labels) - len(row["labels"]))


def test_captions_shorter_than_their_image_are_not_sorted_by_length(captioner, examples, tmp_path):
    trainer = trainer_of(captioner, examples, tmp_path, tokens_per_batch=32 * 5, seed=1)
    real = examples.target_lengths()

    sources, targets = trainer._batch_lengths(examples)

    assert set(sources.tolist()) == {10}  # 3 x 3 patches and the class token
    assert targets.tolist() == [max(10, length) for length in real.tolist()]
    assert min(real) < 10 < max(real)


@pytest.mark.parametrize(("vision", "positions"), [(TINY_SHAPE["vision_config"], 10), (RESNET, 25)])
def test_positions_of_every_kind_of_vision_encoder_are_counted(vision, positions):
    shape = {**TINY_SHAPE, "vision_config": vision, "max_position_embeddings": 25}
    model = RefinementNARForConditionalGeneration(RefinementNARConfig(vocab_size=30, **shape))
    pixels = torch.zeros(1, 1, 36, 36)
    model.train()

    assert count_positions(model.vision_encoder, pixels) == positions
    assert model.vision_encoder.training
    assert model.encode(pixel_values=pixels).states.shape[1] == positions


def test_an_image_processor_is_made_of_fields_or_loaded_by_name(tmp_path):
    values = caption_recipe(tmp_path)
    made = build_image_processor(Recipe.from_dict(values))
    ViTImageProcessorPil(image_mean=[0.7]).save_pretrained(tmp_path / "processor")
    values["data"]["image_processor"] = {"name": str(tmp_path / "processor")}
    loaded = build_image_processor(Recipe.from_dict(values))

    assert list(made.image_mean) == TINY_PROCESSOR["image_mean"]
    assert list(loaded.image_mean) == [0.7]


def test_a_named_image_processor_takes_no_fields(tmp_path):
    values = caption_recipe(tmp_path)
    values["data"]["image_processor"] = {"name": "x", "do_resize": False}

    with pytest.raises(ValueError, match=r"either `name` or fields, .+ got x and `do_resize`"):
        build_image_processor(Recipe.from_dict(values))


def test_validation_has_bleu_and_exact_captions(captioner, examples, tmp_path):
    trainer = trainer_of(captioner, examples, tmp_path)

    metrics = trainer.evaluate()

    images = examples.corpus.images(range(4))
    exact = [
        text in texts
        for text, texts in zip(captioner.caption(images), examples.corpus.captions, strict=False)
    ]
    assert metrics["eval_exact"] == sum(exact) / 4
    assert 0 <= metrics["eval_bleu"] <= 100
