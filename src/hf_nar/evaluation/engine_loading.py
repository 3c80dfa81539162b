"""Load the systems of a speed benchmark, each network once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hf_nar.evaluation.engine_torch import OurSystem, TransformersSystem
from hf_nar.evaluation.engines import (
    CTRANSLATE2,
    OUR_NETWORKS,
    OURS,
    TRANSFORMERS,
    Engine,
    SystemSpec,
)
from hf_nar.inference import Translator
from hf_nar.packing import pack_weights
from hf_nar.teacher import Teacher


@dataclass
class SystemLoader:
    """Where the networks are and how they run.

    Args:
        networks: Folder or Hub id of each of `OUR_NETWORKS`, "teacher" and "teacher 12-1" there
            is.
        converted: Folder for what CTranslate2 converts.
        device: Where all run.
        dtype: Of ours and of transformers; None takes float32 on a CPU and the saved one on a GPU.
        threads: CPU threads, for every engine.
    """

    networks: Mapping[str, str]
    converted: Path
    device: torch.device
    dtype: str | None
    threads: int
    _translators: dict[tuple[str, bool], Translator] = field(default_factory=dict, init=False)
    _teachers: dict[str, Teacher] = field(default_factory=dict, init=False)

    @property
    def our_networks(self) -> list[str]:
        """Names of those of ours there are; at least one."""
        return [name for name in OUR_NETWORKS.values() if name in self.networks]

    def translator(self, network: str | None = None, packed: bool = False) -> Translator:
        """Return one of ours with its tokenizer.

        Args:
            network: Of `our_networks`; None takes the first.
            packed: Whether its weights are packed.
        """
        key = (network or self.our_networks[0], packed)
        if key not in self._translators:
            translator = Translator.from_pretrained(
                self.networks[key[0]], device=self.device, dtype=self.dtype
            )
            if packed:
                pack_weights(translator.model)
            self._translators[key] = translator
        return self._translators[key]

    def teacher(self, network: str) -> Teacher:
        """Return a teacher in transformers."""
        if network not in self._teachers:
            self._teachers[network] = Teacher.from_pretrained(
                self.networks[network], device=self.device, dtype=self.dtype
            )
        return self._teachers[network]

    @property
    def longest(self) -> int:
        """Most tokens of a sentence that ours and the teacher take and make."""
        config, teacher = self.translator().model.config, self.teacher("teacher")
        ours = min(int(config.max_position_embeddings), int(config.max_target_length))
        return min(ours, teacher.max_source_tokens)

    def load(self, spec: SystemSpec) -> Engine:
        """Return a system that is ready to translate.

        Raises:
            ValueError: If its engine is not installed.
            OSError: If a network cannot be loaded.
        """
        if spec.engine == OURS:
            translator = self.translator(spec.network, spec.decoding.get("packed", False))
            name = self.networks[spec.network]
            return OurSystem(spec, translator.model, translator.tokenizer, name)
        if spec.engine == TRANSFORMERS:
            teacher = self.teacher(spec.network)
            name = self.networks[spec.network]
            return TransformersSystem(spec, teacher.model, teacher.tokenizer, name)
        return self._load_ctranslate2(spec)

    def _load_ctranslate2(self, spec: SystemSpec) -> Engine:
        engine = import_ctranslate2()
        name = self.networks[spec.network]
        folder = self.converted / f"{spec.network} {spec.precision}"
        engine.convert(name, folder, spec.precision)
        loaded: Engine = engine.CTranslate2System(spec, folder, self.device, self.threads)
        return loaded


def import_ctranslate2() -> Any:
    """Return the module of the optional engine.

    Raises:
        ValueError: If CTranslate2 is not installed.
    """
    try:
        from hf_nar.evaluation import engine_ctranslate2
    except ImportError as error:
        raise ValueError(
            f"The engine {CTRANSLATE2} must be installed to be measured, and it is not. Run "
            f'pip install "hf-nar[benchmark]", or leave it out with --systems '
            f"ours,{TRANSFORMERS}."
        ) from error
    return engine_ctranslate2
