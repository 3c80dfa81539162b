"""The latents of one sentence as a plane: the path of refinement and the likelihood around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_nar.inference import Translator

MARGIN = 0.35  # room around the points, as a share of their widest spread
LONE_MARGIN = 1.0  # room where all points coincide, in units of the latents
GRID_BATCH = 64  # points decoded at once, so that logits of a large vocabulary fit in memory
PLANE_SEED = 0


@dataclass(frozen=True)
class LatentPoint:
    """One latent on its way, seen in the plane.

    Args:
        label: "prior mean", "iteration 1" and so on, or "posterior mean".
        x: Coordinate along the first axis.
        y: Coordinate along the second axis.
        distance: From the point to the plane; 0 where it lies in it.
        log_likelihood: log p(target | latent, source, target length) at the point itself, not at
            its place in the plane, in nats, summed over the target.
        draft: Vocabulary tokens decoded from the latent, with the length predicted there; for the
            posterior mean with the length of the target.
    """

    label: str
    x: float
    y: float
    distance: float
    log_likelihood: float
    draft: list[str]


@dataclass(frozen=True)
class LatentSpace:
    """A plane through the latents of one sentence, and the likelihood of its target there.

    The latents of all source positions are one long vector of `source_len * latent_dim` numbers.

    Args:
        source: Sentence.
        target: Its reference translation.
        source_tokens: Vocabulary tokens of the source, the end token last.
        target_tokens: Vocabulary tokens of the target, the end token last.
        points: The prior mean, the latent after each iteration, and the posterior mean.
        explained: Share of the points' spread (sum of squared distances to their mean) that lies
            in the plane, 0 to 1; 1 where they all coincide.
        origin: Where the axes meet, the mean of the points, `[source_len * latent_dim]`.
        axes: Two vectors of length 1 at a right angle, `[2, source_len * latent_dim]`.
        grid_x: Coordinates of the grid's columns.
        grid_y: Coordinates of the grid's rows.
        log_likelihood: log p(target | latent, source, target length) on the grid, in nats, summed
            over the target, `[len(grid_y), len(grid_x)]`.
    """

    source: str
    target: str
    source_tokens: list[str]
    target_tokens: list[str]
    points: list[LatentPoint]
    explained: float
    origin: list[float]
    axes: list[list[float]]
    grid_x: list[float]
    grid_y: list[float]
    log_likelihood: list[list[float]]


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

    def coordinates(self, points: Tensor) -> Tensor:
        """Return the place of points `[count, size]` in the plane, float64, `[count, 2]`."""
        return (points.double() - self.origin) @ self.axes.T

    def at(self, coordinates: Tensor) -> Tensor:
        """Return the points `[count, size]` at places `[count, 2]` in the plane, float64."""
        return self.origin + coordinates.double() @ self.axes


@torch.inference_mode()
def measure_latent_space(
    translator: Translator, source: str, target: str, iterations: int = 4, resolution: int = 41
) -> LatentSpace:
    """Follow the latents of one sentence and measure the target's likelihood around them.

    Args:
        translator: A model that refines latents, with its tokenizer.
        source: Sentence.
        target: Its reference translation.
        iterations: Refinement iterations; fewer are shown where a draft repeats earlier.
        resolution: Points of the grid along each axis.

    Returns:
        The plane with its points and its grid.

    Raises:
        ValueError: If a number is out of its range, a sentence is empty or too long, the target
            has words that the vocabulary lacks, or the model has no latents.
    """
    if iterations < 1:
        raise ValueError(f"`iterations` must be at least 1, got {iterations}. There is no path.")
    if resolution < 2:
        raise ValueError(
            f"`resolution` must be at least 2, got {resolution}. Use 41 for a smooth picture."
        )
    sentence = _Sentence(translator, source, target)
    labels, latents, drafts = zip(*sentence.path(iterations), strict=True)
    stacked = torch.stack([latent.flatten() for latent in latents]).double().cpu()
    plane = Plane.through(stacked)
    places = plane.coordinates(stacked)
    distances = (stacked - plane.at(places)).norm(dim=-1)
    likelihoods = sentence.log_likelihood(stacked)
    columns, rows = (_ticks(places, axis, resolution) for axis in (0, 1))
    mesh = torch.cartesian_prod(rows, columns).flip(-1)  # [rows * columns, (x, y)]
    grid = sentence.log_likelihood(plane.at(mesh)).view(resolution, resolution)
    numbers = torch.cat([places, distances[:, None], likelihoods[:, None]], dim=1)
    points = []
    for label, row, draft in zip(labels, numbers.tolist(), drafts, strict=True):
        x, y, distance, value = _rounded(row)
        points.append(LatentPoint(label, x, y, distance, value, draft))
    return LatentSpace(
        source=source,
        target=target,
        source_tokens=sentence.tokens(sentence.source_ids[0]),
        target_tokens=sentence.tokens(sentence.target_ids[0]),
        points=points,
        explained=round(plane.explained, 4),
        origin=_rounded(plane.origin.tolist()),
        axes=[_rounded(axis) for axis in plane.axes.tolist()],
        grid_x=_rounded(columns.tolist()),
        grid_y=_rounded(rows.tolist()),
        log_likelihood=[_rounded(row) for row in grid.tolist()],
    )


class _Sentence:
    """One pair of sentences, ready to be decoded at many latents."""

    def __init__(self, translator: Translator, source: str, target: str) -> None:
        self.translator = translator
        network: Any = translator.model
        self.network = network
        self.source_ids = self._ids(source, "source", translator.max_source_tokens)
        limit = int(self.network.config.max_target_length)
        self.target_ids = self._ids(target, "target", limit)
        unknown = translator.tokenizer.unk_token_id
        if unknown is not None and bool((self.target_ids == unknown).any()):
            raise ValueError(
                f"`target` must consist of tokens that the model can decode, but its vocabulary "
                f"lacks a part of {target!r}. Take another sentence."
            )
        self.source = self.network.encode(self.source_ids)

    def _ids(self, text: str, name: str, limit: int) -> Tensor:
        """Return token ids with the end token, `[1, length]`."""
        if not text.strip():
            raise ValueError(f"`{name}` must be a sentence, got {text!r}.")
        ids = self.translator.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        if len(ids) > limit:
            raise ValueError(
                f"`{name}` must have at most {limit} tokens for this model; it has {len(ids)}. "
                f"Take a shorter sentence."
            )
        return torch.tensor([ids], device=self.network.device)

    def tokens(self, ids: Tensor) -> list[str]:
        """Return the vocabulary tokens of ids `[length]`, frame included."""
        names = self.translator.tokenizer.convert_ids_to_tokens(ids.tolist())
        return [str(name) for name in names]

    def path(self, iterations: int) -> Iterator[tuple[str, Tensor, list[str]]]:
        """Yield label, latent `[latent_len, latent_dim]` and draft of each point of the path."""
        knobs = self.network.resolve_knobs({"num_refinement_iterations": iterations})
        strategy = self.network.build_strategy(knobs)
        state = strategy.draft(self.network, self.source)
        yield "prior mean", self._latent(state), self.tokens(state.tokens[0])
        for iteration in range(1, iterations + 1):
            state = strategy.refine(self.network, self.source, state)
            yield f"iteration {iteration}", self._latent(state), self.tokens(state.tokens[0])
            if bool(state.is_finished):
                break
        mask = torch.ones_like(self.target_ids, dtype=torch.bool)
        latent = self.network.infer_posterior(self.target_ids, mask, self.source).mean
        logits = self.network.decode(latent, mask.sum(-1), self.source)
        yield "posterior mean", latent[0], self.tokens(logits[0].argmax(-1))

    def _latent(self, state: Any) -> Tensor:
        if state.latent is None:
            raise ValueError(
                f"The model must refine latents, but {type(self.network).__name__} refines tokens. "
                f"Take a model such as LaNMT."
            )
        latent: Tensor = state.latent[0]
        return latent

    def log_likelihood(self, latents: Tensor) -> Tensor:
        """Return log p(target | latent, source, target length) in nats, float64, `[count]`.

        Args:
            latents: Of all positions as one vector, `[count, latent_len * latent_dim]`.
        """
        size = (self.source_ids.shape[1], -1)
        values = []
        for batch in torch.split(latents, GRID_BATCH):
            source = self.network.encode(self.source_ids.expand(len(batch), -1))
            latent = batch.to(self.network.device, self.network.dtype).unflatten(-1, size)
            targets = self.target_ids.expand(len(batch), -1)
            lengths = torch.full((len(batch),), targets.shape[1], device=latent.device)
            scores = self.network.decode(latent, lengths, source).float().log_softmax(-1)
            chosen = scores.gather(-1, targets[..., None])[..., 0]  # [count, target_len]
            values.append(chosen.double().sum(-1).cpu())
        return torch.cat(values)


def _ticks(places: Tensor, axis: int, resolution: int) -> Tensor:
    """Return the grid's coordinates along an axis, float64, `[resolution]`.

    The room around the points is the same on all four sides.
    """
    low, high = places.min(0).values, places.max(0).values
    margin = MARGIN * float((high - low).max()) or LONE_MARGIN
    return torch.linspace(
        float(low[axis]) - margin, float(high[axis]) + margin, resolution, dtype=torch.float64
    )


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 6) for value in values]
