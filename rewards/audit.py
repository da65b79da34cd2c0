"""The hack battery: is a reward well-behaved, deterministic, bounded, and hard to cheat?

The reward is called in a process of its own, which is killed when it does not answer: a reward that hangs or dies
is a failed check, and the audit goes on. Nothing here evaluates any text.
"""

import contextlib
import ctypes
import dataclasses
import functools
import inspect
import math
import multiprocessing
import os
import pickle
import re
import signal
import tempfile
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rewards.battery import (
    ANSWER_POLICIES,
    COPY,
    FILLER,
    FORM_POLICIES,
    NOTHING,
    WITHOUT_ANSWER_TAGS,
    CodeRow,
    Policy,
    Row,
    built_in_rows,
    gold_text,
    hostile_texts,
    with_wrong_answers,
)
from rewards.calling import (
    InputError,
    WrongReturn,
    call_reward,
    is_messages,
    load_reward,
    message_of,
    missing_columns,
    printable,
    read_rows,
    takes_any_keyword,
)
from rewards.code_blocks import fenced_blocks
from rewards.completions import completion_text

START_SECONDS = 120  # to import the user's module
CALL_SECONDS = 30  # for an ordinary batch, and one more for each completion
HANG_SECONDS = 5  # for one hostile completion
SLOW_SECONDS = 1.5
HANGS = 5  # after so many, the rest of the hostile texts is left out


@dataclass
class Check:
    section: str
    name: str
    verdict: str  # PASS, FAIL or SKIP
    reason: str = ""
    completion: str | None = None  # that shows the failure


@dataclass
class Outcome:
    """What a call of the reward came to: the rewards (of every thread, where several called), or an error."""

    rewards: list | None
    error: str | None = None
    seconds: float = 0.0
    hung: bool = False  # it did not return, and its process was killed
    fatal: bool = False  # it did not return, or ended its process


@dataclass
class Facts:
    """What is known of the reward before it is called."""

    name: str | None
    required: list[str]  # the columns without which it cannot be called
    any_keyword: bool


class Worker:
    """The process that calls the reward; it is started when it is needed, and again after a hang."""

    def __init__(self, name: str):
        self.name = name
        self.process = None
        self.facts = self._start()

    def ask(self, columns: dict, how: str, seconds: float) -> Outcome:
        if self.process is None:
            self._start()
        with contextlib.suppress(ConnectionError):  # it died since the last call; `_receive` says so
            self.pipe.send((how, columns))
        return self._receive(seconds)

    def stop(self) -> None:
        if self.process is None:
            return
        self.pipe.close()  # which ends it, unless it hangs
        self.process.join(2)
        # Its own processes too; it leads a group of its own.
        with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.process = None

    def _start(self) -> Facts:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, other_end = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(other_end, self.name))
        self.process.start()
        other_end.close()
        facts = self._receive(START_SECONDS)
        if isinstance(facts, Facts):
            return facts
        self.stop()
        raise InputError(facts if isinstance(facts, str) else f"Importing {self.name} {facts.error}.")

    def _receive(self, seconds: float):
        try:
            if self.pipe.poll(seconds):
                return self.pipe.recv()
            outcome = Outcome(None, f"did not return in {seconds:g} s", seconds, hung=True, fatal=True)
        except (EOFError, ConnectionError):
            self.process.join(1)
            outcome = Outcome(None, f"ended its process (exit code {self.process.exitcode})", fatal=True)
        self._kill()
        return outcome

    def _kill(self) -> None:
        self.process.kill()
        self.stop()


def _work(pipe, name: str) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    with contextlib.suppress(Exception):  # Linux: a reward that hangs ends with the audit, however that ends
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    nowhere = os.open(os.devnull, os.O_WRONLY)  # what the reward prints, logs or warns is not the audit's report
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        reward = load_reward(name)
    except InputError as error:
        pipe.send(str(error))
        return
    any_keyword = takes_any_keyword(reward)
    pipe.send(Facts(getattr(reward, "__name__", None), missing_columns(reward, ()), any_keyword))
    # One without **kwargs fails its own check; the others are still worth something.
    known = None if any_keyword else set(inspect.signature(reward).parameters)
    while True:
        try:
            how, columns = pipe.recv()
        except EOFError:
            return
        pipe.send(_outcome(reward, known, how, columns))


def _outcome(reward, known: set | None, how: str, columns: dict) -> Outcome:
    start = time.perf_counter()
    try:
        if how == "after pickling":
            reward = pickle.loads(pickle.dumps(reward))

        def call(_=None):
            if known is None:
                return call_reward(reward, columns)
            return call_reward(lambda **given: reward(**{key: given[key] for key in given if key in known}), columns)

        if how == "in a thread":
            with ThreadPoolExecutor(1) as threads:
                rewards = threads.submit(call).result()
        elif how == "in eight threads":
            with ThreadPoolExecutor(8) as threads:
                rewards = list(threads.map(call, range(8)))
        else:
            rewards = call()
    except WrongReturn as error:
        return Outcome(None, str(error), time.perf_counter() - start)
    except BaseException as error:  # sys.exit() in a reward, too
        return Outcome(None, f"raised {type(error).__name__}: {message_of(error)}", time.perf_counter() - start)
    return Outcome(rewards, None, time.perf_counter() - start)


@functools.lru_cache(maxsize=64)
def tokens(text: str) -> list[int]:
    """Stable token ids, about as many as a tokenizer makes; of a hostile text the first few thousand."""
    return [zlib.crc32(piece.encode("utf-8", "surrogatepass")) % 50_000 for piece in _PIECE.findall(text[:100_000])]


_PIECE = re.compile(r"\w{1,6}|\s|[^\w\s]")


def audit(name: str, data: str | None = None, gold_column: str | None = None) -> Iterator[Check]:
    """Every check of the reward called `name`, one by one.

    Args:
        name (`str`): a reward of this package, or a dotted path.
        data (`str`, *optional*): a JSONL file of rows with `prompt`, `completion` (right, and in the form that the
            reward wants), the gold answer, and the reward's other columns, in place of the built-in rows.
        gold_column (`str`, *optional*): the column of the gold answer, or of the tests of code; else it is `answer`,
            `solution`, or the column whose values stand in the completions, and `tests` where these have code.

    Raises:
        `InputError`: the reward cannot be loaded, needs a column that the rows do not have, or uses a gold answer
            that cannot be told from the other columns.
    """
    candidates = [_rows_of(data, gold_column)] if data else built_in_rows()
    if gold_column and not data:
        for row in (row for rows in candidates for row in rows):
            row.columns[gold_column], row.gold_column = row.columns[row.gold_column], gold_column
    worker = Worker(name)
    try:
        yield from _Audit(worker, name, candidates).checks()
    finally:
        worker.stop()


def _rows_of(path: str, gold_column: str | None) -> list[Row]:
    try:
        file = open(path, "rb")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    rows = []
    with file:
        for number, row, _ in read_rows(file, path):
            for column in ("prompt", "completion"):
                if not isinstance(row.get(column), str) and not is_messages(row.get(column)):
                    what = (
                        "text or messages: a right, well-formed answer"
                        if column == "completion"
                        else "text or messages"
                    )
                    raise InputError(f"Row {number} of {path} needs a `{column}` ({what}).")
            columns = {key: row[key] for key in row if key not in ("prompt", "completion", "completion_ids")}
            honest, tests = completion_text(row["completion"]), columns.get(gold_column or "tests")
            is_code = tests is not None and str(tests) not in honest and fenced_blocks(honest)
            rows.append((CodeRow if is_code else Row)(row["prompt"], honest, columns))
    if len(rows) < 2:
        raise InputError(f"{path} has one row: the audit compares rows, and needs two or more.")
    columns = dict.fromkeys(key for row in rows for key in row.columns)
    if gold_column and gold_column not in columns:
        raise InputError(f"{path} has no column `{gold_column}`; its rows have: {', '.join(columns) or 'none'}.")
    for row in rows:
        found = "tests" if isinstance(row, CodeRow) else _gold_column(rows, list(columns))
        row.gold_column = gold_column or found
    return with_wrong_answers(rows)


def _gold_column(rows: list[Row], columns: list[str]) -> str | None:
    """The column whose values stand in the right completions, nearest to the end; `answer` and `solution` first."""
    usual = [name for name in ("answer", "solution") if name in columns]
    behind = {}  # how much stands behind the gold answer
    for name in columns:
        golds = [gold_text(row.columns.get(name)) for row in rows]
        if len(set(golds)) > 1 and all(gold and gold in row.honest for gold, row in zip(golds, rows, strict=True)):
            behind[name] = sum(len(row.honest.rpartition(gold)[2]) for gold, row in zip(golds, rows, strict=True))
    standing = [name for name in usual if name in behind] or sorted(behind, key=behind.get)
    return next(iter(standing + usual), None)


class _Audit:
    def __init__(self, worker: Worker, name: str, candidates: list[list[Row]]):
        self.worker, self.name, self.candidates = worker, name, candidates
        self.messages = False  # whether completions are given as messages, which is so where strings do not work

    def checks(self) -> Iterator[Check]:
        facts = self.worker.facts
        missing = [
            [name for name in facts.required if name not in {"prompts", "completion_ids", *rows[0].columns}]
            for rows in self.candidates
        ]
        self.candidates = [rows for rows, names in zip(self.candidates, missing, strict=True) if not names]
        if not self.candidates:
            needed = " and ".join(f"`{name}`" for name in missing[0])
            raise InputError(
                f"{self.name} needs the column {needed}: give rows that have it, with `prompt` and `completion`, "
                "in a JSONL file by --data, or name the column by --gold-column if it is the gold answer's."
            )
        if fault := self._choose_rows():
            yield fault  # nothing else can be judged
            return
        again = self._compare("determinism", "the same a second time", self._ask(self._base()), self._base())
        self.uses_gold = self._uses_gold(noisy=again.verdict != "PASS")
        if self.uses_gold and not all(row.gold for row in self.rows):
            raise InputError(
                f"{self.name} judges by the rows' columns, and which one is the gold answer cannot be told: name it by "
                "--gold-column, with a value in each row."
            )
        yield from self._contract(facts, comparable=again.verdict == "PASS")
        yield again
        if again.verdict == "PASS":
            yield from self._determinism()
        yield from self._hostile()
        yield from self._policies()

    def _choose_rows(self) -> Check | None:
        """Take the rows that the reward pays best; a failed check where it can judge none of them."""
        judged, errors, everything = [], [], [0.0]
        for messages in (False, True):
            for rows in self.candidates:
                self.rows, self.messages = rows, messages
                outcome = self._ask(self._base())
                if outcome.fatal:
                    return self._fault(outcome.error)
                if outcome.error is not None:
                    errors.append(outcome.error)
                    continue
                everything += [reward for reward in outcome.rewards if reward is not None]
                honest = outcome.rewards[:: len(BASE)]
                if any(reward is not None for reward in honest):
                    judged.append((_mean(honest), rows, outcome.rewards))
            if len(errors) < len(self.candidates):  # some call came back: completions of this kind can be judged
                break
        if judged:
            # Nearly the best is good enough: the first set is the fullest.
            enough = max(mean for mean, _, _ in judged) - 0.1 * (max(everything) - min(everything))
            _, self.rows, self.expected = next(entry for entry in judged if entry[0] >= enough)
            return None
        if errors and errors[0].startswith("returned"):
            return self._fault(errors[0])
        if errors and (fault := self._fault_of_a_bad_completion()):
            return fault
        what = errors[0] if errors else _ALL_NONE
        raise InputError(
            f"{self.name} {what.rstrip('.')}. If it needs other rows, give some by --data, a JSONL file with "
            "`prompt`, `completion` (a right one) and its columns; if its gold answer has another column, name it by "
            "--gold-column."
        )

    def _fault(self, error: str, completion: str | None = None) -> Check:
        return Check("contract", "one number or None for each completion", "FAIL", f"it {error}", completion)

    def _fault_of_a_bad_completion(self) -> Check | None:
        """Where the honest completions alone can be judged, a bad one among them is what the reward raises at."""
        for messages in (False, True):
            for rows in self.candidates:
                self.rows, self.messages = rows, messages
                if self._ask([(row, row.honest) for row in rows]).error is None:
                    for row, completion in self._base():
                        if error := self._ask([(row, completion)]).error:
                            return self._fault(error, completion)
        return None

    def _base(self) -> list[tuple[Row, str]]:
        """A few completions for each row, the honest one first."""
        return [(row, text(row)) for row in self.rows for text in BASE]

    def _ask(self, pairs: list[tuple[Row, str | list]], how: str = "", seconds: float | None = None) -> Outcome:
        columns = {
            "prompts": [self._prompt(row) for row, _ in pairs],
            "completions": [self._completion(completion) for _, completion in pairs],
            "completion_ids": [tokens(completion_text(completion)) for _, completion in pairs],
        }
        for key in dict.fromkeys(key for row, _ in pairs for key in row.columns):
            columns[key] = [row.columns.get(key) for row, _ in pairs]
        return self.worker.ask(columns, how, seconds or CALL_SECONDS + len(pairs))

    def _prompt(self, row: Row) -> str | list:
        return (
            [{"role": "user", "content": row.prompt}] if self.messages and isinstance(row.prompt, str) else row.prompt
        )

    def _completion(self, completion: str | list) -> str | list:
        as_message = self.messages and isinstance(completion, str)
        return [{"role": "assistant", "content": completion}] if as_message else completion

    def _uses_gold(self, noisy: bool) -> bool:
        """Whether another row's columns change any reward; the language of a row is no gold answer."""
        mixed = []
        for row, other in zip(self.rows, self.rows[1:] + self.rows[:1], strict=True):
            language = {"language": row.columns["language"]} if "language" in row.columns else {}
            mixed.append(dataclasses.replace(row, columns={**other.columns, **language}))
        pairs = [(mixed[i // len(BASE)], text) for i, (_, text) in enumerate(self._base())]
        outcome = self._ask(pairs)
        if outcome.error is not None:
            return True
        if noisy:  # no two calls are alike: only a clear loss of the honest answers counts
            everything = [reward or 0.0 for reward in self.expected]
            loss = _mean(self.expected[:: len(BASE)]) - _mean(outcome.rewards[:: len(BASE)])
            return loss > 0.25 * (max(everything) - min(everything))
        return not _same(outcome.rewards, self.expected)

    def _compare(self, section: str, name: str, outcome: Outcome, pairs: list, expected: list | None = None) -> Check:
        """PASS where the rewards are the expected ones; else FAIL with the first completion judged otherwise."""
        if outcome.error is not None:
            return Check(section, name, "FAIL", f"it {outcome.error}")
        for (_, completion), reward, wanted in zip(pairs, outcome.rewards, expected or self.expected, strict=True):
            if not _same([reward], [wanted]):
                return Check(section, name, "FAIL", f"{_figure(reward, 7)}, not {_figure(wanted, 7)}", str(completion))
        return Check(section, name, "PASS")

    # Contract

    def _contract(self, facts: Facts, comparable: bool) -> Iterator[Check]:
        section, pairs = "contract", self._base()
        yield Check(section, "one number or None for each completion", "PASS")
        named = isinstance(facts.name, str) and bool(facts.name)
        yield Check(section, "has a __name__", *(("PASS",) if named else ("FAIL", "TRL logs a reward by its __name__")))
        reason = "TRL gives trainer_state, log_extra, log_metric and every column: add **kwargs"
        yield Check(section, "takes columns it does not know", *(("PASS",) if facts.any_keyword else ("FAIL", reason)))
        if not comparable:
            yield Check(section, "strings, messages, golds, pickling, threads", "SKIP", "no two calls are alike")
            return
        if self.messages:
            self.messages = False
            outcome = self._ask(pairs)
            self.messages = True
        else:
            outcome = self._ask([(row, [{"role": "assistant", "content": text}]) for row, text in pairs])
        yield self._compare(section, "strings and messages are judged alike", outcome, pairs)
        turns = [
            (
                row,
                [
                    # Where the last turn says nothing, the one before would be the answer.
                    {"role": "assistant", "content": text and "Let me look this up."},
                    {"role": "tool", "content": "Nothing was found."},
                    {"role": "assistant", "content": text},
                ],
            )
            for row, text in pairs
        ]
        yield self._compare(section, "of several turns the last answer is judged", self._ask(turns), turns)
        for name, completion in (
            ("a message with content None", [{"role": "assistant", "content": None}]),
            ("a completion without messages", []),
        ):
            outcome = self._ask([(row, completion) for row in self.rows])
            fault = ("FAIL", f"it {outcome.error}") if outcome.error else ("PASS",)
            yield Check(section, name, *fault)
        yield from self._golds(section, pairs)
        yield self._compare(section, "works after pickling", self._ask(pairs, "after pickling"), pairs)
        yield self._compare(section, "the same in a worker thread", self._ask(pairs, "in a thread"), pairs)
        outcome = self._ask(pairs, "in eight threads")
        if outcome.error is None:
            outcome.rewards = next((got for got in outcome.rewards if not _same(got, self.expected)), self.expected)
        yield self._compare(section, "the same in eight threads at once", outcome, pairs)

    def _golds(self, section: str, pairs: list) -> Iterator[Check]:
        for kind in (int, float):
            name = f"a gold answer may be {'an int' if kind is int else 'a float'}"
            if not self.uses_gold:
                yield Check(section, name, "SKIP", "it uses no gold answer")
            elif not all(re.fullmatch(r"-?\d{1,15}", row.gold) for row in self.rows):
                yield Check(section, name, "SKIP", "the gold answers are no whole numbers")
            else:
                changed = [(_with_gold(row, kind(row.gold)), text) for row, text in pairs]
                yield self._compare(section, name, self._ask(changed), pairs)
        name = "a gold answer of None cannot be judged: None"
        if not self.uses_gold:
            yield Check(section, name, "SKIP", "it uses no gold answer")
        else:
            without = [(_with_gold(row, None), text) for row, text in pairs]
            yield self._compare(section, name, self._ask(without), pairs, [None] * len(pairs))

    # Determinism

    def _determinism(self) -> Iterator[Check]:
        section, pairs = "determinism", self._base()
        groups = [pairs[i : i + len(BASE)] for i in range(0, len(pairs), len(BASE))]
        turned = [pair for group in reversed(groups) for pair in group]
        outcome = self._ask(turned)
        if outcome.error is None:
            size = len(BASE)
            parts = [outcome.rewards[i : i + size] for i in range(0, len(turned), size)]
            outcome.rewards = [reward for part in reversed(parts) for reward in part]
        yield self._compare(section, "the same with the prompts in another order", outcome, pairs)
        outcome = self._ask(pairs[::-1])
        if outcome.error is None:
            outcome.rewards.reverse()
        yield self._compare(section, "the same with the completions in another order", outcome, pairs)
        alone = Outcome([])
        for group in groups:
            outcome = self._ask(group)
            if outcome.error is not None:
                alone = outcome
                break
            alone.rewards += outcome.rewards
        yield self._compare(section, "a prompt's completions do not depend on other prompts", alone, pairs)
        self.worker.stop()
        yield self._compare(section, "the same in a new process", self._ask(pairs), pairs)

    # Hostile texts

    def _hostile(self) -> Iterator[Check]:
        section, row = "hostile", self.rows[0]
        frames = [(row.thinking("Hm.") + row.tagged("{}"), row)]
        # Beside a gold answer that is no number: what compares numbers first has to go further.
        symbolic = _with_gold(row, r"x^2+\sqrt{2}") if self.uses_gold else row
        frames.append((row.thinking("Hm.") + "The answer is \\boxed{{{}}}.", symbolic))
        self._warm_up(symbolic)
        hangs = 0
        for hostile in hostile_texts():
            if hangs == HANGS:
                yield Check(section, hostile.name, "SKIP", f"after {HANGS} texts from which it did not return")
                continue
            slowest, fault = 0.0, None
            for form, framed_row in [("{}", row)] if hostile.bare else frames:
                completion = form.format(hostile.text)
                # In a thread, where a timeout by signal does not work.
                outcome = self._ask([(framed_row, completion)], "in a thread", HANG_SECONDS)
                slowest = max(slowest, outcome.seconds)
                if outcome.error is not None:
                    fault = f"it {outcome.error}"
                elif outcome.seconds > SLOW_SECONDS:
                    fault = f"it took {outcome.seconds:.1f} s"
                if outcome.hung:
                    hangs += 1
                if self.worker.process is None:
                    self._warm_up(symbolic)
                if fault:
                    yield Check(section, hostile.name, "FAIL", fault, completion)
                    break
            else:
                yield Check(section, hostile.name, "PASS", f"{slowest:.2f} s")
        yield self._evaluates_nothing(section, row)

    def _warm_up(self, symbolic: Row) -> None:
        """What a reward loads once, on its first difficult answer, is no answer's fault."""
        difficult = "\\sqrt{2}+x \\cdot x"
        for marked in (symbolic.tagged(difficult), f"\\boxed{{{difficult}}}"):
            self._ask([(symbolic, symbolic.thinking("Hm.") + marked)], "in a thread")

    def _evaluates_nothing(self, section: str, row: Row) -> Check:
        name = "runs no code of the completion"
        with tempfile.TemporaryDirectory() as folder:
            trap = Path(folder, "trap")
            code = f"__import__('pathlib').Path({str(trap)!r}).touch()"
            completions = [code, f"<answer>{code}</answer>", f"\\boxed{{{code}}}", row.answering(code)]
            for completion in completions:
                self._ask([(row, completion)], seconds=HANG_SECONDS)
                if trap.exists():
                    return Check(section, name, "FAIL", "it ran the Python in this completion", completion)
        return Check(section, name, "PASS")

    # Degenerate policies

    def _policies(self) -> Iterator[Check]:
        section = "policies"
        entries = []  # (policy or None for the honest one, row, completion)
        policies = FORM_POLICIES + ANSWER_POLICIES * self.uses_gold
        for row in self.rows:
            entries.append((None, row, row.honest))
            for policy in [*policies, WITHOUT_ANSWER_TAGS]:
                if (completion := policy.answer(row)) is not None:
                    entries.append((policy.name, row, completion))
        outcome = self._ask([(row, completion) for _, row, completion in entries])
        if outcome.error is not None:
            yield Check(section, "all policies in one batch", "FAIL", f"it {outcome.error}")
            return
        earned: dict = {}  # policy: [(reward, honest reward, completion)]
        honest, unjudged = None, None
        for (policy, _, completion), reward in zip(entries, outcome.rewards, strict=True):
            honest = reward if policy is None else honest
            if reward is None and honest is not None and unjudged is None:
                unjudged = completion
            earned.setdefault(policy, []).append((reward or 0.0, honest or 0.0, completion))
        reason = "TRL leaves a None out, so it costs nothing: a bad completion is 0.0"
        fault = ("PASS",) if unjudged is None else ("FAIL", reason, unjudged)
        yield Check(section, "None is for a row that cannot be judged, not for a bad completion", *fault)
        everything = [reward or 0.0 for reward in outcome.rewards]
        low, high = min(everything), max(everything)
        if low == high:
            reason = f"every completion earns {_figure(low)}; if these rows lack the form that it wants, give right "
            reason += "completions by --data"
            yield Check(section, "tells completions apart", "FAIL", reason)
            return
        if high <= 0 and not self.uses_gold:
            yield from self._penalty(section, earned, low, high)
            return
        kinds = self._kinds(earned)
        for policy in policies:
            yield self._against_honest(section, policy, earned.get(policy.name), policy.earns_less_from in kinds)
        if not self.uses_gold:
            yield Check(section, "wrong answers in the right form", "SKIP", "it uses no gold answer")

    def _kinds(self, earned: dict) -> set[str]:
        """What the reward is, of the kinds that `Policy` names."""
        if self.uses_gold:
            return {"any", "gold", "words"}
        means = {policy: _mean([reward for reward, _, _ in results]) for policy, results in earned.items()}
        kinds = {"any"}
        if means[COPY] < means[None] - 1e-6:
            kinds.add("words")
        if means.get(WITHOUT_ANSWER_TAGS.name, math.inf) <= means[NOTHING] + 1e-6:
            kinds.add("form")
        return kinds

    def _against_honest(self, section: str, policy: Policy, results: list | None, strict: bool) -> Check:
        if not results:
            return Check(section, policy.name, "SKIP", "makes no sense for these rows")
        got, honest = _mean([reward for reward, _, _ in results]), _mean([right for _, right, _ in results])
        figures = f"{_figure(got)} against {_figure(honest)} for honest answers"
        if got < honest - 1e-6 or (not strict and got <= honest + 1e-6):
            return Check(section, policy.name, "PASS", figures)
        _, _, completion = max(results, key=lambda result: result[0] - result[1])
        tie = "as much as" if got <= honest + 1e-6 else "more than"
        return Check(section, policy.name, "FAIL", f"it earns {tie} an honest answer: {figures}", completion)

    def _penalty(self, section: str, earned: dict, low: float, high: float) -> Iterator[Check]:
        """A penalty says nothing of what is right: the honest must go free, and some vice must not."""
        reward, _, completion = min(earned[None])
        near = _mean([reward for reward, _, _ in earned[None]]) >= high - 0.1 * (high - low)
        yield Check(
            section,
            "a penalty: honest answers go free",
            "PASS" if near else "FAIL",
            f"the worst of them gets {_figure(reward)}, of {_figure(low)} at most",
            None if near else completion,
        )
        means = {policy: _mean([reward for reward, _, _ in results]) for policy, results in earned.items()}
        worst = min(means, key=means.get)
        punished = worst is not None and means[worst] < means[None] - 1e-6
        reason = f"{worst}: {_figure(means[worst])}" if punished else "nothing gets less than an honest answer"
        yield Check(section, "a penalty: a vice is punished", "PASS" if punished else "FAIL", reason)


_ALL_NONE = (
    "returned None for every honest completion. If it compares the completions of a prompt, as a majority vote does, "
    "it cannot be audited: among the audit's no two agree"
)
BASE = (
    lambda row: row.honest,
    lambda row: row.other,
    lambda row: "",
    lambda row: FILLER * 300,
)


def _with_gold(row: Row, gold) -> Row:
    changed = {key: gold for key in ("answer", "solution", row.gold_column) if key in row.columns}
    return dataclasses.replace(row, columns={**row.columns, **changed})


def _mean(rewards: list[float | None]) -> float:
    """TRL adds a None as nothing."""
    return sum(reward or 0.0 for reward in rewards) / len(rewards)


def _same(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-6)
        for a, b in zip(one, other, strict=True)
    )


def _figure(reward: float | None, digits: int = 3) -> str:
    return "None" if reward is None else f"{reward:.{digits}g}"


def report(name: str, checks: Iterator[Check]) -> Iterator[str]:
    """The lines to print, as the checks come in, with the verdict last; the generator's value is the exit code."""
    section, done = None, []
    for check in checks:
        if check.section != section:
            yield ("\n" if section else "") + TITLES[check.section]
            section = check.section
        done.append(check)
        yield f"  {check.verdict}  {check.name}" + (f": {printable(check.reason, 200)}" if check.reason else "")
    failed = [check for check in done if check.verdict == "FAIL"]
    skipped = sum(check.verdict == "SKIP" for check in done)
    ran = len(done) - skipped
    also = f" ({skipped} skipped)" if skipped else ""
    yield ""
    if not failed:
        yield f"{name}: all {ran} checks passed{also}."
        return 0
    yield f"{name}: {len(failed)} of {ran} checks failed{also}."
    for check in failed:
        yield f"  {check.section}, {check.name}: {printable(check.reason, 200)}"
        if check.completion is not None:
            yield f"      {printable(check.completion, 110)}"
    return 1


TITLES = {
    "contract": "Contract: what TRL asks of a reward",
    "determinism": "Determinism: the same completion, the same reward",
    "hostile": f"Hostile texts: no exception, and at most {SLOW_SECONDS} s in a worker thread",
    "policies": "Policies that cheat: none may earn what an honest answer earns",
}
