"""Fonts for synthetic lines, found in package folders, with their licences."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont

from training.unusable_input import UnusableInput

_FONT_PATTERNS = ("*-latin-400-normal.woff2", "*.ttf", "*.otf")


@dataclass(frozen=True, kw_only=True)
class FontFile:
    """A font and the terms under which it came."""

    #: File that Pillow reads (woff2, TrueType or OpenType).
    path: Path
    #: Package or family name.
    name: str
    #: SPDX expression as the package states it, or "unstated".
    licence: str


def find_fonts(folders: Iterable[Path]) -> list[FontFile]:
    """List the fonts of package folders (`@fontsource/<name>` packages, or folders of font files), by name.

    Raises:
        UnusableInput: There is none in one of the folders.
    """
    found: dict[str, FontFile] = {}
    for folder in folders:
        paths = [path for pattern in _FONT_PATTERNS for path in sorted(folder.rglob(pattern))]
        if not paths:
            raise UnusableInput(f"{folder}: no font was found")
        for path in paths:
            name, licence = _package_of(path, folder)
            found.setdefault(name, FontFile(path=path, name=name, licence=licence))
    return [found[name] for name in sorted(found)]


def _package_of(path: Path, top: Path) -> tuple[str, str]:
    for parent in path.parents:
        manifest = parent / "package.json"
        if manifest.is_file():
            package = json.loads(manifest.read_text(encoding="utf-8"))
            return str(package["name"]), str(package.get("license", "unstated"))
        if parent == top:
            break
    return path.stem, "unstated"


@lru_cache(maxsize=512)
def load_font(path: Path, size_px: int) -> ImageFont.FreeTypeFont:
    """Open a font at a size in pixels per em."""
    return ImageFont.truetype(path, size_px, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=65536)
def has_glyph(path: Path, character: str) -> bool:
    """Tell whether a font draws a character as something else than its mark for a missing glyph."""
    font = load_font(path, 32)
    if character == " ":
        return True
    drawn = font.getmask(character)
    return drawn.getbbox() is not None and bytes(drawn) != bytes(font.getmask("\U0010fffd"))
