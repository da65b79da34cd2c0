"""Grade-school word problems, generated: two steps of +, - or x, unlimited by seed, no download.

    python -m recipes.tasks.word_problems        # print a few

Rows have GSM8K's two columns: `question`, and `answer`, a worked solution that ends in `#### <number>`.
A problem is held out when the hash of its arithmetic says so, whatever the words around it, so that no
held-out calculation is ever seen in training.
"""

import itertools
import random
import zlib
from collections.abc import Iterator

from datasets import Dataset

from recipes.errors import InputError
from recipes.tasks import Task

NAMES = "Tom Anna Ben Mia Sam Lily Omar Zoe Raj Kim".split()
ITEMS = "apples books coins cards shells stamps marbles pens eggs flowers".split()

LARGEST = 50
OPERATIONS = {"+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y}

# The two steps, the ranges of a, b and c, and the words; r is the first step's result.
TEMPLATES = [
    (
        ("a + b", "r - c"),
        ((3, 30), (2, 20), (2, 30)),
        "{name} has {a} {items}. {name} buys {b} more and gives away {c}. How many {items} does {name} have now?",
    ),
    (
        ("a - b", "r + c"),
        ((6, 40), (2, 30), (2, 20)),
        "{name} has {a} {items} and loses {b}. Then {name} finds {c} more. How many {items} does {name} have now?",
    ),
    (
        ("a + b", "r + c"),
        ((2, 20), (2, 20), (2, 20)),
        "{name} has {a} red, {b} blue and {c} green {items}. How many {items} does {name} have?",
    ),
    (
        ("a + b", "c - r"),
        ((2, 20), (2, 20), (10, 50)),
        "{name} wants {c} {items}. {name} gets {a} on Monday and {b} on Tuesday. How many {items} are missing?",
    ),
    (
        ("a * b", "r - c"),
        ((2, 9), (2, 6), (2, 30)),
        "A box holds {a} {items}. {name} fills {b} boxes and sells {c} {items}. How many {items} are left?",
    ),
    (
        ("a * b", "r + c"),
        ((2, 9), (2, 6), (2, 20)),
        "{name} buys {b} bags with {a} {items} each and finds {c} more. How many {items} does {name} have now?",
    ),
    (
        ("a * b", "c - r"),
        ((2, 9), (2, 6), (10, 50)),
        "{name} has {c} {items} and gives {a} to each of {b} friends. How many {items} are left?",
    ),
    (
        ("a * b", "r + c"),
        ((2, 9), (2, 6), (2, 20)),
        "{friend} has {a} {items}. {name} has {b} times as many and {c} more. How many {items} does {name} have?",
    ),
    (
        ("a + b", "r * c"),
        ((2, 8), (2, 8), (2, 5)),
        "There are {a} red and {b} blue {items} in each box. {name} has {c} boxes. How many {items} are there?",
    ),
    (
        ("a - b", "r * c"),
        ((5, 20), (2, 18), (2, 5)),
        "{name} has {a} {items}. {b} are broken. {name} sells the rest for {c} dollars each. How many dollars is that?",
    ),
]


def is_held_out(steps: str) -> bool:
    """Whether the calculation `steps` ("12+7=19. 19-5=14") belongs to the held-out fifth."""
    return zlib.crc32(steps.encode()) % 5 == 0


def generate(seed: int, *, held_out: bool = False) -> Iterator[dict[str, str]]:
    """Yield `{"question", "answer"}` rows for ever; the same seed gives the same rows on every machine."""
    rng = random.Random(f"{seed} {held_out}")
    while True:
        steps, ranges, words = rng.choice(TEMPLATES)
        numbers = {letter: rng.randint(*bounds) for letter, bounds in zip("abc", ranges, strict=True)}
        name, friend = rng.sample(NAMES, 2)
        worked, results = [], []
        for step in steps:
            left, operation, right = step.split()
            x, y = numbers[left], numbers[right]
            numbers["r"] = OPERATIONS[operation](x, y)
            worked.append(f"{x}{operation}{y}={numbers['r']}")
            results.append(numbers["r"])
        solution = ". ".join(worked)
        if all(0 < result <= LARGEST for result in results) and is_held_out(solution) == held_out:
            question = words.format(name=name, friend=friend, items=rng.choice(ITEMS), **numbers)
            yield {"question": question, "answer": f"{solution}\n#### {numbers['r']}"}


def load(dataset_name: str | None, dataset_config: str | None, seed: int) -> tuple[Dataset, Dataset]:
    """10,000 train rows by `seed`, and always the same 2,000 held-out rows."""
    if dataset_name is not None:
        raise InputError(f"The task word_problems makes its own rows: drop --dataset_name {dataset_name}.")
    train = itertools.islice(generate(seed), 10_000)
    held_out = itertools.islice(generate(0, held_out=True), 2_000)
    return Dataset.from_list(list(train)), Dataset.from_list(list(held_out))


task = Task(load=load)


if __name__ == "__main__":
    for row in itertools.islice(generate(0), 5):
        print(row["question"], row["answer"], sep="\n", end="\n\n")
