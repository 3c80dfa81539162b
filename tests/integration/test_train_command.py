"""`hf-nar train` from text files to an exported folder, and what happens when it is run again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import VALIDATION_PAIRS, tiny_pairs, write_recipe

from hf_nar.cli.main import main
from hf_nar.inference import Translator

ROOT = Path(__file__).parents[2]
UNSAFE = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    """Keep the datasets library out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]


def same_weights(first: Path, second: Path) -> bool:
    a, b = load_file(first / "model.safetensors"), load_file(second / "model.safetensors")
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def steps_of(run: Path) -> set[int]:
    return {int(folder.name.split("-")[1]) for folder in run.glob("checkpoint-*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a folder with a recipe and, in `run`, what the command made of it; and its output."""
    folder = tmp_path_factory.mktemp("finished")
    recipe = write_recipe(folder)
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr(
            "builtins.print", lambda *values, **_: lines.append(" ".join(map(str, values)))
        )
        code = main(["train", str(recipe), "training.average_checkpoints=2"])
    assert code == 0, lines
    return folder, lines


@pytest.fixture
def copied(finished, tmp_path):
    """Return the finished run's folder, put back as it was at the end of the test."""
    folder, _ = finished
    backup = shutil.copytree(folder, tmp_path / "backup")
    yield folder
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)


def train_again(folder, *overrides):
    recipe = str(folder / "recipe.yaml")
    return main(["train", recipe, "training.average_checkpoints=2", *overrides])


def test_the_command_says_where_the_model_is_and_how_good(finished):
    folder, lines = finished
    facts = json.loads((folder / "run/export/training.json").read_text())

    assert lines[-1].startswith(f"{folder / 'run/export'}: {facts['validation_bleu']:.2f} BLEU")
    assert facts["steps"] == 6
    assert facts["processes"] == 1


def test_the_exported_folder_translates(finished):
    folder, _ = finished
    sources = [source for source, _ in tiny_pairs()[:3]]

    texts = Translator.from_pretrained(folder / "run/export", device="cpu").translate(sources)

    assert len(texts) == 3


def test_the_exported_folder_holds_no_pickles(finished):
    folder, _ = finished
    files = {file.name for file in (folder / "run/export").rglob("*")}

    assert {"model.safetensors", "tokenizer.json", "modeling_lanmt.py", "config.json"} <= files
    assert not [name for name in files if Path(name).suffix in UNSAFE]


def test_the_recipes_decoding_knobs_are_exported(finished):
    folder, _ = finished
    knobs = json.loads((folder / "run/export/generation_config.json").read_text())

    assert knobs["num_refinement_iterations"] == 2
    assert knobs["collapse_repeats"] is False
    assert knobs["max_length"] == 40


def test_the_log_and_the_recipe_stay_beside_the_weights(finished):
    folder, _ = finished
    steps = [entry["step"] for entry in log_of(folder / "run") if "loss" in entry]

    assert steps == [1, 2, 3, 4, 5, 6]
    assert (folder / "run/recipe.yaml").is_file()
    assert steps_of(folder / "run") == {3, 6}


def test_a_finished_run_only_exports_again(copied, finished, capsys):
    run = copied / "run"
    before = shutil.copytree(run / "export", copied / "before")
    log = (run / "log.jsonl").read_text()
    shutil.rmtree(run / "export")

    code = train_again(copied)

    assert code == 0
    assert steps_of(run) == {3, 6}
    assert (run / "log.jsonl").read_text() == log
    assert same_weights(run / "export", before)
    assert (run / "export/training.json").read_text() == (before / "training.json").read_text()
    assert capsys.readouterr().out == finished[1][-1] + "\n"


def test_another_recipe_in_the_same_folder_is_refused_in_one_line(copied, capsys):
    before = (copied / "run/recipe.yaml").read_text()

    code = train_again(copied, "training.learning_rate=0.1")

    error = capsys.readouterr().err
    assert code == 2
    assert "must hold checkpoints of this recipe only" in error
    assert error.count("\n") == 1
    assert (copied / "run/recipe.yaml").read_text() == before


def test_a_finished_run_is_exported_again_with_other_decoding_knobs(copied):
    run = copied / "run"
    before = shutil.copytree(run / "export", copied / "before")

    code = train_again(copied, "generation.num_refinement_iterations=4")

    knobs = json.loads((run / "export/generation_config.json").read_text())
    assert code == 0
    assert knobs["num_refinement_iterations"] == 4
    assert same_weights(run / "export", before)


@pytest.mark.parametrize("is_cut", [False, True], ids=["between", "while-saving"])
def test_a_run_that_stopped_goes_on_to_the_same_weights(copied, is_cut):
    run = copied / "run"
    whole = shutil.copytree(run, copied / "whole")
    shutil.rmtree(run / "export")
    if is_cut:  # killed while the last checkpoint was being written
        (run / "checkpoint-6/trainer_state.json").unlink()
    else:
        shutil.rmtree(run / "checkpoint-6")

    code = train_again(copied)

    assert code == 0
    assert same_weights(run / "checkpoint-6", whole / "checkpoint-6")
    assert same_weights(run / "export", whole / "export")


def test_a_recipe_gives_the_same_weights_wherever_it_is_run(finished, tmp_path):
    torch.manual_seed(1)  # what another process may have drawn before
    recipe = write_recipe(tmp_path)

    code = main(["train", str(recipe), "training.average_checkpoints=2"])

    assert code == 0
    assert same_weights(tmp_path / "run/checkpoint-6", finished[0] / "run/checkpoint-6")


def test_the_export_is_the_mean_of_the_last_checkpoints_where_that_is_no_worse(finished):
    folder, lines = finished
    run = folder / "run"
    last = [load_file(run / f"checkpoint-{step}/model.safetensors") for step in (3, 6)]
    exported = load_file(run / "export/model.safetensors")

    assert "2 checkpoint(s) averaged" in lines[-1]
    for name, value in exported.items():
        mean = ((last[0][name] + last[1][name]) / 2).to(value.dtype)
        assert mean.equal(value), name


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.train.source_file=no.de", "no.de"),
        ("training.max_step=3", "did you mean `training.max_steps`?"),
        ("tokenizer.vocab_size=9000", "`vocab_size` must be at most"),
        ("data.max_target_tokens=1", "Raise the limits"),
        ("training.tokens_per_batch=3", "`max_tokens` must hold the longest pair"),
        ("training.max_steps=0", "`training.max_steps` must be at least 1"),
        ("tokenizer.vocab_size=3", "must be more than the 5 special tokens"),
        ("training.output_dir=elsewhere", "no key `training.output_dir`"),
        ("training.label_smoothing_factor=0.1", "Set the model's `label_smoothing`"),
        ("model.max_position_embeddings=6", "`data.max_source_tokens` must be at most 6"),
        ("generation.num_beams=4", "`num_beams` has no meaning"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(tmp_path, capsys, override, message):
    recipe = write_recipe(tmp_path)

    code = main(["train", str(recipe), override])

    error = capsys.readouterr().err.splitlines()
    assert code == 2
    assert message in error[-1]
    assert error[-1].startswith("hf-nar: error: ")


def test_a_run_that_stopped_before_its_first_checkpoint_leaves_no_tokenizer_behind(tmp_path):
    recipe = write_recipe(tmp_path)
    assert main(["train", str(recipe), "training.tokens_per_batch=3"]) == 2
    assert (tmp_path / "run/tokenizer").is_dir()

    assert main(["train", str(recipe), "tokenizer.vocab_size=70"]) == 0

    config = json.loads((tmp_path / "run/export/config.json").read_text())
    assert config["vocab_size"] == 70


def test_a_streamed_corpus_is_trained_on(tmp_path):
    recipe = write_recipe(tmp_path)
    rows = [{"de": source, "en": target} for source, target in tiny_pairs()[:100]]
    (tmp_path / "rows").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "rows/train.jsonl").write_text(text, encoding="utf-8")
    streamed = {
        "dataset": str(tmp_path / "rows"),
        "streaming": True,
        "source_field": "de",
        "target_field": "en",
    }

    code = main(["train", str(recipe), f"data.train={json.dumps(streamed)}"])

    assert code == 0
    entries = [entry for entry in log_of(tmp_path / "run") if "word_loss" in entry]
    assert entries[-1]["word_loss"] < entries[0]["word_loss"]


def test_a_streamed_validation_set_gives_the_scores_of_a_stored_one(finished, tmp_path, caplog):
    recipe = write_recipe(tmp_path)

    assert main(["train", str(recipe), "data.validation.streaming=true"]) == 0

    scores = [
        [
            {name: entry[name] for name in ("step", "eval_loss", "eval_bleu")}
            for entry in log_of(folder / "run")
            if "eval_bleu" in entry
        ]
        for folder in (tmp_path, finished[0])
    ]
    assert scores[0] == scores[1]
    assert "train: 120 pairs kept" in caplog.text
    assert "None dropped" not in caplog.text


# Other processes


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    own = {"PYTHONPATH": path, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    return {**os.environ, **own, "HF_HUB_OFFLINE": "1"}


def start(folder: Path, *command: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        env=environment(folder),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_to_the_end(folder: Path, *command: object) -> None:
    process = start(folder, *command)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-3000:]


@pytest.mark.slow
def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(tmp_path):
    script = ROOT / "training/train.py"
    folders = [tmp_path / "killed", tmp_path / "whole"]
    steps = {"max_steps": 60, "eval_steps": 10, "save_steps": 10}
    recipes = [write_recipe(folder, **steps, logging_steps=10) for folder in folders]
    run_to_the_end(folders[1], script, recipes[1])

    process = start(folders[0], script, recipes[0])
    deadline = time.monotonic() + 120
    while not (folders[0] / "run/checkpoint-20/trainer_state.json").exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folders[0] / "run/export").exists()  # it was killed in the middle
    run_to_the_end(folders[0], script, recipes[0])

    killed, whole = (folder / "run" for folder in folders)
    assert same_weights(killed / "checkpoint-60", whole / "checkpoint-60")
    assert (killed / "export/model.safetensors").read_bytes() == (
        whole / "export/model.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_two_processes_train_and_translate_each_validation_sentence_once(tmp_path):
    recipe = write_recipe(tmp_path, tokens_per_batch=200)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    # What each process translates and what is scored, without touching the training code.
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import json, os, sys\n"
        "from hf_nar.inference import Translator\n"
        "from hf_nar.training import trainer\n"
        "file = os.path.join(os.path.dirname(__file__), 'seen-' + os.environ['RANK'] + '.jsonl')\n"
        "def note(kind, values):\n"
        "    with open(file, 'a') as out:\n"
        "        out.write(json.dumps([kind, list(values)]) + '\\n')\n"
        "translate, scores = Translator.translate, trainer.corpus_scores\n"
        "def noted(self, lines, *args, **kwargs):\n"
        "    texts = translate(self, lines, *args, **kwargs)\n"
        "    note('mine', zip(lines, texts))\n"
        "    return texts\n"
        "def scored(hypotheses, references):\n"
        "    note('scored', zip(hypotheses, references))\n"
        "    return scores(hypotheses, references)\n"
        "Translator.translate, trainer.corpus_scores = noted, scored\n"
        "from hf_nar.cli.main import main\n"
        "raise SystemExit(main(['train', *sys.argv[1:]]))\n",
        encoding="utf-8",
    )

    run_to_the_end(tmp_path, *launch, spy, recipe)

    pairs = tiny_pairs()[120 : 120 + VALIDATION_PAIRS]
    seen = [
        [json.loads(line) for line in (tmp_path / f"seen-{rank}.jsonl").read_text().splitlines()]
        for rank in range(2)
    ]
    evaluations = len(seen[0]) // 2
    assert len(seen[1]) == len(seen[0])
    assert evaluations == 3  # two in the log, one for the export
    for i in range(evaluations):
        mine = [[tuple(pair) for pair in of_rank[2 * i][1]] for of_rank in seen]
        assert [len(part) for part in mine] == [4, 3]
        translated = dict(mine[0] + mine[1])
        expected = [[translated[source], target] for source, target in pairs]
        assert seen[0][2 * i + 1] == ["scored", expected]
        assert seen[1][2 * i + 1] == ["scored", expected]
    assert len([entry for entry in log_of(tmp_path / "run") if "eval_bleu" in entry]) == 2
    facts = json.loads((tmp_path / "run/export/training.json").read_text())
    assert facts["processes"] == 2


@pytest.mark.slow
def test_two_processes_go_on_to_the_same_weights_in_a_later_epoch(tmp_path):
    recipe = write_recipe(tmp_path, max_steps=14, eval_steps=2, save_steps=2, tokens_per_batch=200)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    script, run = ROOT / "training/train.py", tmp_path / "run"
    run_to_the_end(tmp_path, *launch, script, recipe)
    whole = shutil.copytree(run, tmp_path / "whole")
    for step in (12, 14):
        shutil.rmtree(run / f"checkpoint-{step}")
    epochs = [entry["epoch"] for entry in log_of(run) if entry["step"] == 10]

    run_to_the_end(tmp_path, *launch, script, recipe)

    assert 1 < epochs[0] < 2  # the restart is in the middle of the second epoch
    assert same_weights(run / "checkpoint-14", whole / "checkpoint-14")
    assert same_weights(run / "export", whole / "export")
