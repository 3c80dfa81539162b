"""The second stage: refiners learn the way of delta iterations, and all else is frozen."""

import copy

import pytest
import torch
from tiny_networks import batch_of, labels_of, new_model, refiner_model

from hf_nar.remote_code.latent_drafts import climb_likelihood, doubt_sum
from hf_nar.remote_code.refiner_training import (
    after_own_steps,
    draft_word_sum,
    lesson_terms,
    make_lesson,
    repeat_sum,
)

AXES = pytest.mark.parametrize("axis", ["source", "target"])
SOURCES, TARGETS = (6, 9, 3), (4, 8, 5)
NAMES = ("score", "energy")
MASK = labels_of(*TARGETS) != -100


def lesson_of(model, noise=0.0, iterations=2):
    labels = labels_of(*TARGETS)
    mask = labels != -100
    with torch.no_grad():
        source = model.encode(batch_of(*SOURCES), target_lengths=mask.sum(-1))
        return make_lesson(model, source, mask, iterations, noise), source


def ready(axis="source", **options):
    model = refiner_model(axis, **options)
    model.train_refiners()
    return model.train()


def losses(model, seed=0, labels=None):
    torch.manual_seed(seed)
    return model(batch_of(*SOURCES), labels=labels_of(*TARGETS) if labels is None else labels)


@AXES
def test_the_way_is_where_delta_iterations_go(axis):
    model = refiner_model(axis)

    lesson, source = lesson_of(model, iterations=3)

    latent = model.infer_prior(source).mean
    torch.testing.assert_close(lesson.start, latent)
    for _ in range(3):
        logits = model.decode(latent, torch.tensor(TARGETS), source)
        tokens = logits.argmax(-1).masked_fill(~MASK, 0)
        latent = model.infer_posterior(tokens, MASK, source).mean
    mask = model.latent_mask(MASK, source)[..., None]
    torch.testing.assert_close(lesson.way, (latent - lesson.start) * mask)
    assert not lesson.way.requires_grad


@AXES
def test_noise_moves_the_start_by_a_scale_of_each_sentence(axis):
    model = refiner_model(axis)
    for head in (model.prior_head,):
        torch.nn.init.zeros_(head.weight)  # so that every standard deviation is the same

    lessons = [lesson_of(model, noise=2.0) for _ in range(20)]

    prior = model.infer_prior(lessons[0][1])
    z = torch.stack([(moved.start - prior.mean) / prior.std for moved, _ in lessons])
    scales = z.flatten(2).std(-1)
    assert (scales < 3).all()
    assert scales.max() > 1.5 * scales.min()


@AXES
def test_the_loss_is_the_squared_error_less_that_of_standing_still(axis):
    model = refiner_model(axis)
    lesson, source = lesson_of(model, noise=1.0)
    mask = model.latent_mask(MASK, source)

    for name in NAMES:
        context = model.read_source(name, MASK, source)
        step = model.latent_step(name, lesson.start, context)
        terms = lesson_terms(name, step, lesson)
        stillness = lesson.way.square().sum() / mask.sum()
        torch.testing.assert_close(terms[f"{name}_loss"] + stillness, terms[f"{name}_error"])


def test_a_perfect_step_has_no_error_and_points_the_same_way():
    model = refiner_model()
    lesson, _ = lesson_of(model)

    perfect = lesson_terms("score", lesson.way, lesson)
    back = lesson_terms("score", -lesson.way, lesson)

    assert perfect["score_error"] == 0
    assert perfect["score_cosine"] == pytest.approx(1.0)
    assert back["score_cosine"] == pytest.approx(-1.0)
    assert back["score_loss"] > 0 > perfect["score_loss"]


@AXES
def test_terms_of_a_batch_are_means_over_its_latents(axis):
    model = refiner_model(axis, refiner_noise=0.0)
    model.train_refiners()
    model.eval()
    weights = SOURCES if axis == "source" else TARGETS

    together = losses(model)

    alone = [
        model(batch_of(*SOURCES)[i : i + 1, :n], labels=labels_of(*TARGETS)[i : i + 1, :m])
        for i, (n, m) in enumerate(zip(SOURCES, TARGETS, strict=True))
    ]
    for name in NAMES:
        for term in (f"{name}_loss", f"{name}_error"):
            total = sum(each[term] * w for each, w in zip(alone, weights, strict=True))
            torch.testing.assert_close(together[term], total / sum(weights), rtol=1e-3, atol=1e-5)
        cosines = torch.stack([each[f"{name}_cosine"] for each in alone])
        torch.testing.assert_close(together[f"{name}_cosine"], cosines.mean(), rtol=1e-3, atol=1e-4)


@AXES
def test_the_loss_is_that_of_both_refiners_and_wider_padding_changes_nothing(axis):
    model = refiner_model(axis)
    model.train_refiners()
    model.eval()
    wide = torch.nn.functional.pad(labels_of(*TARGETS), (0, 3), value=-100)

    narrow, padded = losses(model), losses(model, labels=wide)

    torch.testing.assert_close(narrow.loss, narrow.score_loss + narrow.energy_loss)
    torch.testing.assert_close(padded.loss, narrow.loss)


@AXES
def test_a_row_without_labels_leaves_the_loss_finite(axis):
    model = ready(axis)
    labels = labels_of(*TARGETS)
    labels[1] = -100  # the longest

    losses(model, labels=labels).loss.backward()

    gradients = [value.grad for value in model.parameters() if value.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@AXES
def test_frozen_means_frozen(axis):
    model = ready(axis, dropout=0.3, attention_dropout=0.3, activation_dropout=0.3)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1
    )

    for step in range(4):
        losses(model, seed=step).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    after = model.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name.split(".")[0] for name in changed} == {"refiners"}
    assert {name.split(".")[1] for name in changed} == set(NAMES)
    assert all(
        value.grad is None for name, value in model.named_parameters() if name not in changed
    )


@AXES
def test_an_optimizer_of_all_parameters_leaves_the_frozen_ones_alone(axis):
    model = ready(axis)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    losses(model).loss.backward()
    optimizer.step()

    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) or name.startswith("refiners."), name


@AXES
def test_what_is_frozen_has_no_dropout_but_refiners_do(axis):
    model = ready(axis, dropout=0.5, attention_dropout=0.5, activation_dropout=0.5)
    ids = batch_of(*SOURCES)

    lessons = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        lessons.append(lesson_of(model)[0])
    first, second = (losses(model, seed=seed, labels=labels_of(*TARGETS)) for seed in (1, 2))

    assert torch.equal(lessons[0].way, lessons[1].way)
    assert torch.equal(model.encode(ids).states, model.encode(ids).states)
    assert model.refiners["score"].training
    assert not torch.equal(first.score_loss, second.score_loss)


@AXES
def test_evaluation_has_neither_dropout_nor_noise(axis):
    model = ready(axis, dropout=0.5).eval()

    first, second = losses(model, seed=1), losses(model, seed=2)

    assert torch.equal(first.loss, second.loss)
    assert torch.equal(losses(model.train(), seed=1).loss, losses(model, seed=1).loss)
    assert not torch.equal(losses(model, seed=1).loss, first.loss)


@AXES
def test_of_the_reference_only_the_length_is_read(axis):
    model = refiner_model(axis)
    model.train_refiners()
    model.eval()

    other = losses(model, labels=labels_of(*TARGETS, seed=7))

    assert torch.equal(losses(model).loss, other.loss)


@AXES
def test_with_a_word_weight_the_words_at_the_end_of_the_way_are_learnt_too(axis):
    model = refiner_model(axis, refiner_iterations=2, refiner_word_weight=2.0)
    model.train_refiners(["score"])
    model.eval()
    lesson, source = lesson_of(model)

    output = losses(model)

    context = model.read_source("score", MASK, source)
    latent = lesson.start + model.latent_step("score", lesson.start, context)
    logits = model.decode(latent, MASK.sum(-1), source)
    goal = model.decode(lesson.goal, MASK.sum(-1), source).argmax(-1).masked_fill(~MASK, 0)
    words = draft_word_sum(logits, goal, MASK)
    torch.testing.assert_close(output.score_word_loss, words / MASK.sum())
    plain = refiner_model(axis, refiner_iterations=2)
    plain.train_refiners(["score"])
    num_latents = model.latent_mask(MASK, source).sum()
    without = losses(plain.eval()).loss
    torch.testing.assert_close(output.loss, without + 2 * words / num_latents)


def test_repeated_words_and_padding_are_no_model():
    tokens = torch.tensor([[7, 8, 8, 2], [9, 2, 0, 0]])
    mask = tokens != 0
    logits = torch.randn(2, 4, 20)

    found = draft_word_sum(logits, tokens, mask)

    taught = [(0, 0, 7), (0, 1, 8), (0, 3, 2), (1, 0, 9), (1, 1, 2)]
    log_probs = logits.log_softmax(-1)
    torch.testing.assert_close(found, -sum(log_probs[place] for place in taught))


def test_neighbours_that_may_be_the_same_word_cost_minus_the_log_of_being_different():
    probabilities = torch.tensor([[[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    logits = probabilities.log().clamp(min=-100)

    expected = -(torch.tensor(0.75).log() + torch.tensor(0.5).log())
    torch.testing.assert_close(repeat_sum(logits, mask), expected)
    mask[0, 2] = False  # padding has no neighbours
    torch.testing.assert_close(repeat_sum(logits, mask), -torch.tensor(0.75).log())
    same = torch.tensor([[[50.0, 0.0], [50.0, 0.0]]], requires_grad=True)
    repeat_sum(same, mask[:, :2]).backward()  # a sure repeat is finite
    assert torch.isfinite(same.grad).all()


def test_doubt_is_how_unlikely_the_draft_finds_its_own_words():
    probabilities = torch.tensor([[[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.9, 0.1, 0.0]]])
    mask = torch.tensor([[True, True, False]])
    logits = probabilities.log().clamp(min=-100)

    expected = -(torch.tensor(0.5).log() + torch.tensor(0.7).log())
    torch.testing.assert_close(doubt_sum(logits, mask), expected)


@pytest.mark.parametrize("term", ["repeat", "doubt"])
def test_a_weight_for_one_term_alone_adds_its_loss(term):
    plain, weighted = (
        refiner_model(refiner_iterations=2, **{f"refiner_{term}_weight": weight})
        for weight in (0.0, 3.0)
    )
    outputs = []
    for model in (plain, weighted):
        model.train_refiners(["score"])
        outputs.append(losses(model.eval()))

    ratio = MASK.sum() / sum(SOURCES)  # from a mean over tokens to one over latents
    added = 3 * outputs[1][f"score_{term}_loss"] * ratio
    torch.testing.assert_close(outputs[1].loss, outputs[0].loss + added)
    assert getattr(outputs[0], f"score_{term}_loss") is None


@AXES
def test_some_sentences_start_where_their_own_steps_led_and_have_the_same_goal(axis):
    lesson, _ = lesson_of(refiner_model(axis))

    torch.manual_seed(4)
    taught = after_own_steps(lesson, lambda latent: torch.ones_like(latent), share=0.5)

    moved = (taught.start != lesson.start).flatten(1).any(-1)
    assert 0 < moved.sum() < len(moved)
    steps = (taught.start - lesson.start)[moved]
    torch.testing.assert_close(steps, steps.round().clamp(1, 3))  # from one to three steps
    assert torch.equal(taught.goal, lesson.goal)
    still = after_own_steps(lesson, lambda latent: torch.ones_like(latent), share=0.0)
    assert torch.equal(still.start, lesson.start)


def test_a_sentence_after_its_own_steps_can_have_its_goal_where_it_stands():
    lesson, _ = lesson_of(refiner_model())

    torch.manual_seed(4)
    taught = after_own_steps(
        lesson, lambda latent: torch.ones_like(latent), share=0.5, goal_stays=False
    )

    moved = (taught.start != lesson.start).flatten(1).any(-1)
    assert 0 < moved.sum() < len(moved)
    assert torch.equal(taught.goal[moved], taught.start[moved])
    assert torch.equal(taught.goal[~moved], lesson.goal[~moved])


@AXES
def test_ascent_makes_the_draft_likelier_and_leaves_padding_and_weights_alone(axis):
    model = refiner_model(axis)
    lesson, source = lesson_of(model)

    lengths = MASK.sum(-1)
    with torch.no_grad():  # as in a validation pass
        goals = [
            climb_likelihood(model, source, lesson.goal, lengths, steps) for steps in (0, 1, 2)
        ]
        doubts = [doubt_sum(model.decode(goal, lengths, source), MASK) for goal in goals]

    assert torch.equal(goals[0], lesson.goal)
    assert doubts[0] > doubts[1] > doubts[2]
    padding = ~lesson.mask
    torch.testing.assert_close(goals[2][padding], lesson.goal[padding])
    assert not goals[2].requires_grad
    assert all(value.grad is None for value in model.parameters())


def test_noise_in_the_source_changes_what_is_learnt_in_training_alone():
    plain, noised = (ready(dropout=0.0, refiner_source_noise=share) for share in (0.0, 0.9))

    assert not torch.equal(losses(plain).score_error, losses(noised).score_error)
    assert torch.equal(losses(plain.eval()).score_error, losses(noised.eval()).score_error)


def test_the_length_of_the_target_is_told_to_refiners_of_source_length():
    model = refiner_model("source")
    source = model.encode(batch_of(*SOURCES))
    latent = model.infer_prior(source).mean

    steps = [
        model.latent_step("score", latent, model.read_source("score", MASK[:, :width], source))
        for width in (3, 4)
    ]

    assert not torch.allclose(steps[0], steps[1])


@pytest.mark.parametrize(
    ("options", "other"),
    [
        ({"refiner_noise": 0.0}, {}),
        ({"refiner_iterations": 1}, {"refiner_iterations": 3}),
        ({"refiner_own_steps": 0.9}, {}),
        ({"refiner_ascent_steps": 1}, {}),
    ],
)
def test_every_option_changes_the_lesson(options, other):
    first, second = (losses(ready("target", dropout=0.0, **each)) for each in (options, other))

    assert not torch.equal(first.score_error, second.score_error)


@AXES
def test_refiners_learn(axis):
    model = ready(axis, dropout=0.0, refiner_noise=0.3)
    optimizer = torch.optim.Adam(model.refiners.parameters(), lr=0.01)
    first = losses(model.eval())

    for step in range(60):
        losses(model.train(), seed=step % 4).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    last = losses(model.eval())
    for name in NAMES:
        assert last[f"{name}_error"] < 0.7 * first[f"{name}_error"]
        assert last[f"{name}_cosine"] > first[f"{name}_cosine"]


@AXES
def test_in_half_precision_refiners_learn_too(axis):
    model = ready(axis).bfloat16()

    output = losses(model)
    output.loss.backward()

    assert output.loss.dtype == torch.float32
    assert model.refiners["energy"].latent_projection.weight.grad.dtype == torch.bfloat16


@AXES
def test_under_autocast_refiners_learn_too(axis):
    model = ready(axis)

    with torch.autocast("cpu", torch.bfloat16):
        loss = losses(model).loss
    loss.backward()

    assert torch.isfinite(loss)


@AXES
def test_gradient_checkpointing_gives_the_same_gradients(axis):
    gradients = []
    for checkpointing in (False, True):
        model = ready(axis, dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
        if checkpointing:
            enable = getattr(model, "activation_checkpointing_enable", None)  # the name of 5.23
            (enable or model.gradient_checkpointing_enable)({"use_reentrant": False})
        losses(model).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})

    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_a_model_without_refiners_cannot_train_them():
    with pytest.raises(ValueError, match="it has no refiner"):
        new_model().train_refiners()


def test_output_as_a_tuple_starts_with_the_loss():
    model = ready()
    torch.manual_seed(0)

    output = model(batch_of(*SOURCES), labels=labels_of(*TARGETS), return_dict=False)

    assert torch.equal(output[0], losses(model).loss)


@AXES
def test_translations_are_the_same_before_and_after_freezing(axis):
    model = refiner_model(axis)
    ids = batch_of(*SOURCES)
    expected = {name: model.generate(ids, refinement=name).tolist() for name in model.refinements}

    model.train_refiners()

    for name, tokens in expected.items():
        assert model.generate(ids, refinement=name).tolist() == tokens
