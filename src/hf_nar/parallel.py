"""What all that turns a network's output into text shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_nar.auto import check_model_type, load_model, load_tokenizer, pick_device, pick_dtype


class ParallelGenerator:
    """What `Translator` and `Captioner` share: a model, its tokenizer, and text from its output.

    Args:
        model: A model of this package.
        tokenizer: Its tokenizer.
        **generate_kwargs: Knobs for `model.generate` in every call, such as
            `num_refinement_iterations`. What a call itself passes comes first.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, **generate_kwargs: Any
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.generate_kwargs = generate_kwargs
        self.strategy({})  # refuses a wrong knob now, not at the first call

    def knobs(self, call: Mapping[str, Any]) -> Any:
        """Return the `DecodingKnobs` in force in a call with some of its own.

        Raises:
            ValueError: If one is unknown, or wrong.
        """
        network: Any = self.model
        return network.resolve_knobs({**self.generate_kwargs, **call})

    def strategy(self, call: Mapping[str, Any]) -> Any:
        """Return the strategy in force in a call with some knobs of its own.

        Raises:
            ValueError: If a knob is wrong, or the model lacks the network that the strategy needs.
        """
        network: Any = self.model
        strategy = network.build_strategy(self.knobs(call))
        refiner = getattr(strategy, "refiner", None)
        if refiner is not None and refiner not in network.refiners:
            raise ValueError(
                f'The refinement "{refiner}" needs a trained {refiner} network, but the model has '
                f'none. Train one with a recipe with `stage: refiner`, or use "delta_posterior".'
            )
        return strategy

    @torch.no_grad()  # not `inference_mode`: energy inference takes gradients
    def _generate(self, source: Mapping[str, torch.Tensor], knobs: Mapping[str, Any]) -> Any:
        """Run the model on its inputs by name; return its output on the CPU."""
        generate: Any = self.model.generate
        output = generate(
            **{name: value.to(self.model.device) for name, value in source.items()},
            **{**self.generate_kwargs, **knobs, "return_dict_in_generate": True},
        )
        output.sequences = output.sequences.cpu()
        output.scores = output.scores.float().cpu()
        if output.history is not None:
            output.history = tuple(draft.cpu() for draft in output.history)
        return output

    def _text(self, output: Any, row: int) -> str:
        text = self.tokenizer.decode(output.sequences[row], skip_special_tokens=True)
        return " ".join(str(text).splitlines()).strip()  # bytes of the vocabulary may make a \n

    def _how_it_came_about(self, output: Any, row: int) -> dict[str, Any]:
        """Return the `drafts`, `scores` and `iterations` of a trace."""
        iterations = int(output.iterations[row])
        length = int(output.lengths[row])
        drafts = (output.history or ())[: iterations + 1]
        return {
            "drafts": [self._tokens(draft[row]) for draft in drafts],
            "scores": output.scores[row, :length].tolist(),
            "iterations": iterations,
        }

    def _tokens(self, ids: torch.Tensor) -> list[str]:
        """Return the tokens of a draft without padding and the tokens that frame it."""
        tokenizer = self.tokenizer
        frame = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}
        kept = [i for i in ids.tolist() if i not in frame]
        return [str(token) for token in tokenizer.convert_ids_to_tokens(kept)]


def load_parts(
    name: str,
    device: str | torch.device | None,
    dtype: str | torch.dtype | None,
    revision: str | None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model, in evaluation mode, and its tokenizer; see `Translator.from_pretrained`."""
    where = pick_device(device)
    model_dtype = pick_dtype(dtype, where)
    check_model_type(name, revision)
    model = load_model(name, model_dtype, revision)
    tokenizer = load_tokenizer(name, revision)
    if len(tokenizer) > model.config.vocab_size:
        raise ValueError(
            f"The tokenizer must fit the model, but in {name} it has {len(tokenizer)} tokens "
            f"and the model {model.config.vocab_size}. Use the tokenizer it was trained with."
        )
    return model.to(where).eval(), tokenizer


def takes_images(model: PreTrainedModel) -> bool:
    """Return whether the source of a model is an image."""
    return getattr(model.config, "vision_config", None) is not None


def check_batch_size(batch_size: int) -> None:
    """Refuse batches without room."""
    if batch_size < 1:
        raise ValueError(
            f"`batch_size` must be at least 1, got {batch_size}. Use 1 for one by one."
        )
