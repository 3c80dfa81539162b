"""Write a model folder that anyone can load, with transformers and torch alone."""

from __future__ import annotations

import copy
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_nar.data.tokenizer import save_tokenizer
from hf_nar.training.models import is_autoregressive

EXPORT_DTYPE = torch.bfloat16  # half the size, and the range of float32


def export_folder(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    dtype: torch.dtype = EXPORT_DTYPE,
    image_processor: Any = None,
) -> None:
    """Write config, generation config, tokenizer, code and safetensors weights.

    `AutoModel` and `AutoModelForSeq2SeqLM` load the folder with `trust_remote_code=True`;
    `AutoTokenizer` with either value of that flag (without it, transformers asks in a terminal).

    Args:
        model: A model of this package, or a teacher. It keeps its dtype.
        tokenizer: Its tokenizer.
        folder: Where to write; made if it is not there.
        dtype: Of the saved weights.
        image_processor: Of a model whose source is an image; `AutoImageProcessor` loads it.
    """
    if not is_autoregressive(model):
        _register_code(model)
    saved: Any = copy.deepcopy(model)
    saved.to(dtype).save_pretrained(folder)
    for file in folder.glob("*.safetensors"):  # written for its owner only
        shutil.copymode(folder / "config.json", file)
    tokenizer = copy.deepcopy(tokenizer)
    limit = getattr(model.config, "max_position_embeddings", None)
    tokenizer.model_max_length = limit or tokenizer.model_max_length
    save_tokenizer(tokenizer, folder)
    if image_processor is not None:
        image_processor.save_pretrained(folder)


def _register_code(model: PreTrainedModel) -> None:
    """Have the network's code saved beside its weights; a teacher's is in transformers."""
    model_class, config_class = type(model), type(model.config)
    reference = f"{_file_name(model_class)}.{model_class.__name__}"
    model.config.auto_map = {
        "AutoConfig": f"{_file_name(config_class)}.{config_class.__name__}",
        "AutoModel": reference,
        "AutoModelForSeq2SeqLM": reference,
    }
    config_class.register_for_auto_class()
    model_class.register_for_auto_class("AutoModelForSeq2SeqLM")


def _file_name(cls: type) -> str:
    return Path(str(sys.modules[cls.__module__].__file__)).stem
