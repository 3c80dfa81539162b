"""The processes of a run: whether all are there, and who does first what is done once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from accelerate import PartialState

# What launchers tell each of several processes: torchrun's, and those of MPI.
_SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def check_processes(num_processes: int, environment: Mapping[str, str] = os.environ) -> None:
    """Check that the processes that were started work together.

    Without a GPU, `accelerate launch --num_processes 2`, with or without `--cpu`, starts a single
    process and only leaves it the address of the first of two. (So do accelerate 1.14 and 1.15.)

    Args:
        num_processes: How many work together.
        environment: Variables that the launcher has set.

    Raises:
        ValueError: If more were started, or meant to be.
    """
    sizes = [int(environment[name]) for name in _SIZES if environment.get(name, "").isdigit()]
    started = max(sizes, default=1)
    if started != num_processes:
        raise ValueError(
            f"All processes of a run must work together, but {started} were started, and this one "
            f"works with {num_processes - 1} others. On CPUs set `training.use_cpu=true`; on GPUs "
            f"start one process for each."
        )
    by_accelerate = "ACCELERATE_MIXED_PRECISION" in environment
    if by_accelerate and not sizes and "MASTER_ADDR" in environment:
        raise ValueError(
            "This run was started for several processes, but is alone: without GPUs, `accelerate "
            "launch` starts one, whatever `--num_processes` says. Use `--config_file "
            "training/accelerate/cpu_two.yaml`; if one is right, unset MASTER_ADDR."
        )


@contextmanager
def first_of_each_node() -> Iterator[None]:
    """Let the main process go first, then one of each other node, then the rest.

    What is written once, such as a cache of tokens, is then written by one process of each disk,
    whether nodes share one or not, and read by the others.
    """
    state = PartialState()
    # Each process comes to two barriers: two of the three groups go before or after it.
    with state.main_process_first(), state.local_main_process_first():
        yield
