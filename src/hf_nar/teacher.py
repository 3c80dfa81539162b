"""An autoregressive sequence-to-sequence model: what students learn from and are judged against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

from hf_nar.auto import pick_device, pick_dtype

NO_LIMIT = 10**9  # a tokenizer's `model_max_length` above this says that there is none
DEFAULT_MAX_LENGTH = 256  # tokens of a translation where neither model nor tokenizer has a limit


@dataclass(frozen=True)
class Hypothesis:
    """One translation of a text.

    Args:
        text: The translation, on one line.
        score: Mean natural-log probability of its tokens, end token included.
    """

    text: str
    score: float


class Teacher:
    """Translates texts with any model that `AutoModelForSeq2SeqLM` loads, such as Marian or T5.

    Args:
        model: The model, in evaluation mode. If its generation config has neither `max_length` nor
            `max_new_tokens`, `max_length` is set there to `max_source_tokens`, or to 256 if there
            is no such limit: the library would stop after 20 tokens.
        tokenizer: Its tokenizer.
        prefix: Put before each text, as T5 wants it: "translate English to German: ".
        source_language: Code that a multilingual tokenizer is told, such as "deu_Latn"; None
            where the tokenizer knows no languages.
        target_language: Code that the translation is made to start with.

    Raises:
        ValueError: If a language code is given and the tokenizer does not know it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        prefix: str = "",
        source_language: str | None = None,
        target_language: str | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.prefix = prefix
        self.generate_kwargs: dict[str, Any] = {}
        self._set_max_length()
        if source_language is not None:
            self._language_id(source_language)
            tokenizer.src_lang = source_language
        if target_language is not None:
            self.generate_kwargs["forced_bos_token_id"] = self._language_id(target_language)

    def _set_max_length(self) -> None:
        config: Any = self.model.generation_config
        if config.max_length is None and config.max_new_tokens is None:
            limit = self.max_source_tokens
            config.max_length = limit if limit < NO_LIMIT else DEFAULT_MAX_LENGTH

    def _language_id(self, code: str) -> int:
        if not hasattr(self.tokenizer, "src_lang"):
            raise ValueError(
                f"A language can be chosen only with a multilingual tokenizer, and "
                f"{type(self.tokenizer).__name__} is none; got {code!r}. Leave it out."
            )
        known = getattr(self.tokenizer, "lang_code_to_token", {}).get(code, code)  # M2M100's
        number = cast("int", self.tokenizer.convert_tokens_to_ids(known))
        if number == self.tokenizer.unk_token_id:
            raise ValueError(
                f"A language must be one that the tokenizer knows; got {code!r}. See the model's "
                f"card for its codes."
            )
        return number

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        **languages: Any,
    ) -> Teacher:
        """Load a teacher; only safetensors weights, and no code of its folder is run.

        Args:
            folder_or_id: A folder, or the id of a model on the Hub.
            device: Where to translate; None takes the GPU if there is one.
            dtype: As for `Translator.from_pretrained`.
            revision: Commit, branch or tag on the Hub.
            **languages: `prefix`, `source_language` and `target_language` of the class.

        Raises:
            OSError: If there is no such model, or a file of it is missing or damaged.
            ValueError: If it is no autoregressive sequence-to-sequence model.
        """
        name = str(folder_or_id)
        where = pick_device(device)
        model_dtype = pick_dtype(dtype, where)
        try:
            values, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
            check_autoregressive(name, str(values.get("model_type")))
            model = AutoModelForSeq2SeqLM.from_pretrained(
                name,
                dtype=model_dtype,
                revision=revision,
                use_safetensors=True,
                trust_remote_code=False,
            )
            tokenizer = AutoTokenizer.from_pretrained(
                name, revision=revision, trust_remote_code=False
            )
        except (OSError, SafetensorError) as error:
            first = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
            raise OSError(
                f"Cannot load a teacher from {name}: {first}. Give a folder or Hub id with "
                f"config.json, model.safetensors and a tokenizer."
            ) from error
        return cls(model.to(where).eval(), tokenizer, **languages)

    @property
    def max_source_tokens(self) -> int:
        """Longest source text, in tokens with the special ones that the tokenizer adds."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or NO_LIMIT
        return min(int(positions), int(self.tokenizer.model_max_length or NO_LIMIT))

    def check_can_rank(self, config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that the teacher can read what a non-autoregressive model reads and writes.

        Args:
            config: Of the model.
            tokenizer: Of the model.

        Raises:
            ValueError: If it has another vocabulary, or takes only shorter texts.
        """
        theirs = self.tokenizer
        if theirs.get_vocab() != tokenizer.get_vocab():
            raise ValueError(
                f"A teacher that ranks must have the model's own vocabulary, of {len(tokenizer)} "
                f"tokens, but has another one, of {len(theirs)}. Give the teacher whose tokenizer "
                f"the model was trained with."
            )
        longest = max(int(config.max_position_embeddings), int(config.max_target_length))
        if self.max_source_tokens < longest:
            raise ValueError(
                f"A teacher that ranks must take texts as long as the model's, {longest} tokens, "
                f"but takes {self.max_source_tokens}. Give another teacher."
            )

    def count_tokens(self, lines: Sequence[str]) -> list[int]:
        """Return the number of source tokens of each text."""
        if not lines:
            return []
        encoded = self.tokenizer([self.prefix + line for line in lines], verbose=False)
        return [len(ids) for ids in encoded["input_ids"]]

    def translate(
        self, lines: Sequence[str], batch_size: int = 32, **generate_kwargs: Any
    ) -> list[str]:
        """Translate texts; a text without words gives an empty one.

        Args:
            lines: The texts. Texts of similar length are translated together.
            batch_size: Texts translated together.
            **generate_kwargs: For the library's `generate`, such as `num_beams`.

        Returns:
            One translation for each text, in the same order, none with a line break in it.

        Raises:
            ValueError: If a text is longer than `max_source_tokens`.
        """
        found = self.hypotheses(lines, batch_size, with_scores=False, **generate_kwargs)
        return [candidates[0].text if candidates else "" for candidates in found]

    def hypotheses(
        self,
        lines: Sequence[str],
        batch_size: int = 32,
        num_hypotheses: int = 1,
        with_scores: bool = True,
        **generate_kwargs: Any,
    ) -> list[list[Hypothesis]]:
        """Translate texts and keep the best translations of each, best first.

        Args:
            lines: The texts.
            batch_size: Texts translated together.
            num_hypotheses: Translations of each text, at most the number of beams.
            with_scores: Whether to score them, which costs one more pass; otherwise scores are
                nan.
            **generate_kwargs: For the library's `generate`.

        Returns:
            The translations of each text, in the order of `lines`; none of a text without words.

        Raises:
            ValueError: If a text is longer than `max_source_tokens`.
        """
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        counts = self.count_tokens(lines)
        for i, count in enumerate(counts):
            if count > self.max_source_tokens:
                raise ValueError(
                    f"A text must have at most {self.max_source_tokens} tokens for this teacher; "
                    f"number {i} has {count}. Split it into sentences."
                )
        results: list[list[Hypothesis]] = [[] for _ in lines]
        todo = [i for i, line in enumerate(lines) if line.strip()]
        todo.sort(key=lambda i: counts[i], reverse=True)  # too big a batch fails at once
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            options = {**generate_kwargs, "num_return_sequences": num_hypotheses}
            found = self._generate([lines[i] for i in batch], with_scores, options)
            for row, i in enumerate(batch):
                results[i] = found[row * num_hypotheses : (row + 1) * num_hypotheses]
        return results

    @torch.inference_mode()
    def _generate(
        self, texts: list[str], with_scores: bool, options: dict[str, Any]
    ) -> list[Hypothesis]:
        """Translate one batch; all hypotheses of a text stand together."""
        encoded = self.tokenizer(
            [self.prefix + text for text in texts],
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
        ).to(self.model.device)
        model: Any = self.model
        sequences = model.generate(**encoded, **{**self.generate_kwargs, **options})
        scores = [float("nan")] * len(sequences)
        if with_scores:
            repeats = len(sequences) // len(texts)
            source = {name: value.repeat_interleave(repeats, 0) for name, value in encoded.items()}
            scores = self._scores(source, sequences).tolist()
        decoded = self.tokenizer.batch_decode(sequences.cpu(), skip_special_tokens=True)
        return [
            Hypothesis(" ".join(str(text).split("\n")).strip(), score)
            for text, score in zip(decoded, scores, strict=True)
        ]

    def _scores(self, source: dict[str, Tensor], sequences: Tensor) -> Tensor:
        """Return the mean log probability of each row of `sequences` `[rows, 1 + target_len]`."""
        model: Any = self.model
        logits = model(**source, decoder_input_ids=sequences[:, :-1]).logits
        tokens = sequences[:, 1:]
        log_probs = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        ends = tokens == self.tokenizer.eos_token_id
        real = ends.long().cumsum(-1) - ends.long() == 0  # up to the first end token, with it
        means: Tensor = (log_probs * real).sum(-1) / real.sum(-1)
        return means


def check_autoregressive(name: str, model_type: str) -> None:
    """Check that a model can be a teacher.

    Raises:
        ValueError: If it is no sequence-to-sequence model of transformers.
    """
    if model_type not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise ValueError(
            f"A teacher must be an autoregressive sequence-to-sequence model of transformers, such "
            f"as Marian, T5 or NLLB, but {name} is {model_type!r}."
        )
