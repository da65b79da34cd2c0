r"""Are two polynomials, or quotients of polynomials, the same? Exactly, and a hundred times faster than by algebra.

Two different ones of degree d agree at no more than d points (Schwartz 1980; Zippel 1979). So both are evaluated, in
exact fractions, at one point out of 10**12, which the hash of both texts chooses: nobody can write an answer for it.
"""

import hashlib
import re
from fractions import Fraction

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<frac>\\frac)|(?P<times>\\cdot|\*)|(?P<sign>[+\-/^(){}])"
    r"|(?P<name>(?:[A-Za-z]|\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|pi)(?![A-Za-z]))(?:_\{\w{1,4}\})?))"
)
# What is no polynomial, or can be read in two ways: words, e and i, 3\frac{1}{2}, f(x), 1/2x, and a printed float.
_AMBIGUOUS = re.compile(
    r"(?<![A-Za-z\\])[A-Za-z]{3,}|(?<![A-Za-z\\])[ei](?![A-Za-z])|(?<![A-Za-z\\])(?:[a-zA-Z][ei]|[ei][a-zA-Z])(?![A-Za-z])"
    r"|\d\\frac|\d\s+\d|[fghFGHPQ](?:_\{\w+\})?\(|/[^-+*)}=]*?(?<=[\w)}])(?<!/)(?=[A-Za-z(\\])|'|\)\d|\}\d|\.\d{9}"
)
_LONGEST, _HIGHEST, _MOST_BITS = 300, 50, 20_000  # characters; exponent; bits of a power


class _NoPolynomial(Exception):
    pass


def same_polynomial(one: str, other: str) -> bool | None:
    r"""Whether two expressions in normal form are the same rational function; `None` for what is none.

    Example:
    >>> from rewards.polynomial import same_polynomial
    >>> same_polynomial(r"(x+1)(x-1)", r"x^{2}-1"), same_polynomial("x+1", "x+2"), same_polynomial(r"\sin x", "x")
    (True, False, None)
    """
    if len(one) > _LONGEST or len(other) > _LONGEST or _AMBIGUOUS.search(one) or _AMBIGUOUS.search(other):
        return None
    seed = hashlib.blake2b(f"{one}\n{other}".encode("utf-8", "replace")).digest()
    try:
        return _Reader(one, seed).read() == _Reader(other, seed).read()
    except (_NoPolynomial, ZeroDivisionError):
        return None


class _Reader:
    """Reads an expression from left to right, and gives its value at the point."""

    def __init__(self, text: str, seed: bytes):
        self.seed, self.place, self.tokens = seed, 0, []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _NoPolynomial
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            position = match.end()

    def read(self) -> Fraction:
        value = self.sum()
        if self.place < len(self.tokens):
            raise _NoPolynomial
        return value

    def next(self) -> str:
        return self.tokens[self.place][1] if self.place < len(self.tokens) else ""

    def take(self, *wanted: str) -> bool:
        if self.next() in wanted:
            self.place += 1
            return True
        return False

    def sum(self) -> Fraction:
        negative = self.take("-")
        self.take("+")
        value = -self.product() if negative else self.product()
        while self.next() in ("+", "-"):
            if self.take("+"):
                value += self.product()
            else:
                self.take("-")
                value -= self.product()
        return value

    def product(self) -> Fraction:
        value = self.power()
        while self.place < len(self.tokens) and self.next() not in ("+", "-", ")", "}", "^"):
            if self.take("/"):
                value /= self.power()
            else:
                self.take("\\cdot", "*")
                value *= self.power()
        return value

    def power(self) -> Fraction:
        value = self.atom()
        if not self.take("^"):
            return value
        exponent = self.atom()
        if exponent.denominator != 1 or abs(exponent) > _HIGHEST or self.next() == "^":
            raise _NoPolynomial
        if max(value.numerator.bit_length(), value.denominator.bit_length()) * abs(exponent) > _MOST_BITS:
            raise _NoPolynomial
        return value ** int(exponent)

    def atom(self) -> Fraction:
        if self.place >= len(self.tokens):
            raise _NoPolynomial
        kind, text = self.tokens[self.place]
        self.place += 1
        if kind == "number":
            return Fraction(text)
        if kind == "name":
            return Fraction(int.from_bytes(hashlib.blake2b(text.encode(), key=self.seed).digest()) % 10**12 + 1)
        if kind == "frac":
            return self.group("{", "}") / self.group("{", "}")
        if text in "({":
            self.place -= 1
            return self.group(text, ")" if text == "(" else "}")
        raise _NoPolynomial

    def group(self, opening: str, closing: str) -> Fraction:
        if not self.take(opening):
            raise _NoPolynomial
        value = self.sum()
        if not self.take(closing):
            raise _NoPolynomial
        return value
