"""No refinement: decode from the prior mean (Shu et al. 2020, section 4)."""

from __future__ import annotations

from dataclasses import dataclass

from .refinement_delta_posterior import DeltaPosterior


@dataclass(frozen=True)
class PriorMean(DeltaPosterior):
    """Decode once, from the prior mean or from latents around it.

    Args:
        iterations: Not read: there are none.
        max_length: Longest draft, in tokens with the end token.
        stop_early: Not read.

    Raises:
        ValueError: If a field is out of its range.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "iterations", 0)
