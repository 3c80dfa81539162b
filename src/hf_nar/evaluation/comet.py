"""COMET, by the program `comet-score` of the package unbabel-comet where the user has it."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hf_nar.evaluation.metrics import Score

PROGRAM = "comet-score"
DEFAULT_MODEL = "Unbabel/wmt22-comet-da"


def find_comet() -> str:
    """Return where the program is.

    It is a program and not an import because unbabel-comet 2.2 needs transformers 4, and this
    package needs transformers 5: they cannot share an environment.

    Raises:
        ValueError: If it is not on the path.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ValueError(
            f"COMET needs the program `{PROGRAM}` on the path, and it is not there. Install "
            f"unbabel-comet in an environment of its own, such as by `uv tool install "
            f"unbabel-comet`, or leave comet out of `--metrics`."
        )
    return program


def comet_score(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: Sequence[str],
    model: str = DEFAULT_MODEL,
    use_gpu: bool = False,
) -> Score:
    """Score translations by COMET, in a process of its own.

    Args:
        sources: What was translated.
        hypotheses: Translations, one for each source.
        references: One for each source.
        model: COMET model, a Hub id or a `.ckpt` file; `comet-score` fetches and unpickles it.
        use_gpu: Whether it may use one GPU.

    Returns:
        The mean over sentences.

    Raises:
        ValueError: If the program is not there.
        OSError: If it fails.
    """
    program = find_comet()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("source", "translation", "reference")]
        for file, texts in zip(files, (sources, hypotheses, references), strict=True):
            lines = (" ".join(text.split()) for text in texts)  # it ends lines at a \r too
            file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        scores = Path(folder, "scores.json")
        options = ["-s", files[0], "-t", files[1], "-r", files[2], "--model", model]
        options += ["--gpus", "1" if use_gpu else "0", "--to_json", scores]
        command = [program, *map(str, options), "--quiet", "--only_system"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode or not scores.is_file():
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise OSError(
                f"`{PROGRAM}` must score with {model}, but it ended with code {done.returncode}: "
                f"{last}. Run it by hand to see more."
            )
        (rows,) = json.loads(scores.read_text(encoding="utf-8")).values()
    return Score(sum(row["COMET"] for row in rows) / len(rows), f"{PROGRAM}|model:{model}")
