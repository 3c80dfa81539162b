"""Asking for help is quick: it loads none of the heavy libraries."""

import subprocess
import sys

PROGRAM = """
import sys
from hf_nar.cli.main import app, main

commands = [command.name or command.callback.__name__ for command in app.registered_commands]
codes = [main(["--help"]), main(["--version"]), *(main([name, "--help"]) for name in commands)]
heavy = {"torch", "transformers", "datasets", "evaluate", "accelerate", "numpy", "sacrebleu"}
print("codes", set(codes), "commands", len(commands), "heavy", sorted(heavy & set(sys.modules)))
"""


def test_help_loads_no_heavy_library():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )

    last = done.stdout.splitlines()[-1]
    assert last.startswith("codes {0} commands ")
    assert last.endswith(" heavy []")
