"""What changes only how weights are found."""

from __future__ import annotations

from dataclasses import dataclass, field

from transformers import Seq2SeqTrainingArguments


@dataclass
class NARTrainingArguments(Seq2SeqTrainingArguments):
    """Arguments of the library's trainer, and those that it lacks.

    Defaults that differ from the library's: evaluation in batches of 32, nothing reported to a
    tracker, all columns kept, no search for unused parameters, no look at every loss for the log (a
    skipped step is kept out of it anyway). A recipe's differ further: see
    `hf_nar.training.run.training_arguments`.
    """

    tokens_per_batch: int = field(
        default=4096,
        metadata={"help": "Tokens of one batch on one device: sentences x longest side."},
    )
    kl_budget: float | None = field(
        default=None,
        metadata={"help": "Free KL nats of each latent at the start; None: the model's."},
    )
    kl_budget_hold: float = field(
        default=0.5, metadata={"help": "Share of the run before the budget falls to 0."}
    )
    corruption_hold: float = field(
        default=1.0,
        metadata={"help": "Share of the run before corruption rates fall to 0; 1: they stay."},
    )
    validation_iterations: int | None = field(
        default=None,
        metadata={"help": "Refinement iterations in validation decoding; None: the model's."},
    )
    average_checkpoints: int = field(
        default=1, metadata={"help": "Average this many last checkpoints at the end; 1 is off."}
    )
    max_skipped_steps: int = field(
        default=20,
        metadata={"help": "Stop after so many steps in a row without a finite loss and gradient."},
    )
    loss_spike_deviations: float = field(
        default=6.0,
        metadata={"help": "Log a loss so many standard deviations above its mean; 0: none."},
    )
    per_device_eval_batch_size: int = field(
        default=32, metadata={"help": "Sentences of one batch in evaluation."}
    )
    report_to: str | list[str] | None = field(
        default="none", metadata={"help": "Trackers, such as tensorboard."}
    )
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Drop columns that the model does not know."}
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Wait for the device in each step to look at the loss."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Look for parameters without gradient in each step."}
    )

    def __post_init__(self) -> None:
        for name in ("tokens_per_batch", "average_checkpoints", "max_skipped_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not 0 <= self.corruption_hold <= 1:
            raise ValueError(
                f"`corruption_hold` is a share of the run and must be in [0, 1], got "
                f"{self.corruption_hold}. Use 1 to keep the rates to the end."
            )
        if self.loss_spike_deviations < 0:
            raise ValueError(
                f"`loss_spike_deviations` must not be negative, got {self.loss_spike_deviations}. "
                f"Use 0 to log no spikes."
            )
        if self.validation_iterations is not None and self.validation_iterations < 0:
            raise ValueError(
                f"`validation_iterations` must be at least 0, got {self.validation_iterations}."
            )
        super().__post_init__()  # type: ignore[no-untyped-call]  # has no types


def check_own_smoothing(label_smoothing_factor: float) -> None:
    """Check that the library does not smooth labels, too, for a model that does it itself.

    Raises:
        ValueError: If it would.
    """
    if label_smoothing_factor:
        raise ValueError(
            f"`label_smoothing_factor` must be 0, as the model smooths labels itself; got "
            f"{label_smoothing_factor}. Set the model's `label_smoothing`."
        )
