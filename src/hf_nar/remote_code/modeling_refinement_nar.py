"""Refinement in token space: drafts that are read and written again (Lee et al. 2018)."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from .configuration_refinement_nar import RefinementNARConfig
from .corruption_nar import corrupt
from .generation_nar import NARGenerationMixin
from .layers_nar import CrossEncoder, Encoder, StackRecord
from .length_predictor import LengthPredictor, LengthTransform, uniform_copy
from .losses_nar import IGNORED_LABEL, length_loss_sum, word_loss_sum
from .modeling_nar import EncodedSource, NARPreTrainedModel
from .output_nar import ForwardRecord
from .output_refinement_nar import RefinementNAROutput
from .refinement_iterative import IterativeRefinement
from .refinement_state import DecodedDraft, RefinementState, real_positions


class RefinementNARForConditionalGeneration(NARGenerationMixin, NARPreTrainedModel):
    """An encoder, a length predictor, a decoder for the first draft and one for all others.

    Each pass fills all positions at once. The first starts from copies of the source; the others
    from the tokens and states of the pass before. Differences from the authors' code: layer norm
    before each block, of the usual kind, attention scaled by the width of a head, the length
    predicted from unpadded states by two layers as the paper says, a coin for each sentence
    between draft and corrupted reference, and no chance of an end token within a sentence.
    Differences from the paper: embeddings may be shared by all parts.

    Args:
        config: Shape of the network.
    """

    config_class = RefinementNARConfig
    refinements: ClassVar[dict[str, type]] = {"iterative": IterativeRefinement}
    source_inputs: ClassVar[tuple[str, ...]] = ("input_ids", "inputs_embeds", "pixel_values")

    def __init__(self, config: RefinementNARConfig) -> None:
        super().__init__(config)
        self.generation_config = self.default_generation_config()
        self.pad_token_id = int(config.pad_token_id or 0)
        self._add_source(config)
        is_highway = config.feed_forward == "highway"
        self.encoder = Encoder(config, config.num_encoder_layers, is_highway)
        self.length_predictor = LengthPredictor(config.d_model, config.max_length_offset, 2)
        if config.first_input == "soft_copy":
            self.length_transform = LengthTransform(config.soft_copy_std, 1e-3)
        self.decoders = nn.ModuleList(
            CrossEncoder(
                config, config.num_decoder_layers, is_positional=True, is_highway=is_highway
            )
            for _ in range(config.num_decoders)
        )
        self._add_vocabulary(config)
        self.post_init()  # type: ignore[no-untyped-call]  # has no types

    def _add_source(self, config: RefinementNARConfig) -> None:
        """Add what turns the source into vectors."""
        self.vision_encoder = None
        if not config.reads_images:
            return
        feature_size = config.feature_size
        if config.vision_config is not None:
            self.main_input_name = "pixel_values"
            options = dict(config.vision_config)
            for name in ("dtype", "torch_dtype"):  # of the file it was copied from
                options.pop(name, None)
            vision: Any = AutoConfig.for_model(options.pop("model_type"), **options)
            self.vision_encoder = _vision_encoder(vision)
            feature_size = _feature_size(vision, config.feature_size)
        else:
            self.main_input_name = "inputs_embeds"
        self.feature_projection = nn.Linear(feature_size, config.d_model)

    def _add_vocabulary(self, config: RefinementNARConfig) -> None:
        """Add embeddings and output layers: one of each, or one for each decoder.

        The first decoder reads no tokens unless it is the only one, so it has no embeddings.
        """

        def table() -> nn.Embedding:
            return nn.Embedding(config.vocab_size, config.d_model, config.pad_token_id)

        share, count = config.share_embeddings, config.num_decoders
        if share or not config.reads_images:
            self.source_embeddings = table()
        readers = range(min(1, count - 1), count)
        if config.next_input == "states":
            readers = range(0)
        if not share:
            self.target_embeddings = nn.ModuleDict({str(i): table() for i in readers})
        self.lm_heads = nn.ModuleList(
            nn.Linear(config.d_model, config.vocab_size) for _ in range(1 if share else count)
        )
        tied = {f"lm_heads.{i}.weight": f"target_embeddings.{i}.weight" for i in readers}
        if share:
            tied = {"lm_heads.0.weight": "source_embeddings.weight"}
        self._tied_weights_keys = tied

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the source embeddings, or of a model that reads images those of drafts."""
        if self.config.reads_images and not self.config.share_embeddings:
            return self._target_table(self.config.num_decoders - 1)
        return self.source_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace what `get_input_embeddings` returns."""
        if self.config.reads_images and not self.config.share_embeddings:
            self.target_embeddings[str(self.config.num_decoders - 1)] = value
        else:
            super().set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Linear:
        """Return the output layer of the last decoder."""
        head: Any = self.lm_heads[-1]
        return head  # type: ignore[no-any-return]  # a ModuleList does not know its modules

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Replace the output layer of the last decoder."""
        self.lm_heads[-1] = value

    def encode(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        target_lengths: Tensor | None = None,
        extra_length: int = 0,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        record: ForwardRecord | None = None,
    ) -> EncodedSource:
        """Encode the source once; it is given in exactly one of three forms.

        Args:
            input_ids: `[batch, source_len]`.
            attention_mask: 1 or True on real source positions, `[batch, source_len]`; where it is
                not given, all up to the last that is not padding are real.
            target_lengths: Known target lengths, in tokens with the end token, `[batch]`; where
                they are not given, they are predicted.
            extra_length: Tokens added to each predicted length.
            inputs_embeds: Vectors in the place of ids: unscaled embeddings for a model that reads
                text, `[batch, source_len, d_model]`, or a picture's, `[batch, source_len,
                feature_size]`.
            pixel_values: Pictures as the vision encoder takes them, such as `[batch, channels,
                height, width]`.
            record: Where the layers' states are written down, if they are.

        Raises:
            ValueError: If the source is longer than the model was made for, empty, given twice or
                of a kind that the model does not read.
        """
        known = tuple(dict.fromkeys((self.main_input_name, "inputs_embeds")))
        forms = {"inputs_embeds": inputs_embeds, "pixel_values": pixel_values}
        self._check_forms(known, input_ids=input_ids, **forms)
        if input_ids is not None:
            mask, is_empty = self._read_source(input_ids, attention_mask)
            mask = self._pad_at_the_right(mask, attention_mask is not None)
            embeddings = self._embed(self.source_embeddings, input_ids)
        else:
            vectors = self._source_vectors(inputs_embeds, pixel_values, record)
            mask, is_empty = self._read_vectors(vectors, attention_mask)
            embeddings = self._add_positions(vectors)
        wide_mask = self._attention_mask(embeddings, mask)
        written = None if record is None else record.encoder
        layers = self.encoder.states_of_layers(embeddings, wide_mask, written)
        read = layers if self.config.cross_attention == "layer_to_layer" else layers[-1]
        decoders: Any = self.decoders
        memory = tuple(decoder.project_memory(read) for decoder in decoders)
        return EncodedSource(
            embeddings, layers[-1], mask, wide_mask, is_empty, memory, target_lengths, extra_length
        )

    def _source_vectors(
        self,
        inputs_embeds: Tensor | None,
        pixel_values: Tensor | None,
        record: ForwardRecord | None,
    ) -> Tensor:
        """Return the source as vectors `[batch, source_len, d_model]`, without positions."""
        width, name = self.config.d_model, "`inputs_embeds`"
        if self.config.reads_images:
            width = self.feature_projection.in_features
        if pixel_values is not None:
            inputs_embeds, name = self._see(pixel_values, record), "What the vision encoder makes"
        vectors = cast("Tensor", inputs_embeds).to(self.get_output_embeddings().weight.dtype)
        self._check_vectors(vectors, width, name)
        if self.config.reads_images:
            projected: Tensor = self.feature_projection(vectors)
            return projected
        return vectors * math.sqrt(self.config.d_model)

    def _see(self, pixel_values: Tensor, record: ForwardRecord | None) -> Tensor:
        """Return the vision encoder's vectors, `[batch, source_len, feature_size]`."""
        encoder: Any = self.vision_encoder
        writes = record is not None and record.hidden_states
        options = {"output_hidden_states": True} if writes else {}
        output = encoder(pixel_values=pixel_values.to(self.dtype), **options)
        if record is not None and writes:
            record.vision.extend(output.hidden_states)
        seen: Tensor = output.last_hidden_state
        return seen.flatten(2).transpose(1, 2) if seen.ndim == 4 else seen

    def first_length_logits(self, source: EncodedSource) -> Tensor:
        """Return logits over length classes, `[batch, 2 * max_length_offset + 1]`."""
        logits: Tensor = self.length_predictor(source.states, source.mask)
        return logits

    def _length_base(self, source: EncodedSource) -> Tensor:
        """Count from the source's length, or for a picture, which has none, from 0."""
        if self.config.reads_images:
            return torch.full_like(source.lengths, self.config.max_length_offset)
        return source.lengths

    def predict_length(self, source: EncodedSource) -> Tensor:
        """Return the most likely target lengths, in tokens with the end token, `[batch]`.

        The source's `extra_length` is added to them. They are at least 1 and at most
        `max_target_length`; a source without words has a target of length 1.
        """
        return self._pick_length(self.first_length_logits(source), source)

    def decode_first(self, lengths: Tensor, source: EncodedSource) -> DecodedDraft:
        """Run the first pass; see `DraftNetwork`."""
        target_mask = real_positions(lengths)
        states = self._run_decoder(0, self._first_input(target_mask, source), target_mask, source)
        return DecodedDraft(self._allow_words_only(self._logits(0, states), lengths), states)

    def decode_again(self, state: RefinementState, source: EncodedSource) -> DecodedDraft:
        """Run another pass on a draft and its states; see `DraftNetwork`.

        Raises:
            ValueError: If the state is of a strategy that keeps no states.
        """
        if state.states is None:
            raise ValueError(
                "`state` must come from this model's `decode_first`; it has no states."
            )
        number = state.iteration + 1
        hidden = self._next_input(number, state.tokens, state.states)
        states = self._run_decoder(number, hidden, state.target_mask, source)
        logits = self._allow_words_only(self._logits(number, states), state.lengths)
        return DecodedDraft(logits, states)

    def _first_input(self, target_mask: Tensor, source: EncodedSource) -> Tensor:
        """Return what the first pass starts from, `[batch, target_len, d_model]`."""
        lengths, width = target_mask.sum(-1), target_mask.shape[1]
        kind = self.config.first_input
        if kind == "copy":
            return uniform_copy(source.embeddings, source.mask, lengths, width)
        if kind == "soft_copy":
            spread: Tensor = self.length_transform(source.embeddings, source.mask, lengths, width)
            return spread
        total = (source.embeddings * source.mask[..., None]).sum(1, keepdim=True)
        mean: Tensor = total / source.lengths[:, None, None].to(total.dtype)
        return mean.expand(-1, width, -1)

    def _next_input(self, number: int, tokens: Tensor, states: Tensor) -> Tensor:
        """Return what pass `number` starts from, `[batch, target_len, d_model]`."""
        kind = self.config.next_input
        if kind == "states":
            return states
        embedded: Tensor = self._target_table(number)(tokens) * math.sqrt(self.config.d_model)
        return embedded + states if kind == "both" else embedded

    def _decoder_of(self, number: int) -> int:
        """Return which decoder runs pass `number`, counted from 0."""
        return min(number, len(self.decoders) - 1)

    def _target_table(self, number: int) -> nn.Embedding:
        """Return the embeddings of drafts that pass `number` reads."""
        if self.config.share_embeddings:
            return self.source_embeddings
        table: Any = self.target_embeddings[str(self._decoder_of(number))]
        return table  # type: ignore[no-any-return]  # a ModuleDict does not know its modules

    def _run_decoder(
        self,
        number: int,
        hidden: Tensor,
        target_mask: Tensor,
        source: EncodedSource,
        record: StackRecord | None = None,
    ) -> Tensor:
        """Run pass `number`; return its states `[batch, target_len, d_model]`."""
        index = self._decoder_of(number)
        hidden = self._add_positions(hidden)
        mask = self._attention_mask(hidden, target_mask)
        memory_mask = self._source_mask(hidden, source)
        memory = source.memory[index]
        states: Tensor = self.decoders[index](hidden, mask, memory, memory_mask, record)
        return states

    def _logits(self, number: int, states: Tensor) -> Tensor:
        """Return the logits of pass `number`, `[batch, target_len, vocab]`."""
        logits: Tensor = self.lm_heads[min(self._decoder_of(number), len(self.lm_heads) - 1)](
            states
        )
        return logits

    def forward(  # noqa: PLR0913  as the library's networks are called
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        corruption_scale: float | Tensor = 1.0,
        return_dict: bool | None = None,
        *,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        output_hidden_states: bool | None = None,
        output_attentions: bool | None = None,
    ) -> RefinementNAROutput | tuple[Any, ...]:
        """Return the loss and its terms, or, without labels, the logits of a draft.

        Args:
            input_ids: `[batch, source_len]`; or one of the other two forms, see `encode`.
            attention_mask: 1 or True on real source positions, `[batch, source_len]`.
            labels: Target ids with the end token, -100 on padding, `[batch, target_len]`.
            inputs_embeds: See `encode`.
            pixel_values: See `encode`.
            corruption_scale: Factor of the config's `corruption_rates` and `denoising_share`, which
                a training loop may lower, from 0 to 1. What is compiled is compiled again for
                another number, but not for another scalar tensor.
            return_dict: False returns a tuple.
            decoder_input_ids: A draft with its end token, not shifted, `[batch, target_len]`, that
                the second pass reads; without labels the logits are of that pass. Nothing is
                decoded from left to right, so no beginning of a target can be given here.
            decoder_attention_mask: 1 or True on the draft's real tokens, `[batch, target_len]`; if
                None, all that is not padding or, with labels, stands where they do. Logits come in
                the order of the real tokens, as if padding stood at the right.
            output_hidden_states: Whether the output has hidden states, see `NAROutput`; None takes
                the config's.
            output_attentions: Whether it has attention weights, likewise.

        Returns:
            The loss, summed over passes. In training drafts are replaced and sampled as the config
            says; in evaluation they are the most likely ones. Without labels and draft, the logits
            of the first pass.

        Raises:
            ValueError: If source, labels or draft are longer than the model was made for, the
                source is given in a wrong form, the draft does not have the labels' length, or
                the model reads no draft.
        """
        if not isinstance(corruption_scale, Tensor) and not 0 <= corruption_scale <= 1:
            raise ValueError(f"`corruption_scale` must be in [0, 1], got {corruption_scale}.")
        record = self._record(output_hidden_states, output_attentions)
        draft = self._read_draft(decoder_input_ids, decoder_attention_mask, labels)
        passes = 2 if labels is None else self.config.num_training_passes
        if draft is not None and (passes < 2 or self.config.next_input == "states"):
            raise ValueError(
                "`decoder_input_ids` must not be given where no pass reads tokens: with "
                '`next_input` "states", or with labels and one training pass. Leave them out.'
            )
        source = self.encode(
            input_ids, attention_mask, None, 0, inputs_embeds, pixel_values, record
        )
        output = RefinementNAROutput(encoder_last_hidden_state=source.states)
        if labels is None:
            self._add_logits(output, source, draft, record)
        else:
            self._add_loss(output, source, labels, corruption_scale, draft, record)
        if record is not None:
            record.fill(output)
            output.vision_hidden_states = tuple(record.vision) or None
        use_dict = self.config.return_dict if return_dict is None else return_dict
        return output if use_dict else output.to_tuple()

    def _add_logits(
        self,
        output: RefinementNAROutput,
        source: EncodedSource,
        draft: tuple[Tensor, Tensor] | None,
        record: ForwardRecord | None,
    ) -> None:
        """Fill in the logits of the first pass, or those of the second for a draft."""
        written = None if record is None else record.decoder
        output.length_logits = self.first_length_logits(source)
        if draft is None:
            output.lengths, number = self.predict_length(source), 0
            target_mask = real_positions(output.lengths)
            inputs = self._first_input(target_mask, source)
        else:
            tokens, target_mask = draft
            output.lengths, number = target_mask.sum(-1), 1
            first = self._first_input(target_mask, source)
            states = self._run_decoder(0, first, target_mask, source)
            inputs = self._next_input(number, tokens, states)
        states = self._run_decoder(number, inputs, target_mask, source, written)
        output.logits = self._logits(number, states)

    def _add_loss(
        self,
        output: RefinementNAROutput,
        source: EncodedSource,
        labels: Tensor,
        scale: float | Tensor,
        draft: tuple[Tensor, Tensor] | None,
        record: ForwardRecord | None,
    ) -> None:
        """Fill in the loss and its terms."""
        self._check_labels(labels)
        target_mask = labels != IGNORED_LABEL
        reference = labels.masked_fill(~target_mask, self.config.pad_token_id)
        lengths = target_mask.sum(-1)
        sums, inputs = [], self._first_input(target_mask, source)
        num_passes = self.config.num_training_passes
        for number in range(num_passes):
            is_last = number + 1 == num_passes
            written = record.decoder if record is not None and is_last else None
            states = self._run_decoder(number, inputs, target_mask, source, written)
            logits = self._logits(number, states)
            sums.append(word_loss_sum(logits, labels, self.config.label_smoothing))
            states = states.detach() if self.config.stop_gradient else states
            if not is_last:
                given = draft[0] if draft is not None and number == 0 else None
                if given is None:
                    given = self._seen_draft(number, logits, reference, target_mask, scale)
                inputs = self._next_input(number + 1, given, states)
        output.logits = logits
        target_class = self.length_predictor.target_class(self._length_base(source), lengths)
        length_logits = self.first_length_logits(source)
        length_sum = length_loss_sum(length_logits, target_class)
        output.length_logits = length_logits
        num_tokens = lengths.sum().clamp(min=1)
        total = torch.stack(sums).sum()
        output.loss, output.lengths = (total + length_sum) / num_tokens, lengths
        output.word_loss = (total / (len(sums) * num_tokens)).detach()
        output.first_pass_loss = (sums[0] / num_tokens).detach()
        output.last_pass_loss = (sums[-1] / num_tokens).detach()
        output.length_loss = (length_sum / len(lengths)).detach()

    @torch.no_grad()
    def _seen_draft(
        self,
        number: int,
        logits: Tensor,
        reference: Tensor,
        target_mask: Tensor,
        scale: float | Tensor,
    ) -> Tensor:
        """Return the tokens that are read after pass `number` in training, `[batch, target_len]`.

        The draft of that pass, or in some rows the corrupted reference (Lee et al. 2018,
        section 3.2). End token and padding are always the reference's.
        """
        config = self.config
        if self.training and config.sample_drafts:
            chances = logits.float().softmax(-1)
            # What `multinomial` does, without looking whether these are chances.
            draft = (chances / torch.empty_like(chances).exponential_()).argmax(-1)
        else:
            draft = logits.argmax(-1)
        if self.training and config.denoising_share:
            rates = config.corruption_rates
            rate = scale * rates[min(number, len(rates) - 1)]
            words = self.word_ids(draft.device)
            noisy = corrupt(reference, target_mask, rate, config.corruption_weights, words)
            coin = torch.rand(len(draft), 1, device=draft.device) < scale * config.denoising_share
            draft = torch.where(coin, noisy, draft)
        is_word = target_mask & (reference != config.eos_token_id)
        return torch.where(is_word, draft, reference)


def _vision_encoder(config: Any) -> Any:
    """Return a new vision encoder, where possible without a pooling layer, which nothing reads."""
    try:
        return AutoModel.from_config(config, add_pooling_layer=False)
    except TypeError:  # it has none, or cannot leave it out
        return AutoModel.from_config(config)


def _feature_size(vision: Any, wanted: int) -> int:
    """Return the width of a vision encoder's vectors."""
    sizes = getattr(vision, "hidden_sizes", None) or [getattr(vision, "hidden_size", None)]
    if not isinstance(sizes[-1], int):
        raise ValueError(
            f"`vision_config` must be of a model whose config has `hidden_size` or `hidden_sizes`; "
            f"{vision.model_type} has neither. Take its vision part, such as clip_vision_model."
        )
    if wanted not in {0, sizes[-1]}:
        raise ValueError(
            f"`feature_size` must be the vision encoder's {sizes[-1]}, or 0; got {wanted}."
        )
    return sizes[-1]
