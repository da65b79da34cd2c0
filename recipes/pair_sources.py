"""Where the pairs of DPO and of a reward model come from: samples written now or before, or a preference set."""

from dataclasses import dataclass

from datasets import Dataset

from recipes.arguments import RecipeArguments, flag
from recipes.errors import InputError, path_of
from recipes.generation import with_transformers
from recipes.job import Job
from recipes.pairs import MIN_MARGIN, preference_pairs
from recipes.preflight import held_out_texts
from recipes.processes import count, is_first, mine, of_first, place, shard, wait_for_all
from recipes.run import write_atomically
from recipes.sample import sample_to_file
from recipes.samples import read_samples, totals
from recipes.scoring import whole_lines
from recipes.tasks.loading import load_preferences

WEIGHED_BY = {"reward_weights", "extra_rewards", "measure_only", "reward_model"}  # flags


@dataclass
class PairArguments(RecipeArguments):
    """Where the pairs come from."""

    preferences: str | None = flag(None, "A preference set with `prompt`, `chosen`, `rejected`: hub id, folder, JSONL.")
    sample_prompts: int = flag(1000, "Train prompts to sample, where neither --samples nor --preferences is given.")
    pairs_per_prompt: int = flag(1, "The best with the worst, the second best with the second worst, and so on.")
    min_margin: float = flag(MIN_MARGIN, "Least difference of the two totals; 1.0 against 0.2 passes.")
    balance_length: bool = flag(False, "Pair completions of similar length, since length is learned as well.")


def given_pairs(job: Job) -> tuple[Dataset | None, dict]:
    """The pairs of --preferences or --samples, before a weight is loaded; None where the model has to write them."""
    if job.args.preferences and job.args.samples:
        raise InputError("--preferences and --samples are two sources of pairs: give one of them.")
    if job.args.preferences:
        rows = load_preferences(job.args.preferences)
        kept_out = held_out_texts(job.task, job.checked.held_out)
        kept = [i for i, row in enumerate(rows) if asked(row) not in kept_out]
        if len(kept) < len(rows):
            print(f"{len(rows) - len(kept)} of {len(rows)} pairs are of held-out problems: they are left out.")
        if not kept:
            raise InputError(f"{job.args.preferences} has no pair to train on: all are of held-out problems.")
        return rows.select(kept), {"pairs": len(kept), "held_out": len(rows) - len(kept)}
    samples = job.checked.samples
    if not samples and shard():
        raise InputError(
            "FSDP and ZeRO-3 share the weights out, and sampling needs them whole: write samples without a launcher, "
            f"by `make sample-{job.args.task}`, and give them by --samples."
        )
    if samples and job.parser.given.keys() & WEIGHED_BY:  # in place of those that the samples were weighed by
        weigh(samples, dict(zip(job.task.reward_names, job.config.reward_weights, strict=True)), job.args.samples)
    return pairs(job, samples) if samples else (None, {})


def weigh(samples: list[dict], weights: dict[str, float], source: str) -> None:
    """Give every row the `total` by `weights`; raises `InputError` where the samples lack a reward that has one."""
    file = f"{source}/samples.jsonl" if path_of(source).is_dir() else source
    for row in samples:
        missing = [name for name, weight in weights.items() if weight and name not in row["rewards"]]
        if missing:
            raise InputError(
                f"{file} has no rewards of {missing[0]}, which is to be trained on: "
                f"`python -m recipes.sample --completions {file}` with the same flags scores it."
            )
        unknown = [None] * len(row["completions"])
        row["total"] = totals([row["rewards"].get(name, unknown) for name in weights], weights.values())


def sampled(job: Job, model, rows: Dataset, name: str = "samples.jsonl") -> list[dict]:
    """`num_generations` scored completions of each of `rows`, kept in the run's file `name`."""
    file, config = job.run.folder / name, job.config
    generate = with_transformers(model, job.checked.tokenizer, config, config.temperature)
    if count() == 1:
        sample_to_file(file, generate, rows, job)
    elif of_first(whole_lines(file) if is_first() else None) < len(rows):  # each its own, then all
        parts = [file.with_name(f"{file.stem}.{number}_of_{count()}.jsonl") for number in range(1, count() + 1)]
        sample_to_file(parts[place()], generate, rows.select(mine(len(rows))), job)
        wait_for_all()
        if is_first():
            write_atomically(file, "".join(part.read_text(encoding="utf-8") for part in parts))
            for part in parts:
                part.unlink()
        wait_for_all()
    return read_samples(file, job.args.task)


def own_pairs(job: Job, model) -> tuple[Dataset, dict]:
    """The pairs that `model` writes now, on `sample_prompts` train prompts."""
    rows = job.checked.train
    return pairs(job, sampled(job, model, rows.select(range(min(len(rows), job.args.sample_prompts)))))


def pairs(job: Job, samples: list[dict], what: str = "pairs") -> tuple[Dataset, dict]:
    """Prompt, chosen and rejected, and how they were found."""
    args = job.args
    rows, counts = preference_pairs(
        samples,
        job.task,
        pairs_per_prompt=args.pairs_per_prompt,
        min_margin=args.min_margin,
        balance_length=args.balance_length,
        seed=job.config.seed,
    )
    told = {name: f"{n:.1f}" if isinstance(n, float) else n for name, n in counts.items()}
    print(f"{what}: " + ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in told.items()))
    return Dataset.from_list(rows), counts


def asked(row: dict) -> str:
    """What a pair asks: its last question."""
    prompt = row.get("prompt") or row["chosen"]
    if not isinstance(prompt, str):
        prompt = next((message["content"] for message in reversed(prompt) if message["role"] == "user"), "")
    return prompt.strip()
