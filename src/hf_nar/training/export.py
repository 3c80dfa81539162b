"""Write a model folder that anyone can load, with transformers and torch alone."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from hf_nar.data.tokenizer import save_tokenizer
from hf_nar.training.code_files import write_code
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
    `pipeline("translation", …)` works with it, and `handler.py` is for Inference Endpoints.

    Args:
        model: A model of this package, or a teacher. It keeps its dtype.
        tokenizer: Its tokenizer.
        folder: Where to write; made if it is not there.
        dtype: Of the saved weights.
        image_processor: Of a model whose source is an image; `AutoImageProcessor` loads it.
    """
    saved: Any = copy.deepcopy(model)
    saved.to(dtype).save_pretrained(folder)
    if not is_autoregressive(model):  # a teacher's code is in transformers
        write_code(folder)
    for file in folder.glob("*.safetensors"):  # written for its owner only
        shutil.copymode(folder / "config.json", file)
    tokenizer = copy.deepcopy(tokenizer)
    limit = getattr(model.config, "max_position_embeddings", None)
    tokenizer.model_max_length = limit or tokenizer.model_max_length
    save_tokenizer(tokenizer, folder)
    if image_processor is not None:
        image_processor.save_pretrained(folder)
