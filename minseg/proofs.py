"""Prove or refute that two functions are equal, by running them on formal variables.

`prove(left, right, x=(4, 4), k=(3, 3))` hands both functions arrays of formal variables. Equal
polynomials are a proof for those shapes; unequal ones are the counterexample. Where a function needs
numbers, exact integers take over; no float tolerance decides anything that can be decided exactly.

Source: University of Waterloo, "Transposed vs Fractionally-strided Convolution" (the homework);
Schwartz (1980) for integers in place of variables.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from minseg.formal import Formal, FormalRefusedError, text, variables
from minseg.question import Case, ProofError, by_name
from minseg.verdict import Arrays, Verdict

__all__ = ["ProofError", "Verdict", "prove"]

MOST_VARIABLES = 700  # formal variables; beyond, exact integers are quicker
MOST_BASIS_RUNS = 4000  # runs on one-hot inputs to settle a multilinear claim
TRIALS = 20
LARGEST = 2**20  # random integers: products of two stay exact even in a float's 53 bits
_STRENGTH = ("PROVED", "PROVED GIVEN LINEARITY", "EVIDENCE")  # weaker and weaker


def prove(
    left: Callable,
    right: Callable,
    *,
    over: Sequence[dict[str, Any]] | None = None,
    where: Callable | None = None,
    letters: dict[str, str] | None = None,
    indices: str = "rc",
    least: int = -LARGEST,
    analytic: bool = False,
    **shapes: tuple[int, ...],
) -> Verdict:
    """Is left(...) == right(...) for every input of these shapes?

    shapes: x=(4, 4), k=(3, 3): the arrays both functions receive, by name if their parameters have
        these names, else in this order.
    over: a table, [dict(stride=2, x=(4, 4), k=(3, 3)), ...]; its tuples are shapes (except stride,
        padding and their like), all else is passed on to both functions.
    where: k -> (k, rot180(k)), or several such pairs: entries that are made equal before running.
        The verdict then also says whether the sides are equal only then.
    letters, indices: how entries are named, see formal.variables.
    least: the smallest integer to try where integers must stand in (0: no negative ones).
    analytic: compare float64 numbers to 1e-9; the verdict is then EVIDENCE at best.

    Functions see plain arrays. Returns a Verdict, and prints nothing.

    Raises:
        ProofError: a function fails or returns no array, the sides' shapes differ, floats round.
    """
    if indices not in ("rc", "xy"):
        raise ProofError(f'prove: indices must be "rc" or "xy", got {indices!r}')
    cases = [Case(left, right, shapes, row, where) for row in ([{}] if over is None else over)]
    if not cases:
        raise ProofError("prove: over is an empty table: there is nothing to settle")
    verdicts = []
    for case in sorted(cases, key=lambda case: case.size):
        if analytic:
            verdict = _by_floats(case)
        else:
            try:
                if case.size > MOST_VARIABLES:
                    raise FormalRefusedError(
                        f"{case.size} entries are too many for formal variables"
                    )
                verdict = _by_variables(case, letters, indices)
            except FormalRefusedError as refusal:
                verdict = _by_integers(case, least)
                verdict.note = f"Not by formal variables: {refusal}."
        if not verdict.holds:
            return verdict
        verdicts.append(verdict)
    weakest = max(verdicts, key=lambda v: _STRENGTH.index(v.status))
    only_if = [v.only_if for v in verdicts if v.only_if is not None]
    several = f"in each of {len(cases)} cases; in the largest " if len(cases) > 1 else ""
    how = weakest.how if weakest.status != verdicts[-1].status else verdicts[-1].how
    return Verdict(
        weakest.status,
        [str(case) for case in cases],
        several + how,
        only_if=all(only_if) if only_if else None,
        note=weakest.note,
    )


# By formal variables: equal polynomials are a proof.


def _by_variables(case: Case, letters: dict[str, str] | None, indices: str) -> Verdict:
    unknown = sorted(set(letters or {}) - set(case.shapes))
    if unknown:
        raise ProofError(
            f"prove: letters name {', '.join(unknown)}, but there is no array of that name"
        )
    try:
        free = variables(case.shapes, letters, indices)
    except ValueError as error:
        raise ProofError(str(error).replace("variables:", "prove:", 1)) from None
    entries = np.concatenate([array.ravel() for array in free.values()])
    arrays = case.arrange(entries)
    ring = entries[0].polynomial.ring if len(entries) else None
    left, right = case.run(arrays)
    unequal: list[tuple[int, int, tuple[int, ...], Any]] = []
    compared = 0
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        for place in np.ndindex(a.shape):
            compared += 1
            minus = _polynomial(a[place], ring) - _polynomial(b[place], ring)
            if minus:
                unequal.append((len(minus.terms()), number, place, minus))
    if unequal:
        _, number, place, minus = min(unequal, key=lambda found: found[:3])
        values = _smallest_integers(minus)
        return _refuted(
            case, left, right, number, place, text(Formal(minus)), case.arrange(values),
            [(n, p) for _, n, p, _ in unequal],
        )  # fmt: skip
    numbers = _numbers_disagree(case)
    if numbers is not None:
        return numbers
    only_if = None if case.where is None else _only_if(case, free)
    how = f"all {compared:,} outputs are equal as polynomials in {case.size} variables"
    return Verdict("PROVED", [str(case)], how, only_if=only_if)


def _numbers_disagree(case: Case) -> Verdict | None:
    """A side could do one thing to formal variables and another to numbers: one look at numbers."""
    values = np.random.default_rng([5, 16180]).integers(-9, 10, case.size)
    try:
        verdict = _differs(case, values)
        left, right = case.run(case.arrange(values.astype(float)))
    except ProofError:  # numbers round, or are refused, where formal variables are exact
        return None
    if verdict is not None:
        verdict.note = (
            "On formal variables the sides agree, on integers not: one of them looks at what kind of "
            "number it is given."
        )
        return verdict
    for a, b in zip(left, right, strict=True):
        if not np.allclose(a.astype(float), b.astype(float), 1e-6, 1e-6):
            raise ProofError(
                f"prove: for {case} the sides agree on formal variables but not on floats: one of "
                "them looks at what kind of number it is given"
            )
    return None


def _polynomial(value: Any, ring: Any) -> Any:
    if isinstance(value, Formal):
        return value.polynomial
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer, Fraction)):
        raise FormalRefusedError(f"an output is {type(value).__name__} {value!r}, not exact")
    fraction = Fraction(value) if isinstance(value, Fraction) else Fraction(int(value))
    return ring.ground_new(ring.domain(fraction.numerator, fraction.denominator))


def _smallest_integers(polynomial: Any) -> np.ndarray:
    """Small integers, most of them 0, at which a polynomial is not 0."""
    supports: set[frozenset[int]] = {
        frozenset(n for n, power in enumerate(m) if power) for m, _ in polynomial.terms()
    }
    support = min((sorted(s) for s in supports), key=lambda s: (len(s), s))
    # The terms in these variables alone; a polynomial of degree d has a non-zero among 1..d+1.
    terms = [
        ([m[n] for n in support], coefficient)
        for m, coefficient in polynomial.terms()
        if sum(m) == sum(m[n] for n in support)
    ]
    degree = max(power for powers, _ in terms for power in powers or [0])
    for trial in itertools.product(range(1, degree + 2), repeat=len(support)):
        if sum(
            c * math.prod(v**p for v, p in zip(trial, powers, strict=True)) for powers, c in terms
        ):
            break
    values = np.zeros(polynomial.ring.ngens, np.int64)
    values[support] = trial
    return values


def _only_if(case: Case, free: Arrays) -> bool | None:
    """Without the condition, is left == right only where the condition holds? Linear algebra decides.

    The difference is a sum of monomials in the other arrays, each times a linear form in the entries
    under the condition. All forms vanish exactly where the condition holds if and only if they span
    the same space as the condition's own equations. None where the difference is not of that kind.
    """
    from sympy import QQ
    from sympy.polys.matrices import DomainMatrix

    classes = case.places
    members = [(int(n), leader) for n, leader in enumerate(_flat(classes)) if n != leader]
    bound = sorted({n for pair in members for n in pair})
    if not bound:
        return None
    # Entries in a class of several, and all other entries of the same arrays.
    ring = _flat(free)[0].polynomial.ring
    constrained = {
        n
        for name, numbers in classes.items()
        for n in case.numbers()[name].ravel()
        if set(numbers.ravel()) & set(bound)
    }
    left, right = case.run(free)
    forms: dict[tuple, dict[int, Any]] = {}
    for key, (a, b) in enumerate(zip(left, right, strict=True)):
        for place in np.ndindex(a.shape):
            minus = _polynomial(a[place], ring) - _polynomial(b[place], ring)
            for exponents, coefficient in minus.terms():
                inside = [n for n in constrained if exponents[n]]
                if len(inside) != 1 or exponents[inside[0]] != 1:
                    return None
                others = tuple(0 if n in constrained else e for n, e in enumerate(exponents))
                forms.setdefault((key, place, others), {})[inside[0]] = coefficient
    columns = sorted(constrained)
    zero, one = QQ(0), QQ(1)
    equations = [
        [one if n == member else -one if n == leader else zero for n in columns]
        for member, leader in members
    ]
    unique = {tuple(form.get(n, zero) for n in columns) for form in forms.values()}
    rows = [list(row) for row in unique]

    def rank(matrix: list) -> int:
        if not matrix:
            return 0
        return DomainMatrix(matrix, (len(matrix), len(columns)), QQ).rank()

    return rank(rows) == rank(rows + equations)


def _flat(arrays: Arrays) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays.values()])


# By exact integers, where a function needs numbers.


def _by_integers(case: Case, least: int) -> Verdict:
    rng = np.random.default_rng([2, 71828])
    # From few small numbers, which show signs, zeros and ties, to many large ones.
    for span, density in itertools.product((1, 3, 30, 1000, LARGEST), (0.1, 0.5, 1.0)):
        for _ in range(TRIALS if (span, density) == (LARGEST, 1.0) else 4):
            low = max(least, -span)
            values = rng.integers(low, max(low, span), case.size, endpoint=True)
            values = np.where(rng.random(case.size) < density, values, max(least, 0))
            if (
                verdict := _differs(case, values, large=span > 30, overflow=span > 1000)
            ) is not None:
                return verdict
    if _multilinear(case, rng, least):
        axes = [np.unique(numbers) for numbers in case.places.values()]
        if math.prod(len(axis) for axis in axes) <= MOST_BASIS_RUNS:
            for places in itertools.product(*axes):
                values = np.zeros(case.size, np.int64)
                values[list(places)] = 1
                if (verdict := _differs(case, values)) is not None:
                    return verdict
            return Verdict(
                "PROVED GIVEN LINEARITY", [str(case)],
                "both sides behaved linearly in each argument on random integers, and they agree on "
                "every combination of unit inputs",
            )  # fmt: skip
    degree = 2 * len(case.shapes)
    span = LARGEST - least
    return Verdict(
        "EVIDENCE", [str(case)],
        f"equal on {TRIALS} random integer inputs from {least:,} to {LARGEST:,}; were the sides "
        f"different polynomials of degree {degree} at most, the chance of that would be below "
        f"({degree}/{span:,})^{TRIALS}",
    )  # fmt: skip


def _multilinear(case: Case, rng: np.random.Generator, least: int) -> bool:
    """Do both sides look linear in each argument? f(a + b) == f(a) + f(b), f(3a) == 3 f(a), exactly."""
    if least >= 0:
        return False  # a function that is told its numbers are positive may not be linear elsewhere
    base = rng.integers(-1000, 1000, case.size)
    classes = case.places
    for name, numbers in classes.items():
        own = np.unique(numbers)
        if any(np.isin(own, other).any() for n, other in classes.items() if n != name):
            return False  # `where` ties two arguments together: not linear in either alone
        a, b = base.copy(), base.copy()
        b[own] = rng.integers(-1000, 1000, len(own))
        total, triple = base.copy(), base.copy()
        total[own] = a[own] + b[own]
        triple[own] = 3 * a[own]
        for of_a, of_b, of_sum, of_triple in zip(
            *(_run(case, v)[1:] for v in (a, b, total, triple)), strict=True
        ):
            for fa, fb, fs, ft in zip(of_a, of_b, of_sum, of_triple, strict=True):
                if not (_same(fa + fb, fs) and _same(3 * fa, ft)):
                    return False
    return True


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(a == b))


def _run(case: Case, values: np.ndarray) -> tuple[Arrays, list, list]:
    """Integers as arrays, and both sides on them; as Fractions where an op divides."""
    arrays = case.arrange(values)
    try:
        return arrays, *case.run(arrays)
    except ProofError as error:
        if "raised TypeError" not in str(error):
            raise
        fractions = case.arrange(np.array([Fraction(int(v)) for v in values], object))
        try:
            return fractions, *case.run(fractions)
        except ProofError:
            raise ProofError(
                f"{error}; what takes exp or log is compared in floats by prove(..., analytic=True)"
            ) from None


def _differs(
    case: Case, values: np.ndarray, large: bool = False, overflow: bool = False
) -> Verdict | None:
    """Run both sides on integers: None where they agree, else what tells them apart."""
    arrays, left, right = _run(case, values)
    unequal = []
    for number, (a, b) in enumerate(zip(left, right, strict=True)):
        unequal += [
            (number, tuple(int(n) for n in place))
            for place in np.argwhere(np.asarray(a != b, bool))
        ]
    if not unequal:
        return None
    undefined = [
        (n, p) for n, p in unequal if left[n][p] != left[n][p] and right[n][p] != right[n][p]
    ]
    if undefined:
        raise ProofError(f"prove: for {case} both sides give nan, so nothing can be compared")
    if overflow and all(values.dtype.kind in "iu" for values in left + right):
        # In 64 bits a high power wraps round; Python's own integers do not.
        exact = {name: array.astype(object) for name, array in arrays.items()}
        pairs = zip(*case.run(exact), strict=True)
        if all(_same(a, b) for a, b in pairs):
            return None
    for number, place in unequal:
        a, b = left[number][place], right[number][place]
        if not _rounded(a, b, large):
            minus = _exact(a) - _exact(b)
            return _refuted(case, left, right, number, place, str(minus), arrays, unequal)
    number, place = unequal[0]
    a, b = left[number][place], right[number][place]
    raise ProofError(
        f"prove: for {case} left gives {_plain(a)} and right {_plain(b)} at {list(place)}, which a "
        "float's rounding could explain, and a mistake could too; compute with ints or Fractions "
        "(bilinear_kernel has exact=True) and ask again"
    )


def _rounded(a: Any, b: Any, large: bool) -> bool:
    """Could rounding alone make these two differ? Never where both are ints or Fractions."""
    if not any(isinstance(v, (float, np.floating)) for v in (a, b)):
        return False
    bits = (
        min(2 / np.finfo(v.dtype).eps for v in (a, b) if isinstance(v, np.floating))
        if any(isinstance(v, np.floating) for v in (a, b))
        else 2**53
    )
    a, b = float(a), float(b)
    if not (math.isfinite(a) and math.isfinite(b)):
        return False
    if large:
        return True  # small ones told no difference, and large ones round on the way
    # Integers below 2^53 (2^24) are exact in a float: rounding cannot turn one into another.
    if a.is_integer() and b.is_integer() and max(abs(a), abs(b)) < bits:
        return False
    return abs(a - b) <= 1e-6 * max(1.0, abs(a), abs(b))


def _exact(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return Fraction(float(value)) if math.isfinite(value) else float(value)
    return value if isinstance(value, Fraction) else int(value)


def _refuted(
    case: Case, left: list, right: list, number: int, place: tuple, minus: str, arrays: Arrays,
    unequal: list[tuple[int, tuple]],
) -> Verdict:  # fmt: skip
    """The verdict on sides that differ, its witness checked by running it."""
    several = len(left) > 1
    where = (f"y{number}" if several else "y") + (f"[{','.join(map(str, place))}]" if place else "")
    values = np.zeros(case.size, np.int64)
    for name, numbers in case.places.items():
        values[numbers] = arrays[name].astype(np.int64)
    integers, *sides = _run(case, values)
    ran = [side[number][place] for side in sides]
    if not bool(ran[0] != ran[1]):
        raise ProofError(
            f"prove: for {case} the sides differ on formal variables but not on the integers that "
            "should show it: a side looks at what kind of number it is given"
        )
    given = [f"{name}={value!r}" for name, value in case.arguments.items()]
    calls = [
        ", ".join([*(f"{n}={n}" if _renamed(side, arrays) else n for n in case.shapes), *given])
        for _, side in case.sides
    ]
    index = (f"[{number}]" if several else "") + (
        f"[{', '.join(map(str, place))}]" if place else ""
    )
    run = []
    for name, array in integers.items():
        exact = array.dtype == object
        zeros = f"np.full({array.shape}, Fraction(0))" if exact else f"np.zeros({array.shape}, int)"
        run.append(f"{name} = {zeros}")
        few = np.argwhere(array)
        if len(few) <= 6:
            run += [
                f"{name}[{', '.join(map(str, spot)) or '()'}] = {array[tuple(spot)]!s}"
                for spot in few
            ]
        else:
            run[-1] = f"{name} = np.array({array.astype(int).tolist()})" + " * Fraction(1)" * exact
    run.append(f"left({calls[0]}){index}   # {_plain(ran[0])}")
    run.append(f"right({calls[1]}){index}  # {_plain(ran[1])}")
    map_ = np.zeros(left[number].shape, int)
    for n, spot in unequal:
        if n == number:
            map_[spot] = 1
    difference = {
        "where": where, "left": _plain(left[number][place]), "right": _plain(right[number][place]),
        "minus": minus, "run": run, "map": map_,
    }  # fmt: skip
    count = f"{len(unequal):,} of {sum(side.size for side in left):,} outputs differ"
    return Verdict("REFUTED", [str(case)], count, difference, integers)


def _renamed(function: Callable, arrays: Arrays) -> bool:
    """Does the function take these arrays by name, in another order than theirs?"""
    if not by_name(function, arrays):
        return False
    return list(inspect.signature(function).parameters)[: len(arrays)] != list(arrays)


def _plain(value: Any) -> str:
    return (
        text(value)
        if isinstance(value, Formal)
        else str(value.item() if isinstance(value, np.generic) else value)
    )


# By float64 numbers, for what is no polynomial: softmax, batch normalisation.


def _by_floats(case: Case) -> Verdict:
    rng = np.random.default_rng([3, 14159])
    worst = 0.0
    for _ in range(TRIALS):
        arrays = case.arrange(rng.normal(size=case.size))
        left, right = case.run(arrays)
        for number, (a, b) in enumerate(zip(left, right, strict=True)):
            a, b = np.asarray(a, float), np.asarray(b, float)
            if (np.isnan(a) & np.isnan(b)).any():
                raise ProofError(
                    f"prove: for {case} both sides give nan, so nothing can be compared"
                )
            with np.errstate(invalid="ignore"):
                error = np.abs(a - b) / np.maximum(1, np.maximum(np.abs(a), np.abs(b)))
            error[a == b] = 0
            error = np.where(np.isfinite(error), error, np.inf)
            if not error.size:
                continue
            if error.max() > 1e-9:
                place = tuple(int(n) for n in np.unravel_index(int(error.argmax()), error.shape))
                difference = {
                    "where": f"y{number}{list(place)}" if len(left) > 1 else f"y{list(place)}",
                    "left": str(a[place]), "right": str(b[place]), "minus": str(a[place] - b[place]),
                    "run": [f"{name} = np.array({v.tolist()})" for name, v in arrays.items()],
                    "map": (error > 1e-9).astype(int),
                }  # fmt: skip
                count = f"{int((error > 1e-9).sum()):,} outputs differ by more than 1e-9"
                return Verdict("REFUTED", [str(case)], count, difference, arrays)
            worst = max(worst, float(error.max()))
    return Verdict(
        "EVIDENCE", [str(case)],
        f"equal in float64 on {TRIALS} random inputs, largest relative error {worst:.1e}",
    )  # fmt: skip
