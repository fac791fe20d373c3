"""Running text out of dictionaries."""

import gzip
from pathlib import Path

import pytest

from training.prose import gcide_prose, littre_prose, main

_LITTRE = """<i><small>(a) s. m.</small></i>
    Se dit d'un homme qui a de la <b>patience</b> &amp; du courage dans le malheur.
<b>1°</b> Entre un substantif et un pronom, construction qui exprime la possession.
<span foreground="#0000CD">Il n'est rien de cela aux exemples des payens, nous n'avons pas de liaison</span>, PASC.
<b><big>HISTORIQUE</big></b>
    Pruveires e diacnes plusurs en i ot pris, murdreiseurs en la rei prisun mis
<i><small>(b) s. f.</small></i>
    Voy. A. B. C. D. E. F. G. H. I. J. K. L. M. N. O. P.
    Espace de temps qui sépare deux parties de la journée, chez les anciens.
"""
_GCIDE = """Bathe \\Bathe\\, v. i.
   1. To immerse or cover one's self, as in a bath of warm
      water or of oil.
      [1913 Webster]
   2. To wash. "The bright sunshine bathing all the world in
      golden light." --Longfellow.
"""


def test_of_the_french_dictionary_remain_sentences_of_its_time() -> None:
    assert littre_prose(_LITTRE) == [
        "Se dit d'un homme qui a de la patience & du courage dans le malheur.",
        "Entre un substantif et un pronom, construction qui exprime la possession.",
        "Il n'est rien de cela aux exemples des payens, nous n'avons pas de liaison",
        "Espace de temps qui sépare deux parties de la journée, chez les anciens.",
    ]


def test_of_the_english_dictionary_remain_definitions_and_citations() -> None:
    assert gcide_prose(_GCIDE) == [
        "The bright sunshine bathing all the world in golden light.",
        "To immerse or cover one's self, as in a bath of warm water or of oil.",
    ]


def test_the_command_writes_a_paragraph_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fr.dz").write_bytes(gzip.compress(_LITTRE.encode()))
    (tmp_path / "en.dz").write_bytes(gzip.compress(_GCIDE.encode()))
    main(tmp_path / "prose", littre=tmp_path / "fr.dz", gcide=tmp_path / "en.dz")
    assert (tmp_path / "prose" / "littre.txt").read_text(encoding="utf-8").splitlines() == littre_prose(_LITTRE)
    assert "gcide.txt: 2 paragraphs" in capsys.readouterr().out.replace("\n", "")
