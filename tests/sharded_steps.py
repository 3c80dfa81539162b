"""Train networks of both families in several processes, with DDP and with FSDP2, and compare.

Started by tests with torchrun: `sharded_steps.py CONFIG`, the accelerate configuration whose FSDP
section is used. accelerate itself takes FSDP for GPUs only, so that its function is called here.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
import yaml
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from tiny_networks import batch_of, labels_of, new_model
from tiny_refinement import new_refinement_model
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from hf_nar.training.sharding import whole_copy

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
STEPS = 3


def plugin_of(config: dict[str, Any]) -> FullyShardedDataParallelPlugin:
    options = {name.removeprefix("fsdp_"): value for name, value in config["fsdp_config"].items()}
    classes = options.pop("transformer_layer_cls_to_wrap").split(",")
    options["fsdp_version"] = options.pop("version")
    options["cpu_offload"] = options.pop("offload_params")
    options["auto_wrap_policy"] = options["auto_wrap_policy"].lower()
    return FullyShardedDataParallelPlugin(transformer_cls_names_to_wrap=classes, **options)


def shard(network: Any, config: dict[str, Any]) -> Any:
    accelerator = SimpleNamespace(
        state=SimpleNamespace(fsdp_plugin=plugin_of(config)),
        mixed_precision="no",
        is_main_process=dist.get_rank() == 0,
        device=torch.device("cpu"),
    )
    return fsdp2_prepare_model(accelerator, network)


def train(wrapped: Any, network: Any) -> list[float]:
    """Return the losses of some steps of gradient descent; each process has its own batches."""
    optimizer = torch.optim.SGD(
        [value for value in wrapped.parameters() if value.requires_grad], lr=0.1
    )
    losses = []
    network.train()
    for step in range(STEPS):
        seed = 10 * step + dist.get_rank()
        torch.manual_seed(seed)  # of noise
        output = wrapped(
            input_ids=batch_of(4 + step, 9, 6, seed=seed), labels=labels_of(7, 5, 8, seed=seed)
        )
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    return losses


def main(config: dict[str, Any]) -> None:
    dist.init_process_group("gloo")
    networks = {
        "source latents": new_model(**NO_DROPOUT),
        "target latents": new_model(latent_axis="target", **NO_DROPOUT),
        "refinement": new_refinement_model(**NO_DROPOUT),
    }
    for name, network in networks.items():
        plain = copy.deepcopy(network)
        sharded = shard(copy.deepcopy(network), config)
        assert any(hasattr(value, "full_tensor") for value in sharded.parameters()), name
        expected = train(DistributedDataParallel(plain), plain)
        losses = train(sharded, sharded)
        assert_close(losses, expected, rtol=1e-5, atol=1e-5)
        whole = whole_copy(sharded)
        assert not any(hasattr(value, "full_tensor") for value in whole.parameters()), name
        before, ours = network.state_dict(), plain.state_dict()
        assert any(not before[key].equal(ours[key]) for key in ours), name
        assert_close(whole.state_dict(), ours, rtol=1e-5, atol=1e-6)
        # Only some processes may have sentences left to translate.
        if dist.get_rank() == 0:
            whole.eval().generate(input_ids=batch_of(4, 6))
        sys.stdout.write(f"{name} is as with DDP\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(yaml.safe_load(Path(sys.argv[1]).read_text(encoding="utf-8")))
