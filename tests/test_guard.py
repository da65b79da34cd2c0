"""A reward that raises, hangs or gives no number loses its row, not the run."""

import logging
import math
import random
import re
import signal
import threading
import time
from collections import Counter

import pytest

from recipes.guard import GuardedReward, within
from rewards.correctness import correctness_reward
from rewards.sandbox import SandboxError


def fragile_reward(prompts, completions, answer, log_extra=None, **kwargs):
    log_extra("length", [len(completion) for completion in completions])
    return [float(int(completion) == gold) for completion, gold in zip(completions, answer, strict=True)]


def call(reward, completions, **columns):
    return reward(prompts=["p"] * len(completions), completions=completions, **columns)


def test_a_row_that_raises_is_reported_and_judged_none(caplog):
    logged = {}
    reward = GuardedReward(fragile_reward)
    assert reward.__name__ == "fragile_reward"
    rewards = call(reward, ["1", "what", "3"], answer=[1, 2, 4], log_extra=logged.__setitem__)
    assert rewards == [1.0, None, 0.0]
    assert logged == {"length": [1, None, 1]}
    [message] = [record.getMessage() for record in caplog.records]
    assert "fragile_reward" in message and "row 1" in message and "'what'" in message and "ValueError" in message


def test_without_a_fault_the_reward_is_called_once_and_says_nothing(caplog):
    calls = []

    def reward(completions, **kwargs):
        calls.append(completions)
        return [1.0] * len(completions)

    assert call(GuardedReward(reward), ["a", "b"]) == [1.0, 1.0]
    assert calls == [["a", "b"]] and not caplog.records


def test_the_other_rows_are_still_judged_as_one_batch():
    def shortest(completions, **kwargs):
        if "bad" in completions:
            raise RuntimeError
        return [float(len(c) == min(map(len, completions))) for c in completions]

    assert call(GuardedReward(shortest), ["aaa", "bad", "a"]) == [0.0, None, 1.0]


def test_a_reward_that_fails_on_batches_only_judges_nothing(caplog):
    def single(completions, **kwargs):
        if len(completions) > 1:
            raise RuntimeError("one at a time")
        return [1.0]

    with caplog.at_level(logging.WARNING):
        assert call(GuardedReward(single), ["a", "b"]) == [None, None]
    assert "one at a time" in caplog.text


def test_a_sandbox_that_is_missing_is_no_fault_of_a_row():
    def reward(completions, **kwargs):
        raise SandboxError("there is none")

    with pytest.raises(SandboxError, match="there is none"):
        call(GuardedReward(reward), ["a", "b"])


def test_what_the_template_prefilled_is_judged_as_written():
    seen = []

    def reward(completions, **kwargs):
        seen.extend(completions)
        return [0.0] * len(completions)

    call(GuardedReward(reward, prefill="<think>\n"), ["a</think>", [{"role": "assistant", "content": "b</think>"}]])
    assert seen == ["<think>\na</think>", [{"role": "assistant", "content": "<think>\nb</think>"}]]


def test_a_reward_that_answers_for_too_few_rows_judges_nothing(caplog):
    def short(completions, **kwargs):
        return [1.0]

    assert call(GuardedReward(short), ["a", "b"]) == [None, None]
    assert "1 rewards for 2 completions" in caplog.text


def test_an_extra_column_of_a_wrong_length_is_dropped():
    def careless(completions, log_extra, **kwargs):
        log_extra("note", ["one too many"] * (len(completions) + 1))
        return [1.0] * len(completions)

    logged = {}
    assert call(GuardedReward(careless), ["a", "b"], log_extra=logged.__setitem__) == [1.0, 1.0]
    assert logged == {}


def test_trying_rows_one_by_one_leaves_the_metrics_alone():
    heard = []

    def reward(completions, log_metric, **kwargs):
        log_metric("size", len(completions))
        if "bad" in completions:
            raise RuntimeError
        return [1.0] * len(completions)

    call(GuardedReward(reward), ["a", "bad", "c"], log_metric=lambda name, value: heard.append(value))
    assert heard == [3, 2]


def loops():
    while True:
        try:
            time.sleep(0.01)
        except Exception:  # a retry that never gives up
            pass


def backtracks():
    re.match(r"(a+)+$", "a" * 40 + "b")


def waits():
    threading.Event().wait()


def catches_everything():
    until = time.monotonic() + 3
    while time.monotonic() < until:
        try:
            time.sleep(1)
        except BaseException:
            continue
    loops()


@pytest.mark.parametrize("hang", [loops, backtracks, waits])
@pytest.mark.faults
def test_a_row_on_which_it_hangs_is_reported_and_judged_none(hang, caplog):
    def reward(completions, **kwargs):
        return [hang() if completion == "bad" else 1.0 for completion in completions]

    handler = signal.getsignal(signal.SIGALRM)
    started = time.monotonic()
    assert call(GuardedReward(reward, seconds=0.6), ["a", "bad", "c"]) == [1.0, None, 1.0]
    assert time.monotonic() - started < 5
    assert "no answer within 0.6 s (--reward_timeout) for 3 completions: each is tried alone." in caplog.text
    assert "row 1" in caplog.text
    assert signal.getsignal(signal.SIGALRM) is handler and signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.faults
def test_what_catches_everything_is_stopped_all_the_same():
    with pytest.raises(TimeoutError):
        within(0.1, catches_everything)


def uses_the_alarm_itself():
    signal.signal(signal.SIGALRM, handler := signal.signal(signal.SIGALRM, lambda number, frame: None))
    signal.alarm(5)
    signal.alarm(0)  # and with it everybody's
    assert handler
    time.sleep(60)


@pytest.mark.faults
def test_what_uses_the_alarm_itself_is_stopped_all_the_same():
    handlers = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGVTALRM)]
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        within(0.1, uses_the_alarm_itself)
    assert time.monotonic() - started < 10
    assert handlers == [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGVTALRM)]


def test_what_ends_at_its_deadline_ends_with_a_value_or_a_timeout():
    chance, found = random.Random(0), Counter()
    for _ in range(400):

        def call():
            until = time.perf_counter() + 0.0005 + chance.uniform(-5e-5, 2e-5)
            while time.perf_counter() < until:
                pass
            return "value"

        try:
            found[within(0.0005, call)] += 1
        except TimeoutError:
            found["late"] += 1
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert found["value"] and found["late"] and found.total() == 400


def test_in_another_thread_nothing_is_limited():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(call(GuardedReward(lambda **columns: [1.0], seconds=0.1), ["a"]))
    )
    thread.start()
    thread.join()
    assert found == [[1.0]]


def test_the_rewards_of_the_library_have_deadlines_of_their_own():
    assert GuardedReward(correctness_reward, seconds=5).seconds == 0
    assert GuardedReward(fragile_reward, seconds=5).seconds == 5


def test_what_is_no_finite_number_is_reported_and_judged_none(caplog):
    def reward(completions, **kwargs):
        return [math.nan, math.inf, True, None]

    rewards = call(GuardedReward(reward), ["a", "b", "c", "d"])
    assert rewards == [None, None, 1.0, None] and type(rewards[2]) is float
    said = [record.getMessage() for record in caplog.records]
    assert said == ["reward gave nan on row 0, judged None: 'a'", "reward gave inf on row 1, judged None: 'b'"]


@pytest.mark.parametrize("answer", [None, 1.0, ["right"], [[1.0]] * 2])
def test_what_is_no_list_of_numbers_judges_nothing(answer):
    assert call(GuardedReward(lambda **columns: answer), ["a", "b"]) == [None, None]


def test_of_many_rows_a_few_are_named(caplog):
    assert call(GuardedReward(fragile_reward), ["?"] * 9, answer=[1] * 9) == [None] * 9
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 4 and said[-1] == "fragile_reward: so for 6 more of 9 rows."
