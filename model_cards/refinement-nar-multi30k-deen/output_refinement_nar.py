"""What `forward` of the refinement family returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from .output_nar import NAROutput


@dataclass
class RefinementNAROutput(NAROutput):
    """What `RefinementNARForConditionalGeneration.forward` returns, beside `NAROutput`'s fields.

    The loss is the word terms of all passes and the length term. Logits are of the last pass in
    training, of the first draft without labels, and of the pass that read it where a draft was
    given.

    Args:
        word_loss: Mean over passes of the label-smoothed cross-entropy, in nats for each target
            token, scalar.
        first_pass_loss: The same of the first pass, scalar.
        last_pass_loss: The same of the last pass, scalar.
        length_loss: Cross-entropy of the length, in nats for each sentence, scalar.
        length_logits: `[batch, 2 * max_length_offset + 1]`.
        lengths: Target lengths of the logits, in tokens, `[batch]`.
        vision_hidden_states: Of a model with a vision encoder, with the other hidden states: what
            its layers compute, as it gives them.
    """

    word_loss: Tensor | None = None
    first_pass_loss: Tensor | None = None
    last_pass_loss: Tensor | None = None
    length_loss: Tensor | None = None
    length_logits: Tensor | None = None
    lengths: Tensor | None = None
    vision_hidden_states: tuple[Tensor, ...] | None = None
