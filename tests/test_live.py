"""The live panel: what it shows, that nothing breaks it or gets through it, and that it leaves a terminal in order."""

import contextlib
import io
import json
import logging
import os
import pty
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from recipes.live import BLOCKS, Above, LivePanel, sparkline
from recipes.progress import Lines, figures, progress

REWARDS = ["correctness_reward", "think_format_reward", "length_reward"]
TRAINER = SimpleNamespace(
    args=SimpleNamespace(disable_tqdm=False), reward_func_names=REWARDS, reward_weights=[1.0, 0.2, 0.0]
)
SETTINGS = {"task": "word_problems", "model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"}
SAMPLE = {
    "prompt": [{"role": "system", "content": "Think."}, {"role": "user", "content": "Rules.\nWhat is 1 + 2?\n"}],
    "completion": [{"role": "assistant", "content": "<think>1+2=3</think>\n<answer>3</answer>"}],
    "correctness_reward": 1.0,
    "think_format_reward": None,
    "length_reward": -0.5,
    "extracted_answer": "3",
    "advantage": 0.1,
}
ESCAPE = "\x1b"


def say(text: str, end: str = "\n", file=None) -> None:
    (file or sys.stdout).write(text + end)


class Terminal(io.StringIO):
    """A terminal of 80 columns that keeps what is written to it."""

    def isatty(self):
        return True

    def screens(self) -> list[str]:
        """The text of every panel that was drawn, without styles."""
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue()).replace("\r", "")
        return re.findall(r"╭.*?╰[─]*╯", text, re.DOTALL)


def row(step, **values):
    means = {f"rewards/{name}/mean": step / 10 for name in REWARDS}
    return {"step": step, "minutes": step / 60, "loss": 0.1, "reward": step / 10, **means, **values}


def state(step, of=9):
    return SimpleNamespace(global_step=step, max_steps=of)


def panel_on(file, width=80, height=24, rewards=None, **console):
    console = Console(file=file, width=width, height=height, **({"force_terminal": True} | console))
    names = figures(SimpleNamespace(reward_func_names=list(rewards or REWARDS)))
    weights = dict.fromkeys(rewards, 1.0) if rewards else dict(zip(REWARDS, TRAINER.reward_weights, strict=True))
    return LivePanel(console, "grpo · word_problems · starter", names, weights)


@contextlib.contextmanager
def shown(terminal, monkeypatch, rows=(), **how):
    """A panel that is up on `terminal`, which is both of the process's streams."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        patch.setattr(sys, "stderr", terminal)
        panel = panel_on(terminal, **how)
        panel.begin(state(len(rows)), list(rows))
        try:
            yield panel
        finally:
            panel.end()
        assert sys.stdout is sys.stderr is terminal


def drawn(panel) -> str:
    """What `panel` looks like now, as text."""
    with panel.console.capture() as capture:
        panel.console.print(panel._render())
    return capture.get()


def test_it_shows_how_far_training_is_the_figures_with_their_curves_and_the_last_sample(monkeypatch):
    with shown(terminal := Terminal(), monkeypatch) as panel:
        for step in (1, 2, 3):
            panel.log(state(step), row(step, **{"completions/mean_length": 20.0, "kl": 0.01}), SAMPLE)
            panel.step(state(step))
    assert terminal.screens()[-1].splitlines() == [
        "╭─ grpo · word_problems · starter ─────────────────────────────────────────────╮",
        "│ ━━━━━━━━━━━━━━━━────────────────────────────────  3/9  0:00:00, 0:00:00 left │",
        "│ reward                0.300  ▁▅█                                             │",
        "│ correctness           0.300  ▁▅█                                             │",
        "│ think_format          0.300  ▁▅█                                             │",
        "│ length (measured)     0.300  ▁▅█                                             │",
        "│ length               20.000  ▁▁▁                                             │",
        "│ kl                    0.010  ▁▁▁                                             │",
        "│                                                                              │",
        "│ What is 1 + 2?                                                               │",
        "│ <think>1+2=3</think> <answer>3</answer>                                      │",
        "│ correctness 1.00  think_format -  length -0.50                               │",
        "╰──────────────────────────────────────────────────────────────────────────────╯",
    ]


def test_a_run_that_goes_on_shows_what_was_logged_before(monkeypatch):
    rows = [row(step) for step in (1, 2, 3)]
    with shown(terminal := Terminal(), monkeypatch, rows) as panel:
        panel.log(state(4), row(4), None)
        panel.step(state(4))
    assert re.search(r"4/9 .*\n. reward +0.400  ▁▃▆█ ", terminal.screens()[-1])


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_value_that_is_none_leaves_a_gap_and_the_last_one_stands(monkeypatch, value):
    with shown(terminal := Terminal(), monkeypatch) as panel:
        for step, reward in ((1, 0.5), (2, value), (3, 1.0), (4, value)):
            panel.log(state(step), {"step": step, "reward": reward, "entropy": value}, None)
    screen = terminal.screens()[-1]
    assert re.search(r"reward +1.000  ▁ █  ", screen) and re.search(r"entropy +-  ", screen)


@pytest.mark.parametrize(
    ("names", "values", "shown_as"),
    [
        ([], {"loss": 0.25, "rewards/margins": 0.5, "rewards/accuracies": 0.75}, ["loss", "margin", "pairs right"]),
        ([], {"loss": 0.25, "mean_token_accuracy": 0.5, "entropy": 0.1}, ["loss", "tokens right", "entropy"]),
        ([], {"loss": 0.25, "accuracy": 0.5, "margin": 0.1}, ["loss", "margin", "pairs right"]),
        (REWARDS[:1], {"reward": 1, "objective/kl": 1, "value/explained_variance": 0}, ["reward", "kl", "explained"]),
    ],
)
def test_every_trainer_has_its_own_figures(names, values, shown_as):
    panel = LivePanel(Console(width=80), "", figures(SimpleNamespace(reward_func_names=names)), {})
    panel._add(values)
    assert [line.plain.split("  ")[0].strip() for line in panel._figures(76)] == shown_as


HOSTILE = (
    f"{ESCAPE}[2J{ESCAPE}]0;owned\x07{ESCAPE}[31mred\r\x08\x9b2J\u202egnp[bold]b[/bold][/nope]\ud800\u0301 :smile:"
)


def test_what_a_model_wrote_is_inert(monkeypatch):
    sample = SAMPLE | {"completion": HOSTILE, "prompt": [{"role": "user", "content": HOSTILE}]}
    with shown(terminal := Terminal(), monkeypatch) as panel:
        panel.log(state(1), row(1), sample)
    written = terminal.getvalue()
    assert not any(f"{ESCAPE}{code}" in written for code in ("[2J", "]", "[31m")) and "\x9b" not in written
    assert "[2J]0;owned[31mred 2Jgnp[bold]b[/bold][/nope]\u0301 :smile:" in terminal.screens()[-1]


@given(st.text(st.characters(exclude_categories=())), st.integers(20, 130), st.integers(5, 40))
def test_no_text_and_no_size_of_the_terminal_breaks_the_frame(text, width, height):
    panel = panel_on(io.StringIO(), width, height, force_terminal=False)
    panel.first = panel.begun = panel.reached_at = panel.step_reached = 0
    panel.steps, panel.sample = 9, SAMPLE | {"completion": text, "prompt": text}
    for step in range(30):
        panel._add(row(step))
    lines = drawn(panel).removesuffix("\n").split("\n")
    assert {cell_len(line) for line in lines[:-1]} == {min(width, 120)} and not lines[-1].strip()
    assert len(lines) <= max(height, 8)
    assert all(c.isprintable() or c == " " for line in lines for c in line if c not in "\u3000\xa0")


def test_a_long_completion_is_cut_and_the_panel_never_shrinks():
    panel = panel_on(io.StringIO(), force_terminal=False)
    panel.first = panel.begun = panel.reached_at = panel.step_reached = 0
    panel.steps, panel.sample = 9, SAMPLE | {"completion": "so " * 200}
    long = drawn(panel).splitlines()
    assert [line.count("so") for line in long].count(0) == len(long) - 3
    assert sum(line.rstrip(" │").endswith(" …") for line in long) == 1
    panel.sample = SAMPLE
    assert len(drawn(panel).splitlines()) == len(long)


def test_a_small_terminal_loses_the_sample_first():
    def on(height, rewards):
        panel = panel_on(io.StringIO(), 40, height, rewards, force_terminal=False)
        panel.first = panel.begun = panel.reached_at = panel.step_reached = 0
        panel.steps, panel.sample = 9, SAMPLE
        panel._add({"reward": 1.0} | {f"rewards/{name}/mean": 1.0 for name in rewards})
        return drawn(panel)

    many = [f"number_{i}_reward" for i in range(12)]
    assert "1+2=3" in on(24, many) and "number_11" in on(24, many)
    assert "1+2=3" not in on(18, many) and "number_11" in on(18, many)


@pytest.mark.parametrize(
    ("values", "width", "curve"),
    [
        ([], 10, ""),
        ([1.0], 10, "▁"),
        ([0.0, 0.0], 10, "▁▁"),
        ([0.0, 1.0, None, 0.5], 10, "▁█ ▅"),
        ([None, None], 10, "  "),
        ([0.0, 0.0, 1.0, 1.0], 2, "▁█"),
        ([1.0, 2.0], 0, ""),
        ([1.0, 2.0], -3, ""),
        ([0.99, 1.0], 10, "▁▂"),  # hardly moves
        ([-1.0, -2.0], 10, "█▁"),
    ],
)
def test_a_curve_of_blocks(values, width, curve):
    assert sparkline(values, width) == curve


@given(st.lists(st.none() | st.floats(-1e9, 1e9), max_size=500), st.integers(0, 120))
def test_a_curve_fits_and_reaches_from_the_lowest_to_the_highest(values, width):
    curve = sparkline(values, width)
    assert len(curve) == min(len(values), width) and set(curve) <= {*BLOCKS, " "}
    assert not curve.strip() or BLOCKS[0] in curve


def test_what_others_print_appears_above(monkeypatch):
    with monkeypatch.context() as patch:
        terminal = Terminal()
        patch.setattr(sys, "stderr", terminal)
        handler = logging.StreamHandler()  # as transformers': it holds the stderr of its time
        logger = logging.getLogger("tests.live")
        logger.addHandler(handler)
        with shown(terminal, patch) as panel:
            say("printed [bold]as it is[/bold] [/nope]")
            say("half a line,", end=" ")
            say("and its end")
            logger.warning("a warning of a logger")
            assert isinstance(handler.stream, Above)
            say("an error", file=sys.stderr)
            Console().print("somebody else's console")
            sys.stderr.write("  1%\r 50%\r100%\n")
            say("x" * 200)
            panel.log(state(1), row(1), SAMPLE)
            say("no end", end="")
        logger.warning("afterwards")
        assert handler.stream is terminal
        logger.removeHandler(handler)
    between = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "")
    between = re.sub(r"╭.*?╯\n", "", between, flags=re.DOTALL).split("\n")
    assert [line for line in between if line.strip()] == [
        "printed [bold]as it is[/bold] [/nope]",
        "half a line, and its end",
        "a warning of a logger",
        "an error",
        "somebody else's console",
        "100%",
        "x" * 200,
        "no end",
        "afterwards",
    ]


def test_escape_sequences_in_what_is_printed_are_inert(monkeypatch):
    with shown(terminal := Terminal(), monkeypatch):
        say(f"a{ESCAPE}[2J{ESCAPE}[5;5H{ESCAPE}]0;owned\x07b")
    written = terminal.getvalue()
    assert f"{ESCAPE}[2J" not in written and f"{ESCAPE}[5;5H" not in written and f"{ESCAPE}]0" not in written


def test_an_errors_file_gets_the_errors(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    with (tmp_path / "errors").open("w") as errors:
        monkeypatch.setattr(sys, "stderr", errors)
        panel = panel_on(terminal)
        panel.begin(state(0), [])
        say("into the file", file=sys.stderr)
        panel.end()
    assert (tmp_path / "errors").read_text() == "into the file\n" and "file" not in terminal.getvalue()


def test_who_still_holds_the_stream_afterwards_can_write(monkeypatch):
    with shown(terminal := Terminal(), monkeypatch):
        held = sys.stdout
    assert isinstance(held, Above) and not held.isatty() and held.encoding == terminal.encoding
    say("late", file=held)
    assert terminal.getvalue().endswith("late\n")


def chosen(monkeypatch, capsys, watch=None, file=None, disable_tqdm=False, **environment):
    for name in ("JPY_PARENT_PID", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", file or Terminal())
    trainer = SimpleNamespace(**{**vars(TRAINER), "args": SimpleNamespace(disable_tqdm=disable_tqdm)})
    return progress(trainer, SETTINGS, "grpo", watch)


@pytest.mark.parametrize(
    "how", [{}, {"watch": True}, {"NO_COLOR": "1"}, {"watch": True, "JPY_PARENT_PID": "7"}], ids=str
)
def test_a_terminal_has_the_panel(monkeypatch, capsys, how):
    panel = chosen(monkeypatch, capsys, **how)
    assert isinstance(panel, LivePanel) and panel.title == "grpo · word_problems · Qwen2.5-0.5B-Instruct"
    assert panel.rewards == {"correctness_reward": 1.0, "think_format_reward": 0.2, "length_reward": 0.0}


LATIN = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
LATIN.isatty = lambda: True


def in_words(how: dict) -> str:
    """The same in every process that collects the tests: no address of an object."""
    return ", ".join(f"{name}={value.__class__.__name__ if name == 'file' else value}" for name, value in how.items())


@pytest.mark.parametrize(
    "how",
    [
        *({"watch": False}, {"TERM": "dumb"}, {"disable_tqdm": True}, {"watch": True, "disable_tqdm": True}),
        *({"JPY_PARENT_PID": "7"}, {"file": io.StringIO()}, {"file": LATIN}),
        {"file": io.StringIO(), "FORCE_COLOR": "1"},
    ],
    ids=in_words,
)
def test_elsewhere_there_are_lines(monkeypatch, capsys, how):
    assert isinstance(chosen(monkeypatch, capsys, **how), Lines)


@pytest.mark.parametrize("how", [{"TERM": "dumb"}, {"file": io.StringIO()}, {"file": LATIN}], ids=in_words)
def test_to_ask_for_the_panel_where_it_cannot_be_is_said(monkeypatch, capsys, how):
    shown = chosen(monkeypatch, capsys, watch=True, **how)
    file = sys.stdout
    file.seek(0)
    assert isinstance(shown, Lines) and file.read().startswith("--watch needs a terminal")


def test_without_a_terminal_there_are_ten_lines_with_means(capsys):
    lines = Lines(figures(TRAINER))
    lines.begin(state(0, of=20), [])
    for step in range(1, 21):
        lines.log(state(step, of=20), row(step, **{"completions/mean_length": 12.345}), SAMPLE)
        lines.step(state(step, of=20))
    lines.end()
    out, err = capsys.readouterr()
    said = out.splitlines()
    assert len(said) == 10 and not err
    assert said[0] == "step    2/20  correctness 0.15  think_format 0.15  length 12.35"
    assert said[-1] == "step   20/20  correctness 1.95  think_format 1.95  length 12.35"


def test_a_step_that_is_left_over_at_the_end_is_told_with_those_before(capsys):
    lines = Lines({"x": "x"})
    lines.begin(state(0, of=41), [])
    for step in range(1, 42):
        lines.log(state(step, of=41), {"step": step, "x": float(step)}, None)
    lines.end()
    assert capsys.readouterr().out.splitlines()[-2:] == ["step   40/41  x 38.50", "step   41/41  x 39.00"]


def on_a_terminal(*command, columns=80, lines=24) -> tuple[str, int]:
    """What `command` writes to a real pseudo-terminal, and its exit code."""
    process, terminal = pty.fork()
    if not process:
        os.environ |= {"TERM": "xterm", "COLUMNS": str(columns), "LINES": str(lines), "PYTHONUTF8": "1"}
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JPY_PARENT_PID"):
            os.environ.pop(name, None)
        os.execv(sys.executable, [sys.executable, *command])
    written = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while some := os.read(terminal, 65536):
            written += some
    os.close(terminal)
    return written.decode(), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def without_codes(written: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).replace("\r", "")


ENDS = """
import os, signal, sys
from types import SimpleNamespace
from rich.console import Console
from recipes.errors import exit_kindly
from recipes.live import LivePanel

@exit_kindly
def main():
    panel = LivePanel(Console(file=sys.stdout), "title", {}, {})
    try:
        panel.begin(SimpleNamespace(global_step=0, max_steps=9), [])
        panel.log(None, {"reward": 0.5}, None)
        HOW
    finally:
        panel.end()

main()
"""


@pytest.mark.parametrize(
    ("how", "said", "code"),
    [
        ("raise ValueError('no good')", "ValueError: no good", 1),
        ("raise KeyboardInterrupt", "Stopped. What was saved is kept: run the same command to go on.", 130),
        ("os.kill(os.getpid(), signal.SIGKILL)", "", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", "", -signal.SIGTERM),
    ],
)
def test_whatever_ends_training_the_cursor_is_there_and_the_message_below(how, said, code):
    written, ended = on_a_terminal("-c", ENDS.replace("HOW", how))
    assert ended == code
    assert written.rfind(f"{ESCAPE}[?25h") > written.rfind(f"{ESCAPE}[?25l") >= 0
    _, _, below = without_codes(written).rpartition("╯\n")
    assert said in below


def test_a_recipe_on_a_terminal_shows_the_panel_and_its_result_below():
    flags = "--task word_problems --max_steps 2 --per_device_train_batch_size 16 --eval_samples 0 --report_to none"
    written, code = on_a_terminal("-m", "recipes.grpo", *flags.split())
    text = without_codes(written)
    assert code == 0, text
    *_, last = re.findall(r"╭.*?╯", text, re.DOTALL)
    assert "word_problems · starter ─" in last.splitlines()[0]
    assert re.search(r"━ +2/2  \d:\d\d:\d\d", last) and "\n│ correctness " in last and " think_format " in last
    assert "step    1/2" not in text  # no lines
    assert "everything is in runs/grpo-word_problems/" in text.rpartition("╯")[2]
    rows = [json.loads(line) for line in Path("runs/grpo-word_problems/metrics.jsonl").read_text().splitlines()]
    assert re.search(rf"reward +{rows[-1]['reward']:.3f}  ", last)
