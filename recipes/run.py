"""The folder of a run: `runs/<name>/`, what it holds, and whether a new command may go on in it.

config.yaml      every setting; --config runs/<name>/config.yaml repeats the run
metrics.jsonl    one line per logged step
samples/         completions with every reward: before, during and after training
checkpoint-*/    the last two states to resume from
adapter/         the trained LoRA adapter
curve.png        accuracy, format, length and entropy over the steps
result.json      the figures, once the run has ended
"""

import json
import os
import shutil
from pathlib import Path

import yaml

from recipes.errors import InputError

# These change what is shown or where, not what is learned.
NOT_COMPARED = {"overwrite", "dry_run", "report_to", "run_name", "disable_tqdm", "logging_dir"}


class Run:
    """Opens `folder` for a run with `settings`; raises `InputError` where it holds something else.

    Attributes:
        result (`dict` or `None`): what the run ended with, where it has ended already.
    """

    def __init__(self, folder: str, settings: dict, overwrite: bool = False):
        self.folder = Path(folder)
        config = self.folder / "config.yaml"
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--output_dir {folder} is a file: choose a folder.")
        if self.folder.is_dir() and any(self.folder.iterdir()):
            if not config.exists():
                raise InputError(f"{folder} holds files that are no run of ours: choose another --output_dir.")
            if not overwrite:
                _check_same_settings(folder, yaml.safe_load(config.read_text()), settings)
        self.settings, self.overwrite = settings, overwrite
        self.result = None if overwrite else self.load("result.json")

    def begin(self) -> None:
        """Create the folder, in place of an old run if that is asked for; from here on the run can be resumed."""
        if self.overwrite:
            shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / "samples").mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "config.yaml", self.settings_as_yaml())

    def finish(self, **result) -> None:
        """Write result.json, by which a run is known to have ended."""
        self.result = result
        self.save("result.json", result)

    def settings_as_yaml(self) -> str:
        return yaml.safe_dump(plain(self.settings), sort_keys=True)

    def load(self, name: str):
        """The content of a JSON file of the run, `None` where there is none."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def save(self, name: str, content) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=2) + "\n")

    def save_samples(self, name: str, samples: list[dict]) -> None:
        lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples]
        write_atomically(self.folder / "samples" / f"{name}.jsonl", "".join(lines))

    def load_samples(self, name: str) -> list[dict]:
        return [json.loads(line) for line in (self.folder / "samples" / f"{name}.jsonl").open(encoding="utf-8")]

    def last_checkpoint(self) -> str | None:
        """The newest checkpoint that is whole; one that a crash cut off is deleted."""
        checkpoints = sorted(self.folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        for checkpoint in reversed(checkpoints):
            try:  # the trainer writes this file last
                json.loads((checkpoint / "trainer_state.json").read_text())
                return str(checkpoint)
            except (OSError, ValueError):
                shutil.rmtree(checkpoint)
        return None


def plain(settings: dict) -> dict:
    """Settings as YAML and JSON know them."""
    return json.loads(json.dumps(settings, default=str))


def write_atomically(path: Path, text: str) -> None:
    """A crash leaves the old file or the new one, never half of one."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def _check_same_settings(folder: str, stored: dict, settings: dict) -> None:
    settings = plain(settings)
    keys = sorted((stored.keys() | settings.keys()) - NOT_COMPARED)
    changed = [
        f"{key} {stored.get(key)} -> {settings.get(key)}" for key in keys if stored.get(key) != settings.get(key)
    ]
    if changed:
        more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
        raise InputError(
            f"{folder} holds a run with other settings ({', '.join(changed[:4])}{more}): "
            "give this one its own --output_dir, or replace the old one with --overwrite."
        )
