"""A trainer of a tiny network on 40 tiny pairs, and numbers that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tiny_runs import tiny_pairs

from hf_nar.training.config import NARTrainingArguments
from hf_nar.training.trainer import NARTrainer


def tiny_trainer(model: Any, tokenizer: Any, output: Path, **arguments: Any) -> NARTrainer:
    """Return a trainer; `arguments` replace those of its `NARTrainingArguments`."""
    pairs = tiny_pairs()[:40]
    encoded = tokenizer(
        text=[source for source, _ in pairs], text_target=[target for _, target in pairs]
    )
    rows = Dataset.from_dict({name: encoded[name] for name in ("input_ids", "labels")})
    options = {"use_cpu": True, "disable_tqdm": True, "logging_steps": 1, "tokens_per_batch": 200}
    options |= {"save_strategy": "no", "seed": 3, **arguments}
    return NARTrainer(
        args=NARTrainingArguments(output_dir=str(output), **options),
        model=model,
        train_dataset=rows,
        eval_dataset=rows.select(range(10)),
        processing_class=tokenizer,
    )


def change_losses(
    model: Any,
    passes: Collection[int],
    change: Callable[[torch.Tensor], torch.Tensor],
    name: str = "loss",
) -> None:
    """Change the loss, or what else has that name, of some training passes, counted from 1."""
    count = 0

    def hook(_: Any, __: Any, output: Any) -> Any:
        nonlocal count
        if torch.is_grad_enabled():
            count += 1
            if count in passes:
                output[name] = change(output[name])
        return output

    model.register_forward_hook(hook)


def change_gradients(parameter: Any, passes: Collection[int], factor: float) -> None:
    """Multiply the gradient of a parameter in some of the backward passes, counted from 1."""
    count = 0

    def hook(gradient: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return gradient * (factor if count in passes else 1.0)

    parameter.register_hook(hook)
