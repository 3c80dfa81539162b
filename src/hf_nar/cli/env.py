"""`hf-nar env`: versions, for a bug report."""

from __future__ import annotations

import platform

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

    from hf_nar.evaluation.results import package_version

    print(f"python           {platform.python_version()}")
    print(f"system           {platform.system()} {platform.release()} {platform.machine()}")
    for package in PACKAGES:
        print(f"{package:<16} {package_version(package) or 'not installed'}")
    print(f"cuda             {torch.version.cuda or 'not in this build of torch'}")
    for i in range(torch.cuda.device_count()):
        print(f"gpu {i:<12} {torch.cuda.get_device_name(i)}")
    print(f"torch threads    {torch.get_num_threads()}")
