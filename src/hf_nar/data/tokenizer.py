"""SentencePiece tokenizers that load everywhere as plain fast tokenizers.

A SentencePiece model is trained once and converted once. The folder then loads through
`AutoTokenizer`, without remote code and without the sentencepiece package.
"""

from __future__ import annotations

import copy
import io
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import PreTrainedTokenizerFast

from hf_nar.data.sentencepiece_model import PieceType, SentencePieceModel, read_sentencepiece

ModelType = Literal["unigram", "bpe"]

MASK_TOKEN = "<mask>"
NUM_SPECIAL_TOKENS = 5  # padding, start, end, unknown, mask
MAX_SENTENCES = 500_000  # SentencePiece takes some 22 bytes of memory for each character
SENTENCEPIECE_FILE = "sentencepiece.model"

_NUM_THREADS = 4  # a constant: the pieces depend on it, through the order of float sums
_SPACE = "▁"  # how SentencePiece writes a space


def train_tokenizer(
    sentences: Iterable[str],
    output: str | Path,
    vocab_size: int = 8000,
    model_type: ModelType = "unigram",
    character_coverage: float = 1.0,
    max_sentences: int = MAX_SENTENCES,
    seed: int = 0,
) -> PreTrainedTokenizerFast:
    """Train a joint vocabulary and save it as a fast tokenizer.

    Ids 0 to 4 are `<pad>`, `<s>`, `</s>`, `<unk>` and `<mask>`. The text is normalised with
    `nmt_nfkc`. The same sentences give the same tokenizer. Sentences over 4192 bytes are not used.

    Args:
        sentences: Sentences of both languages, in any order.
        output: Folder to write; `sentencepiece.model` is kept in it, beside the tokenizer.
        vocab_size: Number of pieces, the five special ones included.
        model_type: Algorithm that finds the pieces.
        character_coverage: Share of the characters that get a piece, over 0 and up to 1. The
            rarest ones become `<unk>`; 0.9995 suits Chinese and Japanese.
        max_sentences: Sentences used; of more, a random sample, in which each corpus and each side
            has its share. All are read for it.
        seed: Seed of that sample.

    Returns:
        The tokenizer, as it would load from `output`.

    Raises:
        ValueError: If an option is out of range, there is no text, or the vocabulary does not
            fit the text; then the message says what would.
    """
    if model_type not in get_args(ModelType):
        known = ", ".join(get_args(ModelType))
        raise ValueError(f"`model_type` must be one of {known}, got {model_type!r}.")
    if not 0 < character_coverage <= 1:
        raise ValueError(
            f"`character_coverage` must be over 0 and at most 1, got {character_coverage}. "
            f"Use 1.0 for alphabets."
        )
    if vocab_size <= NUM_SPECIAL_TOKENS:
        raise ValueError(
            f"`vocab_size` must be more than the {NUM_SPECIAL_TOKENS} special tokens, got "
            f"{vocab_size}. Use some thousands for real text."
        )
    if max_sentences < 1:
        raise ValueError(f"`max_sentences` must be at least 1, got {max_sentences}.")
    sample = _sample(sentences, max_sentences, seed)
    if not sample:
        raise ValueError("`sentences` must hold some text, got none. Check the corpus.")
    proto = _train_sentencepiece(sample, vocab_size, model_type, character_coverage)
    model_file = Path(output) / SENTENCEPIECE_FILE
    model_file.parent.mkdir(parents=True, exist_ok=True)
    model_file.write_bytes(proto)
    tokenizer = convert_sentencepiece(model_file)
    save_tokenizer(tokenizer, output)
    return tokenizer


def convert_sentencepiece(model_file: str | Path) -> PreTrainedTokenizerFast:
    """Convert a SentencePiece model to a fast tokenizer that appends eos.

    It encodes and decodes as SentencePiece does, except for text that literally contains a
    special token, and for a loose accent after a character that already has one (here both are
    composed) or after a compatibility character such as U+00BD (here it is lost). Pad and mask
    tokens that the model lacks get the next free ids, so size embeddings by `len(tokenizer)`.

    Args:
        model_file: Unigram or BPE model, as SentencePiece writes it.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file is damaged, or is not a model that can be converted.
    """
    model = read_sentencepiece(model_file)
    eos = model.special_tokens["eos_token"]
    tokenizer = Tokenizer(_algorithm(model))
    tokenizer.normalizer = _normalizer(model)
    # The normaliser prepends the space: this scheme leaves it out before text that has one.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
        _SPACE, prepend_scheme="never", split=model.model_type == "unigram"
    )
    tokenizer.decoder = _decoder(model)
    by_type = {
        piece_type: [piece.text for piece in model.pieces if piece.type == piece_type]
        for piece_type in PieceType
    }
    special = by_type[PieceType.UNKNOWN] + by_type[PieceType.CONTROL]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in special])
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False) for text in by_type[PieceType.USER_DEFINED]]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {eos}", special_tokens=[(eos, tokenizer.token_to_id(eos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **model.special_tokens,
        mask_token=MASK_TOKEN,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="right",
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, output: str | Path) -> None:
    """Save a fast tokenizer so that transformers 4 can load it too.

    The padding and truncation of its last call are left out: the files do not depend on them.

    Args:
        tokenizer: Tokenizer to save; it stays as it is.
        output: Folder to write.
    """
    saved = copy.deepcopy(tokenizer)
    saved.backend_tokenizer.no_padding()
    saved.backend_tokenizer.no_truncation()
    saved.save_pretrained(output)
    config_file = Path(output) / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    # Version 5 writes its new name `TokenizersBackend`, but still knows the old one.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    config_file.write_text(text, encoding="utf-8")


# Training


def _sample(sentences: Iterable[str], size: int, seed: int) -> list[str]:
    """Keep at most `size` sentences with text, each equally likely (Vitter 1985, algorithm R)."""
    kept: list[str] = []
    choice = random.Random(seed)
    seen = 0
    for sentence in sentences:
        if not sentence.strip():
            continue
        seen += 1
        if len(kept) < size:
            kept.append(sentence)
        elif (place := choice.randrange(seen)) < size:
            kept[place] = sentence
    return kept


def _train_sentencepiece(
    sentences: list[str], vocab_size: int, model_type: ModelType, character_coverage: float
) -> bytes:
    import sentencepiece  # late: only training needs it

    proto = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=proto,
            vocab_size=vocab_size,
            model_type=model_type,
            character_coverage=character_coverage,
            normalization_rule_name="nmt_nfkc",
            pad_id=0,
            bos_id=1,
            eos_id=2,
            unk_id=3,
            control_symbols=[MASK_TOKEN],
            num_threads=_NUM_THREADS,
            minloglevel=2,
        )
    except RuntimeError as error:
        largest = re.search(r"too high .*<= (\d+)", str(error))
        smallest = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
        if largest:
            raise ValueError(
                f"`vocab_size` must be at most {largest[1]} for this text, got {vocab_size}. Use "
                f"a smaller vocabulary or more text."
            ) from error
        if smallest:
            raise ValueError(
                f"`vocab_size` must be at least {smallest[1]} to hold each character of this text, "
                f"got {vocab_size}. Use a larger vocabulary or a lower `character_coverage`."
            ) from error
        raise
    return proto.getvalue()


# Conversion


def _algorithm(model: SentencePieceModel) -> models.Model:
    if model.model_type == "unigram":
        return models.Unigram(
            [(piece.text, piece.score) for piece in model.pieces],
            unk_id=model.unk_id,
            byte_fallback=model.byte_fallback,
        )
    return models.BPE(
        {piece.text: number for number, piece in enumerate(model.pieces)},
        _merges(model),
        unk_token=model.special_tokens["unk_token"],
        fuse_unk=True,
        byte_fallback=model.byte_fallback,
    )


def _merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """Rebuild the merges of a BPE model, which stores only their results, earliest first."""
    known = {piece.text for piece in model.pieces}
    merges: list[tuple[str, str]] = []
    for piece in model.pieces:
        if piece.type not in (PieceType.NORMAL, PieceType.USER_DEFINED):
            continue
        cuts = [(piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text))]
        merges += [(left, right) for left, right in cuts if left in known and right in known]
    return merges


def _normalizer(model: SentencePieceModel) -> normalizers.Normalizer:
    steps: list[normalizers.Normalizer] = []
    if model.composes:
        # `Precompiled` replaces a short cluster by its shortest rule: of a letter with two loose
        # accents, as in decomposed Vietnamese, it would lose one. Composed first, they are safe.
        steps.append(normalizers.NFC())
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.remove_extra_whitespaces:
        steps.append(normalizers.Replace(Regex("^ +| +$"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    if model.add_dummy_prefix:
        steps.append(normalizers.Prepend(" "))
    return normalizers.Sequence(steps)


def _decoder(model: SentencePieceModel) -> decoders.Decoder:
    if not model.byte_fallback:
        scheme: Literal["always", "never"] = "always" if model.add_dummy_prefix else "never"
        return decoders.Metaspace(_SPACE, prepend_scheme=scheme)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if model.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)
