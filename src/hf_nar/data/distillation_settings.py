"""How a teacher translates a corpus for its students."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DistillationSettings:
    """How the teacher translates, and what is kept.

    Args:
        beams: Beams of the search; 1 is greedy.
        n_best: Translations kept of each line, at most `beams`.
        max_length: Longest translation, in tokens with the special ones; None takes the teacher's
            own limit, or what `Teacher` gives one that has none.
        length_penalty: Exponent of the length by which the score of a beam is divided: above 1
            favours longer translations.
        tokens_per_batch: Size of a batch: lines, times tokens of the longest source, times beams.
            The memory that a batch needs grows with it. A line that has more goes alone.
        dtype: As for `Teacher.from_pretrained`.
        prefix: Put before each source, as T5 wants it.
        source_language: Code that a multilingual tokenizer is told.
        target_language: Code that the translation is made to start with.
        mix_raw: Whether to keep the raw pair after the teacher's.
        teacher_revision: Branch, tag or commit of a teacher on the Hub; None takes its main branch.

    Raises:
        ValueError: If a number is out of its range.
    """

    beams: int = 4
    n_best: int = 1
    max_length: int | None = None
    length_penalty: float = 1.0
    tokens_per_batch: int = 4096
    dtype: str | None = None
    prefix: str = ""
    source_language: str | None = None
    target_language: str | None = None
    mix_raw: bool = False
    teacher_revision: str | None = None

    def __post_init__(self) -> None:
        for name, least in {
            "beams": 1,
            "n_best": 1,
            "tokens_per_batch": 1,
            "max_length": 2,
        }.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
        if self.n_best > self.beams:
            raise ValueError(
                f"`n_best` must be at most `beams`, got {self.n_best} of {self.beams}. Raise "
                f"`beams`."
            )
        if self.beams == 1 and self.length_penalty != 1.0:
            raise ValueError(
                f"`length_penalty` has a meaning only with several beams, got "
                f"{self.length_penalty}. Leave it out, or raise `beams`."
            )

    def generate_kwargs(self) -> dict[str, Any]:
        """Return the options for the library's `generate`."""
        options: dict[str, Any] = {"num_beams": self.beams, "do_sample": False}
        if self.beams > 1:
            options["length_penalty"] = self.length_penalty
        if self.max_length is not None:
            options |= {"max_length": self.max_length, "max_new_tokens": None}
        return options
