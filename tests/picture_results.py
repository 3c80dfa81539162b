"""Small hand-made results files for pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ENVIRONMENT = {"device": "Some CPU, 2 cores", "threads": 1}
NAMES = {  # and whether they are ours
    "LaNMT, 1 iteration": True,
    "LaNMT, 4 iterations": True,
    "transformers beam 4": False,
    "CTranslate2 int8 beam 4": False,
}
BLEU = (25.0, 26.0, 31.0, None)


def benchmark() -> dict[str, Any]:
    """Return times that grow with the length, faster by 1 ms in the model alone."""
    rows = [
        {
            "system": name,
            "batch_size": size,
            "length": length,
            "scope": scope,
            "p50_ms": 10.0 * number + (length or 20) * size + (scope == "text"),
            "p95_ms": 999.0,
            "sentences_per_second": 100.0 / number,
        }
        for number, name in enumerate(NAMES, start=1)
        for size in (1, 8)
        for length in (10, 50, None)
        for scope in ("text", "model")
    ]
    systems = [
        {
            "name": name,
            "engine": "hf_nar" if is_ours else "transformers",
            "is_ours": is_ours,
            "precision": "int8" if "int8" in name else "float32",
            "bleu": bleu,
        }
        for (name, is_ours), bleu in zip(NAMES.items(), BLEU, strict=True)
    ]
    facts = {"environment": ENVIRONMENT, "dtype": "float32", "source": "test.de.gz"}
    return {**facts, "systems": systems, "rows": rows}


def trace(**values: Any) -> dict[str, Any]:
    return {
        "source": "Ein Hund läuft .",
        "translation": "A dog runs .",
        "drafts": [
            ["▁A", "▁dog", "▁dog", "▁", "."],
            ["▁A", "▁dog", "▁run", "s", "."],
            ["▁A", "▁dog", "▁run", "s", "."],
        ],
        "scores": [-0.1, -0.2, -1.0, -2.0, -0.1, 0.0],
        "iterations": 2,
        **values,
    }


def quality(**values: Any) -> dict[str, Any]:
    """Return BLEU 20, 25 and 26 at 0, 1 and 4 iterations."""
    rows = [
        {"iterations": count, "bleu": bleu} for count, bleu in ((0, 20.0), (1, 25.0), (4, 26.0))
    ]
    return {
        "environment": ENVIRONMENT,
        "dtype": "float32",
        "sentences": 1000,
        "target_file": "test.en.gz",
        "rows": rows,
        "traces": [trace()],
        **values,
    }


def teacher_quality(**values: Any) -> dict[str, Any]:
    rows = [
        {"label": "greedy", "is_default": False, "iterations": None, "bleu": 30.0},
        {"label": "beam 4", "is_default": True, "iterations": None, "bleu": 31.0},
    ]
    return quality(**{"is_autoregressive": True, "rows": rows, "traces": [], **values})


def latent_space(**values: Any) -> dict[str, Any]:
    ticks = [-2.0, -1.0, 0.0, 1.0, 2.0]
    labels = {
        "prior mean": (-1.0, 1.0),
        "iteration 1": (-0.5, -0.5),
        "iteration 2": (-0.49, -0.5),
        "posterior mean": (1.0, 0.0),
    }
    return {
        "environment": ENVIRONMENT,
        "dtype": "float32",
        "source": "Ein Hund läuft .",
        "target": "A dog runs .",
        "explained": 0.9,
        "points": [
            {"label": label, "x": x, "y": y, "log_likelihood": -30.5}
            for label, (x, y) in labels.items()
        ],
        "grid_x": ticks,
        "grid_y": ticks,
        "log_likelihood": [[-20.0 - x * x - y * y for x in ticks] for y in ticks],
        **values,
    }


def latent_field(**values: Any) -> dict[str, Any]:
    """Return steps towards the middle, and an energy that is highest there."""
    ticks, arrows = [-2.0, -1.0, 0.0, 1.0, 2.0], [-1.0, 0.0, 1.0]
    ends = {"delta_posterior": (0.5, -0.9), "score": (-0.2, 0.1), "energy": (0.3, 0.6)}
    steps = {"steps_x": [[-x for x in arrows]] * 3, "steps_y": [[-y] * 3 for y in arrows]}
    hill = [[-x * x - y * y for x in ticks] for y in ticks]
    words = {"log_probability": -1.5, "draft": ["\u2581A", "\u2581do", "g", "</s>"]}
    return {
        "environment": ENVIRONMENT,
        "dtype": "float32",
        "source": "Ein Hund läuft .",
        "latent_axis": "target",
        "position": 2,
        "is_exact": True,
        "explained": 1.0,
        "grid_x": ticks,
        "grid_y": ticks,
        "log_probability": [[value / 4 for value in row] for row in hill],
        "arrow_x": arrows,
        "arrow_y": arrows,
        "fields": [
            {"refiner": "score", **steps, "energy": None},
            {"refiner": "energy", **steps, "energy": hill},
        ],
        "paths": [
            {
                "refinement": name,
                "points": [
                    {"label": "prior mean", "x": -1.5, "y": 1.5, **words},
                    {"label": "iteration 1", "x": x, "y": y, **words},
                ],
            }
            for name, (x, y) in ends.items()
        ],
        **values,
    }


def write(folder: Path, **sections: Any) -> Path:
    """Write results.json with these sections."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.json"
    file.write_text(json.dumps(sections), encoding="utf-8")
    return file
