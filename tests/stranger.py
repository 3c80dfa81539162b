"""What someone does with an exported folder who has transformers and torch alone, offline."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clean_process import run_alone

TEXTS = ["Ein Hund läuft im Schnee.", "", "Eine Katze", "Ein Vogel sitzt unter dem Baum."]
WAYS = {
    "float32": {"dtype": "float32"},
    "as saved": {},
    "bfloat16": {"dtype": "bfloat16"},
    "device map": {"dtype": "float32", "device_map": "auto"},
    "low memory": {"dtype": "float32", "low_cpu_mem_usage": True},
    "eager": {"dtype": "float32", "attn_implementation": "eager"},
    "sdpa": {"dtype": "float32", "attn_implementation": "sdpa"},
}
SCRIPT = """
import importlib.util, json, socket, sys
sys.modules["hf_nar"] = None  # importing it fails from here on

def refuse(*arguments):
    raise AssertionError(f"the network was asked for {arguments[1:]}")

for name in ("connect", "connect_ex"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = refuse
import transformers
from transformers import (
    AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig, pipeline
)

trust = {"trust_remote_code": True}
folders, ways, texts = map(json.loads, sys.argv[1:])

def save_again(folder, again):
    AutoModelForSeq2SeqLM.from_pretrained(folder, **trust).save_pretrained(again)
    AutoTokenizer.from_pretrained(folder, **trust).save_pretrained(again)

def load(folder, batch, auto_class, **options):
    model = auto_class.from_pretrained(folder, **trust, **options)
    return {
        "sequences": model.generate(**batch).tolist(),
        "logits": model(**batch).logits.float().tolist(),
        "dtype": str(model.dtype),
        "attention": model.config._attn_implementation,
        "class": [type(model).__module__, type(model).__name__],
    }

def translate(folder):
    translator = pipeline("translation", model=folder, dtype="float32", batch_size=2, **trust)
    return {
        "class": type(translator).__module__,
        "one": translator(texts[0]),
        "list": translator(texts),
        "generator": list(translator((text for text in texts), num_refinement_iterations=0)),
    }

def answer(folder):
    spec = importlib.util.spec_from_file_location("handler", f"{folder}/handler.py")
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    return handler.EndpointHandler()({"inputs": texts})

def look_at(folder, again):
    config = AutoConfig.from_pretrained(folder, **trust)
    tokenizer = AutoTokenizer.from_pretrained(folder, **trust)
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    save_again(folder, again)
    untold = pipeline(model=folder, dtype="float32", device_map="auto", **trust)
    return {
        "transformers": transformers.__version__,
        "config": [config.model_type, type(config).__module__],
        "knobs": GenerationConfig.from_pretrained(folder).to_diff_dict(),
        "base": load(folder, batch, AutoModel, dtype="float32"),
        "ways": {
            way: load(folder, batch, AutoModelForSeq2SeqLM, **options)
            for way, options in ways.items()
        },
        "pipeline": translate(folder),
        "pipeline again": translate(again),
        "task": [untold.task, untold(texts)],
        "handler": answer(folder),
    }

found = {family: look_at(*pair) for family, pair in folders.items()}
print()
print(json.dumps(found))
"""


def look_at_folders(
    folders: Mapping[str, tuple[Path, Path]], home: Path, python: str = sys.executable
) -> dict[str, Any]:
    """Return what another process found in folders, by family; each is saved again, to the second.

    Args:
        folders: For each family its folder, and one for what is saved again.
        home: Empty folder for the process.
        python: Which Python runs it.
    """
    names = {family: list(map(str, pair)) for family, pair in folders.items()}
    found: dict[str, Any] = run_alone(
        SCRIPT, *map(json.dumps, (names, WAYS, TEXTS)), home=home, python=python
    )
    return found
