"""Refinement up the gradient of a learnt energy (Lee, Shu and Cho 2020, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .refinement_score import ScoreAscent


@dataclass(frozen=True)
class EnergyAscent(ScoreAscent):
    """Move the latents up the gradient of an energy, several times, and decode once at the end.

    As `ScoreAscent`, whose arguments it has; one iteration asks the network for one energy and its
    gradient, a pass forwards and one backwards.
    """

    refiner: ClassVar[str] = "energy"
