"""Networks whose weights are shared out to the processes."""

from __future__ import annotations

from typing import Any, cast

from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from transformers import PreTrainedModel


def whole_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model with all weights in each process: the model itself, unless FSDP2 shards it.

    Sharded parts have to be used by all processes at once and as often, which translating does
    not: each process has other sentences. All processes have to call this.

    Args:
        model: With the weights of this process, or all.
    """
    if not isinstance(model, FSDPModule):
        return model
    weights: Any = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    own_class = type(model).__mro__[2]  # FSDP2 puts one of its own, and `FSDPModule`, before it
    whole: Any = own_class(model.config)
    whole.load_state_dict(weights)
    whole.generation_config = model.generation_config
    return cast("PreTrainedModel", whole.to(model.device).train(model.training))


def check_shardable(model: Any, is_sharded: bool) -> None:
    """Check that a network can be trained in the way that a run is configured.

    Args:
        model: The network.
        is_sharded: Whether FSDP shares its weights out.

    Raises:
        ValueError: If it cannot.
    """
    if is_sharded and getattr(model, "trained_refiners", None):
        raise ValueError(
            "Refiners must be trained with whole weights, as an energy network takes gradients "
            "within its forward pass, which FSDP cannot follow. Use "
            "training/accelerate/multi_gpu.yaml."
        )
