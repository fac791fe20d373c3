import pytest

from training.error_rates import error_rates


@pytest.mark.parametrize(
    ("references", "readings", "cer", "wer"),
    [
        (["abcd"], ["abcd"], 0.0, 0.0),
        (["abcd"], ["abxd"], 0.25, 1.0),  # 1 of 4 characters, 1 of 1 words
        (["ab cd", "e"], ["ab", "e"], 0.5, 1 / 3),  # 3 of 6 characters, 1 of 3 words
        (["e\u0301t"], ["ét"], 0.0, 0.0),  # the same letter, composed
        (["a  b"], [" a b "], 0.0, 0.0),  # white space is folded
        (["a"], ["abc"], 2.0, 1.0),  # more errors than characters
    ],
)
def test_edits_are_summed_over_lines(references: list[str], readings: list[str], cer: float, wer: float) -> None:
    rates = error_rates(references, readings)
    assert rates.cer == pytest.approx(cer)
    assert rates.wer == pytest.approx(wer)
    assert rates.lines == len(references)


def test_no_reference_is_no_rate() -> None:
    with pytest.raises(ValueError, match="no reference"):
        error_rates([""], ["a"])
