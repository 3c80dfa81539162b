"""Diagonal Gaussians over latent vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class DiagonalGaussian:
    """A Gaussian with independent dimensions.

    Args:
        mean: Mean, `[batch, latent_len, latent_dim]`.
        std: Standard deviation, positive, `[batch, latent_len, latent_dim]`.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def from_head(cls, output: Tensor, std_floor: float) -> DiagonalGaussian:
        """Read a Gaussian off a linear layer.

        Args:
            output: Means, then raw standard deviations, `[..., 2 * latent_dim]`.
            std_floor: Added to the softplus, so that a KL divergence stays finite.
        """
        mean, raw_std = output.chunk(2, dim=-1)
        return cls(mean, functional.softplus(raw_std) + std_floor)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one latent, `[batch, latent_len, latent_dim]`, with gradients to mean and std."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + self.std * noise

    def kl_to(self, other: DiagonalGaussian) -> Tensor:
        """Return KL(self || other) of each position in nats, float32, `[batch, latent_len]`."""
        mean, std = self.mean.float(), self.std.float()
        other_mean, other_std = other.mean.float(), other.std.float()
        ratio = (std.square() + (mean - other_mean).square()) / (2 * other_std.square())
        return (other_std.log() - std.log() + ratio - 0.5).sum(-1)
