"""What every recipe does before its trainer exists and after it has trained."""

import functools
import hashlib
import json
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version

import yaml
from peft import PeftConfig, PeftModel
from trl import get_peft_config

from recipes import hardware
from recipes.arguments import RecipeArguments, RecipeParser
from recipes.errors import InputError, is_disk_full
from recipes.held_out import HeldOut
from recipes.interrupt import save_on_interrupt, stop_on_sigterm
from recipes.models import SCORE_HEAD, find_model, load_model
from recipes.preflight import Checked, guarded, preflight
from recipes.processes import count, is_first, of_first, wait_for_all
from recipes.qlora import QLoRA, adapter_weights, correct_qlora
from recipes.record import mean_at_the_end, record
from recipes.report import has_report, plot_curve, print_result, report_line
from recipes.resume import train_from
from recipes.run import Run, is_worth_keeping
from recipes.samples import is_samples
from recipes.tasks import Task
from recipes.tasks.loading import load_preferences
from recipes.tracking import check_trackers, set_up_tracking
from recipes.vllm import keep_base

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")  # whose versions a report names


@dataclass
class Job:
    """One run of one recipe: what was asked for, and what the preflight found fit for use."""

    task: Task
    args: RecipeArguments
    config: object  # the trainer's
    model_args: QLoRA
    parser: RecipeParser
    run: Run
    checked: Checked | None = None
    start: dict | None = None  # the weights of the adapter that training goes on from
    more: object = None  # what the recipe has checked itself

    @functools.cached_property
    def fingerprint(self) -> str | None:
        """What tells the rows that are trained and evaluated on from others; `None` where no model is asked."""
        if self.checked.train is None:
            return None
        sets = [self.checked.train, self.checked.held_out]
        if getattr(self.args, "preferences", None) and not self.args.samples:  # both are refused later
            sets.append(load_preferences(self.args.preferences))
        found = hashlib.sha256()
        for rows in sets:
            for name in rows.column_names:
                found.update(json.dumps([name, rows[name][:]], default=str).encode())
        for sample in self.checked.samples or ():
            found.update(json.dumps([sample["question"], sample["completions"], sample["rewards"]]).encode())
        return found.hexdigest()

    def load_model(self, scores: bool = False) -> tuple[object, PeftConfig | None]:
        """The model to train, and the LoRA to add to it: None where the model is an adapter that goes on.

        With `scores` it is a reward model: its head, which is new, is trained as a whole.
        """
        name, lora = self.model_args.model_name_or_path, self.model_args
        model = load_model(name, self.config, self.model_args, trainable=True, scores=scores)
        self.start = adapter_weights(model)
        self.config.model_init_kwargs = None  # used up
        if scores:
            lora = replace(lora, lora_task_type="SEQ_CLS", lora_modules_to_save=[SCORE_HEAD])
        return model, None if isinstance(model, PeftModel) else get_peft_config(lora)


def begin(
    name: str,
    config_class: type,
    doc: str,
    argv: list[str] | None,
    *,
    arguments=RecipeArguments,
    doing="Training",
    show=print_result,
    check_more: Callable[[Job], object] = lambda job: None,
) -> Job | None:
    """Read the command line, check everything, open the run's folder; None where nothing is left to do.

    `check_more` checks what else a recipe needs before anything in the folder is replaced; what it returns is job.more.
    """
    parser = RecipeParser(name, config_class, QLoRA, doc, arguments)
    task, args, config, model_args = parser.parse(argv, hardware.detect())
    if not needs_model(args):
        print(f"{doing} by the rewards of {args.task}; no model is loaded.")
    else:
        print(hardware.first_line(parser.machine, args.task, parser.asked_task, model_args.model_name_or_path, doing))
    run = Run(config.output_dir, parser.settings, parser.given, args.overwrite)
    if run.result and not args.dry_run:
        show(run)
        done = {"Training": "trained", "Sampling": "sampled", "Evaluating": "evaluated"}[doing]
        print(f"{run.folder} is finished, nothing was {done}. --overwrite does it anew, --output_dir elsewhere.")
        if is_first() and not has_report(run.folder):  # it was ended between its result and its report
            if (run.folder / "metrics.jsonl").exists():
                plot_curve(run, task)
            print(report_line(run.folder))
        return None
    if needs_model(args):
        print(hardware.chosen(parser.settings), flush=True)
    hardware.limit_threads(model_args.model_name_or_path)

    if args.curriculum:  # in the order of the rows
        config.train_sampling_strategy, config.shuffle_dataset = "sequential", False
    job = Job(task, args, config, model_args, parser, run)
    if doing == "Training":
        check_adapter_settings(model_args, parser.given, parser.trainer)
    check_trackers(getattr(config, "report_to", []))
    job.checked = check(job, model_args)
    job.more = check_more(job)
    refuse_other_data(job)
    if args.dry_run:
        print(yaml.safe_dump(run.settings), "Dry run: nothing was trained.", sep="\n")
        return None
    run.begin()
    stop_on_sigterm()
    run.save("about.json", about(job))
    wait_for_all()  # until there is a folder
    run.check_shared()
    if hasattr(config, "report_to") and getattr(args, "rounds", 1) == 1:  # each round is a run of its own
        set_up_tracking(config, run.folder, asked_for="report_to" in parser.given)
    return job


def check(job: Job, model_args: QLoRA) -> Checked:
    """The preflight, with another model than the job's where that is asked for."""
    if not needs_model(job.args):
        return Checked(None, None, None, guarded(job.task, seconds=job.args.reward_timeout), None)
    samples_are_data = job.parser.trainer in ("dpo", "sft", "rm")
    return preflight(job.args, job.config, model_args, job.task, job.parser.machine, samples_are_data)


def needs_model(args) -> bool:
    """Not where completions that were made elsewhere are scored, or samples that exist are evaluated."""
    models = getattr(args, "models", None)
    return not getattr(args, "completions", None) and not (models and all(map(is_samples, models)))


def check_adapter_settings(model_args: QLoRA, given: dict, trainer: str) -> None:
    """An adapter goes on as it was made: what asks for another has no effect, and that is said."""
    adapter = find_model(model_args.model_name_or_path).adapter
    if not adapter:
        return
    if trainer == "rm":
        raise InputError(f"A reward model begins from whole weights: `make merge` the adapter {adapter} first.")
    if not model_args.use_peft:
        raise InputError(f"{adapter} is an adapter: keep --use_peft, or make a whole model of it by `make merge`.")
    made = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    own = {"lora_r": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}
    ignored = [f"--{name} {given[name]}" for name, key in own.items() if name in given and given[name] != made.get(key)]
    if ignored:
        print(f"warning: {' '.join(ignored)} has no effect: {adapter} goes on with the LoRA that it has.")


def refuse_other_data(job: Job) -> None:
    """A run that goes on does so with the rows that it was begun with: raises `InputError` where those have changed."""
    run = job.run
    begun = of_first(run.load("about.json") if is_first() else None)
    goes_on = begun is not None and not run.replace and of_first(is_worth_keeping(run.folder))
    if not goes_on or begun.get("data") in (None, job.fingerprint):  # None: of an older version
        return
    if not job.args.overwrite:
        raise InputError(
            f"{run.folder} holds a run with other rows than {source_of(job.args)} has now: put "
            "them back, give this one its own --output_dir, or replace the old one with --overwrite."
        )
    run.replace, run.result = True, None


def source_of(args) -> str:
    return getattr(args, "preferences", None) or args.dataset_name or "the data set"


def about(job: Job) -> dict:
    """What a report says of a run besides its settings and figures."""
    weights = getattr(job.config, "reward_weights", None) or job.task.reward_weights
    return {
        "recipe": job.parser.trainer,
        "task": job.args.task,
        "machine": str(job.parser.machine),
        "processes": count(),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "rewards": dict(zip(job.task.reward_names, weights, strict=True)),
        "correctness": job.task.correctness.__name__,
        "format": job.task.format.__name__,
        "data": job.fingerprint,
    }


def train(
    job: Job,
    trainer,
    metrics: tuple[str, ...] = (),
    solves: bool = True,
    measure_after: Callable[[], dict] = dict,
    **figures,
) -> None:
    """Evaluate, train, evaluate, save: from the last checkpoint, if the run has one.

    Args:
        metrics: logged figures whose mean over the last five steps goes into result.json.
        solves: the model writes completions, so that it can be asked to solve the held-out problems.
        measure_after: more of what goes there, measured once training has ended.
        figures: more of what goes there.
    """
    run, args = job.run, job.args
    correct_qlora(trainer.model, job.start)
    if getattr(trainer, "use_vllm", False):
        keep_base(trainer.model)
    held_out = HeldOut(run, trainer, job.config, job.checked, job.task, args.eval_temperature, args.calibration_samples)
    recorder = record(run, trainer, job.parser.trainer, args.watch)
    interrupt = save_on_interrupt(trainer)
    if solves:
        trainer.add_callback(held_out.follow())

    before = held_out.evaluate_once("before") if solves else None
    with recorder:  # whatever ends training, the terminal is left in order
        checkpoint = of_first(run.last_checkpoint() if is_first() else None)
        try:
            with interrupt.saved_by():
                train_from(trainer, checkpoint)
        except Exception as error:
            if is_disk_full(error) and is_first():
                run.last_checkpoint()  # deletes the one that was cut off, and makes room by it
            raise
    step, of = trainer.state.global_step, trainer.state.max_steps
    if interrupt.stopped and (step < of or interrupt.stopped == signal.SIGTERM):
        saved = f"Saved step {step}" if step else "Nothing to save at step 0"
        print(f"{saved} of {of}: the same command goes on from there.", flush=True)
        if is_first():
            print(report_line(run.folder))
        wait_for_all()  # where one is gone, what started it may end the others, and one is still saving
        sys.exit(0 if interrupt.stopped == signal.SIGTERM else 130)
    after = held_out.evaluate_once("after") if solves else None
    figures |= measure_after()

    trainer.save_model(str(run.folder / "adapter"))
    run.finish(
        task=job.args.task,
        trainer=job.parser.trainer,
        model=job.model_args.model_name_or_path,
        seed=job.config.seed,
        steps=step,
        minutes=round(recorder.minutes, 2),
        peak_memory_gb=round(hardware.peak_memory_gb(job.parser.machine), 2),
        before=before,
        after=after,
        **{key: mean_at_the_end(run, key) for key in metrics},
        **figures,
    )
    if is_first():
        plot_curve(run, job.task)
        print_result(run)
        print(
            f"{run.result['minutes']} minutes, peak {run.result['peak_memory_gb']} GB; everything is in {run.folder}/"
        )
        print(report_line(run.folder))
    wait_for_all()  # the first one has more to do
    trainer.accelerator.end_training()
