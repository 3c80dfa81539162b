"""Small random networks and batches for tests."""

from __future__ import annotations

import torch

from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration

PAD, EOS, FIRST_WORD = 0, 2, 5
VOCABULARY = 60


def new_model(**options: object) -> LaNMTForConditionalGeneration:
    """Return a small random LaNMT in evaluation mode; options are fields of its config."""
    torch.manual_seed(0)
    if options.get("latent_axis") == "target":
        options = {"num_target_layers": None, "num_source_layers": 1, **options}
    shape = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "d_ff": 32,
        "num_attention_heads": 2,
        "num_prior_layers": 2,
        "num_target_layers": 1,
        "num_posterior_layers": 2,
        "num_decoder_layers": 2,
        "latent_dim": 4,
        "max_position_embeddings": 30,
        "max_target_length": 30,
        "max_length_offset": 5,
    }
    return LaNMTForConditionalGeneration(LaNMTConfig(**{**shape, **options})).eval()


def batch_of(*lengths: int, padding: int = PAD, seed: int = 0) -> torch.Tensor:
    """Random sentences that end with the end token."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.full((len(lengths), max(lengths)), padding)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(FIRST_WORD, VOCABULARY, (length,), generator=generator)
        row[length - 1] = EOS
    return rows


def noisy_latents(model: LaNMTForConditionalGeneration) -> None:
    """Make the posterior depend strongly on the target, as a trained one does."""
    torch.nn.init.normal_(model.posterior_head.weight, std=1.0)


def refiner_model(axis: str = "source", **options: object) -> LaNMTForConditionalGeneration:
    """Return a LaNMT with score and energy network whose drafts, lengths and steps are lively."""
    layers = {"num_score_layers": 1, "num_energy_layers": 1}
    model = new_model(latent_axis=axis, **{**layers, **options})
    noisy_latents(model)
    parts = ["latent_projection", "lm_head", "length_predictor.classifier"]
    parts += [f"refiners.{name}.head" for name in model.refiners]
    for name in parts:
        torch.nn.init.normal_(model.get_submodule(name).weight, std=0.7)
    return model


def labels_of(*lengths: int, seed: int = 1) -> torch.Tensor:
    """Random targets that end with the end token, -100 on padding."""
    return batch_of(*lengths, padding=-100, seed=seed)


def rows_of(output: object, row: int) -> list[int]:
    """Return one row's tokens without padding."""
    return output.sequences[row, : int(output.lengths[row])].tolist()
