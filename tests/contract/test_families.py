"""Families share their parts: what two of them need has one home."""

from itertools import combinations
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "src/hf_nar/remote_code"
FILES = sorted(FOLDER.glob("[!_]*.py"))
LONGEST_RUN = 5  # equal lines


def runs(file: Path) -> dict[tuple[str, ...], int]:
    """Return each run of lines that is too long to be equal, with its place; blank lines apart."""
    numbered = enumerate(file.read_text("utf-8").splitlines(), start=1)
    lines = [(number, line.strip()) for number, line in numbered if line.strip()]
    size = LONGEST_RUN + 1
    return {
        tuple(line for _, line in lines[i : i + size]): lines[i][0]
        for i in range(len(lines) - size + 1)
    }


@pytest.mark.parametrize(
    ("first", "second"), list(combinations(FILES, 2)), ids=lambda file: file.stem
)
def test_two_files_have_no_run_of_equal_lines(first, second):
    mine, others = runs(first), runs(second)

    for run in mine.keys() & others.keys():
        pytest.fail(
            f"{first.name}:{mine[run]} and {second.name}:{others[run]} are equal for six lines; "
            "give them one home"
        )
