"""Reader of SentencePiece model files, without the protobuf and sentencepiece packages.

The fields are those of `sentencepiece_model.proto` in the repository `google/sentencepiece`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

_MODEL_TYPES: dict[int, Literal["unigram", "bpe"]] = {1: "unigram", 2: "bpe"}
_SPECIAL_TOKENS = {  # field of the trainer's message, default
    "unk_token": (45, "<unk>"),
    "bos_token": (46, "<s>"),
    "eos_token": (47, "</s>"),
    "pad_token": (48, "<pad>"),
}
_TRIE_BLOCK = 1024  # bytes: a double-array trie has blocks of 256 units of 4 bytes


class PieceType(IntEnum):
    """What a piece stands for; numbers of `SentencePiece.Type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary.

    Args:
        text: The piece; a space is written as U+2581.
        score: Natural-log probability in a unigram model, rank of the merge in BPE.
        type: What the piece stands for.
    """

    text: str
    score: float
    type: PieceType


@dataclass(frozen=True)
class SentencePieceModel:
    """All of a model file that tokenizing needs.

    Args:
        pieces: The vocabulary, by id.
        model_type: Algorithm of the model.
        byte_fallback: True if unknown characters are written as bytes.
        charsmap: Compiled rules that normalise characters; empty for none.
        composes: True if these rules turn letters with accents into single characters.
        add_dummy_prefix: True if a space is put before the text.
        remove_extra_whitespaces: True if repeated and outer spaces are removed.
        special_tokens: Texts of unk, bos, eos and pad, by their transformers names.
    """

    pieces: list[Piece]
    model_type: Literal["unigram", "bpe"]
    byte_fallback: bool
    charsmap: bytes
    composes: bool
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    special_tokens: dict[str, str]

    @property
    def unk_id(self) -> int:
        """Id of the unknown piece."""
        return next(i for i, piece in enumerate(self.pieces) if piece.type == PieceType.UNKNOWN)


def read_sentencepiece(model_file: str | Path) -> SentencePieceModel:
    """Read and check a SentencePiece model file.

    Args:
        model_file: Unigram or BPE model, as SentencePiece writes it.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, or is not a model that can be converted.
    """
    path = Path(model_file)
    if not path.is_file():
        raise FileNotFoundError(f"`model_file` must be an existing file, got {path}.")
    try:
        return _parse(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"`model_file` must be a SentencePiece model, but {path} cannot be read: {error}. Use "
            f"the `.model` file of a unigram or BPE model, or train one with `hf-nar tokenizer`."
        ) from error


def _parse(data: bytes) -> SentencePieceModel:
    pieces: list[Piece] = []
    parts: dict[int, _Message] = {}
    for number, value in _fields(data):
        if number == 1:
            pieces.append(_piece(_Message(value)))
        elif number in (2, 3):
            parts[number] = _Message(value)
    if not pieces or len(parts) != 2:
        raise ValueError("it lacks the pieces or the settings")
    trainer, normalizer = parts[2], parts[3]
    model_type = _MODEL_TYPES.get(trainer.integer(3, 1))
    if model_type is None:
        raise ValueError("it is neither a unigram nor a BPE model")
    charsmap = _checked_charsmap(normalizer.data(2, b""))
    collapses = bool(normalizer.integer(4, 1))
    if trainer.integer(24, 0) or not normalizer.integer(5, 1) or (charsmap and not collapses):
        raise ValueError("it treats spaces in a way that fast tokenizers cannot")
    special = {
        name: trainer.data(field, default.encode()).decode()
        for name, (field, default) in _SPECIAL_TOKENS.items()
    }
    _check_pieces(pieces, special)
    return SentencePieceModel(
        pieces=pieces,
        model_type=model_type,
        byte_fallback=any(piece.type == PieceType.BYTE for piece in pieces),
        charsmap=charsmap,
        composes="nfkc" in normalizer.data(1, b"").decode(),
        add_dummy_prefix=bool(normalizer.integer(3, 1)),
        remove_extra_whitespaces=collapses,
        special_tokens=special,
    )


def _piece(message: _Message) -> Piece:
    score = struct.unpack("<f", message.data(2, bytes(4), size=4))[0]
    if not math.isfinite(score):
        raise ValueError("a piece has no finite score")
    return Piece(message.data(1, b"").decode(), score, PieceType(message.integer(3, 1)))


def _check_pieces(pieces: list[Piece], special: dict[str, str]) -> None:
    types = {piece.text: piece.type for piece in pieces}
    if len(types) != len(pieces) or "" in types:
        raise ValueError("a piece is empty or there twice")
    if [piece.type for piece in pieces].count(PieceType.UNKNOWN) != 1:
        raise ValueError("it must have exactly one unknown piece")
    if types.get(special["unk_token"]) != PieceType.UNKNOWN:
        raise ValueError(f"its unknown piece is not {special['unk_token']}")
    if types.get(special["eos_token"]) != PieceType.CONTROL:
        raise ValueError(f"it has no piece {special['eos_token']} to end a sentence")


def _checked_charsmap(charsmap: bytes) -> bytes:
    """Check the frame: the tokenizers library crashes on a broken one."""
    if charsmap:
        size = int.from_bytes(charsmap[:4], "little")
        if size == 0 or size % _TRIE_BLOCK or size + 4 > len(charsmap):
            raise ValueError("its normalisation rules are damaged")
    return charsmap


# Protobuf's wire format


class _Message:
    """Fields of one message; of repeated ones, the last."""

    def __init__(self, data: int | bytes) -> None:
        if isinstance(data, int):
            raise ValueError("a message is expected where a number is")
        self._values = dict(_fields(data))

    def integer(self, number: int, default: int) -> int:
        value = self._values.get(number, default)
        if isinstance(value, bytes):
            raise ValueError("a number is expected where text is")
        return value

    def data(self, number: int, default: bytes, size: int | None = None) -> bytes:
        value = self._values.get(number, default)
        if isinstance(value, int) or (size is not None and len(value) != size):
            raise ValueError("text is expected where a number is")
        return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Give number and value of each field; a length or end out of bounds is a ValueError."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire_type = tag & 7
        if wire_type == 0:
            number, position = _varint(data, position)
            yield tag >> 3, number
            continue
        if wire_type == 2:
            size, position = _varint(data, position)
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
        else:
            raise ValueError("it is not in SentencePiece's format")
        if position + size > len(data):
            raise ValueError("it ends too early")
        yield tag >> 3, data[position : position + size]
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read an integer of at most 10 bytes of 7 bits; return it and the position after it."""
    value = 0
    for count, byte in enumerate(data[position : position + 10]):
        value |= (byte & 127) << (7 * count)
        if byte < 128:
            return value, position + count + 1
    raise ValueError("it ends too early or is not in SentencePiece's format")
