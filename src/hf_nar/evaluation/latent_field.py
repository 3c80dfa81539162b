"""Where score and energy networks would move the latents of one sentence (Lee et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_nar.evaluation.latent_plane import Plane, grid_places, grid_range, rounded
from hf_nar.evaluation.latent_sentence import LatentSentence, PathPoint
from hf_nar.inference import Translator
from hf_nar.remote_code.latent_drafts import draft_from_latent
from hf_nar.remote_code.refinement_state import own_scores, real_positions

ARROWS = 15  # along each axis


@dataclass(frozen=True)
class FieldPoint:
    """One point of a path, seen in the plane.

    Args:
        label: "prior mean", "iteration 1" and so on.
        x: Coordinate along the first axis.
        y: Coordinate along the second axis.
        distance: From the point to the plane; 0 where it lies in it.
        log_probability: Mean natural-log probability of the words of its best draft.
        draft: Vocabulary tokens of that draft, the end token last.
    """

    label: str
    x: float
    y: float
    distance: float
    log_probability: float
    draft: list[str]


@dataclass(frozen=True)
class FieldPath:
    """Where a refinement moves the latents.

    Args:
        refinement: "delta_posterior", "score" or "energy".
        points: The prior mean, and the latents after each iteration.
    """

    refinement: str
    points: list[FieldPoint]


@dataclass(frozen=True)
class RefinerField:
    """What a refiner would do at places in the plane.

    Args:
        refiner: "score" or "energy".
        steps_x: The step's part along the first axis, before `step_size`,
            `[len(arrow_y), len(arrow_x)]`.
        steps_y: The same along the second axis.
        energy: The energy, which is high where latents are good, `[len(grid_y), len(grid_x)]`;
            None for a score network, which has none.
    """

    refiner: str
    steps_x: list[list[float]]
    steps_y: list[list[float]]
    energy: list[list[float]] | None


@dataclass(frozen=True)
class LatentField:
    """A plane through latents of one sentence, with the steps of its refiners and their paths.

    It shows the latent of one position, while those of all others stay at the prior mean; or the
    latents of all positions as one long vector. Where that is two numbers, the plane is all there
    is; otherwise it is that of the two principal directions of the paths' points.

    Args:
        source: Sentence.
        source_tokens: Vocabulary tokens of the source, the end token last.
        latent_axis: "source" or "target": what positions count.
        position: Which one, from 1; None for all together.
        is_exact: Whether the plane is all there is.
        explained: Share of the spread of the paths' points that lies in the plane, 0 to 1.
        origin: Where the axes meet, `[size]`.
        axes: Two vectors of length 1 at a right angle, `[2, size]`.
        grid_x: Coordinates of the grid's columns.
        grid_y: Coordinates of the grid's rows.
        log_probability: Mean natural-log probability of the words of the best draft at each place
            of the grid, 0 for a draft without words, `[len(grid_y), len(grid_x)]`.
        arrow_x: Coordinates of the columns of arrows.
        arrow_y: Coordinates of their rows.
        fields: One for each refiner.
        paths: That of the delta posterior, and one for each refiner.
    """

    source: str
    source_tokens: list[str]
    latent_axis: str
    position: int | None
    is_exact: bool
    explained: float
    origin: list[float]
    axes: list[list[float]]
    grid_x: list[float]
    grid_y: list[float]
    log_probability: list[list[float]]
    arrow_x: list[float]
    arrow_y: list[float]
    fields: list[RefinerField]
    paths: list[FieldPath]


@torch.no_grad()  # not `inference_mode`: energy inference takes gradients
def measure_latent_field(
    translator: Translator,
    source: str,
    iterations: int = 4,
    resolution: int = 41,
    position: int | None = None,
) -> LatentField:
    """Follow the latents of one sentence, and measure the steps of refiners around them.

    Args:
        translator: A LaNMT with score or energy network, with its tokenizer.
        source: Sentence.
        iterations: Refinement iterations of each path.
        resolution: Points of the background's grid along each axis.
        position: Whose latent is shown, from 1. None takes, where `latent_dim` is 2, the position
            that the delta posterior moves most, and otherwise all together.

    Raises:
        ValueError: If the model has no refiner, a number is out of its range, or the sentence is
            empty or too long.
    """
    network: Any = translator.model
    refiners = list(getattr(network, "refiners", ()))
    _check(type(network).__name__, refiners, iterations, resolution)
    sentence = LatentSentence(translator, source)
    paths = {name: _path(sentence, name, iterations) for name in ("delta_posterior", *refiners)}
    view = _view(paths["delta_posterior"], position)
    vectors = {
        name: view.vectors(torch.stack([point.latent for point in path]))
        for name, path in paths.items()
    }
    everything = torch.cat(list(vectors.values()))
    plane = Plane.of_two_numbers() if view.size == 2 else Plane.through(everything)
    places = plane.coordinates(everything)
    columns, rows = (
        torch.linspace(*grid_range(places, axis), resolution, dtype=torch.float64)
        for axis in (0, 1)
    )
    arrow_x, arrow_y = (_arrow_ticks(ticks) for ticks in (columns, rows))
    grid = view.latents(plane.at(grid_places(columns, rows)))
    arrows = view.latents(plane.at(grid_places(arrow_x, arrow_y)))
    fields = []
    for name in refiners:
        steps = view.vectors(_steps(sentence, name, arrows)) @ plane.axes.T
        steps_x, steps_y = (_table(steps[:, axis], ARROWS) for axis in (0, 1))
        energy = _table(_energies(sentence, grid), resolution) if name == "energy" else None
        fields.append(RefinerField(name, steps_x, steps_y, energy))
    return LatentField(
        source=source,
        source_tokens=sentence.tokens(sentence.source_ids[0]),
        latent_axis="target" if network.has_target_latents else "source",
        position=None if view.index is None else view.index + 1,
        is_exact=view.size == 2,
        explained=round(plane.explained, 4),
        origin=rounded(plane.origin.tolist()),
        axes=[rounded(axis) for axis in plane.axes.tolist()],
        grid_x=rounded(columns.tolist()),
        grid_y=rounded(rows.tolist()),
        log_probability=_table(_log_probabilities(sentence, grid), resolution),
        arrow_x=rounded(arrow_x.tolist()),
        arrow_y=rounded(arrow_y.tolist()),
        fields=fields,
        paths=[
            FieldPath(name, _points(sentence, path, vectors[name], plane))
            for name, path in paths.items()
        ],
    )


def _check(network: str, refiners: Sequence[str], iterations: int, resolution: int) -> None:
    """Refuse what has no field."""
    if not refiners:
        raise ValueError(
            f"The model must have a score or an energy network, but this {network} has none. "
            f"Train one with `stage: refiner`; `hf-nar landscape` needs none."
        )
    if iterations < 1:
        raise ValueError(f"`iterations` must be at least 1, got {iterations}. There is no path.")
    if resolution < 2:
        raise ValueError(
            f"`resolution` must be at least 2, got {resolution}. Use 41 for a smooth picture."
        )


def _path(sentence: LatentSentence, refinement: str, iterations: int) -> list[PathPoint]:
    """Return the points of a path that runs every iteration."""
    knobs = {
        "refinement": refinement,
        "num_refinement_iterations": iterations,
        "stop_early": False,
    }
    return list(sentence.path(knobs))


@dataclass(frozen=True)
class _View:
    """Which part of the latents is looked at, while the rest stays as it is.

    Args:
        rest: The latents where nothing is looked at, `[latent_len, latent_dim]`.
        index: Position that is looked at, from 0; None for all of them.
    """

    rest: Tensor
    index: int | None

    @property
    def size(self) -> int:
        """How many numbers are looked at."""
        return self.rest.numel() if self.index is None else self.rest.shape[1]

    def vectors(self, latents: Tensor) -> Tensor:
        """Return what is looked at of `[count, latent_len, latent_dim]`, float64, `[count, size]`.

        It is on the CPU, as the plane is.
        """
        chosen = latents.flatten(1) if self.index is None else latents[:, self.index]
        return chosen.double().cpu()

    def latents(self, vectors: Tensor) -> Tensor:
        """Return latents `[count, latent_len, latent_dim]` with these vectors in their place."""
        if self.index is None:
            together: Tensor = vectors.unflatten(1, self.rest.shape)
            return together
        latents = self.rest.double().cpu().repeat(len(vectors), 1, 1)
        latents[:, self.index] = vectors
        return latents


def _view(path: Sequence[PathPoint], position: int | None) -> _View:
    """Return what is looked at; see `measure_latent_field`."""
    start, end = path[0].latent, path[-1].latent
    length, dim = start.shape
    if position is not None and not 1 <= position <= length:
        raise ValueError(
            f"`position` must be in 1 to {length}, as this sentence has so many latents; got "
            f"{position}."
        )
    if position is None and dim == 2:
        position = int((end - start).norm(dim=-1).argmax()) + 1
    view = _View(start, None if position is None else position - 1)
    if view.size < 2:
        raise ValueError(
            "A plane needs at least two numbers, but there is one latent, of one number. "
            "Leave out `position`, or take a longer sentence."
        )
    return view


def _arrow_ticks(ticks: Tensor) -> Tensor:
    """Return the middles of `ARROWS` equal parts of an axis."""
    low, high = float(ticks[0]), float(ticks[-1])
    half = (high - low) / ARROWS / 2
    return torch.linspace(low + half, high - half, ARROWS, dtype=torch.float64)


def _context(sentence: LatentSentence, refiner: str, source: Any, latent: Tensor) -> Any:
    lengths = sentence.network.predict_length(latent, source)
    return sentence.network.read_source(refiner, real_positions(lengths), source)


def _steps(sentence: LatentSentence, refiner: str, latents: Tensor) -> Tensor:
    """Return a refiner's step at latents, in their shape."""
    steps = [
        sentence.network.latent_step(refiner, latent, _context(sentence, refiner, source, latent))
        for source, latent in sentence.batches(latents)
    ]
    return torch.cat(steps)


def _energies(sentence: LatentSentence, latents: Tensor) -> Tensor:
    """Return the energy at latents, `[count]`."""
    energy = sentence.network.refiners["energy"]
    values = [
        energy(latent, _context(sentence, "energy", source, latent))
        for source, latent in sentence.batches(latents)
    ]
    return torch.cat(values)


def _log_probabilities(sentence: LatentSentence, latents: Tensor) -> Tensor:
    """Return the mean log probability of the words of the best draft at latents, `[count]`."""
    limit = int(sentence.network.config.max_target_length)
    scores = [
        own_scores(draft_from_latent(sentence.network, source, latent, limit))
        for source, latent in sentence.batches(latents)
    ]
    found = torch.cat(scores)
    return found.masked_fill(found.isneginf(), 0.0)


def _points(
    sentence: LatentSentence, path: Sequence[PathPoint], vectors: Tensor, plane: Plane
) -> list[FieldPoint]:
    """Return the points of a path as they lie in the plane."""
    places = plane.coordinates(vectors)
    distances = (vectors - plane.at(places)).norm(dim=-1)
    scores = _log_probabilities(sentence, torch.stack([point.latent for point in path]))
    numbers = torch.cat([places, distances[:, None], scores.double().cpu()[:, None]], dim=1)
    points = []
    for point, row in zip(path, numbers.tolist(), strict=True):
        x, y, distance, score = rounded(row)
        points.append(FieldPoint(point.label, x, y, distance, score, point.draft))
    return points


def _table(values: Tensor, width: int) -> list[list[float]]:
    """Return values of a grid, row by row, `[rows, width]`."""
    return [rounded(row) for row in values.double().view(-1, width).tolist()]
