"""Sentences in, sentences out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_nar.parallel import ParallelGenerator, check_batch_size, load_parts, takes_images
from hf_nar.teacher import Teacher

Result = TypeVar("Result")
Noise = torch.Generator | Sequence[torch.Generator]


@dataclass(frozen=True)
class TranslationTrace:
    """How one translation came about.

    Args:
        source: The text that was translated.
        translation: Its translation.
        drafts: Vocabulary tokens of the first draft and of the draft after each iteration, as
            they were decoded: repeated tokens, which the translation drops, are still there. None
            with `output_history=False`.
        scores: Natural-log probability of each token of the translation, the end token last.
        iterations: Refinement iterations that were run for this text.
        tokens: Vocabulary tokens of the translation, to which the scores belong, without the end
            token; none in files of earlier versions.
    """

    source: str
    translation: str
    drafts: list[list[str]]
    scores: list[float]
    iterations: int
    tokens: list[str] = field(default_factory=list)


class Translator(ParallelGenerator):
    """Translates texts with a non-autoregressive model.

    It replaces `pipeline("translation")`, which transformers 5 no longer has, and is called in the
    same way:

    >>> translator = Translator.from_pretrained("model_cards/lanmt-multi30k-deen")
    >>> translator("Ein Hund läuft im Schnee .")
    [{'translation_text': 'A dog is running in the snow .'}]

    Args:
        model: A model of this package.
        tokenizer: Its tokenizer.
        teacher: Ranks translations of several lengths or latents, with
            `length_beam=5, rank_by="teacher"`. It has the vocabulary of `tokenizer` and is on the
            model's device.
        **generate_kwargs: Knobs for `model.generate` in every call, such as
            `num_refinement_iterations`. What a call itself passes comes first.

    Raises:
        ValueError: If a knob is wrong, the teacher cannot rank, or one is asked for and not given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        teacher: Teacher | None = None,
        **generate_kwargs: Any,
    ) -> None:
        super().__init__(model, tokenizer, **generate_kwargs)
        self.teacher = teacher
        if teacher is not None:
            teacher.check_can_rank(model.config, tokenizer)
        elif self.ranks_by_teacher({}):
            raise ValueError(
                "`rank_by` is teacher, so a teacher must be given, but none is. Give `teacher=`, "
                "or `--rank-with` on the command line."
            )

    @classmethod
    def from_pretrained(
        cls,
        folder_or_id: str | Path,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        revision: str | None = None,
        teacher: str | Path | None = None,
        **generate_kwargs: Any,
    ) -> Translator:
        """Load a model with the code of this package; code in the model folder is not run.

        Args:
            folder_or_id: A folder, or the id of a model on the Hub.
            device: Where to translate; None takes the GPU if there is one.
            dtype: `"float32"`, `"bfloat16"`, `"float16"` or a torch dtype. None takes float32 on
                the CPU, where others are slow, and the saved one elsewhere.
            revision: Commit, branch or tag on the Hub.
            teacher: Folder or Hub id of an autoregressive model with the same vocabulary, which
                ranks translations of several lengths or latents; only safetensors, and no code of
                its folder is run.
            **generate_kwargs: Knobs for `model.generate` in every call.

        Returns:
            A translator, its model in evaluation mode.

        Raises:
            OSError: If there is no such model, or a file of it is missing or damaged.
            ValueError: If it is not a model of this package, its files contradict each other,
                `device` or `dtype` cannot be used, or as the class.
        """
        model, tokenizer = load_parts(str(folder_or_id), device, dtype, revision)
        if takes_images(model):
            raise ValueError(
                f"A translator must take text, but {folder_or_id} takes images. Use "
                f"`hf_nar.Captioner`."
            )
        ranking = None if teacher is None else Teacher.from_pretrained(teacher, device, dtype)
        return cls(model, tokenizer, ranking, **generate_kwargs)

    @property
    def max_source_tokens(self) -> int:
        """Longest source text, in tokens with the end token."""
        return int(self.model.config.max_position_embeddings)

    def ranks_by_teacher(self, knobs: Mapping[str, Any]) -> bool:
        """Return whether a teacher chooses translations, in a call with these knobs."""
        resolved = self.knobs(knobs)
        return bool(resolved.num_candidates > 1 and resolved.rank_by == "teacher")

    @overload
    def __call__(
        self, texts: str | Sequence[str], batch_size: int = ..., **generate_kwargs: Any
    ) -> list[dict[str, str]]: ...

    @overload
    def __call__(
        self, texts: Iterable[str], batch_size: int = ..., **generate_kwargs: Any
    ) -> Iterator[dict[str, str]]: ...

    def __call__(
        self, texts: Iterable[str], batch_size: int = 8, **generate_kwargs: Any
    ) -> list[dict[str, str]] | Iterator[dict[str, str]]:
        """Translate a text or several, in the form of transformers' translation pipeline.

        Args:
            texts: A text, a list of texts, or an iterator, which is read a batch at a time.
            batch_size: Texts translated together.
            **generate_kwargs: Knobs for `model.generate`.

        Returns:
            `{"translation_text": …}` for each text: a list, or for an iterator an iterator.

        Raises:
            ValueError: As `translate`.
            TypeError: As `translate`.
        """
        check_batch_size(batch_size)
        if not isinstance(texts, Iterable):
            raise TypeError(
                f"`texts` must be a text, a list of texts or an iterator; got "
                f"{type(texts).__name__}."
            )
        if isinstance(texts, str):
            texts = [texts]
        if isinstance(texts, Sequence):
            return _as_dicts(self.translate(texts, batch_size, **generate_kwargs))
        return self._stream(texts, batch_size, generate_kwargs)

    def translate(
        self,
        lines: Sequence[str],
        batch_size: int = 8,
        generator: Noise | None = None,
        **generate_kwargs: Any,
    ) -> list[str]:
        """Translate texts; a text without words gives an empty one.

        Args:
            lines: The texts. Texts of similar length are translated together.
            batch_size: Texts translated together.
            generator: Where the noise of latent search comes from; or one for each text, so that
                a translation does not depend on what else is translated (see `line_generators`).
            **generate_kwargs: Knobs for `model.generate`.

        Returns:
            One translation for each text, in the same order, none with a line break in it.

        Raises:
            ValueError: If a text is longer than `max_source_tokens`, or a knob is wrong.
            TypeError: If a text is not a string.
        """

        def read(source: str, output: Any, row: int) -> str:
            return self._text(output, row)

        knobs = {**generate_kwargs, "output_history": False}  # drafts may cost a decoder pass each
        return self._run(lines, batch_size, generator, knobs, read, lambda source: "")

    def trace(
        self,
        lines: Sequence[str],
        batch_size: int = 8,
        generator: Noise | None = None,
        **generate_kwargs: Any,
    ) -> list[TranslationTrace]:
        """Translate texts and keep every draft; otherwise as `translate`.

        With `output_history=False` there are no drafts, and all else is the same.
        """
        knobs = {"output_history": True, **generate_kwargs}

        def nothing(source: str) -> TranslationTrace:
            return TranslationTrace(source, "", [[]], [], 0)

        return self._run(lines, batch_size, generator, knobs, self._trace_of, nothing)

    def too_long(self, lines: Sequence[str]) -> dict[int, int]:
        """Return the token count of each text that is too long for the model, by its index."""
        counts = (len(ids) for ids in self._tokenize(lines))
        return {i: count for i, count in enumerate(counts) if count > self.max_source_tokens}

    def _stream(
        self, texts: Iterable[str], batch_size: int, generate_kwargs: dict[str, Any]
    ) -> Iterator[dict[str, str]]:
        iterator = iter(texts)
        while batch := list(islice(iterator, batch_size)):
            yield from _as_dicts(self.translate(batch, batch_size, **generate_kwargs))

    def _run(
        self,
        lines: Sequence[str],
        batch_size: int,
        generator: Noise | None,
        knobs: dict[str, Any],
        read: Callable[[str, Any, int], Result],
        nothing: Callable[[str], Result],
    ) -> list[Result]:
        """Translate in batches of similar length.

        Args:
            lines: The texts.
            batch_size: Texts translated together.
            generator: See `translate`.
            knobs: For `model.generate`.
            read: Makes a result of a text, the output of `generate` and its row there.
            nothing: Makes the result of a text without words.
        """
        check_batch_size(batch_size)
        sources = self._tokenize(lines)
        self._check_lengths(sources)
        _check_generators(generator, lines)
        if self.teacher is not None and self.ranks_by_teacher(knobs):
            knobs = {"rescoring_model": self.teacher.model, **knobs}
        results = [nothing(line) for line in lines]
        todo = [i for i, line in enumerate(lines) if line.strip()]
        todo.sort(key=lambda i: len(sources[i]), reverse=True)  # too big a batch fails at once
        for start in range(0, len(todo), batch_size):
            batch = todo[start : start + batch_size]
            noise = [generator[i] for i in batch] if isinstance(generator, Sequence) else generator
            inputs = self._padded([sources[i] for i in batch])
            output = self._generate(inputs, {**knobs, "generator": noise})
            for row, i in enumerate(batch):
                results[i] = read(lines[i], output, row)
        return results

    def _tokenize(self, lines: Sequence[str]) -> list[list[int]]:
        for i, line in enumerate(lines):
            if not isinstance(line, str):
                raise TypeError(
                    f"Each text must be a string; number {i} is {type(line).__name__}. For several "
                    f"texts pass a flat list."
                )
        if not lines:
            return []
        encoded = self.tokenizer(list(lines), padding=False, truncation=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _check_lengths(self, sources: list[list[int]]) -> None:
        limit = self.max_source_tokens
        for i, ids in enumerate(sources):
            if len(ids) > limit:
                raise ValueError(
                    f"A text must have at most {limit} tokens (`max_position_embeddings`); number "
                    f"{i} has {len(ids)}. Split it into sentences."
                )

    def _trace_of(self, source: str, output: Any, row: int) -> TranslationTrace:
        how = self._how_it_came_about(output, row)
        tokens = self._tokens(output.sequences[row])
        return TranslationTrace(source, self._text(output, row), **how, tokens=tokens)

    def _padded(self, sources: list[list[int]]) -> dict[str, torch.Tensor]:
        """Return token ids as inputs of the network."""
        rows = [torch.tensor(ids) for ids in sources]
        mask = pad_sequence([torch.ones_like(ids) for ids in rows], batch_first=True)
        pad = self.tokenizer.pad_token_id
        ids = pad_sequence(rows, batch_first=True, padding_value=pad)
        return {"input_ids": ids, "attention_mask": mask}


def line_generators(seed: int, count: int, first: int = 0) -> list[torch.Generator]:
    """Return a source of noise for each of some lines: the seed and its number decide it.

    Args:
        seed: Added to the number of each line.
        count: How many lines there are.
        first: Number of the first line.
    """
    return [torch.Generator().manual_seed(seed + first + number) for number in range(count)]


def _check_generators(generator: Noise | None, lines: Sequence[str]) -> None:
    if isinstance(generator, Sequence) and len(generator) != len(lines):
        raise ValueError(
            f"`generator` must be one `torch.Generator`, or one for each of the {len(lines)} "
            f"texts; got {len(generator)}."
        )


def _as_dicts(translations: list[str]) -> list[dict[str, str]]:
    return [{"translation_text": text} for text in translations]
