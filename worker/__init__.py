"""The GPU door: calls become claims, claims become batches, batches become text."""

import os
import sys

# A service that somebody hosts themselves tells nobody of its use. onnxruntime's official builds send events to their
# maker unless this is set before they are loaded; the hub's client adds to its requests who asks.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# OpenVINO tells its maker of every import through a package of its own, and does without where there is none.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
