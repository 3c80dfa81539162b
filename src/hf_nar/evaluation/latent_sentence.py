"""A sentence whose latents are looked at, alone or many at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hf_nar.inference import Translator
from hf_nar.remote_code.refinement_state import take_rows

GRID_BATCH = 64  # latents decoded at once, so that logits of a large vocabulary fit in memory


@dataclass(frozen=True)
class PathPoint:
    """Latents on their way.

    Args:
        label: "prior mean", "iteration 1" and so on.
        latent: `[latent_len, latent_dim]`.
        draft: Vocabulary tokens decoded from it, the end token last.
    """

    label: str
    latent: Tensor
    draft: list[str]


class LatentSentence:
    """A sentence, encoded once; its drafts are as long as the model's own knobs make them.

    Args:
        translator: A model that refines latents, with its tokenizer.
        text: Sentence.
        target_length: Where latents have target length, how many there are; None asks the model.

    Raises:
        ValueError: If the sentence is empty or too long.
    """

    def __init__(self, translator: Translator, text: str, target_length: int | None = None) -> None:
        self.translator = translator
        network: Any = translator.model
        self.network = network
        self.source_ids = self.token_ids(text, "source", translator.max_source_tokens)
        options: dict[str, Any] = {"extra_length": network.resolve_knobs({}).extra_length}
        if target_length is not None and getattr(network, "has_target_latents", False):
            options["target_lengths"] = self.source_ids.new_tensor([target_length])
        self.source = network.encode(self.source_ids, **options)

    def token_ids(self, text: str, name: str, limit: int) -> Tensor:
        """Return token ids with the end token, `[1, length]`.

        Args:
            text: A sentence.
            name: What it is, for the message.
            limit: Tokens at most.

        Raises:
            ValueError: If it is empty or too long.
        """
        if not text.strip():
            raise ValueError(f"`{name}` must be a sentence, got {text!r}.")
        ids = self.translator.tokenizer(text, truncation=False, verbose=False)["input_ids"]
        if len(ids) > limit:
            raise ValueError(
                f"`{name}` must have at most {limit} tokens for this model; it has {len(ids)}. "
                f"Take a shorter sentence."
            )
        return torch.tensor([ids], device=self.translator.model.device)

    def tokens(self, ids: Tensor) -> list[str]:
        """Return the vocabulary tokens of ids `[length]`, frame included."""
        names = self.translator.tokenizer.convert_ids_to_tokens(ids.tolist())
        return [str(name) for name in names]

    def path(self, knobs: Mapping[str, Any]) -> Iterator[PathPoint]:
        """Yield each point of the path that a strategy takes, with what would be decoded there.

        Args:
            knobs: Of `generate`. The path ends where the sentence is finished.

        Raises:
            ValueError: If a knob is wrong, or the model refines tokens.
        """
        strategy = self.network.build_strategy(self.network.resolve_knobs(dict(knobs)))
        state = strategy.draft(self.network, self.source)
        yield self._point("prior mean", strategy, state)
        for iteration in range(1, strategy.iterations + 1):
            state = strategy.refine(self.network, self.source, state)
            yield self._point(f"iteration {iteration}", strategy, state)
            if strategy.stop_early and bool(state.is_finished):
                break

    def _point(self, label: str, strategy: Any, state: Any) -> PathPoint:
        if state.latent is None:
            raise ValueError(
                f"The model must refine latents, but {type(self.network).__name__} refines tokens. "
                f"Take a model such as LaNMT."
            )
        decoded = strategy.finish(self.network, self.source, state)
        return PathPoint(label, state.latent[0], self.tokens(decoded.tokens[0]))

    def batches(self, latents: Tensor) -> Iterator[tuple[Any, Tensor]]:
        """Yield latents `[rows, latent_len, latent_dim]` as rows of batches, and their source."""
        for batch in torch.split(latents, GRID_BATCH):
            rows = torch.zeros(len(batch), dtype=torch.long, device=self.network.device)
            yield (
                take_rows(self.source, rows),
                batch.to(self.network.device, self.network.dtype),
            )
