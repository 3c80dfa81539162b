"""Networks that move latents without looking at tokens (Lee, Shu and Cho 2020, section 3).

Both are trained to point where refinement with a delta posterior would go, and both are climbed:
the energy here is high where a latent is good, so that its gradient, like the score, is the step
itself. (The paper writes the energy with the other sign; the authors' code as here.)
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from .layers_nar import CrossEncoder, KeysAndValues, hide_padding


@dataclass(frozen=True)
class LatentContext:
    """What a refiner reads beside the latents; it stays the same in all iterations.

    Args:
        latent_mask: True on real latents, `[batch, latent_len]`.
        attention_mask: `latent_mask` as the refiner's attention wants it.
        memory_mask: The source's mask as its attention wants it.
        memory: The refiner's keys and values of the source; see `CrossEncoder.project_memory`.
        base: What is added to the latents, as neither their position nor the target's length is
            in them, `[batch, latent_len, d_model]`; None where both are.
    """

    latent_mask: Tensor
    attention_mask: Tensor | None
    memory_mask: Tensor | None
    memory: tuple[KeysAndValues, ...]
    base: Tensor | None = None


class LatentReader(nn.Module):
    """A stack that reads latents and the source; what it says of them is up to its subclass.

    Args:
        config: Shape of the layers, and `latent_dim`.
        num_layers: How many.
        output_dim: Width of what it says at each position.
    """

    def __init__(self, config: PreTrainedConfig, num_layers: int, output_dim: int) -> None:
        super().__init__()
        self.config = config
        self.latent_projection = nn.Linear(config.latent_dim, config.d_model)
        if config.latent_axis == "source":
            self.length_projection = nn.Linear(config.d_model, config.d_model)
        self.layers = CrossEncoder(config, num_layers)
        self.head = nn.Linear(config.d_model, output_dim)

    def context(
        self,
        latent_mask: Tensor,
        states: Tensor,
        source_mask: Tensor,
        memory: tuple[KeysAndValues, ...],
        length: Tensor | None,
    ) -> LatentContext:
        """Return what stays the same in all iterations.

        Args:
            latent_mask: True on real latents, `[batch, latent_len]`.
            states: Source states, `[batch, source_len, d_model]`.
            source_mask: True on real source positions, `[batch, source_len]`.
            memory: What `layers.project_memory` made of the states.
            length: A vector for the target's length, `[batch, d_model]`, where each latent belongs
                to a source position: what stands there is in its state, and how many words it has
                to become is in neither. None where latents belong to target positions.
        """
        queries, may_look = states.new_empty(*latent_mask.shape, 1), not self.training
        return LatentContext(
            latent_mask,
            hide_padding(self.config, queries, latent_mask, may_look=may_look),
            hide_padding(self.config, queries, source_mask, states, may_look=may_look),
            memory,
            None if length is None else states + self.length_projection(length)[:, None],
        )

    def read(self, latent: Tensor, context: LatentContext) -> Tensor:
        """Map latents `[batch, latent_len, latent_dim]` to `[batch, latent_len, d_model]`."""
        hidden = self.latent_projection(latent)
        if context.base is not None:
            hidden = hidden + context.base
        masks = context.attention_mask, context.memory_mask
        read: Tensor = self.layers(hidden, masks[0], context.memory, masks[1])
        return read


class ScoreNetwork(LatentReader):
    """S(z; x): the step that a latent should take, read off directly."""

    def __init__(self, config: PreTrainedConfig, num_layers: int) -> None:
        super().__init__(config, num_layers, config.latent_dim)

    def forward(self, latent: Tensor, context: LatentContext) -> Tensor:
        """Return a step for each latent, 0 on padding, `[batch, latent_len, latent_dim]`."""
        step: Tensor = self.head(self.read(latent, context))
        return step * context.latent_mask[..., None]


class EnergyNetwork(LatentReader):
    """E(z; x): how good latents are; its gradient is the step that they should take.

    Training differentiates that gradient again, which fused attention cannot do, so this network
    attends with plain matrix products, whatever implementation the model was loaded with.
    """

    def __init__(self, config: PreTrainedConfig, num_layers: int) -> None:
        plain = copy.copy(config)
        plain._attn_implementation = "eager"
        super().__init__(plain, num_layers, 1)

    def forward(self, latent: Tensor, context: LatentContext) -> Tensor:
        """Return the energy of each row's latents, `[batch]`.

        It is a sum over latents, as a log probability is, so that the step of one latent does not
        shrink as sentences grow; the authors take the mean.
        """
        of_each: Tensor = self.head(self.read(latent, context))[..., 0]
        return (of_each * context.latent_mask).sum(-1)

    def freeze_constants(self) -> None:
        """Take the parameters that only add a constant, and have no gradient, out of training."""
        for parameter in (self.head.bias, self.layers.norm.bias):
            parameter.requires_grad_(False)

    def gradient(self, latent: Tensor, context: LatentContext, differentiable: bool) -> Tensor:
        """Return dE/dz, 0 on padding, `[batch, latent_len, latent_dim]`.

        Args:
            latent: `[batch, latent_len, latent_dim]`.
            context: What stays the same.
            differentiable: Whether the gradient itself can be differentiated, as training does.

        Raises:
            RuntimeError: If it is called in inference mode, where no gradient can be taken.
        """
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "Energy inference takes gradients, which `torch.inference_mode` forbids. Use "
                '`torch.no_grad`, or the refinement "score".'
            )
        with torch.enable_grad():
            variable = latent.detach().requires_grad_()
            entered = variable.view_as(variable)  # no leaf, which torch's FLOP counter refuses
            total = self(entered, context).sum()  # rows do not depend on each other
            (gradient,) = torch.autograd.grad(total, variable, create_graph=differentiable)
        return gradient * context.latent_mask[..., None]


def build_refiners(config: Any) -> nn.ModuleDict:
    """Return the refiners that a config asks for, by the name of their strategy."""
    refiners = nn.ModuleDict()
    if config.num_score_layers:
        refiners["score"] = ScoreNetwork(config, config.num_score_layers)
    if config.num_energy_layers:
        refiners["energy"] = EnergyNetwork(config, config.num_energy_layers)
    return refiners


class RefinedLatents:
    """What a network with refiners lets its strategies and its training do with them."""

    refiners: nn.ModuleDict
    trained_refiners: tuple[str, ...] = ()
    training: bool
    has_target_latents: bool
    length_embeddings: nn.Embedding
    requires_grad_: Any
    train: Any
    latent_mask: Any
    memory_for: Any

    @property
    def is_learning(self) -> bool:
        """Whether the model, or a refiner that is trained alone, is in training mode."""
        return self.training or any(self.refiners[name].training for name in self.trained_refiners)

    def train_refiners(self, names: Sequence[str] | None = None) -> None:
        """Freeze all but score and energy network: from now on `forward` returns their loss.

        Args:
            names: Which of them are trained; all that the model has, if not given.

        Raises:
            ValueError: If the model has none, or not all of these.
        """
        names = tuple(self.refiners if names is None else names)
        missing = [name for name in names if name not in self.refiners]
        if missing or not names:
            raise ValueError(
                f"Refiners can be trained only in a model that has them, but it has no "
                f"{' and no '.join(missing) or 'refiner'}. Set `num_score_layers` or "
                f"`num_energy_layers`."
            )
        self.trained_refiners = names
        self.requires_grad_(False)
        for name in names:
            self.refiners[name].requires_grad_(True)
        if "energy" in names:
            cast("EnergyNetwork", self.refiners["energy"]).freeze_constants()
        self.train(self.training)

    def read_source(self, refiner: str, target_mask: Tensor, source: Any) -> LatentContext:
        """Return what a refiner reads beside the latents.

        Args:
            refiner: "score" or "energy".
            target_mask: True on real target positions, `[batch, target_len]`.
            source: What `encode` gave.

        Raises:
            ValueError: If the model has no such refiner.
        """
        if refiner not in self.refiners:
            raise ValueError(
                f'The refinement "{refiner}" needs a trained {refiner} network, but the model has '
                f"`num_{refiner}_layers` = 0. Train one with `stage: refiner`, or use "
                f'"delta_posterior".'
            )
        network: Any = self.refiners[refiner]
        latent_mask = self.latent_mask(target_mask, source)
        memory = self.memory_for(refiner, source)
        has_length = self.has_target_latents  # in the number of its latents
        length = None if has_length else self.length_embeddings(target_mask.sum(-1))
        context: LatentContext = network.context(
            latent_mask, source.states, source.mask, memory, length
        )
        return context

    def latent_step(
        self,
        refiner: str,
        latent: Tensor,
        context: LatentContext,
        differentiable: bool = False,
    ) -> Tensor:
        """Return where a refiner would move latents, `[batch, latent_len, latent_dim]`.

        Args:
            refiner: "score" or "energy".
            latent: `[batch, latent_len, latent_dim]`.
            context: What `read_source` gave.
            differentiable: Whether the step has gradients to the refiner's weights.
        """
        network: Any = self.refiners[refiner]
        step: Tensor = (
            network(latent, context)
            if refiner == "score"
            else network.gradient(latent, context, differentiable)
        )
        return step

    def latent_energy(self, latent: Tensor, context: LatentContext) -> Tensor:
        """Return how good the energy network finds each row's latents, `[batch]`."""
        energy: Tensor = cast("EnergyNetwork", self.refiners["energy"])(latent, context)
        return energy

    def _ids_of_refiner_call(self, input_ids: Tensor | None, unread: tuple[Any, ...]) -> Tensor:
        """Return the ids of a call that trains refiners; refuse what it cannot read or give."""
        if input_ids is None or any(value is not None and value is not False for value in unread):
            raise ValueError(
                "While refiners are trained, `forward` with labels must be given `input_ids` and "
                "returns their loss alone; leave out `inputs_embeds`, `decoder_input_ids`, "
                "`output_hidden_states` and `output_attentions`."
            )
        return input_ids
