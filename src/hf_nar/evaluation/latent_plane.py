"""Planes through latents, and grids in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MARGIN = 0.35  # room around the points, as a share of their widest spread
LONE_MARGIN = 1.0  # room where all points coincide, in units of the latents
PLANE_SEED = 0


@dataclass(frozen=True)
class Plane:
    """A plane through points.

    Args:
        origin: Mean of the points, float64, `[size]`.
        axes: Two vectors of length 1 at a right angle, float64, `[2, size]`.
        explained: Share of the points' spread that lies in the plane, 0 to 1.
    """

    origin: Tensor
    axes: Tensor
    explained: float

    @classmethod
    def through(cls, points: Tensor) -> Plane:
        """Return the plane of the two principal directions of points.

        Where the points coincide or lie on a line, a direction drawn from a fixed seed completes
        the plane. The first axis points from the first point to the last one.

        Args:
            points: `[count, size]`, size at least 2.
        """
        points = points.double()
        origin = points.mean(0)
        _, spreads, directions = torch.linalg.svd(points - origin, full_matrices=False)
        # What rounding leaves of a spread that is 0 has no direction.
        floor = 1e-6 * max(float(points.abs().max()), 1.0)
        generator = torch.Generator().manual_seed(PLANE_SEED)
        axes: list[Tensor] = []
        for number in range(2):
            has_spread = number < len(spreads) and float(spreads[number]) > floor
            axis = (
                directions[number]
                if has_spread
                else torch.randn(len(origin), generator=generator, dtype=torch.float64)
            )
            for other in axes:
                axis = axis - (axis @ other) * other
            axis = axis / axis.norm()
            # The sign of a principal direction is arbitrary, but a picture must not be.
            way = points[-1] - points[0] if number == 0 else points[0] - origin
            axes.append(-axis if float(axis @ way) < 0 else axis)
        total = float(spreads.square().sum())
        inside = float(spreads[:2].square().sum())
        return cls(origin, torch.stack(axes), inside / total if total > floor**2 else 1.0)

    @classmethod
    def of_two_numbers(cls) -> Plane:
        """Return the plane that two numbers are, as they are."""
        return cls(torch.zeros(2).double(), torch.eye(2).double(), 1.0)

    def coordinates(self, points: Tensor) -> Tensor:
        """Return the place of points `[count, size]` in the plane, float64, `[count, 2]`."""
        return (points.double() - self.origin) @ self.axes.T

    def at(self, coordinates: Tensor) -> Tensor:
        """Return the points `[count, size]` at places `[count, 2]` in the plane, float64."""
        return self.origin + coordinates.double() @ self.axes


def grid_range(places: Tensor, axis: int) -> tuple[float, float]:
    """Return where a grid around points begins and ends along an axis.

    The room around the points is the same on all four sides.

    Args:
        places: In the plane, `[count, 2]`.
        axis: 0 or 1.
    """
    low, high = places.min(0).values, places.max(0).values
    margin = MARGIN * float((high - low).max()) or LONE_MARGIN
    return float(low[axis]) - margin, float(high[axis]) + margin


def grid_places(columns: Tensor, rows: Tensor) -> Tensor:
    """Return all places of a grid, row by row, `[len(rows) * len(columns), 2]`."""
    return torch.cartesian_prod(rows, columns).flip(-1)


def rounded(values: Sequence[float]) -> list[float]:
    """Return numbers as they are written into a results file."""
    return [round(value, 6) for value in values]
