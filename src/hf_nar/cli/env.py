"""`hf-nar env`: versions, for a bug report."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    "hf-nar",
    "torch",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "accelerate",
    "datasets",
    "evaluate",
    "sacrebleu",
    "safetensors",
    "sentencepiece",
    "numpy",
    "typer",
    "gradio",
    "ctranslate2",
)


def env() -> None:
    """Print the versions that matter in a bug report."""
    import torch

    print(f"python           {platform.python_version()}")
    print(f"system           {platform.system()} {platform.release()} {platform.machine()}")
    for package in PACKAGES:
        print(f"{package:<16} {_version(package)}")
    print(f"cuda             {torch.version.cuda or 'not in this build of torch'}")
    for i in range(torch.cuda.device_count()):
        print(f"gpu {i:<12} {torch.cuda.get_device_name(i)}")
    print(f"torch threads    {torch.get_num_threads()}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
