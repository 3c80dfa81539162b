"""`hf-nar benchmark`: the speed of our decoding against engines of an autoregressive teacher."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hf_nar.cli.called import CALLED
from hf_nar.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from hf_nar.evaluation.benchmark import Cell, Ratio, Row
    from hf_nar.evaluation.benchmark_run import Benchmark, Limits, TextSource
    from hf_nar.evaluation.benchmark_steps import Step
    from hf_nar.evaluation.engine_loading import SystemLoader
    from hf_nar.evaluation.engines import Engine, SystemSpec

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def benchmark(
    model: Annotated[str | None, typer.Argument(help="Folder or Hub id of a hf_nar model.")] = None,
    teacher: Annotated[
        str | None, typer.Option(help="Folder or Hub id of the autoregressive teacher.")
    ] = None,
    source_file: Annotated[
        Path | None, typer.Option(help="Real text, one sentence a line, or .gz.")
    ] = None,
    target_file: Annotated[
        Path | None, typer.Option(help="References of it, for BLEU of every system.")
    ] = None,
    random_init: Annotated[
        str | None,
        typer.Option(help="Without models: networks with new weights, of shape base or tiny."),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Of --random-init: lanmt or refinement_nar. [default: lanmt]"),
    ] = None,
    latent_axis: Annotated[
        str | None,
        typer.Option(help="Of --random-init lanmt: source, target or both. [default: source]"),
    ] = None,
    refinement: Annotated[
        str | None,
        typer.Option(help="Strategies of ours, such as delta_posterior,score. [default: all]"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Of ours: plain, packed for one CPU (see hf_nar.pack_weights), or both with a "
            "comma. [default: both where they can be packed]"
        ),
    ] = None,
    systems: Annotated[
        str, typer.Option(help="Names, or default, all, ours, transformers, ctranslate2.")
    ] = "default",
    iterations: Annotated[str, typer.Option(help="Refinement iterations of ours.")] = "0,1,4",
    batch_size: Annotated[
        str, typer.Option(help="Sentences at once; max is the largest batch that fits.")
    ] = "1",
    length: Annotated[
        str | None,
        typer.Option(
            help="Tokens of a sentence of random words, end token included. [default: 25]"
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of every engine.")] = 1,
    dtype: Annotated[
        str | None, typer.Option(help="Of ours and transformers, such as bfloat16.")
    ] = None,
    device: Annotated[str, typer.Option(help="Such as cpu or cuda.")] = "cpu",
    repeats: Annotated[int, typer.Option(help="Timed rounds of all systems.")] = 20,
    warm_up: Annotated[int, typer.Option(help="Rounds before them that do not count.")] = 2,
    cell_seconds: Annotated[
        float, typer.Option(help="After so long no further round is begun, if there are three.")
    ] = 120.0,
    max_memory: Annotated[
        float | None,
        typer.Option(help="GB for --batch-size max on a CPU. [default: half of the machine's]"),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(help="Time of one batch for --batch-size max on a CPU. [default: 30]"),
    ] = None,
    memory: Annotated[
        bool,
        typer.Option(help="Measure each system's peak memory beyond the libraries' in a process."),
    ] = True,
    seed: Annotated[int, typer.Option(help="Of weights, words and order.")] = 1,
    output: Annotated[
        Path | None,
        typer.Option(help="Results file; replaces what this command wrote there before."),
    ] = None,
) -> None:
    """Time our decoding and engines of an autoregressive teacher in turns, from text to text."""
    _check_call(model, teacher, source_file, target_file, random_init, length)
    _set_threads(threads)
    from hf_nar.auto import pick_device
    from hf_nar.cli.numbers import parse_numbers
    from hf_nar.evaluation.benchmark import Effort
    from hf_nar.evaluation.benchmark_report import cell_lines, describe_hardware, step_lines
    from hf_nar.evaluation.benchmark_run import Benchmark
    from hf_nar.evaluation.engine_loading import SystemLoader
    from hf_nar.evaluation.engines import select_systems
    from hf_nar.evaluation.results import check_results_file, environment, write_results

    quiet_libraries()
    effort = Effort(repeats, warm_up, cell_seconds)
    sizes = _parse_sizes(batch_size)
    lengths = parse_numbers("25" if length is None else length, "--length")
    counts = parse_numbers(iterations, "--iterations")
    where = pick_device(device)
    limits = _limits(max_memory, max_seconds, sizes, where.type)
    if output:
        check_results_file(output)
    with TemporaryDirectory() as temporary:
        asked = None if refinement is None else _names(refinement)
        networks = _networks(
            model,
            teacher,
            random_init,
            Path(temporary),
            seed,
            {"family": family, "latent-axis": latent_axis},
            asked,
        )
        loader = SystemLoader(networks, Path(temporary) / "converted", where, dtype, threads)
        ours = loader.translator().model
        with_shallow = random_init is not None
        chosen = select_systems(_specs(loader, asked, counts, weights, with_shallow), systems)
        texts = _texts(source_file, target_file, lengths, loader, seed)
        loaded = _load(loader, chosen, texts)
        facts = {**environment(where), "threads": threads}
        hardware = describe_hardware(facts)
        described = _describe(loader, loaded, texts, lengths[0], memory)

        def show(cell: Cell, rows: list[Row], ratios: list[Ratio], steps: list[Step]) -> None:
            print(
                "",
                *cell_lines(cell, rows, ratios, hardware),
                *step_lines(steps, cell, hardware),
                sep="\n",
                flush=True,
            )

        run = Benchmark(loaded, texts, effort, limits, show)
        run.run(sizes, [None] if texts.sentences else lengths)
    _print_end(run, hardware)
    if output:
        content = {
            "environment": facts,
            "seed": seed,
            "dtype": str(ours.dtype).removeprefix("torch."),
            "family": str(ours.config.model_type),
            "shape": random_init,
            "source": texts.name,
            "systems": described,
            "rows": [asdict(row) for row in run.rows],
            "ratios": [asdict(ratio) for ratio in run.ratios],
            "steps": [asdict(step) for step in run.steps],
            "overtakes": [asdict(found) for found in run.overtakings],
        }
        write_results(output, "benchmark", model, CALLED.get(), content)


def _check_call(
    model: str | None,
    teacher: str | None,
    source_file: Path | None,
    target_file: Path | None,
    random_init: str | None,
    length: str | None,
) -> None:
    if source_file and length is not None:
        raise ValueError(
            "`--length` is for random words, and sentences of `--source-file` have their own. "
            "Leave it out."
        )
    if target_file and not source_file:
        raise ValueError("`--target-file` needs the sources it translates. Give `--source-file`.")
    given = [value is not None for value in (model, teacher, source_file)]
    if any(given) if random_init is not None else not all(given):
        raise ValueError(
            "A benchmark needs either --random-init, or MODEL with --teacher and --source-file; "
            "got " + ("both." if random_init is not None else "a part of these, or neither.")
        )


def _set_threads(threads: int) -> None:
    """Limit the threads of every library, before any of them is loaded, and of processes begun."""
    if threads < 1:
        raise ValueError(f"`--threads` must be at least 1, got {threads}.")
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    import torch

    torch.set_num_threads(threads)


def _parse_sizes(text: str) -> list[int]:
    """Return batch sizes; `MAX` stands for `max`."""
    from hf_nar.cli.numbers import parse_numbers
    from hf_nar.evaluation.benchmark_run import MAX

    parts = [part.strip() for part in text.split(",")]
    numbers = [part for part in parts if part != "max"]
    sizes = parse_numbers(",".join(numbers), "--batch-size") if numbers else []
    if 0 in sizes:
        raise ValueError("`--batch-size` must be at least 1, or max; got 0.")
    return [*sizes, *([MAX] if "max" in parts else [])]


def _limits(
    max_memory: float | None, max_seconds: float | None, sizes: list[int], device: str
) -> Limits:
    """Return the limits of the largest batch; refuse those that would limit nothing."""
    from hf_nar.evaluation.benchmark_memory import half_of_memory_mb
    from hf_nar.evaluation.benchmark_run import MAX, Limits

    for option, value in (("--max-memory", max_memory), ("--max-seconds", max_seconds)):
        if value is not None and (MAX not in sizes or device == "cuda"):
            raise ValueError(f"`{option}` is for `--batch-size max` on a CPU only. Leave it out.")
    return Limits(
        half_of_memory_mb() if max_memory is None else 1000 * max_memory,
        30.0 if max_seconds is None else max_seconds,
    )


def _names(text: str) -> list[str]:
    """Return the parts of a list with commas, each once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def _networks(
    model: str | None,
    teacher: str | None,
    random_init: str | None,
    folder: Path,
    seed: int,
    given: dict[str, str | None],
    refinements: list[str] | None,
) -> dict[str, str]:
    """Return where each network is, after making random ones, with what the strategies need."""
    from hf_nar.evaluation.benchmark_networks import DEFAULT_FAMILY, REFINERS, write_random_networks

    if random_init is None:
        for option, value in given.items():
            if value is not None:
                raise ValueError(
                    f"`--{option}` is for `--random-init`, and a model has its own "
                    f"{option.replace('-', ' ')}. Leave it out."
                )
        return {"ours": str(model), "teacher": str(teacher)}
    family, axis = given["family"] or DEFAULT_FAMILY, given["latent-axis"]
    if family != DEFAULT_FAMILY:
        if axis is not None:
            raise ValueError(
                f"`--latent-axis` is for {DEFAULT_FAMILY}, but `--family` is {family}. Leave it "
                f"out."
            )
        return write_random_networks(random_init, folder, seed, family)
    wanted = REFINERS if refinements is None else refinements
    refiners = [refiner for refiner in REFINERS if refiner in wanted]
    return write_random_networks(
        random_init, folder, seed, family, _names(axis or "source"), refiners
    )


def _specs(
    loader: SystemLoader,
    refinements: list[str] | None,
    iterations: list[int],
    weights: str | None,
    with_shallow: bool,
) -> list[SystemSpec]:
    """Return every system there is."""
    from hf_nar.evaluation.engines import PACKED, PLAIN, list_ours, list_teachers, pick_refinements
    from hf_nar.packing import why_not_pack

    specs = []
    for network in loader.our_networks:
        model = loader.translator(network).model
        reason = why_not_pack(model)
        layouts = [PLAIN, PACKED] if reason is None else [PLAIN]
        if weights is not None:
            layouts = _names(weights)
        for layout in layouts:
            if layout not in (PLAIN, PACKED):
                raise ValueError(f"`--weights` must be of {PLAIN}, {PACKED}; got {layout!r}.")
            if layout == PACKED and reason is not None:
                raise ValueError(f"`--weights` cannot be {PACKED} here: {reason}. Leave it out.")
            names = pick_refinements(model, refinements)
            specs += list_ours(model, network, names, iterations, layout)
    dtype = str(model.dtype).removeprefix("torch.")
    return specs + list_teachers(dtype, loader.device, with_shallow)


def _texts(
    source_file: Path | None,
    target_file: Path | None,
    lengths: list[int],
    loader: SystemLoader,
    seed: int,
) -> TextSource:
    from hf_nar.evaluation.benchmark_run import TextSource, check_lengths
    from hf_nar.evaluation.sentences import read_sentences

    if source_file is None:
        check_lengths(lengths, loader.longest)
        vocab_size = int(loader.translator().model.config.vocab_size)
        return TextSource("random tokens", seed, vocab_size)
    if target_file is None:
        sentences = read_sentences(None, source_file).references
        return TextSource(source_file.name, seed, sentences=sentences)
    pairs = read_sentences(source_file, target_file)
    return TextSource(
        source_file.name, seed, sentences=pairs.sources or [], references=pairs.references
    )


def _load(loader: SystemLoader, specs: list[SystemSpec], texts: TextSource) -> list[Engine]:
    """Load the systems; leave out, with a line that says so, one that torch cannot compile."""
    from hf_nar.evaluation.benchmark_run import check_sentences

    systems = []
    for spec in specs:
        system = loader.load(spec)
        reason = _cannot_compile(system) if spec.decoding.get("static_cache") else None
        if reason is None:
            systems.append(system)
        else:
            print(f"{spec.name} is left out, as it does not run here: {reason}", file=sys.stderr)
    if not systems:
        raise ValueError("`--systems` must name one that runs here, but none does.")
    if texts.sentences:
        check_sentences(systems, texts.sentences, loader.longest)
    return systems


def _cannot_compile(system: Engine) -> str | None:
    """Return the first line of what torch has against compiling; None if it compiles."""
    try:
        system.run(system.tokenize(["w5 w6"]), 4)
    except RuntimeError as error:
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return None


def _describe(
    loader: SystemLoader, systems: list[Engine], texts: TextSource, length: int, memory: bool
) -> list[dict[str, Any]]:
    """Print and return what each system weighs, its peak memory being that of one sentence."""
    from hf_nar.evaluation.benchmark import Cell
    from hf_nar.evaluation.benchmark_memory import measure_peak_memory
    from hf_nar.evaluation.benchmark_report import describe_system, system_lines
    from hf_nar.evaluation.benchmark_run import translate_all
    from hf_nar.evaluation.quality import corpus_scores

    cell = Cell(1, None if texts.sentences else length)
    batch = next(texts.batches(cell))
    described = []
    for system in systems:
        peak = measure_peak_memory(loader, system.spec, batch, cell.length) if memory else None
        quality = None
        if texts.references:
            quality = corpus_scores(translate_all(system, texts.sentences), texts.references)
        described.append(describe_system(system, peak, quality))
    print(*system_lines(described), sep="\n", flush=True)
    return described


def _print_end(run: Benchmark, hardware: str) -> None:
    """Print the largest batches, and where engines overtake ours."""
    from hf_nar.evaluation.benchmark_report import largest_line, overtaking_lines

    if run.largest:
        lines = [largest_line(length, largest) for length, largest in run.largest.items()]
        print("", *lines, sep="\n")
    if run.overtakings:
        sizes = sorted({row.batch_size for row in run.rows})
        print(*overtaking_lines(run.overtakings, sizes, hardware), sep="\n")
