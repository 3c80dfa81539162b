"""The folder of a Space: the demo of a model on the Hub."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from hf_nar.demo.app import Settings

FILES = ("app.py", "drafts.py", "guard.py", "page.css")  # copied as they are
NEEDED = ("torch", "transformers", "gradio")
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"  # a Space without GPU needs no CUDA packages


def write_space(folder: Path, model_id: str, **settings: Any) -> None:
    """Write all files of a Space that shows a model.

    Args:
        folder: Where to; made if it does not exist.
        model_id: The model on the Hub.
        **settings: Further `Settings` of the page, such as `revision`, `teacher`, `languages` and
            `examples`.

    Raises:
        ValueError: If `model_id` is no id of the Hub, or a setting is wrong.
        TypeError: If a setting is unknown.
    """
    if model_id.count("/") != 1 or model_id.startswith((".", "/", "~")):
        raise ValueError(
            f"A Space must show a model on the Hub, with an id like owner/name; got {model_id!r}. "
            f"Push the model first."
        )
    values = dataclasses.asdict(Settings(model_id, **settings))
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    content = json.dumps(values, indent=2, ensure_ascii=False)
    (folder / "settings.json").write_text(content + "\n", "utf-8")
    (folder / "requirements.txt").write_text("\n".join(_requirements()) + "\n", "utf-8")
    (folder / "README.md").write_text(_readme(model_id), "utf-8")


def _requirements() -> Iterator[str]:
    """Yield what a Space installs: the versions that are installed here."""
    yield f"--extra-index-url {CPU_WHEELS}"
    for name in NEEDED:
        yield f"{name}=={version(name).partition('+')[0]}"  # torch's build is the index's choice


def _readme(model_id: str) -> str:
    front = {
        "title": model_id.partition("/")[2],
        "emoji": "⚡",
        "colorFrom": "blue",
        "colorTo": "yellow",
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "app_file": "app.py",
        "models": [model_id],
        "license": "apache-2.0",
    }
    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True)
    return (
        f"---\n{head}---\n\n"
        f"Translates with [{model_id}](https://huggingface.co/{model_id}) and shows its drafts.\n"
    )
