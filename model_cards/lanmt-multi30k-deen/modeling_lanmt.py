"""LaNMT: a latent-variable model that translates all positions at once.

Shu et al. 2020 give each source token a latent, Lee, Shu and Cho 2020 each target token.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import initialization as init

from .configuration_lanmt import LaNMTConfig
from .generation_nar import NARGenerationMixin
from .latent_gaussian import DiagonalGaussian
from .latent_refiners import LatentReader, RefinedLatents, build_refiners
from .layers_nar import CrossEncoder, Encoder, StackRecord, sinusoidal_positions
from .length_predictor import LengthPredictor, LengthTransform
from .losses_nar import (
    IGNORED_LABEL,
    budgeted_kl_sum,
    length_loss_sum,
    replace_words,
    word_loss_sum,
)
from .modeling_nar import EncodedSource, NARPreTrainedModel
from .output_lanmt import LaNMTOutput
from .output_nar import ForwardRecord
from .refinement_delta_posterior import DeltaPosterior
from .refinement_energy import EnergyAscent
from .refinement_none import PriorMean
from .refinement_score import ScoreAscent
from .refinement_state import real_positions
from .refiner_training import refiner_losses


class LaNMTForConditionalGeneration(NARGenerationMixin, RefinedLatents, NARPreTrainedModel):
    """Latents, a length predictor, and a decoder for all positions at once.

    Differences from the authors' code, whose mistakes are not repeated: cross-attention has
    weights of its own, the length transform is the paper's Gaussian, keys are not dropped as a
    whole in training, and there is no start token. Differences from the papers: source and target
    may share embeddings, also with the output layer.

    Args:
        config: Shape of the network.
    """

    config_class = LaNMTConfig
    refinements: ClassVar[dict[str, type]] = {
        "delta_posterior": DeltaPosterior,
        "score": ScoreAscent,
        "energy": EnergyAscent,
        "none": PriorMean,
    }
    source_inputs: ClassVar[tuple[str, ...]] = ("input_ids", "inputs_embeds")

    def __init__(self, config: LaNMTConfig) -> None:
        super().__init__(config)
        self.generation_config = self.default_generation_config()
        self.pad_token_id = int(config.pad_token_id or 0)
        self.has_target_latents = config.latent_axis == "target"
        d_model = config.d_model
        self.source_embeddings = nn.Embedding(config.vocab_size, d_model, config.pad_token_id)
        if not config.share_embeddings:
            self.target_embeddings = nn.Embedding(config.vocab_size, d_model, config.pad_token_id)
        if self.has_target_latents:
            self.source_encoder = Encoder(config, config.num_source_layers or 0)
            self.prior: Any = CrossEncoder(config, config.num_prior_layers)
        else:
            self.length_embeddings = nn.Embedding(config.max_target_length + 1, d_model)
            self.prior = Encoder(config, config.num_prior_layers)
            self.target_encoder = Encoder(config, config.num_target_layers or 0)
            self.length_transform = LengthTransform(config.length_transform_std, config.std_floor)
        self.prior_head = nn.Linear(d_model, 2 * config.latent_dim)
        self.posterior = CrossEncoder(config, config.num_posterior_layers)
        self.posterior_head = nn.Linear(d_model, 2 * config.latent_dim)
        self.latent_projection = nn.Linear(config.latent_dim, d_model)
        self.length_predictor = LengthPredictor(
            d_model, config.max_length_offset, num_layers=2 if self.has_target_latents else 1
        )
        self.decoder = CrossEncoder(config, config.num_decoder_layers, skip_connect=True)
        self.lm_head = nn.Linear(d_model, config.vocab_size)
        self.refiners = build_refiners(config)
        self.dropout = nn.Dropout(config.dropout)
        table = "source" if config.share_embeddings else "target"
        self._tied_weights_keys = {"lm_head.weight": f"{table}_embeddings.weight"}
        self.post_init()  # type: ignore[no-untyped-call]  # has no types

    def train(self, mode: bool = True) -> LaNMTForConditionalGeneration:
        """Switch dropout on or off; what is frozen has none."""
        super().train(mode and not self.trained_refiners)
        for name in self.trained_refiners:
            self.refiners[name].train(mode)
        return self

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module that no checkpoint filled."""
        heads = {self.prior_head, self.posterior_head}
        heads |= {cast("LatentReader", refiner).head for refiner in self.refiners.values()}
        if module in heads:
            # Prior and posterior start near each other: a small KL. Refiners start slowly.
            init.normal_(module.weight, std=0.02)
            init.zeros_(module.bias)
        else:
            super()._init_weights(module)

    def get_output_embeddings(self) -> nn.Linear:
        """Return the output layer."""
        head: nn.Linear = self.lm_head
        return head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the output layer."""
        self.lm_head = value

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        target_lengths: Tensor | None = None,
        *,
        extra_length: int = 0,
        target_len: int | None = None,
        inputs_embeds: Tensor | None = None,
        record: ForwardRecord | None = None,
    ) -> EncodedSource:
        """Encode the source once; it is given in exactly one of two forms.

        Args:
            input_ids: `[batch, source_len]`.
            attention_mask: 1 or True on real tokens, `[batch, source_len]`; where it is not given,
                all that is not padding is real.
            target_lengths: Known target lengths, in tokens with the end token, `[batch]`; where
                they are not given, they are predicted.
            extra_length: Tokens added to each predicted length.
            target_len: Width of all targets; that of the longest, if not given.
            inputs_embeds: Unscaled embeddings in the place of ids, `[batch, source_len, d_model]`.
            record: Where the layers' states are written down, if they are.

        Raises:
            ValueError: If the source is longer than the model was made for, empty, or not given
                once.
        """
        self._check_forms(self.source_inputs, input_ids=input_ids, inputs_embeds=inputs_embeds)
        if inputs_embeds is None:
            input_ids = cast("Tensor", input_ids)
            mask, is_empty = self._read_source(input_ids, attention_mask)
            embeddings = self._embed(self.source_embeddings, input_ids)
        else:
            self._check_vectors(inputs_embeds, self.config.d_model, "`inputs_embeds`")
            mask, is_empty = self._read_vectors(inputs_embeds, attention_mask)
            vectors = inputs_embeds.to(self.lm_head.weight.dtype)
            embeddings = self._add_positions(vectors * math.sqrt(self.config.d_model))
        wide_mask = self._attention_mask(embeddings, mask)
        encoder = self.source_encoder if self.has_target_latents else self.prior
        written = None if record is None else record.encoder
        states = encoder(embeddings, wide_mask, written)
        memory = self.decoder.project_memory(states)
        source = EncodedSource(
            embeddings, states, mask, wide_mask, is_empty, memory, target_lengths, extra_length
        )
        source = dataclasses.replace(source, target_len=target_len)
        if not self.has_target_latents:
            return source
        lengths = self._pick_length(self._length_logits(source), source)  # stays in all iterations
        return dataclasses.replace(source, target_lengths=lengths)

    def memory_for(self, reader: str, source: EncodedSource) -> Any:
        """Return keys and values of the source for one part, made when it first reads."""
        if reader not in source.memories:
            part: Any = self.refiners
            stack = part[reader].layers if reader in part else getattr(self, reader)
            source.memories[reader] = stack.project_memory(source.states)
        return source.memories[reader]

    def prepare_to_refine(self, refinement: str, source: EncodedSource) -> None:
        """Make the keys and values that a strategy will read, before the source is repeated."""
        if refinement in self.refiners:
            self.memory_for(refinement, source)
        elif refinement == "delta_posterior" and self.has_target_latents:
            self.memory_for("posterior", source)

    def infer_prior(self, source: EncodedSource) -> DiagonalGaussian:
        """Return p(z|x), one latent for each source or target position."""
        hidden = source.states
        if self.has_target_latents:
            lengths = cast("Tensor", source.target_lengths)
            target_mask = real_positions(lengths, source.target_len)
            nothing = hidden.new_zeros(*target_mask.shape, hidden.shape[-1])
            hidden = self._join(
                self.prior, "prior", self._add_positions(nothing), target_mask, source
            )
        return DiagonalGaussian.from_head(self.prior_head(hidden), self.config.std_floor)

    def infer_posterior(
        self, tokens: Tensor, target_mask: Tensor, source: EncodedSource
    ) -> DiagonalGaussian:
        """Return q(z|x,y), one latent for each source or target position.

        Args:
            tokens: The target, `[batch, target_len]`.
            target_mask: True on real positions, `[batch, target_len]`.
            source: What `encode` gave.
        """
        share = self.config.share_embeddings
        table = self.source_embeddings if share else self.target_embeddings
        embedded = self._embed(table, tokens)
        if self.has_target_latents:
            hidden = self._join(self.posterior, "posterior", embedded, target_mask, source)
        else:
            target = self.target_encoder(embedded, self._attention_mask(embedded, target_mask))
            memory = self.posterior.project_memory(target)
            memory_mask = self._cross_mask(source.embeddings, target_mask, target)
            hidden = self.posterior(source.embeddings, source.attention_mask, memory, memory_mask)
        return DiagonalGaussian.from_head(self.posterior_head(hidden), self.config.std_floor)

    def _join(
        self,
        stack: CrossEncoder,
        name: str,
        hidden: Tensor,
        target_mask: Tensor,
        source: EncodedSource,
    ) -> Tensor:
        """Run a stack over the target `[batch, target_len, d_model]` that reads the source."""
        mask = self._attention_mask(hidden, target_mask)
        memory_mask = self._source_mask(hidden, source)
        joined: Tensor = stack(hidden, mask, self.memory_for(name, source), memory_mask)
        return joined

    def latent_mask(self, target_mask: Tensor, source: EncodedSource) -> Tensor:
        """Return True on real latents, `[batch, latent_len]`, for targets that are so long."""
        return target_mask if self.has_target_latents else source.mask

    def latent_lengths(self, source: EncodedSource) -> Tensor:
        """Return how many latents each row has, `[batch]`."""
        if self.has_target_latents:
            return cast("Tensor", source.target_lengths)
        return source.lengths

    def _length_logits(self, source: EncodedSource, projected: Tensor | None = None) -> Tensor:
        """Return logits over length offsets, given latents where these have source length."""
        hidden = source.states if projected is None else projected + source.states
        logits: Tensor = self.length_predictor(hidden, source.mask)
        return logits

    def predict_length(self, latent: Tensor, source: EncodedSource) -> Tensor:
        """Return the most likely target lengths, in tokens with the end token, `[batch]`.

        The source's `extra_length` is added to them. They are at least 1 and at most
        `max_target_length`; a source without words has a target of length 1. Where latents have
        target length it is known since `encode`.
        """
        if self.has_target_latents:
            return cast("Tensor", source.target_lengths)
        projected = self.latent_projection(latent)
        return self._pick_length(self._length_logits(source, projected), source)

    def first_length_logits(self, source: EncodedSource) -> Tensor:
        """Return logits over length offsets before any draft, `[batch, classes]`."""
        if self.has_target_latents:
            return self._length_logits(source)
        projected = self.latent_projection(self.infer_prior(source).mean)
        return self._length_logits(source, projected)

    def decode(self, latent: Tensor, lengths: Tensor, source: EncodedSource) -> Tensor:
        """Return logits `[batch, lengths.max(), vocab]` in which no special token can win.

        Only the end token can win at the last position of each row, and only there: a length
        counts the end token, so its place is known.

        Args:
            latent: `[batch, latent_len, latent_dim]`.
            lengths: In tokens with the end token, `[batch]`.
            source: What `encode` gave.
        """
        target_mask = real_positions(lengths, source.target_len)
        hidden = self._decode_hidden(self.latent_projection(latent), target_mask, source)
        return self._allow_words_only(self.lm_head(hidden), lengths)

    def _decode_hidden(
        self,
        projected: Tensor,
        target_mask: Tensor,
        source: EncodedSource,
        record: StackRecord | None = None,
    ) -> Tensor:
        """Run the decoder on projected latents; return `[batch, target_len, d_model]`."""
        hidden = self._decoder_input(projected, target_mask, source)
        mask = self._attention_mask(hidden, target_mask)
        memory_mask = self._source_mask(hidden, source)
        decoded: Tensor = self.decoder(hidden, mask, source.memory, memory_mask, record)
        return decoded

    def _decoder_input(
        self, projected: Tensor, target_mask: Tensor, source: EncodedSource
    ) -> Tensor:
        """Return what the decoder starts with, `[batch, target_len, d_model]`."""
        target_len = target_mask.shape[1]
        if self.has_target_latents:  # the position of a target token is in its latent
            return cast("Tensor", self.dropout(projected[:, :target_len]))
        lengths = target_mask.sum(-1)
        spread = self.length_transform(projected, source.mask, lengths, target_len)
        positions = sinusoidal_positions(target_len, self.config.d_model, like=spread)
        length = self.length_embeddings(lengths)[:, None]
        mixed = spread * math.sqrt(0.5) + 0.5 * positions + 0.5 * length
        return cast("Tensor", self.dropout(mixed))

    def forward(  # noqa: PLR0913  as the library's networks are called
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        kl_budget: float | Tensor | None = None,
        return_dict: bool | None = None,
        *,
        inputs_embeds: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> LaNMTOutput | tuple[Any, ...]:
        """Return the loss and its terms, or, without labels, the logits of a draft.

        Args:
            input_ids: `[batch, source_len]`; or `inputs_embeds`.
            attention_mask: 1 or True on real source tokens, `[batch, source_len]`.
            labels: Target ids with the end token, -100 on padding, `[batch, target_len]`.
            kl_budget: Nats of each latent that are not penalised; None takes the config's. What is
                compiled is compiled again for another number, but not for another scalar tensor.
            return_dict: False returns a tuple.
            inputs_embeds: See `encode`.
            decoder_input_ids: A draft with its end token, not shifted, `[batch, target_len]`, from
                which the latents are inferred. The logits are then those after one delta iteration
                on it, or with labels the loss is that of turning it into these. There is no
                beginning of a target to be given here, as all its tokens are decoded at once.
            decoder_attention_mask: 1 or True on the draft's real tokens, `[batch, target_len]`;
                None stands for all but padding, or with labels for their positions. Real tokens
                move to the left end of their row, and so do their logits.
            output_hidden_states: Whether the output holds the states of encoder and decoder, see
                `NAROutput`; None takes the config's value. The encoder is `source_encoder`, or
                `prior` where each source token has a latent.
            output_attentions: Whether it holds their attention weights.

        Returns:
            The terms of the evidence lower bound. In training the latents are a sample of the
            posterior, in evaluation its mean, and without labels and draft the prior's mean.

        Raises:
            ValueError: If the source, the labels or the draft are longer than the model was made
                for, or the draft is not as long as the labels.
        """
        lengths = None
        draft = self._read_draft(decoder_input_ids, decoder_attention_mask, labels)
        if labels is not None:
            self._check_labels(labels)
            lengths = (labels != IGNORED_LABEL).sum(-1)
        elif draft is not None:
            lengths = draft[1].sum(-1)
        use_dict = self.config.return_dict if return_dict is None else return_dict
        if self.trained_refiners and labels is not None:
            unread = inputs_embeds, draft, output_hidden_states, output_attentions
            terms: Any = refiner_losses(
                self, self._ids_of_refiner_call(input_ids, unread), attention_mask, labels
            )
            output = LaNMTOutput(**terms)
            return output if use_dict else output.to_tuple()
        record = self._record(output_hidden_states, output_attentions)
        source = self.encode(
            input_ids,
            attention_mask,
            lengths,
            target_len=None if labels is None else labels.shape[1],
            inputs_embeds=inputs_embeds,
            record=record,
        )
        prior = self.infer_prior(source)
        output = LaNMTOutput(
            encoder_last_hidden_state=source.states, prior_mean=prior.mean, prior_std=prior.std
        )
        if labels is None:
            self._add_logits(output, source, prior, draft, record)
        else:
            budget = self.config.kl_budget if kl_budget is None else kl_budget
            tokens = None if draft is None else draft[0][:, : labels.shape[1]]
            self._add_loss(output, source, prior, labels, budget, tokens, record)
        if record is not None:
            record.fill(output)
        return output if use_dict else output.to_tuple()

    def _add_logits(
        self,
        output: LaNMTOutput,
        source: EncodedSource,
        prior: DiagonalGaussian,
        draft: tuple[Tensor, Tensor] | None,
        record: ForwardRecord | None,
    ) -> None:
        """Fill in the logits of the first draft, or those after one iteration on a given one."""
        output.length_logits = self.first_length_logits(source)
        if draft is None:
            latent, output.lengths = prior.mean, self.predict_length(prior.mean, source)
            target_mask = real_positions(output.lengths)
        else:
            tokens, target_mask = draft
            posterior = self.infer_posterior(tokens, target_mask, source)
            output.posterior_mean, output.posterior_std = posterior.mean, posterior.std
            latent, output.lengths = posterior.mean, target_mask.sum(-1)
        projected = self.latent_projection(latent)
        written = None if record is None else record.decoder
        output.logits = self.lm_head(self._decode_hidden(projected, target_mask, source, written))

    def _add_loss(
        self,
        output: LaNMTOutput,
        source: EncodedSource,
        prior: DiagonalGaussian,
        labels: Tensor,
        kl_budget: float | Tensor,
        draft: Tensor | None,
        record: ForwardRecord | None,
    ) -> None:
        """Fill in the loss and its terms; latents are the draft's, if there is one."""
        target_mask = labels != IGNORED_LABEL
        tokens = labels.masked_fill(~target_mask, self.config.pad_token_id)
        lengths = target_mask.sum(-1)
        posterior = (
            self._posterior_of_labels(output, tokens, target_mask, source)
            if draft is None
            else self.infer_posterior(draft, target_mask, source)
        )
        latent = posterior.sample() if self.training else posterior.mean
        projected = self.latent_projection(latent)
        written = None if record is None else record.decoder
        logits = self.lm_head(self._decode_hidden(projected, target_mask, source, written))
        condition = None if self.has_target_latents else projected
        length_logits = self._length_logits(source, condition)
        kl, latent_mask = posterior.kl_to(prior), self.latent_mask(target_mask, source)
        num_tokens, num_latents = lengths.sum().clamp(min=1), latent_mask.sum()
        word_sum = word_loss_sum(logits, labels, self.config.label_smoothing)
        kl_sum = budgeted_kl_sum(kl, latent_mask, kl_budget)
        target_class = self.length_predictor.target_class(source.lengths, lengths)
        length_sum = length_loss_sum(length_logits, target_class)
        output.loss = (word_sum + kl_sum + length_sum) / num_tokens
        if output.consistency_loss is not None:
            weight = self.config.consistency_weight
            output.loss += weight * output.consistency_loss * num_latents / num_tokens
            output.consistency_loss = output.consistency_loss.detach()
        output.logits, output.length_logits, output.lengths = logits, length_logits, lengths
        output.word_loss = (word_sum / num_tokens).detach()
        output.kl_loss = (kl_sum / num_latents).detach()
        output.kl = ((kl * latent_mask).sum() / num_latents).detach()
        output.length_loss = (length_sum / len(lengths)).detach()
        output.posterior_mean, output.posterior_std = posterior.mean, posterior.std

    def _posterior_of_labels(
        self, output: LaNMTOutput, tokens: Tensor, target_mask: Tensor, source: EncodedSource
    ) -> DiagonalGaussian:
        """Return the posterior of the labels, in training under noise, and how far that moves it.

        Zhu et al. 2022 draw the latents from the posterior under noise and keep it near to the one
        without; the divergence is taken both ways here.
        """
        if not (self.training and self.config.posterior_noise):
            return self.infer_posterior(tokens, target_mask, source)
        is_word = target_mask & (tokens != self.config.eos_token_id)
        noised = replace_words(tokens, is_word, self.config.posterior_noise)
        posterior = self.infer_posterior(noised, target_mask, source)
        if self.config.consistency_weight:
            clean = self.infer_posterior(tokens, target_mask, source)
            mask = self.latent_mask(target_mask, source)
            both = (posterior.kl_to(clean) + clean.kl_to(posterior)) / 2
            output.consistency_loss = (both * mask).sum() / mask.sum()
        return posterior
