from pathlib import Path

from training.samples import LineSample, form_of, normalize_text, split_by_form


def _sample(page: str, source: str = "letters") -> LineSample:
    return LineSample(image=Path("line.png"), text="text", page=page, source=source)


def test_sibling_pages_belong_to_one_form() -> None:
    assert form_of(_sample("Lettre76_1")) == form_of(_sample("Lettre76_2")) != form_of(_sample("Lettre77"))


def test_a_page_number_of_several_digits_is_not_a_sibling_suffix() -> None:
    assert form_of(_sample("wikitexte_0182")) != form_of(_sample("wikitexte_0183"))


def test_sibling_pages_are_held_back_together() -> None:
    samples = [_sample(f"form{number}_{side}") for number in range(200) for side in (1, 2)]
    train, held_back = split_by_form(samples, share=0.2, seed=7)
    assert 20 < len(held_back) < 140
    assert not {form_of(sample) for sample in train} & {form_of(sample) for sample in held_back}


def test_new_forms_move_no_old_ones() -> None:
    old = [_sample(f"form{number}") for number in range(50)]
    new = [_sample(f"later{number}") for number in range(50)]
    _, before = split_by_form(old, share=0.3, seed=7)
    _, after = split_by_form(old + new, share=0.3, seed=7)
    assert [sample for sample in after if sample in old] == before


def test_texts_are_composed_and_their_spaces_folded() -> None:
    assert normalize_text(" e\u0301te\u0301  \u00a0 1905 ") == "été 1905"
