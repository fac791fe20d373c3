"""PP-OCRv6's text recognizer, from the model file in rapidocr's wheel, run by onnxruntime on the CPU.

A CTC model: one pass over the line gives a class for every 8 pixels of width, and the text is what remains when repeats
and blanks are taken out. rapidocr's own recognizer class is not used: it pads the lines of a call to a common width,
which changes what is read (12 % of our test lines, when padded to 320 pixels), and rounds the probabilities.

Source:
    PaddleOCR and RapidOCR, Apache-2.0; resizing, normalisation and decoding as in `rapidocr.ch_ppocr_rec`.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import math
import os
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]  # it ships no types
from numpy.typing import NDArray
from PIL import Image

from core.transcript import Alternative
from worker.confidence import confidence_of, flags_of, pieces_of, words_of
from worker.recognizer import (
    GroupSize,
    LinePixels,
    LineRequest,
    ModelCard,
    ModelUnavailable,
    Recognition,
    RecognizerOutOfMemory,
)

_MODEL_FILE = "PP-OCRv6_rec_small.onnx"
_HEIGHT = 48
#: Grey columns to the right of the ink, and what the width is rounded up to. Without them the last letter is often
#: lost: CER on 240 of our training lines was 0.225 (French hands) and 0.156 (print) without, 0.200 and 0.103 with 64.
_MARGIN = 64
_COLUMN = 8
#: Wider lines are squeezed to this width (65 times their height): their text suffers and their confidence shows it, but
#: one crazy picture cannot take the worker's memory, which grows by 10 kB per pixel of width.
_MOST_WIDTH = 3136
_BLANK = 0
#: What a probability of 0 is taken for, so that it has a logarithm: the least that float32 holds exactly.
_TINY = float(np.finfo(np.float32).tiny)
#: Of 450 of our training lines 13 % were below it, with a mean CER of 0.45; the others had 0.15.
_LEAST_CONFIDENCE = 0.75
#: Lines are computed each by itself, so more rows than cores gain nothing, and an interactive line would wait longer.
_LEAST_ROWS = 4


class PpocrRecognizer:
    """Reads lines in one pass: `admit` computes, and the next `step` delivers.

    Raises:
        ModelUnavailable: rapidocr's wheel is not installed, or holds another model.
    """

    def __init__(self) -> None:
        path = _model_path()
        cores = os.cpu_count() or 1
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores
        # Threads that spin between two operators take the cores from the rest of the service; measured twice as slow
        # beside one busy process.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._characters = ("", *self._session.get_modelmeta().custom_metadata_map["character"].splitlines(), " ")
        # Lines that come together share the session's threads, which one line alone cannot keep busy.
        self._pool = ThreadPoolExecutor(cores, thread_name_prefix="ppocr")
        self._rows = max(_LEAST_ROWS, cores)
        self._read: dict[str, Recognition] = {}
        self._card = ModelCard(
            name="ppocr-v6",
            revision=f"rapidocr {importlib.metadata.version('rapidocr')}",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            device="cpu",
            dtype="float32",
            # float32 weights are all but 1 % of the file; counting them would take the onnx package
            parameters=path.stat().st_size // 4,
        )

    @property
    def card(self) -> ModelCard:
        """Which model this is and where it runs."""
        return self._card

    @property
    def rows(self) -> int:
        """The most lines that can be in rows at once."""
        return self._rows

    @property
    def group_size(self) -> GroupSize:
        """How many lines are best read together: as many as there are rows."""
        return GroupSize(least=1, most=self._rows)

    @property
    def ahead(self) -> None:
        """None: a line is read as it is admitted."""
        return None

    @property
    def max_aspect_ratio(self) -> float:
        """The width over height of the widest line that is not squeezed."""
        return _MOST_WIDTH / _HEIGHT

    def admit(self, lines: Mapping[str, LineRequest]) -> None:
        """Read the lines, each at its own width, so that no line changes another's text."""
        try:
            recognitions = list(self._pool.map(self._recognize, lines.values()))
        except MemoryError as error:
            raise RecognizerOutOfMemory(str(error)) from error
        self._read.update(zip(lines, recognitions, strict=True))

    def step(self) -> Mapping[str, Recognition]:
        """Deliver what was read."""
        ended, self._read = self._read, {}
        return ended

    def settled(self, keys: Collection[str]) -> Mapping[str, str]:
        """Nothing: a line is read at once."""
        del keys
        return {}

    def drop(self, keys: Collection[str]) -> None:
        """Forget what was read in these lines."""
        for key in keys:
            self._read.pop(key, None)

    def _recognize(self, request: LineRequest) -> Recognition:
        (probabilities,) = self._session.run(None, {"x": _preprocessed(request.pixels)[None]})
        tokens, logprobs, columns = _collapsed(probabilities[0])
        truncated = request.max_new_tokens is not None and len(tokens) > request.max_new_tokens
        tokens, logprobs = tokens[: request.max_new_tokens], logprobs[: request.max_new_tokens]
        text = "".join(self._characters[token] for token in tokens)
        confidence = confidence_of(logprobs)
        ends = range(1, len(tokens) + 1)
        pieces = None
        if request.top_logprobs is not None:
            places = [self._alternatives(probabilities[0][column], request.top_logprobs) for column in columns]
            pieces = pieces_of(text, ends, logprobs, places)
        return Recognition(
            text=text.strip(),
            confidence=confidence,
            words=words_of(text, ends, logprobs),
            tokens=tokens,
            token_logprobs=logprobs,
            flags=flags_of(text, confidence, least_confidence=_LEAST_CONFIDENCE, truncated=truncated),
            pieces=pieces,
        )

    def _alternatives(self, probabilities: NDArray[np.float32], count: int) -> list[Alternative]:
        """The likeliest classes of a column; the blank, which writes nothing, has no text."""
        likeliest = np.argsort(-probabilities, kind="stable")[:count]
        return [
            Alternative(text=self._characters[token], logprob=float(np.log(max(probabilities[token], _TINY))))
            for token in likeliest
        ]


def _model_path() -> Path:
    # importing rapidocr would load OpenCV and its pipeline; only the file is wanted
    spec = importlib.util.find_spec("rapidocr")
    path = Path(spec.origin).parent / "models" / _MODEL_FILE if spec and spec.origin else None
    if path is None or not path.is_file():
        raise ModelUnavailable(f"{_MODEL_FILE} is not there; it comes with the Python package rapidocr 3.10")
    return path


def _preprocessed(pixels: LinePixels) -> NDArray[np.float32]:
    """The line as (3, 48, W) float32, channels BGR, [-1, 1], with a margin of 0 at the right."""
    height, width = pixels.shape[:2]
    resized_width = min(math.ceil(_HEIGHT * width / height), _MOST_WIDTH)
    resized = Image.fromarray(pixels).resize((resized_width, _HEIGHT), Image.Resampling.BILINEAR)
    padded_width = math.ceil((resized_width + _MARGIN) / _COLUMN) * _COLUMN
    values = np.zeros((3, _HEIGHT, padded_width), np.float32)
    values[:, :, :resized_width] = np.asarray(resized)[:, :, ::-1].transpose(2, 0, 1) / np.float32(127.5) - 1
    return values


def _collapsed(probabilities: NDArray[np.float32]) -> tuple[tuple[int, ...], tuple[float, ...], tuple[int, ...]]:
    """What (T, C) probabilities hold without repeats and blanks: classes, the logarithm of each peak, its column."""
    tokens, logprobs, columns = [], [], []
    best = probabilities.max(axis=1).tolist()
    for token, run in groupby(enumerate(probabilities.argmax(axis=1).tolist()), key=lambda column: column[1]):
        if token != _BLANK:
            peak = max((column for column, _ in run), key=best.__getitem__)
            tokens.append(token)
            logprobs.append(math.log(best[peak]))
            columns.append(peak)
    return tuple(tokens), tuple(logprobs), tuple(columns)
