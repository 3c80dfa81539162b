"""How training knobs change over the steps of a run."""

from __future__ import annotations

from dataclasses import dataclass


def hold_then_fall(progress: float, hold: float) -> float:
    """Return 1 while a share `hold` of a run is done, then a straight line to 0 at its end.

    Args:
        progress: Share of the run that is done, from 0.
        hold: In [0, 1]; 1 holds to the end.
    """
    return 1.0 if progress <= hold else max(0.0, (1 - progress) / (1 - hold))


@dataclass(frozen=True)
class KLBudgetSchedule:
    """Hold the KL budget, then lower it to 0 in a straight line (Shu et al. 2020, section 5.2).

    Args:
        budget: Free nats of each source position at the start.
        hold: Share of the run for which the budget stays, in [0, 1]; the paper uses 0.5.

    Raises:
        ValueError: If a field is out of its range.
    """

    budget: float = 1.0
    hold: float = 0.5

    def __post_init__(self) -> None:
        if self.budget < 0:
            raise ValueError(f"`kl_budget` must not be negative, got {self.budget}.")
        if not 0 <= self.hold <= 1:
            raise ValueError(
                f"`kl_budget_hold` is a share of the run and must be in [0, 1], got {self.hold}. "
                f"Use 1 to keep the budget to the end."
            )

    def at(self, step: int, max_steps: int) -> float:
        """Return the budget in nats at an optimizer step of a run of `max_steps`."""
        return self.budget * hold_then_fall(step / max(max_steps, 1), self.hold)
