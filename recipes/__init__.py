"""Short recipe scripts over TRL: one file per trainer, any trainer on any task."""

import logging
import os
import sys
import warnings

# One process trains on one GPU; several are the launcher's business. Before any import that starts CUDA.
if "WORLD_SIZE" not in os.environ:
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")

if os.environ.get("RANK", "0") != "0":
    os.environ.setdefault("TQDM_DISABLE", "1")  # one bar for all


def _stopped(kind, error, traceback):
    if issubclass(kind, KeyboardInterrupt):  # while the libraries are imported, which takes seconds
        print("\nStopped.", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


if sys.argv[0] == "-m":  # a recipe is about to run
    sys.excepthook = _stopped

# What the libraries tell each other's developers; nobody who runs a recipe can act on it.
for name in ("bitsandbytes.backends.cpu.ops", "huggingface_hub.repocard"):
    logging.getLogger(name).setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl")
