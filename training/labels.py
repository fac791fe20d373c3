"""Texts to token ids and back, for character and sentencepiece tokenizers alike."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

#: Latin letters with accents, digits and punctuation, in the order of their ids after the three special tokens.
ALPHABET = (
    "".join(chr(code) for code in range(32, 127))
    + "àâäçèéêëîïôöùûüÿœæñáíóúßÀÂÇÈÉÊËÎÏÔÖÙÛÜŒÆÑÁÍÓÚÄ«»°€£"
    + "’“”–—…·×²³½ÌÒìòãõåøØÅłŁšŠžŽčćČęąńśżźěřőűūōāēīğşıİ†−‘„¾¼"  # noqa: RUF001 -- these are the letters
)
#: Beside a tokenizer that came from it; transformers does not save it again.
SENTENCEPIECE_FILE = "sentencepiece.bpe.model"
_SPECIALS = ("<pad>", "<s>", "</s>")
#: XLM-RoBERTa's ids are those of its sentencepiece model shifted by one, with four special tokens first.
_FAIRSEQ_OFFSET = 1
_FAIRSEQ_UNKNOWN = 3


class Labels(Protocol):
    """How a checkpoint writes texts as token ids."""

    def encode(self, text: str) -> list[int]:
        """Write a text as ids, without start and end token; characters that have no id are left out."""

    def decode(self, ids: Sequence[int]) -> str:
        """Read ids as a text, special tokens left out."""


class CharacterLabels:
    """Ids of single characters, or of whatever a fast tokenizer's vocabulary holds."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Keep the tokenizer of a checkpoint."""
        self._tokenizer = tokenizer
        self._left_out = {tokenizer.unk_token_id, tokenizer.pad_token_id}

    def encode(self, text: str) -> list[int]:
        """Write a text as ids, without special tokens."""
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return [int(token) for token in ids if token not in self._left_out]

    def decode(self, ids: Sequence[int]) -> str:
        """Read ids as a text."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))


class SentencePieceLabels:
    """Ids of an XLM-RoBERTa vocabulary, from its sentencepiece model.

    transformers 5.23 encodes a BPE-type model with a unigram backend: the ids differ from those that the checkpoint was
    trained with, so that a fine-tune would teach it another spelling.
    """

    def __init__(self, model: Path) -> None:
        """Open a `sentencepiece.bpe.model`."""
        self._pieces = sentencepiece.SentencePieceProcessor(model_file=str(model))

    def encode(self, text: str) -> list[int]:
        """Write a text as ids, without special tokens."""
        unknown = self._pieces.unk_id()
        return [int(piece) + _FAIRSEQ_OFFSET for piece in self._pieces.encode(text) if int(piece) != unknown]

    def decode(self, ids: Sequence[int]) -> str:
        """Read ids as a text."""
        most = self._pieces.get_piece_size()
        pieces = [token - _FAIRSEQ_OFFSET for token in ids if token > _FAIRSEQ_UNKNOWN]
        return str(self._pieces.decode([piece for piece in pieces if piece < most]))


def labels_of(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Labels:
    """Choose how a checkpoint writes labels."""
    model = folder / SENTENCEPIECE_FILE
    return SentencePieceLabels(model) if model.is_file() else CharacterLabels(tokenizer)


def character_tokenizer(alphabet: str = ALPHABET) -> PreTrainedTokenizerFast:
    """Build a tokenizer with one token a character; `<pad>` 0, `<s>` 1, `</s>` 2."""
    characters = dict.fromkeys(alphabet)
    vocabulary = {token: index for index, token in enumerate((*_SPECIALS, *characters))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_SPECIALS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=_SPECIALS[0], bos_token=_SPECIALS[1], eos_token=_SPECIALS[2]
    )
