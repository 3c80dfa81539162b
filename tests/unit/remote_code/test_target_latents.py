"""LaNMT with one latent for each target token (Lee, Shu and Cho 2020)."""

import dataclasses

import pytest
import torch
from tiny_networks import PAD, batch_of, labels_of, new_model, refiner_model, rows_of

from hf_nar.remote_code.layers_nar import CrossEncoder

SOURCES, TARGETS = (6, 12, 3), (9, 4, 7)
STRATEGIES = ["delta_posterior", "score", "energy", "none"]
EXACT = {"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0}


@pytest.fixture
def model():
    return refiner_model("target")


@pytest.fixture
def source(model):
    """Return the encoded source of a batch whose target lengths are known."""
    with torch.no_grad():
        return model.encode(batch_of(*SOURCES), target_lengths=torch.tensor(TARGETS))


def encoded_alone(model, row):
    one = batch_of(*SOURCES)[row : row + 1, : SOURCES[row]]
    return model.encode(one, target_lengths=torch.tensor(TARGETS[row : row + 1]))


def test_there_is_a_latent_for_each_target_token(model, source):
    prior = model.infer_prior(source)

    assert prior.mean.shape == (3, max(TARGETS), model.config.latent_dim)
    assert model.latent_lengths(source).tolist() == list(TARGETS)


def test_there_is_no_part_that_only_source_length_latents_need(model):
    names = {name.split(".")[0] for name in model.state_dict()}

    assert not names & {"length_embeddings", "length_transform", "target_encoder"}
    assert "source_encoder" in names


def test_prior_and_posterior_of_a_row_do_not_depend_on_its_batch(model, source):
    target = batch_of(*TARGETS, seed=1)

    together = model.infer_prior(source), model.infer_posterior(target, target != PAD, source)

    for row, size in enumerate(TARGETS):
        own = encoded_alone(model, row)
        tokens = target[row : row + 1, :size]
        alone = model.infer_prior(own), model.infer_posterior(tokens, tokens != PAD, own)
        for one, many in zip(alone, together, strict=True):
            torch.testing.assert_close(many.mean[row, :size], one.mean[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(many.std[row, :size], one.std[0], rtol=1e-4, atol=1e-5)


def test_logits_of_a_row_do_not_depend_on_its_batch(model, source):
    latent = model.infer_prior(source).mean

    together = model.decode(latent, torch.tensor(TARGETS), source)

    for row, size in enumerate(TARGETS):
        own = encoded_alone(model, row)
        alone = model.decode(latent[row : row + 1, :size], torch.tensor([size]), own)
        torch.testing.assert_close(together[row, :size], alone[0], rtol=1e-4, atol=1e-4)


def test_the_loss_of_a_batch_is_the_mean_over_target_tokens_of_its_rows():
    model = new_model(latent_axis="target", kl_budget=0.0)
    ids, labels = batch_of(*SOURCES), labels_of(*TARGETS)

    together = model(ids, labels=labels).loss * sum(TARGETS)

    alone = [
        model(ids[i : i + 1, :n], labels=labels[i : i + 1, :m]).loss * m
        for i, (n, m) in enumerate(zip(SOURCES, TARGETS, strict=True))
    ]
    torch.testing.assert_close(together, sum(alone), rtol=1e-4, atol=1e-4)


def test_labels_may_be_padded_wider_than_their_longest_row():
    model = new_model(latent_axis="target")
    ids, labels = batch_of(*SOURCES), labels_of(*TARGETS)
    wide = torch.nn.functional.pad(labels, (0, 3), value=-100)

    narrow, padded = model(ids, labels=labels), model(ids, labels=wide)

    torch.testing.assert_close(padded.loss, narrow.loss)
    torch.testing.assert_close(padded.kl, narrow.kl)


def test_a_row_without_labels_leaves_the_loss_finite():
    model = new_model(latent_axis="target").train()
    labels = labels_of(*TARGETS)
    labels[0] = -100  # the longest

    loss = model(batch_of(*SOURCES), labels=labels).loss
    loss.backward()

    assert torch.isfinite(loss)
    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_the_decoder_starts_with_latents_alone(model, source, monkeypatch):
    latent = model.infer_prior(source).mean
    seen = []
    forward = CrossEncoder.forward

    def noting(self, hidden, *rest):
        if self is model.decoder:
            seen.append(hidden)
        return forward(self, hidden, *rest)

    monkeypatch.setattr(CrossEncoder, "forward", noting)
    model.decode(latent, torch.tensor(TARGETS), source)

    torch.testing.assert_close(seen[0], model.latent_projection(latent))


def test_every_parameter_learns():
    model = new_model(latent_axis="target", kl_budget=0.0).train()
    before = {name: value.clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

    model(batch_of(6, 8), labels=labels_of(4, 7)).loss.backward()
    optimizer.step()

    assert [n for n, value in model.named_parameters() if torch.equal(value, before[n])] == []


def test_the_length_is_predicted_from_the_source_alone(model):
    ids = batch_of(*SOURCES)

    with torch.no_grad():
        encoded = model.encode(ids)
        for part in (model.prior_head, model.latent_projection, model.posterior_head):
            torch.nn.init.normal_(part.weight, std=5.0)
        again = model.encode(ids)

    logits = model.first_length_logits(encoded)
    expected = model.length_predictor(encoded.states, encoded.mask)
    torch.testing.assert_close(logits, expected)
    offset = logits.argmax(-1) - model.config.max_length_offset
    lengths = (torch.tensor(SOURCES) + offset).clamp(min=1)
    assert encoded.target_lengths.tolist() == again.target_lengths.tolist() == lengths.tolist()
    assert len(set((lengths - torch.tensor(SOURCES)).tolist())) > 1  # not always the same offset


def test_a_new_source_state_means_a_new_length(model):
    encoded = model.encode(batch_of(*SOURCES))
    moved = dataclasses.replace(encoded, target_lengths=None, states=-encoded.states)

    lengths = model._pick_length(model.first_length_logits(moved), moved)

    assert lengths.tolist() != encoded.target_lengths.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_length_is_the_same_in_all_iterations(model, strategy):
    ids = batch_of(*SOURCES)
    lengths = model.encode(ids).target_lengths.tolist()

    output = model.generate(
        ids,
        refinement=strategy,
        num_refinement_iterations=4,
        collapse_repeats=False,
        return_dict_in_generate=True,
    )

    for draft in output.history:
        assert (draft != PAD).sum(-1).tolist() == lengths
    assert len(output.history) > 2 or strategy == "none"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_limit_below_the_predicted_length_cuts_latents_too(model, strategy):
    ids = batch_of(9, 12, 3)
    model.length_predictor.classifier.weight.data.zero_()
    knobs = {"refinement": strategy, "num_refinement_iterations": 3, "collapse_repeats": False}

    output = model.generate(ids, max_length=5, num_latents=2, return_dict_in_generate=True, **knobs)
    alone = model.generate(ids[2:, :3], max_length=5, num_latents=2, **knobs)

    predicted = model.encode(ids).target_lengths
    assert output.lengths.tolist() == predicted.clamp(max=5).tolist()
    assert (predicted > 5).any()
    assert alone.shape[1] == predicted[2].clamp(max=5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_known_lengths_longer_than_the_model_makes_are_cut(model, strategy):
    known = torch.tensor([40, 3, 5])

    output = model.generate(
        batch_of(*SOURCES),
        target_lengths=known,
        refinement=strategy,
        collapse_repeats=False,
        return_dict_in_generate=True,
    )

    assert output.lengths.tolist() == [30, 3, 5]


def test_an_extra_length_is_in_every_latent(model):
    ids = torch.cat([batch_of(*SOURCES), torch.full((1, 12), PAD)])
    plain = model.encode(ids).target_lengths

    longer = model.encode(ids, extra_length=2)

    assert longer.target_lengths.tolist() == [*(plain[:3] + 2).tolist(), 1]
    assert model.infer_prior(longer).mean.shape[1] == int(plain[:3].max()) + 2
    assert model.likely_lengths(longer, 1)[:, 0].tolist() == longer.target_lengths.tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_length_beam_gives_each_length_latents_of_its_own(model, strategy):
    ids = batch_of(*SOURCES)
    knobs = {"refinement": strategy, "num_refinement_iterations": 2, "collapse_repeats": False}
    lengths = model.likely_lengths(model.encode(ids), 3)

    output = model.generate(ids, length_beam=3, return_dict_in_generate=True, **knobs)

    for row, size in enumerate(SOURCES):
        candidates = []
        for length in lengths[row].tolist():
            alone = model.generate(
                ids[row : row + 1, :size],
                target_lengths=torch.tensor([length]),
                return_dict_in_generate=True,
                **knobs,
            )
            mean = float(alone.scores.sum()) / (length - 1) if length > 1 else float("-inf")
            candidates.append((mean, rows_of(alone, 0)))
        assert rows_of(output, row) == max(candidates)[1]


def counted_memories(model, monkeypatch):
    """Return a list that the name of each stack is added to whenever it reads a source."""
    stacks = {id(part): name for name, part in model.named_modules()}
    project, calls = CrossEncoder.project_memory, []

    def counting(self, memory):
        calls.append(stacks[id(self)])
        return project(self, memory)

    monkeypatch.setattr(CrossEncoder, "project_memory", counting)
    return calls


@pytest.mark.parametrize(
    ("strategy", "stacks"),
    [
        ("delta_posterior", ["decoder", "posterior", "prior"]),
        ("score", ["decoder", "prior", "refiners.score.layers"]),
        ("energy", ["decoder", "prior", "refiners.energy.layers"]),
        ("none", ["decoder", "prior"]),
    ],
)
@pytest.mark.parametrize("stop_early", [True, False])
def test_a_source_is_read_once_by_each_part(model, monkeypatch, strategy, stacks, stop_early):
    calls = counted_memories(model, monkeypatch)

    output = model.generate(
        batch_of(*SOURCES),
        refinement=strategy,
        num_refinement_iterations=6,
        stop_early=stop_early,
        return_dict_in_generate=True,
    )

    assert sorted(calls) == stacks
    assert int(output.iterations.max()) > 2 or strategy == "none"


def test_a_source_of_latent_search_is_read_once_for_all_candidates(model, monkeypatch):
    calls = counted_memories(model, monkeypatch)

    model.generate(batch_of(*SOURCES), refinement="delta_posterior", length_beam=2, num_latents=3)

    assert sorted(calls) == ["decoder", "posterior", "prior"]


def test_it_survives_saving_with_its_refiners(model, tmp_path):
    model.save_pretrained(tmp_path)

    loaded = type(model).from_pretrained(tmp_path).eval()

    for strategy in STRATEGIES:
        first, second = (
            m.generate(batch_of(*SOURCES), refinement=strategy) for m in (model, loaded)
        )
        assert first.tolist() == second.tolist()
