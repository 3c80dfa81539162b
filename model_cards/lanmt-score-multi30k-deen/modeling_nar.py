"""What all networks share: the encoded source, embeddings, checks of inputs, limits of lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init

from .layers_nar import MATRIX_ATTENTION, hide_padding, sinusoidal_positions
from .length_predictor import LengthPredictor, LengthTransform
from .losses_nar import IGNORED_LABEL
from .output_nar import ForwardRecord


@dataclass(frozen=True)
class EncodedSource:
    """What is computed once for each sentence and read in every iteration.

    Args:
        embeddings: What the encoder starts with, `[batch, source_len, d_model]`.
        states: Source states, `[batch, source_len, d_model]`.
        mask: True on real source positions, `[batch, source_len]`.
        attention_mask: `mask` as the attention implementation wants it.
        is_empty: True for rows with no token but special ones, `[batch]`.
        memory: Keys and values of the states for the decoder, in the network's own order.
        target_lengths: Lengths to use instead of predicted ones, in tokens, `[batch]`.
        extra_length: Tokens added to each predicted length.
        memories: Keys and values for other parts, by the part's name, made when it first reads.
        target_len: Width of all targets where it is known beforehand; else the host waits for the
            device to know the longest.
    """

    embeddings: Tensor
    states: Tensor
    mask: Tensor
    attention_mask: Any
    is_empty: Tensor
    memory: tuple[Any, ...]
    target_lengths: Tensor | None = None
    extra_length: int = 0
    memories: dict[str, Any] = field(default_factory=dict)
    target_len: int | None = None

    @property
    def lengths(self) -> Tensor:
        """Real source positions of each row, `[batch]`."""
        return self.mask.sum(-1)


class NARPreTrainedModel(PreTrainedModel):
    """Base class of the networks; these take `generate` from `NARGenerationMixin` themselves.

    (transformers looks for such a mixin among a model's direct base classes only.)

    A network has `source_embeddings` and `length_predictor`, encodes its source in `encode`, and
    says in `first_length_logits` how long it takes the target to be before any draft.
    """

    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    accepts_loss_kwargs = False  # the loss is a mean over tokens; Trainer must not rescale it
    _supports_sdpa = True
    _no_split_modules = ["EncoderLayer", "CrossLayer"]  # noqa: RUF012  as the base class has it

    source_embeddings: nn.Embedding
    length_predictor: LengthPredictor

    @property
    def is_learning(self) -> bool:
        """Whether the model is in training mode."""
        return self.training

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialise one module that no checkpoint filled."""
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.init_std or self.config.d_model**-0.5)
            if module.padding_idx is not None:
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, LengthTransform):
            init.constant_(module.raw_std, module.first_raw_std)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the source embeddings."""
        return self.source_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the source embeddings, and the target's where they share one table."""
        self.source_embeddings = cast("nn.Embedding", value)

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Resize the vocabulary of source, target and output together.

        Raises:
            ValueError: If source and target have embeddings of their own.
        """
        if not self.config.share_embeddings:
            raise ValueError(
                "The vocabulary can be resized only if source and target share embeddings, and "
                "`share_embeddings` is False here. Make a new model with the size you need."
            )
        resized: nn.Embedding = super().resize_token_embeddings(*args, **kwargs)
        return resized

    def _embed(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        """Return scaled embeddings plus positions, `[batch, length, d_model]`."""
        return self._add_positions(table(ids) * math.sqrt(self.config.d_model))

    def _add_positions(self, hidden: Tensor) -> Tensor:
        """Return `hidden` `[batch, length, d_model]` plus positions, some units dropped."""
        positions = sinusoidal_positions(hidden.shape[1], self.config.d_model, like=hidden)
        dropped: Tensor = nn.functional.dropout(
            hidden + positions, self.config.dropout, self.training
        )
        return dropped

    def _attention_mask(self, hidden: Tensor, mask: Tensor) -> Any:
        """Return `mask` `[batch, length]` as the attention implementation wants it."""
        return hide_padding(self.config, hidden, mask, may_look=not self.is_learning)

    def _cross_mask(self, queries: Tensor, mask: Tensor, memory: Tensor) -> Any:
        """Return `mask` of `memory` as the attention of `queries` to it wants it."""
        return hide_padding(self.config, queries, mask, memory, may_look=not self.is_learning)

    def _source_mask(self, queries: Tensor, source: EncodedSource) -> Any:
        """Return the source's mask as the attention of `queries` to it wants it."""
        if self.config._attn_implementation not in MATRIX_ATTENTION:
            return self._cross_mask(queries, source.mask, source.states)
        if source.attention_mask is None:  # it was looked at once, and hides nothing
            return None
        return hide_padding(self.config, queries, source.mask, may_look=False)

    @property
    def special_ids(self) -> list[int]:
        """Ids of tokens that are no words, in order."""
        names = ("pad", "bos", "eos", "unk", "mask")
        ids = {getattr(self.config, f"{name}_token_id") for name in names}
        return sorted(ids - {None})

    def is_special(self, tokens: Tensor) -> Tensor:
        """Return True on tokens that are no words, in the shape of `tokens`.

        One id after the other: to bring a list of them to a device is to wait for it.
        """
        found = torch.zeros_like(tokens, dtype=torch.bool)
        for i in self.special_ids:
            found |= tokens == i
        return found

    def word_ids(self, device: torch.device) -> Tensor:
        """Return the ids of all words, in order, `[words]`."""
        special = [i for i in self.special_ids if i < self.config.vocab_size]
        words = torch.arange(self.config.vocab_size - len(special), device=device)
        for i in special:  # from the lowest: what stands at it or above makes room
            words += words >= i
        return words

    def _read_source(
        self, input_ids: Tensor, attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Check source ids; return where they are real, and which rows have no words.

        Returns:
            Boolean `[batch, source_len]` and `[batch]`. A row of padding only keeps one position.

        Raises:
            ValueError: If the source is longer than the model was made for, or empty.
        """
        self._check_source(input_ids, attention_mask)
        is_pad = input_ids == self.config.pad_token_id
        mask = ~is_pad if attention_mask is None else attention_mask.bool()
        is_empty = ~(mask & ~self.is_special(input_ids)).any(-1)
        return self._keep_one_position(mask), is_empty

    def _read_vectors(
        self, vectors: Tensor, attention_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Do as `_read_source` for a source of vectors `[batch, source_len, d_model]`."""
        shape, device = vectors.shape[:2], vectors.device
        mask = attention_mask
        if mask is None:
            mask = torch.ones(shape, dtype=torch.bool, device=device)
        elif mask.shape != shape:
            raise ValueError(
                f"`attention_mask` must have one value for each source position, {list(shape)}; "
                f"got {list(mask.shape)}."
            )
        is_empty = torch.zeros(shape[0], dtype=torch.bool, device=device)
        return self._keep_one_position(mask.bool()), is_empty

    def _check_vectors(self, vectors: Tensor, width: int, name: str) -> None:
        """Check the shape of a source of vectors, whose numbers have `width` at each position."""
        if vectors.ndim != 3 or vectors.shape[-1] != width:
            raise ValueError(
                f"{name} must have shape [batch, source_len, {width}], got {list(vectors.shape)}."
            )
        limit = self.config.max_position_embeddings
        if not 1 <= vectors.shape[1] <= limit:
            raise ValueError(
                f"A source must have 1 to {limit} positions (`max_position_embeddings`), got "
                f"{vectors.shape[1]}."
            )

    def _check_forms(self, known: tuple[str, ...], **forms: Tensor | None) -> None:
        """Refuse a source that is not given in exactly one of the known forms."""
        given = [name for name, value in forms.items() if value is not None]
        if len(given) != 1 or given[0] not in known:
            raise ValueError(
                f"The source must be given once, to this model as "
                f"{' or '.join(f'`{name}`' for name in known)}; got "
                f"{' and '.join(given) or 'nothing'}."
            )

    def _read_draft(
        self, tokens: Tensor | None, mask: Tensor | None, labels: Tensor | None
    ) -> tuple[Tensor, Tensor] | None:
        """Check a draft; return its tokens, padding at the right, and where they are real.

        Returns:
            `[batch, target_len]` and boolean `[batch, target_len]`, where a row of padding keeps
            one position; with labels, the mask is theirs. None where no draft is given.

        Raises:
            ValueError: If the draft is longer than the model makes, or not as long as the labels.
        """
        if tokens is None:
            if mask is not None:
                raise ValueError(
                    "`decoder_attention_mask` must come with the draft that it belongs to, "
                    "`decoder_input_ids`; leave it out."
                )
            return None
        limit = self.config.max_target_length
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= limit:
            raise ValueError(
                f"`decoder_input_ids` must have shape [batch, target_len] with 1 to {limit} tokens "
                f"(`max_target_length`), got {list(tokens.shape)}."
            )
        if mask is not None and mask.shape != tokens.shape:
            raise ValueError(
                f"`decoder_attention_mask` must have the shape of `decoder_input_ids`, "
                f"{list(tokens.shape)}; got {list(mask.shape)}."
            )
        if labels is not None and mask is None and tokens.shape == labels.shape:
            return tokens, labels != IGNORED_LABEL
        is_real = tokens != self.config.pad_token_id if mask is None else mask.bool()
        order = (~is_real).long().argsort(dim=-1, stable=True)
        tokens, is_real = tokens.gather(1, order), is_real.gather(1, order)
        if labels is None:
            return tokens, self._keep_one_position(is_real)
        target_mask = labels != IGNORED_LABEL
        if is_real.shape != target_mask.shape or not is_real.equal(target_mask):
            raise ValueError(
                f"`decoder_input_ids` must be as long as `labels` in each row, as the model turns "
                f"one into the other; got {is_real.sum(-1).tolist()} and "
                f"{target_mask.sum(-1).tolist()} tokens."
            )
        return tokens, target_mask

    def _record(
        self, output_hidden_states: bool | None, output_attentions: bool | None
    ) -> ForwardRecord | None:
        """Return where a call writes hidden states down; None where nothing is asked for.

        None of an argument means what the config says.

        Raises:
            ValueError: If there are no attention weights to write down.
        """
        config = self.config
        hidden, weights = (
            getattr(config, name) if asked is None else asked
            for name, asked in (
                ("output_hidden_states", output_hidden_states),
                ("output_attentions", output_attentions),
            )
        )
        implementation = config._attn_implementation
        if weights and implementation not in MATRIX_ATTENTION:
            raise ValueError(
                f"`output_attentions` needs attention by {' or '.join(MATRIX_ATTENTION)}, but "
                f"the model was loaded with {implementation!r}. Load it with "
                f"attn_implementation='eager'."
            )
        return ForwardRecord.asked(bool(hidden), bool(weights))

    def _pad_at_the_right(self, mask: Tensor, is_given: bool) -> Tensor:
        """Refuse padding that would be copied; in training, where it costs time, it is trusted.

        Where no mask was given, a padding token between words counts as a word.
        """
        if not self.training:
            begins, ends = mask[:, 1:] > mask[:, :-1], mask[:, 1:] < mask[:, :-1]
            is_wrong = begins.any(-1) if is_given else begins.any(-1) & ~ends.any(-1)
            if bool(is_wrong.any()):
                raise ValueError(
                    "A source must have its padding at the right, but a row has it elsewhere. "
                    "Tokenize with padding_side='right'."
                )
        return mask if is_given else mask.flip(-1).cumsum(-1).flip(-1) > 0

    def _keep_one_position(self, mask: Tensor) -> Tensor:
        """Return the mask with a real position in each row, as attention needs one."""
        mask = mask.clone()
        mask[:, 0] |= ~mask.any(-1)
        return mask

    def _check_source(self, input_ids: Tensor, attention_mask: Tensor | None) -> None:
        limit = self.config.max_position_embeddings
        if input_ids.ndim != 2 or 0 in input_ids.shape:
            raise ValueError(
                f"`input_ids` must have shape [batch, source_len] with at least one token, got "
                f"{list(input_ids.shape)}. Tokenize with return_tensors='pt', padding=True."
            )
        if input_ids.shape[1] > limit:
            raise ValueError(
                f"Source has {input_ids.shape[1]} tokens, but the model takes at most {limit} "
                f"(`max_position_embeddings`). Split the text or tokenize with truncation=True, "
                f"max_length={limit}."
            )
        if attention_mask is not None and attention_mask.shape != input_ids.shape:
            raise ValueError(
                f"`attention_mask` must have the shape of `input_ids`, {list(input_ids.shape)}; "
                f"got {list(attention_mask.shape)}."
            )

    def _check_labels(self, labels: Tensor) -> None:
        limit = self.config.max_target_length
        if labels.shape[1] > limit:
            raise ValueError(
                f"Labels have {labels.shape[1]} tokens, but the model makes at most {limit} "
                f"(`max_target_length`). Drop or split such pairs."
            )

    def prepare_to_refine(self, refinement: str, source: Any) -> None:
        """Make what a strategy will read for each sentence, before candidates repeat these."""

    def first_length_logits(self, source: Any) -> Tensor:
        """Return logits over length classes before any draft, `[batch, classes]`."""
        raise NotImplementedError(f"{type(self).__name__} must predict lengths.")

    def _length_base(self, source: Any) -> Tensor:
        """Return the length to which the class in the middle stands for, `[batch]`."""
        lengths: Tensor = source.lengths
        return lengths

    def _pick_length(self, logits: Tensor, source: Any) -> Tensor:
        """Return the lengths that are given or most likely, `[batch]`; see `_limit_lengths`."""
        if source.target_lengths is not None:
            given: Tensor = source.target_lengths.clamp(max=self.config.max_target_length)
            return given
        lengths = self.length_predictor.most_likely_length(logits, self._length_base(source))
        return self._limit_lengths(lengths, source)

    def likely_lengths(self, source: Any, count: int) -> Tensor:
        """Return the `count` most likely target lengths of each row, `[batch, count]`.

        In tokens with the end token, the most likely first, limited as the length of a draft is.

        Args:
            source: What `encode` gave.
            count: How many, at most the classes of the length predictor.
        """
        logits = self.first_length_logits(source)
        lengths = self.length_predictor.likely_lengths(logits, self._length_base(source), count)
        return self._limit_lengths(lengths.T, source).T

    def _limit_lengths(self, lengths: Tensor, source: Any) -> Tensor:
        """Add the extra length; return at least 1, at most the limit, and 1 without words.

        Args:
            lengths: Predicted, `[..., batch]`.
            source: What `encode` gave.
        """
        longer = (lengths + source.extra_length).clamp(1, self.config.max_target_length)
        limited: Tensor = longer.masked_fill(source.is_empty, 1)
        return limited

    def _allow_words_only(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """Let only words win, and the end token at the last position of each row.

        Logits `[batch, target_len, vocab]` are changed in place, as they are large and nobody else
        has them.
        """
        lowest = torch.finfo(logits.dtype).min
        logits.masked_fill_(
            self.is_special(torch.arange(logits.shape[-1], device=logits.device)), lowest
        )
        rows, last = torch.arange(len(lengths), device=logits.device), lengths - 1
        end = torch.full_like(rows, self.config.eos_token_id)
        # Numbers made on the device, as to assign those of the host is to wait for it.
        logits.index_put_((rows, last), logits.new_full((), lowest))
        logits.index_put_((rows, last, end), logits.new_zeros(()))
        return logits
