"""A tiny teacher, a tiny corpus and the command that brings them together."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import tiny_sentences
from tiny_teachers import new_teacher
from transformers import PreTrainedTokenizerFast

from hf_nar.cli.main import main

LIMIT = 40  # tokens of a source that the tiny Marian takes


def save_marian(folder: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """Write a teacher's folder; some of its translations end early, some late."""
    model = new_teacher("marian", tokenizer, max_length=LIMIT)
    model.final_logits_bias[0, model.config.eos_token_id] = 4.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_corpus(folder: Path, count: int = 20) -> list[str]:
    """Write `a.de` and `a.en`; line 3 is empty, and line 5 too long for the tiny Marian."""
    sentences = tiny_sentences()
    half = len(sentences) // 2
    german = [sentences[i * 7 % half] for i in range(count)]
    english = [sentences[half + i * 7 % half] for i in range(count)]
    german[3], german[5] = " ", " ".join(german[:5])
    (folder / "a.de").write_text("".join(f"{line}\n" for line in german), encoding="utf-8")
    (folder / "a.en").write_text("".join(f"{line}\n" for line in english), encoding="utf-8")
    return german


def distil(teacher: Path | str, folder: Path, output: str, *options: str) -> int:
    """Run the command in this process; return its exit code."""
    return main(arguments(teacher, folder, output, *options))


def arguments(teacher: Path | str, folder: Path, output: str, *options: str) -> list[str]:
    """Return the command's arguments."""
    files = ["--output", str(folder / output), "--data", str(folder), "--source-file", "a.de"]
    return ["distill", "--teacher", str(teacher), *files, "--device", "cpu", *options]


def rows_of(file: Path) -> list[dict]:
    """Return the rows of a finished output."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]
