"""What holds for every model of this package with every refinement strategy it names.

A new family in `MODEL_CLASSES`, or a new strategy in a model's `refinements`, is covered as it is.
"""

import copy
import dataclasses
import re

import pytest
import torch

from hf_nar.auto import MODEL_CLASSES
from hf_nar.remote_code.configuration_lanmt import LATENT_AXES
from hf_nar.remote_code.generation_nar import refine_until_finished

# Sizes of tiny networks; each config takes those that it has. Every `num_*_layers` is 1.
TINY = {
    "vocab_size": 60,
    "d_model": 16,
    "d_ff": 32,
    "num_attention_heads": 2,
    "latent_dim": 4,
    "max_position_embeddings": 30,
    "max_target_length": 30,
    "max_length_offset": 5,
}
# Knobs with which every strategy that has them must obey the same laws.
STRATEGY_OPTIONS = (
    {},
    {"step_tolerance": 0.8, "line_search": True},
    {"likelihood_steps": 2},
)


def fields_of(dataclass):
    return {field.name for field in dataclasses.fields(dataclass)}


def cases():
    for config_class, model_class in MODEL_CLASSES.items():
        has_axis = "latent_axis" in fields_of(config_class)
        for variant in [{"latent_axis": axis} for axis in LATENT_AXES] if has_axis else [{}]:
            for name, strategy_class in model_class.refinements.items():
                for options in STRATEGY_OPTIONS:
                    if options.keys() <= fields_of(strategy_class):
                        parts = [config_class.model_type, *variant.values(), name, *options]
                        parameters = (config_class, model_class, variant, name, options)
                        yield pytest.param(parameters, id="-".join(parts))


LENGTHS = (5, 12, 2, 9)
MAX_ITERATIONS = 12


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(params=cases())
def case(request):
    """Return a lively tiny model of a family, the name of one of its strategies, and its knobs.

    It computes with 64 bits: networks as wild as these enlarge rounding errors with each step, and
    with 32 bits some CPUs give what looks like a broken law.
    """
    config_class, model_class, variant, name, options = request.param
    sizes = {field: TINY[field] for field in fields_of(config_class) if field in TINY}
    plain = config_class(**variant)  # a part that it has no layers for is None there
    for field in fields_of(config_class):
        if re.fullmatch(r"num_\w*layers", field) and getattr(plain, field) is not None:
            sizes[field] = 1
    sizes |= variant
    torch.manual_seed(3)
    model = model_class(config_class(**sizes)).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.5)  # far from a new model, whose drafts never change
    return model.double(), name, options


@pytest.fixture
def model(case):
    return case[0]


@pytest.fixture
def generate(case):
    """Return a function that generates with the case's strategy, everything in the output."""
    model, name, options = case

    def generate(source, **knobs):
        fixed = {"refinement": name, "return_dict_in_generate": True, **options}
        return model.generate(source, **{**fixed, "num_refinement_iterations": 4, **knobs})

    return generate


@pytest.fixture
def strategy(case):
    """Return the case's strategy, set so that rows may finish, whatever lets them."""
    model, name, options = case
    strategy_class = model.refinements[name]
    values = {"iterations": MAX_ITERATIONS, "max_length": 30, "step_tolerance": 1e-6, **options}
    accepted = fields_of(strategy_class)
    return strategy_class(**{key: value for key, value in values.items() if key in accepted})


@pytest.fixture
def refining(strategy):
    """Return the strategy, if it ever refines."""
    if not strategy.iterations:
        pytest.skip("This strategy has no iterations.")
    return strategy


def special_ids(model):
    names = ("pad", "bos", "eos", "unk", "mask")
    return {getattr(model.config, f"{name}_token_id") for name in names} - {None}


def sentences(model, *lengths):
    """Return random sentences with their end token, padded, `[batch, source_len]`."""
    first_word = 1 + max(special_ids(model))
    rows = torch.full((len(lengths), max(lengths)), model.config.pad_token_id)
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = torch.randint(first_word, model.config.vocab_size, (length,))
        row[length - 1] = model.config.eos_token_id
    return rows


def assert_close(first, second):
    """Check scores: latents that no token rounds in between carry their rounding errors along."""
    torch.testing.assert_close(first, second, rtol=1e-6, atol=1e-6)


def assert_same(first, second):
    assert first.lengths.tolist() == second.lengths.tolist()
    assert first.iterations.tolist() == second.iterations.tolist()
    assert first.sequences.tolist() == second.sequences.tolist()
    assert_close(first.scores, second.scores)
    assert [d.tolist() for d in first.history] == [d.tolist() for d in second.history]


def test_what_stands_on_source_padding_changes_nothing(model, generate):
    source = sentences(model, *LENGTHS)
    mask = (source != model.config.pad_token_id).long()
    poisoned = source.masked_fill(mask == 0, model.config.vocab_size - 1)

    assert_same(generate(poisoned, attention_mask=mask), generate(source, attention_mask=mask))


def test_more_source_padding_changes_nothing(model, generate):
    model.double()  # random energies are so steep that a few steps magnify rounding
    source = sentences(model, *LENGTHS)
    wider = torch.nn.functional.pad(source, (0, 6), value=model.config.pad_token_id)

    assert_same(generate(wider), generate(source))


def equal(first, second):
    """Return whether two values are the same, and all tensors within them."""
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second)
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(equal, first, second))
    if dataclasses.is_dataclass(first):
        return all(equal(getattr(first, name), getattr(second, name)) for name in fields_of(first))
    return first == second


def words_of(strategy, model, source, state):
    """Return the tokens of each row, decoded if they are not, without padding."""
    finished = strategy.finish(model, source, state)
    rows = finished.tokens, finished.target_mask
    return [row[mask].tolist() for row, mask in zip(*rows, strict=True)]


def decodes_each_time(model, state):
    return bool((state.tokens != model.config.pad_token_id).any())


def test_what_stands_on_draft_padding_changes_nothing(model, strategy):
    source = model.encode(sentences(model, *LENGTHS))
    state = strategy.draft(model, source)
    padding = ~state.target_mask
    poisoned = dataclasses.replace(
        state,
        tokens=state.tokens.masked_fill(padding, model.config.vocab_size - 1),
        scores=state.scores.masked_fill(padding, -99.0),
    )
    if state.latent is not None:
        mask = model.latent_mask(state.target_mask, source)[..., None]
        assert not mask.all()
        poisoned = dataclasses.replace(poisoned, latent=state.latent.masked_fill(~mask, 9.0))

    states = [strategy.refine(model, source, each) for each in (state, poisoned)]
    states = [strategy.finish(model, source, each) for each in states]

    assert padding.any()
    assert states[0].tokens.tolist() == states[1].tokens.tolist()
    assert_close(states[0].scores, states[1].scores)


def test_one_by_one_equals_batched(model, generate):
    source = sentences(model, *LENGTHS)

    together = generate(source)

    for i, length in enumerate(LENGTHS):
        alone = generate(source[i : i + 1, :length])
        size = int(alone.lengths[0])
        assert together.lengths[i] == size
        assert together.iterations[i] == alone.iterations[0]
        assert together.sequences[i, :size].tolist() == alone.sequences[0].tolist()
        assert_close(together.scores[i, :size], alone.scores[0])


def test_the_same_call_twice_is_equal(model, generate):
    source = sentences(model, *LENGTHS)

    assert_same(generate(source), generate(source))


def test_refining_leaves_the_state_as_it_was(model, strategy):
    source = model.encode(sentences(model, *LENGTHS))
    state = strategy.draft(model, source)
    before = copy.deepcopy(state)

    strategy.refine(model, source, state)

    for name in fields_of(state):
        assert equal(getattr(before, name), getattr(state, name)), name


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_special_tokens_stand_only_where_they_belong(model, generate, iterations):
    output = generate(sentences(model, *LENGTHS), num_refinement_iterations=iterations)

    for row, length in zip(output.sequences, output.lengths, strict=True):
        assert row[length - 1] == model.config.eos_token_id
        assert not set(row[: length - 1].tolist()) & special_ids(model)
        assert (row[length:] == model.config.pad_token_id).all()
    assert (output.scores <= 0).all()
    assert torch.isfinite(output.scores).all()


def test_no_iteration_is_one_plain_pass(model, generate, strategy):
    if getattr(strategy, "likelihood_steps", 0):
        pytest.skip("These steps are no iterations, and come after none of them, too.")
    source = sentences(model, *LENGTHS)

    output = generate(source, num_refinement_iterations=0, collapse_repeats=False)

    plain = model(source)
    words = plain.logits.clone()
    words[..., sorted(special_ids(model))] = -torch.inf
    assert output.iterations.tolist() == [0] * len(LENGTHS)
    assert output.lengths.tolist() == plain.lengths.tolist()
    for row, best, length in zip(output.sequences, words.argmax(-1), plain.lengths, strict=True):
        assert row[: length - 1].tolist() == best[: length - 1].tolist()


def test_a_draft_that_repeats_is_finished(model, strategy):
    source = model.encode(sentences(model, *LENGTHS))
    state = strategy.draft(model, source)
    if not decodes_each_time(model, state):
        pytest.skip("This strategy makes no draft before the last.")
    repeated = 0

    for _ in range(MAX_ITERATIONS):
        new = strategy.refine(model, source, state)
        for row in range(len(LENGTHS)):
            old_tokens, new_tokens = (s.tokens[row][s.target_mask[row]] for s in (state, new))
            if old_tokens.tolist() == new_tokens.tolist():
                assert new.is_finished[row]
                repeated += 1
        state = new

    assert repeated


def test_a_finished_row_is_frozen(model, refining):
    source = model.encode(sentences(model, *LENGTHS))
    draft = refining.draft(model, source)
    state = dataclasses.replace(draft, is_finished=torch.tensor([True, False, False, True]))

    refined = refine_until_finished(refining, model, source, state)

    first, last = (words_of(refining, model, source, each) for each in (draft, refined.state))
    assert [first[0], first[3]] == [last[0], last[3]]
    assert first != last
    assert refined.iterations[[0, 3]].tolist() == [0, 0]
    free = refine_until_finished(refining, model, source, draft).state
    last = words_of(refining, model, source, free)
    assert [first[0], first[3]] != [last[0], last[3]]  # they would have changed


def test_iterations_change_something_and_end(model, generate, refining):
    source = sentences(model, *LENGTHS)

    output = generate(source, num_refinement_iterations=MAX_ITERATIONS)

    assert len(output.history) == 1 + int(output.iterations.max())
    assert output.history[0].tolist() != output.history[-1].tolist()
    assert (output.iterations <= MAX_ITERATIONS).all()


def test_max_length_holds_for_every_draft(model, generate):
    output = generate(sentences(model, *LENGTHS), max_length=4)

    assert max(draft.shape[1] for draft in output.history) == 4
    assert output.lengths.max() <= 4


def test_empty_sources_have_empty_translations(model, generate):
    config = model.config
    full = sentences(model, 6)
    rows = [[config.eos_token_id], [config.bos_token_id, config.eos_token_id], []]
    empty = torch.tensor([row + [config.pad_token_id] * (6 - len(row)) for row in rows])

    output = generate(torch.cat([full, empty]))

    assert output.lengths[1:].tolist() == [1, 1, 1]
    assert output.sequences[1:, 0].tolist() == [config.eos_token_id] * 3
    assert torch.isfinite(output.scores).all()
    alone = generate(full)
    assert output.sequences[:1].tolist() == alone.sequences.tolist()


def test_a_source_of_one_word_or_of_the_greatest_length_works(model, generate):
    word = model.config.vocab_size - 1
    longest = sentences(model, model.config.max_position_embeddings)

    assert generate(torch.tensor([[word]])).lengths[0] >= 1
    assert generate(longest).lengths[0] <= model.config.max_target_length


def test_finished_rows_are_not_computed_again(model, refining, monkeypatch):
    source = model.encode(sentences(model, *LENGTHS))
    draft = refining.draft(model, source)
    state = dataclasses.replace(draft, is_finished=torch.tensor([True, False, False, True]))
    refine, rows = type(refining).refine, []

    def counted(self, network, source, state):
        rows.append(len(state.tokens))
        return refine(self, network, source, state)

    monkeypatch.setattr(type(refining), "refine", counted)

    refined = refine_until_finished(refining, model, source, state)

    assert rows[0] == 2
    assert sum(rows) == int(refined.iterations.sum())


def test_without_history_the_result_is_the_same(model, generate):
    source = sentences(model, *LENGTHS)

    full, bare = generate(source), generate(source, output_history=False)

    assert bare.history is None
    assert_same(dataclasses.replace(full, history=()), dataclasses.replace(bare, history=()))


def test_known_lengths_are_the_lengths_of_every_draft(model, generate):
    source, known = sentences(model, *LENGTHS), torch.tensor([3, 7, 9, 2])

    output = generate(source, target_lengths=known, collapse_repeats=False)

    assert output.lengths.tolist() == known.tolist()
    for draft in output.history:
        assert ((draft != model.config.pad_token_id).sum(-1) == known).all()


def test_candidates_do_not_depend_on_the_other_sentences(model, generate):
    source = sentences(model, *LENGTHS)

    together = generate(source, length_beam=3)

    for i, length in enumerate(LENGTHS):
        alone = generate(source[i : i + 1, :length], length_beam=3)
        size = int(alone.lengths[0])
        assert together.sequences[i, :size].tolist() == alone.sequences[0].tolist()
        assert together.iterations[i] == alone.iterations[0]
        assert_close(together.scores[i, :size], alone.scores[0])


def test_half_precision_works_to_the_end(model, generate):
    model.bfloat16()

    output = generate(sentences(model, *LENGTHS))

    assert output.scores.dtype == torch.float32
    assert torch.isfinite(output.scores).all()
