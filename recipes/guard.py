"""A reward that cannot end a run: the row on which it raises is reported and judged None."""

import logging
from collections import defaultdict

from trl.trainer.utils import get_callable_name

from rewards.completions import Completion, completion_text
from rewards.sandbox import SandboxError

logger = logging.getLogger(__name__)


class GuardedReward:
    """`reward`, called as TRL calls it, with two differences.

    Rows on which it raises get None; the others are judged together, as one batch. And `prefill`, what the chat
    template has already written of the completion (`<think>`), is put in front of every completion.

    Raises `SandboxError` as the reward does: without a sandbox no row is judged, and a run would go on for nothing.
    """

    def __init__(self, reward, prefill: str = ""):
        self.reward, self.prefill = reward, prefill
        self.__name__ = get_callable_name(reward)

    def __call__(self, prompts, completions: list[Completion], log_extra=None, **kwargs) -> list[float | None]:
        if self.prefill:
            completions = [_as_written(self.prefill + completion_text(c), c) for c in completions]
        columns = {"prompts": prompts, "completions": completions, **kwargs}
        rows = list(range(len(completions)))
        try:
            judged, extra = self._judge(columns, rows)
        except SandboxError:
            raise
        except Exception:
            # Each row is tried by itself; what a try says to TRL's metrics is not heard.
            rows = [row for row in rows if self._can_judge({**columns, "log_metric": lambda name, value: None}, row)]
            try:
                judged, extra = self._judge(columns, rows) if rows else ([], {})
            except Exception as error:  # each row alone is fine, together they are not
                logger.warning("%s raised %r on a whole batch: judged None.", self.__name__, error)
                rows, judged, extra = [], [], {}
        if log_extra is not None:
            for name, values in extra.items():
                log_extra(name, _spread(values, rows, len(completions)))
        return _spread(judged, rows, len(completions))

    def _judge(self, columns: dict, rows: list[int]) -> tuple[list, dict]:
        extra = defaultdict(list)
        count = len(columns["completions"])
        selected = {
            name: [values[row] for row in rows] if isinstance(values, list) and len(values) == count else values
            for name, values in columns.items()
        }
        rewards = list(self.reward(**selected, log_extra=lambda name, values: extra[name].extend(values)))
        if len(rewards) != len(rows):
            raise ValueError(f"{len(rewards)} rewards for {len(rows)} completions")
        return rewards, {name: values for name, values in extra.items() if len(values) == len(rows)}

    def _can_judge(self, columns: dict, row: int) -> bool:
        try:
            self._judge(columns, [row])
            return True
        except Exception as error:
            completion = completion_text(columns["completions"][row])
            logger.warning("%s raised %r on row %d, judged None: %.200r", self.__name__, error, row, completion)
            return False


def _as_written(text: str, completion: Completion) -> Completion:
    return text if isinstance(completion, str) else [{"role": "assistant", "content": text}]


def _spread(values: list, rows: list[int], count: int) -> list:
    """`values` at the positions `rows` of a list of `count`, None elsewhere."""
    spread = [None] * count
    for row, value in zip(rows, values, strict=True):
        spread[row] = value
    return spread
