"""From the name of a model, as operators and jobs write it, to a recognizer that is ready to read."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from core.settings import Settings
from worker.recognizer import LineRequest, ModelUnavailable, Recognizer, RecognizerOutOfMemory

__all__ = ["ModelUnavailable", "load_recognizer"]


def load_recognizer(name: str, settings: Settings) -> Recognizer:
    """Load a model and read a blank picture with it, so that the first line finds it warm.

    Args:
        name: `ppocr-v6`; the name of a folder in `settings.model_dir`; the path of a folder; or the id of a repository
            on the Hugging Face hub, at a revision where `@revision` follows it.
        settings: Where bundled models lie; on which device, in which dtype and in how many rows TrOCR models run.

    Raises:
        ModelUnavailable: There is no such model, it cannot be fetched, it is not one that can be read with, or there is
            not enough memory for it.
    """
    recognizer = _loaded(name, settings)
    try:
        recognizer.admit({name: LineRequest(pixels=np.full((48, 480, 3), 255, np.uint8), max_new_tokens=2)})
        while not recognizer.step():
            pass
    except RecognizerOutOfMemory as error:
        raise ModelUnavailable(
            f"{recognizer.card.device} has not enough memory to read with {name}: {error}"
        ) from error
    return recognizer


def _loaded(name: str, settings: Settings) -> Recognizer:
    # Imported here: a worker that serves only PP-OCR then needs no torch, which is large on disk and takes seconds to
    # start, and one that serves only TrOCR needs no onnxruntime.
    if name == "ppocr-v6":
        from worker.ppocr import PpocrRecognizer

        return PpocrRecognizer()
    # PyTorch's threads wait in a loop for each other, and where other processes want the cores, as here they do, that
    # costs more than the work: 20 to 300 ms a step instead of 3, on 2 cores beside one busy process. OpenMP reads the
    # wish when PyTorch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from worker.trocr import load_trocr

    return load_trocr(
        _source(name, settings),
        name=name,
        device=settings.device,
        dtype=settings.dtype,
        rows=settings.rows,
    )


def _source(name: str, settings: Settings) -> Path | str:
    """The folder that is meant, or the name itself: then it is a hub repository's."""
    for folder in (settings.model_dir / name, Path(name).expanduser()):
        if folder.is_dir():
            return folder
    if name.startswith((".", "/", "~")):
        raise ModelUnavailable(f"there is no folder {name}")
    if "/" not in name:
        raise ModelUnavailable(f"no model {name} in {settings.model_dir}; an id on the hub has the form owner/name")
    return name
