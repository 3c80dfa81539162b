"""How fast a run trains: tokens a second, padding, and how much of the device's peak is used.

Nothing here waits for the device in a step: real tokens are summed where they lie and read with the
next log entry.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop
from transformers import Seq2SeqTrainer

from hf_nar.data.dealing import FILLER
from hf_nar.remote_code.losses_nar import IGNORED_LABEL

# Peaks of dense matrix products in FLOP/s: 16-bit floats, TF32, float32. As tables quote NVIDIA's,
# whose figures with sparsity are twice as high. Words of the device's name, the first that fit.
PEAKS: dict[str, tuple[float, float, float]] = {
    "H200": (989.4e12, 494.7e12, 66.9e12),
    "H100 PCIe": (756e12, 378e12, 51e12),
    "H100 80GB HBM3": (989.4e12, 494.7e12, 66.9e12),  # SXM
    "A100": (312e12, 156e12, 19.5e12),
    "L40S": (362e12, 183e12, 91.6e12),
    "L4": (121e12, 60e12, 30.3e12),
    "V100 SXM2": (125e12, 15.7e12, 15.7e12),  # 16-bit floats: float16 only, and no TF32
    "V100 PCIE": (112e12, 14e12, 14e12),
    "T4": (65e12, 8.1e12, 8.1e12),
}
_FORMULAS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    # PyTorch lacks these two.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
_GIB = 2**30


def peak_flops(device_name: str, is_half: bool, is_tf32: bool = False) -> float | None:
    """Return the peak of a GPU in FLOP/s; None for one that is not in `PEAKS`.

    Args:
        device_name: As `torch.cuda.get_device_name` gives it.
        is_half: Whether matrix products are of bfloat16 or float16.
        is_tf32: Whether those of float32 may be rounded to TF32.
    """
    found = set(re.split("[ -]", device_name))
    for words, (half, tf32, single) in PEAKS.items():
        if found.issuperset(words.split()):
            return half if is_half else tf32 if is_tf32 else single
    return None


class ModelFlops(TorchDispatchMode):
    """Count the matrix products of a step: two operations for each product of two numbers.

    As `torch.utils.flop_counter`, with PyTorch's own formulas, but for two things: it takes a
    hundredth of the time, and what gradient checkpointing computes a second time is not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # has no types
        self.total = 0
        self.is_forward = False

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count it."""
        result = function(*args, **(kwargs or {}))
        is_repeated = not self.is_forward and torch.is_grad_enabled()
        formula = _FORMULAS.get(function._overloadpacket)
        if formula is not None and not is_repeated:
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


class ThroughputMeter:
    """What was trained on since the last log entry, and for how long.

    Args:
        device: Of this process.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.flops_per_position: float | None = None
        self.resumed_at: float | None = None  # None: the clock stands
        self.seconds = 0.0
        self._start_again()

    def _start_again(self) -> None:
        self.source_tokens: Tensor | int = 0
        self.target_tokens: Tensor | int = 0
        self.positions = 0

    def count(self, batch: Mapping[str, Any]) -> int:
        """Count a batch that is trained on, and start the clock; return its positions.

        Args:
            batch: With `labels` `[batch, target_len]` and, where the source is a text,
                `attention_mask` `[batch, source_len]`. A filler counts for nothing.
        """
        if self.resumed_at is None:
            self.resumed_at = time.perf_counter()
        if FILLER in batch:
            return 0
        labels, source = batch["labels"], batch.get("attention_mask")
        self.target_tokens = self.target_tokens + (labels != IGNORED_LABEL).sum()
        positions = int(labels.numel())
        if source is not None:
            self.source_tokens = self.source_tokens + source.sum()
            positions += int(source.numel())
        self.positions += positions
        return positions

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock; what the device was given before still counts as training."""
        was_running = self.resumed_at is not None
        self._stop()
        yield
        if was_running:
            self._wait()
            self.resumed_at = time.perf_counter()

    def _stop(self) -> None:
        if self.resumed_at is not None:
            self._wait()
            self.seconds += time.perf_counter() - self.resumed_at
            self.resumed_at = None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def take(self, steps: int, gather: Callable[[Tensor], Tensor], peak: float | None) -> Any:
        """Return the figures since the last call over all processes, and start again.

        Args:
            steps: Optimizer steps since then.
            gather: Joins tensors of all processes at dimension 0.
            peak: FLOP/s of the device of one process, if it is known.
        """
        self._stop()
        seconds, self.seconds = self.seconds, 0.0
        on_cuda = self.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated(self.device) if on_cuda else 0
        counts = [self.source_tokens, self.target_tokens, self.positions, memory]
        mine = torch.stack([torch.as_tensor(i, device=self.device).long() for i in counts])
        rows: list[list[int]] = gather(mine[None]).tolist()
        source, target, positions, _ = (sum(column) for column in zip(*rows, strict=True))
        self._start_again()
        self.resumed_at = time.perf_counter()
        if not (seconds and steps and positions):
            return {}
        figures = {
            "tokens_per_second": round((source + target) / seconds, 1),
            "target_tokens_per_second": round(target / seconds, 1),
            "padding_share": round(1 - (source + target) / positions, 4),
            "seconds_per_step": float(f"{seconds / steps:.4g}"),
        }
        if self.flops_per_position is not None:
            speed = self.flops_per_position * (source + target) / seconds
            figures["model_flops_per_second"] = float(f"{speed:.4g}")
            if peak is not None:
                figures["model_flops_utilisation"] = round(speed / (peak * len(rows)), 4)
        if on_cuda:
            figures["peak_memory_gib"] = round(max(row[-1] for row in rows) / _GIB, 3)
        return figures


class MeasuredThroughput(Seq2SeqTrainer):
    """Add to each log entry with a loss how fast the run has trained since the last one.

    - `tokens_per_second`: real tokens of source and target, end tokens included, padding, fillers
      and start tokens not, of all processes. A picture has no tokens.
    - `target_tokens_per_second`: those of the target.
    - `padding_share`: padded positions among all positions of both sides.
    - `seconds_per_step`: of an optimizer step, with the time for which it waited for data.
    - `model_flops_per_second`: operations of matrix products, forward and backward, that real
      tokens took. How many a position takes, padded or not, is counted on the first batch of the
      process, so that it is a few per cent off where that is unusual.
    - `model_flops_utilisation`: the same as a share of the peak of all devices, if it is known.
    - `peak_memory_gib`: the most that a process ever held on its GPU.

    The clock stands during evaluation and saving, and before the first batch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.throughput = ThroughputMeter(self.args.device)
        self._step_of_entry = 0
        self._counter: ModelFlops | None = None
        self._parameters: int | None = None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train, with a new clock."""
        self.throughput = ThroughputMeter(self.args.device)
        return super().train(*args, **kwargs)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Tensor:
        """Do a batch forward and backward, and count it."""
        meter = self.throughput
        if meter.resumed_at is None and not meter.seconds:
            self._step_of_entry = self.state.global_step
        positions = meter.count(inputs)
        if meter.flops_per_position is not None or not positions:
            return super().training_step(model, inputs, *args, **kwargs)
        # Uncompiled: what is called under the counter first would never be compiled afterwards.
        with torch.compiler.set_stance("force_eager"), ModelFlops() as self._counter:
            loss: Tensor = super().training_step(model, inputs, *args, **kwargs)
        meter.flops_per_position, self._counter = self._counter.total / positions, None
        return loss

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss; in a step that is counted, say that this is its forward pass."""
        if self._counter is None:
            return super().compute_loss(*args, **kwargs)
        self._counter.is_forward = True
        try:
            return super().compute_loss(*args, **kwargs)
        finally:
            self._counter.is_forward = False

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return the library's own estimate, but count the parameters only once, not each step."""
        name = getattr(self.model, "main_input_name", "input_ids")
        if self._parameters is None:
            network: Any = self.accelerator.unwrap_model(self.model)
            self._parameters = network.num_parameters(exclude_embeddings=True)
        return int(6 * inputs[name].numel() * self._parameters) if name in inputs else 0

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate, while the clock of training stands."""
        with self.throughput.paused():
            return super().evaluate(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        with self.throughput.paused():
            super()._save_checkpoint(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, with the throughput since the last entry."""
        if "loss" in logs:
            steps = self.state.global_step - self._step_of_entry
            self._step_of_entry = self.state.global_step
            logs.update(self.throughput.take(steps, self.accelerator.gather, self._peak()))
        super().log(logs, start_time)

    def _peak(self) -> float | None:
        """Return the peak of this process's device in FLOP/s, if it is known."""
        if self.args.device.type != "cuda":
            return None
        is_half = self.accelerator.mixed_precision in ("bf16", "fp16")
        is_tf32 = torch.get_float32_matmul_precision() != "highest"
        return peak_flops(torch.cuda.get_device_name(self.args.device), is_half, is_tf32)
