"""The folder of a run: `runs/<name>/`, what it holds, and whether a new command may go on in it.

report.html      all of it on one page: recipes/report.py
about.json       recipe, machine, versions and rewards with their weights
config.yaml      every setting; --config runs/<name>/config.yaml repeats the run
given.yaml       the part of it that the user gave; the rest are defaults
metrics.jsonl    one line per logged step
samples/         completions with every reward: before, during and after training
samples.jsonl    of DPO and of the sampler: the scored samples
checkpoint-*/    the last two states to resume from
adapter/         the trained LoRA adapter
curve.png        accuracy, format, length and entropy over the steps
result.json      the figures, once the run has ended
_lock            held by the process that is at work here
"""

import json
import os
import re
import shutil
import time
from pathlib import Path
from zipfile import ZipFile

import yaml
from safetensors import safe_open

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None

from recipes.errors import InputError, one_line
from recipes.processes import is_first, of_first, together

FIRST_LINE = "# A run of trl-recipes. Deleted by --overwrite.\n"
# --overwrite deletes these: first what makes a run look finished or resumable, last that by which it is known as ours.
FOLDERS = ("samples", "adapter", "wandb", "tensorboard")
FILES = (
    *("before.json", "after.json", "metrics.jsonl", "samples.jsonl", "curve.png", "README.md"),
    *("about.json", "config.yaml", "given.yaml"),
)

# Of a checkpoint: where the first is, the second must be.
TOGETHER = (
    *(("optimizer.pt", "scheduler.pt"), ("scheduler.pt", "optimizer.pt")),
    ("adapter_config.json", "adapter_model.safetensors"),
)
GENERATOR = "trl-recipes report"  # by which a report is known as ours

SHARED_WITHIN = 60  # seconds until a file of one machine is seen on the others: what NFS may keep of an older look

LOCK = "_lock"  # not ".lock": the trainer uploads every file of the folder but those that begin with "_"

# Not kept: a run that is repeated must not upload, delete or log in because the first one did.
NOT_STORED = re.compile(r"overwrite|dry_run|watch|report_to|push_to_hub|hub_\w+|\w+_hub_repo")
# Kept, but a run may go on with others: they change what is shown or where, not what is learned.
NOT_COMPARED = {"run_name", "disable_tqdm", "logging_dir", "output_dir", "calibration_samples", "reward_timeout"}


class Run:
    """Opens `folder` for a run with `settings`, of which the user gave `given`.

    Raises `InputError` where the folder holds something else, unless `overwrite` may replace it. An unfinished run
    with the same settings goes on even with `overwrite`, so that the same command always means the same.

    Attributes:
        result (`dict` or `None`): what the run ended with, where it has ended already.
    """

    def __init__(self, folder: str, settings: dict, given: dict | None = None, overwrite: bool = False):
        self.folder = Path(folder)
        self.settings, self.given = stored(settings), stored(given or {})
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"--output_dir {folder} is a file: choose a folder.")
        self.replace, self.changed, self.lock = False, [], None
        self.mark = str(time.time_ns())  # of this start of the run
        if holds_files(self.folder):
            if not is_run(self.folder):
                raise InputError(f"{folder} holds files that are no run of ours: choose another --output_dir.")
            config = self.folder / "config.yaml"
            self.changed = changed(read_yaml(config) if config.exists() else {}, self.settings)
            finished = self.load("result.json") is not None
            worth_keeping = is_worth_keeping(self.folder)
            self.replace = overwrite and worth_keeping and (finished or bool(self.changed))
            if self.changed and worth_keeping and not overwrite:
                more = f" and {len(self.changed) - 4} more" if len(self.changed) > 4 else ""
                raise InputError(
                    f"{folder} holds a run with other settings ({', '.join(self.changed[:4])}{more}): "
                    "give this one its own --output_dir, or replace the old one with --overwrite."
                )
        self.result = None if self.replace else self.load("result.json")

    def begin(self) -> None:
        """Create the folder, in place of an old run if that is asked for; from here on the run can be resumed.

        Raises `InputError` where another run is at work in it. Of several processes of this one only the first does it.
        """
        if not is_first():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.lock = lock(self.folder)  # for as long as this process lives
            self.lock.truncate(0)
            self.lock.write(self.mark)
            self.lock.flush()
            if self.replace:
                delete_run(self.folder)
            elif self.changed:  # a run that never took a step leaves at most an evaluation behind
                (self.folder / "before.json").unlink(missing_ok=True)
            write_atomically(self.folder / "given.yaml", FIRST_LINE + yaml.safe_dump(self.given))
            write_atomically(self.folder / "config.yaml", yaml.safe_dump(self.settings))
            (self.folder / "samples").mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"--output_dir {self.folder} cannot be written: {error.strerror}.") from error

    def check_shared(self) -> None:
        """Raises `InputError`, in all of them, where a process of another machine does not see what the first wrote."""
        end, mark, file = time.monotonic() + SHARED_WITHIN, of_first(self.mark), self.folder / LOCK
        while not (seen := file.exists() and file.read_text() == mark) and time.monotonic() < end:
            time.sleep(1)
        if not all(together([seen])):
            raise InputError(
                f"{self.folder.absolute()} is not the same folder on all machines: give --output_dir a folder of a "
                "file system that they share."
            )

    def finish(self, **result) -> None:
        """Write result.json, by which a run is known to have ended."""
        self.result = result
        self.save("result.json", result)

    def load(self, name: str):
        """The content of a JSON file of the run, `None` where there is none."""
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def save(self, name: str, content) -> None:
        if is_first():
            write_atomically(self.folder / name, json.dumps(content, indent=2) + "\n")

    def save_samples(self, name: str, samples: list[dict]) -> None:
        if not is_first():
            return
        lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples]
        write_atomically(self.folder / "samples" / f"{name}.jsonl", "".join(lines))

    def load_samples(self, name: str) -> list[dict]:
        path = self.folder / "samples" / f"{name}.jsonl"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [json.loads(line) for line in text.split("\n") if line]

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that is whole; a broken one is deleted, and that is said."""
        for checkpoint in checkpoints(self.folder):
            broken = broken_file(checkpoint)
            if not broken:
                return checkpoint
            print(f"{checkpoint} is not whole ({broken}): it is deleted.", flush=True)
            shutil.rmtree(checkpoint)
            if not checkpoints(self.folder):
                print("There is none before it: training begins anew.", flush=True)
        return None


def lock(folder: Path):
    """The open lock file of `folder`: until it is closed, no other process gets it; raises `InputError` where one has.

    A POSIX lock, not `flock`: a forked child does not inherit it, and so cannot hold it when this process was killed.
    """
    file = (folder / LOCK).open("a")
    try:
        if fcntl:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        file.close()
        raise InputError(f"Another process is at work in {folder}: wait for it, or end it.") from error
    except OSError:  # a file system without locks
        pass
    return file


def checkpoints(folder: Path) -> list[Path]:
    """The newest first."""
    found = [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: -int(path.name.removeprefix("checkpoint-")))


def broken_file(checkpoint: Path) -> str | None:
    """The name of the file that is missing or damaged in a checkpoint; `None` where all is well."""
    try:
        file = checkpoint / "trainer_state.json"  # the trainer writes it last
        json.loads(file.read_text(encoding="utf-8"))
        for one, other in TOGETHER:
            if (checkpoint / one).exists() and not (checkpoint / other).exists():
                return other
        for file in checkpoint.rglob("*.json"):
            json.loads(file.read_text(encoding="utf-8"))
        for file in checkpoint.rglob("*.safetensors"):
            safe_open(file, "np").keys()  # the sizes in its head are those of the file
        for file in (*checkpoint.rglob("*.pt"), *checkpoint.rglob("*.pth")):
            with ZipFile(file) as archive:
                if archive.testzip():
                    return file.name
    except Exception:  # zipfile raises many kinds
        return file.name
    return None


def delete_run(folder: Path) -> None:
    """Delete what a run wrote into `folder`, and no other file; nothing where no run has begun."""
    if not is_run(folder):
        return
    (folder / "result.json").unlink(missing_ok=True)
    for written in (*checkpoints(folder), *(folder / name for name in FOLDERS)):
        if written.is_dir():
            shutil.rmtree(written)
    delete_rounds(folder)
    if is_report(folder / "report.html"):
        (folder / "report.html").unlink()
    if (folder / "merged" / "merge.json").exists():
        shutil.rmtree(folder / "merged")
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


def delete_rounds(folder: Path) -> None:
    """Delete the runs of iterative DPO in `folder`, and the settings that each was given."""
    for earlier in folder.glob("round_*"):
        if is_run(earlier):
            with lock(earlier):
                earlier.with_name(earlier.name + ".yaml").unlink(missing_ok=True)
                delete_run(earlier)


def is_report(path: Path) -> bool:
    """Whether the file is a page that recipes/report.py wrote."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        return f'content="{GENERATOR}"' in file.read(1000)


def holds_files(folder: Path) -> bool:
    """Whether `folder` is one and holds anything but a lock."""
    return folder.is_dir() and any(path.name != LOCK for path in folder.iterdir())


def is_worth_keeping(folder: Path) -> bool:
    """Whether the run in `folder` has ended, or has something of training, sampling or an evaluation to go on from."""
    begun = ("result.json", "metrics.jsonl", "samples.jsonl", "samples/1.jsonl")
    return any((folder / name).exists() for name in begun)


def is_run(folder: Path) -> bool:
    """Whether a run of ours has begun in `folder`."""
    given = folder / "given.yaml"
    return given.is_file() and given.read_text(encoding="utf-8", errors="replace").startswith(FIRST_LINE)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file; raises `InputError` where it holds anything else."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"The config file {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The config file {path} is not YAML: {one_line(error)}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The config file {path} must hold `name: value` lines, one setting on each.")
    return content


def stored(settings: dict) -> dict:
    """Settings as a run keeps them."""
    return {key: value for key, value in plain(settings).items() if not NOT_STORED.fullmatch(key)}


def plain(settings: dict) -> dict:
    """Settings as YAML and JSON know them."""
    return json.loads(json.dumps(settings, default=str))


def write_atomically(path: Path, text: str) -> None:
    """A crash leaves the old file or the new one, never half of one."""
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8", errors="replace")
    os.replace(draft, path)


def changed(old: dict, new: dict) -> list[str]:
    """What differs, as "name old -> new". The same batch in smaller passes is no difference."""
    passes = ("per_device_train_batch_size", "gradient_accumulation_steps")
    same_batch = all(name in old and name in new for name in passes) and (
        old[passes[0]] * old[passes[1]] == new[passes[0]] * new[passes[1]]
    )
    ignored = NOT_COMPARED | (set(passes) if same_batch else set())
    keys = sorted((old.keys() | new.keys()) - ignored)
    return [f"{key} {old.get(key)} -> {new.get(key)}" for key in keys if old.get(key) != new.get(key)]
