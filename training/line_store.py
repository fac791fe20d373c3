"""Line images kept ready on disk, so that training never waits for decoding or rendering."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class LineStore:
    """Lines of one height and any width, in one memory-mapped file."""

    #: uint8 grey, lines one after the other, each (height, W) in row order.
    pixels: npt.NDArray[np.uint8]
    #: int64 of shape (N + 1,): where each line's pixels begin.
    offsets: npt.NDArray[np.int64]
    #: Height of all lines in pixels.
    height_px: int
    #: The transcriptions.
    texts: list[str]

    def __len__(self) -> int:
        return len(self.texts)

    def width_px(self, index: int) -> int:
        """Give a line's width."""
        return int(self.offsets[index + 1] - self.offsets[index]) // self.height_px

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """Give a line as uint8 grey of shape (height, W), read-only."""
        flat = self.pixels[self.offsets[index] : self.offsets[index + 1]]
        return flat.reshape(self.height_px, -1)


def write_store(folder: Path, lines: Iterable[tuple[npt.NDArray[np.uint8], str]], *, height_px: int) -> LineStore:
    """Write lines of one height to a folder and open it."""
    folder.mkdir(parents=True, exist_ok=True)
    offsets, texts = [0], []
    with (folder / "pixels.u8").open("wb") as file:
        for pixels, text in lines:
            file.write(np.ascontiguousarray(pixels).tobytes())
            offsets.append(offsets[-1] + pixels.size)
            texts.append(text)
    np.save(folder / "offsets.npy", np.asarray(offsets, dtype=np.int64))
    index = {"height_px": height_px, "texts": texts}
    (folder / "lines.json").write_text(json.dumps(index, ensure_ascii=False), encoding="utf-8")
    return open_store(folder)


def open_store(folder: Path) -> LineStore:
    """Open a folder that `write_store` wrote."""
    index = json.loads((folder / "lines.json").read_text(encoding="utf-8"))
    return LineStore(
        pixels=np.memmap(folder / "pixels.u8", dtype=np.uint8, mode="r"),
        offsets=np.load(folder / "offsets.npy"),
        height_px=int(index["height_px"]),
        texts=list(index["texts"]),
    )
