"""One run by several processes, one on each GPU: who speaks and writes, who waits, and what each of them does.

    make grpo-gsm8k LAUNCH="--num_processes 2"

The launcher (recipes/launch.py) starts them all with the same command, and tells each its place in RANK.
"""

import os
import sys


def count() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def place() -> int:
    """0 for the first, which speaks and writes."""
    return int(os.environ.get("RANK", 0))


def is_first() -> bool:
    return place() == 0


def by_deepspeed() -> bool:
    return os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true"


def shard() -> bool:
    """Whether each holds a part of the weights: FSDP, or DeepSpeed's ZeRO-3."""
    zero = by_deepspeed() and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
    return os.environ.get("ACCELERATE_USE_FSDP") == "true" or zero == "3"


def be_silent_unless_first() -> None:
    """What all of them would say is said once; errors are said by whoever has them."""
    if not is_first():
        sys.stdout = open(os.devnull, "w")


def meet(on_cpu: bool) -> None:
    """Let the processes find each other, before a trainer does it."""
    from accelerate import PartialState

    PartialState(cpu=on_cpu)


def wait_for_all() -> None:
    if count() > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def of_first(value):
    """The first one's `value`, in every process."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0] if count() > 1 else value


def mine(rows: int) -> list[int]:
    """This one's of so many rows: every n-th, so that the parts are as alike as the rows."""
    return list(range(rows))[place() :: count()]


def together(part: list) -> list:
    """What is made of the rows of `mine`, of all processes and in the order of the rows; in every process."""
    from accelerate.utils import gather_object

    if count() == 1:
        return part
    parts = gather_object([part])
    whole = [None] * sum(map(len, parts))
    for start, one in enumerate(parts):
        whole[start :: count()] = one
    return whole
