"""Formal variables: their arithmetic, what they refuse and say, and every linear op run on them.

An op's value is held to the slides' loop as a polynomial; its gradients are held to the partial
derivatives of <dy, the loop's polynomial>. No number is drawn: what passes here holds for all.
"""

import itertools
import math
import operator
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import minseg.functional as F
from minseg import Tensor, loops
from minseg.formal import Formal, FormalRefusedError, text, variables

NO_ORDER = "neither larger nor smaller"
NO_POLYNOMIAL = "exp, log and their like are no polynomials"
NO_NUMBER = r"np\.zeros\(shape, X\.dtype\)"
ONLY_BY_NUMBERS = "divided by a number with /, and nothing else"
NO_FLOAT = "write an int or a Fraction"


def formal(*shape, name="x"):
    return variables({name: shape})[name]


def written(array):
    """An array of formulas as the text of each, in nested lists."""
    return np.vectorize(text, otypes=[object])(array).tolist()


def zero(value):
    """Is this formula, or number, 0?"""
    return not value.polynomial if isinstance(value, Formal) else value == 0


def same(actual, expected):
    """Arrays equal in shape and, place by place, as polynomials; at least one formula among them."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert any(isinstance(value, Formal) for value in expected.flat)
    wrong = [
        (place, actual[place], expected[place])
        for place in np.ndindex(expected.shape)
        if not zero(actual[place] - expected[place])
    ]
    assert not wrong


# Arithmetic


A, B = formal(2, name="x")


@pytest.mark.parametrize(
    ("value", "formula"),
    [
        (A + B, "x0 + x1"),
        (A - B, "x0 - x1"),
        (B - A, "-x0 + x1"),
        (A + 1, "x0 + 1"),
        (1 + A, "x0 + 1"),
        (1 - A, "-x0 + 1"),
        (A - 1, "x0 - 1"),
        (3 * A, "3*x0"),
        (A * 3, "3*x0"),
        (A * B, "x0*x1"),
        (A * A, "x0**2"),
        (-A, "-x0"),
        (+A, "x0"),
        (A**0, "1"),
        (A**1, "x0"),
        ((A + B) ** 2, "x0**2 + 2*x0*x1 + x1**2"),
        (A ** np.int64(3), "x0**3"),
        (A / 4, "1/4*x0"),
        (A / np.int64(-3), "-1/3*x0"),
        (A / Fraction(2, 3), "3/2*x0"),
        (Fraction(1, 2) + A, "x0 + 1/2"),
        (Fraction(1, 2) - A, "-x0 + 1/2"),
        (A - Fraction(1, 2), "x0 - 1/2"),
        (Fraction(2, 3) * A, "2/3*x0"),
        (A * np.int32(-1), "-x0"),
        (np.uint8(200) * A, "200*x0"),
        (np.int64(2) - A, "-x0 + 2"),
        (A - A, "0"),
        (0 * A, "0"),
        (A + 0, "x0"),
        ((A + B) * (A - B) - A * A + B * B, "0"),
        (sum([A, B, A]), "2*x0 + x1"),
        (A * 2**70, "1180591620717411303424*x0"),
        (A + Fraction(1, 2**52), "x0 + 1/4503599627370496"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_arithmetic_with_ints_fractions_and_its_own_kind_is_exact(value, formula):
    assert isinstance(value, Formal)
    assert repr(value) == text(value) == formula


def test_dividing_loses_nothing():
    thirds = A / 3
    assert zero(thirds + thirds + thirds - A)
    assert zero((A + B) / 2 * 2 - A - B)  # over the integers this half would be 0
    assert not zero(A / 10**30)


def test_arithmetic_makes_new_formulas_and_leaves_the_old_ones():
    x = formal(2, 2)
    total = x[0, 0]
    total += x[1, 1]
    total *= 2
    assert text(total) == "2*x00 + 2*x11"
    assert written(x) == [["x00", "x01"], ["x10", "x11"]]


def test_arithmetic_works_through_arrays_of_ints_and_fractions():
    x = formal(2)
    assert written(x + np.array([1, -2])) == ["x0 + 1", "x1 - 2"]
    assert written(np.array([1, -2]) - x) == ["-x0 + 1", "-x1 - 2"]
    assert written(x * np.array([Fraction(1, 2), 3], object)) == ["1/2*x0", "3*x1"]
    assert written(x[0] * np.arange(3)) == ["0", "x0", "2*x0"]
    assert written(np.arange(3)[::-1] * x[0]) == ["2*x0", "x0", "0"]
    assert written(x / 2) == ["1/2*x0", "1/2*x1"]


@pytest.mark.parametrize(
    ("function", "formulas"),
    [
        (np.sum, "x00 + x01 + x10 + x11"),
        (np.mean, "1/4*x00 + 1/4*x01 + 1/4*x10 + 1/4*x11"),
        (np.trace, "x00 + x11"),
        (np.prod, "x00*x01*x10*x11"),
        (lambda x: np.square(x)[0], ["x00**2", "x01**2"]),
        (lambda x: np.cumsum(x[0]), ["x00", "x00 + x01"]),
        (lambda x: np.diff(x[0]), ["-x00 + x01"]),
        (lambda x: np.convolve(x[0], x[1]), ["x00*x10", "x00*x11 + x01*x10", "x01*x11"]),
        (lambda x: np.einsum("ij,ij->", x, x), "x00**2 + x01**2 + x10**2 + x11**2"),
        (lambda x: np.tensordot(x, x), "x00**2 + x01**2 + x10**2 + x11**2"),
        (lambda x: (x @ x)[0], ["x00**2 + x01*x10", "x00*x01 + x01*x11"]),
        (lambda x: np.pad(x, 1)[1], ["0", "x00", "x01", "0"]),
        (lambda x: np.kron(x[0], [1, 1]), ["x00", "x00", "x01", "x01"]),
        (lambda x: np.roll(x, 1), [["x11", "x00"], ["x01", "x10"]]),
    ],
)
def test_numpy_computes_with_them(function, formulas):
    assert written(function(formal(2, 2))) == formulas


# Refusals


def refused(sentence):
    return pytest.raises(FormalRefusedError, match=sentence)


FLOATS = [0.5, 0.0, 1.0, math.inf, math.nan, np.float64(0.5), np.float32(0.5), np.float16(2)]


@pytest.mark.parametrize("number", FLOATS, ids=repr)
@pytest.mark.parametrize(
    "operation",
    [operator.add, operator.sub, operator.mul, operator.truediv],
    ids=lambda f: f.__name__,
)
def test_a_float_is_refused_on_either_side_even_if_it_is_whole(operation, number):
    with refused(NO_FLOAT):
        operation(A, number)
    with refused(ONLY_BY_NUMBERS if operation is operator.truediv else NO_FLOAT):
        operation(number, A)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_an_array_of_floats_is_refused(kind):
    for meet in (lambda x, y: x + y, lambda x, y: y * x, lambda x, y: x @ y, lambda x, y: y - x):
        with refused(NO_FLOAT):
            meet(formal(2, 2), np.ones((2, 2), kind))


@pytest.mark.parametrize(
    "other", [True, np.True_, np.False_, 1j, "1", None, [1], Decimal(1)], ids=lambda v: repr(v)
)
def test_bools_and_what_is_no_exact_number_are_refused_by_name(other):
    for operation in (operator.add, operator.sub, operator.mul, operator.truediv):
        with refused(f"a {type(other).__name__} met a formal variable"):
            operation(A, other)


def test_an_array_of_bools_is_refused():
    with refused("a bool met a formal variable"):
        formal(2) * np.array([True, False])


@pytest.mark.parametrize(
    "compare", [operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne],
    ids=lambda f: f.__name__,
)  # fmt: skip
@pytest.mark.parametrize("other", [A, B, 0, 0.5, "x0"], ids=str)
def test_order_and_equality_are_refused_even_with_itself(compare, other):
    with refused(NO_ORDER):
        compare(A, other)
    with refused(NO_ORDER):
        compare(other, A)


@pytest.mark.parametrize(
    "asking",
    [
        bool, operator.not_, abs, np.abs, np.sign, np.max, np.min, np.argmax, np.sort, np.any, np.all,
        np.nonzero, np.unique, np.count_nonzero, np.nansum,
        lambda x: x == x, lambda x: x[x > 0], lambda x: np.where(x, 1, 0), lambda x: np.clip(x, 0, 1),
        lambda x: np.maximum(x, 0), lambda x: np.array_equal(x, x[::-1]), lambda x: x.astype(bool),
        lambda x: max(x), lambda x: sorted(x), lambda x: 1 if x[0] else 0, lambda x: x[0] in [x[1]],
        lambda x: np.logical_and(x, x), lambda x: x[0] or 1,
    ],
)  # fmt: skip
def test_whatever_asks_for_a_value_is_refused(asking):
    with refused(NO_ORDER):
        asking(A if asking in (bool, operator.not_, abs) else formal(2))


@pytest.mark.parametrize("function", [np.exp, np.log, np.sqrt, np.tanh, np.sin, np.cos])
def test_exp_log_and_their_like_are_refused_and_the_way_out_is_named(function):
    with refused(NO_POLYNOMIAL) as refusal:
        function(formal(2))
    assert "analytic=True" in str(refusal.value)


@pytest.mark.parametrize("function", [np.log2, np.arctan, np.isnan, np.fft.fft, np.linalg.det])
def test_functions_that_know_only_numbers_raise(function):
    with pytest.raises(TypeError):
        function(formal(2, 2))


def test_floor_division_remainder_and_division_of_a_number_are_refused():
    for operation in (operator.floordiv, operator.mod):
        for pair in ((A, 2), (2, A), (A, B)):
            with refused(ONLY_BY_NUMBERS):
                operation(*pair)
    for asking in (
        lambda: 1 / A, lambda: Fraction(1) / A, lambda: np.int64(1) / A, lambda: divmod(A, 2),
        lambda: 2**A, lambda: np.array([1, 2]) / formal(2), lambda: np.reciprocal(formal(2)),
    ):  # fmt: skip
        with refused(ONLY_BY_NUMBERS):
            asking()


def test_division_by_a_variable_is_refused():
    for divisor in (A, B, A - A + 1):  # even by a constant, if it came as a formula
        with refused("division by a formal variable"):
            B / divisor
    x = formal(2)
    with refused("division by a formal variable"):
        x / x


def test_division_by_zero_raises():
    for nothing in (0, np.int64(0), Fraction(0)):
        with pytest.raises(ZeroDivisionError):
            A / nothing


@pytest.mark.parametrize(
    "exponent", [-1, np.int64(-2), 0.5, 2.0, np.float32(2), Fraction(2), B], ids=str
)
def test_powers_that_are_no_polynomial_are_refused(exponent):
    with refused("only 0, 1, 2"):
        A**exponent


def test_zero_to_the_power_0_is_1_as_for_numbers():
    assert text((A - A) ** 0) == "1"


@pytest.mark.parametrize(
    "convert", [float, int, complex, round, math.floor, math.ceil, math.trunc, operator.index]
)
def test_turning_one_into_a_number_is_refused(convert):
    with refused(NO_NUMBER):
        convert(A)


@pytest.mark.parametrize("kind", [float, np.float32, int, np.int8, complex])
def test_storing_one_in_an_array_of_numbers_is_refused_with_the_way_out(kind):
    plane = np.zeros((2, 2), kind)
    with refused(NO_NUMBER):
        plane[0, 0] = A
    with refused(NO_NUMBER):
        plane[...] = formal(2, 2)
    with refused(NO_NUMBER):
        formal(2, 2).astype(kind)
    with pytest.raises(TypeError):
        plane += formal(2, 2)
    assert not plane.any()


def test_variables_of_two_proofs_never_mix():
    stranger = formal(2)
    for operation in (operator.add, operator.sub, operator.mul):
        with refused("two different proofs"):
            operation(A, stranger[0])


def test_one_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        hash(A)


# Names


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((), "x"),
        ((1,), "x"),
        ((1, 1, 1, 1), "x"),
        ((3,), "x0 x1 x2"),
        ((2, 2), "x00 x01 x10 x11"),
        ((1, 2), "x0 x1"),
        ((2, 1), "x00 x10"),
        ((1, 1, 2, 2), "x00 x01 x10 x11"),
        ((1, 2, 1, 2), "x000 x001 x100 x101"),
        ((2, 1, 1, 2), "x0000 x0001 x1000 x1001"),
    ],
)
def test_names_are_indices_without_leading_axes_of_size_1(shape, names):
    x = formal(*shape)
    assert x.shape == shape
    assert x.dtype == object
    assert [text(value) for value in x.flat] == names.split()


def test_sizes_above_10_put_a_line_between_the_indices():
    x = formal(2, 11)
    assert [text(x[place]) for place in ((0, 0), (1, 1), (1, 10))] == ["x0_0", "x1_1", "x1_10"]
    assert text(formal(1, 1, 10, 10)[0, 0, 9, 9]) == "x99"
    assert text(formal(12)[11]) == "x11"


def test_letters_name_the_entries_as_slides_do():
    x = variables({"x": (2, 2), "k": (3, 3)}, letters={"x": "abcd"})
    assert written(x["x"]) == [["a", "b"], ["c", "d"]]
    assert text(x["k"][2, 0]) == "k20"


def test_letters_must_name_every_entry():
    with pytest.raises(ValueError, match=r"letters for x must name 4 entries, got 'abc'"):
        variables({"x": (2, 2)}, letters={"x": "abc"})


def test_indices_xy_count_from_the_centre_column_first_as_slides_do():
    k = variables({"k": (3, 3)}, indices="xy")["k"]
    assert written(k) == [
        ["k_{-1,-1}", "k_{0,-1}", "k_{1,-1}"],
        ["k_{-1,0}", "k_{0,0}", "k_{1,0}"],
        ["k_{-1,1}", "k_{0,1}", "k_{1,1}"],
    ]
    assert text(variables({"k": (1, 1, 5, 3)}, indices="xy")["k"][0, 0, 4, 0]) == "k_{-1,2}"
    w = variables({"w": (2, 1, 3, 3)}, indices="xy")["w"]
    assert text(w[1, 0, 2, 1]) == "w10_{0,1}"
    assert written(variables({"b": (2,)}, indices="xy")["b"]) == ["b0", "b1"]


def test_two_entries_never_share_a_name():
    for question in (
        dict(shapes={"x": (2, 2), "x0": (2,)}),
        dict(shapes={"x": (2,)}, letters={"x": "aa"}),
        dict(shapes={"x": (2,), "y": (2,)}, letters={"x": "ab", "y": "bc"}),
    ):
        with pytest.raises(ValueError, match="would share a name"):
            variables(**question)


@pytest.mark.parametrize("name", ["lambda", "I", "E", "S", "x y", "1", "π"])
def test_any_name_is_taken_as_it_is(name):
    assert [text(value) for value in formal(2, name=name)] == [f"{name}0", f"{name}1"]


def test_no_entries_are_an_empty_array():
    assert formal(0, 3).shape == (0, 3)
    assert variables({}) == {}


@pytest.mark.parametrize(
    ("value", "line"),
    [(3, "3"), (-3, "-3"), (Fraction(1, 2), "1/2"), (np.int64(7), "7"), (0, "0")],
)
def test_numbers_among_formulas_are_written_as_they_are(value, line):
    assert text(value) == line


def test_formulas_are_written_with_their_signs_and_coefficients():
    x = variables({"x": (2,), "k": (2,)})
    (a, b), (k, m) = x["x"], x["k"]
    assert text(a * m + b * k) == "k1*x0 + k0*x1"
    assert text(-a * a * m / 4 + 3) == "-1/4*k1*x0**2 + 3"
    assert text(-a + 1) == "-x0 + 1"
    assert text(-2 * a - b / 3 - 1) == "-2*x0 - 1/3*x1 - 1"
    assert text(a - a + Fraction(-5, 3)) == "-5/3"


# The ops: values equal the slides' loops, gradients the derivatives of the loops


class Linear:
    """An op with its arrays (name -> shape) and options; a name in `constants` is handed on as it is."""

    def __init__(self, name, shapes, constants=None, loop=None, **options):
        self.name, self.shapes, self.options = name, shapes, options
        self.constants = constants or {}
        self.op, self.loop = getattr(F, name), loop or getattr(loops, name)

    def __repr__(self):
        given = [f"{n}{shape}" for n, shape in self.shapes.items()]
        return " ".join([self.name, *given, *(f"{n}={v}" for n, v in self.options.items())])

    def set_up(self):
        """Formal inputs, a formal dy of the output's shape, and the loop's polynomials."""
        free = variables(self.shapes)
        shape = np.shape(self.loop(*free.values(), *self.constants.values(), **self.options))
        free = variables(self.shapes | {"dy": shape})
        dy = free.pop("dy")
        expected = self.loop(*free.values(), *self.constants.values(), **self.options)
        return list(free.values()), dy, np.asarray(expected)


def derivatives(inner, x):
    """d inner / d x, entry by entry: what the gradient in x must be."""
    result = np.empty(x.shape, object)
    for place in np.ndindex(x.shape):
        result[place] = Formal(inner.polynomial.diff(x[place].polynomial))
    return result


POOLED = np.array([[[[1, 7], [9, 11]]]])  # places in a 3 x 4 plane
PLANE = dict(x=(3, 4))


LINEAR = [
    Linear("conv2d", dict(x=(4, 4), w=(3, 3))),
    Linear("conv2d", dict(x=(3, 5), w=(2, 3)), stride=2, padding=1),
    Linear("conv2d", dict(x=(5, 4), w=(2, 2)), stride=(1, 2), padding=(0, 1), dilation=(3, 2)),
    Linear("conv2d", dict(x=(4, 5), w=(2, 3)), padding="same"),
    Linear("conv2d", dict(x=(5, 5), w=(1, 2)), stride=3),  # stride beyond the kernel
    Linear("conv2d", dict(x=(2, 2, 3, 3), w=(3, 2, 2, 2), b=(3,))),
    Linear("conv2d", dict(x=(1, 4, 3, 3), w=(4, 2, 2, 2), b=(4,)), groups=2, stride=2, padding=1),
    Linear("conv2d", dict(x=(1, 3, 2, 3), w=(3, 1, 2, 2)), groups=3),
    Linear("conv_transpose2d", dict(x=(3, 3), w=(3, 3))),
    Linear("conv_transpose2d", dict(x=(2, 2), w=(3, 3)), stride=2),
    Linear("conv_transpose2d", dict(x=(2, 3), w=(3, 2)), stride=(2, 3), padding=(1, 0), dilation=2),
    Linear("conv_transpose2d", dict(x=(2, 2), w=(2, 1)), stride=3, output_padding=(1, 2)),
    Linear("conv_transpose2d", dict(x=(2, 2, 2, 2), w=(2, 3, 2, 2), b=(3,)), stride=2, padding=1),
    Linear("conv_transpose2d", dict(x=(1, 4, 2, 2), w=(4, 2, 2, 2), b=(4,)), groups=2, stride=2),
    Linear("fractionally_strided_conv2d", dict(x=(3, 3), w=(3, 3))),
    Linear("fractionally_strided_conv2d", dict(x=(2, 2), w=(3, 3)), stride=2),
    Linear("fractionally_strided_conv2d", dict(x=(2, 3), w=(3, 2)), stride=3, output_padding=1),
    Linear("fractionally_strided_conv2d", dict(x=(3, 3), w=(2, 2)), stride=2, padding=2, dilation=1),
    Linear("fractionally_strided_conv2d", dict(x=(2, 2), w=(3, 2)), stride=2, padding=1, dilation=2),
    Linear("fractionally_strided_conv2d", dict(x=(1, 2, 2, 2), w=(3, 2, 2, 2), b=(3,)), stride=2),
    Linear("rot180", dict(w=(2, 3))),
    Linear("rot180", dict(w=(2, 1, 3, 2))),
    Linear("linear", dict(x=(3,), w=(2, 3))),
    Linear("linear", dict(x=(2, 2, 3), w=(2, 3), b=(2,))),
    Linear("max_unpool2d", dict(x=(1, 1, 2, 2)), dict(i=POOLED), kernel_size=2, output_size=(3, 4)),
    Linear("max_unpool2d", dict(x=(2, 2)), dict(i=np.array([[0, 3], [13, 10]])), kernel_size=2),
    Linear(  # two windows with one maximum: the last stays, and it alone has a gradient
        "max_unpool2d", dict(x=(2, 2)), dict(i=np.array([[4, 4], [8, 4]])),
        kernel_size=2, stride=1,
    ),
    Linear("avg_pool2d", PLANE, kernel_size=2),
    Linear("avg_pool2d", dict(x=(4, 5)), kernel_size=3, stride=2, padding=1),
    Linear("avg_pool2d", dict(x=(4, 5)), kernel_size=3, padding=1, count_include_pad=False),
    Linear("avg_pool2d", dict(x=(1, 2, 3, 4)), kernel_size=2, ceil_mode=True, padding=1),
    Linear("avg_pool2d", PLANE, kernel_size=(3, 2), stride=1, divisor_override=7),
    Linear("adaptive_avg_pool2d", dict(x=(4, 5)), output_size=(3, 2)),
    Linear("adaptive_avg_pool2d", dict(x=(1, 2, 3, 2)), output_size=(2, 3)),
    Linear("global_avg_pool2d", PLANE),
    Linear("interpolate", PLANE, size=(5, 7)),
    Linear("interpolate", dict(x=(4, 5)), size=(3, 2)),
    Linear("interpolate", dict(x=(1, 2, 2, 3)), scale_factor=2),
    Linear("interpolate", PLANE, size=(5, 7), mode="bilinear", align_corners=True),
    Linear("interpolate", PLANE, size=(5, 7), mode="bilinear", align_corners=False),
    Linear("interpolate", dict(x=(4, 3)), size=(2, 1), mode="bilinear", align_corners=True),
    Linear("interpolate", dict(x=(4, 3)), size=(2, 2), mode="bilinear", align_corners=False),
    Linear("interpolate", dict(x=(1, 2, 2, 2)), scale_factor=3, mode="bilinear", align_corners=False),
    Linear("interpolate", PLANE, scale_factor=Fraction(3, 2), mode="bilinear", align_corners=True),
    Linear("pad", PLANE, loop=lambda x, pad: np.pad(x, ((0, 0), pad)), pad=(1, 2)),
    Linear("pad", PLANE, loop=lambda x, pad: np.pad(x[1:, :-1], ((0, 2), (1, 0))), pad=(1, -1, -1, 2)),
    Linear("pad", PLANE, loop=lambda x, pad, value: np.pad(x, 1, constant_values=3), pad=(1,) * 4, value=3),
    Linear("matmul", dict(x=(2, 3), y=(3, 2)), loop=np.matmul),
    Linear("matmul", dict(x=(2, 2, 3), y=(3, 2)), loop=np.matmul),
    Linear("sum", PLANE, loop=np.sum, axis=0),
    Linear("sum", PLANE, loop=np.sum, axis=(0, 1), keepdims=True),
    Linear("mean", PLANE, loop=lambda x: np.sum(x) * Fraction(1, 12)),
    Linear("mean", PLANE, loop=lambda x, axis: np.sum(x, axis) * Fraction(1, 4), axis=1),
]  # fmt: skip


def test_the_table_holds_every_linear_op():
    by_order = {"relu", "leaky_relu", "max_pool2d", "global_max_pool2d", "max"}
    by_exp = {"exp", "log", "sigmoid", "tanh", "softmax", "log_softmax", "cross_entropy"}
    not_linear = by_order | by_exp | {"batch_norm", "dropout", "bilinear_kernel", "output_size"}
    assert {op.name for op in LINEAR} | {"cat", "nll_loss"} == set(F.__all__) - not_linear


@pytest.mark.parametrize("op", LINEAR, ids=repr)
def test_the_value_on_formal_variables_is_the_slide_s_formula(op):
    inputs, _, expected = op.set_up()
    same(op.op(*inputs, *op.constants.values(), **op.options), expected)


@pytest.mark.parametrize("op", [op for op in LINEAR if hasattr(op.op, "__wrapped__")], ids=repr)
def test_the_gradients_are_the_derivatives_of_the_slide_s_formula(op):
    inputs, dy, expected = op.set_up()
    inner = np.sum(dy * expected)
    _, gradients = op.op.__wrapped__(*inputs, *op.constants.values(), **op.options)
    for x, gradient in zip(inputs, gradients, strict=False):
        same(gradient(dy), derivatives(inner, x))


@pytest.mark.parametrize("op", LINEAR, ids=repr)
def test_backward_through_tensors_of_formal_variables_gives_the_same(op):
    inputs, dy, expected = op.set_up()
    inner = np.sum(dy * expected)
    tensors = [Tensor(x, requires_grad=True) for x in inputs]
    y = op.op(*tensors, *op.constants.values(), **op.options)
    same(y.data, expected)
    y.backward(dy)
    for x, tensor in zip(inputs, tensors, strict=True):
        same(tensor.grad, derivatives(inner, x))


def test_a_wrong_gradient_would_be_seen():
    inputs, dy, expected = Linear("conv2d", dict(x=(3, 3), w=(2, 2))).set_up()
    inner = np.sum(dy * expected)
    with pytest.raises(AssertionError):
        same(F.conv_transpose2d(dy, F.rot180(inputs[1])), derivatives(inner, inputs[0]))


def test_concatenation_and_its_gradients():
    free = variables({"x": (1, 2, 2, 2), "z": (1, 1, 2, 2), "dy": (1, 3, 2, 2)})
    x, z, dy = free.values()
    same(F.cat([x, z], dim=1), np.concatenate([x, z], 1))
    tensors = [Tensor(x, requires_grad=True), Tensor(z, requires_grad=True)]
    y = F.cat(tensors, dim=1)
    same(y.data, np.concatenate([x, z], 1))
    y.backward(dy)
    same(tensors[0].grad, dy[:, :2])
    same(tensors[1].grad, dy[:, 2:])


def test_a_whole_network_without_relu_is_differentiated():
    free = variables({"x": (1, 1, 2, 2), "v": (2, 1, 2, 2), "u": (2, 1, 2, 2), "b": (1,)})
    x, v, u, b = (Tensor(array, requires_grad=True) for array in free.values())
    features = F.conv2d(x, v, stride=2)
    y = (F.conv_transpose2d(features, u, b, stride=2) - x * 2) / 3
    loss = (y * y).sum()
    loss.backward()
    for tensor in (x, v, u, b):
        same(tensor.grad, derivatives(loss.data[()], tensor.data))


def test_tensor_arithmetic_indexing_and_shapes_are_differentiated():
    free = variables({"x": (2, 3), "z": (3,), "dy": (2,)})
    x, z = (Tensor(free[name], requires_grad=True) for name in "xz")
    y = (-(x - z) * z + Fraction(1, 2)).reshape(3, 2).transpose()[0, 1:] ** 2 / 3
    inner = np.sum(y.data * free["dy"])
    y.backward(free["dy"])
    same(x.grad, derivatives(inner, free["x"]))
    same(z.grad, derivatives(inner, free["z"]))


def test_nll_loss_on_formal_scores_is_the_mean_of_those_at_the_labels():
    scores = formal(2, 3)
    loss = F.nll_loss(scores, np.array([2, 0]))
    assert text(loss) == "-1/2*x02 - 1/2*x10"


def test_backward_from_one_formula_needs_no_float():
    x = formal(2, 2)
    tensor = Tensor(x, requires_grad=True)
    F.mean(tensor * x).backward()
    assert written(tensor.grad) == written(x / 4)


# Ops that refuse


@pytest.mark.parametrize(
    ("op", "sentence"),
    [
        (F.relu, NO_ORDER),
        (F.leaky_relu, NO_ORDER),
        (lambda x: F.max_pool2d(x, 2), NO_ORDER),
        (lambda x: F.max_pool2d(x, 2, return_indices=True), NO_ORDER),
        (F.global_max_pool2d, NO_ORDER),
        (F.max, NO_ORDER),
        (F.softmax, NO_ORDER),
        (F.log_softmax, NO_ORDER),
        (lambda x: F.cross_entropy(x, np.array([0, 1])), NO_ORDER),
        (F.exp, NO_POLYNOMIAL),
        (F.log, NO_POLYNOMIAL),
        (F.tanh, NO_POLYNOMIAL),
        (F.sigmoid, "formal variable"),
        (lambda x: F.batch_norm(x, None, None), "formal variable"),
        (lambda x: F.dropout(x, rng=np.random.default_rng(0)), NO_FLOAT),
        (lambda x: F.pad(x, (1, 1), value=0.5) + x[0, 0], NO_FLOAT),
        (lambda x: F.conv2d(x, F.bilinear_kernel(1)), NO_FLOAT),
    ],
)
def test_ops_that_compare_or_take_exp_or_log_refuse_with_the_sentence(op, sentence):
    with refused(sentence):
        op(formal(2, 2))
    with refused(sentence):
        op(Tensor(formal(2, 2)))


def test_the_sentences_end_in_what_to_use_instead():
    with refused(NO_ORDER) as order:
        F.relu(formal(2))
    assert "prove() then tries integers" in str(order.value)
    with refused(NO_FLOAT) as inexact:
        A * 0.25
    assert "Fraction(1, 4) for 0.25" in str(inexact.value)


# The slides' own text


def test_the_homework_s_two_formulas_come_out_of_the_training_code():
    free = variables({"x": (2, 2), "k": (3, 3)}, letters={"x": "abcd"})
    x, k = free["x"], free["k"]
    transposed = F.conv_transpose2d(x, k, stride=2)
    fractional = F.fractionally_strided_conv2d(x, k, stride=2)
    assert text(transposed[2, 2]) == "a*k22 + b*k20 + c*k02 + d*k00"
    assert text(fractional[2, 2]) == "a*k00 + b*k02 + c*k20 + d*k22"
    assert text(transposed[0, 0]) == "a*k00"
    assert text(fractional[0, 0]) == "a*k22"


def test_the_slide_s_loop_runs_as_typed():
    free = variables({"X": (3, 3), "K": (2, 2)})
    X, K = free["X"], free["K"]
    h, w = K.shape
    Y = np.zeros((X.shape[0] + h - 1, X.shape[1] + w - 1), X.dtype)
    for i, j in itertools.product(range(X.shape[0]), range(X.shape[1])):
        Y[i : i + h, j : j + w] += X[i, j] * K
    same(Y, F.conv_transpose2d(X, K))
    same(loops.transpose_convolution(X, K), Y)
    same(loops.convolution(X, K), F.conv2d(X, K))
