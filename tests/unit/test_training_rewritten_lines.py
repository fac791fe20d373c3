"""New texts in the hands of real lines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.cut_lines import CutLine, CutWord, LinePiece, by_hand, joined
from training.line_images import GreyLine
from training.rewritten_lines import RewrittenLines
from training.samples import Hand
from training.texts import TextSource

_HEIGHT_PX, _LETTER_PX = 20, 20
_START, _WITHIN, _END, _ALONE = range(4)
_NOBODYS = Hand(source="drawn", kind="", form="1")
_HAND = ("banane", "canard", "radar", "a", "drap", "gala")


def _grey(letter: str, place: int) -> int:
    """Give the grey of a letter at a word's start, within, at its end, or alone, by which the test knows it again."""
    return 4 * (ord(letter) - ord("a")) + place


def _place(index: int, word: str) -> int:
    if len(word) == 1:
        return _ALONE
    return _START if index == 0 else _END if index == len(word) - 1 else _WITHIN


def _line(*words: str) -> CutLine:
    """Draw each letter as a bar of its own grey before as much white."""
    pixels = np.full((_HEIGHT_PX, _LETTER_PX * sum(map(len, words))), 255, dtype=np.uint8)
    left_px, cut = 0, []
    for word in words:
        edges_px = tuple(left_px + _LETTER_PX * index for index in range(len(word) + 1))
        for index, letter in enumerate(word):
            pixels[:, edges_px[index] : edges_px[index] + _LETTER_PX // 2] = _grey(letter, _place(index, word))
        cut.append(CutWord(text=word, edges_px=edges_px))
        left_px = edges_px[-1]
    return CutLine(pixels=pixels, words=tuple(cut), hand=_NOBODYS)


def _greys(pixels: GreyLine) -> list[int]:
    return [int(grey) for grey in pixels[_HEIGHT_PX // 2, _LETTER_PX // 4 :: _LETTER_PX]]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_a_rewritten_line_shows_each_letter_where_its_text_has_it(seed: int) -> None:
    texts = TextSource(["canapa a barda bar rade canada"], [])
    drawn = RewrittenLines([[_line(*_HAND[:2]), _line(*_HAND[2:])]], texts).draw(np.random.default_rng(seed))
    assert drawn
    pixels, text = drawn
    expected = [_grey(letter, _place(index, word)) for word in text.split(" ") for index, letter in enumerate(word)]
    assert _greys(pixels) == expected


def test_words_come_out_that_the_hand_never_wrote() -> None:
    lines = RewrittenLines([[_line(*_HAND)]], TextSource(["bar canada"], []))
    drawn = [line for seed in range(30) if (line := lines.draw(np.random.default_rng(seed)))]
    words = {word for _, text in drawn for word in text.split(" ")}
    assert {"bar", "canada"} <= words


def test_words_with_letters_that_the_hand_lacks_are_left_out() -> None:
    lines = RewrittenLines([[_line(*_HAND)]], TextSource(["banane zzz radar"], []))
    drawn = [line for seed in range(30) if (line := lines.draw(np.random.default_rng(seed)))]
    assert drawn
    assert all("z" not in text for _, text in drawn)


def test_a_hand_that_lacks_all_letters_writes_nothing() -> None:
    lines = RewrittenLines([[_line(*_HAND)]], TextSource(["zzz"], []))
    assert [line for seed in range(30) if (line := lines.draw(np.random.default_rng(seed)))] == []


def test_a_line_is_written_in_one_hand() -> None:
    lines = RewrittenLines([[_line("banane")], [_line("xyxy")]], TextSource(["banane xyxy"], []))
    drawn = [line for seed in range(30) if (line := lines.draw(np.random.default_rng(seed)))]
    assert {frozenset(text.split(" ")) for _, text in drawn} == {frozenset({"banane"}), frozenset({"xyxy"})}


def test_a_word_with_a_letter_that_got_no_ink_lends_no_letters() -> None:
    line = _line("banane")
    line.pixels[:, 3 * _LETTER_PX : 4 * _LETTER_PX] = 255
    lines = RewrittenLines([[line]], TextSource(["banane"], []))
    assert {lines.draw(np.random.default_rng(seed)) for seed in range(30)} == {None}


def _of(form: str, *, text: str, kind: str = "") -> CutLine:
    words = (CutWord(text=text, edges_px=(0, 1)),)
    return CutLine(pixels=np.zeros((1, 1), np.uint8), words=words, hand=Hand(source="drawn", kind=kind, form=form))


def test_lines_are_parted_by_hand_and_lone_ones_of_a_kind_by_their_neighbourhood() -> None:
    lone = [_of(f"lone {number}", text=str(number)) for number in range(20)]
    other = _of("typed", text="typed", kind="typewritten")
    lines = [_of("a", text="1"), _of("b", text="1"), _of("a", text="2"), *lone, other, _of("b", text="2")]
    parted = [[(line.hand.form, line.words[0].text) for line in hand] for hand in by_hand(lines)]
    assert parted[:2] == [[("a", "1"), ("a", "2")], [("b", "1"), ("b", "2")]]
    assert [len(run) for run in parted[2:]] == [16, 4, 1]


def test_a_page_of_very_many_lines_is_not_taken_for_one_hands() -> None:
    lines = [_of("folder", text=str(number)) for number in range(150)]
    assert [len(run) for run in by_hand(lines)] == [64, 64, 22]


def test_a_corpus_that_is_given_twice_is_parted_as_it_is_given_once() -> None:
    lone = [_of(f"lone {number}", text=str(number)) for number in range(4)]
    assert len(by_hand(lone)) == len(by_hand(lone + lone)) == 1


@pytest.mark.parametrize(("height_px", "top_px", "ink_px"), [(40, 4, 12), (20, 6, 8), (20, 2, 6)])
def test_a_piece_is_brought_to_the_rows_and_size_of_the_first(height_px: int, top_px: int, ink_px: int) -> None:
    def barred(height_px: int, top_px: int, ink_px: int) -> LinePiece:
        pixels = np.full((height_px, 40), 250, dtype=np.uint8)
        pixels[top_px : top_px + ink_px, 10:30] = 0
        return LinePiece(line=CutLine(pixels=pixels, words=(), hand=_NOBODYS), left_px=0, right_px=40)

    first = barred(20, 6, 8)
    pixels = joined([first, barred(height_px, top_px, ink_px)])
    assert pixels.shape[0] == 20
    right = CutLine(pixels=pixels[:, 40:], words=(), hand=_NOBODYS)
    assert right.ink_rows == pytest.approx(first.line.ink_rows, abs=0.6)


def test_a_line_without_ink_joins_others_as_it_is() -> None:
    blank = LinePiece(
        line=CutLine(pixels=np.full((20, 30), 200, dtype=np.uint8), words=(), hand=_NOBODYS), left_px=5, right_px=25
    )
    pixels = joined([blank, blank])
    assert pixels.shape == (20, 40)
    assert set(pixels.flat) == {200}
