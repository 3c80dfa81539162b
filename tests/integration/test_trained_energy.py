"""The energy network of the model in this repository: ascent on real sentences."""

from pathlib import Path

import pytest
import torch

from hf_nar.auto import load_model, load_tokenizer
from hf_nar.remote_code.refinement_energy import EnergyAscent

ROOT = Path(__file__).parents[2]
FOLDER = str(ROOT / "model_cards/lanmt-score-multi30k-deen")


@pytest.fixture(scope="module")
def model():
    return load_model(FOLDER, torch.float64, None).eval()


@pytest.fixture
def source(model):
    sentences = (ROOT / "model_cards/demo.de").read_text(encoding="utf-8").splitlines()
    encoded = load_tokenizer(FOLDER, None)(sentences, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model.encode(encoded.input_ids, encoded.attention_mask)


def test_every_step_raises_the_energy(model, source):
    strategy = EnergyAscent(iterations=8)
    with torch.no_grad():
        state = strategy.draft(model, source)
        energies = [model.latent_energy(state.latent, state.context)]
        for _ in range(strategy.iterations):
            state = strategy.refine(model, source, state)
            energies.append(model.latent_energy(state.latent, state.context))

    rises = torch.stack(energies).diff(dim=0)
    assert (rises[0] > 1e-3).all()
    assert (rises > -1e-9).all()


def test_its_gradient_agrees_with_finite_differences(model, source):
    with torch.no_grad():
        state = EnergyAscent().draft(model, source)
        gradient = model.latent_step("energy", state.latent, state.context)
        direction = torch.randn_like(gradient) * state.context.latent_mask[..., None]
        ends = [
            model.latent_energy(state.latent + shift * direction, state.context)
            for shift in (1e-5, -1e-5)
        ]

    expected = (gradient * direction).flatten(1).sum(-1)
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-5, expected, rtol=1e-6, atol=1e-7)
