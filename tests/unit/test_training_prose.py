"""Running text out of dictionaries."""

import gzip
from pathlib import Path

import pytest

from training.prose import gcide_prose, littre_prose, main

#: As it stands in the package: how the next word is spoken ends the last line of the one before.
_LITTRE = """    Action de murmurer.

<b><big>HISTORIQUE</big></b>

    XVe s.
<span foreground="#0000CD">De quoi grant murmuration sourdit entre les Anglois</span>, <span foreground="#B22222">FROISS.</span>

<b><big>ÉTYMOLOGIE</big></b>

    Provenç. murmuratio ; du lat. murmurationem, de murmurare, murmurer.<i><small>(mur-mu-r') s. m.</small></i>

<b>1°</b> Bruit léger des eaux, des vents, et le reste &amp; ce qui y ressemble.
<span foreground="#0000CD">Une fontaine y faisait un doux murmure au soir</span>, <span foreground="#B22222">FÉN.</span>
    Voy. A. B. C. D. E. F. G. H. I. J. K. L. M. N. O. P.
    Se dit de plaintes que l'on fait tout bas.<i><small>(mur-mu-ré) part.</small></i>
"""  # noqa: E501 - as it stands there
_GCIDE = """      And let us bathe our hands in C[ae]sar's blood.
                                                  --Shak.
      [1913 Webster]

   4. To apply water or some liquid medicament to; as, to bathe
      the {eye} with warm water or with sea water [Obs.].
      [1913 Webster]

            The rosy shadows bathe the whole of the house
            this evening.                         --Tennyson.

Bathe \\Bathe\\, n.
   The immersion of the body in water; as, to take one's usual
   bathe. --Edin. Rev.
   [1913 Webster]

   Syn: bathing machine, which is drawn into the water.
"""


def test_of_the_french_dictionary_remain_sentences_of_its_time() -> None:
    assert littre_prose(_LITTRE) == [
        "Bruit léger des eaux, des vents, et le reste & ce qui y ressemble.",
        "Une fontaine y faisait un doux murmure au soir",
        "Se dit de plaintes que l'on fait tout bas.",
    ]


def test_of_the_english_dictionary_remain_definitions_and_citations() -> None:
    assert gcide_prose(_GCIDE) == [
        "To apply water or some liquid medicament to; as, to bathe the eye with warm water or with sea water.",
        "The rosy shadows bathe the whole of the house this evening.",
        "The immersion of the body in water; as, to take one's usual bathe.",
    ]


def test_the_command_writes_a_paragraph_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fr.dz").write_bytes(gzip.compress(_LITTRE.encode()))
    (tmp_path / "en.dz").write_bytes(gzip.compress(_GCIDE.encode()))
    main(tmp_path / "prose", littre=tmp_path / "fr.dz", gcide=tmp_path / "en.dz")
    assert (tmp_path / "prose" / "littre.txt").read_text(encoding="utf-8").splitlines() == littre_prose(_LITTRE)
    assert "gcide.txt: 3 paragraphs" in capsys.readouterr().out.replace("\n", "")
