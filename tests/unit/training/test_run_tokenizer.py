import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from conftest import TINY_VOCABULARY
from tiny_runs import tiny_pairs, tiny_recipe, write_corpus, write_recipe

from hf_nar.data.tokenizer import train_tokenizer
from hf_nar.training import run_tokenizer
from hf_nar.training.recipe import Recipe
from hf_nar.training.run_tokenizer import prepare_tokenizer

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    """Keep the datasets library out of the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def pieces(tmp_path):
    """Return a function that gives the bytes of the vocabulary that a recipe trains."""

    def train(**options):
        write_corpus(tmp_path / "data")
        recipe = tiny_recipe(tmp_path)
        recipe["tokenizer"].update(options)
        output = tmp_path / str(options)
        prepare_tokenizer(Recipe.from_dict(recipe), output)
        return (output / "tokenizer/sentencepiece.model").read_bytes()

    return train


def test_a_corpus_below_the_limit_is_used_wholly(pieces, tmp_path):
    both = [text for pair in tiny_pairs()[:120] for text in pair]
    train_tokenizer(both, tmp_path / "plain", TINY_VOCABULARY)

    expected = (tmp_path / "plain/sentencepiece.model").read_bytes()
    assert pieces() == pieces(max_sentences=240) == expected


def test_of_a_larger_corpus_a_sample_is_used_the_same_each_time(pieces):
    assert pieces(max_sentences=200) == pieces(max_sentences=200) != pieces()


def test_processes_with_other_tokenizers_are_told_which(tmp_path, monkeypatch):
    recipe = Recipe.load(write_recipe(tmp_path))
    monkeypatch.setattr(run_tokenizer, "gather_object", lambda mine: [*mine, "x", *mine, "x"])

    with pytest.raises(ValueError, match="that of process 1, 3 differs from that of process 0"):
        prepare_tokenizer(recipe, tmp_path / "run")


def test_tokenizers_with_the_same_words_but_other_ends_are_told_apart(tmp_path, tiny_tokenizer):
    before = run_tokenizer._digest(tiny_tokenizer)
    again = run_tokenizer._digest(tiny_tokenizer)
    tiny_tokenizer.eos_token = tiny_tokenizer.bos_token

    assert before == again != run_tokenizer._digest(tiny_tokenizer)


# Each process has a folder of its own, but the last two share one. Trains are counted.
SCRIPT = """
import os, sys
from pathlib import Path
from accelerate import PartialState
from hf_nar.training import run_tokenizer
from hf_nar.training.recipe import Recipe

PartialState(cpu=True)
rank, folder = int(os.environ["RANK"]), Path(sys.argv[1])
train = run_tokenizer.train_tokenizer

def noted(*args, **kwargs):
    (folder / f"trained-by-{rank}").touch()
    return train(*args, **kwargs)

run_tokenizer.train_tokenizer = noted
recipe, output = Recipe.load(folder / "recipe.yaml"), folder / f"node-{min(rank, 1)}"
run_tokenizer.prepare_tokenizer(recipe, output)
if rank == 1:
    other = (output / "tokenizer/tokenizer.json").read_text().replace("<mask>", "<hole>")
    (output / "tokenizer/tokenizer.json").write_text(other)
PartialState().wait_for_everyone()
try:
    run_tokenizer.prepare_tokenizer(recipe, output)
except ValueError as error:
    (folder / f"refused-{rank}").write_text(str(error))
"""


@pytest.mark.slow
def test_one_process_trains_for_nodes_without_a_common_disk(tmp_path):
    write_recipe(tmp_path)
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "3"]

    subprocess.run(
        [sys.executable, *launch, str(tmp_path / "script.py"), str(tmp_path)],
        env={**os.environ, **own, "HF_HUB_OFFLINE": "1"},
        check=True,
    )

    assert sorted(path.name for path in tmp_path.glob("trained-by-*")) == ["trained-by-0"]
    for name in ("sentencepiece.model", "tokenizer_config.json"):
        copies = [tmp_path / f"node-{node}/tokenizer" / name for node in range(2)]
        assert copies[0].read_bytes() == copies[1].read_bytes()
    assert not list(tmp_path.glob("node-*/_unfinished"))
    refused = [(tmp_path / f"refused-{rank}").read_text() for rank in range(3)]
    assert all("that of process 1, 2 differs from that of process 0" in text for text in refused)
