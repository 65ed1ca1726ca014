"""The receptive field: how far does an output pixel see?

One 3 x 3 convolution lets every output pixel see 3 x 3 pixels of the image. A second one on top sees
3 x 3 pixels of the first one's output, and these together see 5 x 5 pixels of the image: the
kernels overlap, so each layer adds less than its kernel. If a layer has a stride, then
neighbours in its output lie further apart in the image, and all layers after it take larger steps.
Pooling counts like a convolution, for it has a window and a stride. A kernel with dilation d has its
taps d pixels apart; the gaps between them count as seen.

All is counted along one axis, as if the image had no border.

Source: Deep Learning for Vision (2024-2025), "How to go from classification to semantic
segmentation?".
"""


def receptive_field(layers):
    """How many pixels in a row an output pixel sees, and how far apart two neighbours look.

        size = 1 + sum over all layers l of  d_l (k_l - 1) * (product of s_m over the layers m before l)
        stride = product of all s_l

    layers: a list, from the image to the output, of triples (kernel_size k, stride s, dilation d),
    ints in pixels of the layer's own input.
    -> (size, stride), two whole numbers, in pixels of the image.
    """
    ### BEGIN SOLUTION
    size = stride = 1
    for kernel_size, own_stride, dilation in layers:
        size += dilation * (kernel_size - 1) * stride
        stride *= own_stride
    return size, stride
    ### END SOLUTION


### FOR THE TEACHER

from minseg import anatomy
from minseg.grading.exercise import call, check, holds, right, wrong


def reference(layers):
    network = [anatomy.Conv(1, k, stride=s, dilation=d) for k, s, d in layers]
    field = anatomy.receptive_field(network)
    return field.size, field.stride


REFERENCE = {"receptive_field": reference}
HINTS = [
    """
    Draw nine pixels in a row. Below them, the outputs of a layer with 3 taps and stride 2: which
    pixels does each of them see? Below those, one output of a layer with 3 taps and stride 1. How many
    of the nine pixels does it see, and by how many did the second layer add to the first one's 3?
    """,
    """
    Walk once through the layers, from the image on, with two numbers in hand: how many pixels are
    seen so far, and how many pixels of the image one step in the current map is. At every layer
    both change. Which of the two does the layer need before it changes the other?
    """,
    """
    size, stride = <what an image without any layer has>
    for k, s, d in layers:
        size = size + <steps from the first tap to the last> * <image pixels in one step>
        stride = <stride> times <s>, and not before this line
    """,
]


@check("one layer sees what its kernel covers")
def one_layer(draw):
    k = draw.between(4, 9)
    yield call("receptive_field", [(draw.one_of(2, 3), 1, 1)])
    yield call("receptive_field", [(k, 2, 1)])
    yield call("receptive_field", [(draw.between(4, 9), draw.between(3, 5), 1)])


@check("layer upon layer, all of stride 1")
def layers_of_stride_1(draw):
    yield call("receptive_field", [(3, 1, 1), (draw.between(2, 3), 1, 1)])
    yield call("receptive_field", [(draw.between(2, 5), 1, 1), (5, 1, 1)])
    yield call("receptive_field", [(draw.between(2, 7), 1, 1) for _ in range(4)])


@check("a stride widens the steps of all later layers")
def strides(draw):
    yield call("receptive_field", [(3, 2, 1), (3, 1, 1)])
    yield call("receptive_field", [(3, 1, 1), (2, draw.between(2, 3), 1), (3, 1, 1)])
    yield call("receptive_field", [(k, draw.between(2, 3), 1) for k in (5, 2, 4, 3)])


@check("dilation: a kernel that reaches further")
def dilations(draw):
    yield call("receptive_field", [(3, 1, draw.between(2, 4))])
    yield call("receptive_field", [(3, 1, 1), (2, 1, 2), (4, 1, draw.between(3, 5))])
    yield call("receptive_field", [(draw.between(2, 5), 1, d) for d in (1, 2, 4, 8)])


@check("a whole network", points=2)
def network(draw):
    layers = [
        (draw.between(1, 7), draw.one_of(1, 2, 2, 3), draw.one_of(1, 1, 2, 3)) for _ in range(6)
    ]
    yield call("receptive_field", [(2, 2, 1), (3, 3, 2), (2, 1, 2)])
    yield call("receptive_field", [(3, 1, 1), (3, 1, 1), (2, 2, 1)] * draw.between(3, 5))
    yield call("receptive_field", [*layers, (3, 2, 2), (3, 1, 2)])


@holds("the last layer's own stride does not change the size")
def last_stride(draw):
    first, k = (draw.between(2, 5), draw.between(2, 3), 1), draw.between(2, 5)
    (size, _), (strided_size, _) = yield [
        call("receptive_field", [first, (k, s, 1)]) for s in (1, draw.between(2, 4))
    ]
    return size == strided_size


@holds("behind a layer with k = 1 and s = 2, a layer adds twice as much")
def twice_as_much(draw):
    layer = (draw.between(2, 5), 1, 1)
    (alone, _), (behind, _) = yield [
        call("receptive_field", [layer]),
        call("receptive_field", [(1, 2, 1), layer]),
    ]
    return behind - 1 == 2 * (alone - 1)


@holds("k taps with d = 2 see as far as 2k - 1 taps with d = 1")
def holes_count(draw):
    k = draw.between(2, 5)
    (with_holes, _), (without, _) = yield [
        call("receptive_field", [(k, 1, 2)]),
        call("receptive_field", [(2 * k - 1, 1, 1)]),
    ]
    return with_holes == without


multiplied = wrong(
    "receptive_field",
    "the kernel sizes multiplied. Draw two layers of 3 taps: the windows of the first overlap, so "
    "together they see 5 pixels and not 9",
    {"+= dilation * (kernel_size - 1) * stride": "*= dilation * (kernel_size - 1) + 1"},
)


whole_kernels = wrong(
    "receptive_field",
    "whole kernels added up. One pixel of the new window is seen already, so a layer adds only "
    "what lies between its first tap and its last",
    {
        "size = stride = 1": "size, stride = 0, 1",
        "dilation * (kernel_size - 1)": "(dilation * (kernel_size - 1) + 1)",
    },
)


no_dilation = wrong(
    "receptive_field",
    "the receptive field without dilation: with d = 2 a kernel of 3 taps reaches over 5 pixels",
    {"dilation * (kernel_size - 1)": "(kernel_size - 1)"},
)


too_early = wrong(
    "receptive_field",
    "a stride that comes one layer too early: how far the taps of a kernel lie apart was decided "
    "by the layers before, its own stride only moves it on",
    {"(kernel_size - 1) * stride": "(kernel_size - 1) * stride * own_stride"},
)


no_strides = wrong(
    "receptive_field",
    "a size that knows no strides: after a layer of stride 2, one step from tap to tap is two "
    "pixels of the image",
    {"(kernel_size - 1) * stride": "(kernel_size - 1)"},
)


wrong_end = wrong(
    "receptive_field",
    "the layers taken from the wrong end: what widens the steps of a layer are the strides "
    "between the image and it, not those behind it",
    {
        "size += dilation": "size = (size - 1) * own_stride + dilation",
        "(kernel_size - 1) * stride": "(kernel_size - 1) + 1",
    },
)


@right("receptive_field", "from the output back to the image: n outputs need (n - 1) s + reach")
def backwards(layers):
    size = stride = 1
    for k, s, d in reversed(layers):
        size = (size - 1) * s + d * (k - 1) + 1
        stride *= s
    return size, stride


@right("receptive_field", "the first and the last pixel seen by outputs 0 and 1")
def first_and_last(layers):
    first, last = [0, 1], [0, 1]
    for k, s, d in layers[::-1]:
        first = [s * pixel for pixel in first]
        last = [s * pixel + d * (k - 1) for pixel in last]
    return last[0] - first[0] + 1, first[1] - first[0]


@right("receptive_field", "recursion: the first layer, then the rest of the network on its output")
def recursion(layers):
    if not layers:
        return [1, 1]
    (k, s, d), *rest = layers
    size, stride = receptive_field(rest)
    return [(size - 1) * s + d * (k - 1) + 1, stride * s]


@right("receptive_field", "a product over the strides before each layer; NumPy's integers")
def cumulative(layers):
    import numpy as np

    k, s, d = np.array(layers).T
    before = np.cumprod([1, *s])
    return 1 + (d * (k - 1) * before[:-1]).sum(), before[-1]


@right("receptive_field", "the sum with its product written out, in float64")
def written_out(layers):
    import numpy as np

    strides = [float(s) for _, s, _ in layers]
    parts = [d * (k - 1) * np.prod(strides[:n]) for n, (k, _, d) in enumerate(layers)]
    return 1.0 + sum(parts), np.prod(strides)


@right("receptive_field", "measured: the taps of all layers put together into one kernel")
def measured(layers):
    import numpy as np

    kernel, stride = np.ones(1), 1
    for k, s, d in layers:
        taps = np.zeros(d * (k - 1) * stride + 1)
        taps[:: d * stride] = 1
        kernel = np.convolve(kernel, taps)
        stride *= s
    return np.int32(len(kernel)), np.int32(stride)
