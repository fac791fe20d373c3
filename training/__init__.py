"""How a TrOCR-family model is trained or fine-tuned; the bundled one was made by it."""

import os

# As in the worker: the hub's client adds to its requests who asks, unless it is told otherwise before it is loaded.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
