"""The synthetic lines of a run, drawn once and kept."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from training.fonts import FontFile
from training.line_store import write_store
from training.synthesis import LineSynthesizer
from training.texts import TextSource

#: Raised when the same request comes to draw other lines.
_DRAWING = 2
_HEIGHT_PX = 48
_MAX_WIDTH_PX = 960
#: Lengths up to which texts go, and the shares of these: short ones teach letters, long ones what lines look like.
_LONGEST = (16, 40, 90)
_SHARES = (0.3, 0.4, 0.3)


def draw_synthetic(
    folder: Path,
    fonts: Sequence[FontFile],
    texts: TextSource,
    *,
    lines: int,
    seed: int,
) -> Path | None:
    """Draw the synthetic lines of a run when they are not there yet, and give their folder; None without fonts.

    Lines of another seed, number, text or font lie in another folder, so that none are taken for these.
    """
    if not fonts:
        return None
    key = repr((_DRAWING, seed, lines, [font.name for font in fonts], texts.running_text, texts.words))
    chosen = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    if not (chosen / "lines.json").is_file():
        synthesizer = LineSynthesizer(fonts, texts, height_px=_HEIGHT_PX, max_width_px=_MAX_WIDTH_PX)
        write_store(chosen, _drawn(synthesizer, lines, seed), height_px=_HEIGHT_PX)
    return chosen


def _drawn(synthesizer: LineSynthesizer, lines: int, seed: int) -> Iterator[tuple[npt.NDArray[np.uint8], str]]:
    rng = random.Random(seed)
    for _ in track(range(lines), description="drawing synthetic lines", transient=True):
        line = synthesizer.draw(rng, max_chars=rng.choices(_LONGEST, _SHARES)[0])
        yield line.pixels, line.text
