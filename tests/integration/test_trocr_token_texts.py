"""How a text grows from token to token, put together quickly, is what decoding each of its beginnings tells."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from tests.trocr_models import BUNDLED
from worker.trocr_text import recognition_of, settled_text
from worker.trocr_token_texts import TokenTexts

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
CORPUS = [
    "Né le 2 juin 1961 à Dublin , en Irlande .",
    "the cat isn 't there ! it 's 20 \N{EURO SIGN} , don't you ?",
    "actrice et chanteuse française \N{SMILING FACE WITH OPEN MOUTH} ' quoted '",
]


def of(tokenizer: Tokenizer, *, tidied: bool) -> PreTrainedTokenizerBase:
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=tidied,
    )


def bytes_of_roberta() -> PreTrainedTokenizerBase:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return of(tokenizer, tidied=False)


def pieces_of_xlm(*, tidied: bool) -> PreTrainedTokenizerBase:
    texts = [
        "\u2581",
        "\u2581the",
        "\u2581it",
        "\u2581.",
        "\u2581'",
        "\u2581'",
        "s",
        "n't",
        "\u2581n't",
        "e",
        "\u2581\u2581",
        "\u2581,",
    ]
    tokenizer = Tokenizer(models.Unigram([*((text, 0.0) for text in SPECIAL), *((text, -1.0) for text in texts)], 3))
    tokenizer.decoder = decoders.Metaspace()
    return of(tokenizer, tidied=tidied)


def pieces_of_llama() -> PreTrainedTokenizerBase:
    texts = [
        *SPECIAL,
        *(f"<0x{byte:02X}>" for byte in (0xC3, 0xA9, 0xE2, 0x82, 0xAC)),
        "\u2581le",
        "e",
        "\u2581",
        "\u2581.",
    ]
    tokenizer = Tokenizer(models.BPE({text: index for index, text in enumerate(texts)}, [], unk_token="<unk>"))
    replace, strip = decoders.Replace("\u2581", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    return of(tokenizer, tidied=True)


def words_of_bert() -> PreTrainedTokenizerBase:
    texts = [*SPECIAL, "it", "'", "s", ".", "##s", "##e", "n't", "do", ",", "the"]
    tokenizer = Tokenizer(models.WordPiece({text: index for index, text in enumerate(texts)}, unk_token="<unk>"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return of(tokenizer, tidied=True)


BUILDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bundled": lambda: AutoTokenizer.from_pretrained(BUNDLED),
    "bytes": bytes_of_roberta,
    "pieces": lambda: pieces_of_xlm(tidied=False),
    "tidied pieces": lambda: pieces_of_xlm(tidied=True),
    "pieces and bytes": pieces_of_llama,
    "words": words_of_bert,
}


@cache
def tokenizer_of(build: str) -> PreTrainedTokenizerBase:
    return BUILDS[build]()


@cache
def texts_of(build: str) -> TokenTexts:
    return TokenTexts(tokenizer_of(build))


def in_common(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next(count for count in range(len(one), -1, -1) if other.startswith(one[:count]))


@pytest.mark.parametrize("build", BUILDS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_tokens_grow_as_their_beginnings_tell(build: str, data: st.DataObject) -> None:
    tokenizer = tokenizer_of(build)
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), min_size=1, max_size=12))
    read = [str(tokenizer.decode(tokens[:count], skip_special_tokens=True)) for count in range(1, len(tokens) + 1)]
    ends = [in_common(beginning, read[-1]) for beginning in read]
    assert texts_of(build).growth_of(tokens) == (read[-1], ends)


@pytest.mark.parametrize("build", ["bundled", "bytes"])
def test_a_usual_line_is_decoded_once(build: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, texts = tokenizer_of(build), TokenTexts(tokenizer_of(build))
    tokens = tokenizer("the cat isn 't there !", add_special_tokens=False).input_ids
    texts.growth_of(tokens)
    decoded: list[int] = []
    decode = tokenizer.decode

    def counted(tokens: list[int], **wishes: Any) -> object:
        decoded.append(len(tokens))
        return decode(tokens, **wishes)

    monkeypatch.setattr(tokenizer, "decode", counted)
    texts.growth_of(tokens)
    assert decoded == [len(tokens), 1]  # and its first token, which has no space before it


def test_half_a_character_is_settled_with_its_other_half() -> None:
    tokenizer = tokenizer_of("bytes")
    euro = tokenizer(" \N{EURO SIGN}", add_special_tokens=False).input_ids
    tokens = [*tokenizer("20", add_special_tokens=False).input_ids, *euro, tokenizer.eos_token_id]
    recognition = recognition_of(tokens, [log(0.5)] * len(tokens), texts_of("bytes"), truncated=False)
    assert [word.text for word in recognition.words] == ["20", "\N{EURO SIGN}"]
    assert recognition.words[1].confidence == pytest.approx(0.5)


def test_what_is_settled_holds_no_part_of_a_character() -> None:
    texts = texts_of("bytes")
    text = "\N{SMILING FACE WITH OPEN MOUTH}\N{CJK UNIFIED IDEOGRAPH-5B57}x"
    tokens = tokenizer_of("bytes")(text, add_special_tokens=False).input_ids
    settled = [settled_text(tokens[:count], texts) for count in range(1, len(tokens) + 1)]
    assert all(text.startswith(beginning) for beginning in settled)
    assert settled[-1]
