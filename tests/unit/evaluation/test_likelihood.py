"""Estimates of log p(y|x) against cases whose answer is known."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from tiny_networks import EOS, refiner_model
from tiny_refinement import new_refinement_model

from hf_nar.evaluation.likelihood import (
    POSTERIOR_NOISE,
    Likelihood,
    log_weights,
    measure_likelihood,
)
from hf_nar.inference import Translator, line_generators
from hf_nar.remote_code.latent_gaussian import DiagonalGaussian

AXES = pytest.mark.parametrize("axis", ["source", "target"])
OFFSET = 20  # largest, of a target's length from its source's
SOURCES = ["Ein Hund läuft im Schnee.", "Eine Katze", "Ein Vogel sitzt unter dem Baum."]
TARGETS = [[7, 8, 9, 10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34, 35]]


@pytest.fixture
def translator_of(tiny_tokenizer):
    def build(axis="source", offset=OFFSET):
        shape = {"vocab_size": len(tiny_tokenizer), "max_length_offset": offset}
        return Translator(refiner_model(axis, **shape), tiny_tokenizer)

    return build


# A model whose marginal is known


@dataclass(frozen=True)
class Coin:
    """One latent z ~ N(0, 1) and one word, "heads" with probability sigmoid(z).

    By symmetry heads have probability 1/2; its length has probability 1/4. The posterior is wrong.
    """

    pad_token_id = 0
    has_target_latents = True

    @property
    def length_predictor(self):
        class Uniform:
            def __call__(self, hidden, mask):
                return torch.zeros(len(hidden), 4)

            def target_class(self, source_lengths, target_lengths):
                return torch.full_like(source_lengths, 2)

        return Uniform()

    def encode(self, sources, mask, target_lengths):
        return SimpleNamespace(
            states=torch.zeros(len(sources), 1, 1), mask=mask, lengths=mask.sum(-1)
        )

    def infer_prior(self, source):
        return DiagonalGaussian(source.states, source.states + 1)

    def infer_posterior(self, tokens, mask, source):
        return DiagonalGaussian(source.states + 0.4, source.states + 1.1)

    def latent_mask(self, target_mask, source):
        return target_mask

    def decode(self, latent, lengths, source):
        padding, tails = torch.full_like(latent, -torch.inf), torch.zeros_like(latent)
        return torch.cat([padding, tails, latent], dim=-1)


@pytest.fixture(scope="module")
def coin_weights():
    """Return log weights of many throws, `[samples]`."""
    heads = torch.full((400, 1), 2)
    return log_weights(Coin(), heads, heads, line_generators(3, len(heads)), 64).T.flatten()


def test_the_estimate_comes_to_the_marginal_that_is_known(coin_weights):
    found = coin_weights.logsumexp(0) - math.log(len(coin_weights))

    assert float(found) == pytest.approx(math.log(1 / 2 * 1 / 4), abs=0.01)


def test_more_samples_bring_the_bound_nearer_to_the_marginal(coin_weights):
    bounds = [
        float((coin_weights.view(-1, k).logsumexp(-1) - math.log(k)).mean()) for k in (1, 4, 16, 64)
    ]

    assert bounds == sorted(bounds)
    assert bounds[0] == pytest.approx(float(coin_weights.mean()))  # the ELBO
    assert bounds[-1] - bounds[0] > 0.02
    assert bounds[-1] < math.log(1 / 8) + 0.005


# The real network


@torch.no_grad()
@AXES
def test_it_is_exact_where_latents_say_nothing(translator_of, axis):
    translator = translator_of(axis)
    model = translator.model
    for name in ("prior_head", "posterior_head", "latent_projection"):
        torch.nn.init.zeros_(model.get_submodule(name).weight)

    found = measure_likelihood(translator, SOURCES, TARGETS, samples=3)

    for number, (text, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        ids = torch.tensor([translator.tokenizer(text)["input_ids"]])
        whole = torch.tensor([[*target, EOS]])
        length = torch.tensor([whole.shape[1]])
        source = model.encode(ids, target_lengths=length)
        prior = model.infer_prior(source)
        logits = model.decode(prior.mean, length, source)
        words = logits.log_softmax(-1).gather(-1, whole[..., None]).sum()
        offset = whole.shape[1] - ids.shape[1] + OFFSET
        right = words + model.first_length_logits(source).log_softmax(-1)[0, offset]
        assert found.elbo[number] == pytest.approx(float(right), abs=1e-4)
        assert found.marginal[number] == pytest.approx(float(right), abs=1e-4)
    assert found.tokens == [8, 3, 7]


@torch.no_grad()
@AXES
def test_one_sample_is_weighed_by_all_that_the_model_says(translator_of, axis):
    translator = translator_of(axis)
    model, tokenizer = translator.model, translator.tokenizer
    found = measure_likelihood(translator, SOURCES[:1], TARGETS[:1], samples=1, seed=5)

    ids = torch.tensor([tokenizer(SOURCES[0])["input_ids"]])
    target = torch.tensor([[*TARGETS[0], EOS]])
    length = torch.tensor([target.shape[1]])
    source = model.encode(ids, target_lengths=length)
    prior = model.infer_prior(source)
    posterior = model.infer_posterior(target, torch.ones_like(target, dtype=torch.bool), source)
    (generator,) = line_generators(5 + POSTERIOR_NOISE, 1)
    noise = torch.randn((1, *posterior.mean.shape[1:]), generator=generator)
    latent = posterior.mean + posterior.std * noise
    density = [
        torch.distributions.Normal(gaussian.mean, gaussian.std).log_prob(latent).sum()
        for gaussian in (prior, posterior)
    ]
    words = model.decode(latent, length, source).log_softmax(-1)
    hidden = source.states
    if axis == "source":
        hidden = hidden + model.latent_projection(latent)
    lengths = model.length_predictor(hidden, source.mask).log_softmax(-1)
    right = words.gather(-1, target[..., None]).sum() + density[0] - density[1]
    right = right + lengths[0, target.shape[1] - ids.shape[1] + OFFSET]
    assert found.elbo == pytest.approx([float(right)], abs=1e-3)
    assert found.marginal == found.elbo


@AXES
def test_batches_change_nothing_but_rounding(translator_of, axis):
    translator = translator_of(axis)

    together = measure_likelihood(translator, SOURCES, TARGETS, samples=4, batch_size=3)

    one_by_one = measure_likelihood(translator, SOURCES, TARGETS, samples=4, batch_size=1)
    assert together.elbo == pytest.approx(one_by_one.elbo, abs=1e-3)
    assert together.marginal == pytest.approx(one_by_one.marginal, abs=1e-3)
    assert len({len(target) for target in TARGETS}) == 3  # else nothing is padded


def test_the_marginal_is_never_below_the_elbo(translator_of):
    translator = translator_of()

    found = measure_likelihood(translator, SOURCES, TARGETS, samples=9)

    assert all(high > low for high, low in zip(found.marginal, found.elbo, strict=True))


def test_the_seed_decides_the_samples(translator_of):
    translator = translator_of()

    first, again, other = (
        measure_likelihood(translator, SOURCES, TARGETS, samples=2, seed=seed).elbo
        for seed in (1, 1, 2)
    )

    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_what_the_model_cannot_write_is_left_out_and_counted(translator_of):
    translator = translator_of(offset=9)
    model, tokenizer = translator.model, translator.tokenizer
    model.config.max_target_length = 9
    source = SOURCES[0]
    size = len(tokenizer(source)["input_ids"])
    longest = [7] * 8
    cases = [longest, [*longest, 7], [tokenizer.unk_token_id], TARGETS[0], [7] * (size - 11)]

    found = measure_likelihood(translator, [source] * 5, cases, samples=2)

    kept = measure_likelihood(translator, [source], [longest], samples=2)
    assert (found.tokens, found.left_out) == ([9, 8], 3)
    assert found.elbo[0] == pytest.approx(kept.elbo[0], abs=1e-3)


def test_a_row_has_means_over_sentences_and_over_tokens():
    row = Likelihood([-3.0, -5.0], [-2.0, -4.0], [3, 1], left_out=1).as_row()

    assert row == {
        "elbo": -4.0,
        "elbo_per_token": -2.0,
        "marginal": -3.0,
        "marginal_per_token": -1.5,
        "likelihood_left_out": 1,
    }
    assert Likelihood([], [], [], 2).as_row()["elbo"] is None


def test_a_model_without_latents_is_refused(tiny_tokenizer):
    model = new_refinement_model(vocab_size=len(tiny_tokenizer))

    with pytest.raises(ValueError, match="of the family refinement_nar has none"):
        measure_likelihood(Translator(model, tiny_tokenizer), SOURCES, TARGETS)


def test_there_must_be_samples_and_as_many_targets_as_sources(translator_of):
    translator = translator_of()

    with pytest.raises(ValueError, match="at least 1, got 0"):
        measure_likelihood(translator, SOURCES, TARGETS, samples=0)
    with pytest.raises(ValueError, match="there are 2 and 3"):
        measure_likelihood(translator, SOURCES, TARGETS[:2])
