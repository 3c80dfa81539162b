"""The tokenizer of a run: loaded, or trained once, and the same in all processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from transformers import PreTrainedTokenizerFast

from hf_nar.auto import load_tokenizer
from hf_nar.data.corpus import all_sentences, load_corpus
from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.training.recipe import Recipe
from hf_nar.training.whole_folders import written_whole


def prepare_tokenizer(recipe: Recipe, output: Path) -> PreTrainedTokenizerFast:
    """Load the recipe's tokenizer, or train it once and keep it in the output folder.

    The main process trains it. On a node with a disk of its own one process writes a copy.

    Raises:
        OSError: If the corpus or the tokenizer cannot be read, or the folder not be written.
        ValueError: If a tokenizer cannot be trained, or processes find different ones.
    """
    name = recipe.tokenizer.name
    if not name:
        folder = output / "tokenizer"
        _train_once(recipe, folder)
        name = str(folder)
    tokenizer = cast("PreTrainedTokenizerFast", load_tokenizer(name, None))
    _check_same(tokenizer, name)
    return tokenizer


def _train_once(recipe: Recipe, folder: Path) -> None:
    state = PartialState()
    if state.is_main_process and not folder.is_dir():
        with written_whole(folder) as unfinished:
            train_tokenizer(
                _training_sentences(recipe),
                unfinished,
                vocab_size=recipe.tokenizer.vocab_size,
                model_type=recipe.tokenizer.model_type,
                max_sentences=recipe.tokenizer.max_sentences,
            )
    if state.num_processes == 1:
        return
    listed = folder.iterdir() if state.is_main_process else ()
    files = {file.name: file.read_bytes() for file in listed if file.is_file()}
    [files] = broadcast_object_list([files])
    for process in range(state.num_processes):  # in turn, as some may share a disk
        if process == state.process_index and not folder.is_dir():
            with written_whole(folder) as unfinished:
                for file, content in files.items():
                    (unfinished / file).write_bytes(content)
        state.wait_for_everyone()


def _training_sentences(recipe: Recipe) -> Iterator[str]:
    if recipe.data.source == "image":
        from hf_nar.data.image_corpus import load_image_corpus  # late: needs Pillow

        return load_image_corpus(recipe.data.image_corpus("train")).all_captions()
    return all_sentences(load_corpus(recipe.data.corpus("train")).pairs)


def _check_same(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    """Check that all processes have loaded the same tokenizer."""
    digests = gather_object([_digest(tokenizer)])
    others = [str(i) for i, digest in enumerate(digests) if digest != digests[0]]
    if others:
        raise ValueError(
            f"All processes must have the same tokenizer, but that of process {', '.join(others)} "
            f"differs from that of process 0. Give all nodes the same {name}, or delete it there."
        )


def _digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return a digest of all that decides the ids."""
    is_fast = tokenizer.is_fast
    content = (
        tokenizer.backend_tokenizer.to_str() if is_fast else sorted(tokenizer.get_vocab().items())
    )
    special = {key: str(token) for key, token in tokenizer.special_tokens_map.items()}
    return hashlib.sha256(json.dumps([content, special], sort_keys=True).encode()).hexdigest()
