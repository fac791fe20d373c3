from __future__ import annotations

import os
import subprocess
import sys


def test_the_runtime_of_a_model_tells_nobody_of_its_use() -> None:
    # Where it would tell, it says at its start that it has no folder here to keep its identifier in.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": ".", "HOME": "/proc"}
    command = [sys.executable, "-c", "import worker, onnxruntime"]
    started = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (started.returncode, started.stderr) == (0, "")


def test_openvino_is_kept_from_the_package_through_which_it_tells() -> None:
    program = "import worker, openvino, sys; print(sys.modules['openvino_telemetry'])"
    started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == "None"
