r"""Code in a completion: fenced blocks as CommonMark has them, the last of a language, and exactly one as a form."""

import itertools
import pickle
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # rich needs it, and the recipes need rich

from rewards.code_blocks import (
    ALIASES,
    code_format_reward,
    completion_code,
    fenced_blocks,
    get_code_format_reward,
    last_block,
)
from rewards.format import get_think_format_reward

ONE = "```python\nx = 1\n```"
RIGHT = f"<think>One.</think>\n{ONE}"
MEGABYTE = 1_000_000


def message(content, **other):
    return [{"role": "assistant", "content": content, **other}]


@pytest.mark.parametrize(
    ("text", "blocks", "why"),
    [
        (ONE, [("python", "x = 1")], "a block"),
        ("```\nx\n```", [("", "x")], "no label"),
        (f"Look:\n{ONE}\nDone.", [("python", "x = 1")], "words around it"),
        (f"{ONE}\n{ONE}", [("python", "x = 1")] * 2, "two"),
        ("~~~python\nx\n~~~", [("python", "x")], "tildes"),
        ("````\n```\nx\n```\n````", [("", "```\nx\n```")], "a longer fence holds a shorter one"),
        ("~~~\n```\nx\n```\n~~~", [("", "```\nx\n```")], "tildes hold backticks"),
        ("```\nx\n`````", [("", "x")], "a closing fence may be longer"),
        ("````\nx\n```", [], "but not shorter"),
        ("```\nx\n~~~", [], "nor of the other kind"),
        ("```\nx\n``` y", [], "nor with words behind it"),
        ("```\nx\n``` \t\ny", [("", "x")], "white space is none"),
        ("``\nx\n``", [], "two backticks"),
        ("~~\nx\n~~\n~~~\ny\n~~~", [("", "y")], "two tildes"),
        ("```x```\n```\ny\n```", [("", "y")], "inline code"),
        ("```a`b\nx\n```", [], "a backtick in the label: inline code, and then a block that is cut off"),
        ("~~~ a`b~~~\nx\n~~~", [("a", "x")], "behind tildes anything may stand"),
        ("The code:```python\nx\n```", [], "words in front of the fence"),
        ("```python\nx = '''\n```python\n'''\n```", [("python", "x = '''\n```python\n'''")], "a label never closes"),
        ("```python\nx\n", [], "cut off"),
        (f"{ONE}\n```python\nx", [("python", "x = 1")], "the second is cut off"),
        ("```python", [], "cut off after the fence"),
        ("```python\n```", [("python", "")], "empty"),
        ("```\n\n\n```", [("", "\n")], "blank lines"),
        ("```\r\nx\r\ny\r\n```\r\n", [("", "x\ny")], "Windows's line breaks"),
        ("```\rx\r```", [("", "x")], "an old Macintosh's"),
        ("```\nx\x0by\u2028z\n```", [("", "x\x0by\u2028z")], "no other character breaks a line"),
        ("```\n\0\ud800\n```", [("", "\0\ud800")], "any character may stand in code"),
    ],
)
def test_fenced_blocks(text, blocks, why):
    assert fenced_blocks(text) == blocks, why


@pytest.mark.parametrize(
    ("text", "blocks", "why"),
    [
        ("   ```\n   x\n     y\n   ```", [("", "x\n  y")], "three spaces are taken off"),
        ("  ```\nx\n y\n   ```", [("", "x\ny")], "or those that are there"),
        ("  ```\n\tx\n  ```", [("", "  x")], "a tab goes on to the fourth column"),
        ("```\n\tx\n\t\ty\n```", [("", "\tx\n\t\ty")], "tabs stay where nothing is taken off"),
        ("    ```\n    x\n    ```", [], "four spaces: indented code"),
        ("\t```\n\tx\n\t```", [], "a tab, too"),
        ("```\nx\n    ```\ny\n```", [("", "x\n    ```\ny")], "a fence in a docstring closes nothing"),
        ("- a\n  ```\n  x\n    y\n  ```", [("", "x\n  y")], "in a list"),
        ("10. a\n\n    ```\n    x\n    ```", [("", "x")], "in a list with wide numbers"),
        ("1. a\n   - b\n\n     ```\n     x\n\n     y\n     ```\n2. c", [("", "x\n\ny")], "in a list in a list"),
        ("1. a\n\n\t```\n\tx\n\t\ty\n\t```", [("", "x\n\ty")], "by tabs"),
        ("- ```py\n  x\n  ```", [("py", "x")], "on the line of the item"),
        ("-     ```\n      x\n      ```", [], "five spaces behind the marker: indented code"),
        ("- ```\n- x\n  ```", [("", "- x")], "what falls out of the list stays as it is"),
        ("10.\n       ```\n       x\n       ```", [("", "x")], "an item without words"),
        ("10) a\n\n    ```\n    x\n    ```", [("", "x")], "in a list with parentheses"),
        ("-    a\n\n        ```\n        x\n        ```", [("", "x")], "four spaces behind the marker"),
        ("1. a\n\n\t```\n      x\n\t```", [("", "  x")], "by a tab, and the code by spaces"),
        ("1. a\n   ```\nx = 1\n```", [("", "x = 1")], "a fence that falls out of the list closes all the same"),
        ("- a\n        ```\n        x\n        ```", [], "indented code in a list"),
        ("- a\n\nb\n\n    ```\n    x\n    ```", [], "the list has ended"),
        ("- a\n- b\n\n    ```\n    x\n    ```", [("", "x")], "two more spaces than the item has"),
        ("10.5\n    ```\n    x\n    ```", [], "no list"),
        ("    - a\n\n      ```\n      x\n      ```", [], "a list in indented code"),
    ],
)
def test_the_indentation_of_a_fence_is_taken_off(text, blocks, why):
    assert fenced_blocks(text) == blocks, why


@pytest.mark.parametrize(
    ("text", "blocks", "why"),
    [
        (f"<answer>{ONE}</answer>", [("python", "x = 1")], "both fences touch a tag"),
        (f"<answer> {ONE} </answer>", [("python", "x = 1")], "with spaces"),
        (f"<answer>\n{ONE}\n</answer>", [("python", "x = 1")], "on lines of their own"),
        (f"a</think><answer>{ONE}", [], "words in front of the tag"),
        (f"</think><answer>{ONE}", [("python", "x = 1")], "two tags"),
        (f"{ONE}</answer> I hope that this helps.", [("python", "x = 1")], "words behind the tag"),
        (f"{ONE}<answer>", [], "an opening tag behind the fence"),
        (f"x = 1\n```</answer>\n{ONE}", [("python", "x = 1")], "a fence before a closing tag opens nothing"),
    ],
)
def test_a_tag_may_touch_a_fence(text, blocks, why):
    assert fenced_blocks(text) == blocks, why


@pytest.mark.parametrize(
    ("info", "language"),
    [
        ("python", "python"),
        (" \tPython3  ", "python3"),
        ('python title="a.py" hl_lines="1"', "python"),
        ('python{title="a.py"}', "python"),
        ("python:src/a.py", "python"),
        ("rust,ignore", "rust"),
        ("{python}", "python"),
        ("{ python }", "python"),
        ("{.python}", "python"),
        ("{.python .numberLines}", "python"),
        ('{#name .python startFrom="1"}', "python"),
        ("{r, fig.width=3}", "r"),
        ("C++", "c++"),
        ("c#", "c#"),
        ("objective-c", "objective-c"),
        ('title="a.py"', ""),
        ("{}", ""),
        ("?", ""),
        ("", ""),
    ],
)
def test_the_label_of_a_block(info, language):
    for fence in ("```", "~~~"):
        assert fenced_blocks(f"{fence}{info}\nx\n{fence}") == [(language, "x")]


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("```python\n1\n```\n```python\n2\n```", "2", "the last"),
        ("```python\n1\n```\n```sh\n2\n```", "1", "another language does not count"),
        ("```python\n1\n```\nIt prints:\n```\n2\n```", "1", "nor does what has no label, where something has it"),
        ("```\n1\n```\n```\n2\n```\n```text\n3\n```", "2", "where nothing has it"),
        ("```py\n1\n```", "1", "another name"),
        ("```PYTHON3\n1\n```", "1", "in capitals"),
        ("```python\n1\n```\n```python\n2", "1", "the last one is cut off"),
        ("```sh\n1\n```", None, "only another language"),
        ("x = 1", None, "no block"),
        ("", None, "nothing"),
    ],
)
def test_the_last_block_of_a_language(text, code, why):
    assert last_block(text, "python") == last_block(text, "PY") == code, why


def test_every_name_of_a_language_is_the_language():
    assert set(ALIASES.values()) == {"python", "c", "cpp", "javascript"}
    for name, language in ALIASES.items():
        for other in ALIASES:
            found = last_block(f"```{name}\nx\n```", other)
            assert (found == "x") == (ALIASES[other] == language)
    assert last_block("```rust\nx\n```", "Rust") == "x"


@pytest.mark.parametrize(
    ("completion", "code", "why"),
    [
        (RIGHT, "x = 1", "behind the thought"),
        (ONE, "x = 1", "without a thought"),
        (f"{ONE} Well.</think>{ONE.replace('1', '2')}", "x = 2", "the template has opened the thought"),
        (f"<think>{ONE}</think>No idea.", None, "in the thought only"),
        (f"<think>{ONE}", None, "in a thought without end"),
        (f"<think>\n{ONE}\n", None, "the same, on its own lines"),
        ("<think>a</think>```python\n \t\n```", None, "blank"),
        ("<think>a</think>```python\n```", None, "empty"),
        ("", None, "nothing"),
        (message(RIGHT), "x = 1", "a message"),
        (message(ONE, reasoning_content="```python\n2\n```"), "x = 1", "a thought that is set aside"),
        (message(None, reasoning_content=ONE), None, "nothing but a thought that is set aside"),
        ([*message(ONE), *message("No code.")], None, "the last message counts"),
        ([], None, "no message"),
    ],
)
def test_the_code_of_a_completion_stands_in_its_answer(completion, code, why):
    assert completion_code(completion, "python") == code, why


@pytest.mark.parametrize(
    ("text", "paid", "why"),
    [
        (RIGHT, 1.0, "the form"),
        (f"\n<think>\nOne.\n</think>\n\nHere:\n\n{ONE}\n\nIt sets x.\n", 1.0, "words around the block"),
        (f"<think>One.</think><answer>{ONE}</answer>", 1.0, "answer tags"),
        (f"<think>One.</think>\n<answer>\n{ONE}\n</answer>", 1.0, "answer tags on their own lines"),
        (RIGHT.replace("python", "py"), 1.0, "another name of the language"),
        (f"<think>\n{ONE}\nNo:\n```\ny\n```\n</think>\n{ONE}", 1.0, "blocks in the thought"),
        (f"<think>```python\nx = </think>\n{ONE}", 1.0, "a block in the thought that is cut off"),
        (f"{RIGHT}\n{ONE}", 0.0, "two blocks"),
        (f"{RIGHT}\n```\n1\n```", 0.0, "a second block without a label"),
        (f"{RIGHT}\n```sh\npython a.py\n```", 0.0, "a second block of another language"),
        (f"{RIGHT}\n```python\nx =", 0.0, "a second block that is cut off"),
        (f"{RIGHT}\n```", 0.0, "a further fence"),
        (RIGHT[:-3], 0.0, "cut off"),
        (RIGHT.replace("python", "sh"), 0.0, "another language"),
        (RIGHT.replace("python", ""), 0.0, "no label"),
        (RIGHT.replace("x = 1", ""), 0.0, "empty"),
        (RIGHT.replace("x = 1", "\t \n"), 0.0, "blank"),
        ("<think>One.</think>\nx = 1", 0.0, "no block"),
        (ONE, 0.0, "no thought"),
        (f"<think></think>{ONE}", 0.0, "an empty thought"),
        (f"<think>...</think>{ONE}", 0.0, "a thought that says nothing"),
        (f"<think>{ONE}", 0.0, "a thought without end"),
        (f"{ONE}<think>One.</think>", 0.0, "the code in front of the thought"),
        (f"Well. {RIGHT}", 0.0, "words in front of the thought"),
        (f"{RIGHT}<think>One.</think>", 0.0, "a second thought"),
        (f"{RIGHT}</think>", 0.0, "a second closing tag"),
        ("", 0.0, "nothing"),
    ],
)
def test_the_form_is_a_thought_and_exactly_one_block(text, paid, why):
    assert code_format_reward(completions=[text]) == code_format_reward(completions=[message(text)]) == [paid], why


def test_other_languages_and_other_tags():
    text = "<reasoning>\n```\nOne.\n```\n</reasoning>\n```cxx\nint x;\n```"
    assert get_code_format_reward(language="C++", think="reasoning")(completions=[text]) == [1.0]
    assert get_code_format_reward(language="c", think="reasoning")(completions=[text]) == [0.0]
    assert get_code_format_reward(language="c++")(completions=[text]) == [0.0]


def test_the_thought_may_be_opened_by_the_template_or_set_aside():
    opened = RIGHT.removeprefix("<think>")
    assert code_format_reward(completions=[opened], prompts=["Set x.<think>\n"]) == [1.0]
    assert code_format_reward(completions=[opened], prompts=["Set x."]) == [0.0]
    assert get_code_format_reward(prefilled=True)(completions=[opened, RIGHT]) == [1.0, 0.0]
    assert get_code_format_reward(prefilled=False)(completions=[opened], prompts=["<think>"]) == [0.0]
    aside = message(f"Here:\n{ONE}", reasoning_content="One.")
    both = message(ONE, reasoning_content=ONE)
    for options in ({}, {"prefilled": True}, {"think": "reasoning"}):
        reward = get_code_format_reward(**options)
        assert reward(completions=[aside, both, message(ONE, reasoning_content="")]) == [1.0, 1.0, 0.0]


def test_a_batch_that_a_template_seems_to_open_is_warned_of_once_and_by_name(caplog):
    reward = get_code_format_reward()
    call = {
        "completions": [message(f"One.</think>\n{ONE}")] * 2,
        "prompts": [[{"role": "user", "content": "Set x."}]] * 2,
    }
    for _ in range(2):
        assert reward(**call) == [0.0, 0.0]
    (record,) = caplog.records
    assert record.getMessage() == (
        "code_format_reward is 0 for the whole batch; no completion has <think> but most close it, so the chat "
        "template seems to open it: use rewards.get_code_format_reward(prefilled=True)."
    )


def test_it_is_pickled_and_keeps_its_name():
    reward = pickle.loads(pickle.dumps(get_code_format_reward(language="js", think="t")))
    assert reward.__name__ == code_format_reward.__name__ == "code_format_reward"
    assert reward(completions=["<t>a</t>\n```mjs\n1\n```", RIGHT]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"language": "cobol"},
            r"`language` must be one of python, c, cpp, javascript, or another name .* not 'cobol'",
        ),
        ({"language": None}, r"`language` must be one of .*, not None"),
        ({"think": "<think>"}, r"`think` must be a tag's name"),
        ({"think": None}, r"`think` must be a tag's name"),
        ({"prefilled": "yes"}, r"`prefilled` must be True, False or 'auto'"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        get_code_format_reward(**options)


def test_a_column_of_prompts_has_one_for_each_completion():
    with pytest.raises(ValueError, match="`prompts` has 1 values for 2 completions"):
        code_format_reward(completions=[RIGHT, RIGHT], prompts=["Set x."])


HOSTILE = {
    "a million backticks": "`" * MEGABYTE,
    "a closing fence of a million backticks": "```\n" + "`" * MEGABYTE + "\nx",
    "100,000 fences that nothing closes": "```a\n" * 100_000,
    "100,000 longer and longer fences": "".join("`" * (3 + i % 200) + "a\n" for i in range(100_000)),
    "200,000 blocks": "```\n```\n" * 200_000,
    "200,000 fences that do not close": "```\n" + "``` x\n" * 200_000,
    "fences on one line": "``` " * 250_000,
    "one huge line of code": "```\n" + "x" * MEGABYTE + "\n```",
    "one huge label": "```" + "a" * MEGABYTE + "\nx\n```",
    "a label of braces": "```{" + " ." * 500_000 + "\nx\n```",
    "a label of assignments": "```" + "a=" * 500_000 + "\nx\n```",
    "a million spaces before a fence": " " * MEGABYTE + "```",
    "a million tabs before a fence": "\t" * MEGABYTE + "```",
    "a million line breaks": "\n" * MEGABYTE + ONE,
    "a million carriage returns": "```" + "\r" * MEGABYTE,
    "300,000 tags before a fence": "<a>" * 300_000 + "```",
    "100,000 closing tags behind a fence": "```\n```" + "</answer>" * 100_000,
    "a closing tag that does not end": "```\n```</" + "a" * MEGABYTE,
    "500,000 list markers on one line": "- " * 500_000 + "```",
    "250,000 list items": "- a\n" * 250_000 + ONE,
    "1,000 lists in lists": "".join("  " * depth + "- a\n" for depth in range(1_000)) + ONE,
    "white space in indented code": "   ```\n" + " \t" * 500_000 + "x\n```",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_takes_no_time(name):
    text = HOSTILE[name]
    begin = time.process_time()
    fenced_blocks(text)
    completion_code(text, "python")
    code_format_reward(completions=[f"<think>a</think>\n{text}"])
    assert time.process_time() - begin < 5  # 2 for the slowest; minutes where the time is quadratic


PIECES = st.sampled_from(
    "```|````|~~~|`|~|python|{.py|}|x=|<answer>|</answer>|<think>|</think>|</|>|\0|\ud800|\u2028|é|"
    "\n|\n|\r|\t| |   |    |- |1. ".split("|")
)
TEXTS = st.lists(PIECES, max_size=24).map("".join)


@given(TEXTS | st.text())
def test_any_text_has_blocks_and_none_holds_what_the_text_does_not(text):
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    blocks = fenced_blocks(text)
    assert 2 * len(blocks) <= sum("```" in line or "~~~" in line for line in lines)
    for language, code in blocks:
        assert language == language.lower()
        assert all(any(line.strip() in given for given in lines) for line in code.split("\n"))
    code = completion_code(text, "python")
    assert code is None or code.strip()


@given(TEXTS)
def test_what_has_the_form_has_code_and_the_form_of_a_thought(text):
    completions = [text, f"<think>a</think>{text}", f"<think>a</think>\n{ONE}\n{text}"]
    for completion, paid in zip(completions, code_format_reward(completions=completions), strict=True):
        if paid:
            assert completion_code(completion, "python").strip()
            assert get_think_format_reward(answer=None)(completions=[completion]) == [1.0]


LINES = st.lists(st.text(st.characters(exclude_characters="\r\n")) | PIECES.filter(lambda text: text not in "\r\n"))
WORDS = st.sampled_from(["", "Here it is:\n", "`inline` and ```more```\n\n", "# Title\n\n", "<answer>", "<answer>\n"])


@given(LINES, st.sampled_from("`~"), st.integers(0, 3), st.sampled_from(["", "python", " js x=1"]), WORDS)
def test_code_that_is_put_in_a_fence_is_found_again(lines, character, indent, info, before):
    fence = character * max(3, *(line.count(character) + 1 for line in lines), 0)
    space = "" if before == "<answer>" else " " * indent
    written = [space + line for line in [fence + info, *lines, fence]]
    (block,) = fenced_blocks(before + "\n".join(written) + "\nThat is all.")
    assert block == ("".join(info.split()[:1]), "\n".join(lines))


def test_a_text_without_lists_has_the_blocks_that_another_reader_of_commonmark_finds():
    reader = MarkdownIt("commonmark")
    kinds = ["```", "  ````", "~~~ py", "    ```", "``` a`b", "x", ""]
    compared = 0
    for lines in itertools.chain.from_iterable(itertools.product(kinds, repeat=count) for count in range(1, 6)):
        text = "\n".join([*lines, "end"])
        fences = [token for token in reader.parse(text) if token.type == "fence"]
        closed = [token for token in fences if not token.content.endswith("end")]
        blocks = [(token.info.strip(), token.content.removesuffix("\n")) for token in closed]
        assert fenced_blocks(text) == blocks, text
        compared += len(blocks)
    assert compared > 1_000
