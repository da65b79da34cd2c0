"""The tests of a row, in whichever form the data set has them, read and checked without running anything."""

import ast
import builtins
import itertools
import json
import keyword
import sys
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

# Names that would be the code's own if the tests did not import them: it could have any `np.allclose`.
_PACKAGES = {"np", "numpy", "pd", "pandas", "plt", "scipy", "sp", "sympy", "torch", "pytest"}
_MODULE = "solution"  # the name by which tests import the code under test, if they do (KodCode)


@dataclass(frozen=True)
class Programs:
    """A program is run once for each input, and must print the output."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Calls:
    """A function, or a method of the class `Solution`, is called with each list of arguments."""

    function: str
    calls: tuple[tuple[list, object], ...]  # arguments and result

    def __len__(self) -> int:
        return len(self.calls)


@dataclass(frozen=True)
class Assertions:
    """Pieces of Python source in their order, some of which are tests: they pass unless they raise."""

    pieces: tuple[tuple[str, bool], ...]  # source, and whether it is a test
    names: tuple[str, ...]  # what they take from the code under test, which must define all of it
    has_star: bool = False  # unless some may come from `from ... import *`

    def __len__(self) -> int:
        return sum(is_test for _, is_test in self.pieces)


Tests = Programs | Calls | Assertions


def read_tests(given, entry_point: str | None = None) -> Tests:
    """The tests that a data set's column gives.

    Args:
        given (`str`, `list` or `dict`): one of

            - Python source with top-level `assert`s, with `test_...` functions, or with HumanEval's `check(candidate)`;
              or a list of such texts (MBPP's `test_list`);
            - `{"inputs": [...], "outputs": [...]}`, texts for standard input and output (APPS, TACO), also as a list of
              `{"input": ..., "output": ...}`;
            - the same with `"fn_name"`: each input is a list of arguments, each output the result;

            or the JSON of one of them.
        entry_point (`str`, *optional*): the name of the function that `check` is given.

    Raises:
        `ValueError`: there is no test in it; the message says why.

    Example:
    >>> from rewards.code_tests import read_tests
    >>> len(read_tests("assert add(1, 2) == 3\\nassert add(0, 0) == 0")), read_tests("assert add(1, 2) == 3").names
    (2, ('add',))
    >>> read_tests('{"inputs": ["1 2"], "outputs": ["3"]}')
    Programs(inputs=('1 2',), outputs=('3',))
    """
    try:
        text = given if isinstance(given, str) else json.dumps(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"they are {type(given).__name__}, which is no JSON") from error
    return _read(text, entry_point if isinstance(entry_point, str) else None)


@lru_cache(maxsize=256)  # a batch asks for a row's tests once for each completion
def _read(text: str, entry_point: str | None) -> Tests:
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _from_json(json.loads(text), entry_point)
        except json.JSONDecodeError:
            pass  # Python may begin so, too
        except RecursionError as error:
            raise ValueError("they are nested too deeply") from error
    try:
        return _from_source(text, entry_point)
    except RecursionError as error:
        raise ValueError("they are nested too deeply") from error


def _from_json(given, entry_point: str | None) -> Tests:
    if isinstance(given, list) and given and all(isinstance(item, str) for item in given):
        return _from_source("\n".join(given), entry_point)
    if isinstance(given, list) and given and all(isinstance(item, dict) for item in given):
        function = given[0].get("fn_name")
        if any(item.get("fn_name") != function for item in given):
            raise ValueError("they name several functions")
        if not function and any(item.get("testtype") == "functional" for item in given):
            raise ValueError("functional tests must name their function, as `fn_name`")
        lists = {f"{key}s": [item.get(key) for item in given] for key in ("input", "output")}
        return _from_json({**lists, "fn_name": function}, entry_point)
    if isinstance(given, dict) and isinstance(given.get("test_cases"), list):
        return _from_json(given["test_cases"], entry_point)
    if not isinstance(given, dict):
        raise ValueError("they are neither Python source nor `inputs` and `outputs`")
    inputs, outputs, function = given.get("inputs"), given.get("outputs"), given.get("fn_name")
    if not isinstance(inputs, list) or not isinstance(outputs, list) or not inputs:
        raise ValueError("they need the lists `inputs` and `outputs`")
    if len(inputs) != len(outputs):
        raise ValueError(f"they have {len(inputs)} `inputs` and {len(outputs)} `outputs`")
    if function is not None and function != "":
        if not isinstance(function, str) or not all(isinstance(arguments, list) for arguments in inputs):
            raise ValueError("with `fn_name` each of `inputs` must be a list of arguments")
        return Calls(function, tuple(zip(inputs, outputs, strict=True)))
    texts = [tuple(map(_as_text, side)) for side in (inputs, outputs)]
    if not any(output.strip() for output in texts[1]):
        raise ValueError("all their `outputs` are empty")
    return Programs(*texts)


def _as_text(given) -> str:
    """Standard input or output, which some data sets have as a list of lines."""
    lines = given if isinstance(given, list) else [given]
    if not all(isinstance(line, str) for line in lines):
        raise ValueError("`inputs` and `outputs` must be texts, or `fn_name` must name a function")
    return "\n".join(lines)


def _from_source(source: str, entry_point: str | None) -> Assertions:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"they do not compile ({error})") from error
    names = _imported_from_solution(tree)
    body = [node for node in tree.body if not _imports_solution(node)]
    _refuse_what_is_not_run(body)
    functions = [node for node in body if isinstance(node, ast.FunctionDef)]
    called = {id(node): _called(node) for node in body}
    times_called = Counter(itertools.chain.from_iterable(called.values()))
    testing = {node.name for node in functions if any(isinstance(part, ast.Assert) for part in ast.walk(node))}
    testing |= {node.name for node in functions if not testing.isdisjoint(called[id(node)])}
    pieces: list[tuple[str, bool]] = []
    for node in body:
        calls_a_test = not isinstance(node, _DEFINITIONS) and not testing.isdisjoint(called[id(node)])
        _add(pieces, ast.unparse(node), _asserts(node) or calls_a_test)
    for node in functions:
        if times_called[node.name] == (node.name in called[id(node)]):  # by nobody, but perhaps itself
            required = len(node.args.posonlyargs) + len(node.args.args) - len(node.args.defaults)
            if node.name == "check" and required == 1:
                if entry_point is None or not entry_point.isidentifier() or keyword.iskeyword(entry_point):
                    raise ValueError("`check` is to be given a function, and no column `entry_point` names it")
                _add(pieces, f"check({entry_point})", True)
            elif node.name.startswith("test") and required == 0:
                _add(pieces, f"{node.name}()", True)
    if not any(is_test for _, is_test in pieces):
        raise ValueError("there is no assert, no `check(candidate)` and no `test_...` function in them")
    names |= {entry_point} if entry_point else set()
    taken, modules = _taken(body, names)
    names |= taken
    names = names or _builtin_under_test(body)
    if not names:
        raise ValueError("they call nothing that the code could define")
    imports = [(f"import {name}", False) for name in sorted(modules)]
    has_star = any(alias.name == "*" for node in body if isinstance(node, ast.ImportFrom) for alias in node.names)
    return Assertions((*imports, *pieces), tuple(sorted(names)), has_star)


def _refuse_what_is_not_run(body: list[ast.stmt]) -> None:
    """Tests that would be passed over in silence."""
    for node in body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test"):
            raise ValueError(f"the async test `{node.name}` cannot be run")
        if isinstance(node, ast.ClassDef) and any(getattr(part, "name", "").startswith("test") for part in node.body):
            raise ValueError(f"the tests in the class `{node.name}` cannot be run: they must be functions")


def _add(pieces: list[tuple[str, bool]], source: str, is_test: bool) -> None:
    """Add a piece; what is no test goes to the one before that is none."""
    if pieces and not is_test and not pieces[-1][1]:
        source = f"{pieces.pop()[0]}\n{source}"
    pieces.append((source, is_test))


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


def _asserts(node: ast.AST) -> bool:
    """Whether running this statement asserts something, other than by a call of what it defines."""
    if isinstance(node, _DEFINITIONS):
        return False
    return isinstance(node, ast.Assert) or any(map(_asserts, ast.iter_child_nodes(node)))


def _called(statement: ast.stmt) -> set[str]:
    """The functions that are called by name in this statement, or in the body of this function."""
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return {function.id for function in calls if isinstance(function, ast.Name)}


def _imports_solution(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == _MODULE


def _imported_from_solution(tree: ast.Module) -> set[str]:
    found = [alias for node in tree.body if _imports_solution(node) for alias in node.names]
    for alias in found:
        if alias.name == "*" or alias.asname:
            raise ValueError(f"`from {_MODULE} import {alias.name}` must name what it takes, by its own name")
    return {alias.name for alias in found}


def _taken(body: list[ast.stmt], named: set[str]) -> tuple[set[str], set[str]]:
    """The names that only the code under test can define, and modules of Python that are used without an import.

    Neither is ever one of the tests' own names or a built-in function: what the code makes of these is not asked. Nor
    is what it makes of a package, such as `np`, that the tests do not import.
    """
    nodes = [node for statement in body for node in ast.walk(statement)]
    own = {node.id for node in nodes if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    own |= {node.name for node in nodes if isinstance(node, (*_DEFINITIONS[:3], ast.ExceptHandler))} - {None}
    own |= {node.arg for node in nodes if isinstance(node, ast.arg)}
    aliases = [alias for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names]
    own |= {alias.asname or alias.name.partition(".")[0] for alias in aliases}
    loaded = {node.id for node in nodes if isinstance(node, ast.Name)} - own - set(dir(builtins))
    # `math.isclose` is the module's, `copy(...)` a function that is called so.
    bases = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    alone = {node.id for node in nodes if isinstance(node, ast.Name) and id(node) not in bases}
    loaded = {name for name in loaded if not name.startswith("__")}
    modules = (loaded & sys.stdlib_module_names) - alone - named
    packages = sorted(loaded & _PACKAGES - named)
    if packages:
        raise ValueError(f"they use `{packages[0]}` without an import")
    return loaded - modules, modules


def _builtin_under_test(body: list[ast.stmt]) -> set[str]:
    """The name of the function under test where it is also that of a built-in one: MBPP has a `sum`."""
    for statement in body:
        if _asserts(statement):
            calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
            # the outermost
            return {call.id for call in calls[:1] if isinstance(call, ast.Name) and call.id in dir(builtins)}
    return set()
