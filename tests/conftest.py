"""Every fast test runs offline, on one thread and from a fixed seed, with a tiny real model."""

from __future__ import annotations

import copy
import os
import random
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration

SEED = 20200207


@pytest.fixture(scope="session", autouse=True)
def _one_thread(request: pytest.FixtureRequest) -> None:
    if _needs_torch(request.session.items):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed(request: pytest.FixtureRequest) -> None:
    random.seed(SEED)
    if _needs_torch([request.node]):
        import numpy as np
        import torch

        np.random.seed(SEED)  # noqa: NPY002  libraries draw from the global generator
        torch.manual_seed(SEED)


def _needs_torch(items: list[pytest.Item]) -> bool:
    """Contract tests read text only, so they start without waiting for torch."""
    return any("contract" not in item.path.parts for item in items)


NOUNS = (
    "Hund Katze Mann Frau Kind Junge Vogel Pferd Bruder Schwester",
    "dog cat man woman child boy bird horse brother sister",
)
VERBS = (
    "läuft schläft springt sitzt isst steht wartet arbeitet",
    "runs sleeps jumps sits eats stands waits works",
)
PLACES = (
    "im Schnee|auf der Straße|am Haus|unter dem Baum|vor einem Zug",
    "in the snow|on the street|by the house|under the tree|before a train",
)
TINY_VOCABULARY = 90


def tiny_sentences() -> list[str]:
    """Return German and English sentences of a tiny world, the same number of each."""
    languages = [("Ein", *(words[0] for words in (NOUNS, VERBS, PLACES)))]
    languages.append(("A", *(words[1] for words in (NOUNS, VERBS, PLACES))))
    return [
        f"{article} {noun} {verb} {place}."
        for article, nouns, verbs, places in languages
        for noun in nouns.split()
        for verb in verbs.split()
        for place in places.split("|")
    ]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model folder as on the Hub, with code; do not change it."""
    import torch
    from transformers import GenerationConfig

    from hf_nar.data.tokenizer import train_tokenizer
    from hf_nar.remote_code.configuration_lanmt import LaNMTConfig
    from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration

    folder = tmp_path_factory.mktemp("hub") / "tiny-lanmt"
    tokenizer = train_tokenizer(tiny_sentences(), folder, vocab_size=TINY_VOCABULARY)
    torch.manual_seed(SEED)
    config = LaNMTConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        d_ff=32,
        num_attention_heads=2,
        num_prior_layers=1,
        num_target_layers=1,
        num_posterior_layers=1,
        num_decoder_layers=1,
        latent_dim=4,
        max_position_embeddings=40,
        max_target_length=48,
        max_length_offset=6,
    )
    LaNMTConfig.register_for_auto_class()
    LaNMTForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
    config.auto_map = {"AutoModel": "modeling_lanmt.LaNMTForConditionalGeneration"}
    model = LaNMTForConditionalGeneration(config).eval()
    model.generation_config = GenerationConfig(
        num_refinement_iterations=3,
        max_length=config.max_target_length,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def _loaded_model(tiny_folder: Path) -> LaNMTForConditionalGeneration:
    from hf_nar.remote_code.modeling_lanmt import LaNMTForConditionalGeneration

    return LaNMTForConditionalGeneration.from_pretrained(tiny_folder).eval()


@pytest.fixture(scope="session")
def _loaded_tokenizer(tiny_folder: Path) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(tiny_folder)


@pytest.fixture
def tiny_model(_loaded_model: LaNMTForConditionalGeneration) -> LaNMTForConditionalGeneration:
    """Return a small random LaNMT in evaluation mode, a fresh copy for each test."""
    return copy.deepcopy(_loaded_model)


@pytest.fixture
def tiny_tokenizer(_loaded_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """Return the tokenizer of `tiny_folder`, a fresh copy for each test."""
    return copy.deepcopy(_loaded_tokenizer)
