"""Text repair: corrupted copies of sentences, for a network that learns to restore them."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import torch
from torch.nn.utils.rnn import pad_sequence

from hf_nar.remote_code.corruption_nar import OPERATIONS, corrupt

_BLOCK = 256  # sentences at once; another number gives other copies


def corrupted_copies(
    read_sentences: Callable[[], Iterator[str]],
    rate: float,
    weights: Mapping[str, float] | None,
    seed: int,
) -> Iterator[str]:
    """Corrupt the words of each sentence of a text, and give the copies in order.

    A word is what white space parts, and a copy has one space between words. Random words are
    those of the text, as often as they stand there. The text, the arguments and the version of
    PyTorch decide the result. All words of the text are held in memory, as 4 bytes each.

    Args:
        read_sentences: Starts to read the text; it is called twice.
        rate: Share of the words of each sentence to corrupt: rounded down, but at least one word.
        weights: Relative frequency of each operation of `corruption_nar`; None for all alike.
        seed: Of the corruption.

    Raises:
        ValueError: If `corruption_nar.corrupt` cannot use the rate or the weights.
    """
    numbers: dict[str, int] = {}
    occurrences = array("i")
    for sentence in read_sentences():
        occurrences.extend(numbers.setdefault(word, len(numbers)) for word in sentence.split())
    words = list(numbers)
    vocabulary = torch.frombuffer(occurrences or array("i", [0]), dtype=torch.int32)
    weights = dict.fromkeys(OPERATIONS, 1.0) if weights is None else weights
    generator = torch.Generator().manual_seed(seed)
    sentences = read_sentences()
    while block := list(islice(sentences, _BLOCK)):
        rows = [torch.tensor([numbers[word] for word in text.split()]).int() for text in block]
        tokens = pad_sequence(rows, batch_first=True, padding_value=-1)
        # Words have no end token, so nothing is protected.
        copies = corrupt(tokens, tokens >= 0, rate, weights, vocabulary, 0, generator).tolist()
        for row, copy in zip(rows, copies, strict=True):
            yield " ".join(words[number] for number in copy[: len(row)])
