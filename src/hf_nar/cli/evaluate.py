"""`hf-nar evaluate`: translate a test set and score it, or score what another system made of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from hf_nar.cli.called import CALLED
from hf_nar.cli.options import DEFAULT_SEED, RankWith, SourceLanguage, TargetLanguage
from hf_nar.cli.quiet import quiet_libraries

if TYPE_CHECKING:
    from hf_nar.evaluation.candidates import Candidate
    from hf_nar.evaluation.settings import Setting
    from hf_nar.evaluation.systems import System

Value = TypeVar("Value", int, str)


def evaluate(
    target_file: Annotated[Path, typer.Option(help="References, one sentence a line, or .gz.")],
    model: Annotated[
        str | None,
        typer.Argument(
            help="Folder or Hub id of a hf_nar model, or of an autoregressive one such as Marian."
        ),
    ] = None,
    source_file: Annotated[
        Path | None, typer.Option(help="Source text, one sentence a line, or .gz.")
    ] = None,
    hypotheses: Annotated[
        Path | None,
        typer.Option(help="Score these translations, one a line, or .gz, instead of a model."),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Some of bleu, chrf, ter, bleu-tokenised (words as the files' spaces part them), "
            "exact (percent of sentences that equal their reference) and comet (by the program "
            "comet-score of unbabel-comet)."
        ),
    ] = "bleu,chrf",
    iterations: Annotated[
        str | None,
        typer.Option(help="Refinement iterations of a hf_nar model. [default: 0,1,4]"),
    ] = None,
    refinement: Annotated[
        str | None,
        typer.Option(
            help="Ways to refine, such as delta_posterior,score,energy, each with each number of "
            "iterations; none decodes from the prior mean. [default: the model's own]"
        ),
    ] = None,
    beams: Annotated[
        str | None,
        typer.Option(help="Beams of an autoregressive model; 1 is greedy. [default: 1,4]"),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            help="Knobs of `generate`, such as num_refinement_iterations=2,collapse_repeats=false "
            "or refinement=score,length_beam=3,num_latents=3,rank_by=teacher. May be repeated."
        ),
    ] = None,
    rank_with: RankWith = None,
    likelihood: Annotated[
        int | None,
        typer.Option(
            help="Estimate ELBO and marginal likelihood of translations and references under a "
            "model with latents, from so many samples of them, such as 20."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Compare with these translations of the test set. May be repeated."),
    ] = None,
    bootstrap_samples: Annotated[
        int | None,
        typer.Option(help="Resampled test sets of each comparison. [default: 1000]"),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of comparisons, likelihoods, and decoding that samples.")
    ] = DEFAULT_SEED,
    prefix: Annotated[
        str | None, typer.Option(help="Put before each source, as T5 wants it.")
    ] = None,
    source_language: SourceLanguage = None,
    target_language: TargetLanguage = None,
    comet_model: Annotated[
        str | None,
        typer.Option(
            help="Hub id or .ckpt file; comet-score unpickles it. [default: Unbabel/wmt22-comet-da]"
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Sentences at once. [default: 32]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Such as cpu or cuda.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Results file; replaces what this command wrote there before."),
    ] = None,
    translations: Annotated[
        Path | None, typer.Option(help="Folder for the translations of each setting.")
    ] = None,
) -> None:
    """Score a model's translations of a test set, with one or several decoding settings.

    With --hypotheses in place of a model, another system's translations are scored.
    """
    from hf_nar.evaluation.candidates import FileCandidate  # late: help must not load torch
    from hf_nar.evaluation.comet import DEFAULT_MODEL
    from hf_nar.evaluation.metrics import COMET, parse_metrics
    from hf_nar.evaluation.report import QualityTable, comparison_lines
    from hf_nar.evaluation.results import check_results_file, write_results
    from hf_nar.evaluation.run import Evaluation, run_evaluation
    from hf_nar.evaluation.sentences import read_sentences, read_translations
    from hf_nar.evaluation.significance import DEFAULT_SAMPLES

    quiet_libraries()
    names = parse_metrics(metrics)
    options = {
        "--iterations": iterations,
        "--refinement": refinement,
        "--beams": beams,
        "--setting": setting,
        "--rank-with": rank_with,
        "--likelihood": likelihood,
        "--prefix": prefix,
        "--source-language": source_language,
        "--target-language": target_language,
        "--translations": translations,
        "--batch-size": batch_size,
    }
    _check_call(model, hypotheses, source_file, options)
    samples = _option(
        "--bootstrap-samples", bootstrap_samples, DEFAULT_SAMPLES, "--against", against
    )
    comet = _option("--comet-model", comet_model, DEFAULT_MODEL, "--metrics comet", COMET in names)
    if output:
        check_results_file(output)
    sentences = read_sentences(source_file, target_file)
    if sentences.dropped:
        print(f"{sentences.dropped} pairs with an empty side are left out", file=sys.stderr)
    evaluation = Evaluation(
        sentences=sentences,
        metrics=names,
        others={
            name: read_translations(file, "--against", sentences)
            for name, file in _short_names(against or []).items()
        },
        samples=samples,
        seed=seed,
        comet_model=comet,
        use_gpu=_uses_gpu(device),
    )
    candidate: Candidate
    if hypotheses:
        texts = read_translations(hypotheses, "--hypotheses", sentences)
        candidate = FileCandidate(str(hypotheses), hypotheses.name, texts)
    else:
        languages = (prefix, source_language, target_language)
        wishes = _Wishes(iterations, refinement, beams, setting or [], rank_with, likelihood)
        candidate = _load(str(model), device, languages, wishes, batch_size or 32, seed)
    if translations:
        translations.mkdir(parents=True, exist_ok=True)
    table = QualityTable(candidate.labels, names, candidate.likelihoods)
    print(table.header(), flush=True)
    content = run_evaluation(
        evaluation, candidate, lambda row: print(table.row(row), flush=True), translations
    )
    print("\n".join(table.signatures(content["rows"][0])))
    if content["against"]:
        print("\n" + "\n".join(comparison_lines(content["against"], samples, seed)))
    if output:
        files = {
            "source_file": source_file.name if source_file else None,
            "target_file": target_file.name,
            "hypotheses_file": hypotheses.name if hypotheses else None,
        }
        write_results(output, "quality", candidate.name, CALLED.get(), {**files, **content})


def _check_call(
    model: str | None,
    hypotheses: Path | None,
    source_file: Path | None,
    options: Mapping[str, Any],
) -> None:
    """Check that there is one thing to score, and no option that would be ignored."""
    if (model is None) == (hypotheses is None):
        got = "neither" if model is None else "both"
        raise ValueError(f"Give a model or `--hypotheses`, one of the two; got {got}.")
    if model is not None and source_file is None:
        raise ValueError("A model needs something to translate. Give `--source-file`.")
    given = [option for option, value in options.items() if value]
    if hypotheses and given:
        raise ValueError(
            f"`{given[0]}` is for a model, and with `--hypotheses` nothing is translated. Leave it "
            f"out."
        )


def _option(name: str, value: Value | None, default: Value, other: str, is_read: object) -> Value:
    """Return an option's value or its default; refuse one that nothing reads."""
    if value is not None and not is_read:
        raise ValueError(f"`{name}` is for `{other}` only, and changes nothing here. Leave it out.")
    return default if value is None else value


def _short_names(files: Sequence[Path]) -> dict[str, Path]:
    """Return each file by its name, or by all of its path where two have the same name."""
    names = [file.name for file in files]
    return {file.name if names.count(file.name) == 1 else str(file): file for file in files}


def _uses_gpu(device: str | None) -> bool:
    from hf_nar.auto import pick_device

    return pick_device(device).type == "cuda"


@dataclass(frozen=True)
class _Wishes:
    """What is asked of a model: options as they were given."""

    iterations: str | None
    refinement: str | None
    beams: str | None
    settings: Sequence[str]
    rank_with: str | None
    likelihood: int | None


def _load(
    model: str,
    device: str | None,
    languages: tuple[str | None, str | None, str | None],
    wishes: _Wishes,
    batch_size: int,
    seed: int,
) -> Candidate:
    """Load a model and check every setting before anything is translated."""
    from hf_nar.evaluation.candidates import ModelCandidate
    from hf_nar.evaluation.systems import check_setting, load_system
    from hf_nar.inference import Translator

    prefix, source, target = languages
    system = load_system(
        model,
        device,
        wishes.rank_with,
        prefix=prefix,
        source_language=source,
        target_language=target,
    )
    chosen = _settings(wishes, is_autoregressive=not isinstance(system, Translator))
    for one in chosen:
        check_setting(system, one)
    if isinstance(system, Translator) and wishes.rank_with is not None:
        _option(
            "--rank-with",
            wishes.rank_with,
            wishes.rank_with,
            "--setting length_beam=5,rank_by=teacher",
            any(system.ranks_by_teacher(one.knobs) for one in chosen),
        )
    if wishes.likelihood is not None:
        _check_likelihood(model, system, wishes.likelihood)
    return ModelCandidate(
        model, system, chosen, batch_size, seed, wishes.rank_with, wishes.likelihood
    )


def _settings(wishes: _Wishes, is_autoregressive: bool) -> list[Setting]:
    from hf_nar.cli.numbers import parse_numbers
    from hf_nar.evaluation.settings import choose_settings

    counts, widths = (
        None if text is None else parse_numbers(text, option)
        for text, option in ((wishes.iterations, "--iterations"), (wishes.beams, "--beams"))
    )
    refinements = None if wishes.refinement is None else _names(wishes.refinement)
    return choose_settings(is_autoregressive, counts, widths, wishes.settings, refinements)


def _names(text: str) -> list[str]:
    """Return the names of strategies, in order, each once."""
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise ValueError(
            f"`--refinement` must be names with commas, such as delta_posterior,score; got "
            f"{text!r}."
        )
    return list(dict.fromkeys(names))


def _check_likelihood(model: str, system: System, samples: int) -> None:
    from hf_nar.evaluation.likelihood import check_likelihood
    from hf_nar.inference import Translator

    if not isinstance(system, Translator):
        raise ValueError(
            f"`--likelihood` is for models with latents, and {model} is autoregressive. Leave it "
            f"out."
        )
    check_likelihood(system, samples)
