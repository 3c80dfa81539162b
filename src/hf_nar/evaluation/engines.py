"""What a speed benchmark compares: our decoding and the engines of an autoregressive teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

OURS, TRANSFORMERS, CTRANSLATE2 = "hf_nar", "transformers", "ctranslate2"
BEAMS = {1: "greedy", 4: "beam 4"}
SHALLOW = "12-1"  # encoder and decoder layers of the teacher with a deep encoder
GROUPS = ("default", "all", "ours", TRANSFORMERS, CTRANSLATE2)


@dataclass(frozen=True)
class SystemSpec:
    """One model in one engine with one way of decoding.

    Args:
        name: Stable and readable, such as "CTranslate2 int8 greedy".
        engine: `OURS`, `TRANSFORMERS` or `CTRANSLATE2`.
        precision: Of the weights, such as "float32" or "int8".
        decoding: `iterations` and `refinement` of ours; `num_beams`, and `static_cache` where the
            teacher is compiled.
        network: "ours", "teacher" or "teacher 12-1".
        on_by_default: Whether the group "default" has it.
    """

    name: str
    engine: str
    precision: str
    decoding: Mapping[str, Any]
    network: str = "teacher"
    on_by_default: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether it is a model of this package."""
        return self.engine == OURS


class Engine(Protocol):
    """An engine with its model: from text to tokens, from tokens to tokens, from these to text."""

    spec: SystemSpec
    device: torch.device

    @property
    def parameters(self) -> int:
        """Number of weights."""

    @property
    def size_mb(self) -> float:
        """Weights on disk, in 10^6 bytes."""

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return the number of source tokens of each text, the end token included."""

    def tokenize(self, texts: Sequence[str]) -> Any:
        """Return the input of `run`."""

    def run(self, tokens: Any, length: int | None) -> list[list[Any]]:
        """Translate a batch.

        Args:
            tokens: What `tokenize` gave.
            length: Target tokens of every translation; None lets each end by itself.

        Returns:
            Target tokens without padding and start token.
        """

    def detokenize(self, rows: list[list[Any]]) -> list[str]:
        """Return the texts of what `run` gave."""


def list_systems(
    model: Any, iterations: Sequence[int], device: torch.device, with_shallow: bool
) -> list[SystemSpec]:
    """Return every system there is.

    Args:
        model: A model of this package; it names its strategies.
        iterations: Refinement iterations of ours.
        device: Where they run. A compiled teacher is on by default only on a GPU, as it
            compiles for minutes on a CPU.
        with_shallow: Whether there is a teacher with 12 encoder layers and 1 decoder layer.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    specs = [_our_spec(model, name, n, dtype) for name in model.refinements for n in iterations]
    specs += [
        SystemSpec(f"transformers {beam}", TRANSFORMERS, dtype, {"num_beams": count})
        for count, beam in BEAMS.items()
    ]
    specs.append(
        SystemSpec(
            "transformers greedy, compiled with static cache",
            TRANSFORMERS,
            dtype,
            {"num_beams": 1, "static_cache": True},
            on_by_default=device.type == "cuda",
        )
    )
    # CTranslate2 computes in half precision on a GPU only.
    exact = dtype if device.type == "cuda" else "float32"
    for network in ("teacher", f"teacher {SHALLOW}") if with_shallow else ("teacher",):
        suffix = f", {SHALLOW}" if network != "teacher" else ""
        specs += [
            SystemSpec(
                f"CTranslate2 {precision} {beam}{suffix}",
                CTRANSLATE2,
                precision,
                {"num_beams": count},
                network,
            )
            for precision in (exact, "int8")
            for count, beam in BEAMS.items()
        ]
    return specs


def _our_spec(model: Any, refinement: str, iterations: int, dtype: str) -> SystemSpec:
    family = type(model).__name__.removesuffix("ForConditionalGeneration")
    is_first = refinement == next(iter(model.refinements))
    strategy = "" if is_first else f", {refinement.replace('_', ' ')}"
    count = f"{iterations} iteration{'' if iterations == 1 else 's'}"
    decoding = {"iterations": iterations, "refinement": refinement}
    return SystemSpec(f"{family}{strategy}, {count}", OURS, dtype, decoding, "ours")


def select_systems(specs: Sequence[SystemSpec], names: str) -> list[SystemSpec]:
    """Return the systems that an option asks for, in the order of `specs`.

    Args:
        specs: All there are.
        names: Names of systems, which may have commas themselves, and of groups, with commas
            between them.

    Raises:
        ValueError: If a name is unknown, or no system of ours is among them.
    """
    groups = {
        "default": [spec for spec in specs if spec.on_by_default],
        "all": list(specs),
        "ours": [spec for spec in specs if spec.is_ours],
        **{
            engine: [spec for spec in specs if spec.engine == engine]
            for engine in (TRANSFORMERS, CTRANSLATE2)
        },
    }
    known = {**groups, **{spec.name: [spec] for spec in specs}}
    parts = [part.strip() for part in names.split(",")]
    chosen: list[SystemSpec] = []
    while parts:
        size = 2 if ", ".join(parts[:2]) in known else 1
        size = 3 if ", ".join(parts[:3]) in known else size
        name = ", ".join(parts[:size])
        if name not in known:
            raise ValueError(
                f"`--systems` must name groups ({', '.join(groups)}) or systems "
                f"({'; '.join(spec.name for spec in specs)}); got {name!r}."
            )
        chosen += known[name]
        parts = parts[size:]
    return [spec for spec in specs if spec in chosen]
