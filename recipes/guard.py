"""A reward that cannot end a run: a row on which it raises, hangs or gives no number is reported and judged None."""

import logging
import math
import signal
import threading
from collections import defaultdict
from collections.abc import Callable

from trl.trainer.utils import get_callable_name

from rewards.completions import Completion, completion_text
from rewards.sandbox import SandboxError

logger = logging.getLogger(__name__)


LEAST = 1  # second for a row by itself
NAMED = 3  # rows of a batch that are reported one by one


class GuardedReward:
    """`reward`, called as TRL calls it, with two differences.

    Rows on which it raises or hangs, and what is not finite, get None; the others are judged together, as one batch.
    And `prefill`, what the chat template has already written of the completion (`<think>`), is put in front of every
    completion.

    Raises `SandboxError` as the reward does: without a sandbox no row is judged, and a run would go on for nothing.

    Args:
        seconds (`float`): that a batch may take; then each row is tried by itself, for its share of them, or a second
            where that is more. 0: any time. Not for the library's rewards, which have deadlines of their own.
    """

    def __init__(self, reward, prefill: str = "", seconds: float = 0):
        self.reward, self.prefill = reward, prefill
        self.__name__ = get_callable_name(reward)
        module = getattr(reward, "__module__", None) or ""
        self.seconds = 0 if module.partition(".")[0] == "rewards" else seconds

    def __call__(self, prompts, completions: list[Completion], log_extra=None, **kwargs) -> list[float | None]:
        if self.prefill:
            completions = [_as_written(self.prefill + completion_text(c), c) for c in completions]
        columns = {"prompts": prompts, "completions": completions, **kwargs}
        rows = list(range(len(completions)))
        try:
            judged, extra = self._judge(columns, rows, self.seconds)
        except SandboxError:
            raise
        except Exception as error:
            if isinstance(error, TimeoutError):
                logger.warning("%s: %s for %d completions: each is tried alone.", self.__name__, error, len(rows))
            # Each row is tried by itself; what a try says to TRL's metrics is not heard.
            tried = {**columns, "log_metric": lambda name, value: None}
            share = max(self.seconds / max(len(rows), 1), min(self.seconds, LEAST))
            faults = {row: fault for row in rows if (fault := self._fault(tried, row, share))}
            self._report({row: f"raised {fault!r}" for row, fault in faults.items()}, completions)
            rows = [row for row in rows if row not in faults]
            try:
                judged, extra = self._judge(columns, rows, self.seconds) if rows else ([], {})
            except Exception as error:  # each row alone is fine, together they are not
                logger.warning("%s raised %r on a whole batch: judged None.", self.__name__, error)
                rows, judged, extra = [], [], {}
        if log_extra is not None:
            for name, values in extra.items():
                log_extra(name, _spread(values, rows, len(completions)))
        no_numbers = {row: f"gave {value}" for row, value in zip(rows, judged, strict=True) if not _is_judgement(value)}
        self._report(no_numbers, completions)
        judged = [value if _is_judgement(value) else None for value in judged]
        return _spread(judged, rows, len(completions))

    def _judge(self, columns: dict, rows: list[int], seconds: float) -> tuple[list, dict]:
        extra = defaultdict(list)
        count = len(columns["completions"])
        selected = {
            name: [values[row] for row in rows] if isinstance(values, list) and len(values) == count else values
            for name, values in columns.items()
        }
        selected["log_extra"] = lambda name, values: extra[name].extend(values)
        rewards = within(seconds, lambda: list(self.reward(**selected)))
        if len(rewards) != len(rows):
            raise ValueError(f"{len(rewards)} rewards for {len(rows)} completions")
        rewards = [None if value is None else float(value) for value in rewards]
        return rewards, {name: values for name, values in extra.items() if len(values) == len(rows)}

    def _fault(self, columns: dict, row: int, seconds: float) -> Exception | None:
        """What the reward raises on this row alone."""
        try:
            self._judge(columns, [row], seconds)
        except Exception as error:
            return error

    def _report(self, what: dict[int, str], completions: list[Completion]) -> None:
        for row in list(what)[:NAMED]:
            text = completion_text(completions[row])
            logger.warning("%s %s on row %d, judged None: %.200r", self.__name__, what[row], row, text)
        if len(what) > NAMED:
            logger.warning("%s: so for %d more of %d rows.", self.__name__, len(what) - NAMED, len(completions))


class _TooLate(BaseException):
    """Not an `Exception`, which a reward may catch."""


def within(seconds: float, call: Callable):
    """What `call()` returns; raises `TimeoutError` where it takes longer than `seconds`, of which 0 is no limit.

    It ends loops, sleep and waiting, and not a C extension that never returns. An alarm comes even where the
    interpreter is busy in C; a reward may use the alarm itself, so that a thread asks as well, half a second later.
    Outside the main thread, and on Windows, nothing is limited.
    """
    if not seconds or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        return call()
    active = True

    def late(number, frame):
        if active:
            raise _TooLate

    def ask_again():
        while not done.wait(1):  # every second: a loop may catch everything
            signal.pthread_kill(threading.main_thread().ident, signal.SIGVTALRM)

    done = threading.Event()
    second = threading.Timer(seconds + 0.5, ask_again)
    second.daemon = True
    handlers = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGVTALRM)}
    try:
        second.start()
        signal.setitimer(signal.ITIMER_REAL, seconds, 1)
        try:
            return call()
        finally:
            active = False
    except _TooLate:
        active = False
        raise TimeoutError(f"no answer within {seconds:.3g} s (--reward_timeout)") from None
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        second.cancel()
        done.set()
        second.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _is_judgement(value: float | None) -> bool:
    return value is None or math.isfinite(value)


def _as_written(text: str, completion: Completion) -> Completion:
    return text if isinstance(completion, str) else [{"role": "assistant", "content": text}]


def _spread(values: list, rows: list[int], count: int) -> list:
    """`values` at the positions `rows` of a list of `count`, None elsewhere."""
    spread = [None] * count
    for row, value in zip(rows, values, strict=True):
        spread[row] = value
    return spread
