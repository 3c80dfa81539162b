"""`pipeline("translation")`, which transformers 5 has no longer, for the model in its folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset, IterableDataset
from transformers import Pipeline


class TextStream(IterableDataset[str]):
    """Texts that are read as they are needed; the library would read a generator ahead.

    Args:
        texts: The texts, which may have no end.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)


class TranslationPipeline(Pipeline):
    """Translates texts, called as the pipeline of transformers 4 was.

    `config.json` names it, so that transformers finds it:

    >>> translator = pipeline("translation", model=folder, trust_remote_code=True)
    >>> translator("Ein Hund läuft im Schnee.")
    [{'translation_text': 'A dog is running in the snow.'}]

    All arguments that transformers itself does not take are knobs for `model.generate`, in the
    call as well as in `pipeline(…)`; what a call says comes first. With `return_drafts=True` each
    result has its `drafts`, too: texts of the first draft and of the draft after each iteration.
    """

    _load_tokenizer: Any = True
    _load_processor: Any = False
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for task in getattr(self.model.config, "custom_pipelines", {}).values():
            # The library has put classes in the place of their names, which cannot be saved.
            task["pt"] = [getattr(name, "__name__", name) for name in task["pt"]]

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """Translate a text or several.

        Args:
            inputs: A text; a list of texts; or an iterator, a data set of torch or a column of
                another one, which is read as results are taken.
            *args: None.
            **kwargs: `batch_size` (texts translated together, 1 if not given), `num_workers`,
                `return_drafts`, and knobs for `model.generate`.

        Returns:
            For a list, `{"translation_text": …}` of each text, in a list. For a text a list of
            one such dict, and for all else an iterator over such lists, as in transformers 4. A
            text without words has an empty translation.

        Raises:
            TypeError: If a text is not a string.
            ValueError: If a text is longer than the model takes, or a knob is wrong.
        """
        run: Any = super().__call__
        if isinstance(inputs, str | bytes | Mapping | Dataset):
            return run(inputs, *args, **kwargs)
        if not isinstance(inputs, Sequence):
            stream = TextStream(inputs) if isinstance(inputs, Iterable) else inputs
            return run(stream, *args, **kwargs)
        results = run(list(inputs), *args, **kwargs) if inputs else []
        return [record for records in results for record in records]

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], ...]:
        return {}, parameters, {}

    def preprocess(self, input_: Any, **preprocess_parameters: Any) -> dict[str, Any]:
        """Return token ids of a text, `[1, source_len]`, and their mask."""
        if not isinstance(input_, str):
            raise TypeError(
                f"Each text must be a string, but one is {type(input_).__name__}. For several "
                f"texts pass a flat list, and for a data set its column of texts."
            )
        tokenizer: Any = self.tokenizer
        encoded = tokenizer(input_, truncation=False, verbose=False, return_tensors="pt")
        limit, length = self.model.config.max_position_embeddings, encoded["input_ids"].shape[1]
        if length > limit:
            raise ValueError(
                f"A text must have at most {limit} tokens (`max_position_embeddings`), but one "
                f"has {length}. Split it into sentences."
            )
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def _forward(self, input_tensors: dict[str, Any], **forward_parameters: Any) -> Any:
        network: Any = self.model
        return_drafts = forward_parameters.pop("return_drafts", False)
        chosen = {"return_dict_in_generate": True, "output_history": return_drafts}
        output = network.generate(**input_tensors, **{**forward_parameters, **chosen})
        outputs = {"sequences": output.sequences}
        if return_drafts:
            columns = [draft.T for draft in output.history]  # each [its target_len, batch]
            padded = pad_sequence(columns, padding_value=network.config.pad_token_id)
            outputs["drafts"] = padded.permute(2, 1, 0)  # [batch, drafts, target_len]
            outputs["iterations"] = output.iterations
        return outputs

    def postprocess(
        self, model_outputs: Any, **postprocess_parameters: Any
    ) -> list[dict[str, Any]]:
        """Return the translation of one text."""
        record: dict[str, Any] = {"translation_text": self._text(model_outputs["sequences"][0])}
        if "drafts" in model_outputs:
            count = 1 + int(model_outputs["iterations"][0])
            record["drafts"] = [self._text(draft) for draft in model_outputs["drafts"][0][:count]]
        return [record]

    def _text(self, ids: Tensor) -> str:
        tokenizer: Any = self.tokenizer
        text = str(tokenizer.decode(ids, skip_special_tokens=True))
        return " ".join(text.splitlines()).strip()  # bytes of the vocabulary may make a \n
