"""The latents of one sentence as a plane: the path of refinement and the likelihood around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hf_nar.evaluation.latent_plane import Plane, grid_places, grid_range, rounded
from hf_nar.evaluation.latent_sentence import LatentSentence, PathPoint
from hf_nar.inference import Translator


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

    The latents of all positions are one long vector of `latent_len * latent_dim` numbers. Where
    latents have target length, they have that of the given target.

    Args:
        source: Sentence.
        target: Its reference translation.
        source_tokens: Vocabulary tokens of the source, the end token last.
        target_tokens: Vocabulary tokens of the target, the end token last.
        points: The prior mean, the latent after each iteration, and the posterior mean.
        explained: Share of the points' spread (sum of squared distances to their mean) that lies
            in the plane, 0 to 1; 1 where they all coincide.
        origin: Where the axes meet, the mean of the points, `[latent_len * latent_dim]`.
        axes: Two vectors of length 1 at a right angle, `[2, latent_len * latent_dim]`.
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


@torch.no_grad()  # not `inference_mode`: energy inference takes gradients
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
    pair = _Pair(translator, source, target)
    path = [*pair.path({"num_refinement_iterations": iterations}), pair.posterior_mean()]
    stacked = torch.stack([point.latent.flatten() for point in path]).double().cpu()
    plane = Plane.through(stacked)
    places = plane.coordinates(stacked)
    distances = (stacked - plane.at(places)).norm(dim=-1)
    likelihoods = pair.log_likelihood(stacked)
    columns, rows = (
        torch.linspace(*grid_range(places, axis), resolution, dtype=torch.float64)
        for axis in (0, 1)
    )
    grid = pair.log_likelihood(plane.at(grid_places(columns, rows))).view(resolution, resolution)
    numbers = torch.cat([places, distances[:, None], likelihoods[:, None]], dim=1)
    points = []
    for point, row in zip(path, numbers.tolist(), strict=True):
        x, y, distance, value = rounded(row)
        points.append(LatentPoint(point.label, x, y, distance, value, point.draft))
    return LatentSpace(
        source=source,
        target=target,
        source_tokens=pair.tokens(pair.source_ids[0]),
        target_tokens=pair.tokens(pair.target_ids[0]),
        points=points,
        explained=round(plane.explained, 4),
        origin=rounded(plane.origin.tolist()),
        axes=[rounded(axis) for axis in plane.axes.tolist()],
        grid_x=rounded(columns.tolist()),
        grid_y=rounded(rows.tolist()),
        log_likelihood=[rounded(row) for row in grid.tolist()],
    )


class _Pair(LatentSentence):
    """A sentence and its reference translation."""

    def __init__(self, translator: Translator, source: str, target: str) -> None:
        self.translator = translator
        limit = int(translator.model.config.max_target_length)
        self.target_ids = self.token_ids(target, "target", limit)
        unknown = translator.tokenizer.unk_token_id
        if unknown is not None and bool((self.target_ids == unknown).any()):
            raise ValueError(
                f"`target` must consist of tokens that the model can decode, but its vocabulary "
                f"lacks a part of {target!r}. Take another sentence."
            )
        super().__init__(translator, source, self.target_ids.shape[1])

    def posterior_mean(self) -> PathPoint:
        """Return the posterior mean given the reference."""
        mask = torch.ones_like(self.target_ids, dtype=torch.bool)
        latent = self.network.infer_posterior(self.target_ids, mask, self.source).mean
        logits = self.network.decode(latent, mask.sum(-1), self.source)
        return PathPoint("posterior mean", latent[0], self.tokens(logits[0].argmax(-1)))

    def log_likelihood(self, latents: Tensor) -> Tensor:
        """Return log p(target | latent, source, target length) in nats, float64, `[count]`.

        Args:
            latents: Of all positions as one vector, `[count, latent_len * latent_dim]`.
        """
        values = []
        size = (-1, int(self.network.config.latent_dim))
        for source, latent in self.batches(latents.unflatten(-1, size)):
            targets = self.target_ids.expand(len(latent), -1)
            lengths = torch.full((len(latent),), targets.shape[1], device=latent.device)
            scores = self.network.decode(latent, lengths, source).float().log_softmax(-1)
            chosen = scores.gather(-1, targets[..., None])[..., 0]  # [count, target_len]
            values.append(chosen.double().sum(-1).cpu())
        return torch.cat(values)
