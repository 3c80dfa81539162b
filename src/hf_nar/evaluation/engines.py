"""What a speed benchmark compares: our decoding and the engines of an autoregressive teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

OURS, TRANSFORMERS, CTRANSLATE2 = "hf_nar", "transformers", "ctranslate2"
# With latents of source length, or of the only model; and with latents of target length.
OUR_NETWORKS = {"source": "ours", "target": "ours target"}
PLAIN, PACKED = "plain", "packed"  # how our weights are laid out; see `pack_weights`
NO_REFINEMENT = "none"  # the strategy that is any other one with 0 iterations
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
        decoding: `iterations` and `refinement` of ours, and `packed` where `pack_weights` was
            called; `num_beams`, and `static_cache` where the teacher is compiled.
        network: One of `OUR_NETWORKS`, "teacher" or "teacher 12-1".
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
    """Return every system there is, of ours those with plain weights and all strategies.

    Args:
        model: A model of this package; it names its strategies.
        iterations: Refinement iterations of ours.
        device: Where they run. A compiled teacher is on by default only on a GPU, as it
            compiles for minutes on a CPU.
        with_shallow: Whether there is a teacher with 12 encoder layers and 1 decoder layer.
    """
    dtype = str(model.dtype).removeprefix("torch.")
    names = pick_refinements(model, None)
    ours = list_ours(model, OUR_NETWORKS["source"], names, iterations, PLAIN)
    return ours + list_teachers(dtype, device, with_shallow)


def pick_refinements(model: Any, asked: Sequence[str] | None) -> list[str]:
    """Return the strategies to measure.

    Args:
        model: A model of this package.
        asked: Names; None takes all that the model has the networks for and that refine.

    Raises:
        ValueError: If there is no such strategy, or the model lacks its network.
    """
    refiners = getattr(model, "refiners", {})
    can_run = [
        name
        for name, strategy in model.refinements.items()
        if getattr(strategy, "refiner", None) in (None, *refiners)
    ]
    if asked is None:
        return [name for name in can_run if name != NO_REFINEMENT]
    for name in asked:
        if name not in can_run:
            known = ", ".join(model.refinements)
            lacks = name in model.refinements
            raise ValueError(
                f"`--refinement` must name strategies of the model, {known}; got {name!r}"
                + (", for which it has no network." if lacks else ".")
            )
    return list(asked)


def list_ours(
    model: Any, network: str, refinements: Sequence[str], iterations: Sequence[int], weights: str
) -> list[SystemSpec]:
    """Return the systems of one network of ours.

    Without iterations all strategies are the same: only the first of them has such a system.

    Args:
        model: It.
        network: Its name, of `OUR_NETWORKS`.
        refinements: Strategies, of those it has the networks for.
        iterations: Refinement iterations.
        weights: `PLAIN` or `PACKED`.
    """
    pairs = [(name, count) for name in refinements for count in iterations]
    drafts = [(name, count) for name, count in pairs if not count or name == NO_REFINEMENT]
    left_out = drafts[1:]
    return [
        _our_spec(model, network, name, count, weights)
        for name, count in pairs
        if (name, count) not in left_out
    ]


def list_teachers(dtype: str, device: torch.device, with_shallow: bool) -> list[SystemSpec]:
    """Return the systems of an autoregressive teacher; arguments as in `list_systems`."""
    specs = [
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


def _our_spec(
    model: Any, network: str, refinement: str, iterations: int, weights: str
) -> SystemSpec:
    family = type(model).__name__.removesuffix("ForConditionalGeneration")
    axis = " with target latents" if network == OUR_NETWORKS["target"] else ""
    is_first = refinement == next(iter(model.refinements))
    strategy = "" if is_first else f", {refinement.replace('_', ' ')}"
    count = f", {iterations} iteration{'' if iterations == 1 else 's'}"
    layout = "" if weights == PLAIN else f", {weights}"
    decoding: dict[str, Any] = {"iterations": iterations, "refinement": refinement}
    if weights == PACKED:
        decoding["packed"] = True
    dtype = str(model.dtype).removeprefix("torch.")
    return SystemSpec(f"{family}{axis}{strategy}{count}{layout}", OURS, dtype, decoding, network)


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
        fitting = [n for n in range(1, len(parts) + 1) if ", ".join(parts[:n]) in known]
        size = max(fitting, default=1)
        name = ", ".join(parts[:size])
        if name not in known:
            raise ValueError(
                f"`--systems` must name groups ({', '.join(groups)}) or systems "
                f"({'; '.join(spec.name for spec in specs)}); got {name!r}."
            )
        chosen += known[name]
        parts = parts[size:]
    return [spec for spec in specs if spec in chosen]
