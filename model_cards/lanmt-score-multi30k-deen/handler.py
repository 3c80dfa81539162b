"""What Inference Endpoints of the Hub run: translations over HTTP, from the folder's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.dynamic_module_utils import get_class_from_dynamic_module

BATCH_SIZE = 8  # texts translated together, where a request does not say


class EndpointHandler:
    """Answers requests with the translations of their texts.

    Only files of the folder are read: its code, its tokenizer and its safetensors weights.

    Args:
        path: The model's folder; that of this file if not given.

    Raises:
        OSError: If there is no such folder, or a file of the model is missing.
    """

    def __init__(self, path: str = "") -> None:
        folder = Path(path) if path else Path(__file__).resolve().parent
        if not folder.is_dir():
            raise NotADirectoryError(
                f"`path` must be a model's folder, got {path!r}. Leave it out for the folder of "
                f"handler.py."
            )
        on_gpu = torch.cuda.is_available()
        options: Any = {"trust_remote_code": True, "local_files_only": True}
        model = AutoModelForSeq2SeqLM.from_pretrained(
            folder,
            use_safetensors=True,
            dtype="auto" if on_gpu else torch.float32,  # others are slow on the CPU
            **options,
        )
        reference = model.config.custom_pipelines["translation"]["impl"]
        pipeline_class: Any = get_class_from_dynamic_module(
            reference, str(folder), local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        self.pipeline = pipeline_class(
            model.eval(), tokenizer, task="translation", device="cuda" if on_gpu else "cpu"
        )

    def __call__(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Translate the texts of a request.

        Args:
            data: The request: `inputs`, a text or a list of texts; and, if it has any,
                `parameters`, what the pipeline takes: `batch_size`, `return_drafts` and knobs of
                `model.generate`.

        Returns:
            `{"translation_text": …}` for each text, in the same order.

        Raises:
            TypeError: If the request is of another form.
            ValueError: If `inputs` is missing, a text is longer than the model takes, or a
                parameter is unknown or wrong.
        """
        texts, parameters = _read(data)
        batch_size = parameters.pop("batch_size", BATCH_SIZE)
        return_drafts = parameters.pop("return_drafts", False)
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"`batch_size` must be an integer and at least 1, got {batch_size!r}.")
        if not isinstance(return_drafts, bool):
            raise ValueError(f"`return_drafts` must be true or false, got {return_drafts!r}.")
        network: Any = self.pipeline.model
        network.resolve_knobs(parameters)  # refuses what is no knob, such as inputs of the network
        translations: list[dict[str, Any]] = self.pipeline(
            texts, batch_size=batch_size, return_drafts=return_drafts, **parameters
        )
        return translations


def _read(data: Any) -> tuple[list[str], dict[str, Any]]:
    """Return texts and parameters of a request."""
    if not isinstance(data, Mapping):
        raise TypeError(
            f"A request must be an object with `inputs`, got {type(data).__name__}. Send "
            f'{{"inputs": "a text"}}.'
        )
    if "inputs" not in data:
        raise ValueError(
            f"A request must have `inputs`, a text or a list of texts, but has "
            f'{", ".join(map(str, data)) or "nothing"}. Send {{"inputs": "a text"}}.'
        )
    inputs, parameters = data["inputs"], data.get("parameters") or {}
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise TypeError(
            "`inputs` must be a text or a flat list of texts, but holds something else. Send "
            '{"inputs": ["a text", "another text"]}.'
        )
    if not isinstance(parameters, Mapping):
        raise TypeError(
            f"`parameters` must be an object, got {type(parameters).__name__}. Send "
            f'{{"inputs": "a text", "parameters": {{"num_refinement_iterations": 2}}}}.'
        )
    return texts, dict(parameters)
