"""Reach the hub once, quickly: without a connection every later call answers at once, from the cache or with no."""

import functools
import os


def is_local_path(name: str) -> bool:
    """Whether `name` is written as a path rather than as a hub id (`owner/name`)."""
    return (
        name.startswith((".", "/", "~", "runs/"))
        or name.count("/") > 1
        or name.endswith((".jsonl", ".json"))
        or "\\" in name
    )


@functools.cache
def go_offline_if_unreachable() -> None:
    """Spare the user the hub client's half minute of retries when there is no connection."""
    import datasets.config
    import huggingface_hub

    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return
    try:
        huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=5)
    except Exception:
        os.environ["HF_HUB_OFFLINE"] = "1"  # for processes started from here
        huggingface_hub.constants.HF_HUB_OFFLINE = True
        datasets.config.HF_HUB_OFFLINE = True
