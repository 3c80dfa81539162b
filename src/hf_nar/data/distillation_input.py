"""What a teacher translates: a parallel corpus, or source text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from hf_nar.data.corpus import load_rows
from hf_nar.data.corpus_config import CorpusConfig
from hf_nar.data.corpus_rows import file_pairs, select_pair

LINES_PER_SHARD = 1000  # a shard is what one process works on, and what is sorted by length


class DistillationInput:
    """The rows of a corpus in their order, those with an empty side included.

    They are read anew in each pass, so that only one shard is in memory.

    Args:
        options: Fields of `CorpusConfig`, except `streaming`. `target_file` and `target_field` may
            be left out.
        lines_per_shard: Rows that one process works on at a time.

    Raises:
        ValueError: If the options do not describe exactly one corpus of one kind.
    """

    def __init__(self, options: Mapping[str, Any], lines_per_shard: int = LINES_PER_SHARD) -> None:
        self.lines_per_shard = lines_per_shard
        self.has_targets = bool(options.get("target_file") or options.get("target_field"))
        options = dict(options)
        if not self.has_targets:  # a corpus has two sides: the source stands for the missing one
            options["target_file"] = options.get("source_file")
            options["target_field"] = options.get("source_field")
        self.config = CorpusConfig.from_dict(options)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Yield source and target of each row; the target is empty where there are none.

        Raises:
            FileNotFoundError: If a file or dataset does not exist.
            ValueError: If the sides differ in lines, a line is not valid, or a field is missing.
        """
        is_file = self.config.kind != "dataset"
        for source, target in file_pairs(self.config) if is_file else self._dataset_pairs():
            yield source, target if self.has_targets else ""

    def _dataset_pairs(self) -> Iterator[tuple[str, str]]:
        config = self.config
        rows = load_rows(config)
        wanted = str(config.source_field), str(config.target_field)
        needed = {name if name in rows.column_names else name.split(".")[0] for name in wanted}
        if needed <= set(rows.column_names):  # else `select_pair` says what is missing
            rows = rows.select_columns(sorted(needed))
        for number, row in enumerate(rows):
            yield select_pair(row, wanted[0], wanted[1], f"{config.dataset}, row {number}")

    def shards(self) -> Iterator[list[tuple[str, str]]]:
        """Yield runs of `lines_per_shard` consecutive rows; the last may be shorter."""
        rows = iter(self)
        while shard := list(islice(rows, self.lines_per_shard)):
            yield shard

    def measure(self, with_targets: bool) -> tuple[str, int]:
        """Read everything once; return a SHA-256 digest of the text and the number of rows.

        Args:
            with_targets: Whether targets count too.

        Raises:
            ValueError: If there are no rows; also what reading raises.
        """
        digest, count = hashlib.sha256(), 0
        for count, row in enumerate(self, start=1):  # noqa: B007  the last one is the number
            for text in row if with_targets else row[:1]:
                side = text.encode()
                digest.update(len(side).to_bytes(8, "little") + side)  # "a", "bc" is not "ab", "c"
        if not count:
            raise ValueError("There must be a line to translate, but the corpus has none.")
        return digest.hexdigest(), count
