"""What changes only how weights are found."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import Seq2SeqTrainingArguments


@dataclass
class NARTrainingArguments(Seq2SeqTrainingArguments):
    """Arguments of the library's trainer, and those that it lacks.

    Defaults that differ from the library's: `remove_unused_columns`, `save_strategy`,
    `eval_strategy`, `metric_for_best_model`, `load_best_model_at_end`,
    `ddp_find_unused_parameters`, `disable_tqdm` stays, `report_to`.
    """

    tokens_per_batch: int = field(
        default=4096,
        metadata={"help": "Tokens of one batch on one device: sentences x longest side."},
    )
    kl_budget: float = field(
        default=1.0, metadata={"help": "Free KL nats of each source position at the start."}
    )
    kl_budget_hold: float = field(
        default=0.5, metadata={"help": "Share of the run before the budget falls to 0."}
    )
    validation_iterations: int = field(
        default=1, metadata={"help": "Refinement iterations in validation decoding."}
    )
    average_checkpoints: int = field(
        default=1, metadata={"help": "Average this many last checkpoints at the end; 1 is off."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Drop columns that the model does not know."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Look for parameters without gradient in each step."}
    )
