"""A live panel on the terminal: how far training is, its figures with their curves so far, and the last sample.

It is drawn once a second by a thread of its own; training only hands it what was logged. The cursor is never hidden, so
no way of ending a process leaves a terminal without one.
"""

import contextlib
import io
import logging
import math
import sys
import time
from collections import defaultdict
from datetime import timedelta
from statistics import fmean

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from recipes.errors import printable

A_SECOND = 1.0  # draws
WIDEST = 120  # columns
BLOCKS = "▁▂▃▄▅▆▇█"
A_MEAN_OF = 8  # values at most behind one block of a curve: long runs cost no more than short ones
COMPLETION_LINES = 3
LONGEST = 1000  # characters of a text that are looked at: combining ones fill no line


class LivePanel:
    """Shows a run on `console` from `begin` to `end`; in between, what others print appears above it.

    Args:
        console (`rich.console.Console`): of a terminal, with `file` set.
        title (`str`): what is trained.
        names (`dict[str, str]`): logged metric -> the name by which it is shown, in this order.
        rewards (`dict[str, float]`): reward -> weight; one of weight 0 is only measured, and marked so.
    """

    def __init__(self, console: Console, title: str, names: dict[str, str], rewards: dict[str, float]):
        self.console, self.title, self.rewards = console, title, rewards
        self.names = {"reward": "reward"} | names | {"kl": "kl"}  # GRPO's, with --beta
        for name, weight in rewards.items():
            if weight == 0:
                self.names[f"rewards/{name}/mean"] += " (measured)"
        self.curves, self.sample, self.sample_lines = defaultdict(list), None, 1
        self.below = [Text()]  # where the cursor is: a Ctrl-C's ^C is written there and breaks no frame
        self.up = contextlib.ExitStack()  # what `end` takes down

    def begin(self, state, rows: list[dict]) -> None:
        """Appear; `rows` are the logged steps of a run that goes on."""
        for row in rows:
            self._add(row)
        self.first = self.step_reached = state.global_step
        self.steps, self.begun = state.max_steps, time.monotonic()
        self.reached_at = self.begun
        live = Live(
            get_renderable=self._render,
            console=self.console,
            refresh_per_second=A_SECOND,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.up.enter_context(live)
        self.console.show_cursor()
        live.refresh()
        for name in ("stdout", "stderr"):
            self._take_over(name)

    def step(self, state) -> None:
        self.step_reached, self.reached_at = state.global_step, time.monotonic()

    def log(self, state, row: dict, sample: dict | None) -> None:
        self._add(row)
        self.sample = sample

    def end(self) -> None:
        """Leave the last state on the screen and the streams as they were; a second time does nothing."""
        self.below = []
        self.up.close()

    def _add(self, row: dict) -> None:
        for key in self.names.keys() & row.keys():
            known = row[key] is not None and math.isfinite(row[key])
            self.curves[key].append(row[key] if known else None)

    def _take_over(self, name: str) -> None:
        """Let what is written to sys.stdout or sys.stderr appear above the panel, by loggers that hold it, too."""
        stream = getattr(sys, name)
        if not stream.isatty():  # it does not go to the screen
            return
        above = Above(self.console, stream)
        setattr(sys, name, above)
        self.up.callback(setattr, sys, name, stream)
        for logger in [logging.root, *logging.root.manager.loggerDict.values()]:
            for handler in getattr(logger, "handlers", ()):  # a placeholder has none
                if vars(handler).get("stream") is stream:
                    handler.setStream(above)
                    self.up.callback(handler.setStream, stream)
        self.up.callback(above.last_line)

    def _render(self) -> Group:
        width = max(min(self.console.width, WIDEST), 20)
        lines = [self._bar(width - 4), *self._figures(width - 4)]
        room = self.console.height - len(lines) - 4  # the frame's two, an empty one, and where the cursor goes
        if self.sample and room >= 3:
            lines += [Text(), *self._sample(width - 4, room)]
        for line in lines:
            line.truncate(width - 4, overflow="ellipsis")
        title = Text(printable(self.title), "bold")
        panel = Panel(Group(*lines), title=title, title_align="left", border_style="dim", width=width)
        return Group(panel, *self.below)

    def _bar(self, width: int) -> Text:
        now, done, to_do = time.monotonic(), self.step_reached - self.first, self.steps - self.step_reached
        elapsed = f"{self.step_reached}/{self.steps}  {_clock(now - self.begun)}"
        if done and to_do:
            left = (self.reached_at - self.begun) / done * to_do - (now - self.reached_at)
            elapsed += f", {_clock(max(left, 0))} left"
        room = max(width - len(elapsed) - 2, 0)
        filled = room * self.step_reached // max(self.steps, 1)
        return Text.assemble(("━" * filled, "green"), ("─" * (room - filled), "dim"), "  ", elapsed)

    def _figures(self, width: int) -> list[Text]:
        shown = {key: name for key, name in self.names.items() if key in self.curves}
        column = max(map(len, shown.values()), default=0)
        lines = []
        for key, name in shown.items():
            value = next((value for value in reversed(self.curves[key]) if value is not None), None)
            text = "-" if value is None else f"{value:.3f}" if abs(value) < 1e5 else f"{value:.2e}"
            curve = sparkline(self.curves[key], width - column - 12)
            style = "dim" if name.endswith(" (measured)") else "bold" if key == "reward" else ""
            lines.append(Text.assemble((f"{name:{column}}{text:>10}  ", style), (curve, "cyan")))
        return lines

    def _sample(self, width: int, room: int) -> list[Text]:
        """The last line of the prompt, the completion and its rewards."""
        prompt = text_of(self.sample["prompt"]).strip().rpartition("\n")[2]
        written = Text(one_line(text_of(self.sample["completion"]))).wrap(self.console, width)
        most = min(COMPLETION_LINES, room - 2)
        self.sample_lines = min(max(self.sample_lines, len(written)), most)  # it grows and never shrinks: no jumping
        if len(written) > most:
            written[most - 1].truncate(width - 2)
            written[most - 1].append(" …")
        empty = [Text()] * (self.sample_lines - len(written))
        values = [(name.removesuffix("_reward"), self.sample.get(name)) for name in self.rewards]
        rewards = "  ".join(f"{name} {'-' if value is None else format(value, '.2f')}" for name, value in values)
        return [Text(one_line(prompt), "dim"), *written[:most], Text(rewards, "cyan"), *empty]


class Above(io.TextIOBase):
    """A stream whose lines appear above the panel.

    Unlike rich's own it is what another `Console` writes to, reads no markup, and shows of a bar only its last state.
    It goes on after the panel's end, for whoever still holds it.
    """

    def __init__(self, console: Console, stream):
        self.console, self.stream, self.rest = console, stream, ""

    def __getattr__(self, name: str):  # `buffer` and the like
        return getattr(self.stream, name)

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, rest = (self.rest + text).replace("\r\n", "\n").split("\n")
        self.rest = rest[rest.rfind("\r") :] if "\r" in rest else rest
        if lines:
            self.console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        return len(text)

    def last_line(self) -> None:
        if self.rest.strip():
            self.write("\n")


def sparkline(values: list[float | None], width: int) -> str:
    """`values` in at most `width` blocks, from the lowest to the highest; a blank where all are `None`.

    Each block is the mean of its share of the values, of `A_MEAN_OF` of them where they are more.
    """
    n, blocks = len(values), min(len(values), max(width, 0))
    shares = [range(i * n // blocks, (i + 1) * n // blocks) for i in range(blocks)]
    shares = [[values[j] for j in share[:: -(-len(share) // A_MEAN_OF)]] for share in shares]
    means = [fmean(known) if (known := [v for v in share if v is not None]) else None for share in shares]
    known = [mean for mean in means if mean is not None] or [0.0]
    low, high = min(known), max(known)
    span = max(high - low, 0.1 * max(abs(low), abs(high))) or 1.0  # what hardly moves looks flat
    top = len(BLOCKS) - 1
    return "".join(" " if mean is None else BLOCKS[round((mean - low) / span * top)] for mean in means)


def text_of(text: str | list[dict]) -> str:
    """The last message of a conversation, or the text itself."""
    if not isinstance(text, str):
        text = text[-1].get("content") if text else ""
    if isinstance(text, list):  # typed blocks
        text = " ".join(str(block.get("text", "")) for block in text)
    return text or ""


def one_line(text: str) -> str:
    """The beginning of what a model wrote, as one line that no terminal obeys."""
    return printable(" ".join(text[:LONGEST].split()))


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
