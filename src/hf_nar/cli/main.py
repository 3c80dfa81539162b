"""`hf-nar`: the commands, and what becomes of their errors."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, cast

import typer
from typer.main import get_command

from hf_nar import __version__
from hf_nar.cli.benchmark import benchmark
from hf_nar.cli.called import CALLED
from hf_nar.cli.card import card
from hf_nar.cli.check import check
from hf_nar.cli.corrupt import corrupt
from hf_nar.cli.demo import demo
from hf_nar.cli.distill import distill
from hf_nar.cli.env import env
from hf_nar.cli.evaluate import evaluate
from hf_nar.cli.evaluate_captions import evaluate_captions
from hf_nar.cli.landscape import landscape
from hf_nar.cli.latency import latency
from hf_nar.cli.plot import plot
from hf_nar.cli.push import push
from hf_nar.cli.tokenizer import tokenizer
from hf_nar.cli.train import train
from hf_nar.cli.translate import translate

BAD_CALL = 2  # also: a model or a file that cannot be used
INTERRUPTED = 130  # what shells report after Ctrl-C
CLOSED_PIPE = 141  # what shells report where the reader, such as `head`, went away

# The parent of all errors of parsing; typer exports only this child of it.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="hf-nar",
    help="Translate a whole sentence at once, then refine it.",
    epilog="Exit codes: 0 done, 1 some lines were not translated, 2 the call, the model or a file "
    "cannot be used, 75 training was asked to stop and can go on.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(translate)
app.command()(tokenizer)
app.command()(train)
app.command()(distill)
app.command()(corrupt)
app.command()(evaluate)
app.command("evaluate-captions")(evaluate_captions)
app.command()(benchmark)
app.command()(latency)
app.command()(landscape)
app.command()(plot)
app.command()(demo)
app.command()(card)
app.command()(check)
app.command()(push)
app.command()(env)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hf-nar {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="HF_NAR_DEBUG", help="Show where an error came from.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Read the options that stand before the command."""


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    An expected error (`ValueError`, `OSError`, `FloatingPointError`) becomes one line on standard
    error; any other is a bug of ours and keeps its traceback.

    Args:
        argv: Arguments after the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    CALLED.set(tuple(arguments))
    debug = bool(os.environ.get("HF_NAR_DEBUG"))
    try:
        with get_command(app).make_context("hf-nar", list(arguments)) as context:
            debug = debug or bool(context.params.get("debug"))
            context.command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as error:
        return error.exit_code
    except _UsageError as error:
        return _report(error.format_message(), debug)
    except BrokenPipeError:
        _drop_output()
        return CLOSED_PIPE
    except KeyboardInterrupt:
        print("hf-nar: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError, FloatingPointError) as error:
        return _report(str(error) or type(error).__name__, debug)
    return 0


def _report(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"hf-nar: error: {' '.join(message.split())}", file=sys.stderr)
    return BAD_CALL


def _drop_output() -> None:
    """Let Python's own flush at exit go nowhere, as the reader is gone."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # standard output is not a file, as in a test
        return
