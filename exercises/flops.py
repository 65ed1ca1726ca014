"""FLOPs: how much work is a network?

A convolution lays its kernel on the image once for every pixel of its output. There every number
of the kernel, in all input channels, is multiplied once and the product is added to a sum: two
floating-point operations, FLOPs. All output channels do this, each with a kernel of its own. So the
work follows from shapes alone, and no weight is needed to count it.

Zeros of the padding are multiplied like other pixels. Biases, activations and the like count nothing:
beside the products they are little.

Source: Deep Learning for Vision (2024-2025), "Comparison".
"""


def flops(layers, in_channels, height, width):
    """Floating-point operations of a stack of convolutions for one image.

        2 * k * k * C * O * OH * OW   summed over the layers,
        with OH = floor((H + 2p - k) / s) + 1, and OW alike

    where a layer's C, H and W are the channels, height and width of what the layer before it put out.

    layers: a list, from the image to the output, of (out_channels O, kernel_size k, stride s, padding p),
    all ints, with square kernels. in_channels, height and width are the image's.
    -> a whole number, exact.
    """
    ### BEGIN SOLUTION
    total = 0
    for out_channels, k, s, p in layers:
        height = (height + 2 * p - k) // s + 1
        width = (width + 2 * p - k) // s + 1
        total += 2 * k * k * in_channels * out_channels * height * width
        in_channels = out_channels
    return total
    ### END SOLUTION


### FOR THE TEACHER

from minseg import anatomy
from minseg.grading.exercise import call, check, holds, right, wrong


def reference(layers, in_channels, height, width):
    network = [anatomy.Conv(*layer) for layer in layers]
    return anatomy.flops(network, in_channels, (height, width))


REFERENCE = {"flops": reference}
HINTS = [
    """
    A 2 x 2 kernel on a 3 x 3 image of one channel: at how many places does it lie, and how many
    products are there at each? How many if the image has 3 channels? If there are 5 such kernels?
    """,
    """
    Go through the layers with the size of the current map in hand: channels, height, width. A layer
    makes a new height and width, and its work is counted with these. What must be handed on
    to the next layer, and when?
    """,
    """
    for out_channels, k, s, p in layers:
        height, width = <the output's, from the input's>
        total = total + 2 * <numbers in one kernel, all channels> * <kernels> * <places>
        in_channels = <what the next layer will read>
    """,
]


@check("one kernel, one channel", tolerance=0)
def one_kernel(draw):
    k = draw.between(2, 3)
    yield call("flops", [(1, k, 1, 0)], 1, k, k)
    yield call("flops", [(1, 2, 1, 0)], 1, 3, draw.between(4, 6))
    yield call("flops", [(1, 3, 1, 0)], 1, draw.between(5, 8), draw.between(9, 12))


@check("channels in, channels out", tolerance=0)
def channels(draw):
    yield call("flops", [(1, 1, 1, 0)], draw.between(2, 4), 1, 1)
    yield call("flops", [(draw.between(2, 4), 2, 1, 0)], 1, 3, 4)
    yield call("flops", [(draw.between(5, 9), 3, 1, 0)], draw.between(2, 4), 6, 5)


@check("stride and padding: it is the output's pixels that count", tolerance=0)
def output_pixels(draw):
    yield call("flops", [(1, 2, 2, 0)], 1, 4, 6)
    yield call("flops", [(1, 3, 1, draw.between(1, 2))], 1, 5, 4)
    yield call("flops", [(3, 3, 2, 1)], 2, 2 * draw.between(4, 6), 2 * draw.between(4, 6) + 1)


@check("two layers: the second reads what the first puts out", tolerance=0)
def two_layers(draw):
    yield call("flops", [(2, 1, 1, 0), (3, 1, 1, 0)], 1, 2, 2)
    yield call("flops", [(draw.between(3, 5), 3, 1, 1), (2, 1, 1, 0)], 2, 4, 5)
    yield call("flops", [(draw.between(3, 5), 3, 2, 1), (7, 3, 1, 0)], 2, 9, 12)


@check("a whole network", points=2, tolerance=0)
def network(draw):
    stem = [(64, 7, 2, 3), (64, 3, 2, 1), (128, 3, 1, 1), (256, 3, 2, 1)]
    layers = [
        (draw.between(8, 64), draw.one_of(1, 3, 5), draw.between(1, 2), draw.between(0, 2))
        for _ in range(5)
    ]
    yield call("flops", [*stem, (21, 1, 1, 0)], 3, 32 * draw.between(5, 9), 224)
    yield call("flops", layers, draw.between(1, 4), draw.between(150, 250), draw.between(150, 250))


@holds("two layers in a row cost what each costs: the second, on the output of the first")
def additive(draw):
    O = draw.one_of(2, 4, 5)
    first, second = (O, 3, 2, 1), (draw.between(2, 5), 2, 1, 0)
    (both,), (of_first,), (of_second,) = yield [
        call("flops", [first, second], 3, 8, 10),
        call("flops", [first], 3, 8, 10),
        call("flops", [second], O, 4, 5),
    ]
    return both == of_first + of_second


@holds("an image of twice as many channels costs the first layer twice as much")
def twice_the_channels(draw):
    C = draw.between(1, 4)
    (once,), (twice,) = yield [call("flops", [(3, 3, 1, 1)], C * n, 6, 7) for n in (1, 2)]
    return twice == 2 * once


@holds("at a single place, a kernel of twice the side costs four times as much")
def twice_the_side(draw):
    C, O, k = draw.between(1, 4), draw.between(1, 4), draw.between(2, 4)
    (once,), (twice,) = yield [call("flops", [(O, n, 1, 0)], C, n, n) for n in (k, 2 * k)]
    return twice == 4 * once


@wrong("flops", "the count with the size of each layer's input. The kernel lies where an output pixel "
       "is, and with a stride or without padding these are fewer")  # fmt: skip
def input_size(layers, in_channels, height, width):
    total = 0
    for O, k, s, p in layers:
        total += 2 * k * k * in_channels * O * height * width
        height, width = (height + 2 * p - k) // s + 1, (width + 2 * p - k) // s + 1
        in_channels = O
    return total


products_only = wrong(
    "flops",
    "the number of multiplications, half of what is asked: a product and its addition to the sum "
    "are two operations",
    {"+= 2 * k * k": "+= k * k"},
)


one_channel = wrong(
    "flops",
    "the count for kernels that read a single channel. A kernel is as deep as the map that it "
    "reads: it has k * k numbers for each channel",
    {"k * k * in_channels": "k * k"},
)


side_once = wrong(
    "flops",
    "the count for kernels of k numbers. kernel_size is the side of a square: there are k rows of "
    "k numbers",
    {"+= 2 * k * k": "+= 2 * k"},
)


channels_of_the_image = wrong(
    "flops",
    "the count for layers that all read as many channels as the image has. A layer reads the "
    "channels that the layer before it put out",
    {"\n        in_channels = out_channels": ""},
)


with_bias = wrong(
    "flops",
    "the count with one more operation for each number of the output, as if a bias were added. "
    "Here biases do not count",
    {"2 * k * k * in_channels": "(2 * k * k * in_channels + 1)"},
)


@right("flops", "recursion: the first layer, then the rest on its output")
def recursion(layers, in_channels, height, width):
    if not layers:
        return 0
    (O, k, s, p), *rest = layers
    OH, OW = (1 + (n + 2 * p - k) // s for n in (height, width))
    return 2 * in_channels * O * k**2 * OH * OW + flops(rest, O, OH, OW)


@right("flops", "sizes and channels of all maps first, then a sum over pairs of them")
def all_sizes_first(layers, in_channels, height, width):
    maps = [(in_channels, height, width)]
    for O, k, s, p in layers:
        _, H, W = maps[-1]
        maps.append((O, len(range(-p, H + p - k + 1, s)), len(range(-p, W + p - k + 1, s))))
    return sum(
        2 * layer[1] ** 2 * before[0] * after[0] * after[1] * after[2]
        for layer, before, after in zip(layers, maps[:-1], maps[1:], strict=True)
    )


@right("flops", "NumPy: arrays of channels and sizes, multiplied; int64")
def arrays(layers, in_channels, height, width):
    import numpy as np

    O, k, s, p = np.array(layers, np.int64).T
    C = np.array([in_channels, *O[:-1]], np.int64)
    sizes = np.array([height, width], np.int64)
    areas = []
    for n in range(len(layers)):
        sizes = (sizes + 2 * p[n] - k[n]) // s[n] + 1
        areas.append(sizes.prod())
    return (2 * k**2 * C * O * np.array(areas)).sum()


@right("flops", "weights of each layer times the size of a map of zeros; float64")
def maps_of_zeros(layers, in_channels, height, width):
    import numpy as np

    x, total = np.zeros((height, width), bool), 0.0
    for O, k, s, p in layers:
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, p), (k, k))[::s, ::s]
        x = np.zeros(windows.shape[:2], bool)
        total += 2.0 * O * in_channels * windows.size
        in_channels = O
    return total


@right("flops", "products and additions counted apart")
def counted_apart(layers, in_channels, height, width):
    products = additions = 0
    for O, k, s, p in layers:
        height, width = (height + 2 * p - k) // s + 1, (width + 2 * p - k) // s + 1
        for _ in range(O):
            products += k * k * in_channels * height * width
            additions += k * k * in_channels * height * width
        in_channels = O
    return products + additions
