"""From the name of a model, as operators and jobs write it, to a recognizer that is ready to read."""

from __future__ import annotations

from core.settings import Settings
from worker.recognizer import ModelUnavailable, Recognizer

__all__ = ["ModelUnavailable", "load_recognizer"]


def load_recognizer(name: str, settings: Settings) -> Recognizer:
    """Load a model.

    Args:
        name: `ppocr-v6`; the name of a folder in `settings.model_dir`; the path of a folder; or the id of a repository
            on the Hugging Face hub, at a revision where `@revision` follows it.
        settings: Where bundled models lie; on which device, in which dtype and in how many rows TrOCR models run.

    Raises:
        ModelUnavailable: There is no such model, it cannot be fetched, or it is not one that can be read with.
    """
    if name == "ppocr-v6":
        from worker.ppocr import PpocrRecognizer

        return PpocrRecognizer()
    raise ModelUnavailable(f"no model {name} in {settings.model_dir}")
