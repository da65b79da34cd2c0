"""Look at a reward without training.

python -m rewards list
python -m rewards score samples.jsonl --rewards correctness_reward think_format_reward
python -m rewards audit mymodule.my_reward
"""
# ruff: noqa: T201

import argparse
import contextlib
import inspect
import os
import re
import shutil
import sys
import textwrap

import rewards
from rewards.audit import audit, report
from rewards.calling import InputError, factories, ready_made
from rewards.score import score, table


def main(argv: list[str] | None = None) -> int:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, mode))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 shows what it can
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except OSError as error:
        # Python flushes once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # `| head` has seen enough
            return 0
        print(f"error: Standard output cannot be written: {error.strerror}.", file=sys.stderr)
        return 2


def _run(argv: list[str] | None) -> int:
    args = _arguments(argv)
    try:
        return args.command(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "Stopped.", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        print(f"error: {message}. See --help.", file=sys.stderr)
        sys.exit(2)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m rewards", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="list | score | audit", parser_class=_Parser)
    command = commands.add_parser("list", help="every reward: name, range, what it judges")
    command.set_defaults(command=_list)
    command = commands.add_parser("score", help="judge the completions of a JSONL file")
    command.add_argument(
        "file",
        help="rows with `completion` (text or messages) or `completions` (one or several), `prompt`, `answer` and "
        "any other columns; - reads standard input",
    )
    command.add_argument(
        "--rewards", nargs="+", required=True, metavar="NAME", help="rewards of `list`, or dotted paths to anybody's"
    )
    command.add_argument("--output", metavar="FILE", help="write each completion with its rewards, as JSONL")
    command.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")
    command.add_argument("--rows", type=int, default=10, metavar="N", help="completions in the table (default: 10)")
    command.set_defaults(command=_score)
    command = commands.add_parser(
        "audit", help="try to cheat a reward; exit code 1 if a check fails", description="Try to cheat a reward."
    )
    command.add_argument("reward", metavar="NAME", help="a reward of `list`, or a dotted path: mymodule.my_reward")
    command.add_argument(
        "--data",
        metavar="FILE",
        help="JSONL rows with `prompt`, a right `completion`, the gold answer and the reward's other columns, in place "
        "of the built-in rows",
    )
    command.add_argument(
        "--gold-column",
        metavar="NAME",
        help="the column of the gold answer (default: answer, solution, or the one whose values stand in the "
        "completions)",
    )
    command.set_defaults(command=_audit)
    return parser.parse_args(argv)


def _list(args: argparse.Namespace) -> int:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 10_000
    entries = [(name, *described(name)) for name in ready_made()]
    entries += [(name, *described(name)) for name in factories()]
    names, ranges = (max(len(entry[i]) for entry in [("name", "range", ""), *entries]) for i in (0, 1))
    for name, bounds, line in [("name", "range", "what it judges"), *entries]:
        if name.startswith("get_"):
            line += f" Options: {options(name)}."
        start = f"{name:{names}}  {bounds:{ranges}}  "
        rest = textwrap.wrap(line, max(30, width - len(start)))
        print("\n".join([start + rest[0], *(" " * len(start) + more for more in rest[1:])]))
    return 0


def described(name: str) -> tuple[str, str]:
    """The range and the first line of a reward's docstring; a factory without a range has its reward's."""
    doc = inspect.getdoc(getattr(rewards, name)) or ""
    found = re.search(r"^\s*Range: *(.+?)\.?$", doc, re.MULTILINE)
    if found is None and name.startswith("get_") and name.removeprefix("get_") in rewards.__all__:
        return described(name.removeprefix("get_"))[0], doc.partition("\n")[0]
    return found[1] if found else "?", doc.partition("\n")[0]


def options(name: str) -> str:
    parameters = inspect.signature(getattr(rewards, name)).parameters.values()
    return ", ".join(
        parameter.name if parameter.default is parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in parameters
    )


def _score(args: argparse.Namespace) -> int:
    if args.rows < 0:
        raise InputError("--rows must be 0 or more.")
    scores = score(args.file, args.rewards, args.output, args.overwrite, args.rows)
    print("\n".join(table(scores)))
    if args.output:
        print(f"\n{scores.samples} rows are in {args.output}.")
    return 0


def _audit(args: argparse.Namespace) -> int:
    # Closed whatever happens, so that the reward's process ends.
    with contextlib.closing(audit(args.reward, args.data, args.gold_column)) as checks:
        lines = report(args.reward, checks)
        while True:
            try:
                print(next(lines), flush=True)
            except StopIteration as end:
                return end.value


if __name__ == "__main__":
    sys.exit(main())
