"""Linear layers that compute from weights in the layout that oneDNN wants on a CPU."""

from __future__ import annotations

import copy
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def why_not_pack(model: nn.Module) -> str | None:
    """Return what keeps `pack_weights` from packing a model, for a message; None if nothing."""
    if not torch.backends.mkldnn.is_available():
        return "this build of torch has no oneDNN"
    for weight in model.parameters():
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            kind = str(weight.dtype).removeprefix("torch.")
            return f"the model is {kind} on {weight.device.type}"
    return None


def pack_weights(model: nn.Module) -> None:
    """Let each linear layer compute from a copy of its weights in oneDNN's own layout.

    One sentence at a time is some 25 rows, for which a matrix product spends a third of its time on
    bringing the weights into such a layout; here that is done once, as CTranslate2 does it when it
    loads a model. Results differ by float rounding. The copies take as much memory again as the
    linear layers.

    The model stays what it was: its parameters, what it saves, and its gradients. Where gradients
    are recorded, and in a layer whose weights have been changed since (other than through their
    `data`), the weights themselves are used. A deep copy of the model is not packed.

    Args:
        model: On a CPU, in float32.

    Raises:
        ValueError: If it is not, or torch was built without oneDNN.
    """
    reason = why_not_pack(model)
    if reason is not None:
        raise ValueError(
            f"Weights can be packed for a float32 model on a CPU and with oneDNN, but {reason}. "
            f"Leave it as it is."
        )
    for module in model.modules():
        if isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward:
            layer: Any = module  # an attribute, as accelerate's hooks have it, hides the method
            layer.forward = PackedForward(module)


class PackedForward:
    """The `forward` of a linear layer with packed weights.

    Args:
        layer: It.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self.layer = layer
        weight = layer.weight.detach()
        self.packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        self.packed_from = _identity(layer.weight)
        self.compute: Any = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, hidden: Tensor) -> Tensor:
        """Map `[..., in_features]` to `[..., out_features]`."""
        layer = self.layer
        if (
            torch.is_grad_enabled()
            or hidden.dtype != torch.float32
            or _identity(layer.weight) != self.packed_from
        ):
            return functional.linear(hidden, layer.weight, layer.bias)
        output: Tensor = self.compute(hidden, self.packed, layer.bias, "none", [], "")
        return output

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Return the usual `forward` of the copied layer, as torch cannot copy packed weights."""
        return MethodType(nn.Linear.forward, copy.deepcopy(self.layer, memo))


def _identity(weight: Tensor) -> tuple[int, int]:
    """Return what changes when a weight is written to or replaced."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version
