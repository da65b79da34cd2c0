"""The form of a completion: other tags, templates that open the thought, partial credit, and steps."""

import pickle
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.format import get_think_format_reward, reasoning_steps_reward, tag_count_reward, think_format_reward

FORM = "<think>12+7=19</think><answer>19</answer>"
OPENED = FORM.removeprefix("<think>")
ASKED = [{"role": "user", "content": "What is 12+7?"}]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]


def message(content, **other):
    return [{"role": "assistant", "content": content, **other}]


@pytest.mark.parametrize(
    ("text", "paid", "why"),
    [
        ("<reasoning>12+7</reasoning>\n<result>19</result>", 1.0, "the names that were asked for"),
        (FORM, 0.0, "the usual names"),
        ("<reasoning><think>a</think></reasoning><result><b>19</b></result>", 1.0, "other tags are text"),
        (f"<reasoning>{'.' * 50}a</reasoning><result>{' ' * 50}1</result>", 1.0, "content after many dots and blanks"),
        ("<reasoning>a</reasoning><result>19</result></result>", 0.0, "one closing tag too many"),
        ("<reasoning-x>a</reasoning-x><result>19</result>", 0.0, "a longer name"),
    ],
)
def test_the_tags_may_have_other_names(text, paid, why):
    assert get_think_format_reward(think="reasoning", answer="result")(completions=[text]) == [paid], why


@pytest.mark.parametrize(
    ("text", "paid", "why"),
    [
        ("<think>a</think>It is 19.", 1.0, "text after the thought"),
        ("\n<think>\na\n</think>\n\n19\n", 1.0, "on several lines"),
        ("<think>a</think><answer>19</answer>", 1.0, "other tags are text"),
        ("<think>a</think>", 0.0, "nothing after the thought"),
        ("<think>a</think> \n...", 0.0, "nothing that says something"),
        ("<think></think>19", 0.0, "an empty thought"),
        ("So <think>a</think>19", 0.0, "text before the thought"),
        ("<think>a</think>19<think>b</think>", 0.0, "a second thought"),
        ("<think>a</think>19</think>", 0.0, "a second closing tag"),
        ("<think>a 19", 0.0, "an unclosed thought"),
        ("19", 0.0, "no thought"),
    ],
)
def test_without_answer_tags_any_text_after_the_thought_is_the_answer(text, paid, why):
    assert get_think_format_reward(answer=None)(completions=[text]) == [paid], why


@pytest.mark.parametrize(
    ("prompt", "completion", "paid", "why"),
    [
        ("12+7? <think>", OPENED, 1.0, "the prompt has opened the thought"),
        ("12+7? <think>\n\n", OPENED, 1.0, "white space after the tag"),
        ("12+7? <think>", message(OPENED), 1.0, "a message as completion"),
        ([*ASKED, *message("<think>\n")], message(OPENED), 1.0, "an assistant's last message opens it"),
        ([*ASKED, *message([{"type": "text", "text": "<think>"}])], message(OPENED), 1.0, "in typed blocks"),
        ("12+7? <think>", FORM, 1.0, "somebody has put the tag back"),
        ("12+7? <think>", "\n" + FORM, 1.0, "and a line before it"),
        ("12+7? <think>", "a" + FORM, 0.0, "a second tag, not in front"),
        ("12+7? <think>", "<think>" + FORM, 0.0, "a second tag"),
        ("12+7? <think>", "</think><answer>19</answer>", 0.0, "an empty thought"),
        ("12+7?", OPENED, 0.0, "nobody opened it"),
        ("12+7? <think> Now:", OPENED, 0.0, "the tag is only mentioned"),
        (message("<think>") + ASKED, message(OPENED), 0.0, "an earlier turn opened it"),
        ([{"role": "user", "content": "Begin with <think>"}], message(OPENED), 0.0, "the user mentions the tag"),
        ([], message(OPENED), 0.0, "an empty conversation"),
        (None, OPENED, 0.0, "no prompt in this row"),
        ([None], OPENED, 0.0, "a malformed prompt"),
        (ASKED, message(FORM), 1.0, "the completion has it all"),
    ],
)
def test_auto_puts_back_the_tag_that_ends_the_visible_prompt(prompt, completion, paid, why):
    assert think_format_reward(prompts=[prompt], completions=[completion]) == [paid], why


def test_prefilled_says_it_for_every_row():
    prefilled, never = get_think_format_reward(prefilled=True), get_think_format_reward(prefilled=False)
    prompts = ["<think>"] * 3
    assert prefilled(completions=[OPENED, message(OPENED), FORM]) == [1.0, 1.0, 0.0]
    assert never(prompts=prompts, completions=[OPENED, message(OPENED), FORM]) == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("prefilled", [True, False, "auto"])
def test_a_thought_that_the_parser_set_aside_is_the_think_block(prefilled):
    reward = get_think_format_reward(think="reasoning", prefilled=prefilled)
    parsed = message("<answer>19</answer>", reasoning_content="12+7=19")
    twice = message("<reasoning>b</reasoning><answer>19</answer>", reasoning_content="12+7=19")
    empty = message("<answer>19</answer>", reasoning_content=" ")
    assert reward(prompts=[ASKED] * 3, completions=[parsed, twice, empty]) == [1.0, 0.0, 0.0]


def test_a_template_that_seems_to_open_the_thought_is_named_once(caplog):
    reward = get_think_format_reward()
    batch = {"prompts": [ASKED] * 3, "completions": [message(OPENED), message(OPENED), message("19")]}
    assert reward(**batch) == reward(**batch) == [0.0, 0.0, 0.0]
    [record] = caplog.records
    assert "no completion has <think>" in record.getMessage() and "prefilled=True" in record.getMessage()


@pytest.mark.parametrize(
    ("batch", "why"),
    [
        ({"prompts": [ASKED] * 2, "completions": [message(OPENED), message(FORM)]}, "one row has the tag"),
        ({"prompts": [ASKED] * 2, "completions": [message(OPENED), message("<think>")]}, "though badly"),
        ({"prompts": [ASKED] * 2, "completions": [message(OPENED), message("19")]}, "only half close it"),
        ({"prompts": ["12+7?"] * 2, "completions": [OPENED, OPENED]}, "the prompt is seen whole"),
        ({"completions": [OPENED, OPENED]}, "no prompts"),
        ({"prompts": [[*ASKED, *message("<think>")]], "completions": [message("</think>")]}, "it is seen to be open"),
    ],
)
def test_a_bad_batch_is_not_blamed_on_the_template(batch, why, caplog):
    get_think_format_reward()(**batch)
    assert not caplog.records, why


def test_a_tag_in_every_completion_that_was_said_to_be_prefilled_is_named_once(caplog):
    reward = get_think_format_reward(prefilled=True)
    assert reward(completions=[FORM, FORM]) == reward(completions=[FORM, FORM]) == [0.0, 0.0]
    [record] = caplog.records
    assert "every completion begins with <think> itself: leave out prefilled=True" in record.getMessage()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"think": ""}, "think"),
        ({"think": None}, "think"),
        ({"think": "<think>"}, "think"),
        ({"think": "think\n"}, "think"),
        ({"answer": "the answer"}, "answer"),
        ({"answer": 7}, "answer"),
        ({"answer": "think"}, "two names"),
        ({"prefilled": "yes"}, "prefilled"),
        ({"prefilled": 1}, "prefilled"),
        ({"prefilled": None}, "prefilled"),
    ],
)
def test_an_impossible_option_is_named_at_construction(options, named):
    with pytest.raises(ValueError, match=named):
        get_think_format_reward(**options)


def test_an_unknown_option_is_a_type_error_at_construction():
    with pytest.raises(TypeError, match="thinking"):
        get_think_format_reward(thinking="think")
    with pytest.raises(TypeError):
        get_think_format_reward("think")


def test_a_made_reward_survives_pickling_and_keeps_its_name():
    reward = get_think_format_reward(think="reasoning", answer=None, prefilled=True)
    copy = pickle.loads(pickle.dumps(reward))
    assert copy.__name__ == think_format_reward.__name__ == "think_format_reward"
    assert copy(completions=["a</reasoning>b", FORM]) == [1.0, 0.0]
    assert pickle.loads(pickle.dumps(tag_count_reward)) is tag_count_reward


@pytest.mark.parametrize("reward", [think_format_reward, tag_count_reward])
def test_prompts_of_another_number_are_named(reward):
    with pytest.raises(ValueError, match="column `prompts` has 1 values for 2 completions"):
        reward(prompts=["a"], completions=["a", "b"])
    assert reward(prompts=[], completions=[]) == []


@pytest.mark.parametrize(
    ("text", "paid", "why"),
    [
        (FORM, 1.0, "all four"),
        ("so <think>a</think> and <answer>b</answer> bye", 1.0, "text between them is another reward's matter"),
        ("<think></think><answer></answer>", 1.0, "so is what they hold"),
        ("<think>a</think>", 0.5, "the first half"),
        ("<answer>19</answer>", 0.5, "the second half"),
        ("<think>a</think><answer>19", 0.75, "cut off"),
        ("<think>a", 0.25, "the first tag"),
        ("</answer>", 0.25, "the last tag"),
        ("", 0.0, "nothing"),
        ("19", 0.0, "no tag"),
        ("<THINK></THINK>", 0.0, "other tags"),
        ("<answer>19</answer><think>a</think>", 0.5, "the blocks the wrong way round"),
        ("</answer><answer></think><think>", 0.25, "all the wrong way round"),
        ("<think>a<answer>19</answer></think>", 0.5, "an answer inside the thought"),
        ("<think>a</think></think></think><answer>19</answer>", 0.75, "three closing tags"),
        (FORM + FORM, 0.0, "two whole blocks"),
        ("".join(TAGS) * 1000, 0.0, "spam"),
        ("<think>" * 1000 + "</think><answer></answer>", 0.75, "spam of one tag loses that tag"),
    ],
)
def test_a_tag_that_stands_once_and_in_order_earns_a_quarter(text, paid, why):
    assert tag_count_reward(completions=[text, message(text)]) == [paid, paid], why


def test_a_tag_that_the_prompt_opened_counts():
    assert tag_count_reward(prompts=["<think>\n", "<think>", "12+7?"], completions=[OPENED, FORM, OPENED]) == [
        1.0,
        1.0,
        0.75,
    ]


@given(st.lists(st.sampled_from([*TAGS, "a"]), max_size=12))
def test_only_the_right_order_earns_every_tag(pieces):
    [value] = tag_count_reward(completions=["".join(pieces)])
    right = [piece for piece in pieces if piece != "a"] == TAGS
    assert (value == 1.0) == right
    assert 4 * value <= sum(pieces.count(tag) == 1 for tag in TAGS)
    assert value >= think_format_reward(completions=["".join(pieces)])[0]


@pytest.mark.parametrize(
    ("text", "steps", "why"),
    [
        ("1. Add 12 and 7.\n2. Take 5 away.\n3. Double the rest.", 3, "numbered lines"),
        ("1) 12+7=19\n2) 19-5=14\n3) 14*2=28", 3, "equations alone"),
        ("Step 1: add 12 and 7\nStep 2: take 5 away\nstep 3 double all that", 3, "named lines"),
        ("**Step 1:** add 12\n### Step 2\nTake 5 away\n> 3. double all of it", 3, "Markdown around the label"),
        ("- add 12\n* take 5\n• double all of it", 3, "bullets"),
        ("First, add 12 and 7. Then take 5 away. Finally, double the rest.", 3, "sentences"),
        ("Firstly add 12.\nsecondly take 5.\nLastly double what is left", 3, "lines"),
        ("I see. First, I add 12 to 7! Next I take 5 away; then x = 14 / 2.", 3, "within running text"),
        ("首先，计算十二加七。然后减去五。最后把结果乘以二。", 3, "Chinese"),
        ("第一步：12+7=19\n第二步：19-5=14", 2, "Chinese labels"),
        ("1. First, add 12 and 7.", 1, "two labels, one step"),
        ("1. Add 12.\n2. Take 5.\n3. Double it all.\n4. Halve 6.\n5. Square 8.", 3, "more than three earn no more"),
        ("First, 5 \\times 3 = 15.", 1, "LaTeX"),
        ("<think>1. Add 12.\n2. Take 5.</think>3. Add 4.\n4. Add 6.", 2, "what follows the thought is no reasoning"),
        ("<think>1. Add 12.\n2. Take 5.", 2, "an unclosed thought"),
        ("", 0, "nothing"),
        ("12+7=19. 19-5=14. 14*2=28", 0, "no label"),
        ("We add 12 and then take 5 and next we double it", 0, "words in the middle of a sentence"),
        ("First, Second, Third, Next, Then, Finally", 0, "bare keywords"),
        ("First. Second. Third. Next. Then. Finally.", 0, "bare keywords as sentences"),
        ("First, then next finally second.\nSecond, first then third next.\nThird step, step, steps.", 0, "stuffing"),
        ("首先其次最后。然后接着首先。最后其次然后。", 0, "stuffing in Chinese"),
        ("1. 2. 3.", 0, "empty numbers"),
        ("1.\n2.\n3.\n", 0, "empty numbers on lines"),
        ("1. 1\n2. 2\n3. 3", 0, "numbers of numbers"),
        ("Step 1\nStep 2\nStep 3\n", 0, "empty labels"),
        ("- \n- \n- \n", 0, "empty bullets"),
        ("- a\n- b\n- c", 0, "letters"),
        ("1. ...\n2. !!!\n3. ???", 0, "punctuation"),
        ("1. I think\n2. So yes\n3. Oh well", 0, "hardly a word"),
        ("1. Add 12 and 7.\n2. Add 12 and 7.\n3. Add 12 and 7.", 1, "the same step again"),
        ("1. Add 12 to 7\n2. add 7 to 12!\n3. ADD 12, 7", 1, "the same words in another order"),
        ("- x=1\n- x=2\n- x=3", 1, "one equation with other numbers"),
        ("- x = 1\n- x =2\n- x= 3.", 1, "however it is spaced"),
        ("1. 1=1\n2. 2=2\n3. 3=3", 0, "numbers that equal themselves"),
        ("1. aa 1\n2. aa 2\n3. aa 3", 1, "one word with other numbers"),
        ("1. so x=1\n2. so x=2\n3. so x=3", 1, "a word and an equation with other numbers"),
        (
            "1. lorem ipsum dolor\n2. lorem ipsum dolor sit\n3. lorem ipsum dolor sit amet",
            1,
            "a step that grows by a word",
        ),
        (
            "First, we add the two numbers. Second, we add the two numbers again. "
            "Third, we add the two numbers once more.",
            1,
            "a step that is said again in a few more words",
        ),
        ("1. 3+4\n2. 3 + 4\n3. Then 3+4=7", 1, "a calculation again, otherwise spaced"),
        ("1. 2x+3=7\n2. 2x=4\n3. x=2", 3, "an equation that is solved"),
        ("1. 48/2 = 24 clips in May.\n2. 48 + 24 = 72 in all.", 2, "honest arithmetic"),
        ("1. He has 3 x 4 = 12 cats.\n2. He has 12 - 5 = 7 cats.\n3. He has 7 + 1 = 8 cats.", 3, "in the same words"),
        ("1. 3 pots * 4 leaves/pot = 12 leaves\n2. 9 pots * 8 leaves/pot = 72 leaves", 2, "with units"),
        ("1. $5 \\times 3 = 15$\n2. $15 + \\$5 = 20$\n3. \\frac{20}{4} = 5", 3, "calculations in LaTeX"),
        ("1. It is 12 times 6\n2. It is 8 times 8\n3. It is 72 plus 64", 3, "calculations in words"),
        ("Step one: add 12.\nStep two: take 5.\nStep Three: double all of it.", 3, "labels in words"),
        ("Step one\nStep two\nStep three\n", 0, "empty labels in words"),
        ("Step one, step two, step three, step four, step five", 0, "labels in words on one line"),
        ("1. Add 12." + " " * 100_000 + "\n2. Take 5.", 1, "the first 100,000 characters are read"),
        ("1.5 apples cost 3 dollars\n-5 is less than 3", 0, "decimals and signs are no labels"),
    ],
)
def test_a_step_with_something_new_to_say_earns_a_third(text, steps, why):
    assert reasoning_steps_reward(completions=[text, message(text)]) == [steps / 3, steps / 3], why


def test_every_line_of_a_worked_solution_is_a_step():
    lines = (
        "Anna gets 14 pieces/house * 60 houses = 840 pieces",
        "Billy gets 11 pieces/house * 75 houses = 825 pieces",
        "Anna gets 840 pieces - 825 pieces = 15 pieces more than Billy",
    )
    assert reasoning_steps_reward(completions=["- " + "\n- ".join(lines), "\n".join(lines)]) == [1.0, 0.0]


def test_steps_that_the_parser_set_aside_are_the_reasoning():
    completion = message("1. Add 12.", reasoning_content="1. Add 12.\n2. Take 5.")
    assert reasoning_steps_reward(completions=[completion]) == [2 / 3]


def test_no_degenerate_policy_out_scores_an_honest_step_by_step_answer():
    honest = "<think>First, 12+7=19. Then 19-5=14. Finally, double it: 14*2=28.</think><answer>28</answer>"
    others = ["", "28", "First, Second, Third", "".join(TAGS) * 50, "Then so. " * 50, "1. 2. 3. 4. 5."]
    for reward in (think_format_reward, tag_count_reward, reasoning_steps_reward):
        best, *rest = reward(completions=[honest, *others])
        assert best == 1.0 and max(rest) < 0.51


HOSTILE = {
    "lone surrogate": "<think>\ud800</think><answer>\udfff</answer>",
    "NUL": "<think>\0</think><answer>\0</answer>",
    "right-to-left": "\u202e" + FORM,
    "opening tags": "<think>" * 150_000,
    "closing tags": "</think>" * 125_000,
    "no spaces": "a" * 1_000_000,
    "dots in a thought": "<think>" + "." * 1_000_000 + "</think><answer>1</answer>",
    "line breaks": "\n" * 1_000_000,
    "numbers": "1.\n" * 330_000,
    "openers": "First. " * 140_000,
    "operators": "1+" * 500_000,
    "stars": "1. " + "*" * 1_000_000,
    "spaces": ". " + " " * 1_000_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("reward", [think_format_reward, tag_count_reward, reasoning_steps_reward])
def test_a_hostile_text_is_judged_at_once(reward, text):
    started = time.process_time()
    assert 0.0 <= reward(completions=[text])[0] <= 1.0
    assert time.process_time() - started < 1.0


@given(st.text() | st.text(alphabet="<>/thinkaswer \n1.-*First,"))
def test_any_text_has_a_value_in_range(text):
    for prefilled in (True, False, "auto"):
        reward = get_think_format_reward(prefilled=prefilled)
        assert set(reward(completions=[text, message(text)], prompts=[text, ASKED])) <= {0.0, 1.0}
    assert tag_count_reward(completions=[text])[0] in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert reasoning_steps_reward(completions=[text])[0] in (0.0, 1 / 3, 2 / 3, 1.0)


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_whole_form_is_paid_whoever_opened_it(thought, answer):
    text = f"<think>{thought}</think><answer>{answer}</answer>"
    whole = get_think_format_reward(prefilled=False)(completions=[text])
    assert get_think_format_reward(prefilled=True)(completions=[text.removeprefix("<think>")]) == whole
    assert think_format_reward(prompts=["<think>\n"], completions=[text.removeprefix("<think>")]) == whole
    if re.search(r"[a-z]", thought) and re.search(r"[a-z]", answer) and "<" not in thought + answer:
        assert whole == [1.0]
