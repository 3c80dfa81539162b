"""Small random networks of the refinement family for tests."""

from __future__ import annotations

import torch
from tiny_networks import VOCABULARY

from hf_nar.remote_code.configuration_refinement_nar import RefinementNARConfig
from hf_nar.remote_code.modeling_refinement_nar import RefinementNARForConditionalGeneration


def new_refinement_model(**options: object) -> RefinementNARForConditionalGeneration:
    torch.manual_seed(0)
    shape = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "d_ff": 32,
        "num_attention_heads": 2,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "max_position_embeddings": 30,
        "max_target_length": 30,
        "max_length_offset": 5,
    }
    config = RefinementNARConfig(**{**shape, **options})
    return RefinementNARForConditionalGeneration(config).eval()


def make_lively(model: torch.nn.Module) -> None:
    """Give it large weights: drafts of a new model hardly change."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5)
