"""The demo as its users have it: a server of its own, started and stopped by a test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
STUDENT = ROOT / "model_cards/lanmt-multi30k-deen"
TEACHER = ROOT / "model_cards/teacher-multi30k-deen"


@dataclass(frozen=True)
class DemoServer:
    """A running demo: where it is, and its process."""

    url: str
    pid: int


@contextmanager
def running(command: list[str], folder: Path | None = None) -> Iterator[DemoServer]:
    """Run a command that serves the demo and prints where, until the block ends."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = []
        for line in process.stdout:
            printed.append(line)
            if "http://" in line:
                address = line[line.index("http://") :].split()[0]
                yield DemoServer(address.rstrip("/"), process.pid)
                return
        raise AssertionError(f"The demo did not start: {''.join(printed)}")
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


def hf_nar_demo(*arguments: object) -> list[str]:
    """Return the command line of `hf-nar demo`."""
    program = "import sys; from hf_nar.cli.main import main; sys.exit(main())"
    return [sys.executable, "-c", program, "demo", *map(str, arguments), "--device", "cpu"]
