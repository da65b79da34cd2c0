"""The mistakes of other reward functions, each as a test that ours does not make it."""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from trl.rewards import accuracy_reward as trl_accuracy_reward
from trl.rewards import think_format_reward as trl_think_format_reward

from rewards import (
    code_reward,
    correctness_reward,
    get_cosine_length_reward,
    get_language_consistency_reward,
    get_think_format_reward,
    length_reward,
    tag_count_reward,
    think_format_reward,
)


def judge(completion, gold):
    return correctness_reward(completions=[completion], answer=[gold])[0]


def message(text):
    return [{"role": "assistant", "content": text}]


# Correctness


@pytest.mark.parametrize("text", ["#### 18", "<answer>18</answer>", "The answer is 18."])
def test_a_plain_answer_is_seen_in_any_marker(text):
    assert trl_accuracy_reward([message(text)], ["18"]) == [0.0]
    assert judge(message(text), "18") == judge(text, "18") == 1.0


def test_a_string_completion_does_not_raise():
    with pytest.raises(TypeError):
        trl_accuracy_reward([r"\boxed{18}"], ["18"])
    assert judge(r"\boxed{18}", "18") == 1.0


def test_the_gold_int_1_is_no_silent_none():
    for gold in (1, 0, -1, 1.0):
        assert judge(rf"\boxed{{{gold}}}", gold) == 1.0
        assert judge(r"\boxed{2}", gold) == 0.0


def test_a_bare_latex_gold_is_not_misread():
    gold = r"3\sqrt{2}"
    assert trl_accuracy_reward([message(r"$\boxed{3}$")], [gold]) == [1.0]
    assert [judge(r"\boxed{3}", gold), judge(r"\boxed{3\sqrt{2}}", gold)] == [0.0, 1.0]


@pytest.mark.parametrize(
    "gold",
    [
        *(r"\frac{3}{4}", r"-\frac{\sqrt{3}}{2}", r"2\sqrt{13}", r"x^2+7x+10", r"(3,\frac{\pi}{2})", r"[-2,7]"),
        *(
            r"\text{(C)}",
            r"11\sqrt2",
            r"\dfrac{9}{7}",
            r"10{,}000",
            r"90^\circ",
            r"y=2x+3",
            r"(-\infty,0)\cup(1,\infty)",
        ),
        *(
            r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
            r"5\text{ cm}",
            r"6+9i",
            r"\{1,2,3\}",
            r"15\%",
            r"\$32,348",
            "2^{10}",
        ),
    ],
)
def test_a_gold_without_dollar_signs_pays_its_own_solution(gold):
    assert judge(f"Therefore the answer is $\\boxed{{{gold}}}$.", gold) == 1.0
    assert judge("Therefore the answer is $\\boxed{87}$.", gold) == 0.0


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"\frac43", r"\frac{4}{3}"),
        (r"\frac4{3}", r"\frac{4}{3}"),
        (r"\frac 4 3", "4/3"),
        (r"11\sqrt2", r"11\sqrt{2}"),
        (r"10{,}000", "10000"),
        (r"10,\!000", "10000"),
    ],
)
def test_malformed_but_common_latex_is_not_missed(written, meant):
    assert judge(f"\\boxed{{{written}}}", meant) == judge(f"\\boxed{{{meant}}}", written) == 1.0


def test_the_last_of_two_answers_counts():
    assert judge(r"\boxed{41} no wait, \boxed{42}", "42") == 1.0
    assert judge(r"\boxed{42} no wait, \boxed{41}", "42") == 0.0


@pytest.mark.parametrize(
    ("hedge", "gold"),
    [
        ("41 or 42", "42"),
        ("42 or 41", "42"),
        ("41, 42", "42"),
        (r"41 \text{ or } 42", "42"),
        ("either 42 or 43", "42"),
        ("42 (or 43)", "42"),
        ("(A), (B), (C), (D)", "B"),
        ("A, B, C, D, E", "B"),
        ("not 42", "42"),
        (r"x=1 \text{ or } x=2", "x=1"),
    ],
)
def test_a_hedge_earns_nothing(hedge, gold):
    for text in (f"<answer>{hedge}</answer>", f"\\boxed{{{hedge}}}", f"#### {hedge}", f"The answer is {hedge}."):
        assert judge(text, gold) == 0.0, text


@pytest.mark.parametrize("answer", [r"4200\%", "4200%", "41=42", "42=41", r"42 \approx 41", r"41 \approx 42", "6*8=42"])
def test_a_percentage_a_false_chain_and_an_approximation_are_not_the_number(answer):
    assert judge(f"\\boxed{{{answer}}}", "42") == judge(f"<answer>{answer}</answer>", "42") == 0.0


def test_a_true_chain_is_judged_by_its_end():
    assert judge(r"\boxed{6 \cdot 7 = 42}", "42") == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "<think>The answer is 42. \\boxed{42}</think>",
        "<think>\\boxed{42}</think> So I am done.",
        "<think>\\boxed{42}",
        "<think><answer>42</answer></think>",
        "<think>42</think><think>#### 42",
        "#### 42</think>",
    ],
)
def test_an_answer_only_inside_the_thinking_is_none(text):
    assert judge(text, "42") == 0.0
    thought = text.replace("<think>", "").replace("</think>", "")
    assert judge([{"role": "assistant", "content": "", "reasoning_content": thought}], "42") == 0.0


HOSTILE = [
    "9^{9^{9^{9}}}",
    "2^{2^{2^{2^{2^{2}}}}}",
    "1000000!",
    "((10!)!)!",
    r"\sum_{k=1}^{1000000000} \frac{1}{k^{2}}",
    r"\prod_{k=1}^{100000} k",
    r"\binom{1000000000}{500000000}",
    r"\int_0^1 \sin(\cos(\tan(x^{x^{x}}))) dx",
    r"\lim_{x \to 0} \frac{\sin(\sin(\sin(\sin(x^{9}))))}{x^{9}}",
    r"\frac{1}{1+" * 60 + "x" + "}" * 60,
    r"\sqrt{" * 60 + "2" + "}" * 60,
    r"\{" + ",".join(map(str, range(5000))) + r"\}",
    "(x+1)^{20000}",
    "(a+b+c+d+e+f)^{40}",
    "+".join(rf"\sin({k}x)" for k in range(60)),
    "1" * 100_000,
]


def test_the_deadline_holds_in_a_worker_thread_too():
    completions = [f"<answer>{text}</answer>" for text in HOSTILE]
    golds = [r"\sqrt{2}+x"] * len(HOSTILE)
    assert judge(r"\boxed{2\sin x\cos x}", r"\sin 2x") == 1.0  # the workers have started

    def timed():
        started = time.perf_counter()
        return correctness_reward(completions=completions, answer=golds), time.perf_counter() - started

    expected, seconds = timed()
    assert expected == [0.0] * len(HOSTILE) and seconds < 4.0
    with ThreadPoolExecutor(1) as thread:
        rewards, seconds = thread.submit(timed).result()
    assert rewards == expected and seconds < 4.0


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('touch pwned')",
        "open('pwned','w')",
        r"\text{__import__('os').system('touch pwned')}",
        r"\operatorname{exec}(\text{open('pwned','w')})",
        "(lambda:open('pwned','w'))()",
        "x.__class__.__base__.__subclasses__()",
    ],
)
def test_the_text_of_the_model_is_never_evaluated(text):
    for completion in (f"<answer>{text}</answer>", f"\\boxed{{{text}}}", text):
        assert judge(completion, "x+1") == 0.0
    judge(r"\boxed{x+1}", text)
    assert not Path("pwned").exists()


def test_no_module_of_the_rewards_evaluates_text():
    folder = Path(__file__).parent.parent / "rewards"
    lint = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "S102,S307", str(folder)]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# Format

A_THOUGHT = "<think>12+7=19</think>"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("<think></think><answer>19</answer>", "an empty thought"),
        ("<think>\n\n</think><answer>19</answer>", "a blank thought"),
        (f"{A_THOUGHT}<answer></answer>", "an empty answer"),
        (f"{A_THOUGHT}</think></think><answer>19</answer>", "three closing tags"),
        (f"{A_THOUGHT}<answer>19</answer>" * 2, "two whole blocks"),
        (f"{A_THOUGHT}<answer>19</answer> It was easy.", "text after the answer"),
        (f"{A_THOUGHT} so <answer>19</answer>", "text between the blocks"),
        (f"Sure! {A_THOUGHT}<answer>19</answer>", "text before the thought"),
        (f"<answer>19</answer>{A_THOUGHT}", "the wrong order"),
        ("</think>12+7=19<think></answer>19<answer>", "each tag the wrong way round"),
        ("<think><answer>12+7=19</think>19</answer>", "crossed tags"),
    ],
)
def test_a_form_that_others_pay_for_earns_nothing(text, mistake):
    assert think_format_reward(completions=[text, message(text)]) == [0.0, 0.0], mistake


def test_trl_pays_for_an_empty_thought_and_three_closing_tags():
    hacks = ["<think></think>19", "<think>a</think></think></think>19", "<think>a</think>"]
    assert trl_think_format_reward([message(text) for text in hacks]) == [1.0] * 3
    assert get_think_format_reward(answer=None)(completions=hacks) == [0.0] * 3


def test_a_thought_of_several_lines_is_well_formed():
    text = "<think>\n12 + 7 = 19\n\n19 - 5 = 14\n</think>\n<answer>\n14\n</answer>\n"
    assert think_format_reward(completions=[text, message(text)]) == [1.0, 1.0]


def test_a_tag_stands_once_or_earns_nothing():
    assert tag_count_reward(completions=["<think>" * 4, "</answer><answer></think><think>"]) == [0.0, 0.25]


# Length


def ids(*lengths):
    return [[7] * length for length in lengths]


def test_lengths_are_compared_within_one_prompts_group_and_not_across_the_batch():
    easy, hard = ids(10, 20), ids(1000, 2000)
    columns = {"completions": ["#### 5"] * 4, "answer": [5] * 4}
    batch = length_reward(prompts=["easy", "easy", "hard", "hard"], completion_ids=easy + hard, **columns)
    assert batch == [0.5, -0.5, 0.5, -0.5]  # across the batch the hard ones would be 0.0025 and -0.5


def test_the_cosine_does_not_climb_again_beyond_max_len():
    reward = get_cosine_length_reward(max_len=100)
    lengths = (0, 50, 100, 150, 200, 1000)
    rewards = reward(completions=["#### 5"] * 6, completion_ids=ids(*lengths), answer=[5] * 6)
    assert rewards == [1.0, pytest.approx(0.75), 0.5, 0.5, 0.5, 0.5]


def test_the_cosine_counts_tokens_and_not_characters():
    reward = get_cosine_length_reward(max_len=100)
    texts = ["#### 5", " " * 500 + "#### 5"]
    assert len(set(reward(completions=texts, completion_ids=ids(30, 30), answer=[5] * 2))) == 1
    with pytest.raises(ValueError, match="counts tokens: give `completion_ids`"):
        reward(completions=texts, answer=[5] * 2)


# Language

ENGLISH = "First we add the apples that Tom has bought at the market to those that he had before."
CHINESE = "首先我们把汤姆在市场上买的苹果和他之前已经有的苹果加在一起，一共是十九个苹果。"


def in_english(text):
    return get_language_consistency_reward(target="en")(completions=[text])[0]


def test_the_reward_is_the_share_of_words_and_not_one_label_per_text():
    shares = [in_english(f"<think>{text}</think>") for text in (ENGLISH, ENGLISH + CHINESE, CHINESE)]
    assert shares[0] == 1.0 and 0.3 < shares[1] < 0.7 and shares[2] == 0.0
    more = in_english(f"<think>{ENGLISH} {ENGLISH} {CHINESE}</think>")
    assert shares[1] < more < 1.0


def test_only_the_reasoning_is_judged():
    assert in_english(f"<think>{ENGLISH}</think>一共十九个苹果。") == 1.0


@pytest.mark.parametrize(
    "foreign",
    [
        "$\\frac{12}{7} + \\sin(x) = 19$",
        "12 + 7 = 19, 19 - 5 = 14.",
        "```python\nfor manzana in canasta: sumar(manzana)\n```",
        "`manzana_roja`",
        "\\[\\sum_{k=1}^{n} k = \\frac{n(n+1)}{2}\\]",
    ],
)
def test_math_code_and_numbers_are_no_language(foreign):
    for text in (ENGLISH, CHINESE):
        for target in ("en", "zh"):
            reward = get_language_consistency_reward(target=target)
            with_it, without = reward(completions=[f"<think>{text}\n{foreign}\n</think>", f"<think>{text}\n</think>"])
            assert with_it == without


def test_half_chinese_text_is_not_english():
    mixed = "<think>We add the apples. 首先我们把苹果加起来。 Then we count them. 然后我们数一数一共有多少个。</think>"
    assert 0.2 < in_english(mixed) < 0.8


def test_the_language_is_told_the_same_in_every_process_and_order():
    text = f"<think>Tom va. {ENGLISH} Anna kauft Brot. Il mange.</think>"
    program = f"from rewards import *; print(get_language_consistency_reward(target='en')(completions=[{text!r}] * 5))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "01"
    }
    assert outputs == {f"{[in_english(text)] * 5}\n"}


# Code


def run(code: str, tests) -> float | None:
    completion = f"```python\n{code}\n```"
    return code_reward(completions=[completion], tests=[tests])[0]


@pytest.mark.needs_sandbox
def test_every_line_that_should_be_printed_counts_and_not_the_first_alone():
    three_lines = {"inputs": ["3"], "outputs": ["1\n2\n3\n"]}
    assert run("for i in range(int(input())):\n    print(i + 1)", three_lines) == 1.0
    for printed in ("1", "1\\n2", "1\\n2\\n3\\n4", ""):
        # What pairs the lines by `zip` without `strict` sees no difference.
        assert run(f"print('{printed}')", three_lines) == 0.0, printed


@pytest.mark.needs_sandbox
def test_the_code_of_the_model_writes_nothing_in_the_folder_of_the_caller(tmp_path):
    before = sorted(tmp_path.iterdir())
    for target in ("pwned", tmp_path / "pwned"):
        write = f"open({str(target)!r}, 'w').write('x')"
        tried = f"try:\n    {write}\nexcept OSError:\n    pass\ndef f(x):\n    return x"
        assert run(tried, "assert f(1) == 1") == 1.0, "the code itself is right"
        run(f"def f(x):\n    {write}\n    return x", "assert f(1) == 1")
        run(f"{write}\nprint(1)", {"inputs": ["1"], "outputs": ["1"]})
    assert sorted(tmp_path.iterdir()) == before and not Path("pwned").exists()


@pytest.mark.needs_sandbox
@pytest.mark.parametrize(
    "ending", ["import sys; sys.exit(0)", "import os; os._exit(0)", "raise SystemExit", "print('1 passed')"]
)
def test_a_clean_exit_before_the_tests_is_not_a_pass(ending):
    """It is, where code and tests are one program whose exit code is asked for."""
    assert run(f"def f(x):\n    return 7\n{ending}", "assert f(1) == 1") == 0.0
