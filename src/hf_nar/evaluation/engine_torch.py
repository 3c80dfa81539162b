"""Our models and a teacher in transformers, as systems of a speed benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CompileConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_nar.evaluation.engines import SystemSpec


class TorchSystem:
    """What models in torch share: their tokenizer, and tensors as input.

    Args:
        spec: Which system this is.
        model: In evaluation mode.
        tokenizer: The model's own.
        folder: Where the model was loaded from.
    """

    def __init__(
        self,
        spec: SystemSpec,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        folder: str,
    ) -> None:
        self.spec = spec
        self.model: Any = model
        self.tokenizer = tokenizer
        self.folder = folder
        self.device: torch.device = model.device

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return int(self.model.num_parameters())

    @property
    def size_mb(self) -> float:
        """Weights on disk; of a model from the Hub, in memory."""
        files = list(Path(self.folder).glob("*.safetensors"))
        size = sum(file.stat().st_size for file in files)
        return (size or int(self.model.get_memory_footprint())) / 1e6

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of source tokens of each text, the end token included."""
        return [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Return `input_ids` and `attention_mask`, `[batch, source_len]`."""
        encoded = self.tokenizer(
            list(texts), padding=True, return_tensors="pt", return_token_type_ids=False
        )
        return {name: value.to(self.device) for name, value in encoded.items()}

    def detokenize(self, rows: list[list[int]]) -> list[str]:
        """Return the texts of target ids."""
        return [str(text) for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]


class OurSystem(TorchSystem):
    """A model of this package with one strategy and number of refinement iterations."""

    def run(self, tokens: dict[str, Tensor], length: int | None) -> list[list[int]]:
        """Translate a batch; with a fixed length every iteration is run in full."""
        decoding = self.spec.decoding
        knobs: dict[str, Any] = {
            "refinement": decoding["refinement"],
            "num_refinement_iterations": decoding["iterations"],
        }
        climbs = self.model.resolve_knobs(knobs).likelihood_steps
        takes_gradients = climbs or decoding["refinement"] == "energy"
        if length is not None:
            lengths = torch.full((len(tokens["input_ids"]),), length, device=self.device)
            knobs |= {"target_lengths": lengths, "max_length": length}
            knobs |= {"stop_early": False, "collapse_repeats": False, "length_beam": 1}
        with torch.no_grad() if takes_gradients else torch.inference_mode():
            rows: list[list[int]] = self.model.generate(**tokens, **knobs).tolist()
        return rows if length is not None else _until_end(rows, self.tokenizer)


class TransformersSystem(TorchSystem):
    """A teacher in transformers, with its cache of keys and values."""

    @torch.inference_mode()
    def run(self, tokens: dict[str, Tensor], length: int | None) -> list[list[int]]:
        """Translate a batch, token by token."""
        decoding = self.spec.decoding
        options: dict[str, Any] = {"num_beams": decoding["num_beams"], "do_sample": False}
        if decoding["num_beams"] > 1:  # stop with as many translations as beams, as CTranslate2
            options |= {"early_stopping": True}
        if length is not None:
            options |= {"min_new_tokens": length, "max_new_tokens": length}
        if decoding.get("static_cache"):
            compiler: Any = CompileConfig()
            compiler._compile_all_devices = True  # without it, it compiles on a GPU only
            options |= {"cache_implementation": "static", "compile_config": compiler}
        rows: list[list[int]] = self.model.generate(**tokens, **options)[:, 1:].tolist()
        return rows if length is not None else _until_end(rows, self.tokenizer)


def _until_end(rows: list[list[int]], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Cut each row after its first end token."""
    end = tokenizer.eos_token_id
    return [row[: row.index(end) + 1] if end in row else row for row in rows]
