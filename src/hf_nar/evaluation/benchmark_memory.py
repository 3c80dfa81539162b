"""Peak memory of one system beyond its libraries: a process loads it and translates one batch.

Run as `python -m hf_nar.evaluation.benchmark_memory`, it reads a task in JSON and prints megabytes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hf_nar.evaluation.engine_loading import SystemLoader, import_ctranslate2
from hf_nar.evaluation.engines import CTRANSLATE2, SystemSpec

PROCESS_STATUS = Path("/proc/self/status")  # on Linux only


def measure_peak_memory(
    loader: SystemLoader, spec: SystemSpec, texts: Sequence[str], length: int | None
) -> float | None:
    """Return the memory that one system takes at its peak, in 10^6 bytes.

    On a CPU it is the peak of a fresh process beyond what the process had before it loaded the
    system: the libraries are imported for every system alike, and say nothing of one. On a GPU it
    is what torch has reserved there, and None for CTranslate2, which torch knows nothing of.

    Raises:
        OSError: If the process fails.
    """
    if loader.device.type == "cuda" and spec.engine == CTRANSLATE2:
        return None
    task = {
        "spec": dataclasses.asdict(spec),
        "networks": dict(loader.networks),
        "converted": str(loader.converted),
        "device": str(loader.device),
        "dtype": loader.dtype,
        "threads": loader.threads,
        "texts": list(texts),
        "length": length,
    }
    done = subprocess.run(
        [sys.executable, "-m", "hf_nar.evaluation.benchmark_memory"],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise OSError(
            f"The memory of {spec.name} must be measured in a process of its own, which failed: "
            f"{reason}. Leave it out with --no-memory."
        )
    return float(done.stdout.strip().splitlines()[-1])


def process_peak_mb() -> float:
    """Return the most memory that this process has had, in 10^6 bytes."""
    peak = _process_status("VmHWM")
    if peak is not None:
        return peak
    import resource  # late: Windows has none

    # Here a process inherits the peak of the one that began it.

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def resident_mb() -> float:
    """Return the memory that this process has now, or its peak where that is not known."""
    resident = _process_status("VmRSS")
    return process_peak_mb() if resident is None else resident


def _process_status(name: str) -> float | None:
    """Return an entry of `PROCESS_STATUS` in 10^6 bytes; None if there is none."""
    if PROCESS_STATUS.is_file():
        for line in PROCESS_STATUS.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) * 1024 / 1e6
    return None


def half_of_memory_mb() -> float:
    """Return half of the memory of this machine, in 10^6 bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2 / 1e6


def _run(task: dict[str, Any]) -> float:
    device = torch.device(task["device"])
    torch.set_num_threads(task["threads"])
    loader = SystemLoader(
        task["networks"], Path(task["converted"]), device, task["dtype"], task["threads"]
    )
    spec = SystemSpec(**task["spec"])
    if spec.engine == CTRANSLATE2:
        import_ctranslate2()
    before = resident_mb()
    system = loader.load(spec)
    system.detokenize(system.run(system.tokenize(task["texts"]), task["length"]))
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    return process_peak_mb() - before


if __name__ == "__main__":
    sys.stdout.write(f"{_run(json.load(sys.stdin)):.1f}\n")
