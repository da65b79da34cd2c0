"""The process that runs Math-Verify on what a model wrote. Started by rewards/symbolic.py, killed at each deadline.

One parent imports the algebra and forks a worker for each channel; a worker that dies is forked anew in milliseconds.
"""

import json
import os
import re
import resource
import signal
import socket
import sys
from functools import lru_cache

MEMORY = 2**30  # bytes of address space a worker may take; it needs a tenth of that
RECYCLE = 5000  # checks after which a worker is forked anew, so that no cache grows for ever
_RECYCLED = 3  # the exit code that says so
_WARM_UP = (
    (r"\frac{x^{2}+3x-1}{2\sqrt{5}}", r"\frac{x^{2}-1+3x}{\sqrt{20}}"),
    (r"\sin^{2}x+\cos^{2}x", "1"),
    (r"(3,\frac{\pi}{2})", r"(3,\frac{\pi}{2})"),
    (r"[-2,7]\cup(8,\infty)", r"(8,\infty)\cup[-2,7]"),
    (r"x\leq 2", r"(-\infty,2]"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1&\sqrt{4}\end{pmatrix}"),
    (r"y=-2x+5", r"2x+y-5=0"),
)
_CAPITAL = re.compile(r"\\(Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega)(?![A-Za-z(])")
_SAME, _DIFFERENT = 30, 15  # digits that make two constants the same; that must agree in two equal expressions


def main(channels: list[int]) -> None:
    """Fork a worker for each socket, and one anew for each that dies."""
    # Whatever the caller has set for itself: the alarm must ring, and the end of a worker must be heard of.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _end_with_caller(channels)
    forbid_evaluation()
    for one, other in _WARM_UP:  # before the fork: the grammar's tables and sympy's modules are loaded once, for all
        compare(one, other)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads it from now on

    workers = {_fork(channel, None, channels): channel for channel in channels}
    while True:
        process, status = os.wait()
        if process not in workers:
            _end_with_caller(channels)
            continue
        channel = workers.pop(process)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:  # 0: the other end is closed
            notice = "late" if code == -signal.SIGALRM else None if code == _RECYCLED else "died"
            workers[_fork(channel, notice, channels)] = channel


def _end_with_caller(channels: list[int]) -> None:
    """Kill this process, its workers and what they calculate as soon as the caller has ended, however it ended."""
    if os.fork() == 0:
        try:
            for channel in channels:
                os.close(channel)
            os.read(0, 1)
        finally:
            os.killpg(0, signal.SIGKILL)


def forbid_evaluation() -> None:
    """Replace sympy's `parse_expr`, which runs Python's `eval`, by what the grammar needs of it: numbers."""
    import sympy
    import sympy.physics.units
    from sympy.parsing import sympy_parser

    def number(text: str, *args, **kwargs):
        if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
            raise sympy.SympifyError(text)
        return sympy.Integer(text) if text.isdigit() else sympy.Float(text)

    def refuse(*args, **kwargs):
        raise sympy.SympifyError("nothing is evaluated here")

    number.__name__ = "parse_expr"
    sympy.parse_expr = sympy.parsing.parse_expr = sympy_parser.parse_expr = number
    sympy_parser.eval_expr = refuse  # for who holds the true `parse_expr`


def _fork(channel: int, notice: str | None, channels: list[int]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        for other in channels:
            if other != channel:
                os.close(other)
        code = serve(socket.socket(fileno=channel), notice)
    finally:
        os._exit(code)


def serve(channel: socket.socket, notice: str | None) -> int:
    """Answer one question after the other, and return the exit code; the alarm ends the process at a deadline."""
    sys.setrecursionlimit(3000)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ValueError, OSError):
        pass  # a stricter limit is in force
    try:
        if notice:
            channel.sendall(f"{notice}\n".encode())
        for _ in range(RECYCLE):
            # No more than this question is read: the next one is for the successor, if this one ends the process.
            length = int.from_bytes(channel.recv(4, socket.MSG_WAITALL))
            if not length:
                return 0
            question = json.loads(channel.recv(length, socket.MSG_WAITALL))
            channel.sendall(f"taken {question['number']} {os.getpid()}\n".encode())
            signal.setitimer(signal.ITIMER_REAL, question["alarm"])
            try:
                verdict = answer(question["candidate"], question["gold"])
            except (Exception, RecursionError, MemoryError):
                verdict = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            channel.sendall(json.dumps(verdict).encode() + b"\n")
    except OSError:
        return 0  # the other end is closed
    return _RECYCLED


def answer(candidate: str, gold: str) -> bool | None:
    from rewards.equivalence import judge

    return judge(candidate, gold, compare)


def compare(candidate: str, gold: str, approximately: bool = False) -> bool:
    """Whether two expressions in LaTeX are equal; what cannot be read equals nothing."""
    import sympy
    from math_verify import verify

    right = read(gold)
    left = read(candidate)
    if left is None or right is None:
        return False
    verdict = _as_constants(left, right, candidate, gold, approximately)
    if verdict is not None or approximately:
        return bool(verdict)
    if isinstance(left, sympy.Eq) and isinstance(right, sympy.Eq):
        return _same_equation(left, right)
    finite = [isinstance(side, sympy.FiniteSet | sympy.Tuple) for side in (left, right)]
    if any(finite) and not all(finite):
        return False  # Math-Verify takes {1,2} for the open interval
    return verify(right, left, float_rounding=12, allow_set_relation_comp=True, timeout_seconds=None)


def _same_equation(one, other) -> bool:
    """Whether one equation is the other times a constant: Math-Verify takes all that have no solution for the same."""
    import sympy

    one, other = one.lhs - one.rhs, other.lhs - other.rhs
    if not one.free_symbols or not other.free_symbols or one.free_symbols != other.free_symbols:
        return False
    ratio = sympy.simplify(one / other)
    return bool(
        ratio.is_number and ratio.is_finite and not ratio.is_zero and not ratio.atoms(sympy.core.function.AppliedUndef)
    )


@lru_cache(maxsize=512)
def read(latex: str):
    """The expression of sympy that `latex` is, or `None`. A grammar reads it: nothing is evaluated as code."""
    import sympy
    from latex2sympy2_extended import NormalizationConfig
    from math_verify import LatexExtractionConfig, parse

    # Units are ours to judge: Math-Verify would read 5m as 5.
    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    config = [LatexExtractionConfig(normalization_config=normalization, boxed_match_priority=-1)]
    latex = re.sub(r"(?<=[\d)}])i(?![A-Za-z])", " i", latex)  # 2i is twice the imaginary unit
    latex = latex.replace("\\\\", "\\\\ ")  # a row may begin with a letter
    latex = _CAPITAL.sub(lambda match: f"\\{match[1].lower()}_{{capital}}", latex)  # \Theta would be read as \theta
    found = parse(f"${latex}$", config, fallback_mode="no_fallback", parsing_timeout=None)
    if not found:
        return None
    # 0.1 is a tenth, not the float next to it; i is the imaginary unit.
    exact = {decimal: sympy.Rational(str(decimal)) for decimal in found[0].atoms(sympy.Float)}
    exact |= {symbol: sympy.I for symbol in found[0].free_symbols if symbol.name == "i"}
    return found[0].xreplace(exact) if exact else found[0]


def _as_constants(left, right, candidate: str, gold: str, approximately: bool) -> bool | None:
    """Two scalars by their values: constants are decided, others can be refuted at one point; `None` for undecided."""
    import sympy

    from rewards.numerals import read_number

    if not isinstance(left, sympy.Expr) or not isinstance(right, sympy.Expr):
        return None
    symbols = sorted(left.free_symbols | right.free_symbols, key=str)
    point = {symbol: sympy.Rational(37 + 11 * place, 29 + 2 * place) for place, symbol in enumerate(symbols)}
    values = [sympy.N(side.subs(point).doit(), 2 * _SAME) for side in (left, right)]
    if not all(value.is_number and value.is_finite for value in values):
        return None
    difference, size = abs(values[0] - values[1]), max(abs(value) for value in values)
    if approximately:
        return None if symbols else bool(difference <= sympy.Rational(1, 2 * 10 ** read_number(gold).decimals))
    decimals = [number for text in (candidate, gold) if (number := read_number(text)) and number.digits >= 12]
    if decimals and not symbols:
        return bool(difference * 10 ** decimals[0].decimals < 1)
    if difference > size * sympy.Float(10) ** -_DIFFERENT:
        return False
    return True if not symbols and difference <= size * sympy.Float(10) ** -_SAME else None
