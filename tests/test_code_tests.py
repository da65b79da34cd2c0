"""The tests of a data set's row: every form that is read, every one that is not, and what they take from the code."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.code_tests import Assertions, Calls, Programs, read_tests

ONE = (("assert f(1) == 2", True),)
CHECK = "def check(candidate):\n    assert candidate(1) == 2"
KODCODE = "from solution import f\n\ndef test_one():\n    assert f(1) == 2\n\ndef test_two():\n    assert f(2) == 3\n"


# Forms


@pytest.mark.parametrize(
    "given",
    [
        "assert f(1) == 2",
        "\n\nassert f(1) == 2  # a comment\n",
        ["assert f(1) == 2"],
        ("assert f(1) == 2",),
        '["assert f(1) == 2"]',
        {"test_cases": ["assert f(1) == 2"]},
        "from solution import f\nassert f(1) == 2",
    ],
    ids=repr,
)
def test_asserts_are_read_from_source_and_from_lists_of_lines(given):
    assert read_tests(given) == Assertions(ONE, ("f",))


def test_each_line_of_a_list_is_a_test():
    tests = read_tests(["assert f(1) == 2", "assert f(2) == 3"])
    assert tests.pieces == (*ONE, ("assert f(2) == 3", True)) and len(tests) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"inputs": ["1", "2\n3"], "outputs": ["4", "5"]},
        {"inputs": ["1", ["2", "3"]], "outputs": [["4"], "5"]},
        {"inputs": ["1", "2\n3"], "outputs": ["4", "5"], "fn_name": None},
        {"inputs": ["1", "2\n3"], "outputs": ["4", "5"], "fn_name": "", "test_cases": None},
        [{"input": "1", "output": "4"}, {"input": "2\n3", "output": "5"}],
        [
            {"input": "1", "output": "4", "testtype": "stdin", "fn_name": None},
            {"input": "2\n3", "output": "5", "testtype": "stdin"},
        ],
        {
            "language": "python",
            "test_cases": [
                {"type": "stdin_stdout", "input": "1", "output": "4", "fn_name": None},
                {"type": "stdin_stdout", "input": "2\n3", "output": "5", "fn_name": None},
            ],
            "inputs": None,
        },
    ],
    ids=["APPS", "lists of lines", "no function", "Arrow", "pairs", "LiveCodeBench", "PrimeIntellect"],
)
def test_programs_are_read_from_all_their_forms_and_their_json(given):
    expected = Programs(("1", "2\n3"), ("4", "5"))
    assert read_tests(given) == read_tests(json.dumps(given)) == read_tests("\n " + json.dumps(given)) == expected
    assert len(expected) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"fn_name": "f", "inputs": [[1], [[2, 3], "x"]], "outputs": [None, {"a": [1.5]}]},
        [
            {"fn_name": "f", "input": [1], "output": None},
            {"fn_name": "f", "input": [[2, 3], "x"], "output": {"a": [1.5]}},
        ],
        {
            "test_cases": [
                {"type": "function_call", "fn_name": "f", "input": [1], "output": None},
                {"type": "function_call", "fn_name": "f", "input": [[2, 3], "x"], "output": {"a": [1.5]}},
            ]
        },
    ],
    ids=["APPS", "pairs", "PrimeIntellect"],
)
def test_calls_are_read_from_all_their_forms_and_their_json(given):
    expected = Calls("f", (([1], None), ([[2, 3], "x"], {"a": [1.5]})))
    assert read_tests(given) == read_tests(json.dumps(given)) == expected
    assert len(expected) == 2


def test_check_is_called_with_the_entry_point():
    tests = read_tests(f"METADATA = {{'author': 'x'}}\n\n{CHECK}", "f")
    assert tests.names == ("f",) and tests.pieces[-1] == ("check(f)", True)
    assert len(tests) == 1 and not tests.pieces[0][1] and len(tests.pieces) == 2
    assert read_tests("def check(candidate, times=1, /):\n    assert candidate(1)", "f").pieces[-1] == (
        "check(f)",
        True,
    )


@pytest.mark.parametrize("source", [f"{CHECK}\ncheck(f)", f"{CHECK}\n\n\nif __name__ == '__main__':\n    check(f)"])
@pytest.mark.parametrize("entry_point", [None, "f"])
def test_a_check_that_is_called_at_the_top_is_one_test(source, entry_point):
    tests = read_tests(source, entry_point)
    assert (len(tests), tests.names) == (1, ("f",))


def test_a_test_function_that_is_called_at_the_top_is_one_test():
    for call in ("test_f()", "if __name__ == '__main__':\n    test_f()"):
        tests = read_tests(f"def test_f():\n    assert f(1) == 2\n\n{call}")
        assert (len(tests), tests.names) == (1, ("f",)), call


def test_an_entry_point_is_only_asked_for_where_check_needs_it():
    for nothing in (None, 7, "", "not a name", "class"):
        with pytest.raises(ValueError, match="no column `entry_point` names it"):
            read_tests(CHECK, nothing)
        assert read_tests("assert f(1) == 2", nothing).pieces == ONE


def test_the_entry_point_is_taken_from_the_code_even_where_it_is_built_in():
    assert read_tests(CHECK, "sum").names == ("sum",)
    assert read_tests("assert f(1) == 2", "g").names == ("f", "g")


def test_every_test_function_is_a_test_and_the_import_of_the_solution_is_left_out():
    tests = read_tests(KODCODE)
    assert tests.names == ("f",) and "solution" not in str(tests.pieces)
    assert [source for source, is_test in tests.pieces if is_test] == ["test_one()", "test_two()"]


def test_functions_that_need_arguments_or_have_other_names_are_no_tests():
    more = "def test_it(x):\n    assert f(x)\n\ndef helper():\n    assert f(1)\n"
    with pytest.raises(ValueError, match="no assert"):
        read_tests(more)
    for name in ("test_that", "test", "testThat"):
        assert len(read_tests(more + f"def {name}(x=1):\n    assert f(x)\n")) == 1
    for arguments in ("", "a, b"):
        with pytest.raises(ValueError, match="no assert"):
            read_tests(f"def check({arguments}):\n    assert f(1)", "f")


def test_all_names_of_the_import_are_taken():
    tests = read_tests("from solution import f, g\nfrom solution import h\nassert f(1) == 2")
    assert tests.names == ("f", "g", "h")


# Pieces


def test_what_is_no_test_is_joined_and_keeps_its_place():
    tests = read_tests("x = 1\ny = 2\nassert f(x) == y\nz = 3\nz += 1\nassert f(z) == 5\nassert f(5) == 6\nlast = 1")
    assert tests.pieces == (
        ("x = 1\ny = 2", False),
        ("assert f(x) == y", True),
        ("z = 3\nz += 1", False),
        ("assert f(z) == 5", True),
        ("assert f(5) == 6", True),
        ("last = 1", False),
    )
    assert len(tests) == 3


@pytest.mark.parametrize(
    "source",
    [
        "for i in range(3):\n    assert f(i) == i",
        "if f(0):\n    pass\nelse:\n    assert f(1)",
        "try:\n    f(1)\nexcept ValueError:\n    pass\nelse:\n    assert False",
        "with f(1) as x:\n    assert x",
        "while f(1):\n    assert f(2)\n    break",
        "assert f(1), 'why'",
    ],
)
def test_a_statement_that_holds_asserts_is_one_test(source):
    assert len(read_tests(source)) == 1
    assert len(read_tests(f"{source}\n{source}")) == 2


def test_a_lambda_or_a_definition_within_a_statement_asserts_nothing():
    with pytest.raises(ValueError, match="no assert"):
        read_tests("if f(1):\n    def g():\n        assert f(2)")


# Names


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("assert f(g(1)) == h", "f g h"),
        ("assert C().m(1) == 2", "C"),
        ("assert sorted(f(1)) == [1] and len(f(2)) == sum([1])", "f"),
        ("x = [1]\nassert f(x) == x", "f"),
        ("def helper(a, *b, c=1, **d):\n    return a, b, c, d\nassert helper(f(1))", "f"),
        ("class Box:\n    pass\nassert f(Box)", "f"),
        ("try:\n    f(1)\n    assert False\nexcept ValueError as error:\n    assert str(error) == ''", "f"),
        ("for i, (j, *k) in f(1):\n    assert i and j and k", "f"),
        ("with f(1) as x:\n    assert x", "f"),
        ("assert (x := f(1)) == x", "f"),
        ("assert [x for x in f(1)] == [y for y in f(2) if y]", "f"),
        ("assert (lambda z: f(z))(1)", "f"),
        ("import os.path, math as m\nfrom json import loads as l\nassert f(os, m, l)", "f"),
        ("assert f(undefined.attribute)", "f undefined"),
        ("assert sum(1, 2) == 3", "sum"),  # the function under test hides the built-in one
        ("x = max([1])\nassert sum(len('a'), 2) == 3", "sum"),
    ],
)
def test_only_what_the_tests_lack_is_taken_from_the_code(source, names):
    assert read_tests(source).names == tuple(names.split())


def test_modules_of_python_that_are_used_without_an_import_are_imported():
    tests = read_tests("assert math.isclose(f(1), 2) and string.digits == re.escape('1')")
    assert tests.names == ("f",)
    assert [source for source, _ in tests.pieces[:3]] == ["import math", "import re", "import string"]


def test_a_function_that_is_called_like_a_module_is_the_codes():
    tests = read_tests("assert copy([1]) == [1]\nassert bisect(x.y) == copy.deepcopy(1)")
    assert tests.names == ("bisect", "copy", "x") and "import" not in str(tests.pieces)


# What is unusable


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (None, "no assert"),
        ("", "no assert"),
        (" \n", "no assert"),
        ("7", "no assert"),
        (7, "no assert"),
        (float("nan"), "no assert"),
        ("# assert f(1)", "no assert"),
        ("f(1)", "no assert"),
        ("print(f(1) == 2)", "no assert"),
        ("async def test_it():\n    assert f(1)", "async test `test_it` cannot be run"),
        ("class Test:\n    def test_it(self):\n        assert f(1)\nassert f(2)", "class `Test` cannot be run"),
        ("assert np.allclose(f(1), 2)", "`np` without an import"),
        ("assert", "do not compile"),
        ("  assert f(1)", "do not compile"),
        ("assert f(1)\0", "do not compile"),
        ("assert f('\ud800')", "do not compile"),
        ('{"inputs": ["1"], "outputs": ["2"]', "do not compile"),
        ("assert 1 == 1", "call nothing that the code could define"),
        ("def f(x):\n    return x\nassert f(1) == 1", "call nothing that the code could define"),
        ("import solution\nassert solution.f(1) == 2", "call nothing that the code could define"),
        ("from solution import *\nassert f(1)", r"import \*` must name"),
        ("from solution import f as g\nassert g(1)", "import f` must name"),
        (CHECK, "no column `entry_point` names it"),
        (b"assert f(1)", "bytes, which is no JSON"),
        (object(), "object, which is no JSON"),
        ({"inputs": {1}, "outputs": ["1"]}, "dict, which is no JSON"),
        ([], "neither Python source nor"),
        ([None], "neither Python source nor"),
        ([["assert f(1)"]], "neither Python source nor"),
        (["assert f(1)", {"input": "1", "output": "2"}], "neither Python source nor"),
        ({"test_cases": []}, "neither Python source nor"),
        ({}, "need the lists `inputs` and `outputs`"),
        ({"inputs": [], "outputs": []}, "need the lists `inputs` and `outputs`"),
        ({"inputs": "1", "outputs": "2"}, "need the lists `inputs` and `outputs`"),
        ({"inputs": ["1"], "outputs": None}, "need the lists `inputs` and `outputs`"),
        ({"inputs": ["1"], "outputs": []}, "have 1 `inputs` and 0 `outputs`"),
        ({"inputs": ["1"], "outputs": ["1", "2"]}, "have 1 `inputs` and 2 `outputs`"),
        ({"inputs": ["1", "2"], "outputs": ["", " \n"]}, "all their `outputs` are empty"),
        ({"inputs": [1], "outputs": ["1"]}, "must be texts"),
        ({"inputs": ["1"], "outputs": [2]}, "must be texts"),
        ({"inputs": [["1", 2]], "outputs": ["1"]}, "must be texts"),
        ([{"input": "1"}], "must be texts"),
        ({"fn_name": "f", "inputs": [1], "outputs": [1]}, "must be a list of arguments"),
        ({"fn_name": ["f"], "inputs": [[1]], "outputs": [1]}, "must be a list of arguments"),
        ([{"fn_name": name, "input": [1], "output": 1} for name in "fg"], "several functions"),
        ([{"fn_name": "f", "input": [1], "output": 1}, {"input": [1], "output": 1}], "several functions"),
        ([{"fn_name": [], "input": [1], "output": 1}], "`fn_name`"),
        ([{"fn_name": {}, "input": [1], "output": 1}], "`fn_name`"),
        # The function's name stands elsewhere, and the lines of `input` are arguments: they are no program's.
        ([{"input": "[1]\n2", "output": "3", "testtype": "functional"}], "`fn_name`"),
    ],
)  # fmt: skip
def test_what_is_unusable_is_a_value_error_that_says_why(given, why):
    with pytest.raises(ValueError, match=why) as error:
        read_tests(given)
    assert str(error.value) and "\n" not in str(error.value)


def test_an_empty_output_beside_others_is_usable():
    assert len(read_tests({"inputs": ["1", "2"], "outputs": ["", "x"]})) == 2


# Hostile data sets

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["f", "1\n", "assert f(1)", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["input", "output", "inputs", "outputs", "fn_name", "test_cases", "testtype", "type"]),
            inner,
        )
    ),
    max_leaves=12,
)
STATEMENTS = ["assert ", "f(1)", "def check(c)", "def test()", "from solution import ", "f", "import ", "lambda "]
STATEMENTS += ["class A", "try", "except E as e", "for x in ", "if ", "else", "async ", "f'{x}'", "\0", "\n    "]
SOURCE = st.lists(st.sampled_from([*STATEMENTS, *"()[]{}:.,=*'\n "]), max_size=30).map("".join)
NAMES = st.none() | st.sampled_from(["f", "sum", "class", "1", ""]) | st.integers()


@given(JSON | SOURCE | st.text(max_size=60), NAMES)
def test_nothing_but_a_value_error_is_raised(given, entry_point):
    try:
        tests = read_tests(given, entry_point)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(tests, Programs | Calls | Assertions) and len(tests) > 0
        assert read_tests(given, entry_point) == tests


DEEP = {
    "parentheses": ("assert f(1) == ", "(", "1", ")"),
    "brackets": ("assert f(1) == ", "[", "", "]"),
    "minus": ("assert f(1) == ", "-", "1", ""),
    "not": ("assert ", "not ", "f(1)", ""),
    "sums": ("assert f(1) == ", "1+", "1", ""),
    "powers": ("assert f(1) == ", "1**", "1", ""),
    "attributes": ("assert f(1) == x", ".a", "", ""),
    "calls": ("assert f(1) == x", "()", "", ""),
    "items": ("assert f(1) == x", "[0]", "", ""),
    "conditions": ("assert f(1) == ", "1 if 1 else ", "1", ""),
    "lambdas": ("assert f(1) == ", "lambda: ", "1", ""),
    "else if": ("if 1:\n    pass\n", "elif 2:\n    pass\n", "assert f(1)", ""),
    "format strings": ("assert f(1) == ", "f'{", "", ""),
    "JSON lists": ("", "[", "1", "]"),
    "JSON objects": ("", '{"a":', "1", "}"),
    "JSON arguments": ('{"fn_name": "f", "outputs": [1], "inputs": [', "[", "1", "]"),
}


@pytest.mark.parametrize("depth", [100, 250, 500, 900, 5_000, 100_000])
@pytest.mark.parametrize("name", DEEP)
def test_deep_nesting_is_read_or_refused_in_no_time(name, depth):
    head, opening, middle, closing = DEEP[name]
    source = head + opening * depth + middle + closing * depth + ("]}" if name == "JSON arguments" else "")
    begin = time.process_time()
    try:
        read_tests(source)
    except ValueError as error:
        assert str(error) and len(str(error)) < 300
    assert time.process_time() - begin < 4


LONG = {
    "asserts": "assert f(1) == 2\n" * 5_000,
    "helpers": "x = 1\n" * 20_000 + "assert f(x)",
    "test functions": "".join(f"def test_{i}():\n    assert f({i})\n" for i in range(2_000)),
    "names": "assert f(" + ",".join(f"x{i}" for i in range(20_000)) + ")",
    "attributes": "assert f(" + ",".join(f"x{i}.a" for i in range(40_000)) + ")",
    "comparisons": "assert " + " == ".join(["f(1)"] * 20_000),
    "texts": "assert f(" + "'a' " * 100_000 + ")",
    "a number": "assert f(" + "9" * 100_000 + ")",
    "a hexadecimal number": "assert f(0x" + "9" * 100_000 + ")",
    "a number in JSON": '{"inputs": ["1"], "outputs": [' + "9" * 100_000 + "]}",
    "white space": " " * 2_000_000 + "\n",
    "line breaks": "\n" * 1_000_000,
    "continued lines": "\\\n" * 100_000,
    "an open text": "'''" + "a" * 2_000_000,
    "inputs": json.dumps({"inputs": ["1\n"] * 50_000, "outputs": ["1\n"] * 50_000}),
    "one input": json.dumps({"inputs": ["1\n" * 1_000_000], "outputs": ["1"]}),
}


@pytest.mark.parametrize("name", LONG)
def test_long_texts_are_read_or_refused_in_linear_time(name):
    begin = time.process_time()
    try:
        read_tests(LONG[name])
    except ValueError as error:
        assert str(error)
    assert time.process_time() - begin < 4


def test_the_order_of_names_does_not_depend_on_the_run():
    names = [f"name{i}" for i in range(50)]
    assert read_tests(f"assert f({','.join(reversed(names))})").names == ("f", *sorted(names))
