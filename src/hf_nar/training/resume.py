"""Which checkpoints a run can go on from; damaged ones are set aside."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import gather_object
from transformers import TrainerState

from hf_nar.training.checkpoint import STATE_FILE, checkpoint_folders, saved_checkpoints
from hf_nar.training.manifest import damage, processes_of
from hf_nar.training.whole_folders import put_back

logger = logging.getLogger(__name__)


def usable_checkpoints(output: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first, the same in every process.

    The last of them is whole. A damaged one is renamed to `damaged-checkpoint-N`, and its name and
    damage are logged.

    Args:
        output: The run's folder; each node may have its own.

    Raises:
        OSError: If the folder cannot be read, or a damaged checkpoint cannot be renamed.
        ValueError: If nodes have no checkpoint in common, but some have one.
    """
    if PartialState().is_local_main_process:
        put_back(output)
        set_damaged_aside(output)
    PartialState().wait_for_everyone()
    folders = {folder.name: folder for folder in saved_checkpoints(output)}
    listings = gather_object([list(folders)])
    everywhere = set.intersection(*map(set, listings))
    if any(listings) and not everywhere:
        raise ValueError(
            f"All processes must find the checkpoints of a run, but some find none of those that "
            f"others have in {output}. Put `output` on a disk that all nodes share, or set "
            f"`training.save_on_each_node=true` from the start."
        )
    return [folder for name, folder in folders.items() if name in everywhere]


def set_damaged_aside(output: Path) -> None:
    """Rename damaged checkpoints, from the last one back to one that is whole.

    The one that this names as the best is looked at, too: its weights are what a run ends with.
    """
    for folder in reversed(checkpoint_folders(output)):
        if _is_whole(folder):
            state = TrainerState.load_from_json(str(folder / STATE_FILE))
            best = output / Path(state.best_model_checkpoint or folder).name
            if best != folder and best.is_dir():
                _is_whole(best)
            return


def _is_whole(folder: Path) -> bool:
    """Return whether a checkpoint is whole; one that is not is renamed."""
    problem = damage(folder)
    if problem is None:
        return True
    name = f"damaged-{folder.name}"
    taken = sum(1 for _ in folder.parent.glob(f"{name}*"))
    aside = folder.with_name(f"{name}-{taken + 1}" if taken else name)
    try:
        folder.rename(aside)
    except FileNotFoundError:  # another node, on the same disk, was faster
        return False
    logger.warning(
        "%s is damaged: %s. It is now %s, and the run does without it.",
        folder,
        problem,
        aside.name,
    )
    return False


def warn_of_other_processes(checkpoint: Path, processes: int) -> None:
    """Say so where a run goes on with another number of processes than it was saved with."""
    saved = processes_of(checkpoint)
    if saved is not None and saved != processes and PartialState().is_main_process:
        logger.warning(
            "%s was written by %s process(es) and this run has %s: a step now has another number "
            "of tokens, some pairs of this epoch come twice or not at all, and the weights will "
            "not be those of an unbroken run. To avoid it, start as many processes as before.",
            checkpoint,
            saved,
            processes,
        )
