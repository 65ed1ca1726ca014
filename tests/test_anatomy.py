"""Anatomy: the lectures' numbers to the last digit, and shapes held against the ops themselves."""

from fractions import Fraction

import numpy as np
import pytest

import minseg.functional as F
from minseg import anatomy, classics, models, nn
from minseg.anatomy import (
    BatchNorm,
    Branches,
    Conv,
    Crop,
    Dense,
    Pool,
    ReceptiveField,
    Transposed,
    Unpool,
    attention_flops,
    convolutional,
    coordinates,
    crop_offset,
    every_layer,
    flops,
    output_sizes,
    parameters,
    receptive_field,
)
from minseg.classics import fcn
from minseg.tensor import Tensor, no_grad

# The lectures' networks


@pytest.mark.parametrize(
    ("name", "convolutions", "weights", "size"),
    [
        ("alexnet", 8, 56_954_261, 355),
        ("vgg16", 16, 134_346_581, 404),
        ("googlenet", 58, 5_995_077, 907),
    ],
)
def test_the_three_fcns_have_the_layers_parameters_and_views_of_the_slide(
    name, convolutions, weights, size
):
    network = fcn(name)
    assert sum(isinstance(layer, Conv) for layer in every_layer(network)) == convolutions
    assert parameters(network, 3) == weights
    assert receptive_field(network)[:2] == (size, 32)


@pytest.mark.parametrize(
    ("name", "weights"),
    [("alexnet", 60_965_224), ("vgg16", 138_357_544), ("googlenet", 6_998_552)],
)
def test_the_three_classifiers_keep_their_parameters_when_made_convolutional(name, weights):
    classifier, size = classics.CLASSIFIERS[name]
    assert parameters(classifier(), 3, size) == weights
    network = convolutional(classifier(), size)
    assert parameters(network, 3) == weights
    assert flops(network, 3, size) == flops(classifier(), 3, size)
    assert output_sizes(network, size)[-1] == 1
    assert output_sizes(network, size + 3 * 32)[-1] == 4


def test_a_dense_layer_weighs_what_the_convolution_over_its_map_weighs():
    assert parameters([Dense(4096)], 512, 7) == 102_764_544
    assert parameters([Conv(4096, 7)], 512) == 102_764_544
    assert parameters([Dense(1000)], 4096, 1) == parameters([Conv(1000, 1)], 4096) == 4_097_000


def test_the_57_million_of_fcn_alexnet_need_its_two_groups():
    one_group = [
        Conv(layer.out_channels, layer.kernel_size) if isinstance(layer, Conv) else layer
        for layer in fcn("alexnet")
    ]
    assert parameters(one_group, 3) == 58_367_381


def test_without_its_average_pool_fcn_googlenet_sees_715_pixels():
    network = [layer for layer in fcn("googlenet") if layer != Pool(7, 1)]
    assert receptive_field(network).size == 715


def upsampled(network, stride):
    """Scores brought up by that stride, in Caffe's way."""
    return [*network, Transposed(21, 2 * stride, stride, bias=False)]


def until_pool(network, number):
    """The layers up to that pooling, and a score layer."""
    pools = [n for n, layer in enumerate(network) if isinstance(layer, Pool)]
    return [*network[: pools[number - 1] + 1], Conv(21, 1)]


def test_the_crops_of_fcn32s_16s_and_8s_follow_from_coordinates():
    network = fcn("vgg16", padding=100)
    assert coordinates(network) == (32, Fraction(25, 2))
    assert crop_offset(upsampled(network, 32), []) == 19
    twice = upsampled(network, 2)
    assert crop_offset(until_pool(network, 4), twice) == 5
    assert crop_offset(upsampled(twice, 16), []) == 27
    four_times = upsampled(twice, 2)
    assert crop_offset(until_pool(network, 3), four_times) == 9
    assert crop_offset(upsampled(four_times, 8), []) == 31
    assert crop_offset([], upsampled(network, 32)) == -19


def test_200_pixels_go_through_fcn32s_and_come_back_as_256_of_which_19_to_218_are_kept():
    network = upsampled(fcn("vgg16", padding=100), 32)
    sizes = output_sizes(network, 200)
    assert list(dict.fromkeys(sizes)) == [398, 199, 100, 50, 25, 13, 7, 256]
    first = crop_offset(network, [])
    assert (first, first + 200 - 1) == (19, 218)
    assert sizes[-1] >= first + 200


def test_the_strided_convolutions_of_the_comparison_slide():
    plane = [Conv(1024, 2, 2, bias=False)]
    assert parameters(plane, 512) == 2_097_152
    assert flops(plane, 512, 256) == 68_719_476_736
    assert output_sizes(plane, 256) == [128]
    volume = [Conv(1024, (2, 2, 2), 2, bias=False)]
    assert parameters(volume, 512) == 4_194_304
    assert flops(volume, 512, (256, 256, 64)) == 4_398_046_511_104
    assert output_sizes(volume, (256, 256, 64)) == [(128, 128, 32)]
    # three axes may come from the size alone
    assert parameters([Conv(1024, 2, 2, bias=False)], 512, (256, 256, 64)) == 4_194_304


def test_attention_on_the_whole_volume_and_in_windows():
    assert attention_flops((64, 64, 32), 256) == 17_660_905_521_152
    assert attention_flops(64 * 64 * 32, 256) == 17_660_905_521_152
    assert attention_flops((64, 64, 32), 256, window=(8, 8, 8)) == 137_438_953_472
    assert attention_flops((8, 8, 8), 256) == 536_870_912
    # a 1x1 convolution to as many channels is one of the four projections
    assert attention_flops(1, 7) == 4 * flops([Conv(7, 1)], 7, 1) + 4 * 7


@pytest.mark.parametrize(("rate", "effective"), [(6, 13), (12, 25), (18, 37)])
def test_the_effective_kernels_of_aspp(rate, effective):
    assert receptive_field([Conv(8, 3, dilation=rate)]).size == effective
    assert output_sizes([Conv(8, 3, padding=rate, dilation=rate)], 40) == [40]


def unet(num_classes=2, width=64, depth=5, norm=()):
    """The paper's network: every level is a skip beside all that lies below it."""

    def level(channels, depth):
        block = [Conv(channels, 3, bias=not norm), *norm] * 2
        if depth == 1:
            return block
        below = [Pool(2), *level(2 * channels, depth - 1), Transposed(channels, 2, 2)]
        return [*block, Branches([Crop(crop_offset([], below))], below), *block]

    return [*level(width, depth), Conv(num_classes, 1)]


def sizes_after_3x3(layers, size):
    """The sizes after every 3x3 convolution, those under a skip where they come."""
    sizes = output_sizes(layers, size)
    for layer, before, after in zip(layers, [size, *sizes], sizes, strict=False):
        if isinstance(layer, Branches):
            yield from sizes_after_3x3(layer.lists[1], before)
        elif layer.__class__ is Conv and layer.kernel_size == 3:
            yield after


def test_the_u_net_of_the_paper():
    network = unet()
    assert parameters(network, 1) == 31_030_658
    blocks = list(sizes_after_3x3(network, 572))[1::2]
    assert blocks == [568, 280, 136, 64, 28, 52, 100, 196, 388]
    assert [layer.margin for layer in every_layer(network) if isinstance(layer, Crop)] == [
        88, 40, 16, 4,
    ]  # fmt: skip
    assert coordinates(network) == (1, (572 - 388) // 2)


def test_a_valid_u_net_takes_sides_of_12_more_than_a_multiple_of_16_only():
    network = unet(width=1)
    for size in range(187, 230):
        if size % 16 == 12:
            assert output_sizes(network, size)[-1] == size - 184
        else:
            with pytest.raises(ValueError, match=r"cannot be concatenated|leave no output"):
                output_sizes(network, size)


def segnet(num_classes=12, norm=()):
    blocks = [(64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3]
    down, up = [], []
    for n, block in enumerate(blocks):
        down += [layer for C in block for layer in (Conv(C, 3, padding=1), *norm)] + [Pool(2)]
        mirrored = [*block[1:], blocks[n - 1][0] if n else num_classes]
        convolutions = [layer for C in mirrored for layer in (Conv(C, 3, padding=1), *norm)]
        up = [
            Unpool(2),
            *(convolutions if n else convolutions[: len(convolutions) - len(norm)]),
            *up,
        ]
    return down, up


def test_the_segnet_of_the_paper():
    down, up = segnet()
    assert parameters(down, 3) == 14_714_688
    assert parameters(down + up, 3) == 29_434_060
    assert output_sizes(down + up, (352, 480))[-1] == (352, 480)
    assert coordinates(down + up) == (1, 0)
    down, up = segnet(norm=[BatchNorm()])
    assert parameters(down + up, 3) == 29_449_932


# Shapes, held against the ops


def run(layers, x, rng):
    """The layers as ops, with positive weights, so that nothing cancels; pooling takes the mean."""
    for layer in layers:
        C = x.shape[1]
        if isinstance(layer, Branches):
            x = F.cat([run(part, x, rng) for part in layer.lists], dim=1)
        elif isinstance(layer, Transposed):
            kernel = np.broadcast_to(layer.kernel_size, 2)
            w = rng.uniform(1, 2, (C, layer.out_channels // layer.groups, *kernel))
            x = F.conv_transpose2d(
                x, w, None, layer.stride, layer.padding, layer.output_padding, layer.groups,
                layer.dilation,
            )  # fmt: skip
        elif isinstance(layer, Conv):
            kernel = np.broadcast_to(layer.kernel_size, 2)
            w = rng.uniform(1, 2, (layer.out_channels, C // layer.groups, *kernel))
            x = F.conv2d(x, w, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        elif isinstance(layer, Pool):
            x = F.avg_pool2d(x, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode)
        elif isinstance(layer, Unpool):
            x = F.interpolate(x, scale_factor=layer.kernel_size)
        elif isinstance(layer, Crop):
            x = F.pad(x, (-layer.margin,) * 4)
        else:
            raise TypeError(layer)
    return x


CONVOLUTIONAL = {
    "stride": [Conv(2, 3, 2), Conv(1, 2)],
    "dilation": [Conv(2, 3, padding=2, dilation=2), Conv(1, 3, dilation=4)],
    "dilation and stride": [
        Conv(2, 3, 2, dilation=3, padding=1),
        Conv(2, 3, 3),
        Conv(1, 2, dilation=2),
    ],
    "pooling": [Conv(2, 3, padding=1), Pool(2), Conv(2, 3, groups=2), Pool(3, 2, ceil_mode=True)],
    "stride > kernel": [Conv(1, 1, 3), Conv(1, 2, 2)],
    "inception": [
        Branches([Conv(1, 1)], [Conv(2, 5, padding=2)], [Pool(3, 1, padding=1)], []),
        Branches([Conv(2, 3, 2)], [Crop(1), Pool(1, 2)]),
    ],
    "crop": [Crop(3), Conv(1, 3, 2), Crop(1)],
    "pad": [Conv(1, 3, 2, padding=1), Crop(-2), Conv(1, 4)],
    "rows and columns": [Conv(1, (1, 5), (2, 1), (0, 3)), Pool((3, 1), (1, 2))],
}
UPSAMPLING = {
    "transposed": [Conv(1, 3, 2), Transposed(1, 4, 2, 1)],
    "transposed, odd kernel": [Transposed(2, 5, 3, 1, output_padding=1), Conv(1, 3)],
    "dilated transposed": [Conv(1, 3), Transposed(1, 3, 1, 1, dilation=2)],
    "u-net": [
        Conv(1, 3),
        Branches([Crop(2)], [Pool(2), Conv(2, 3), Transposed(1, 2, 2)]),
        Conv(1, 3),
    ],
    "segnet": [
        Pool(2),
        Conv(1, 3, padding=1),
        Pool(2),
        Unpool(2),
        Conv(1, 3, padding=1),
        Unpool(2),
    ],
    "fcn": [Conv(1, 3, padding=5), Pool(2), Conv(1, 3), Pool(2), Transposed(1, 8, 4)],
}


def seen(layers, size, axis):
    """For each output position along an axis the input positions its gradient reaches."""
    x = Tensor(np.ones((1, 2, *size)), requires_grad=True)
    outputs = run(layers, x, np.random.default_rng(3)).shape[2 + axis]
    for o in range(outputs):
        y = run(layers, x, np.random.default_rng(3))
        dy = np.zeros(y.shape)
        dy[(slice(None),) * (2 + axis) + (o,)] = 1
        x.grad = None
        y.backward(dy)
        yield np.flatnonzero(x.grad.any(axis=(0, 1, 3 - axis)))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("layers", CONVOLUTIONAL.values(), ids=CONVOLUTIONAL)
def test_the_receptive_field_is_where_the_gradient_reaches(layers, axis):
    size = (34, 36)
    field = receptive_field(layers, axis)
    whole = 0
    for o, pixels in enumerate(seen(layers, size, axis)):
        first = field.stride * o + field.offset
        if len(pixels) == 0:  # it sees zeros of the padding only
            assert first + field.size <= 0 or first >= size[axis]
            continue
        if first >= 0:
            assert pixels[0] == first
        if first + field.size <= size[axis]:
            assert pixels[-1] == first + field.size - 1
            whole += first >= 0
    assert whole > 1


@pytest.mark.parametrize("layers", UPSAMPLING.values(), ids=UPSAMPLING)
def test_after_upsampling_the_receptive_field_is_the_widest_view_and_the_earliest(layers):
    size = 40
    field = receptive_field(layers)
    views = [
        (o, pixels[0], pixels[-1])
        for o, pixels in enumerate(seen(layers, (size, 40), 0))
        if len(pixels) and pixels[0] > 0 and pixels[-1] < size - 1  # not cut off by the border
    ]
    assert max(last - first + 1 for _, first, last in views) == field.size
    assert min(first - field.stride * o for o, first, _ in views) == field.offset


@pytest.mark.parametrize(
    "layers", [*CONVOLUTIONAL.values(), *UPSAMPLING.values()], ids=[*CONVOLUTIONAL, *UPSAMPLING]
)
@pytest.mark.parametrize("size", [(34, 36), (28, 28), (32, 40)])
def test_output_sizes_are_the_sizes_of_the_ops_outputs(layers, size):
    x, rng = np.ones((1, 2, *size)), np.random.default_rng(0)
    for layer, expected in zip(layers, output_sizes(layers, size), strict=True):
        x = run([layer], x, rng)
        assert x.shape[2:] == expected


def test_every_window_and_side_gives_the_size_that_the_op_gives():
    rng = np.random.default_rng(5)
    for _ in range(300):
        n, k, s, p, d = (int(rng.integers(low, 6)) for low in (5, 1, 1, 0, 1))
        p, x = min(p, d * (k - 1) // 2), np.ones((1, 1, n + d * (k - 1), 9))
        H = x.shape[2]
        pooled = [F.max_pool2d(x, (k, 1), (s, 1), (p, 0), (d, 1), up) for up in (False, True)]
        for up, y in enumerate(pooled):
            layer = Pool((k, 1), (s, 1), (p, 0), dilation=(d, 1), ceil_mode=bool(up))
            assert output_sizes([layer], (H, 9)) == [y.shape[2:]]
        y = F.conv_transpose2d(
            x, np.ones((1, 1, k, 1)), None, (s, 1), (p, 0), (s - 1, 0), 1, (d, 1)
        )
        layer = Transposed(1, (k, 1), (s, 1), (p, 0), output_padding=(s - 1, 0), dilation=(d, 1))
        assert output_sizes([layer], (H, 9)) == [y.shape[2:]]


def test_upsampling_looks_where_interpolation_looks():
    # Of a ramp, each pixel of an upsampled map holds the coordinate it looks at.
    ramp = np.tile(np.arange(12.0), (12, 1))
    for stride in (2, 3, 4):
        kernel = F.bilinear_kernel(stride, "caffe", dtype=float)
        layer = Transposed(1, len(kernel), stride, stride // 2)
        y = F.conv_transpose2d(ramp, kernel, stride=stride, padding=stride // 2)
        S, c = coordinates([layer])
        inside = np.arange(2 * stride, 8 * stride)
        np.testing.assert_allclose(y[3 * stride, inside], inside * float(S) + float(c), atol=1e-12)


def test_a_convolution_of_a_ramp_has_its_mean_at_the_coordinate_it_looks_at():
    ramp = np.tile(np.arange(30.0), (30, 1))
    for k, s, p, d in [(3, 1, 0, 1), (2, 2, 0, 1), (4, 3, 1, 2), (7, 2, 3, 1)]:
        y = F.conv2d(ramp, np.full((k, k), 1 / k**2), stride=s, padding=p, dilation=d)
        S, c = coordinates([Conv(1, k, s, p, dilation=d)])
        row = y[y.shape[0] // 2]
        inside = np.arange(2, len(row) - 2)
        np.testing.assert_allclose(row[inside], inside * int(S) + float(c), atol=1e-9)


def test_branches_half_a_pixel_apart_have_a_view_but_no_coordinates():
    network = [Branches([Conv(8, 2, 2)], [Conv(8, 3, 2, padding=1)])]
    assert receptive_field(network) == ReceptiveField(3, 2, -1)
    with pytest.raises(ValueError, match=r"different places, 2\*o \+ 1/2 and 2\*o \+ 0"):
        coordinates(network)


def test_layers_in_two_lists_give_the_same_facts_as_in_one():
    first, second = [Conv(4, 3, 2), Pool(2)], [Conv(6, 5, padding=2), Transposed(2, 4, 2, 1)]
    (S, c), (T, b) = coordinates(first), coordinates(second)
    assert coordinates(first + second) == (S * T, c + S * b)
    assert parameters(first + second, 3) == parameters(first, 3) + parameters(second, 4)
    sizes = output_sizes(first, 50)
    assert output_sizes(first + second, 50) == sizes + output_sizes(second, sizes[-1])
    assert flops(first + second, 3, 50) == flops(first, 3, 50) + flops(second, 4, sizes[-1])
    assert receptive_field([]) == ReceptiveField(1, 1, 0)


def test_parameters_and_flops_by_hand():
    assert parameters([Conv(8, (3, 5), groups=2)], 4) == 8 * 2 * 3 * 5 + 8
    assert flops([Conv(8, 3, 2, 1)], 4, (10, 7)) == 2 * (8 * 5 * 4) * (4 * 3 * 3)
    assert flops([Conv(8, 3, padding=1, groups=4)], 4, 10) == 2 * (8 * 100) * (1 * 9)
    assert flops([Transposed(8, 4, 2, 1, groups=2)], 6, (5, 3)) == 2 * (6 * 15) * (4 * 16)
    assert flops([Dense(10)], 3, (4, 5)) == 2 * 10 * 60
    assert parameters([BatchNorm()], 7) == 14
    both = Branches([Conv(8, 1)], [Pool(3, 1, 1), Conv(2, 1)], [])
    assert parameters([both, Conv(1, 1)], 3) == (8 * 3 + 8) + (2 * 3 + 2) + (13 + 1)
    assert flops([Pool(2), BatchNorm(), Unpool(2), Crop(1)], 3, 10) == 0


# Modules


def nets():
    rng = np.random.default_rng(0)
    return {
        "encoder": nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False, rng=rng), nn.BatchNorm2d(4), nn.ReLU(),
            nn.MaxPool2d(2), nn.Sequential(nn.Conv2d(4, 6, 3, dilation=2, groups=2, rng=rng)),
            nn.Dropout(), nn.BatchNorm2d(6, affine=False),
        ),
        "and back": nn.Sequential(
            nn.Conv2d(3, 4, (3, 1), (2, 1), (1, 0), rng=rng), nn.MaxPool2d(3, 2, 1, 1, False, True),
            nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, 2, dilation=2, rng=rng),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", nets())
def test_a_sequential_and_its_description_agree(name):
    network = nets()[name]
    layers = anatomy.describe(network)
    assert parameters(layers, 3) == parameters(network) == sum(p.size for p in network.parameters())
    assert flops(layers, 3, (20, 23)) == flops(network, 3, (20, 23))
    with no_grad():
        y = network.eval()(Tensor(np.zeros((1, 3, 20, 23), np.float32)))
    assert output_sizes(network, (20, 23))[-1] == y.shape[2:]
    for axis in (0, 1):
        assert receptive_field(network, axis) == receptive_field(layers, axis)


def test_max_pooling_sees_what_the_receptive_field_says():
    network = nets()["encoder"].eval()
    rng = np.random.default_rng(1)
    x = Tensor(rng.standard_normal((200, 3, 24, 24)).astype(np.float32), requires_grad=True)
    y = network(x)
    dy = np.zeros(y.shape, np.float32)
    dy[:, :, 3, 4] = 1
    y.backward(dy)
    reached = x.grad.any(axis=(0, 1))  # 200 images: every pixel of a window is its maximum once
    for axis, o in ((0, 3), (1, 4)):
        pixels = np.flatnonzero(reached.any(axis=1 - axis))
        size, stride, offset = receptive_field(network)
        assert (pixels[0], len(pixels)) == (stride * o + offset, size)


@pytest.mark.parametrize("name", models.MODELS)
def test_the_parameters_of_the_networks_are_the_sizes_of_their_arrays(name):
    network = models.build(name, 3, 5, 16, 3)
    assert parameters(network) == sum(p.size for p in network.parameters())
    assert parameters(network, 3) == sum(p.data.size for _, p in network.named_parameters())


def test_the_u_net_of_this_package_is_the_list():
    network = models.build("unet", 1, 2, width=4, depth=3, padding="valid")
    layers = unet(2, width=4, depth=3, norm=[BatchNorm()])
    assert parameters(network) == parameters(layers, 1)
    framed = 30 + sum(network.frame(30))
    assert flops(network, 1, 30) == flops(layers, 1, framed)


def test_counting_flops_leaves_a_module_as_it_was():
    network = models.build("unet", 3, 5, 4, 2)
    network.encoder[0].eval()
    state = network.state_dict()
    attributes = {name: dict(vars(module)) for name, module in network.named_modules()}
    training = {name: module.training for name, module in network.named_modules()}
    first = flops(network, 3, 16)
    with pytest.raises(ValueError, match="x has 2 channels"):
        flops(network, 2, 16)
    assert flops(network, 3, 16) == first > 0
    assert all(np.array_equal(array, state[name]) for name, array in network.state_dict().items())
    for name, module in network.named_modules():
        assert vars(module) == attributes[name]
        assert module.training == training[name]


def test_a_convolution_used_twice_is_counted_twice_and_weighs_once():
    convolution = nn.Conv2d(4, 4, 3, padding=1)
    network = nn.Sequential(convolution, nn.ReLU(), convolution)
    assert flops(network, 4, 8) == 2 * flops(nn.Sequential(convolution), 4, 8)
    assert parameters(network) == 4 * 4 * 9 + 4


def test_dense_layers_of_a_module_are_counted():
    class Head(nn.Module):
        def __init__(self):
            self.linear = nn.Linear(6, 5)

        def forward(self, x):
            return self.linear(x.reshape(len(x), -1))

    assert flops(Head(), 2, (1, 3)) == flops([Dense(5)], 2, (1, 3)) == 60


def test_lists_of_layers_allocate_no_weights():
    huge = [Conv(10**6, 1001, bias=False), Conv(10**9, 101, padding=50), Dense(10**12)]
    assert parameters(huge[:1], 10**6) == 10**12 * 1001**2
    assert flops(huge, 3, 10**5) > 10**30


# Errors


class Strange(nn.Module):
    def __init__(self):
        self.kernel = nn.Parameter(np.ones((2, 3, 3, 3), np.float32))

    def forward(self, x):
        return F.conv2d(x, self.kernel)


VGG = fcn("vgg16")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: output_sizes(VGG, 64),
            r"kernel_size=\(7, 7\).*2 pixels leave no output; give a l",
        ),
        (lambda: output_sizes(VGG, 0), "output_sizes: size must be at least 1, got 0"),
        (lambda: output_sizes([Crop(5)], 10), r"Crop\(margin=5\): 10 pixels leave no output"),
        (lambda: output_sizes([Transposed(1, 2, 2, 9)], 3), "3 pixels leave no output"),
        (
            lambda: output_sizes([Conv(1, (1, 3))], 9),
            r"output_sizes: the axes differ after Conv.*tuple",
        ),
        (lambda: flops([Conv(1, (2, 2, 2))], 1, (8, 8)), "flops: .* number of axes, got 2 and 3"),
        (lambda: parameters([Conv(1, 0)], 1), "Conv: kernel_size must be at least 1, got 0"),
        (lambda: parameters([Conv(0, 1)], 1), "Conv: out_channels must be at least 1, got 0"),
        (
            lambda: output_sizes([Conv(1, 3, padding=-1)], 9),
            "Conv: padding must be at least 0, got -1",
        ),
        (
            lambda: parameters([Conv(8, 3, groups=3)], 9),
            "groups must divide the channels, 9 in and 8",
        ),
        (lambda: parameters([Dense(8)], 9), "Dense.* every pixel it sees: give the image's size"),
        (lambda: receptive_field([Conv(1, 3), Dense(8)]), "sees the whole map.*convolutional"),
        (lambda: coordinates([Dense(8)]), "sees the whole map.*convolutional"),
        (lambda: receptive_field([Conv(1, (1, 3))]), "receptive_field: .*differs along its axes"),
        (
            lambda: receptive_field([Conv(1, 3)], axis=-1),
            "receptive_field: axis must be one of 0, 1, got -1",
        ),
        (
            lambda: output_sizes([Branches([], [Pool(2)])], 8),
            r"\(8, 8\) and \(4, 4\) pixels cannot be",
        ),
        (lambda: coordinates([Branches([], [Pool(2)])]), "look at different places"),
        (lambda: crop_offset([Pool(2)], []), "from_network lie 2 apart.*to_network 1; upsample"),
        (lambda: crop_offset([Conv(1, 2)], []), "lie -1/2 pixels apart.*an even kernel"),
        (
            lambda: attention_flops((64, 64), 8, (7, 8)),
            r"windows of \(7, 8\) do not tile.*\(64, 64\)",
        ),
        (lambda: attention_flops((64, 64), 8, (8, 8, 8)), "do not tile"),
        (lambda: attention_flops(0, 8), "attention_flops: tokens must be at least 1, got 0"),
        (lambda: fcn("resnet"), "fcn: name must be one of 'alexnet', 'vgg16', 'googlenet', got"),
        (lambda: flops(Strange(), 3, 9), "flops: kernel belongs to no Conv2d"),
    ],
)
def test_a_value_that_does_not_fit_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: parameters([Conv(8, 3)]), "parameters: in_channels must be an int, got None"),
        (lambda: output_sizes([Conv(8, 3.0)], 9), "Conv: kernel_size must be an int, got 3.0"),
        (
            lambda: output_sizes([Conv(8, 3, padding="same")], 9),
            "padding must be an int, got 'same'",
        ),
        (
            lambda: output_sizes([nn.ReLU()], 9),
            "a list of layers holds Conv, Pool, Dense, ..., got",
        ),
        (lambda: receptive_field(models.build("unet", 3, 5)), "not UNet; where only forward"),
        (lambda: receptive_field(7), "list of layers or a Sequential of known Modules, not int"),
        (lambda: flops([Conv(1, 1)], 1, "large"), "flops: size must be an int, got 'large'"),
    ],
)
def test_a_thing_of_the_wrong_kind_is_named(call, words):
    with pytest.raises(TypeError, match=words):
        call()
