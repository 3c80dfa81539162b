"""Lists of numbers in options."""

from __future__ import annotations


def parse_numbers(text: str, option: str) -> list[int]:
    """Return the numbers of an option such as `0,1,4`, in order, each once.

    Raises:
        ValueError: If it is no list of numbers that are not negative.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"`{option}` must be numbers with commas, such as 0,1,4; got {text!r}.")
    return list(dict.fromkeys(int(part) for part in parts))
