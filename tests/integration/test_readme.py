"""The README's Python runs, and prints what its comments say."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.S)
CARDS = [
    card
    for card in sorted((ROOT / "model_cards").glob("*/README.md"))
    if (card.parent / "model.safetensors").is_file()
]
QUICKSTART_LINES = 6


def run(blocks: list[str], namespace: dict[str, object]) -> list[tuple[list[str], list[str]]]:
    """Execute blocks one after the other; return what each printed and what it says it prints."""
    results = []
    for block in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block, "README.md", "exec"), namespace)
        said = [line[2:] for line in block.split("\n") if line.startswith("# ")]
        results.append((printed.getvalue().splitlines(), said))
    return results


def test_readme_prints_what_it_says(monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))

    results = run(blocks, {})

    assert len(results) == 4
    for printed, said in results:
        assert printed == said


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.parent.name)
def test_the_python_of_a_card_prints_what_it_says(card, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = BLOCK.findall(card.read_text(encoding="utf-8"))

    results = run(blocks, {})

    lines = [line for line in blocks[0].splitlines() if line and not line.startswith("#")]
    assert len(lines) == QUICKSTART_LINES
    for printed, said in results:
        assert printed == said
