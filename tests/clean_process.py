"""A process with the packages alone that a stranger has: a new cache, and the Hub switched off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def run_alone(script: str, *arguments: str, home: Path, python: str = sys.executable) -> Any:
    """Run a script and return what it printed in its last line, read as JSON."""
    own = {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"}
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [python, "-c", script, *arguments],
        env={**keep, **own, "OMP_NUM_THREADS": "1"},
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])
