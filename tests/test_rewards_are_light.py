"""`import rewards` must cost nothing in somebody else's job."""

import subprocess
import sys


def test_importing_rewards_loads_no_training_library():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import rewards"], capture_output=True, text=True, check=True
    )
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "rewards" in loaded
    assert not loaded & {"torch", "transformers", "trl", "datasets", "peft", "accelerate", "numpy"}
