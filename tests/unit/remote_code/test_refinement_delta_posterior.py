from dataclasses import dataclass, replace

import pytest
import torch

from hf_nar.remote_code.generation_nar import refine_until_finished
from hf_nar.remote_code.refinement_delta_posterior import DeltaPosterior

PAD, EOS, WORD = 0, 2, 10


@dataclass(frozen=True)
class Point:
    mean: torch.Tensor
    std: torch.Tensor | None = None


class CountingDown:
    """An oracle: a row with latent n has the draft [10+n, 2] of length n + 2, and q(z|y) = n - 1.

    The length shrinks with each iteration until the latent reaches 0, where it stays.
    """

    pad_token_id = PAD

    def __init__(self) -> None:
        self.calls: list[str] = []

    def infer_prior(self, source):
        return Point(source)

    def infer_posterior(self, tokens, target_mask, source):
        self.calls.append("posterior")
        assert (tokens[~target_mask] == PAD).all()
        return Point((tokens[:, :1, None] - WORD - 1.0).clamp(min=0))

    def predict_length(self, latent, source):
        self.calls.append("length")
        return latent[:, 0, 0].long() + 2

    def decode(self, latent, lengths, source):
        self.calls.append("decode")
        tokens = WORD + latent[:, 0, 0].long()
        logits = torch.zeros(len(lengths), int(lengths.max()), 40)
        logits[torch.arange(len(lengths)), :, tokens] = 3.0
        return logits


def source_of(*latents: float) -> torch.Tensor:
    return torch.tensor(latents)[:, None, None]


def test_no_iteration_decodes_from_the_prior_mean():
    network, strategy = CountingDown(), DeltaPosterior(iterations=0)
    source = source_of(3.0)

    refined = refine_until_finished(strategy, network, source, strategy.draft(network, source))

    assert refined.state.tokens.tolist() == [[13] * 5]
    assert refined.iterations.tolist() == [0]
    assert network.calls == ["length", "decode"]


def test_an_iteration_asks_for_one_posterior_one_length_and_one_decoder_pass():
    network, strategy, source = CountingDown(), DeltaPosterior(), source_of(3.0)
    state = strategy.draft(network, source)
    network.calls.clear()

    state = strategy.refine(network, source, state)

    assert network.calls == ["posterior", "length", "decode"]
    assert state.tokens.tolist() == [[12] * 4]


def test_each_row_stops_when_its_own_draft_repeats():
    network, strategy = CountingDown(), DeltaPosterior(iterations=9)
    source = source_of(1.0, 4.0)

    refined = refine_until_finished(strategy, network, source, strategy.draft(network, source))

    assert refined.iterations.tolist() == [2, 5]  # the last one sees that nothing changed
    assert refined.state.tokens.tolist() == [[10, 10], [10, 10]]
    assert len(refined.history) == 6
    assert refined.state.is_finished.all()


def test_without_early_stop_every_iteration_is_run():
    network, strategy = CountingDown(), DeltaPosterior(iterations=4, stop_early=False)
    source = source_of(0.0)

    refined = refine_until_finished(strategy, network, source, strategy.draft(network, source))

    assert refined.iterations.tolist() == [4]


def test_the_state_is_not_changed_by_refining_it():
    network, strategy, source = CountingDown(), DeltaPosterior(), source_of(2.0, 5.0)
    state = strategy.draft(network, source)
    before = replace(state, tokens=state.tokens.clone(), scores=state.scores.clone())

    strategy.refine(network, source, state)

    assert torch.equal(state.tokens, before.tokens)
    assert torch.equal(state.scores, before.scores)


def test_max_length_limits_every_draft():
    network, strategy = CountingDown(), DeltaPosterior(iterations=1, max_length=3)
    source = source_of(9.0)

    refined = refine_until_finished(strategy, network, source, strategy.draft(network, source))

    assert [draft.shape[1] for draft in refined.history] == [3, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "Use 0 to decode from the prior mean"),
        ({"max_length": 0}, "`max_length` must be at least 1"),
    ],
)
def test_wrong_knobs_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeltaPosterior(**options)
