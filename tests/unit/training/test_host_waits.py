"""How often a training step makes the host wait for the device.

Counted on a CPU, by what a GPU would be waited for: the host reads a number, or a shape that
depends on numbers, or copies numbers of its own. The optimizer of a recipe is used, and no entry is
logged.
"""

from collections import Counter
from functools import partial

import pytest
import torch
from datasets import Dataset
from tiny_networks import new_model, refiner_model
from tiny_refinement import new_refinement_model
from tiny_runs import tiny_pairs
from torch.utils._python_dispatch import TorchDispatchMode

from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.trainer import NARTrainer

WAITS = {
    "_local_scalar_dense",
    "equal",
    "nonzero",
    "masked_select",
    "_unique2",
    "is_nonzero",
    "multinomial",  # looks whether its chances are some
    "repeat_interleave",  # of counts in a tensor: their sum is read
}
READINGS = ("tolist", "numpy", "cpu")  # of which a tensor on a CPU notes nothing
COPIES = {"lift_fresh"}  # a tensor is made of numbers, in a network on the device
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

    def __enter__(self):
        self.patches = pytest.MonkeyPatch()
        for name in READINGS:
            self.patches.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.undo()
        return super().__exit__(*error)

    def _counted(self, method):
        def read(tensor, *args, **kwargs):
            if self.part == "forward":
                self.counts[self.part] += 1
            return method(tensor, *args, **kwargs)

        return read

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        masks = [i for i in (args[1] if name in INDEXING else ()) if i is not None]
        waits = WAITS | COPIES if self.part == "forward" else WAITS
        if name in waits or any(mask.dtype == torch.bool for mask in masks):
            self.counts[self.part] += 1
        return function(*args, **(kwargs or {}))


def trainer_of(steps, build, tokenizer, folder, **options):
    network = build(vocab_size=len(tokenizer))
    sources, targets = zip(*tiny_pairs()[:200], strict=True)
    encoded = tokenizer(text=list(sources), text_target=list(targets))
    rows = Dataset.from_dict({name: encoded[name] for name in ("input_ids", "labels")})
    silent = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 1000}
    arguments = {**silent, "max_steps": steps, "tokens_per_batch": 100, **options}
    return NARTrainer(
        args=NARTrainingArguments(output_dir=str(folder), **arguments),
        model=network,
        train_dataset=rows,
        processing_class=tokenizer,
    )


def waits_of(steps, build, tokenizer, folder):
    trainer = trainer_of(steps, build, tokenizer, folder)
    with CountedWaits(trainer.model) as counted:
        trainer.train()
    return counted.counts


def training(build, *refiners, **options):
    network = build(**options)
    network.train_refiners(refiners)
    return network


LESSONS = {
    "refiner_ascent_steps": 1,
    "refiner_doubt_weight": 0.1,
    "refiner_own_steps": 0.5,
    "refiner_repeat_weight": 0.1,
    "refiner_source_noise": 0.2,
    "refiner_word_weight": 1.0,
}
CASES = {
    "lanmt": new_model,
    "noisy": partial(new_model, posterior_noise=0.3, consistency_weight=1.0),
    "target-latents": partial(new_model, latent_axis="target"),
    "refinement": new_refinement_model,
    "sampled-drafts": partial(new_refinement_model, sample_drafts=True),
    "score-network": partial(
        training, new_model, "score", latent_axis="target", num_score_layers=1
    ),
    "refiners": partial(training, refiner_model, "score", "energy", **LESSONS),
}


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_a_training_step_never_waits_for_the_device(build, tiny_tokenizer, tmp_path):
    few, many = (waits_of(steps, build, tiny_tokenizer, tmp_path) for steps in (2, 5))

    assert many == few  # all that is waited for comes once


class Waiting(torch.nn.Module):
    def forward(self, vector):
        vector.sum().item()
        vector[vector > 0]
        torch.tensor([1.0, 2.0])
        vector.tolist()
        vector.repeat_interleave(vector.long())


def test_reading_a_number_indexing_by_a_mask_and_copying_numbers_count_as_waits():
    network = Waiting()
    with CountedWaits(network) as counted:
        torch.tensor([1.0, 2.0])
        network(torch.ones(3))

    assert counted.counts == {"forward": 5}


@pytest.mark.parametrize(
    ("build", "name"), [(new_model, "kl_budget"), (new_refinement_model, "corruption_scale")]
)
@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own import
def test_what_changes_in_each_step_is_a_tensor_where_the_network_is_compiled(
    build, name, is_compiled, tiny_tokenizer, tmp_path
):
    given = []
    trainer = trainer_of(1, build, tiny_tokenizer, tmp_path, torch_compile=is_compiled)
    trainer.model.register_forward_pre_hook(
        lambda network, args, kwargs: given.append(kwargs[name]), with_kwargs=True
    )

    trainer.train()  # one step, which is never compiled, as its operations are counted

    assert [isinstance(value, torch.Tensor) for value in given] == [is_compiled]
    assert trainer.accelerator.state.dynamo_plugin.dynamic is (True if is_compiled else None)
