"""The two sides of a function's tests: values as bytes, and two real processes that speak to each other."""

import contextlib
import io
import math
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.code_execution import Bounds, Verdict, check, inside, load, run
from rewards.code_tests import read_tests
from rewards.in_sandbox import LARGEST, STARTED, Channel, NotPlain, Raised, Remote, ask_over, decode, encode, same
from rewards.sandbox import Unsandboxed

# Values as bytes

FLOATS = st.floats(allow_nan=False)
HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -(7**1_000)])
    | FLOATS
    | st.builds(complex, FLOATS, FLOATS)
    | st.text(st.characters())  # unpaired surrogates, too
    | st.text("\ud800\udfff\0é")
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
PLAIN = st.recursive(
    HASHABLE | st.sets(HASHABLE, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=12,
)


def kinds(value):
    """The value with its types spelled out, for 1, 1.0 and True are equal; the order in a set is nobody's."""
    if isinstance(value, dict):
        return dict, tuple((kinds(key), kinds(item)) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        inner = map(kinds, value)
        return type(value), frozenset(inner) if isinstance(value, set | frozenset) else tuple(inner)
    return type(value), hex(value) if isinstance(value, int) else repr(value)


@given(PLAIN)
def test_a_plain_value_comes_out_as_it_went_in(value):
    there = decode(encode(value))
    assert there == value and kinds(there) == kinds(value)


@pytest.mark.parametrize("value", [math.nan, -0.0, math.inf, -math.inf, complex(math.nan, -0.0), 5e-324, 0.1, 1e308])
def test_a_float_keeps_its_very_bits(value):
    assert repr(decode(encode([value]))[0]) == repr(value)


@pytest.mark.parametrize("value", [0, -1, True, 10**5_000, -(2**100_000), 255], ids=int.bit_length)
def test_an_integer_may_have_any_number_of_digits(value):
    there = decode(encode(value))
    assert there == value and type(there) is type(value)


def test_a_value_may_be_nested_hundreds_deep():
    value = []
    for _ in range(700):
        value = [value]
    assert encode(decode(encode(value))) == encode(value)


@pytest.mark.parametrize(
    ("base", "plain"),
    [(int, 5), (float, 5.5), (str, "five"), (bytes, b"5"), (list, [5]), (tuple, (5,)), (dict, {5: 5})],
)
def test_a_subclass_passes_as_the_plain_value_that_it_holds(base, plain):
    lies = {"__eq__": lambda *_: True, "__hash__": lambda *_: 0, "__repr__": lambda *_: "7", "__str__": lambda *_: "7"}
    lies |= {"items": lambda *_: [], "encode": lambda *_: b"7"}
    there = decode(encode(type("Liar", (base,), lies)(plain)))
    assert type(there) is base and there == plain


@pytest.mark.parametrize("value", [object(), len, lambda: 1, iter([1]), range(3), type, Ellipsis, {1: [object()]}])
def test_an_object_is_no_plain_value_unless_it_is_kept(value):
    with pytest.raises(NotPlain, match="is no plain value"):
        encode(value)
    with pytest.raises((ValueError, TypeError)):
        decode(encode(value, lambda thing: 0))
    decode(encode(value, lambda thing: 0), str)


@pytest.mark.parametrize("number", [0, 7, 22, 1_000, 10**9])
def test_the_number_of_a_kept_object_may_be_any(number):
    """Also one that is larger than the message is long."""
    assert decode(encode(object(), lambda thing: number), lambda given: ("kept", given)) == ("kept", number)


GARBAGE = st.binary(max_size=60) | st.lists(
    st.sampled_from([b"N", b"T", b"C", b"I1:", b"D3:", b"S2:", b"B1:", b"L2:", b"U1:", b"E1:", b"Z1:", b"M1:", b"H0:"])
    | st.sampled_from([b"D5:1e999", b"S1:\xff", b"I400:" + b"f" * 400, b"D3:nan", b"L99:", b"L-1:", b"1", b":", b"_"]),
    max_size=12,
).map(b"".join)


def decode_or_refuse(data: bytes):
    try:
        decode(data)
        decode(data, lambda number: object())
    except (ValueError, TypeError, RecursionError):
        pass


@given(GARBAGE)
def test_bytes_that_nobody_encoded_are_refused(data):
    decode_or_refuse(data)


@given(PLAIN, st.data())
def test_bytes_that_were_changed_on_the_way_are_refused_or_another_value(value, data):
    encoded = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    decode_or_refuse(bytes(encoded))
    decode_or_refuse(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))


@pytest.mark.parametrize(
    "data", [b"", b"NN", b"I1:12", b"I5:1", b"L2:N", b"M1:N", b"X1:", b"L:", b"L-1:", b"L9:N", b"l1:N"]
)
def test_a_value_too_many_or_too_few_is_refused(data):
    with pytest.raises(ValueError):
        decode(data)


def test_a_number_beyond_a_float_is_refused_in_a_complex_one():
    with pytest.raises((ValueError, TypeError)):
        decode(b"CI400:" + b"f" * 400 + b"D3:1.0")


MANY = 300_000


@pytest.mark.parametrize(
    "data",
    [
        b"L1:" * MANY,
        b"C" * MANY,
        b"L300000:" * 500,
        b"L%d:" % (3 * MANY) + b"L0:" * MANY,
        b"L%d:" % MANY + b"N" * MANY,
        b"M%d:" % (MANY // 2) + b"N" * MANY,
        b"I%d:" % MANY + b"f" * MANY,
        b"I%d:" % MANY + b"f" * (MANY - 1) + b"x",
        b"D%d:" % MANY + b"9" * MANY,
        b"S%d:" % MANY + b"\xff" * MANY,
        b"9" * MANY,
        b"L" + b"9" * MANY + b":",
        b"S%d:" % (10**18),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_a_huge_message_is_read_in_linear_time(data):
    begin = time.process_time()
    decode_or_refuse(data)
    assert time.process_time() - begin < 4


# Messages


def test_messages_come_out_one_by_one_and_then_there_is_none():
    file = io.BytesIO()
    channel = Channel(file, file)
    sent = [b"one", b"", b"\0" * 100_000]
    for message in sent:
        channel.send(message)
    file.seek(0)
    assert [channel.receive() for _ in sent] == sent
    with pytest.raises(EOFError):
        channel.receive()


@pytest.mark.parametrize("data", [b"", b"\0" * 7, (5).to_bytes(8) + b"four", (2**63).to_bytes(8), b"\xff" * 100])
def test_a_message_that_is_cut_off_or_too_long_is_the_end(data):
    with pytest.raises(EOFError):
        Channel(io.BytesIO(data), None).receive()


def test_a_message_beyond_the_bound_is_not_read():
    file = io.BytesIO((LARGEST + 1).to_bytes(8) + b"x")
    with pytest.raises(EOFError):
        Channel(file, None).receive()
    assert file.tell() == 8


# Results


@pytest.mark.parametrize(
    ("result", "expected", "tolerance", "equal"),
    [
        (1, 1, None, True),
        (1.0, 1, None, True),
        (1, 2, None, False),
        ("1", 1, None, False),
        (None, None, None, True),
        (None, [], None, False),
        ((1, 2), [1, 2], None, True),
        ([(1, [2])], [[1, (2,)]], None, True),
        ([1, 2], [1], None, False),
        ([1], [1, 2], None, False),
        ([], [], None, True),
        ("ab", ["a", "b"], None, False),
        ({1}, [1], None, False),
        ({"a": (1,)}, {"a": [1]}, None, True),
        ({"a": 1}, {"a": 1, "b": 2}, None, False),
        ({"a": 1, "b": 2}, {"a": 1}, None, False),
        ({"b": 2, "a": 1}, {"a": 1, "b": 2}, None, True),
        (math.nan, math.nan, None, False),
        (0.1 + 0.2, 0.3, None, False),
        (0.1 + 0.2, 0.3, 1e-9, True),
        ([0.1 + 0.2], [0.3], 1e-9, True),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, 1e-9, True),
        (1.0011, 1.0, 1e-3, False),
        (1_001.0, 1_000, 1e-3, True),
        (1_000, 1_001.0, 1e-3, True),
        (1_002, 1_000, 1e-3, False),
        (0.0009, 0, 1e-3, True),
        (0.0011, 0, 1e-3, False),
        (-1.0, 1.0, 1e-3, False),
        (math.inf, math.inf, 1e-3, True),
        (math.inf, 1.0, 1e-3, False),
        (1.0, math.inf, 1e-3, False),
        (-math.inf, math.inf, 1e-3, False),
        (math.nan, 1.0, 1e-3, False),
        (True, 1.0001, 1e-3, False),
        ("1.0", 1.0, 1e-3, False),
    ],
)  # fmt: skip
def test_a_result_is_compared_as_json_would_have_it(result, expected, tolerance, equal):
    assert same(result, expected, tolerance) is equal


# Two processes, without a sandbox so that this runs everywhere


class ToTheCode(Channel):
    """In place of the caller, who carries what is asked to the code."""

    def send(self, message: bytes) -> None:
        super().send(message.removeprefix(b"?"))


@pytest.fixture
def solution():
    """Starts the side of the code, and returns what it defines by name: plain values and `Remote`s."""
    with contextlib.ExitStack() as started:

        def start(source: str, *names: str):
            process = started.enter_context(Unsandboxed().start(inside("functions", Bounds(20, 0)), subprocess.PIPE))
            process.stdin.write(load())
            channel = ToTheCode(process.stdout, process.stdin)
            channel.send(source.encode())
            assert process.stdout.read(1) == STARTED
            found = ask_over(channel)("names", list(names))
            return [found[name] for name in names] if len(names) > 1 else found[names[0]]

        yield start


def test_functions_are_called_and_plain_values_are_copies(solution):
    add, numbers = solution("numbers = [1, 2]\ndef add(a, b=2, *, c=0):\n    return a + b + c", "add", "numbers")
    assert (add(1), add(1, 5), add("a", b="b", c="c"), numbers) == (3, 6, "abc", [1, 2])


def test_an_argument_that_the_code_changes_is_changed_here(solution):
    change = solution(
        "def change(numbers, names, seen, deep, fixed):\n"
        "    numbers.sort(); names['new'] = 1; del names['old']; seen.add(3); deep[0].append(4); fixed += (1,)",
        "change",
    )
    arguments = [3, 1, 2], {"old": 0}, {1}, [[]], (0,)
    alias = arguments[0]
    assert change(*arguments) is None
    assert arguments == ([1, 2, 3], {"new": 1}, {1, 3}, [[4]], (0,)) and alias == [1, 2, 3]


def test_an_argument_given_by_name_is_changed_here_too(solution):
    sort = solution("def sort(numbers):\n    numbers.sort()", "sort")
    numbers = [3, 1, 2]
    sort(numbers=numbers)
    assert numbers == [1, 2, 3]


def test_an_argument_that_becomes_full_of_objects_holds_them(solution):
    fill = solution("class A:\n    x = 1\ndef fill(items):\n    items.append(A())", "fill")
    items = []
    fill(items)
    assert items[0].x == 1


def test_iterators_are_read_as_far_as_they_are_asked(solution):
    count, pairs = solution(
        "import itertools\ncount = itertools.count\ndef pairs(n):\n    return zip(range(n), 'abc')",
        *("count", "pairs"),
    )
    numbers = count(5)
    assert [next(numbers), next(numbers)] == [5, 6]
    assert list(pairs(2)) == [(0, "a"), (1, "b")] and list(pairs(0)) == []
    with pytest.raises(StopIteration):
        next(pairs(0))
    assert same(pairs(2), [[0, "a"], [1, "b"]], None) and not same(pairs(2), [[0, "a"]], None)
    assert not same(count(1), [1, 2], None), "an endless iterator"
    assert not same(pairs(1), [[0, "a"], [1, "b"]], None)


def test_objects_of_classes_keep_their_state_on_their_side(solution):
    Stack = solution(
        "class Stack:\n"
        "    size = 0\n"
        "    def __init__(self, *items):\n        self.items = list(items)\n"
        "    def push(self, item):\n        self.items.append(item)\n        return self\n"
        "    def __len__(self):\n        return len(self.items)\n"
        "    def __getitem__(self, i):\n        return self.items[i]\n"
        "    def __iter__(self):\n        return iter(self.items)\n"
        "    def __str__(self):\n        return 'Stack of %d' % len(self)\n"
        "    def __repr__(self):\n        return f'Stack{tuple(self.items)}'\n"
        "    @staticmethod\n    def of(stack):\n        return stack.items",
        "Stack",
    )
    stack = Stack(1)
    assert stack.items == [1] and stack.size == 0 and type(stack) is Remote
    assert stack.push(2).push((3,)).items == [1, 2, (3,)] and stack.items == [1, 2, (3,)]
    assert len(stack) == 3 and stack[1] == 2 and stack[-1] == (3,) and list(stack) == [1, 2, (3,)]
    assert str(stack) == "Stack of 3" and repr(stack) == "Stack(1, 2, (3,))" and f"{stack}" == "Stack of 3"
    assert stack and not Stack() and 2 in stack and 7 not in stack
    assert Stack.of(stack) == [1, 2, (3,)], "an object goes back as itself"
    assert stack == stack and stack != Stack(1, 2, (3,))
    with pytest.raises(IndexError):
        stack[9]
    with pytest.raises(AttributeError):
        stack.pop  # noqa: B018


def test_hundreds_of_objects_are_kept_apart(solution):
    Box, boxes = solution(
        "class Box:\n    def __init__(self, x): self.x = x\ndef boxes(n): return [Box(i) for i in range(n)]",
        *("Box", "boxes"),
    )
    assert [Box(i).x for i in range(300)] == [box.x for box in boxes(300)] == list(range(300))


def test_an_object_without_a_special_method_is_what_python_says(solution):
    plain = solution("class A: pass\nplain = A()", "plain")
    assert plain
    for wrong in (len, iter, next, lambda thing: thing[0], lambda thing: 1 in thing):
        with pytest.raises(TypeError):
            wrong(plain)


def test_an_object_that_equals_everything_is_equal_to_nothing(solution):
    liar = solution(
        "class Liar:\n    __eq__ = __ne__ = __lt__ = __gt__ = __contains__ = lambda *_: True\n"
        "    __hash__ = lambda self: 1\nliar = Liar()",
        "liar",
    )
    assert not liar == 1 and liar != 1 and not same(liar, 1, None) and not same(liar, {}, 1e-3)
    assert not same([liar], [1], None) and liar not in [1] and liar not in {1}
    with pytest.raises(TypeError):
        assert liar < 2


@pytest.mark.parametrize(
    ("raised", "caught", "message"),
    [
        ("ValueError('no')", ValueError, "no"),
        ("KeyError('no')", KeyError, "'no'"),
        ("ZeroDivisionError('no')", ZeroDivisionError, "no"),
        ("StopIteration('no')", StopIteration, "no"),
        ("AssertionError('no')", AssertionError, "no"),
        ("ImportError('no')", ImportError, "no"),
        ("Mine('no')", ValueError, "no"),
        ("UnicodeDecodeError('utf-8', b'', 0, 1, 'no')", ValueError, "no"),
        ("Exception('no')", Exception, "no"),
        ("Own('no')", Raised, "no"),
        ("ExceptionGroup('no', [ValueError()])", Exception, "no"),
        ("ValueError('no', 2)", ValueError, "('no', 2)"),
        ("KeyError('no')", KeyError, "'no'"),
        ("ValueError(object())", ValueError, "<object object at"),
    ],
)
def test_an_exception_comes_here_as_the_nearest_built_in_kind(solution, raised, caught, message):
    fail = solution(
        "class Mine(ValueError): pass\nclass Own(Exception): pass\n" + f"def fail():\n    raise {raised}", "fail"
    )
    with pytest.raises(Exception) as error:
        fail()
    assert isinstance(error.value, caught) and message in str(error.value)


def test_an_exception_of_the_code_cannot_pass_for_a_fault_of_the_tests(solution):
    for raised in ("ImportError", "NotPlain"):
        fail = solution(f"class NotPlain(TypeError): pass\ndef fail():\n    raise {raised}", "fail")
        with pytest.raises((ImportError, TypeError)) as error:
            fail()
        assert error.value.is_remote and not isinstance(error.value, NotPlain)


def judged(code: str, tests, all_must_pass: bool = True, seconds: float = 20, entry_point=None) -> Verdict:
    bounds = Bounds(seconds, 512)
    return check(code, read_tests(tests, entry_point), Unsandboxed(), bounds, all_must_pass, None)


FOUR = "assert f(0) == 1\nassert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4"
RIGHT = "def f(x):\n    return x + 1"


@pytest.mark.parametrize(
    ("code", "passed", "said"),
    [
        (RIGHT, 4, ""),
        ("def f(x):\n    return x", 0, "a wrong result"),
        ("def f(x):\n    if x == 2: raise KeyError(x)\n    return x + 1", 3, "test 3: raised KeyError"),
        ("def f(x):\n    assert x != 2\n    return x + 1", 3, "test 3: "),
        ("def g(x):\n    return x + 1", 0, "test 1: raised NameError"),
        ("f = 7", 0, "test 1: raised TypeError"),
        (f"{RIGHT}\nraise ValueError", 0, "raised ValueError"),
        (f"{RIGHT}\nimport sys\nsys.exit(0)", 0, "test 1: "),
        (f"{RIGHT}\nimport os\nos._exit(0)", 0, "test 1: "),
        (f"{RIGHT}\nexit()", 0, "test 1: "),
        (f"{RIGHT}\nimport no_such_module", 0, "raised ModuleNotFoundError"),
        ("def f(x:\n    return x + 1", 0, "raised SyntaxError"),
        ("", 0, "raised NameError"),
        ("def f(x):\n    if x == 2: exit()\n    return x + 1", 2, "test 3: "),
        ("import os\ndef f(x):\n    if x == 2: os._exit(0)\n    return x + 1", 2, "test 3: "),
        ("def f(x):\n    return f(x)", 0, "test 1: raised RecursionError"),
        ("def f(x):\n    print('!' * 9, flush=True)\n    return x + 1", 4, ""),
        ("def f(x):\n    import sys\n    sys.stdin.read()\n    return x + 1", 4, ""),
        ("from __future__ import annotations\ndef f(x: Nothing):\n    return x + 1", 4, ""),
        ("if __name__ == '__main__':\n    raise ValueError\n" + RIGHT, 4, ""),
        ("import sys\nassert sys.modules[__name__].__dict__ is globals()\n" + RIGHT, 4, ""),
        ("from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n" + RIGHT, 4, ""),
        ("\ufeff" + RIGHT, 4, ""),
        ("# -*- coding: latin-1 -*-\n" + RIGHT, 4, ""),
    ],
)
def test_each_test_is_counted_and_the_first_failure_is_named(code, passed, said):
    verdict = judged(code, FOUR, all_must_pass=False)
    assert verdict.passed == passed and said in verdict.said and bool(verdict.said) == (passed < 4)


def test_no_test_is_run_after_one_that_failed_where_all_must_pass():
    code = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n"
    tests = "assert f(0) == 1\nassert f(0) == 7\nassert f(0) == 3"
    assert judged(code, tests) == Verdict(1, "test 2: a wrong result")
    assert judged(code, tests, all_must_pass=False) == Verdict(2, "test 2: a wrong result")


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        ("import no_such_module\nassert f(1) == 2", "no_such_module"),
        ("assert f(object()) == 2", "object is no plain value"),
        ("assert f(1) == 2\nassert f(lambda: 1) == 2", "function is no plain value"),
    ],
)
def test_tests_that_cannot_be_run_are_no_verdict_on_the_code(tests, said):
    verdict = judged(RIGHT, tests)
    assert verdict.passed is None and said in verdict.said


def test_a_helper_that_fails_fails_the_tests_behind_it_only():
    tests = "assert f(1) == 1\ny = f(0)\nassert f(1) == 1\nassert f(1) == 1"
    verdict = judged("def f(x):\n    return 1 // x", tests, all_must_pass=False)
    assert verdict.passed == 1 and "ZeroDivisionError" in verdict.said


def test_methods_of_a_solution_class_are_called():
    tests = {"fn_name": "f", "inputs": [[1], [2]], "outputs": [2, 3]}
    in_a_class = "class Solution:\n    def f(self, x):\n        return x + 1"
    assert judged(RIGHT, tests).passed == judged(in_a_class, tests).passed == 2
    wrong_method = "class Solution:\n    def f(self, x):\n        return x"
    assert judged(f"{wrong_method}\n{RIGHT}", tests).passed == 2, "a function goes before a method"
    for neither in ("def g(x):\n    return x + 1", "class Solution:\n    pass"):
        assert judged(neither, tests).passed == 0


def test_a_call_that_fails_is_counted_and_named():
    tests = {"fn_name": "f", "inputs": [[1], [0], [2], [1, 1]], "outputs": [2, 0, 1, 0]}
    verdict = judged("def f(x):\n    return 2 // x", tests, all_must_pass=False)
    assert verdict == Verdict(2, "test 2: raised ZeroDivisionError")


def test_the_names_that_the_tests_define_are_theirs():
    code = "def helper(x):\n    return 2\ndef check(candidate):\n    pass\nlen = sum = abs = lambda x: 1\n" + RIGHT
    tests = "def helper(x):\n    return x\ndef check(candidate):\n    assert len([candidate(1)] * 2) == helper(5)"
    assert judged(code, tests, entry_point="f") == Verdict(0, "test 1: a wrong result")


def test_time_is_bounded_and_the_tests_before_are_counted():
    """As they are for a program, and for a function that ends its process."""
    code = "def f(x):\n    while x == 2: pass\n    return x + 1"
    begin = time.monotonic()
    verdict = judged(code, FOUR, all_must_pass=False, seconds=1)
    assert time.monotonic() - begin < 4 and "too slow" in verdict.said
    assert verdict.passed == 2


def test_tests_that_forge_a_verdict_raise_nothing_here():
    """A data set may be hostile, too: its tests run in the sandbox, but their verdict is read outside."""
    for message in (b"!", b"!N", b"!L1:N", b"!L2:L1:NS0:", b"!L2:L1:S1:xI1:5", b"!x", b"!L2:L5:TTTTTS0:", b"?N"):
        forged = (
            "import contextlib, os\nfor fd in range(3, 20):\n    with contextlib.suppress(OSError):\n"
            f"        os.write(fd, {len(message).to_bytes(8) + message})\nassert f(1) == 3"
        )
        verdict = judged(RIGHT, forged)
        assert verdict.passed in (None, 0), message


def test_tests_that_forge_passes_earn_no_more_than_all():
    forged = "import contextlib, os\nfor fd in range(3, 20):\n    with contextlib.suppress(OSError):\n"
    forged += f"        os.write(fd, {((2).to_bytes(8) + b'=1') * 5})\nassert f(1) == 2"
    assert judged(RIGHT, forged, all_must_pass=False).passed in (None, 0, 1)


# Programs and compilers


def test_what_a_program_prints_and_how_it_ends():
    def ran(source: str, stdin: bytes = b"", seconds: float = 20) -> tuple:
        command = inside("program", Bounds(seconds, 512), len(source.encode()))
        return run(command, source.encode() + stdin, Unsandboxed(), seconds)[:2]

    assert ran("print(input()[::-1])", b"abc\nrest") == (b"cba\n", 0)
    assert ran("import sys\nprint(len(sys.stdin.read()), sys.argv, __name__)", b"x" * 200_000) == (
        b"200000 ['main.py'] __main__\n",
        0,
    )
    assert ran("x = 7\nimport __main__\nprint(__main__.x)") == (b"7\n", 0)
    assert ran("print(1)\nraise SystemExit(3)") == (b"1\n", 3)
    assert ran("print(1)\n1/0") == (b"1\n", 1)
    assert ran("print(1); exit()") == ran("print(1); quit(0)") == (b"1\n", 0)
    assert ran("print('é\\ud800')")[1] == 1
    assert ran("print(1", b"")[1] == 1
    begin = time.monotonic()
    assert ran("print(1, flush=True)\nwhile True: pass", seconds=1) == (b"1\n", None)
    assert time.monotonic() - begin < 4
    output, code = ran("import sys\nwhile True: sys.stdout.write('x' * 2**20)")
    assert code is None and len(output) == 16 * 2**20 + 1


def test_files_are_bounded():
    tests = {"inputs": ["1", "40"], "outputs": ["1", "40"]}
    code = "n = int(input())\nwith open('x', 'wb') as file: file.write(bytes(n * 2**20))\nprint(n)"
    assert judged(code, tests) == Verdict(1, "test 2: exit code 1")


def test_memory_is_bounded():
    tests = {"inputs": ["100", "1000"], "outputs": ["100", "1000"]}
    verdict = judged("n = int(input())\nx = bytes(n * 2**20)\nprint(len(x) // 2**20)", tests)
    assert verdict == Verdict(1, "test 2: exit code 1")
    verdict = judged(
        "def f(n):\n    return len(bytes(n * 2**20)) // 2**20", "assert f(100) == 100\nassert f(1000) == 1000"
    )
    assert verdict == Verdict(1, "test 2: raised MemoryError")


COMPILES = ["x = 1", "", "raise SystemExit(3)", "x = 'é'", "\ufeffx = 1", "x = 1\r\ny = 2"]
COMPILES_NOT = ["x = (", "return 1", "x\0", "(" * 50_000, "-" * 50_000 + "1", "x = 1\n  y = 2", "import", "'\xff'"]


@pytest.mark.parametrize("code", COMPILES + COMPILES_NOT, ids=lambda code: repr(code[:12]))
def test_code_is_compiled_and_never_run(code):
    source = code.encode("latin-1" if "\xff" in code else "utf-8")
    output, exit_code, _ = run(inside("compile", Bounds(20, 512)), source, Unsandboxed(), 20)
    assert (exit_code == 0) is (code in COMPILES) and output == b""
