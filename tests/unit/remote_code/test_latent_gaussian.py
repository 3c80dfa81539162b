import torch
from torch.distributions import Normal, kl_divergence

from hf_nar.remote_code.latent_gaussian import DiagonalGaussian


def random_gaussian(seed: int, dtype: torch.dtype = torch.float32) -> DiagonalGaussian:
    output = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(seed))
    return DiagonalGaussian.from_head(output.to(dtype), std_floor=1e-3)


def test_kl_agrees_with_torch_distributions_if_std_is_a_standard_deviation():
    ours, other = random_gaussian(0), random_gaussian(1)

    kl = ours.kl_to(other)

    expected = kl_divergence(Normal(ours.mean, ours.std), Normal(other.mean, other.std)).sum(-1)
    torch.testing.assert_close(kl, expected)


def test_kl_of_half_precision_is_computed_in_float32():
    ours, other = random_gaussian(0, torch.bfloat16), random_gaussian(1, torch.bfloat16)

    kl = ours.kl_to(other)

    expected = DiagonalGaussian(ours.mean.float(), ours.std.float()).kl_to(
        DiagonalGaussian(other.mean.float(), other.std.float())
    )
    assert kl.dtype == torch.float32
    torch.testing.assert_close(kl, expected)


def test_std_has_a_floor_so_that_kl_stays_finite():
    collapsed = DiagonalGaussian.from_head(torch.full((1, 1, 4), -1000.0), std_floor=1e-3)
    ours = DiagonalGaussian(torch.zeros(1, 1, 2), torch.ones(1, 1, 2))

    assert collapsed.std.tolist() == [[[1e-3, 1e-3]]] or collapsed.std.min() > 0.99e-3
    assert torch.isfinite(ours.kl_to(collapsed)).all()


def test_samples_have_the_mean_and_the_standard_deviation():
    gaussian = DiagonalGaussian(torch.full((20000, 1, 1), 3.0), torch.full((20000, 1, 1), 0.5))

    sample = gaussian.sample(torch.Generator().manual_seed(0))

    assert abs(sample.mean() - 3.0) < 0.02
    assert abs(sample.std() - 0.5) < 0.02


def test_the_same_generator_seed_draws_the_same_sample():
    gaussian = random_gaussian(0)

    first, second = (gaussian.sample(torch.Generator().manual_seed(7)) for _ in range(2))

    assert torch.equal(first, second)
