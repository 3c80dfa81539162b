"""With a fixed number of iterations the host asks the device for nothing inside the loop."""

import pytest
import torch
from tiny_networks import batch_of, new_model
from torch.utils._python_dispatch import TorchDispatchMode

from hf_nar.remote_code.generation_nar import refine_until_finished
from hf_nar.remote_code.refinement_energy import EnergyAscent
from hf_nar.remote_code.refinement_score import ScoreAscent

# All by which a host learns a value, or a shape that depends on values.
WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "is_nonzero"}


class NoHostWait(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        moves = name == "_to_copy" and "device" in (kwargs or {})
        if name in WAITS or moves:
            raise AssertionError(f"the host waits for {function.name()}")
        return function(*args, **(kwargs or {}))


def endless(strategy):
    """Return a strategy that leaves decoding to the test."""

    class Undecoded(strategy):
        def finish(self, network, source, state):
            return state

    return Undecoded


def run(strategy, axis, iterations=3):
    model = new_model(
        latent_axis=axis,
        num_target_layers=1 if axis == "source" else None,
        num_score_layers=1,
        num_energy_layers=1,
    )
    with torch.no_grad():
        source = model.encode(batch_of(5, 9))
        state = strategy.draft(model, source)
        with NoHostWait():
            refined = refine_until_finished(strategy, model, source, state, with_history=False)
    return state, refined


@pytest.mark.parametrize("axis", ["source", "target"])
@pytest.mark.parametrize("kind", [ScoreAscent, EnergyAscent])
def test_the_loop_never_waits_where_the_number_of_iterations_is_fixed(kind, axis):
    state, refined = run(endless(kind)(iterations=3), axis)

    assert refined.state.iteration == 3
    assert refined.iterations.tolist() == [3, 3]
    assert not torch.equal(refined.state.latent, state.latent)


def test_it_waits_where_rows_can_stop():
    with pytest.raises(AssertionError, match="the host waits"):
        run(endless(ScoreAscent)(iterations=3, step_tolerance=0.1), "source")


def test_decoding_waits_for_the_length():
    with pytest.raises(AssertionError, match="the host waits"):
        run(ScoreAscent(iterations=3), "source")
