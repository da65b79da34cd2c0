"""Whatever a model writes: no exception, no reward, and an end in time."""

import asyncio
import inspect
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rewards
from rewards import correctness_reward, exact_match_reward, is_equivalent

SLACK = 4  # seconds beyond the deadline, for a machine that others use too
MB10 = 10_000_000
HOSTILE = {
    "100,000 digits": "9" * 100_000,
    "digits beyond Python's limit": "7" * 4_301,
    "100,000 decimals": "0." + "3" * 100_000,
    "a huge exponent": "1e999999999",
    "a huge power of ten": r"10^{999999999}",
    "a scientific tower": r"1.5 \times 10^{10^{10}}",
    "a tower": "9^{9^{9^{9}}}",
    "a tower of twos": "2^{2^{2^{2^{2}}}}",
    "a tower without braces": "9^9^9^9",
    "a power": "3^{10^{9}}",
    "a power of a power": "(3^{9999})^{9999}",
    "a power near one": "1.0000001^{99999}",
    "irrational powers": r"\pi^{\pi^{\pi}}",
    "a huge root": r"\sqrt[99999]{2}",
    "exponentials": "e^{e^{e^{e^{10}}}}",
    "logarithms": r"\log(\log(\log(10^{10^{10}})))",
    "a factorial": "(10^{9})!",
    "a factorial of five digits": "99999!",
    "a factorial of four digits": "5000!",
    "factorials of factorials": "((((9!)!)!)!)!",
    "a gamma function": r"\Gamma(10^{10})",
    "a binomial": r"\binom{10^{9}}{5\cdot10^{8}}",
    "a binomial of five digits": r"\binom{99999}{44444}",
    "a long sum": r"\sum_{k=1}^{10^{9}}\frac{1}{k}",
    "a sum of sines": r"\sum_{k=1}^{99999}\sin(k)",
    "a long product": r"\prod_{k=1}^{99999}k",
    "10,000 summands": "+".join(["1"] * 10_000),
    "an integral": r"\int_0^1 \sin(x^x) e^{x^2} dx",
    "a limit": r"\lim_{x\to0}\frac{\sin x}{x^x}",
    "a derivative": r"\frac{d^{50}}{dx^{50}}\sin(x^{50})",
    "nested functions": r"\sin(" * 12 + "x" + ")" * 12,
    "a cosine of a huge number": r"\cos(10^{100})",
    "a floor of a huge number": r"\lfloor 10^{50}\pi \rfloor",
    "a power of a sum": "(x+y+z+w)^{400}",
    "a high degree": "(x+1)^{9999}",
    "a long polynomial": "+".join(f"x^{{{k}}}" for k in range(400)),
    "nested fractions": r"\frac{1}{1+" * 20 + "x" + "}" * 20,
    "3,000 nested fractions": r"\frac{1}{" * 3_000 + "1" + "}" * 3_000,
    "nested roots": r"\sqrt{x+" * 20 + "1" + "}" * 20,
    "5,000 nested roots": r"\sqrt{" * 5_000 + "2" + "}" * 5_000,
    "100,000 parentheses": "(" * 100_000 + "1" + ")" * 100_000,
    "400 parentheses": "(" * 400 + "1" + ")" * 400,
    "bars": "|" * 300,
    "overlines": r"\overline{" * 100,
    "open braces": "{" * 100_000,
    "closed braces": "}" * 100_000,
    "open parentheses": "(" * 100_000,
    "commands without arguments": r"\frac" * 10_000,
    "backslashes": "\\" * 100_001,
    "carets": "^" * 100_000,
    "underscores": "_" * 100_000,
    "dollars": "$" * 100_001,
    "a set of 100,000": r"\{" + ",".join(map(str, range(100_000))) + r"\}",
    "a list of 5,000": ",".join(map(str, range(5_000))),
    "a union": r"\cup".join(f"[{k},{k + 1}]" for k in range(0, 2_000, 2)),
    "a matrix to a power": r"\begin{pmatrix}1&2\\3&4\end{pmatrix}^{99999}",
    "a large matrix": r"\begin{pmatrix}" + r"\\".join(["&".join("1" * 30)] * 30) + r"\end{pmatrix}",
    "an inverse of symbols": r"\begin{pmatrix}a&b&c&d\\e&f&g&h\\i&j&k&l\\m&n&o&p\end{pmatrix}^{-1}",
    "a remainder": r"3^{100000} \mod 7",
    "plus or minus": r"\pm" * 5_000,
    "a few times plus or minus": r"1\pm2\pm3\pm4\pm5\pm6\pm7\pm8\pm9",
    "commas": "," * 10_000,
    "equals": "=" * 10_000,
    "a chain": "=".join(["43"] * 3_000),
    "inequalities": "<".join(map(str, range(1_000))),
    "and": "and " * 100_000,
    "or": "41 or " * 100_000,
    "mixed numbers": r"1\frac12" * 5_000,
    "thousands": "1," * 100_000,
    "code": "__import__('os').system('exit')",
    "a lambda": "(lambda: 1/0)()",
    "a lone surrogate": "\ud800",
    "NUL": "\0",
    "a number with NUL": "42\0\0",
    "right to left": "\u202e24",
    "combining marks": "4" + "\u0301" * 100_000,
    "many other digits": "٤٢" * 1_000,
    "superscripts": "⁹" * 1_000,
    "vulgar fractions": "½" * 1_000,
    "10 MB of x": "x" * MB10,
    "10 MB of spaces": " " * MB10,
    "10 MB of lines": "\n" * MB10,
    "10 MB of #": "#" * MB10,
    "10 MB of $": "$" * MB10,
    "10 MB of <": "<" * MB10,
    "10 MB of <answer>": "<answer>" * (MB10 // 8),
    "10 MB of </think>": "</think>" * (MB10 // 8),
    "10 MB of boxes": r"\boxed{" * (MB10 // 7),
    "10 MB of closed boxes": r"\boxed{4}" * (MB10 // 9),
    "10 MB of phrases": "the answer is " * (MB10 // 14),
    "10 MB of Chinese phrases": "答案是" * (MB10 // 3),
    "10 MB of fences": "```" * (MB10 // 3),
    "10 MB of surrogates": "\ud800" * MB10,
}  # fmt: skip
FRAMES = ("\\boxed{%s}", "<think>a</think><answer>%s</answer>", "The answer is %s", "%s")
WORST = [name for name in HOSTILE if name.startswith("10 MB")] + ["100,000 digits", "combining marks", "or", "dollars"]
# Neither a number nor a polynomial, so that the algebra must look at what the guards let through.
GOLDS = ["42", r"\sqrt{2}+x"]
TIMEOUT = 0.1
reward = rewards.get_correctness_reward(timeout=TIMEOUT)


@pytest.fixture(scope="module", autouse=True)
def warm():
    assert is_equivalent(r"\sqrt{2}+\pi", r"\pi+\sqrt{2}", timeout=30)
    rewards.get_language_consistency_reward(target="en")(completions=["load the model of languages"])


def timed(call, seconds):
    begin = time.monotonic()
    result = call()
    assert time.monotonic() - begin < seconds + SLACK
    return result


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_completion_gets_nothing_and_takes_no_time(name):
    texts = [frame % HOSTILE[name] for frame in FRAMES]
    for gold in GOLDS:
        call = {"completions": texts, "answer": [gold] * len(texts)}
        assert timed(lambda call=call: reward(**call), len(texts) * TIMEOUT) == [0.0] * len(texts)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_gold_pays_nothing_and_takes_no_time(name):
    hostile = HOSTILE[name]
    for gold in (hostile, rf"\boxed{{{hostile}}}", f"Add up.\n#### {hostile}"):
        assert timed(lambda gold=gold: is_equivalent(r"\sqrt{3}+1", gold, timeout=TIMEOUT), TIMEOUT) in (False, None)


GOLDS_OF_ANY_TYPE = [10**5_000, -(10**100_000), 1e308, float("inf"), float("nan"), None, True, b"4", [], {}, object()]


@pytest.mark.parametrize("row", range(len(GOLDS_OF_ANY_TYPE)))
def test_a_gold_of_any_type_is_judged_or_is_no_gold(row):
    call = {"completions": ["<answer>3</answer>"], "answer": [GOLDS_OF_ANY_TYPE[row]]}
    assert timed(lambda: correctness_reward(**call), 1)[0] in (0.0, None)


MALFORMED = [
    None,
    7,
    0.5,
    True,
    b"42",
    [],
    {},
    {"role": "assistant", "content": "42"},
    [None],
    [1, 2],
    [[{"role": "assistant", "content": "42"}]],
    [[]],
    ["<answer>42</answer>"],
    [{}],
    [{"role": "assistant"}],
    [{"role": "assistant", "content": None}],
    [{"role": "assistant", "content": 42}],
    [{"role": "assistant", "content": {"text": "42"}}],
    [{"role": "assistant", "content": [None, 42, "42", {}, {"type": "text"}, {"type": "text", "text": 42}]}],
    [{"role": "assistant", "content": [{"type": "image", "text": "42"}]}],
    [{"role": "assistant", "content": "", "reasoning_content": 42, "tool_calls": [None]}],
    [{"role": None, "content": "<answer>42</answer>"}],
    [{"role": "user", "content": "<answer>42</answer>"}],
    ({"role": "assistant", "content": "42"},),
]


def columns(completions: list) -> dict:
    rows = len(completions)
    return {
        "completions": completions,
        "prompts": ["What is 6 times 7, as a number of one or two digits?"] * rows,
        "completion_ids": [[1, 2, 3]] * rows,
        "answer": ["42"] * rows,
        "tests": ["assert f(6, 7) == 42"] * rows,
    }


READY_MADE = [name for name in rewards.__all__ if name.endswith("_reward") and not name.startswith("get_")]
MADE = {
    "cosine_length": lambda: rewards.get_cosine_length_reward(max_len=100),
    "overlong": lambda: rewards.get_overlong_penalty_reward(100, 50),
    "lenient correctness": lambda: rewards.get_correctness_reward(lenient=True, timeout=TIMEOUT),
    "format of C++": lambda: rewards.get_code_format_reward(language="cpp", prefilled=True),
    "prefilled format": lambda: rewards.get_think_format_reward(answer=None, prefilled=True),
    "short repetition": lambda: rewards.get_repetition_penalty_reward(ngram=1),
    "Chinese": lambda: rewards.get_language_consistency_reward(target="zh"),
}
EVERY_REWARD = {name: getattr(rewards, name) for name in READY_MADE} | {name: make() for name, make in MADE.items()}
RUN_CODE = ("async_code_reward", "code_reward")
NAMES = [pytest.param(name, marks=[pytest.mark.needs_sandbox] * (name in RUN_CODE)) for name in EVERY_REWARD]


def judged_by(name: str, completions: list) -> list[float | None]:
    given = EVERY_REWARD[name](**columns(completions))
    return asyncio.run(given) if inspect.isawaitable(given) else given


@pytest.mark.parametrize("name", NAMES)
def test_every_reward_survives_the_worst_texts(name):
    for hostile in WORST:
        texts = [frame % HOSTILE[hostile] for frame in ("%s", "<think>%s</think><answer>4</answer>")]
        given = timed(lambda texts=texts: judged_by(name, texts), 1)
        assert [value for value in given if value is None or -1.0 <= value <= 1.0] == given


@pytest.mark.parametrize("name", NAMES)
def test_a_malformed_completion_is_an_empty_one(name):
    assert judged_by(name, MALFORMED) == judged_by(name, [""] * len(MALFORMED))


PIECES = st.sampled_from(
    r"\boxed{ } { ( ) [ ] \frac \frac{1}{2} \sqrt \text{ \pm \cup \infty ^ _ ! , ; = < \leq \in | & \\ $ ####".split()
    + r"<answer> </answer> <think> </think> Answer: 答案是 and or 42 4.2 1,000 x y e i \pi \sin \sum_{ \int".split()
)


@settings(max_examples=60)
@given(st.lists(PIECES, max_size=12).map("".join), st.lists(PIECES, max_size=8).map("".join))
def test_any_two_texts_are_compared_without_an_exception(candidate, gold):
    assert is_equivalent(candidate, gold, timeout=TIMEOUT) in (True, False, None)
    assert reward(completions=[candidate], answer=[gold])[0] in (0.0, 1.0, None)
    assert exact_match_reward(completions=[candidate], answer=[gold])[0] in (0.0, 1.0, None)
