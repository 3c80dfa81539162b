"""Processes that talk to a local Hub: the client reads HF_ENDPOINT when it is imported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_hub import LocalHub

COMMANDS = """
import contextlib, io
from hf_nar.cli.main import main

def answer(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue()}
"""
UPLOADS = """
from pathlib import Path
from hf_nar.hub.repository import Target, look_up, upload

def answer(options):
    folder = Path(options.pop("folder"))
    try:
        pushed = upload(folder, look_up(Target(**options)), "a message")
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    return {"commit": pushed.commit, "is_new": pushed.is_new, "deleted": pushed.deleted}
"""
LOOP = """
import json, os, sys
for line in sys.stdin:
    token, question = json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    sys.stdout.write(json.dumps(answer(question)) + "\\n")
    sys.stdout.flush()
"""


def environment(hub: LocalHub, home: Path, **own: str) -> dict[str, str]:
    """Return the environment of someone who has never used the Hub before, and has no token."""
    foreign = ("HF_", "HUGGING", "PYTHONPATH")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    fixed = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**kept, **fixed, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **own}


class Client:
    """A process that answers one question after another, so that it is started once.

    Args:
        program: Defines `answer(question)`; both are JSON.
        env: Its environment.
        folder: Where it works.
    """

    def __init__(self, program: str, env: dict[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program + LOOP],
            env=env,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: Any, token: str | None) -> Any:
        """Return the answer to a question, asked by whoever has this token."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([token, question]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


@contextmanager
def client(program: str, hub: LocalHub, home: Path) -> Iterator[Client]:
    """Start a client, and end it."""
    home.mkdir()
    started = Client(program, environment(hub, home), home)
    try:
        yield started
    finally:
        started.close()


def says(pattern: str, text: str) -> bool:
    """Return whether a pattern is found in a text; a failure shows both."""
    assert re.search(pattern, text, re.DOTALL), f"{pattern!r} is not in {text!r}"
    return True
