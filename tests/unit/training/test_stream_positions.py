"""Runs on streamed corpora go on with the next batch, without reading all again."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import tiny_pairs

from hf_nar.data.corpus import CorpusConfig, load_corpus, tokenize_corpus
from hf_nar.data.row_streams import TokenStream
from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.trainer import NARTrainer

with_workers = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded, use of fork:DeprecationWarning",
    "ignore:This DataLoader will create 2 worker processes:UserWarning",
)


class Counted:
    """Encode pairs, and count those of this process."""

    def __init__(self, encode):
        self.encode = encode
        self.pairs = 0

    def __call__(self, pairs):
        self.pairs += len(pairs)
        return self.encode(pairs)


@pytest.fixture
def trainer(tiny_model, tiny_tokenizer, tmp_path):
    """Return a function that makes a trainer of 12 steps, on 120 pairs in two text files."""
    for side, name in enumerate(("de", "en")):
        text = "".join(f"{pair[side]}\n" for pair in tiny_pairs()[:120])
        (tmp_path / f"pairs.{name}").write_text(text, encoding="utf-8")
    config = CorpusConfig(tmp_path / "pairs.de", tmp_path / "pairs.en", streaming=True)
    stream = tokenize_corpus(load_corpus(config).pairs, tiny_tokenizer, 40, 40).examples
    first = {name: value.clone() for name, value in tiny_model.state_dict().items()}

    def make(folder, **options):
        torch.manual_seed(1)
        tiny_model.load_state_dict(first)
        options = {"max_steps": 12, "save_steps": 5, "tokens_per_batch": 150, **options}
        return NARTrainer(
            args=NARTrainingArguments(
                output_dir=str(tmp_path / folder),
                use_cpu=True,
                disable_tqdm=True,
                seed=3,
                logging_steps=1,
                **options,
            ),
            model=tiny_model,
            train_dataset=TokenStream(stream.rows, Counted(stream.encode)),
            eval_dataset=TokenStream(stream.rows, stream.encode),
            processing_class=tiny_tokenizer,
        )

    return make


def same_weights(first, second):
    a, b = (load_file(folder / "model.safetensors") for folder in (first, second))
    return all(a[name].equal(b[name]) for name in a)


@with_workers
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("accumulated", [1, 3])
def test_a_run_that_goes_on_ends_with_the_weights_of_one_that_was_not_stopped(
    trainer, tmp_path, workers, accumulated
):
    options = {"dataloader_num_workers": workers, "gradient_accumulation_steps": accumulated}
    options["save_steps"] = 1
    trainer("whole", **options).train()
    shutil.copytree(tmp_path / "whole/checkpoint-5", tmp_path / "again/checkpoint-5")

    trainer("again", **options).train(resume_from_checkpoint=str(tmp_path / "again/checkpoint-5"))

    assert same_weights(tmp_path / "again/checkpoint-12", tmp_path / "whole/checkpoint-12")
    file = "checkpoint-6/stream_position_0.json"
    assert (tmp_path / "again" / file).read_text() == (tmp_path / "whole" / file).read_text()


def test_pairs_of_earlier_passes_are_not_encoded_again(trainer, tmp_path):
    whole = trainer("whole", max_steps=80, save_steps=79, save_total_limit=2)
    whole.train()
    again = trainer("again", max_steps=80, save_steps=79)

    again.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-79"))

    assert whole.train_dataset.encode.pairs > 550
    assert again.train_dataset.encode.pairs <= 3 * 120  # this buffer, the next, and one after it


def test_the_log_says_how_many_passes_were_done(trainer):
    run = trainer("run", max_steps=25)

    run.train()

    passes = [entry["passes"] for entry in run.state.log_history if "passes" in entry]
    assert passes[0] == 0
    assert passes == sorted(passes)
    assert passes[-1] == run.stream_positions[0].passes > 0


@with_workers
def test_with_other_workers_it_goes_on_where_the_slowest_stood(trainer, tmp_path, caplog):
    trainer("run", max_steps=25, save_steps=25).train()
    saved = json.loads((tmp_path / "run/checkpoint-25/stream_position_0.json").read_text())
    again = trainer("run", max_steps=26, dataloader_num_workers=2)

    again.train(resume_from_checkpoint=str(tmp_path / "run/checkpoint-25"))

    assert "some pairs come twice" in caplog.text
    start = saved["positions"]["0"]
    assert again.streamed.positions[0]._asdict() == {**start, "batches": 0}
    assert again.streamed.positions[0] == again.streamed.positions[1]


@with_workers
@pytest.mark.parametrize("workers", [0, 2])
def test_a_streamed_validation_set_is_read_once_in_its_order(trainer, workers):
    run = trainer("run", dataloader_num_workers=workers)

    batches = [batch["input_ids"] for batch in run.get_eval_dataloader()]

    rows = [row[row != 0].tolist() for batch in batches for row in batch]
    assert rows == [row["input_ids"] for row in run.eval_dataset]
    assert len(rows) == 120
