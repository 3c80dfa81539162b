"""Refinement up the gradient of a learnt energy (Lee, Shu and Cho 2020, section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from .refinement_score import ScoreAscent
from .refinement_state import LatentNetwork, take_rows

# A step that would lower the energy is tried shorter, as often as this, by half each time.
HALVINGS = 3


@dataclass(frozen=True)
class EnergyAscent(ScoreAscent):
    """Move the latents up the gradient of an energy, several times, and decode once at the end.

    As `ScoreAscent`, whose arguments it has; one iteration asks the network for one energy and its
    gradient, a pass forwards and one backwards, and for the energies at the ends of the step and of
    shorter ones, a pass forwards. Each row takes the longest that raises its energy, or stays: no
    iteration lowers it, but where `line_search` prefers another. The paper takes every step whole.
    """

    refiner: ClassVar[str] = "energy"

    def _step(self, network: LatentNetwork, latent: Tensor, context: Any) -> Tensor:
        step = super()._step(network, latent, context)
        halvings = torch.arange(HALVINGS + 2, device=step.device)
        factors = (0.5**halvings).masked_fill(halvings > HALVINGS, 0)  # the last one stays
        steps = factors.to(step)[:, None, None, None] * step  # [factors, batch, ...]
        rows = torch.arange(len(step), device=step.device).repeat(len(factors))
        ends = (latent + steps).flatten(0, 1)
        energies = network.latent_energy(ends, take_rows(context, rows)).view(len(factors), -1)
        longest = (energies > energies[-1]).int().argmax(0)  # the first of those that rise
        longest = torch.where(energies.amax(0) > energies[-1], longest, len(factors) - 1)
        return factors.to(step)[longest][:, None, None] * step
