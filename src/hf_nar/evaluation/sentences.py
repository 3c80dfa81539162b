"""The sentences of a test set, and what systems made of them, line by line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corpus_rows import file_pairs


@dataclass(frozen=True)
class Sentences:
    """A test set without the lines that have an empty side.

    Args:
        target_file: Where the references come from.
        references: One for each line kept.
        sources: One for each line kept; None where there is no source file.
        kept: Which lines of the files these are, the first being 0.
        dropped: Number of lines with an empty side.
    """

    target_file: Path
    references: list[str]
    sources: list[str] | None
    kept: list[int]
    dropped: int


def read_sentences(source_file: Path | None, target_file: Path) -> Sentences:
    """Read a test set: one sentence a line, plain or `.gz`.

    Raises:
        OSError: If a file is not there.
        ValueError: If the files differ in lines, one cannot be read, or nothing is left.
    """
    check_file(target_file, "--target-file")
    if source_file is not None:
        check_file(source_file, "--source-file")
    pairs = _pairs(source_file or target_file, target_file)
    kept = [i for i, (source, target) in enumerate(pairs) if source.strip() and target.strip()]
    if not kept:
        raise ValueError(
            f"A test set must have a line with text on both sides, but {target_file} gives none."
        )
    return Sentences(
        target_file=target_file,
        references=[pairs[i][1] for i in kept],
        sources=[pairs[i][0] for i in kept] if source_file is not None else None,
        kept=kept,
        dropped=len(pairs) - len(kept),
    )


def read_translations(file: Path, option: str, sentences: Sentences) -> list[str]:
    """Read a system's translations of a test set, one a line, plain or `.gz`.

    Args:
        file: As many lines as the references have.
        option: That names the file, for the message.
        sentences: The test set.

    Returns:
        One for each line kept; it may be empty.

    Raises:
        OSError: If the file is not there.
        ValueError: If it differs in lines from the references, or cannot be read.
    """
    check_file(file, option)
    pairs = _pairs(file, sentences.target_file)
    return [pairs[i][0] for i in sentences.kept]


def check_file(file: Path, option: str) -> None:
    """Check that the file of an option is there.

    Raises:
        FileNotFoundError: If it is not.
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"`{option}` must be an existing file, got {file}. Relative paths start at "
            f"{Path.cwd()}."
        )


def _pairs(source_file: Path, target_file: Path) -> list[tuple[str, str]]:
    return list(file_pairs(CorpusConfig(source_file=source_file, target_file=target_file)))
