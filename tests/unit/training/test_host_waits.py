"""How often a training step makes the host wait for the device.

Counted on a CPU, by what a GPU would be waited for: the host reads a number, or a shape that
depends on numbers. The optimizer of a recipe is used, and no entry is logged.
"""

from collections import Counter
from functools import partial

import pytest
import torch
from datasets import Dataset
from tiny_networks import new_model
from tiny_refinement import new_refinement_model
from tiny_runs import tiny_pairs
from torch.utils._python_dispatch import TorchDispatchMode

from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.trainer import NARTrainer

WAITS = {"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2", "is_nonzero"}
INDEXING = {
    "index",
    "index_put",
    "index_put_",
    "_index_put_impl_",
}  # by a mask: its True are counted


class CountedWaits(TorchDispatchMode):
    """Count waits, those of a network's forward pass and all others."""

    def __init__(self, network):
        super().__init__()
        self.counts = Counter()
        self.part = "elsewhere"
        network.register_forward_pre_hook(partial(self._enter, "forward"))
        network.register_forward_hook(partial(self._enter, "elsewhere"))

    def _enter(self, part, *_):
        self.part = part

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        masks = [i for i in (args[1] if name in INDEXING else ()) if i is not None]
        if name in WAITS or any(mask.dtype == torch.bool for mask in masks):
            self.counts[self.part] += 1
        return function(*args, **(kwargs or {}))


def waits_of(steps, build, tokenizer, folder):
    network = build(vocab_size=len(tokenizer))
    sources, targets = zip(*tiny_pairs()[:200], strict=True)
    encoded = tokenizer(text=list(sources), text_target=list(targets))
    rows = Dataset.from_dict({name: encoded[name] for name in ("input_ids", "labels")})
    silent = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1000}
    arguments = {**silent, "max_steps": steps, "tokens_per_batch": 100}
    trainer = NARTrainer(
        args=NARTrainingArguments(output_dir=str(folder), **arguments),
        model=network,
        train_dataset=rows,
        processing_class=tokenizer,
    )
    with CountedWaits(network) as counted:
        trainer.train()
    return counted.counts


def score_network(**options):
    network = new_model(latent_axis="target", num_score_layers=1, **options)
    network.train_refiners(["score"])
    return network


# The most that a step's forward pass may wait. Nearly all of it is transformers looking whether a
# mask hides anything, once for each mask.
CASES = {
    "lanmt": (new_model, 5),
    "target-latents": (partial(new_model, latent_axis="target"), 9),
    "refinement": (new_refinement_model, 12),
    "score-network": (score_network, 27),
}


@pytest.mark.parametrize(("build", "most"), CASES.values(), ids=CASES)
def test_a_training_step_waits_for_the_device_in_the_forward_pass_only(
    build, most, tiny_tokenizer, tmp_path
):
    few, many = (waits_of(steps, build, tiny_tokenizer, tmp_path) for steps in (2, 5))

    assert many["elsewhere"] == few["elsewhere"]
    assert many["forward"] - few["forward"] <= 3 * most


def test_reading_a_number_and_indexing_by_a_mask_count_as_waits():
    with CountedWaits(new_model()) as counted:
        torch.ones(3).sum().item()
        torch.ones(3)[torch.ones(3, dtype=torch.bool)]

    assert counted.counts == {"elsewhere": 2}
