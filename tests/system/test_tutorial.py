"""The tutorial's commands, from a TSV file to what would be pushed, in the order of its text."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import tiny_pairs

TUTORIAL = Path(__file__).parents[2] / "docs/tutorial.md"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.M | re.S)

# The commands run as they stand there, but for these: each pattern must be in the text.
SMALLER = {
    # The package is installed already.
    r"^pip install .*\n": "",
    # Fewer pairs: of 160, 20 for the test and 20 for validation.
    r"head -n 1000 ": "head -n 20 ",
    r"1001,2000p": "21,40p",
    r"tail -n \+2001 ": "tail -n +41 ",
    # A vocabulary for so few words, and small networks.
    r"--vocab-size 6000": "--vocab-size 90",
    r"d_model: 128": "d_model: 16",
    r"(\w*ffn_dim|d_ff): \d+": r"\1: 32",
    r"(\w*attention_heads): 4": r"\1: 2",
    r"(\w*_layers): \d": r"\1: 1",
    # Short runs, evaluated twice, and short translations of a teacher that has learnt little.
    r"max_length: 128": "max_length: 16",
    r"max_steps: \d+": "max_steps: 8",
    r"tokens_per_batch: 1024": "tokens_per_batch: 400",
    r"warmup_steps: \d+": "warmup_steps: 1",
    r"(eval|save)_steps: 500": r"\1_steps: 4",
    # Speed of one length, and of few systems in few rounds, without their memory.
    r"latency lanmt-de-en": "latency lanmt-de-en --lengths 5 --repeats 2",
    r"--batch-size 1,8": "--batch-size 1,2 --weights plain --iterations 0,1 --no-memory "
    "--systems 'ours,transformers greedy,transformers beam 4' --repeats 3 --warm-up 1",
}


def commands():
    """Return the tutorial's blocks of shell commands with smaller numbers."""
    text = "\n".join(BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")))
    for pattern, smaller in SMALLER.items():
        text, count = re.subn(pattern, smaller, text, flags=re.M)
        assert count, f"the tutorial does not say {pattern!r} any more"
    return text


@pytest.mark.slow
def test_the_tutorial_leads_from_a_table_to_a_model_that_can_be_pushed(tmp_path):
    rows = "".join(f"{source}\t{target}\n" for source, target in tiny_pairs()[:160])
    (tmp_path / "pairs.tsv").write_text(rows, encoding="utf-8")
    programs = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(tmp_path / "hf")}

    done = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    card = (tmp_path / "lanmt-de-en/README.md").read_text(encoding="utf-8")
    assert "| **1 iteration** |" in card
    assert "| transformers beam 4 |" in card
    assert "- Teacher: an M2M-100 of my own\n" in card
    assert "model.safetensors" in done.stdout  # of the push, as it would be
