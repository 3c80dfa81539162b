"""The code in a model folder: which files it is, whether it is the package's, and its renewal."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from hf_nar import remote_code
from hf_nar.auto import check_model_type
from hf_nar.training.models import FAMILIES

CONFIG = "config.json"
HANDLER = Path(str(remote_code.__file__)).with_name("handler.py")  # of Inference Endpoints


def code_entries(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a `config.json` must say for transformers to find a model's code.

    Args:
        config: Its content: `model_type`, and `vision_config` of a model that reads images.
    """
    config_class, model_class = FAMILIES[config["model_type"]]
    network = _reference(model_class)
    entries: dict[str, Any] = {
        "auto_map": {
            "AutoConfig": _reference(config_class),
            "AutoModel": network,
            "AutoModelForSeq2SeqLM": network,
        }
    }
    if config.get("vision_config") is None:
        entries["custom_pipelines"] = {
            task: {"impl": _reference(pipeline), "pt": ["AutoModelForSeq2SeqLM"], "type": "text"}
            for task, pipeline in _pipelines(model_class).items()
        }
    return entries


def code_files(config: Mapping[str, Any]) -> list[Path]:
    """Return the package's files that a model folder holds a copy of, sorted.

    Args:
        config: Content of the folder's `config.json`.
    """
    config_class, model_class = FAMILIES[config["model_type"]]
    own = [_file(cls) for cls in (config_class, model_class)]
    imported = (Path(name) for file in own for name in get_relative_import_files(file))
    handler = [HANDLER] if "custom_pipelines" in code_entries(config) else []
    return sorted({*own, *imported, *handler})


def outdated_code(folder: Path) -> list[str]:
    """Return the files of a model folder whose code is missing or not the installed package's.

    Args:
        folder: A folder with `config.json`; that file is named, too, if it does not name the code.

    Raises:
        OSError: If there is no `config.json`, or it is damaged.
        ValueError: If it is not a model of this package.
    """
    config = _read_config(folder)
    outdated = [
        file.name
        for file in code_files(config)
        if not (folder / file.name).is_file()
        or (folder / file.name).read_bytes() != file.read_bytes()
    ]
    entries = code_entries(config)
    named = {name: config[name] for name in ("auto_map", "custom_pipelines") if name in config}
    return outdated if named == entries else [CONFIG, *outdated]


def write_code(folder: Path) -> None:
    """Give a model folder the code of the installed package; its weights are not touched.

    Writes the network, its pipeline and `handler.py`, and names them in `config.json`. A file of
    code that is no longer needed stays.

    Args:
        folder: A folder with `config.json`.

    Raises:
        OSError: As `outdated_code`.
        ValueError: As `outdated_code`.
    """
    config = _read_config(folder)
    for file in code_files(config):
        shutil.copyfile(file, folder / file.name)
    kept = {name: value for name, value in config.items() if name != "custom_pipelines"}
    text = json.dumps({**kept, **code_entries(config)}, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(f"{text}\n", encoding="utf-8")  # as transformers writes it


def _read_config(folder: Path) -> dict[str, Any]:
    check_model_type(str(folder), None)
    config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    return config


def _pipelines(model_class: Any) -> dict[str, type]:
    pipelines: dict[str, type] = model_class.pipelines
    return pipelines


def _reference(cls: type) -> str:
    return f"{_file(cls).stem}.{cls.__name__}"


def _file(cls: type) -> Path:
    return Path(str(sys.modules[cls.__module__].__file__))
