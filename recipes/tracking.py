"""Experiment tracking that asks nothing and uploads nothing, unless the user is logged in and asks for it."""

import os
from pathlib import Path


def set_up_wandb(config, folder: Path, asked_for: bool) -> None:
    """Put wandb's files into the run's folder; offline unless the user asked for wandb and is logged in.

    Args:
        config (`transformers.TrainingArguments`): its `report_to` decides; its `run_name` defaults to the folder's.
        asked_for (`bool`): the user gave `--report_to`; an offline run by default stays offline in any case.
    """
    config.run_name = config.run_name or folder.name
    if "wandb" not in config.report_to:
        return
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
