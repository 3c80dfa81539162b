"""What one refinement iteration of each strategy costs, in the rounds of a speed benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hf_nar.evaluation.benchmark import MODEL, Cell, Timing
from hf_nar.evaluation.engines import Engine


@dataclass(frozen=True)
class Step:
    """The cost of one iteration: what more of them add, and nothing that is done once a sentence.

    Args:
        fewer: Name of the system with fewer iterations.
        more: Name of the one with more of them, and nothing else different.
        refinement: Their strategy.
        batch_size: See `Cell`, as `length`.
        length: See `Cell`.
        step_ms: Milliseconds an iteration, of the model alone, median over rounds.
        of_first: `step_ms` as a share of that of the network's first strategy, such as a score step
            of a delta step; None where that was not measured.
    """

    fewer: str
    more: str
    refinement: str
    batch_size: int
    length: int | None
    step_ms: float
    of_first: float | None


def steps_of(
    systems: Sequence[Engine], cell: Cell, timings: Sequence[Sequence[Timing]]
) -> list[Step]:
    """Compare the systems of ours that differ in their number of iterations alone.

    The fewest and the most iterations are compared, 0 of them only if there is one other count: the
    first iteration also pays for what is done once. Real text is left out, as there rows stop
    by themselves.
    """
    if cell.length is None:
        return []
    groups = _groups(systems)
    steps: list[Step] = []
    firsts: dict[tuple[str, bool], float] = {}
    for (network, packed, refinement), of_count in groups.items():
        counts = sorted(of_count)
        fewest, most = (counts[1] if len(counts) > 2 and not counts[0] else counts[0]), counts[-1]
        if fewest == most:
            continue
        fewer, more = of_count[fewest], of_count[most]
        cost = 1000 * statistics.median(
            (long.seconds[MODEL] - short.seconds[MODEL]) / (most - fewest)
            for short, long in zip(timings[fewer], timings[more], strict=True)
        )
        first = firsts.get((network, packed))
        if refinement == _first_refinement(systems, network):
            first = firsts[network, packed] = cost
        steps.append(
            Step(
                fewer=systems[fewer].spec.name,
                more=systems[more].spec.name,
                refinement=refinement,
                batch_size=cell.batch_size,
                length=cell.length,
                step_ms=round(cost, 3),
                of_first=None if first is None or first <= 0 else round(cost / first, 3),
            )
        )
    return steps


def _groups(systems: Sequence[Engine]) -> dict[tuple[str, bool, str], dict[int, int]]:
    """Return the index of each of ours by network, layout and strategy, then by iterations.

    0 iterations are in every group of their network and layout: they are the same for all.
    """
    groups: dict[tuple[str, bool, str], dict[int, int]] = {}
    drafts: dict[tuple[str, bool], int] = {}
    for i, system in enumerate(systems):
        if not system.spec.is_ours:
            continue
        decoding = system.spec.decoding
        kind = system.spec.network, bool(decoding.get("packed", False))
        if decoding["iterations"]:
            groups.setdefault((*kind, decoding["refinement"]), {})[decoding["iterations"]] = i
        else:
            drafts[kind] = i
    for (network, packed, _), of_count in groups.items():
        if (network, packed) in drafts:
            of_count[0] = drafts[network, packed]
    return groups


def _first_refinement(systems: Sequence[Engine], network: str) -> str:
    """Return the strategy of a network that is listed first."""
    specs = (system.spec for system in systems)
    return next(str(s.decoding["refinement"]) for s in specs if s.network == network)
