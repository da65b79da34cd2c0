"""What the live panel costs, against the steps of a real GRPO run that it shows: `python -m benchmarks.live_panel`.

The recipe trains the bundled starter in this process, on a pseudo-terminal of 80 x 24. What training hands to the panel
is timed by the clock, since training waits for it. What the panel's thread draws is timed by its processor time, which
training goes without, and by the clock as well, which counts its waiting for training too. A run of other length costs
the same share: the panel is drawn once a second.
"""

import argparse
import contextlib
import json
import os
import pty
import statistics
import tempfile
import threading
import time
from pathlib import Path

import torch
from rich.live import Live

from recipes import grpo
from recipes.live import LivePanel


class Timed:
    """What each call of a method takes from now on, by the clock and of the processor, in seconds."""

    def __init__(self, owner: type, name: str):
        self.seconds, self.ends, method = [], [], getattr(owner, name)

        def timed(*args, **kwargs):
            started, cpu = time.perf_counter(), time.thread_time()
            result = method(*args, **kwargs)
            self.ends.append(time.perf_counter())
            self.seconds.append((self.ends[-1] - started, time.thread_time() - cpu))
            return result

        setattr(owner, name, timed)

    def by_the_clock(self) -> float:
        return sum(clock for clock, _ in self.seconds)

    def of_the_processor(self) -> float:
        return sum(cpu for _, cpu in self.seconds)


def run_on_a_terminal(steps: int, folder: str) -> None:
    terminal, other_end = pty.openpty()

    def read():
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(terminal, 65536):
                pass

    threading.Thread(target=read, daemon=True).start()
    os.environ |= {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    flags = f"--max_steps {steps} --eval_samples 0 --report_to none --watch --output_dir {folder}"
    with os.fdopen(other_end, "w", encoding="utf-8") as screen, contextlib.redirect_stdout(screen):
        grpo.main(["--task", "word_problems", *flags.split()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "live_panel.json")
    args = parser.parse_args()
    begin, log, step, end = (Timed(LivePanel, name) for name in ("begin", "log", "step", "end"))
    draw = Timed(Live, "refresh")
    with tempfile.TemporaryDirectory() as folder:
        run_on_a_terminal(args.steps, f"{folder}/run")
    training = end.ends[0] - end.seconds[0][0] - begin.ends[0]
    handed = log.by_the_clock() + step.by_the_clock()
    steps = [after - before for before, after in zip(step.ends, step.ends[1:], strict=False)]
    result = {
        "what": "time of the live panel / time of training: what is handed to it, and what its thread draws",
        "ratio": round((handed + draw.of_the_processor()) / training, 5),
        "ratio_with_waiting": round((handed + draw.by_the_clock()) / training, 5),
        "handed_ms_per_step": round(1000 * handed / len(step.seconds), 3),
        "ms_per_draw": round(1000 * draw.of_the_processor() / len(draw.seconds), 3),
        "draws": len(draw.seconds),
        "median_step_seconds": round(statistics.median(steps), 3),
        "steps": args.steps,
        "threads": torch.get_num_threads(),
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
