"""The reward for the right answer: its options, its columns, its golds and what it logs."""

import inspect
import pickle
import pydoc

import pytest

from rewards import correctness_reward, get_correctness_reward

RIGHT = "<think>12+7=19</think><answer>19</answer>"


def judge(completion, gold, **options):
    return get_correctness_reward(**options)(completions=[completion], answer=[gold])[0]


# The options


def test_the_gold_column_may_have_any_name():
    reward = get_correctness_reward(gold_column="target")
    assert reward(completions=["19", "19"], target=["19", 20], answer=["20", "20"]) == [1.0, 0.0]
    with pytest.raises(ValueError, match="needs the gold answers: give the data set a column `target`"):
        reward(completions=["19"], answer=["19"])


def test_answer_is_taken_where_both_columns_are_given():
    assert correctness_reward(completions=["19"], answer=["19"], solution=["20"]) == [1.0]
    assert correctness_reward(completions=["19"], answer=None, solution=["20"]) == [0.0]


@pytest.mark.parametrize(
    ("completion", "strict", "lenient", "why"),
    [
        ("So she has 19 left.", 0.0, 1.0, "no marker"),
        ("She had 20 and has 19 left.", 0.0, 1.0, "the last number"),
        ("She has 19 of 20 left.", 0.0, 0.0, "the last number"),
        ("Hence $x = 19$ as claimed", 0.0, 1.0, "the last expression"),
        (RIGHT, 1.0, 1.0, "a marker"),
        ("<answer>20</answer> and 19", 0.0, 0.0, "a marker goes before a number"),
        ("<think>19", 0.0, 0.0, "an unclosed thought"),
    ],
)
def test_lenient_reads_the_last_number_of_a_text_without_a_marker(completion, strict, lenient, why):
    assert judge(completion, "19") == strict, why
    assert judge(completion, "19", lenient=True) == lenient, why


@pytest.mark.parametrize(
    ("completion", "tags", "expected", "why"),
    [
        ("<reasoning>6*7</reasoning><final>42</final>", ("reasoning", "final"), 1.0, "names of one's own"),
        ("<reasoning>6*7</reasoning><final>42</final>", ("think", "answer"), 0.0, "which others do not know"),
        ("<reasoning><final>42</final></reasoning>", ("reasoning", "final"), 0.0, "only inside the thought"),
        ("<reasoning><final>42</final>", ("reasoning", "final"), 0.0, "an unclosed thought"),
        ("<reasoning>41</reasoning>#### 42", ("reasoning", "final"), 1.0, "the other markers hold"),
        ("<FINAL>42</FINAL>", ("reasoning", "final"), 1.0, "in capitals"),
        ("<final-answer>42</final-answer>", ("think", "final-answer"), 1.0, "a name with a hyphen"),
        ("<a.b>42</a.b><axb>41</axb>", ("think", "a.b"), 1.0, "a name is no pattern"),
        ("<think>#### 42", (None, "answer"), 1.0, "no tag of a thought: all of it counts"),
        ("<think>#### 42", ("think", "answer"), 0.0, "and else nothing does"),
        ("<answer>42</answer> I think", ("think", None), 0.0, "no tag of an answer"),
        ("<answer>\\boxed{42}</answer> I think", ("think", None), 1.0, "then only the other markers"),
        ("<think>a</think>42", ("think", None), 1.0, "or the bare answer"),
        ("<answer>41</answer> or \\boxed{42}", (None, None), 1.0, "neither"),
    ],
)
def test_tags_have_any_names_or_none(completion, tags, expected, why):
    assert judge(completion, "42", tags=tags) == expected, why


def test_the_algebra_ends_at_the_timeout():
    same = (r"<answer>2\sin x\cos x</answer>", r"\sin 2x")
    assert judge(*same, timeout=10) == 1.0
    assert judge(*same, timeout=1e-4) == 0.0


@pytest.mark.parametrize("option", ["gold", "gold_colum", "tag", "time_out", "strict"])
def test_an_unknown_option_is_a_type_error_at_construction(option):
    with pytest.raises(TypeError, match=option):
        get_correctness_reward(**{option: "x"})
    with pytest.raises(TypeError):
        get_correctness_reward("answer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"timeout": value}, "timeout must be a number of seconds above 0") for value in (0, -1, True, "1", None)),
        *(({"timeout": value}, "timeout must be") for value in (float("nan"), float("inf"), 1e9, [1])),
        *(({"gold_column": value}, "gold_column must be the name of a column") for value in ("", 3, ["answer"], True)),
        *(({"tags": value}, "tags must be the names") for value in ("ab", (), ("think",), ("a", "b", "c"), None, 3)),
    ],
)
def test_an_impossible_value_is_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        get_correctness_reward(**options)


def test_it_pickles_with_its_options_and_keeps_its_name():
    reward = get_correctness_reward(gold_column="target", lenient=True, timeout=2, tags=("reasoning", None))
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.__name__ == reward.__name__ == "lenient_correctness_reward"  # apart from the strict one in a trainer
    assert correctness_reward.__name__ == get_correctness_reward(timeout=2).__name__ == "correctness_reward"
    for judge in (reward, copy):
        assert judge(completions=["<reasoning>1</reasoning> I say 19"], target=["19"]) == [1.0]


def test_what_trl_passes_besides_is_ignored():
    columns = {"prompts": ["?"], "completion_ids": [[1]], "trainer_state": None, "log_metric": print, "level": [3]}
    assert correctness_reward(completions=[RIGHT], answer=["19"], log_extra=None, **columns) == [1.0]


def test_an_empty_batch_is_judged():
    assert correctness_reward(completions=[], answer=[]) == []


def test_help_shows_the_reference():
    shown = pydoc.render_doc(correctness_reward, renderer=pydoc.plaintext)
    for part in ("Range: 0 or 1, None for an unusable gold", "arXiv 2501.12948", "answer, solution", "Example:"):
        assert part in shown
    shown = pydoc.render_doc(get_correctness_reward, renderer=pydoc.plaintext)
    for option in inspect.signature(get_correctness_reward).parameters:
        assert f"{option} (" in shown


# The columns


@pytest.mark.parametrize("name", ["answer", "solution", "target"])
def test_a_column_that_does_not_fit_is_named(name):
    reward = get_correctness_reward(gold_column=name)
    with pytest.raises(ValueError, match=f"column `{name}` has 1 values for 2 completions"):
        reward(completions=["1", "2"], **{name: ["1"]})
    with pytest.raises(ValueError, match=f"column `{name}` has 3 values for 2 completions"):
        reward(completions=["1", "2"], **{name: ["1", "2", "3"]})
    with pytest.raises(ValueError, match=f"column `{name}` is one string: give a list"):
        reward(completions=["1", "2"], **{name: "12"})
    with pytest.raises(ValueError, match=f"needs the gold answers: give the data set a column .*`{name}`"):
        reward(completions=["1", "2"])


def test_one_warning_names_the_first_row_that_cannot_be_judged(caplog):
    golds = ["1", "unknown", None, "1", ""]
    assert correctness_reward(completions=["1"] * 5, solution=golds) == [1.0, None, None, 1.0, None]
    [record] = caplog.records
    assert record.name.startswith("rewards") and record.levelname == "WARNING"
    assert record.getMessage() == (
        "correctness_reward cannot judge 3 of 5 rows: `solution` of row 1, 'unknown', is no usable gold answer."
    )


def test_usable_golds_are_not_warned_of(caplog):
    correctness_reward(completions=["<think>", "\ud800", ""], answer=["1", 2, "x+1"])
    assert not caplog.records


def test_the_answers_and_the_golds_are_logged_row_by_row():
    logged = {}
    completions = [RIGHT, "?", [{"role": "assistant", "content": r"\boxed{\frac12}"}], "#### 7"]
    golds = ["12+7=19\n#### 19", 3, r"so $\boxed{0.5}$", None]
    correctness_reward(completions=completions, answer=golds, log_extra=logged.__setitem__)
    assert logged == {"extracted_answer": ["19", "", r"\frac12", "7"], "gold_answer": ["19", "3", "0.5", ""]}


# The completions


@pytest.mark.parametrize(
    ("message", "tags", "expected", "why"),
    [
        ({"content": RIGHT}, ("think", "answer"), 1.0, "all in the content"),
        ({"content": "19", "reasoning_content": "12+7"}, ("think", "answer"), 1.0, "the thought set aside"),
        ({"content": "19", "thinking": "#### 18"}, ("think", "answer"), 1.0, "by another name"),
        ({"content": "19", "reasoning": "#### 18"}, ("reasoning", "answer"), 1.0, "with tags of one's own"),
        ({"content": "18", "reasoning_content": "#### 19"}, ("think", "answer"), 0.0, "only in the thought"),
        ({"content": "", "reasoning_content": "#### 19"}, ("think", "answer"), 0.0, "only in the thought"),
        ({"content": "", "reasoning_content": "#### 19"}, ("reasoning", "answer"), 0.0, "whatever its tags"),
        ({"content": None, "tool_calls": []}, ("think", "answer"), 0.0, "no text"),
        ({"content": [{"type": "text", "text": RIGHT}]}, ("think", "answer"), 1.0, "typed blocks"),
    ],
)
def test_messages_are_judged_like_strings(message, tags, expected, why):
    assert judge([{"role": "assistant", **message}], "19", tags=tags) == expected, why


def test_the_last_assistant_message_counts():
    turns = [("assistant", "#### 18"), ("tool", "20"), ("assistant", "#### 19"), ("user", "#### 21")]
    assert judge([{"role": role, "content": content} for role, content in turns], 19) == 1.0


# The golds


@pytest.mark.parametrize(
    ("gold", "why"),
    [
        (19, "an int"),
        (19.0, "a float"),
        ("19", "a string"),
        (" 19.0 ", "a string with space"),
        ("$19$", "in dollars"),
        ("\\(19\\)", "in LaTeX's brackets"),
        ("\\boxed{19}", "boxed"),
        ("She has 12 + 7 = <<12+7=19>>19 apples.\n#### 19", "GSM8K's worked solution"),
        ("Adding, we get $12 + 7 = \\boxed{19}$ apples in all.", "MATH's worked solution"),
        ("<think>12+7</think><answer>19</answer>", "a completion as gold"),
        ("The answer is 19.", "in words"),
        ("38/2", "a fraction"),
    ],
)
def test_a_gold_of_any_kind_is_read(gold, why):
    assert judge(RIGHT, gold) == 1.0, why
    assert judge("<answer>18</answer>", gold) == 0.0, why


@pytest.mark.parametrize(
    "gold",
    [None, "", "   ", "####", "?", "unknown", "N/A", "nan", float("nan"), float("inf"), "\\frac{1}{", "\\boxed{}", []],
)
def test_an_unusable_gold_is_none_whatever_the_completion(gold):
    for completion in (RIGHT, "", "unknown", "nan", "<think>", []):
        assert judge(completion, gold) is None


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"3\sqrt{2}", [r"3\sqrt{2}", r"3\sqrt2", r"\sqrt{18}"], ["3", r"\sqrt{2}", r"3\sqrt{3}"]),
        (r"\frac{4}{3}", [r"\frac43", r"\dfrac{4}{3}", "4/3", r"1\frac13"], ["4", "43", "3/4"]),
        (r"x^2 - 2x + 1", ["(x-1)^2", "1 - 2x + x^2"], ["x^2", "(x+1)^2", "1"]),
        (r"\left[0, 1\right)", ["[0,1)"], ["(0,1)", "[0,1]", "0, 1"]),
        (r"(1, 2)", ["(1,2)", r"\left(1, 2\right)"], ["(2, 1)", "1", "2"]),
        (r"\{1, 2\}", [r"\{2, 1\}", "1, 2"], ["1", r"\{1, 2, 3\}"]),
        (r"10{,}000", ["10000", "10,000"], ["10", "1000"]),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", [r"\begin{pmatrix}1\\2\end{pmatrix}"], ["1", "12", "(1, 2)"]),
        (r"\text{east}", ["east", r"\text{East}"], ["west", "eastern"]),
        (r"2\pi", [r"2\pi", "2π", r"\pi+\pi"], ["2", r"\pi", "6.28"]),
    ],
)
def test_latex_golds_are_read_with_and_without_their_dress(gold, right, wrong):
    for dressed in (gold, f"${gold}$", f"\\boxed{{{gold}}}", f"Hence it is $\\boxed{{{gold}}}$.", f"so\n#### {gold}"):
        for answers, expected in ((right, 1.0), (wrong, 0.0)):
            completions = [f"<answer>{answer}</answer>" for answer in answers]
            completions += [f"Thus \\boxed{{{answer}}}." for answer in answers]
            rewards = correctness_reward(completions=completions, answer=[dressed] * len(completions))
            assert rewards == [expected] * len(completions), (dressed, answers)


@pytest.mark.parametrize("gold", [{"a": 1}, b"1", ["1"], object()], ids=["a dict", "bytes", "a list", "an object"])
def test_a_gold_of_another_type_judges_nothing(gold):
    assert correctness_reward(completions=["<answer>1</answer>"], answer=[gold]) == [None]


def test_the_warning_can_name_an_int_that_python_will_not_print(caplog):
    assert correctness_reward(completions=["1"], answer=[10**5000]) == [None]
    assert "too many digits" in caplog.text


@pytest.mark.parametrize("tags", [(1, 2), ("", "x"), ("<think>", "<answer>"), ("a", "a"), ("a",), "ab"])
def test_impossible_tags_are_refused_at_construction(tags):
    with pytest.raises(ValueError, match="tags must be"):
        get_correctness_reward(tags=tags)
