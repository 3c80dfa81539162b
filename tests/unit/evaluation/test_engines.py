import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    LEDConfig,
    LEDForConditionalGeneration,
    M2M100Config,
    M2M100ForConditionalGeneration,
    MarianMTModel,
)

import hf_nar.evaluation
from hf_nar.evaluation.benchmark import Cell
from hf_nar.evaluation.benchmark_networks import write_random_networks
from hf_nar.evaluation.benchmark_run import TextSource, translate_all
from hf_nar.evaluation.engine_loading import SystemLoader
from hf_nar.evaluation.engines import list_systems, select_systems

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    return write_random_networks("tiny", folder, seed=3)


@pytest.fixture(scope="module")
def loader(networks, tmp_path_factory):
    converted = tmp_path_factory.mktemp("engines") / "converted"
    return SystemLoader(networks, converted, CPU, dtype=None, threads=1)


@pytest.fixture(scope="module")
def specs(loader):
    return list_systems(loader.translator().model, [0, 1], CPU, with_shallow=True)


def named(specs, name):
    return next(spec for spec in specs if spec.name == name)


def texts_of(count, length):
    return next(TextSource("random tokens", 0, 120).batches(Cell(count, length)))


def test_systems_have_names_to_read(specs):
    names = [spec.name for spec in specs]

    assert names[:2] == ["LaNMT, 0 iterations", "LaNMT, 1 iteration"]
    assert set(names) >= {
        "transformers greedy",
        "transformers beam 4",
        "transformers greedy, compiled with static cache",
        "CTranslate2 float32 greedy",
        "CTranslate2 int8 beam 4",
        "CTranslate2 int8 greedy, 12-1",
    }
    assert len(set(names)) == len(names)


def test_every_strategy_of_the_model_is_a_system_for_each_count(loader):
    model = loader.translator().model
    both = {"delta_posterior": object, "latent_search": object}

    class TwoStrategies(type(model)):
        refinements = both

    other = TwoStrategies.__new__(TwoStrategies)
    other.__dict__.update(model.__dict__)
    ours = [spec for spec in list_systems(other, [1], CPU, False) if spec.is_ours]

    assert [spec.decoding["refinement"] for spec in ours] == list(both)
    assert ours[1].name == "TwoStrategies, latent search, 1 iteration"


def test_a_compiled_teacher_is_on_by_default_on_a_gpu_only(loader):
    model = loader.translator().model
    name = "transformers greedy, compiled with static cache"

    for device, expected in ((CPU, False), (torch.device("cuda"), True)):
        chosen = select_systems(list_systems(model, [1], device, False), "default")
        assert (name in [spec.name for spec in chosen]) == expected


def test_the_teacher_with_a_deep_encoder_is_there_only_where_it_is_asked_for(loader):
    model = loader.translator().model

    assert not [s for s in list_systems(model, [1], CPU, False) if s.name.endswith("12-1")]


def test_names_with_commas_and_groups_can_be_asked_for_together(specs):
    chosen = select_systems(
        specs, "CTranslate2 int8 greedy, 12-1,LaNMT, 1 iteration, transformers greedy"
    )

    assert [spec.name for spec in chosen] == [
        "LaNMT, 1 iteration",
        "transformers greedy",
        "CTranslate2 int8 greedy, 12-1",
    ]
    assert select_systems(specs, "all") == specs
    assert {spec.engine for spec in select_systems(specs, "ours, transformers")} == {
        "hf_nar",
        "transformers",
    }


def test_an_unknown_system_is_refused_by_name(specs):
    with pytest.raises(ValueError, match=r"must name groups \(default, all, .* got 'Marian'"):
        select_systems(specs, "ours,Marian")


def test_without_ctranslate2_the_error_says_how_to_install_it(loader, specs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    monkeypatch.delitem(sys.modules, "hf_nar.evaluation.engine_ctranslate2", raising=False)
    monkeypatch.delattr(hf_nar.evaluation, "engine_ctranslate2", raising=False)

    with pytest.raises(ValueError, match=r'pip install "hf-nar\[benchmark\]"'):
        loader.load(named(specs, "CTranslate2 int8 greedy"))


@pytest.mark.parametrize("length", [2, 9])
def test_every_engine_makes_exactly_the_tokens_that_were_asked_for(loader, specs, length):
    pytest.importorskip("ctranslate2")
    texts = texts_of(3, 7)

    for spec in select_systems(specs, "default"):
        system = loader.load(spec)
        rows = system.run(system.tokenize(texts), length)
        assert [len(row) for row in rows] == [length] * 3, spec.name
        assert len(system.detokenize(rows)) == 3


def test_random_texts_have_exactly_the_length_that_was_asked_for(loader, specs):
    pytest.importorskip("ctranslate2")
    texts = texts_of(4, 11)

    for spec in select_systems(specs, "default"):
        assert loader.load(spec).count_tokens(texts) == [11] * 4


def test_ours_runs_the_iterations_of_its_name(loader, specs, monkeypatch):
    system = loader.load(named(specs, "LaNMT, 1 iteration"))
    calls = []
    posterior = type(system.model).infer_posterior
    monkeypatch.setattr(
        type(system.model),
        "infer_posterior",
        lambda *inputs: calls.append(1) or posterior(*inputs),
    )

    system.run(system.tokenize(texts_of(2, 6)), 6)

    assert len(calls) == 1


def small(config_class, **values):
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    tokens["forced_eos_token_id"] = None
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "vocab_size": 120}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    layers = {"encoder_layers": 2, "decoder_layers": 2}
    shape = {**sizes, **heads, **layers, "activation_function": "relu"}
    return config_class(**tokens, **shape, **values)


def new_network(kind, folder):
    if kind == "m2m_100":
        return M2M100ForConditionalGeneration(small(M2M100Config))
    if kind == "bart":
        return BartForConditionalGeneration(small(BartConfig, normalize_before=False))
    return MarianMTModel.from_pretrained(folder)


@pytest.fixture(params=["marian 1-1", "marian 12-1", "m2m_100", "bart"])
def restless(request, networks, tmp_path):
    """Load a teacher whose next token depends on position, source and all tokens before."""
    folder = networks["teacher 12-1" if request.param == "marian 12-1" else "teacher"]
    model = new_network(request.param, folder)
    torch.manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(mean=float(weight.ndim == 1), std=0.5 if weight.ndim == 2 else 0.1)
        for name, bias in model.named_parameters():
            if name.endswith("bias"):
                bias.sub_(1)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    model.save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "teacher")
    changed = {**networks, "teacher": str(tmp_path / "teacher")}
    return SystemLoader(changed, tmp_path / "converted", CPU, None, 1)


# Where the end token is forbidden, CTranslate2 shares its probability out among the others and
# transformers does not, so that beams of a fixed length may differ.
@pytest.mark.parametrize(("search", "length"), [("greedy", 12), ("greedy", None), ("beam 4", None)])
def test_ctranslate2_makes_the_tokens_of_transformers(restless, specs, search, length):
    pytest.importorskip("ctranslate2")
    converted = restless.load(named(specs, f"CTranslate2 float32 {search}"))
    theirs = restless.load(named(specs, f"transformers {search}"))
    theirs.model.generation_config.max_length = 13  # with the start token
    converted.max_length = 12
    texts = [*texts_of(8, 9), *texts_of(8, 5)]

    rows = converted.run(converted.tokenize(texts), length)
    expected = theirs.run(theirs.tokenize(texts), length)

    assert [theirs.tokenizer.convert_tokens_to_ids(row) for row in rows] == expected
    assert len({token for row in expected for token in row}) > 2  # else it shows nothing


def save_network(network, networks, folder):
    network.save_pretrained(folder)
    AutoTokenizer.from_pretrained(networks["teacher"]).save_pretrained(folder)
    return SystemLoader({**networks, "teacher": str(folder)}, folder / "converted", CPU, None, 1)


def test_a_teacher_is_converted_from_the_weights_that_were_checked(
    networks, specs, tmp_path, monkeypatch
):
    pytest.importorskip("ctranslate2")
    network = BartForConditionalGeneration(small(BartConfig, normalize_before=False))
    loader = save_network(network, networks, tmp_path)
    seen = []
    load = BartForConditionalGeneration.from_pretrained
    monkeypatch.setattr(
        BartForConditionalGeneration,
        "from_pretrained",
        lambda *names, **options: seen.append(options) or load(*names, **options),
    )

    loader.load(named(specs, "CTranslate2 float32 greedy"))

    assert [options.get("use_safetensors") for options in seen] == [True]


def test_a_network_that_ctranslate2_cannot_read_is_one_clear_sentence(networks, specs, tmp_path):
    pytest.importorskip("ctranslate2")
    led = LEDForConditionalGeneration(small(LEDConfig, attention_window=4))
    without_a_knob = BartForConditionalGeneration(small(BartConfig))

    for network in (led, without_a_knob):
        name = type(network).__name__
        loader = save_network(network, networks, tmp_path / name)
        with pytest.raises(ValueError, match=f"CTranslate2 .*{name}.*Leave it out"):
            loader.load(named(specs, "CTranslate2 float32 greedy"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler uses what torch itself deprecates
def test_a_compiled_teacher_makes_the_tokens_of_the_plain_one(restless, specs):
    plain = restless.load(named(specs, "transformers greedy"))
    compiled = restless.load(named(specs, "transformers greedy, compiled with static cache"))
    texts = texts_of(2, 6)

    rows = compiled.run(compiled.tokenize(texts), 7)

    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0  # it did compile
    assert rows == plain.run(plain.tokenize(texts), 7)


def test_both_engines_stop_at_the_teachers_longest_translation(loader, specs):
    pytest.importorskip("ctranslate2")
    converted = loader.load(named(specs, "CTranslate2 float32 greedy"))

    assert converted.max_length == loader.teacher("teacher").model.generation_config.max_length - 1


def test_beams_are_used_where_the_name_says_so(loader, specs, monkeypatch):
    system = loader.load(named(specs, "transformers beam 4"))
    seen = []
    generate = type(system.model).generate
    monkeypatch.setattr(
        type(system.model),
        "generate",
        lambda self, **options: seen.append(options["num_beams"]) or generate(self, **options),
    )

    system.run(system.tokenize(texts_of(1, 5)), 5)

    assert seen == [4]


def test_int8_takes_less_room_on_disk_than_float32(loader, specs):
    pytest.importorskip("ctranslate2")
    exact = loader.load(named(specs, "CTranslate2 float32 greedy"))
    rounded = loader.load(named(specs, "CTranslate2 int8 greedy"))
    teacher = loader.load(named(specs, "transformers greedy"))

    assert 0 < rounded.size_mb < exact.size_mb
    assert exact.parameters == rounded.parameters == teacher.parameters
    weights = Path(teacher.folder, "model.safetensors").stat().st_size
    assert teacher.size_mb == pytest.approx(weights / 1e6)


def test_ctranslate2_has_as_many_threads_as_it_was_given(networks, tmp_path):
    pytest.importorskip("ctranslate2")
    counts, systems = [], []
    for threads in (1, 3):
        loader = SystemLoader(networks, tmp_path / "converted", CPU, None, threads)
        specs = list_systems(loader.translator().model, [0], CPU, False)
        before = count_threads()
        system = loader.load(named(specs, "CTranslate2 float32 greedy"))
        system.run(system.tokenize(texts_of(8, 20)), 20)
        systems.append(system)  # a system that goes takes its threads along
        counts.append(count_threads() - before)

    assert counts[1] - counts[0] == 2


def count_threads():
    folder = Path("/proc/self/task")
    if not folder.is_dir():
        pytest.skip("this system does not list the threads of a process")
    return len(list(folder.iterdir()))


def test_half_precision_is_for_ours_and_transformers_on_a_cpu(networks, tmp_path):
    loader = SystemLoader(networks, tmp_path / "converted", CPU, "bfloat16", 1)
    specs = list_systems(loader.translator().model, [0], CPU, False)

    assert {spec.precision for spec in specs if spec.engine != "ctranslate2"} == {"bfloat16"}
    assert {s.precision for s in specs if s.engine == "ctranslate2"} == {"float32", "int8"}
    assert loader.load(specs[0]).model.dtype == torch.bfloat16


def test_all_sentences_are_translated_in_their_order_whatever_their_length(loader, specs):
    system = loader.load(named(specs, "LaNMT, 1 iteration"))
    sentences = [text for length in (9, 3, 12, 5, 7) for text in texts_of(1, length)]

    texts = translate_all(system, sentences, batch_size=2)

    assert texts == [loader.translator().translate([text])[0] for text in sentences]
    assert len(set(texts)) == len(texts)
