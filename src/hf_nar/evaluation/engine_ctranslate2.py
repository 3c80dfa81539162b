"""A teacher in CTranslate2, an optional package, as a system of a speed benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ctranslate2
import torch
from ctranslate2.converters.converter import Converter
from ctranslate2.converters.transformers import _MODEL_LOADERS as LIBRARY_LOADERS
from ctranslate2.converters.transformers import BartLoader, MarianMTLoader, ModelLoader
from ctranslate2.converters.transformers import M2M100Loader as LibraryM2M100Loader
from transformers import AutoTokenizer, PreTrainedConfig

from hf_nar.evaluation.engines import SystemSpec
from hf_nar.teacher import Teacher

TOKENIZER = "tokenizer"  # folder in the converted one
FACTS_FILE = "teacher.json"  # what the converted network does not tell


class MarianLoader(MarianMTLoader):  # type: ignore[misc]  # has no types
    """Read a Marian network whose decoder starts from a token with an embedding of its own.

    The library's loader is for checkpoints of the Marian toolkit: it starts from a zero embedding
    and drops the last row of the vocabulary as padding. In our networks both would be wrong.
    """

    def set_config(self, config: Any, model: Any, tokenizer: Any) -> None:
        """Take the start token from the model."""
        BartLoader.set_config(self, config, model, tokenizer)

    def set_decoder(self, spec: Any, decoder: Any) -> None:
        """Start from the start token's embedding."""
        BartLoader.set_decoder(self, spec, decoder)

    def get_vocabulary(self, model: Any, tokenizer: Any) -> list[str]:
        """Return all tokens by id."""
        tokens: list[str] = BartLoader.get_vocabulary(self, model, tokenizer)
        return tokens

    def _remove_pad_weights(self, spec: Any) -> None:
        """Keep all rows."""


class M2M100Loader(LibraryM2M100Loader):  # type: ignore[misc]  # has no types
    """Read an M2M-100 network with padding of any id.

    Its positions start after the id of padding; the library's loader takes that to be 1.
    """

    def set_position_encodings(self, spec: Any, module: Any) -> None:
        """Take the positions that the network starts from."""
        spec.encodings = module.weights[module.padding_idx + 1 :]


class MemoryConverter(Converter):  # type: ignore[misc]  # has no types
    """Convert a teacher that is in memory.

    Args:
        teacher: The network and its tokenizer.
        loader: Reads such a network.
    """

    def __init__(self, teacher: Teacher, loader: ModelLoader) -> None:
        self.teacher = teacher
        self.loader = loader

    @torch.no_grad()
    def _load(self) -> Any:
        return self.loader(self.teacher.model, self.teacher.tokenizer)


def _loader(config: PreTrainedConfig) -> ModelLoader | None:
    """Return what reads networks of a config; None if nothing does."""
    starts_from_zero = config.decoder_start_token_id == config.pad_token_id
    if config.model_type == "marian" and not starts_from_zero:
        return MarianLoader()
    if config.model_type == "m2m_100":
        return M2M100Loader()
    return LIBRARY_LOADERS.get(type(config).__name__)


def convert(name: str, folder: Path, precision: str) -> None:
    """Convert a teacher, together with its tokenizer and `FACTS_FILE`.

    Args:
        name: Folder or Hub id of the teacher.
        folder: To write; nothing is done if it is there.
        precision: Of the weights, such as "float32" or "int8".

    Raises:
        ValueError: If CTranslate2 cannot convert such a model.
        OSError: If there is no such teacher.
    """
    if folder.is_dir():
        return
    teacher = Teacher.from_pretrained(name, device="cpu", dtype="float32")
    model: Any = teacher.model
    loader = _loader(model.config)
    advice = "Leave it out with --systems ours,transformers."
    if loader is None:
        raise ValueError(
            f"CTranslate2 must know a teacher's network, and {type(model).__name__} is none that "
            f"it does. {advice}"
        )
    try:
        MemoryConverter(teacher, loader).convert(str(folder), quantization=precision)
    except (AttributeError, KeyError, NotImplementedError, ValueError) as error:  # its loaders'
        raise ValueError(
            f"CTranslate2 cannot convert a {type(model).__name__} such as {name}: {error}. {advice}"
        ) from error
    teacher.tokenizer.save_pretrained(folder / TOKENIZER)
    limits = model.generation_config  # `Teacher` sees to it that one of the two is set
    facts = {
        "parameters": model.num_parameters(),
        "max_length": limits.max_new_tokens or limits.max_length - 1,  # less the start token
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts), encoding="utf-8")


class CTranslate2System:
    """A converted teacher.

    Args:
        spec: Which system this is.
        folder: What `convert` wrote.
        device: Where it runs.
        threads: CPU threads.
    """

    def __init__(self, spec: SystemSpec, folder: Path, device: torch.device, threads: int) -> None:
        self.spec = spec
        self.folder = folder
        self.device = device
        self.tokenizer = AutoTokenizer.from_pretrained(folder / TOKENIZER)
        facts = json.loads((folder / FACTS_FILE).read_text(encoding="utf-8"))
        self.parameters: int = facts["parameters"]
        self.max_length: int = facts["max_length"]
        self.translator = ctranslate2.Translator(
            str(folder),
            device=device.type,
            device_index=device.index or 0,
            compute_type=spec.precision,
            inter_threads=1,
            intra_threads=threads,
        )

    @property
    def size_mb(self) -> float:
        """Weights on disk, in 10^6 bytes."""
        return (self.folder / "model.bin").stat().st_size / 1e6

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of source tokens of each text, the end token included."""
        return [len(tokens) for tokens in self.tokenize(texts)]

    def tokenize(self, texts: Sequence[str]) -> list[list[str]]:
        """Return tokens as text, as CTranslate2 wants them."""
        tokenizer: Any = self.tokenizer
        encoded = tokenizer(list(texts), verbose=False)["input_ids"]
        return [tokenizer.convert_ids_to_tokens(ids) for ids in encoded]

    def run(self, tokens: list[list[str]], length: int | None) -> list[list[str]]:
        """Translate a batch, token by token."""
        results = self.translator.translate_batch(
            tokens,
            beam_size=self.spec.decoding["num_beams"],
            min_decoding_length=length or 0,
            max_decoding_length=self.max_length if length is None else length,
            return_end_token=True,
        )
        return [result.hypotheses[0] for result in results]

    def detokenize(self, rows: list[list[str]]) -> list[str]:
        """Return the texts of target tokens."""
        ids: Any = [self.tokenizer.convert_tokens_to_ids(row) for row in rows]
        return [str(text) for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]
