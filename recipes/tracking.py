"""Experiment tracking that asks nothing and uploads nothing, unless the user is logged in and asks for it."""

import os
import sys
from pathlib import Path

from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from recipes.errors import InputError, did_you_mean

UNDER_OTHER_NAMES = ("azure_ml", "flyte")  # their packages are not called so: the trainer says what it misses


def check_trackers(report_to: list[str]) -> None:
    """Raises `InputError` for a tracker that is unknown or not installed, before anything is loaded.

    Args:
        report_to (`list[str]`): of a `transformers.TrainingArguments`, which has put the names in place of "all".
    """
    known, installed = [*INTEGRATION_TO_CALLBACK], get_available_reporting_integrations()
    for name in report_to:
        if name not in known:
            known_as = ", ".join(("none", "all", *known))
            raise InputError(f"Unknown --report_to {name!r}.{did_you_mean(name, known)} One of {known_as}.")
        if name not in (*installed, *UNDER_OTHER_NAMES):
            raise InputError(f"--report_to {name} needs a package: {sys.executable} -m pip install {name}")


def set_up_tracking(config, folder: Path, asked_for: bool) -> None:
    """Name the run after its folder, keep TensorBoard's and wandb's files there, and let nothing be uploaded.

    Trackio has read where its files go when TRL imported it: $TRACKIO_DIR, or else a folder of its own, for all runs.

    Args:
        config (`transformers.TrainingArguments`): its `report_to` decides; its `run_name` defaults to the folder's.
        asked_for (`bool`): the user gave `--report_to`; wandb by default stays offline in any case.
    """
    config.run_name = config.run_name or folder.name
    if "wandb" in config.report_to:
        _set_up_wandb(folder, asked_for)
    if "tensorboard" in config.report_to:
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder.resolve() / "tensorboard")
    if "trackio" in config.report_to:
        config.project = "trl-recipes" if config.project == "huggingface" else config.project
        if config.trackio_space_id is None:  # else --push_to_hub would make a Space of the metrics as well
            config.trackio_static_space_id = config.trackio_static_space_id or False


def _set_up_wandb(folder: Path, asked_for: bool) -> None:
    """Put wandb's files into `folder`; offline unless the user asked for wandb and is logged in."""
    import wandb

    os.environ["WANDB_DIR"] = str(folder.resolve())
    os.environ.setdefault("WANDB_PROJECT", "trl-recipes")
    os.environ.setdefault("WANDB_CONSOLE", "off")
    if os.environ.get("WANDB_MODE") == "disabled":
        return
    online = asked_for and os.environ.get("WANDB_MODE") != "offline" and wandb.login(prompt=False, verify=False)
    os.environ["WANDB_MODE"] = "online" if online else "offline"
    os.environ.setdefault("WANDB_SILENT", "false" if online else "true")
    where = "uploads to your account" if online else f"offline in {folder}/wandb, nothing is uploaded"
    print(f"wandb: {where}.")
