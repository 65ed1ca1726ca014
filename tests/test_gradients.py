"""Every op and every network against finite differences, and every check against a wrong gradient.

ROWS is the table of all differentiable ops, in the settings that have gone wrong somewhere before;
other tests walk through it too.
"""

from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest

import minseg.functional as F
from minseg import models
from minseg.backend import array_module
from minseg.check import check_gradient
from minseg.functional import basic
from minseg.tensor import Tensor, differentiable

draw = np.random.default_rng(0)
normal = draw.standard_normal


class Row(NamedTuple):
    """One op in one setting: function(*arrays), where floating arrays are what it is checked in."""

    op: str
    function: object
    arrays: tuple


ROWS: dict[str, Row] = {}


def row(op, label, function, *arrays):
    name = f"{op} {label}".rstrip()
    assert name not in ROWS
    ROWS[name] = Row(op, function, arrays)


def rows(op, settings, *arrays, note=""):
    """The op of that name in each of the settings, a dict of keywords."""
    for setting in settings:
        label = " ".join([note, *(f"{key}={value}" for key, value in setting.items())]).strip()
        row(op, label, partial(getattr(F, op), **setting), *arrays)


def away_from_zero(*shape):
    """Random numbers, none so close to 0 that a step of 1e-6 could cross a kink there."""
    x = normal(shape)
    return x + np.copysign(0.1, x)


def distinct(*shape):
    """Random numbers 0.1 apart: at a tie the maximum has a kink, and nothing could be checked."""
    return (draw.permutation(int(np.prod(shape))).reshape(shape) - 7) / 10


def like(x, constant):
    """An array that is no input, where the Tensor x lives and of its type."""
    constant = constant.astype(x.dtype) if constant.dtype.kind == "f" else constant
    return array_module(x.data).asarray(constant)


# ---- convolution ---------------------------------------------------------------------------------

x, w, b = normal((2, 4, 7, 8)), normal((6, 4, 3, 2)), normal(6)
rows(
    "conv2d",
    [
        {},
        {"stride": 2},
        {"stride": (3, 1)},
        {"stride": 4},
        {"padding": 1},
        {"padding": (2, 3)},
        {"padding": "same"},
        {"padding": "same", "dilation": (1, 2)},
        {"padding": "valid", "stride": 2},
        {"dilation": 2},
        {"stride": (2, 3), "padding": (1, 2), "dilation": (2, 1)},
        {"stride": 2, "padding": 2, "dilation": 3},
    ],
    x, w, b,
)  # fmt: skip
rows("conv2d", [{}, {"stride": 2}], x, normal((3, 4, 1, 1)), note="1x1")
rows("conv2d", [{}, {"padding": 1}], x, normal((3, 4, 7, 8)), note="as large as the image")
rows(
    "conv2d",
    [{"groups": 2}, {"groups": 2, "stride": 2, "padding": (1, 0), "dilation": (1, 2)}],
    x, normal((6, 2, 3, 2)), b,
)  # fmt: skip
rows("conv2d", [{"groups": 4, "padding": 1}], x, normal((4, 1, 3, 3)), note="depthwise")
rows("conv2d", [{}, {"stride": 2, "padding": 1}], normal((6, 7)), normal((3, 2)), note="plane")

x, w, b = normal((2, 4, 3, 4)), normal((4, 3, 3, 2)), normal(3)
TRANSPOSED = [
    {},
    {"stride": 2},
    {"stride": (3, 2)},
    {"stride": 4, "output_padding": (3, 1)},
    {"padding": 1},
    {"stride": 2, "padding": (2, 1), "output_padding": 1},
    {"dilation": 2, "output_padding": 1},
    {"stride": (2, 3), "padding": (1, 0), "output_padding": (0, 2), "dilation": (3, 2)},
    {"stride": 3, "padding": 3},
]
rows("conv_transpose2d", TRANSPOSED, x, w, b)
rows("conv_transpose2d", [{}, {"stride": 2}], x, normal((4, 2, 1, 1)), note="1x1")
rows(
    "conv_transpose2d",
    [{"groups": 2}, {"groups": 2, "stride": 2, "padding": 1, "output_padding": 1}],
    x, w, normal(6),
)  # fmt: skip
rows("conv_transpose2d", [{}, {"stride": 2}], normal((3, 4)), normal((3, 2)), note="plane")

w = normal((3, 4, 3, 2))
rows("fractionally_strided_conv2d", TRANSPOSED, x, w, b)
rows(
    "fractionally_strided_conv2d",
    [{}, {"stride": 2, "padding": 1}],
    normal((3, 4)), normal((3, 2)), note="plane",
)  # fmt: skip
rows("rot180", [{}], w)
rows("rot180", [{}], w[0, 0], note="plane")

# ---- pooling -------------------------------------------------------------------------------------

x, plane = distinct(2, 3, 7, 8), distinct(6, 7)
rows(
    "max_pool2d",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 3},
        {"kernel_size": (2, 3), "dilation": 2},
        {"kernel_size": 3, "stride": 1, "padding": (1, 2), "dilation": (1, 2)},
        {"kernel_size": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "return_indices": True},
    ],
    x,
)
rows("max_pool2d", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 1}], plane, note="plane")
rows("global_max_pool2d", [{}], x)
rows("global_max_pool2d", [{}], plane, note="plane")

x, plane = normal((2, 3, 7, 8)), normal((6, 7))
rows(
    "avg_pool2d",
    [
        {"kernel_size": 2},
        {"kernel_size": (3, 2), "stride": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": 3, "stride": 2, "ceil_mode": True},
        {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True},
        {"kernel_size": 2, "stride": 3},
        {"kernel_size": 2, "divisor_override": 3},
    ],
    x,
)
rows("avg_pool2d", [{"kernel_size": 2}], plane, note="plane")
rows("adaptive_avg_pool2d", [{"output_size": n} for n in (1, (2, 3), 5, (7, 8), 9)], x)
rows("adaptive_avg_pool2d", [{"output_size": (3, 2)}], plane, note="plane")
rows("global_avg_pool2d", [{}], x)
rows("global_avg_pool2d", [{}], plane, note="plane")

small = normal((2, 3, 2, 3))
_, places = F.max_pool2d(normal((2, 3, 4, 6)), 2, return_indices=True)
_, places_odd = F.max_pool2d(normal((2, 3, 5, 7)), 2, return_indices=True)
_, places_overlapping = F.max_pool2d(distinct(2, 3, 5, 7), 3, stride=2, return_indices=True)
rows("max_unpool2d", [{"kernel_size": 2}], small, places)
rows("max_unpool2d", [{"kernel_size": 2, "output_size": (5, 7)}], small, places_odd)
rows("max_unpool2d", [{"kernel_size": 3, "stride": 2}], small, places_overlapping, note="twice")
rows("max_unpool2d", [{"kernel_size": 2}], small, 0 * places, note="all in one place")
rows("max_unpool2d", [{"kernel_size": 2, "output_size": 6}], small, places_odd)
rows("max_unpool2d", [{"kernel_size": 2}], small[0, 0], places[0, 0], note="plane")

# ---- resizing ------------------------------------------------------------------------------------

SIZES = [
    {"size": 9},
    {"size": (3, 1)},
    {"scale_factor": 2},
    {"scale_factor": (1.5, 0.5)},
    {"scale_factor": 2.3},
    {"scale_factor": 2.3, "recompute_scale_factor": True},
]
x = normal((2, 3, 4, 5))
rows("interpolate", SIZES, x)
for align_corners in (False, True):
    bilinear = {"mode": "bilinear", "align_corners": align_corners}
    rows("interpolate", [bilinear | size for size in SIZES], x)
rows("interpolate", [{"size": (6, 5), "mode": "bilinear"}], plane, note="plane")

# ---- non-linearities, normalisation, losses ------------------------------------------------------

x = away_from_zero(3, 4, 5)
for op in ("relu", "leaky_relu", "sigmoid", "tanh", "exp"):
    rows(op, [{}], x)
rows("leaky_relu", [{"negative_slope": 0.3}, {"negative_slope": -1}], x)
rows("log", [{}], abs(x))
for op in ("softmax", "log_softmax"):
    rows(op, [{}, {"dim": 0}, {"dim": -1}], x)
    rows(op, [{}], normal((2, 4, 2, 3)), note="of images")
row("dropout", "", lambda x: F.dropout(x, 0.3, rng=np.random.default_rng(0)), x)
rows("dropout", [{"training": False}], x)

MEAN, VARIANCE = normal(3), 1 + abs(normal(3))


def batch_norm(x, weight=None, bias=None, **setting):
    return F.batch_norm(x, like(x, MEAN), like(x, VARIANCE), weight, bias, **setting)


weight, bias = away_from_zero(3), normal(3)
for note, x in (("of images", normal((2, 3, 4, 5))), ("of vectors", normal((6, 3)))):
    for setting in ({"training": True, "momentum": 0.3, "eps": 0.1}, {"training": False}):
        label = f"{note} training={setting['training']}"
        row("batch_norm", f"{label} without affine", partial(batch_norm, **setting), x)
        row("batch_norm", label, partial(batch_norm, **setting), x, weight, bias)
    row("batch_norm", f"{note} no statistics kept", lambda x: F.batch_norm(x, None, None), x)

CLASS_WEIGHT = np.array([0.5, 2.0, 0.0, 1.5])
TARGETS = {
    "of vectors": draw.integers(0, 4, 7),
    "of sequences": draw.integers(0, 4, (3, 5)),
    "of images": draw.choice([0, 1, 2, 3, 255], (2, 3, 4)),
}


def loss(x, target, *, op, weighted, **setting):
    return op(x, target, like(x, CLASS_WEIGHT) if weighted else None, **setting)


for note, target in TARGETS.items():
    scores = normal((target.shape[0], 4, *target.shape[1:]))
    for reduction, weighted in product(("mean", "sum", "none"), (False, True)):
        label = f"{note} {reduction}{' weighted' * weighted}"
        setting = {"weighted": weighted, "reduction": reduction}
        row("nll_loss", label, partial(loss, op=F.nll_loss, **setting), scores, target)
        for smoothing in (0.0, 0.1, 1.0):
            smooth = partial(loss, op=F.cross_entropy, label_smoothing=smoothing, **setting)
            row("cross_entropy", f"{label} smoothing={smoothing}", smooth, scores, target)
another_void = np.where(TARGETS["of images"] == 255, -100, TARGETS["of images"])
rows("cross_entropy", [{"ignore_index": -100}], normal((2, 4, 3, 4)), another_void)

# ---- arithmetic ----------------------------------------------------------------------------------

x, y = away_from_zero(3, 1, 4), away_from_zero(2, 1)
for op in ("add", "subtract", "multiply", "divide"):
    function = getattr(basic, op)
    row(op, "broadcasting", function, x, y)
    row(op, "of one shape", function, normal((2, 3)), away_from_zero(2, 3))
    row(op, "a number and an array", function, away_from_zero(), y)
    row(op, "with a constant", lambda x, op=function: op(x, 3.0), x)
    row(op, "of a constant", lambda x, op=function: op(3.0, x), x)
    row(op, "of one array and itself", lambda x, op=function: op(x, x * x), x)
row("negative", "", basic.negative, x)
for exponent in (2, 3, 0.5, -1.5, 1, -2):
    row("power", f"{exponent}", partial(basic.power, exponent=exponent), abs(x))
row("power", "of negative numbers", partial(basic.power, exponent=3), x)
rows("matmul", [{}], normal((3, 4)), normal((4, 2)))
rows("matmul", [{}], normal((2, 3, 4)), normal((2, 4, 2)), note="batched")
rows("matmul", [{}], normal((3, 4)), normal((5, 2, 4, 2)), note="one left, many right")
rows("matmul", [{}], normal((5, 1, 3, 4)), normal((2, 4, 2)), note="batches that broadcast")
rows("linear", [{}], normal((5, 4)), normal((3, 4)), normal(3))
rows("linear", [{}], normal((2, 5, 4)), normal((3, 4)), normal(3), note="of sequences")
rows("linear", [{}], normal(4), normal((3, 4)), note="of a vector, without b")

x = distinct(2, 3, 4)
AXES = [{}, {"axis": 1}, {"axis": -1, "keepdims": True}, {"axis": (0, 2)}, {"axis": (2, 0)}]
for op in ("sum", "mean", "max"):
    rows(op, [*AXES, {"axis": (0, -2), "keepdims": True}, {"keepdims": True}], x)

# ---- rearranging ---------------------------------------------------------------------------------

rows("pad", [{"pad": (1, 2)}, {"pad": (1, 0, 2, 3), "value": 5.0}, {"pad": (-1, -2)}], x)
rows("pad", [{"pad": (-1, 2, 1, -1)}, {"pad": (0, 0, 0, 0, -1, 3)}, {"pad": ()}], x)
row("cat", "", lambda x, y: F.cat([x, y]), normal((2, 3)), normal((4, 3)))
row("cat", "channels", lambda x, y, z: F.cat((x, y, z), dim=1),
    normal((2, 3, 2, 2)), normal((2, 1, 2, 2)), normal((2, 4, 2, 2)))  # fmt: skip
row("cat", "last axis, one of them twice", lambda x, y: F.cat([x, y, x], dim=-1),
    normal((2, 3)), normal((2, 1)))  # fmt: skip
row("reshape", "", lambda x: x.reshape(4, -1), x)
row("reshape", "to a tuple", lambda x: x.reshape((3, 2, 2, 2)), x)
row("transpose", "", lambda x: x.transpose(), x)
row("transpose", "axes", lambda x: x.transpose(1, -1, 0), x)
row("transpose", "a tuple of axes", lambda x: x.transpose((2, 0, 1)), x)
row("getitem", "a number", lambda x: x[1], x)
row("getitem", "slices", lambda x: x[:, ::-2, 1:3], x)
row("getitem", "ellipsis and a new axis", lambda x: x[..., None, -1], x)
row("getitem", "a list with repeats", lambda x: x[:, [2, 0, 2, 2]], x)
row("getitem", "indices with repeats", lambda x, index: x[index], x, np.array([[1, 1], [0, 1]]))
row("getitem", "several index arrays", lambda x, i, j: x[i, :, j], x,
    np.array([0, 1, 0]), np.array([3, 3, 3]))  # fmt: skip
row("getitem", "a mask", lambda x, mask: x[mask], x, np.abs(x) > 0.4)
row("getitem", "a mask of rows", lambda x, mask: x[:, mask], x, np.array([True, False, True]))


# ---- the tests -----------------------------------------------------------------------------------

every_row = pytest.mark.parametrize("name", ROWS)


@every_row
def test_the_gradients_of_every_op_are_right(name):
    _, function, arrays = ROWS[name]
    assert check_gradient(function, *arrays) <= 1e-6


@differentiable
def off_by_a_thousandth(x):
    """x itself, with a gradient 0.1 % too large."""
    return x, (lambda dy: 1.001 * dy,)


@every_row
def test_a_gradient_off_by_a_thousandth_is_rejected_for_every_op_and_input(name):
    _, function, arrays = ROWS[name]
    for n in range(len(arrays)):
        if arrays[n].dtype.kind != "f":
            continue

        def spoilt(*given, n=n):
            given = list(given)
            given[n] = off_by_a_thousandth(given[n])
            return function(*given)

        with pytest.raises(AssertionError, match=f"the gradient of input {n} is wrong"):
            check_gradient(spoilt, *arrays)


SEVERAL_INPUTS = {
    "batch_norm": 3, "cat": 3, "conv2d": 3, "conv_transpose2d": 3, "fractionally_strided_conv2d": 3,
    "linear": 3, "matmul": 2,
}  # fmt: skip
NOT_DIFFERENTIABLE = {"bilinear_kernel", "output_size"}


@pytest.mark.parametrize("op", sorted(set(F.__all__) - NOT_DIFFERENTIABLE))
def test_every_differentiable_op_is_in_the_table_with_all_its_inputs(op):
    checked = [
        sum(array.dtype.kind == "f" for array in row.arrays)
        for row in ROWS.values()
        if row.op == op
    ]
    assert max(checked, default=0) == SEVERAL_INPUTS.get(op, 1)


def test_a_batch_of_nothing_but_void_has_loss_and_gradient_zero():
    logits = Tensor(normal((2, 4, 3)), requires_grad=True)
    loss = F.cross_entropy(logits, np.full((2, 3), 255))
    loss.backward()
    assert loss.item() == 0
    np.testing.assert_array_equal(logits.grad, np.zeros((2, 4, 3)))


# ---- whole networks ------------------------------------------------------------------------------


def as_function_of_its_parameters(model, x):
    """The network's output for the image x, as a function of all its parameters, and their values."""
    places, values = [], []
    for _, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                places.append((module, name))
                values.append(value.data.astype(np.float64))

    def function(*parameters):
        for (module, name), parameter in zip(places, parameters, strict=True):
            setattr(module, name, parameter)
        return model(x)

    return function, values


NETWORKS = {
    "U-Net": ("unet", {}),
    "U-Net, valid": ("unet", {"padding": "valid"}),
    "FCN": ("fcn", {"skips": 0}),
    "FCN, one skip": ("fcn", {"skips": 1}),
    "FCN, two skips": ("fcn", {"skips": 2}),
    "FCN, dilated": ("fcn", {"dilated": True}),
    "FCN, dilated, one skip": ("fcn", {"dilated": True, "skips": 1}),
    "SegNet": ("segnet", {}),
}
every_network = pytest.mark.parametrize("network", NETWORKS)


def built(network, width, *shape):
    """The network in float64 for an image of that shape, as a function of its parameters."""
    # A network is made of kinks: a step in its parameters that carries one of its thousands of
    # ReLUs across 0, or makes another pixel the largest of its window, is no fault of the gradient.
    # With seed 0 no step does (with seed 1 one step of the dilated FCN does, and is named). Four
    # images, because of only two values batch normalisation makes +1 and -1, whatever they are.
    name, options = NETWORKS[network]
    model = models.build(name, 2, 3, width, seed=0, **options)
    return as_function_of_its_parameters(model, np.random.default_rng(0).standard_normal(shape))


@every_network
@pytest.mark.parametrize("size", [(8, 8), (9, 10)])
def test_the_gradient_of_a_small_network_is_right_in_every_parameter(network, size):
    function, parameters = built(network, 2, 4, 2, *size)
    assert check_gradient(function, *parameters) <= 1e-6


@every_network
def test_the_gradient_of_a_wider_network_is_right_in_every_parameter(network):
    function, parameters = built(network, 4, 2, 2, 16, 16)
    assert check_gradient(function, *parameters, eps=1e-7) <= 1e-6


@every_network
def test_a_gradient_off_by_a_thousandth_is_rejected_for_every_network(network):
    function, parameters = built(network, 2, 4, 2, 8, 8)
    for n in (0, len(parameters) // 2, len(parameters) - 1):

        def spoilt(parameter, n=n):
            given = [*parameters[:n], off_by_a_thousandth(parameter), *parameters[n + 1 :]]
            return function(
                *(value if isinstance(value, Tensor) else Tensor(value) for value in given)
            )

        with pytest.raises(AssertionError, match="the gradient of parameter is wrong"):
            check_gradient(spoilt, parameters[n])
