"""Skip connections, and where to crop.

The encoder's finer maps know where things are, the decoder's coarse one knows what they are; a skip
connection brings both together. U-Net concatenates channels, FCN adds scores. Either way the two
maps must lie on each other, and the encoder's is often larger: convolutions without padding took the
border of the other one, or, in FCN, a frame of 100 zeros put some around it. So it is cropped first.

Cropped where? A pixel o of a map looks at the image coordinate S*o + c, the middle of what it sees.
The image itself has S = 1, c = 0, and each layer moves the pair on:

    convolution or pooling:    S -> S*s,    c -> c + S*((k - 1)/2 - p)
    transposed convolution:    S -> S/s,    c -> c + S*(p - (k - 1)/2)/s

with kernel size k, stride s, padding p. From this come the five crops in the code of FCN over which
everybody wonders: 19, 5, 27, 9 and 31.

Source: University of Waterloo, "Upsampling using skip connections" and "Skip connections:
concatenation"; Drake University, CS195 (2024), "FCN: Fully Convolutional Network"; Long, Shelhamer
and Darrell, Fully Convolutional Networks (2015).
"""

import numpy as np


def concat_skip(skip, x):
    """U-Net's skip: the middle of the encoder's map and the decoder's map, as one.

    skip (N, M, SH, SW) of the encoder, x (N, C, H, W) of the decoder, SH >= H and SW >= W
    -> (N, M + C, H, W), the encoder's channels first.
    The crop leaves out as many rows above as below; if their number is odd, one more below. Columns
    alike, one more at the right.
    """
    ### BEGIN SOLUTION
    (SH, SW), (H, W) = skip.shape[2:], x.shape[2:]
    top, left = (SH - H) // 2, (SW - W) // 2
    return np.concatenate([skip[:, :, top : top + H, left : left + W], x], axis=1)
    ### END SOLUTION


def add_skip(skip, x, offset):
    """FCN's skip: scores of a finer map, cropped at a given place, plus the upsampled coarse scores.

        y[n, k, i, j] = skip[n, k, i + offset, j + offset] + x[n, k, i, j]

    skip (N, K, SH, SW), x (N, K, H, W), offset in pixels of both maps -> (N, K, H, W).
    The arguments are not changed.
    """
    ### BEGIN SOLUTION
    H, W = x.shape[2:]
    return skip[:, :, offset : offset + H, offset : offset + W] + x
    ### END SOLUTION


def crop_offset(from_network, to_network):
    """How many pixels to leave out at the top of one map so that it lies on another.

    After leaving out k pixels, pixel o of the one looks where pixel o of the other looks:

        S*(o + k) + c_from = S*o + c_to

    from_network, to_network: the layers between the image and each map, lists of (kind, kernel_size,
    stride, padding); kind is "conv" (or pooling, which counts the same) or "transposed". [] is the
    image itself. S comes out the same for both. -> k, a whole number.
    """
    ### BEGIN SOLUTION
    lines = []
    for network in (from_network, to_network):
        S, c = 1, 0
        for kind, k, s, p in network:
            middle = (k - 1) / 2 - p
            S, c = (S * s, c + S * middle) if kind == "conv" else (S / s, c - S * middle / s)
        lines.append((S, c))
    (S, c_from), (_, c_to) = lines
    return round((c_to - c_from) / S)
    ### END SOLUTION


### FOR THE TEACHER

import minseg.functional as F
from minseg import anatomy
from minseg.grading.exercise import call, check, holds, right, wrong


def library_concat(skip, x):
    (SH, SW), (H, W) = skip.shape[2:], x.shape[2:]
    top, left = (SH - H) // 2, (SW - W) // 2
    middle = F.pad(skip, (-left, left + W - SW, -top, top + H - SH))
    return F.cat([middle, x], dim=1)


def library_add(skip, x, offset):
    (SH, SW), (H, W) = skip.shape[2:], x.shape[2:]
    return F.pad(skip, (-offset, offset + W - SW, -offset, offset + H - SH)) + x


def library_offset(from_network, to_network):
    def described(network):
        kinds = {"conv": anatomy.Conv, "transposed": anatomy.Transposed}
        return [kinds[kind](1, k, s, p) for kind, k, s, p in network]

    return anatomy.crop_offset(described(from_network), described(to_network))


REFERENCE = {
    "concat_skip": library_concat,
    "add_skip": library_add,
    "crop_offset": library_offset,
}
HINTS = [
    """
    A row of 5 pixels is to lie on a row of 2, by the middle: 3 are too many. Which two stay? And the
    first output pixel of a convolution with 3 taps and no padding sees the pixels 0, 1, 2: where does
    it look? How many pixels of the image must go so that pixel 0 of both looks there?
    """,
    """
    One pair (S, c) is carried through the layers, beginning with (1, 0); mind that c needs the S from
    before the layer. Do it for both networks. Then ask the equation in the docstring for k. Crops are
    slices that begin at the offset and are as long as the other map.
    """,
    """
    (SH - H) // 2 rows are left out above.
    for kind, k, s, p in network:
        S, c = <the pair after that layer, from the table>
    k is the distance of the two c, in steps of <what?>; as a whole number: round(...)
    """,
]


def fcn(padding, until=6):
    """FCN-VGG16's layers until that pooling, or with 6 until its scores."""
    layers = []
    for convolutions in (2, 2, 3, 3, 3)[:until]:
        layers += [("conv", 3, 1, 1)] * convolutions + [("conv", 2, 2, 0)]
    layers[0] = ("conv", 3, 1, padding)
    return layers + [("conv", 7, 1, 0)] * (until == 6)


@check("U-Net: the encoder's channels on top of the decoder's")
def same_size(draw):
    yield call("concat_skip", draw.integers(1, 1, 1, 2), draw.integers(1, 1, 1, 2))
    yield call("concat_skip", draw.integers(1, 2, 2, 3), draw.integers(1, 1, 2, 3))
    yield call("concat_skip", draw.integers(2, 2, 3, 2), draw.integers(2, 3, 3, 2))


@check("U-Net: the middle of a larger map")
def middle(draw):
    yield call("concat_skip", draw.integers(1, 1, 1, 3), draw.integers(1, 1, 1, 1))
    yield call("concat_skip", draw.integers(1, 1, 4, 6), draw.integers(1, 1, 2, 2))
    yield call("concat_skip", draw.integers(2, 3, 7, 6), draw.integers(2, 2, 3, 4))


@check("U-Net: an odd number of pixels too many")
def odd(draw):
    yield call("concat_skip", draw.integers(1, 1, 1, 4), draw.integers(1, 1, 1, 1))
    yield call("concat_skip", draw.integers(1, 1, 5, 3) + 0.5, draw.integers(1, 1, 2, 2) + 0.5)
    yield call("concat_skip", draw.integers(2, 2, 6, 7), draw.integers(2, 1, 3, 2))


@check("FCN: crop at the given place, then add")
def add(draw):
    yield call("add_skip", draw.integers(1, 1, 3, 3), draw.integers(1, 1, 1, 1), draw.one_of(0, 2))
    yield call("add_skip", draw.integers(1, 1, 5, 4) + 0.5, draw.integers(1, 1, 3, 2), 2)
    yield call("add_skip", draw.integers(2, 3, 9, 10), draw.integers(2, 3, 4, 5), draw.one_of(4, 5))


@check("where maps look: convolutions and poolings")
def where(draw):
    pool = ("conv", 2, 2, 0)
    k = draw.one_of(3, 5, 7)
    yield call("crop_offset", [], [("conv", k, 1, 0)])
    yield call("crop_offset", [("conv", 3, 1, 1)], [("conv", k, 1, 0), ("conv", 5, 1, 1)])
    yield call("crop_offset", [pool], [("conv", 3, 1, 0), ("conv", 3, 1, 0), pool])
    yield call("crop_offset", [pool, pool], [pool, ("conv", 5, 1, 0), pool, ("conv", k, 1, 0)])
    s = draw.one_of(3, 4)
    yield call("crop_offset", [("conv", 3, s, 1)], [("conv", 3, s, 1), ("conv", k, 1, 0)])


@check("where maps look: transposed convolutions")
def where_upsampled(draw):
    s = draw.between(2, 4)
    k = 2 * draw.between(s, 5)
    pool, up = ("conv", s, s, 0), ("transposed", k + s % 2, s, 0)
    yield call("crop_offset", [("conv", 2, 2, 0), ("transposed", 4, 2, 0)], [])
    yield call("crop_offset", [("conv", 2, 2, 0), ("transposed", 8, 2, 1)], [])
    yield call("crop_offset", [("conv", 3, 1, 1), pool, up], [("conv", 3, 1, 1)])
    yield call("crop_offset", [pool, pool, pool, up], [pool, pool])


@check("FCN's own crops, with 100 zeros around the image and with others", points=2)
def of_fcn(draw):
    twice = ("transposed", 4, 2, 0)
    for frame in (100, draw.between(85, 99)):
        scores, pool3, pool4 = fcn(frame), fcn(frame, until=3), fcn(frame, until=4)
        yield call("crop_offset", [*scores, ("transposed", 64, 32, 0)], [])
        yield call("crop_offset", pool4, [*scores, twice])
        yield call("crop_offset", [*scores, twice, ("transposed", 32, 16, 0)], [])
        yield call("crop_offset", pool3, [*scores, twice, twice])
        yield call("crop_offset", [*scores, twice, twice, ("transposed", 16, 8, 0)], [])


@holds("concat_skip: the last channels are x, untouched")
def untouched(draw):
    x = draw.integers(2, 3, 2, 2)
    ((y,),) = yield [call("concat_skip", draw.integers(2, 2, 5, 4), x)]
    return y.shape == (2, 5, 2, 2) and (y[:, 2:] == x).all()


@holds("add_skip: swap two equal-sized maps, and nothing changes")
def symmetric(draw):
    a, b = draw.integers(1, 2, 3, 4), draw.integers(1, 2, 3, 4)
    (one,), (other,) = yield [call("add_skip", a, b, 0), call("add_skip", b, a, 0)]
    return (one == other).all()


@holds("crop_offset: a pooling of stride 2 behind both networks halves it")
def halved(draw):
    k, pool = draw.one_of(5, 9), ("conv", 2, 2, 0)
    (fine,), (coarse,) = yield [
        call("crop_offset", behind, [("conv", k, 1, 0), *behind]) for behind in ([], [pool])
    ]
    return coarse == fine / 2


@wrong("concat_skip", "a crop that keeps the top left corner. What convolutions without padding have "
       "taken off the other map, they took off all four sides: keep the middle")  # fmt: skip
def corner(skip, x):
    return np.concatenate([skip[:, :, : x.shape[2], : x.shape[3]], x], axis=1)


decoder_first = wrong(
    "concat_skip",
    "the decoder's channels first. The next convolution cannot guess which are which: its weights "
    "expect the encoder's first",
    {"[skip[": "[x, skip[", "left + W], x]": "left + W]]"},
)


other_side = wrong(
    "concat_skip",
    "a crop that leaves out one more row above, or column at the left, where their number is odd. "
    "One more below and at the right is asked: round the half down, not up",
    {"(SH - H) // 2, (SW - W) // 2": "(SH - H + 1) // 2, (SW - W + 1) // 2"},
)


@wrong("add_skip", "the sum with the middle of the finer map. The middle is right only where both borders "
       "lost the same; FCN's pool4 is 25 wide and its middle 16 begin at 4, but it must be 5. Crop "
       "at offset")  # fmt: skip
def middle_instead(skip, x, offset):
    (SH, SW), (H, W) = skip.shape[2:], x.shape[2:]
    top, left = (SH - H) // 2, (SW - W) // 2
    return skip[:, :, top : top + H, left : left + W] + x


in_image_pixels = wrong(
    "crop_offset",
    "the distance in pixels of the image. Pixels of the map lie S of these apart, and it is map "
    "pixels that are left out",
    {"round((c_to - c_from) / S)": "c_to - c_from"},
)


other_map = wrong(
    "crop_offset",
    "the crop of the other map: the right size with the wrong sign. It is from_network's map that "
    "loses pixels, so that pixel k of it comes to lie on pixel 0 of the other",
    {"c_to - c_from": "c_from - c_to"},
)


@right("concat_skip", "number by number")
def loops(skip, x):
    N, M, SH, SW = skip.shape
    _, C, H, W = x.shape
    y = np.zeros((N, M + C, H, W))
    for n, c, i, j in np.ndindex(y.shape):
        source = skip[n, c, i + (SH - H) // 2, j + (SW - W) // 2] if c < M else x[n, c - M, i, j]
        y[n, c, i, j] = source
    return y


@right("concat_skip", "rows and columns chosen by matrices of 0 and 1; float32, Fortran order")
def matrices(skip, x):
    (SH, SW), (H, W) = skip.shape[2:], x.shape[2:]
    A = np.eye(H, SH, (SH - H) // 2, np.float32)
    B = np.eye(W, SW, (SW - W) // 2, np.float32)
    return np.asfortranarray(np.hstack([A @ skip.astype(np.float32) @ B.T, x.astype(np.float32)]))


@right("concat_skip", "pixels taken off one by one, in turn below and above")
def one_by_one(skip, x):
    for axis in (2, 3):
        skip, below = np.moveaxis(skip, axis, 0), True
        while len(skip) > x.shape[axis]:
            skip, below = (skip[:-1] if below else skip[1:]), not below
        skip = np.moveaxis(skip, 0, axis)
    return np.concatenate((skip, x), 1)


@right("add_skip", "the finer map shifted")
def shifted(skip, x, offset):
    moved = np.roll(skip, (-offset, -offset), (2, 3))
    y = x.copy()
    y += moved[:, :, : y.shape[2], : y.shape[3]]
    return y


@right("add_skip", "x laid into an empty map of the finer one's size, added, then cut out")
def laid_in(skip, x, offset):
    rows, columns = offset + np.arange(x.shape[2]), offset + np.arange(x.shape[3])
    place = np.ix_(range(len(x)), range(x.shape[1]), rows, columns)
    both = np.array(skip, np.float32, order="F")
    both[place] += x.astype(np.float32)
    return both[place]


@right("crop_offset", "from the map back to the image: where do its pixels 0 and 1 look?")
def backwards(from_network, to_network):
    from fractions import Fraction

    def look(o, network):
        for kind, k, s, p in reversed(network):
            middle = Fraction(k - 1, 2) - p
            o = o * s + middle if kind == "conv" else (o - middle) / s
        return o

    here, there = look(Fraction(0), from_network), look(Fraction(0), to_network)
    return int((there - here) / (look(Fraction(1), to_network) - there))


@right("crop_offset", "products of 2 x 2 matrices")
def affine(from_network, to_network):
    def looks(network):
        matrix = np.eye(2)
        for kind, k, s, p in network:
            layer = np.array([[s, (k - 1) / 2 - p], [0, 1]])
            matrix = matrix @ (layer if kind == "conv" else np.linalg.inv(layer))
        return matrix

    return np.linalg.solve(looks(from_network), looks(to_network))[0, 1]
