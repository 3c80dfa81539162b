"""How the running command was called, for the files that keep it."""

from __future__ import annotations

from contextvars import ContextVar

# The arguments after the program's name; `main` sets them, from the shell or from Python.
CALLED: ContextVar[tuple[str, ...]] = ContextVar("CALLED", default=())
