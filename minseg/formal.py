"""Formal variables: numbers without a value, so that running the code writes down its formula.

An array of formal variables goes through the very functions that train the networks, and what comes
out is a polynomial for each output pixel. Two functions whose polynomials are equal are equal on
every input of that shape: a proof, where random floats are only a sample.

Source: Schwartz (1980) on testing polynomial identities; the polynomials are SymPy's, over the rational
numbers.
"""

import itertools
from fractions import Fraction
from typing import Any, NoReturn

import numpy as np


class FormalRefusedError(TypeError):
    """Something was asked of a formal variable that only a number can answer."""


class Formal:
    """A polynomial in formal variables, with exact rational coefficients.

    It adds, subtracts, multiplies, and divides by a number. It meets ints, Fractions and its own
    kind only: a float rounds, and an equation between rounded numbers proves nothing. Whatever needs
    a value (an order, a truth, an exp, a division by a variable) is refused with a sentence.
    """

    __slots__ = ("polynomial",)

    def __init__(self, polynomial: Any) -> None:
        self.polynomial = polynomial

    def _exact(self, other: Any) -> Any:
        """`other` as something SymPy adds and multiplies exactly; None where NumPy must decide."""
        if isinstance(other, Formal):
            if other.polynomial.ring is not self.polynomial.ring:
                raise FormalRefusedError("formal variables of two different proofs met")
            return other.polynomial
        if isinstance(other, np.ndarray):
            return None
        if isinstance(other, (int, np.integer)) and not isinstance(other, bool):
            return self.polynomial.ring.domain(int(other))
        if isinstance(other, Fraction):
            return self.polynomial.ring.domain(other.numerator, other.denominator)
        if isinstance(other, (float, np.floating)):
            raise FormalRefusedError(
                f"a float ({other!r}) met a formal variable: floats round, so nothing exact follows; "
                "write an int or a Fraction, such as Fraction(1, 4) for 0.25"
            )
        raise FormalRefusedError(
            f"a {type(other).__name__} met a formal variable; ints and Fractions may"
        )

    def __add__(self, other: Any) -> Any:
        value = self._exact(other)
        return NotImplemented if value is None else Formal(self.polynomial + value)

    def __sub__(self, other: Any) -> Any:
        value = self._exact(other)
        return NotImplemented if value is None else Formal(self.polynomial - value)

    def __rsub__(self, other: Any) -> Any:
        value = self._exact(other)
        return NotImplemented if value is None else Formal(value - self.polynomial)

    def __mul__(self, other: Any) -> Any:
        value = self._exact(other)
        return NotImplemented if value is None else Formal(self.polynomial * value)

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Any:
        value = self._exact(other)
        if value is None:
            return NotImplemented
        if isinstance(other, Formal):
            raise FormalRefusedError("division by a formal variable: its value could be 0")
        return Formal(self.polynomial * (1 / value))  # over the rationals: nothing is cut off

    def __neg__(self) -> "Formal":
        return Formal(-self.polynomial)

    def __pos__(self) -> "Formal":
        return self

    def __pow__(self, exponent: Any) -> "Formal":
        if not isinstance(exponent, (int, np.integer)) or exponent < 0:
            raise FormalRefusedError(
                f"a formal variable to the power {exponent!r}; only 0, 1, 2, ... keep it a polynomial"
            )
        if exponent == 0:
            return Formal(self.polynomial.ring.one)  # 0**0 as well, as for numbers
        return Formal(self.polynomial ** int(exponent))

    def __repr__(self) -> str:
        return text(self)


def _refuse(*names: str, because: str) -> None:
    def refuse(self: Formal, *_: Any) -> NoReturn:
        raise FormalRefusedError(because)

    for name in names:
        setattr(Formal, name, refuse)


_refuse(
    "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__bool__", "__abs__",
    because="a formal variable has no value, so it is neither larger nor smaller nor equal: max, relu, "
    "abs and if need numbers; prove() then tries integers",
)  # fmt: skip
_refuse(
    "exp", "log", "sqrt", "tanh", "sin", "cos", "conjugate", "rint",
    because="exp, log and their like are no polynomials, so formal variables cannot pass; "
    "prove(..., analytic=True) compares numbers instead",
)  # fmt: skip
_refuse(
    "__float__", "__int__", "__index__", "__complex__", "__round__", "__floor__", "__trunc__",
    because="a formal variable cannot be stored as a number: np.zeros((h, w)) makes floats, "
    "np.zeros(shape, X.dtype) an array of X's own kind",
)  # fmt: skip
_refuse(
    "__rtruediv__", "__floordiv__", "__rfloordiv__", "__mod__", "__rmod__", "__divmod__", "__rpow__",
    because="a formal variable can be divided by a number with /, and nothing else: // and % cut off, "
    "and 1/x may not exist",
)  # fmt: skip
Formal.__hash__ = None  # type: ignore[assignment]


def variables(
    shapes: dict[str, tuple[int, ...]], letters: dict[str, str] | None = None, indices: str = "rc"
) -> dict[str, np.ndarray]:
    """One array of formal variables for each name: {"x": (4, 4)} -> x00, x01, ... x33.

    Leading axes of size 1 do not show in the names. letters names an array's entries itself, as
    slides do: {"x": "abcd"}. indices "xy" counts the last two axes from the centre, column first, as
    slides write k_{1,1}; "rc" is NumPy's row, column.
    """
    from sympy import QQ, Symbol
    from sympy.polys.rings import ring

    names = {
        name: _names(name, shape, (letters or {}).get(name), indices)
        for name, shape in shapes.items()
    }
    together = list(itertools.chain.from_iterable(names.values()))
    if len(set(together)) < len(together):
        raise ValueError(f"variables: two entries would share a name in {', '.join(shapes)}")
    symbols = [Symbol(name) for name in together]  # as they are: SymPy would parse strings
    generators = iter(ring(symbols, QQ)[1:] if symbols else ())
    arrays = {}
    for name, shape in shapes.items():
        array = np.empty(len(names[name]), object)
        for n in range(len(array)):
            array[n] = Formal(next(generators))
        arrays[name] = array.reshape(shape)
    return arrays


def _names(name: str, shape: tuple[int, ...], letters: str | None, indices: str) -> list[str]:
    places = list(np.ndindex(shape))
    if letters is not None:
        if len(letters) != len(places):
            raise ValueError(
                f"variables: letters for {name} must name {len(places)} entries, got {letters!r}"
            )
        return list(letters)
    hidden = next((axis for axis, n in enumerate(shape) if n > 1), len(shape))
    if indices == "xy" and len(shape) >= 2:
        H, W = shape[-2:]
        ahead = ["".join(map(str, place[hidden:-2])) for place in places]
        return [
            f"{name}{before}_{{{column - W // 2},{row - H // 2}}}"
            for before, (*_, row, column) in zip(ahead, places, strict=True)
        ]
    between = "_" if max(shape, default=0) > 10 else ""
    return [name + between.join(map(str, place[hidden:])) for place in places]


def text(value: Any) -> str:
    """A formula as a line of text: a*k22 + b*k20."""
    if not isinstance(value, Formal):
        return str(value)
    names = [str(symbol) for symbol in value.polynomial.ring.symbols]
    terms = []
    for exponents, coefficient in value.polynomial.terms():
        powers = sorted((names[n], power) for n, power in enumerate(exponents) if power)
        factors = [name if power == 1 else f"{name}**{power}" for name, power in powers]
        number = Fraction(int(coefficient.numerator), int(coefficient.denominator))
        if abs(number) != 1 or not factors:
            factors.insert(0, str(abs(number)))
        terms.append(("- " if number < 0 else "+ ") + "*".join(factors))
    line = " ".join(terms) or "0"
    return line[2:] if line.startswith("+ ") else line.replace("- ", "-", 1) if terms else line
