"""A dozen problems in Python, each with a reference solution and tests: `--dataset_name built_in` of the task code.

Asserts, programs that read and print, and lists of calls: each form of tests that the rewards know. The text says all
that the tests ask, the tests hold what a hasty solution forgets.
"""

import json


def programs(*pairs: tuple[str, str]) -> str:
    """Tests of a program: what stands in its standard input, and what it must print."""
    inputs, outputs = zip(*pairs, strict=True)
    return json.dumps({"inputs": inputs, "outputs": outputs})


def calls(function: str, *pairs: tuple[list, object]) -> str:
    """Tests of `function`: its arguments, and what it must return."""
    inputs, outputs = zip(*pairs, strict=True)
    return json.dumps({"fn_name": function, "inputs": inputs, "outputs": outputs})


TRAIN = {
    "second_largest": {
        "question": (
            "Write a function that returns the second largest of the different values in a list of numbers, and None "
            "where there are fewer than two different values."
        ),
        "answer": """
def second_largest(numbers):
    different = sorted(set(numbers))
    return different[-2] if len(different) > 1 else None
""",
        "tests": """
assert second_largest([3, 1, 2]) == 2
assert second_largest([5, 5, 4, 5]) == 4
assert second_largest([-7, -3, -5]) == -5
assert second_largest([-1, 0]) == -1
assert second_largest([2, 2]) is None
assert second_largest([]) is None
""",
    },
    "run_lengths": {
        "question": (
            "Write a function that splits a text into its runs of equal characters. It returns a list of [character, "
            "length of the run], in the order of the text."
        ),
        "answer": """
from itertools import groupby

def run_lengths(text):
    return [[character, len(list(run))] for character, run in groupby(text)]
""",
        "tests": """
assert run_lengths("aaabcc") == [["a", 3], ["b", 1], ["c", 2]]
assert run_lengths("abab") == [["a", 1], ["b", 1], ["a", 1], ["b", 1]]
assert run_lengths("xx") == [["x", 2]]
assert run_lengths("aA  ") == [["a", 1], ["A", 1], [" ", 2]]
assert run_lengths("") == []
""",
    },
    "merge_intervals": {
        "question": (
            "Write a function that merges a list of closed intervals [start, end], given in any order, as far as they "
            "overlap or share an end. It returns the merged intervals as lists, ordered by their start, and leaves the "
            "given list as it is."
        ),
        "answer": """
def merge_intervals(intervals):
    merged = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged
""",
        "tests": """
assert merge_intervals([[1, 3], [2, 6], [8, 10]]) == [[1, 6], [8, 10]]
assert merge_intervals([[5, 6], [1, 2]]) == [[1, 2], [5, 6]]
assert merge_intervals([[1, 4], [4, 5]]) == [[1, 5]]
assert merge_intervals([[1, 10], [2, 3], [9, 12]]) == [[1, 12]]
assert merge_intervals([[1, 10], [2, 3]]) == [[1, 10]]
assert merge_intervals([[-5, -3], [-4, -1], [0, 0]]) == [[-5, -1], [0, 0]]
given = [[3, 4], [1, 3]]
assert merge_intervals(given) == [[1, 4]] and given == [[3, 4], [1, 3]]
assert merge_intervals([]) == []
""",
    },
    "speakers": {
        "question": (
            "A dictionary has the names of people as keys and the list of languages that each speaks as values. Write "
            "a function that turns it around: each language with the alphabetically sorted list of those who speak it, "
            "each of them once."
        ),
        "answer": """
def speakers(languages_of):
    found = {}
    for name, languages in languages_of.items():
        for language in languages:
            found.setdefault(language, set()).add(name)
    return {language: sorted(names) for language, names in found.items()}
""",
        "tests": """
assert speakers({"Mia": ["French", "Thai"], "Ben": ["Thai"]}) == {"French": ["Mia"], "Thai": ["Ben", "Mia"]}
assert speakers({"Zoe": ["Urdu"], "Anna": ["Urdu"], "Kim": ["Urdu"]}) == {"Urdu": ["Anna", "Kim", "Zoe"]}
assert speakers({"Raj": ["Hindi", "Hindi"]}) == {"Hindi": ["Raj"]}
assert speakers({"Tom": [], "Sam": ["Welsh"]}) == {"Welsh": ["Sam"]}
assert speakers({}) == {}
""",
    },
    "BoundedStack": {
        "question": (
            "Write a class for a stack that holds at most `limit` items. `push(item)` adds an item and returns True, "
            "or returns False and adds nothing where the stack is full. `pop()` removes the item that was added last "
            "and returns it; it returns None where the stack is empty. `size()` returns how many items there are."
        ),
        "answer": """
class BoundedStack:
    def __init__(self, limit):
        self.limit = limit
        self.items = []

    def push(self, item):
        if len(self.items) >= self.limit:
            return False
        self.items.append(item)
        return True

    def pop(self):
        return self.items.pop() if self.items else None

    def size(self):
        return len(self.items)
""",
        "tests": """
stack = BoundedStack(2)
assert [stack.push("a"), stack.push("b"), stack.push("c")] == [True, True, False]
assert stack.size() == 2
assert [stack.pop(), stack.pop(), stack.pop()] == ["b", "a", None]
assert stack.size() == 0
assert [stack.push(0), stack.pop(), stack.pop()] == [True, 0, None]
nothing = BoundedStack(0)
assert [nothing.push(1), nothing.size(), nothing.pop()] == [False, 0, None]
first, second = BoundedStack(1), BoundedStack(1)
assert [first.push(1), second.size()] == [True, 0]
""",
    },
    "even_sums": {
        "question": (
            "The first line holds a whole number n. Each of the n lines that follow holds whole numbers, separated by "
            "spaces; a line may be empty. Print for each of these lines the sum of its even numbers, on a line of its "
            "own; it is 0 where there are none."
        ),
        "answer": """
for _ in range(int(input())):
    numbers = map(int, input().split())
    print(sum(number for number in numbers if number % 2 == 0))
""",
        "tests": programs(
            ("2\n1 2 3 4\n5 6\n", "6\n6\n"),
            ("1\n7 9\n", "0\n"),
            ("3\n-2 -4 3\n\n0 10\n", "-6\n0\n10\n"),
            ("1\n100000000000 1\n", "100000000000\n"),
            ("0\n", ""),
        ),
    },
    "word_counts": {
        "question": (
            "Read a text of any number of lines. Print each of its words with the number of times that it occurs, as "
            "`word count`, one on each line: the most frequent first, words of the same number in alphabetical order. "
            "Words are separated by white space and written in lower case in the output; upper and lower case make no "
            "difference."
        ),
        "answer": """
import sys
from collections import Counter

counts = Counter(sys.stdin.read().lower().split())
for word, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
    print(word, count)
""",
        "tests": programs(
            ("to be or not to be\n", "be 2\nto 2\nnot 1\nor 1\n"),
            ("The cat\nthe  dog\nTHE end\n", "the 3\ncat 1\ndog 1\nend 1\n"),
            ("b a\n\na b c\nc c\n", "c 3\na 2\nb 2\n"),
            (" ".join(["x"] * 10 + ["y"] * 9), "x 10\ny 9\n"),
        ),
    },
    "islands": {
        "question": (
            "Each line is a row of a map of the same width, with `#` for land and `.` for water. Fields of land that "
            "touch at a side are of the same island; those that touch only at a corner are not. Print the number of "
            "islands."
        ),
        "answer": """
import sys

rows = sys.stdin.read().split()
land = {(y, x) for y, row in enumerate(rows) for x, field in enumerate(row) if field == "#"}
islands = 0
while land:
    islands += 1
    found = [land.pop()]
    while found:
        y, x = found.pop()
        for field in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if field in land:
                land.remove(field)
                found.append(field)
print(islands)
""",
        "tests": programs(
            ("##..\n##..\n..#.\n...#\n", "3\n"),
            ("#.#\n#.#\n###\n", "1\n"),
            (".#.#.\n", "2\n"),
            ("#\n.\n#\n#\n", "2\n"),
            ("...\n...\n", "0\n"),
            ("####\n#..#\n#.##\n#...\n####\n", "1\n"),
            (("#" * 60 + "\n") * 60, "1\n"),
        ),
    },
    "to_base": {
        "question": (
            "Write a function that writes a whole number in a base from 2 to 36, as a text: with the digits 0 to 9, "
            "then a to z, and with a minus sign in front where the number is negative."
        ),
        "answer": """
def to_base(number, base):
    digits, rest = "", abs(number)
    while rest:
        rest, digit = divmod(rest, base)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return ("-" if number < 0 else "") + (digits or "0")
""",
        "tests": calls(
            "to_base",
            ([10, 2], "1010"),
            ([255, 16], "ff"),
            ([35, 36], "z"),
            ([36, 36], "10"),
            ([0, 7], "0"),
            ([-12, 5], "-22"),
            ([10**30, 10], "1" + "0" * 30),
        ),
    },
}

HELD_OUT = {
    "chunks": {
        "question": (
            "Write a generator function that yields lists of `size` consecutive items of any iterable, in their order; "
            "the last list is shorter where the items do not fill it. It raises ValueError at the first item that is "
            "asked for where `size` is below 1."
        ),
        "answer": """
def chunks(items, size):
    if size < 1:
        raise ValueError("size must be at least 1")
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
""",
        "tests": """
assert list(chunks([1, 2, 3, 4], 2)) == [[1, 2], [3, 4]]
assert list(chunks([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
assert list(chunks([1, 2], 5)) == [[1, 2]]
assert list(chunks([], 3)) == []
assert list(chunks((0, 1, 2), 1)) == [[0], [1], [2]]
assert list(chunks({"x": 1, "y": 2, "z": 3}, 2)) == [["x", "y"], ["z"]]
assert list(chunks("abc", 2)) == [["a", "b"], ["c"]]
try:
    list(chunks([1], 0))
    refused = False
except ValueError:
    refused = True
assert refused
""",
    },
    "brackets": {
        "question": (
            "The first line holds a whole number n. Each of the n lines that follow holds a text of the brackets "
            "()[]{} and other characters, and may be empty. Print for each of these lines `yes` where every bracket is "
            "closed by one of its kind, in the right order, and `no` otherwise, on a line of its own."
        ),
        "answer": """
CLOSED_BY = {"(": ")", "[": "]", "{": "}"}

def is_balanced(text):
    expected = []
    for character in text:
        if character in CLOSED_BY:
            expected.append(CLOSED_BY[character])
        elif character in CLOSED_BY.values() and (not expected or expected.pop() != character):
            return False
    return not expected

for _ in range(int(input())):
    print("yes" if is_balanced(input()) else "no")
""",
        "tests": programs(
            ("3\n()[]{}\n(]\n([{}])\n", "yes\nno\nyes\n"),
            ("2\n([)]\n)(\n", "no\nno\n"),
            ("2\n((\n))\n", "no\nno\n"),
            ("2\n\nf(a[1], {2: 3})\n", "yes\nyes\n"),
            ("1\n" + "(" * 2000 + ")" * 2000 + "\n", "yes\n"),
        ),
    },
    "rotate": {
        "question": (
            "Write a function that returns a list rotated to the right by a number of steps: the last item comes first "
            "after one step. A negative number rotates to the left, and the steps may be more than there are items."
        ),
        "answer": """
def rotate(items, steps):
    if not items:
        return []
    steps %= len(items)
    return items[-steps:] + items[:-steps] if steps else list(items)
""",
        "tests": calls(
            "rotate",
            ([[1, 2, 3, 4, 5], 2], [4, 5, 1, 2, 3]),
            ([[1, 2, 3], 0], [1, 2, 3]),
            ([[1, 2, 3], 3], [1, 2, 3]),
            ([[1, 2, 3], 7], [3, 1, 2]),
            ([["a", "b", "c", "d"], -1], ["b", "c", "d", "a"]),
            ([[1, 2, 3], -5], [3, 1, 2]),
            ([[], 4], []),
        ),
    },
}
