"""What runs inside the sandbox: the limits, then a program, a module whose functions are called, or the tests of one.

    program   MEMORY SECONDS LENGTH     stdin: LENGTH bytes of source, then the program's own input
    compile   MEMORY SECONDS            stdin: source; the exit code is 0 where it compiles
    functions MEMORY SECONDS            stdin: source and requests; stdout: replies
    tests     MEMORY SECONDS            stdin: a job and replies; stdout: requests and a verdict
    command   MEMORY SECONDS ARGUMENTS  any other program under the same limits

Tests and code under test are two processes in two sandboxes. Between them pass the calls that the tests make, and plain
values: the code never sees a test, and whatever it patches, prints or kills is on its own side. What is no plain value
stays where it is, and the other side has a `Remote` for it, which asks it for values and never whether it is equal.

It is sent to a new Python for each completion (rewards/code_execution.py), so it imports next to nothing.
"""

import os
import sys

LARGEST = 64 * 2**20  # bytes of one message
FILE = 16 * 2**20  # bytes of one file
STARTED = b"+"  # written to stdout before anything else


# Plain values as bytes. Nothing that is read can become anything else than a plain value or a `Remote`.


class NotPlain(TypeError):
    """A value that cannot pass: an object, and nobody to keep it for the other side."""


def encode(value, keep=None) -> bytes:
    """None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset and dict, of any depth, as bytes.

    Args:
        keep (`callable`, *optional*): takes any other object and returns the number by which the other side knows it.

    Raises:
        `NotPlain`: there is another object, and no `keep`.
    """
    out: list[bytes] = []
    _write(value, out, keep)
    return b"".join(out)


def _write(value, out: list[bytes], keep) -> None:
    if value is None or value is True or value is False:
        out.append({None: b"N", True: b"T", False: b"F"}[value])
    elif isinstance(value, int):
        _sized(b"I", b"%x" % value, out)
    elif isinstance(value, float):
        _sized(b"D", float.__repr__(value).encode(), out)
    elif isinstance(value, complex):
        out.append(b"C")
        _write(value.real, out, keep)
        _write(value.imag, out, keep)
    elif isinstance(value, str):
        _sized(b"S", str.encode(value, "utf-8", "surrogatepass"), out)
    elif isinstance(value, bytes | bytearray):
        _sized(b"B", bytes(value), out)
    elif isinstance(value, list | tuple | set | frozenset):
        tag = b"L" if isinstance(value, list) else b"U" if isinstance(value, tuple) else None
        out.append((tag or (b"E" if isinstance(value, set) else b"Z")) + b"%d:" % len(value))
        for item in value:
            _write(item, out, keep)
    elif isinstance(value, dict):
        out.append(b"M%d:" % len(value))
        for pair in dict.items(value):
            _write(pair[0], out, keep)
            _write(pair[1], out, keep)
    elif keep is not None:
        out.append(b"H%d:" % keep(value))
    else:
        raise NotPlain(f"{type(value).__name__} is no plain value")


def _sized(tag: bytes, content: bytes, out: list[bytes]) -> None:
    out.append(tag + b"%d:" % len(content))
    out.append(content)


def decode(data: bytes, kept=None):
    """The value that `encode` made `data` of.

    Args:
        kept (`callable`, *optional*): takes the number of an object of the other side and returns what stands for it.

    Raises:
        `ValueError`, `TypeError`, `RecursionError`: `data` is anything else.
    """
    value, end = _read(data, 0, kept)
    if end != len(data):
        raise ValueError("more than one value")
    return value


def _read(data: bytes, at: int, kept):
    tag, at = data[at : at + 1], at + 1
    if tag in (b"N", b"T", b"F"):
        return {b"N": None, b"T": True, b"F": False}[tag], at
    if tag == b"C":
        real, at = _read(data, at, kept)
        imaginary, at = _read(data, at, kept)
        if type(real) is not float or type(imaginary) is not float:
            raise ValueError("a complex number of no floats")
        return complex(real, imaginary), at
    colon = data.index(b":", at, at + 20)
    size, at = int(data[at:colon]), colon + 1
    if tag == b"H" and kept is not None:
        return kept(size), at
    if not 0 <= size <= len(data):
        raise ValueError("a size beyond the message")
    if tag in (b"I", b"D", b"S", b"B"):
        content, at = data[at : at + size], at + size
        if len(content) < size:
            raise ValueError("cut off")
        if tag == b"I":
            return int(content, 16), at
        if tag == b"D":
            return float(content), at
        return (content.decode("utf-8", "surrogatepass") if tag == b"S" else content), at
    if tag in (b"L", b"U", b"E", b"Z", b"M"):
        items = []
        for _ in range(2 * size if tag == b"M" else size):
            item, at = _read(data, at, kept)
            items.append(item)
        if tag == b"M":
            return dict(zip(items[::2], items[1::2], strict=True)), at
        return {b"L": list, b"U": tuple, b"E": set, b"Z": frozenset}[tag](items), at
    raise ValueError(f"unknown tag {tag!r}")


class Channel:
    """Messages over two files of bytes, each with its length in front."""

    def __init__(self, reading, writing):
        self.reading, self.writing = reading, writing
        self.is_gone = False  # the code under test

    def receive(self) -> bytes:
        """The next message; raises `EOFError` where there is none, or a longer one than may be."""
        size = self.reading.read(8)
        length = int.from_bytes(size)
        message = self.reading.read(length) if len(size) == 8 and length <= LARGEST else b""
        if len(size) < 8 or len(message) < length:
            raise EOFError("the other side is gone")
        return message

    def send(self, message: bytes) -> None:
        self.writing.write(len(message).to_bytes(8) + message)
        self.writing.flush()


# The code under test.


def run_program(source: bytes) -> None:
    """Run `source` as the program that was started, with the rest of stdin as its input."""
    module = type(sys)("__main__")
    sys.modules["__main__"], sys.argv = module, ["main.py"]
    exec(compile(source, "main.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102


def serve(channel: Channel) -> None:
    """Run the source that is the first message as a module, and do what the following ones ask of it."""
    module = type(sys)("solution")
    sys.modules["solution"], sys.argv = module, ["solution.py"]
    kept: list = []  # objects that the other side knows by their place here
    broken = None

    def keep(thing) -> int:
        kept.append(thing)
        return len(kept) - 1

    try:
        source = channel.receive()
        if b"class Solution" in source:  # LeetCode has the names of typing at hand, so nobody imports them
            exec("from typing import *", module.__dict__)  # noqa: S102
        exec(compile(source, "solution.py", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except BaseException as error:  # a module that exits has not been loaded either
        broken = error
    while True:
        request = channel.receive()
        try:
            if broken is not None:
                raise broken
            reply = encode(("returned", *_fulfil(decode(request, kept.__getitem__), module, kept)), keep)
        except BaseException as error:
            kinds = [kind.__name__ for kind in type(error).__mro__]
            try:
                reply = encode(("raised", kinds, error.args))
            except NotPlain:
                reply = encode(("raised", kinds, (str(error)[:200],)))
        channel.send(reply)


def _fulfil(request, module, kept: list) -> tuple:
    """What is asked for, and the arguments as a call has left them: it may have sorted a list in place."""
    kind, *what = request
    if kind == "names":
        return {name: vars(module)[name] for name in what[0] if name in vars(module)}, None
    number, attribute, args, kwargs = what
    if kind == "set":
        return setattr(kept[number], attribute, *args), None
    if kind == "slice":
        return kept[number][slice(*args)], None
    target = kept[number] if attribute is None else getattr(kept[number], attribute)
    if kind == "get":
        return target, None
    given = {**dict(enumerate(args)), **kwargs}
    before = {place: encode(arg, id) for place, arg in given.items()}
    result = target(*args, **kwargs)
    return result, {place: arg for place, arg in given.items() if encode(arg, id) != before[place]}


# The tests.


class Gone(BaseException):
    """The code under test has ended, or answers nonsense. A test that catches even that has failed all the same."""


class Remote:
    """A function or object of the code under test.

    It is called, asked for attributes, items, a length, a text, and iterated. It is equal to nothing but itself: an
    object that says it equals everything gets no chance to.
    """

    def __init__(self, ask, number: int):
        self.__dict__.update(_ask=ask, _number=number)

    def __call__(self, *args, **kwargs):
        return self._ask("call", self._number, None, args, kwargs)

    def __getattr__(self, name: str):
        return self._ask("get", self._number, name, (), {})

    def __setattr__(self, name: str, value):
        self._ask("set", self._number, name, (value,), {})

    def _special(self, name: str, *args):
        try:
            return self._ask("call", self._number, name, args, {})
        except AttributeError as error:  # what Python expects where an object lacks a special method
            raise TypeError(str(error)) from error

    def __iter__(self):
        return self._special("__iter__")

    def __next__(self):
        return self._special("__next__")

    def __len__(self):
        return self._special("__len__")

    def __bool__(self):
        try:
            return len(self) > 0
        except TypeError:
            return True

    def __getitem__(self, key):
        if type(key) is slice:
            return self._ask("slice", self._number, None, (key.start, key.stop, key.step), {})
        return self._special("__getitem__", key)

    def __setitem__(self, key, value):
        return self._special("__setitem__", key, value)

    def __str__(self):
        return self._special("__str__")

    def __repr__(self):
        return self._special("__repr__")


class Raised(Exception):
    """An exception of the code under test that no built-in class names."""


def ask_over(channel: Channel):
    """The function by which the tests ask the code under test for something."""
    named: set[int] = set()  # the objects that the tests know by name

    def ask(kind: str, *what):
        try:
            request = encode((kind, *what), _number_of)
        except NotPlain as error:
            if kind == "names" or what[0] in named:
                raise
            raise TypeError(str(error)) from error  # to an object that the code has returned in place of a value
        channel.send(b"?" + request)
        try:
            outcome, first, second = decode(channel.receive(), lambda number: Remote(ask, number))
            if outcome == "raised":
                error = _exception([str(name) for name in first], tuple(second))
            else:
                changed = dict(second or {})
        except (EOFError, ValueError, TypeError, RecursionError, MemoryError) as error:
            channel.is_gone = True
            raise Gone from error
        if outcome == "raised":
            channel.is_gone |= isinstance(error, Gone)
            raise error
        if kind == "names":
            named.update(value._number for value in first.values() if type(value) is Remote)
        for place, arg in changed.items():
            _become(what[2 if isinstance(place, int) else 3][place], arg)
        return first

    return ask


def _number_of(thing) -> int:
    """A `Remote` goes back as what it stands for; any other object cannot pass."""
    if type(thing) is Remote:
        return thing._number
    raise NotPlain(f"{type(thing).__name__} is no plain value")


def _become(mine, theirs) -> None:
    if type(mine) is list and type(theirs) is list:
        mine[:] = theirs
    elif type(mine) in (dict, set) and type(theirs) is type(mine):
        mine.clear()
        mine.update(theirs)


def _exception(names: list, args: tuple) -> BaseException:
    """The built-in exception nearest to what the code under test has raised."""
    import builtins

    for name in names:
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            try:
                error = kind(*args)
            except TypeError:  # it takes others
                continue
            error.is_remote = True
            return error
    return Raised(*args) if "Exception" in names else Gone(*args)


def run_tests(channel: Channel) -> None:
    """Run the job that is the first message, say of each test whether it passed, and at the end what is to be said.

    A job is a dict: `pieces`, pairs of source and whether that is a test, in order; or `function` and `calls`, pairs of
    arguments and result; `names` that are taken from the code under test, and `needs_all`, whether it must define each;
    `tolerance`; `all`, to stop at the first test that fails.
    """
    job = decode(channel.receive())
    ask = ask_over(channel)
    usable, said = True, ""
    try:
        found = ask("names", job["names"])
        found = {name: found[name] for name in job["names"] if name in found}  # and no other: not `abs`
        for outcome in _calls(job, found) if job["function"] else _pieces(job, found):
            if channel.is_gone:
                raise Gone
            channel.send(b"=1" if outcome is None else b"=0")
            said = said or outcome or ""
            if outcome is not None and job["all"]:
                break
    except BaseException as error:
        if isinstance(error, NotPlain | ImportError) and not hasattr(error, "is_remote"):  # the tests are at fault
            usable, said = False, f"{type(error).__name__}: {error}"
        else:
            said = said or ("the code has ended" if isinstance(error, Gone) else f"raised {type(error).__name__}")
    channel.send(b"!" + encode((usable, said)))


def _pieces(job: dict, found: dict):
    """Run the pieces of source one after the other; for each that is a test, None or what went wrong."""
    missing = [name for name in job["names"] if name not in found]
    if missing and job["needs_all"]:  # else a test that asks for an exception would take a NameError for it
        raise NameError(missing[0])
    namespace = dict(found)
    for source, is_test in job["pieces"]:
        namespace["__name__"] = "__main__" if is_test else "tests"  # a test may stand below a guard
        try:
            exec(compile(source, "tests.py", "exec", dont_inherit=True), namespace)  # noqa: S102
        except Exception as error:
            if not is_test or (isinstance(error, NotPlain | ImportError) and not hasattr(error, "is_remote")):
                raise
            yield "a wrong result" if isinstance(error, AssertionError) else f"raised {type(error).__name__}"
        else:
            if is_test:
                yield None


def _calls(job: dict, found: dict):
    """Call the function for each pair of arguments and result; for each None or what went wrong."""
    function = found.get(job["function"])
    if function is None and "Solution" in found:
        function = getattr(found["Solution"](), job["function"])
    # APPS has each result in a list of its own.
    wrapped = all(isinstance(expected, list) and len(expected) == 1 for _, expected in job["calls"])
    for args, expected in job["calls"]:
        try:
            result = function(*args)
            right = same(result, expected, job["tolerance"])
            right = right or (wrapped and same(result, expected[0], job["tolerance"]))
            yield None if right else "a wrong result"
        except NotPlain:
            raise
        except Exception as error:
            yield f"raised {type(error).__name__}"


def same(result, expected, tolerance: float | None) -> bool:
    """Whether a result is the expected one; tuples and iterators count as lists, for JSON has nothing else."""
    if isinstance(expected, list | tuple):
        if isinstance(result, Remote):
            result = [item for item, _ in zip(result, range(len(expected) + 1), strict=False)]
        if not isinstance(result, list | tuple) or len(result) != len(expected):
            return False
        return all(same(one, other, tolerance) for one, other in zip(result, expected, strict=True))
    if isinstance(expected, dict) and isinstance(result, dict):
        if result.keys() != expected.keys():
            result = {str(key): value for key, value in result.items()}
        return result.keys() == expected.keys() and all(same(result[key], expected[key], tolerance) for key in result)
    if tolerance is not None and {float} <= {type(result), type(expected)} <= {int, float}:
        is_finite = expected - expected == 0
        return result == expected or (is_finite and abs(result - expected) <= tolerance * max(1.0, abs(expected)))
    return result == expected


# The process.


def limit(memory: int, seconds: int, processes: bool) -> None:
    """Bound this process: bytes of memory, seconds of CPU time, the size of a file, open files, no core dump."""
    import resource

    bounds = {"RLIMIT_CPU": seconds, "RLIMIT_FSIZE": FILE, "RLIMIT_NOFILE": 64, "RLIMIT_CORE": 0}
    bounds["RLIMIT_SIGPENDING"] = 64  # timers count, too
    if memory:
        bounds["RLIMIT_AS"] = memory
    if not processes:
        bounds["RLIMIT_NPROC"] = 64  # threads count, too
    for name, bound in bounds.items():
        try:
            resource.setrlimit(getattr(resource, name), (bound, bound))
        except (ValueError, OSError, AttributeError):
            pass  # a stricter limit is in force, or this system has none of the name


def channel_of_its_own() -> Channel:
    """A channel over stdin and stdout, in whose place there is nothing from now on."""
    channel = Channel(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return channel


def main() -> None:
    role, memory, seconds, *rest = sys.argv[1:]
    limit(int(memory), int(seconds), processes=role == "command")
    os.write(1, STARTED)
    if role == "command":
        os.execvp(rest[0], rest)
    import builtins

    builtins.exit = builtins.quit = sys.exit  # which the module `site` adds, that is not loaded
    if role == "program":
        source, missing = b"", int(rest[0])
        while missing:
            part = os.read(0, missing)
            source, missing = source + part, missing - len(part)
            if not part:
                return
        run_program(source)
    elif role == "compile":
        compile(sys.stdin.buffer.read(), "main.py", "exec", dont_inherit=True)
    elif role == "functions":
        serve(channel_of_its_own())
    else:
        run_tests(channel_of_its_own())


if __name__ == "__main__":
    main()
