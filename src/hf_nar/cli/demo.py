"""`hf-nar demo`: a page in the browser that translates and shows the drafts."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Annotated

import typer

from hf_nar.cli.options import Device, Dtype
from hf_nar.cli.quiet import quiet_libraries


def demo(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of a hf_nar model.")],
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Folder or Hub id of an autoregressive model to compare with; where it has the "
            "model's vocabulary it can also choose among translations."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of the model on the Hub.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on; 0.0.0.0 is all. [default: this machine alone]"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="[default: the first free from 7860]")
    ] = None,
    max_characters: Annotated[int, typer.Option(min=1, help="Longest text.")] = 300,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests that wait at most; the next one is refused.")
    ] = 100,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests that are answered at the same time.")
    ] = 1,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Show a page in the browser: a translation, its drafts, and its time beside a teacher's.

    It is the page that `hf-nar push --space` puts on the Hub. It asks nobody else for anything.
    """
    if find_spec("gradio") is None:
        raise ValueError(
            '`hf-nar demo` needs gradio. Install it with `pip install "hf-nar[demo]"`.'
        )
    quiet_libraries()
    from hf_nar.demo.about import about_model
    from hf_nar.demo.app import Networks, Settings, start
    from hf_nar.inference import Translator
    from hf_nar.teacher import Teacher

    translator = Translator.from_pretrained(model, device=device, dtype=dtype, revision=revision)
    networks = Networks(translator.model, translator.tokenizer)
    if teacher is not None:
        other = Teacher.from_pretrained(teacher, device=device, dtype=dtype)
        networks = replace(networks, teacher=other.model, teacher_tokenizer=other.tokenizer)
    about = about_model(model, revision)
    settings = Settings(
        model,
        revision=revision,
        teacher=teacher,
        languages=about.languages,
        examples=about.examples,
        max_characters=max_characters,
        max_waiting=max_waiting,
        concurrency=concurrency,
    )
    page = start(networks, settings, host, port)
    print(f"The demo is at {page.local_url} and ends with Ctrl-C.", flush=True)
    page.block_thread()
