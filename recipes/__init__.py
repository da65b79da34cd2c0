"""Short recipe scripts over TRL: one file per trainer, any trainer on any task."""

import logging
import warnings

# What the libraries tell each other's developers; nobody who runs a recipe can act on it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|trl")
