"""Networks: sizes, what width, depth and the options mean, reproducibility, and that they learn."""

import threading

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import models
from minseg.backend import device_of, to_numpy
from minseg.nn import Conv2d
from minseg.optim import SGD, Adam
from minseg.tensor import Tensor, no_grad

NETWORKS = {
    "fcn": ("fcn", {}),
    "fcn, 1 skip": ("fcn", {"skips": 1}),
    "fcn, 2 skips": ("fcn", {"skips": 2}),
    "fcn, dilated": ("fcn", {"dilated": True}),
    "fcn, dilated, 1 skip": ("fcn", {"dilated": True, "skips": 1}),
    "segnet": ("segnet", {}),
    "unet": ("unet", {}),
    "unet, valid": ("unet", {"padding": "valid"}),
}
every_network = pytest.mark.parametrize(("name", "options"), NETWORKS.values(), ids=NETWORKS)
# 1x1, odd, smaller than a pooling, not square, a multiple of 8, larger than one
SIZES = [(1, 1), (1, 40), (2, 3), (3, 1), (5, 5), (7, 12), (8, 8), (9, 31), (16, 24), (40, 39)]


def build(name, options, width=2, depth=3, seed=0, in_channels=2, num_classes=3):
    return models.build(name, in_channels, num_classes, width, depth, seed, **options)


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def scene(N, H, W, K=3, C=2, seed=0):
    """Images whose class shows in their first channel, and their labels, some of them void."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, K, (N, -(-H // 4), -(-W // 4))).repeat(4, 1).repeat(4, 2)[:, :H, :W]
    x = rng.standard_normal((N, C, H, W)).astype(np.float32)
    x[:, 0] += 2 * labels
    labels[:, 0, 0] = 255
    return x, labels


def record(network, monkeypatch, *parts):
    """The maps (channels, H, W) that go into and come out of those parts when the network runs."""
    maps = {}
    modules = dict(network.named_modules())
    for part in parts:

        def forward(x, part=part, original=modules[part].forward):
            y = original(x)
            maps[part] = x.data[0], y.data[0]
            return y

        monkeypatch.setattr(modules[part], "forward", forward, raising=False)
    return maps


def run(network, x):
    with no_grad():
        return network.eval()(Tensor(x)).numpy()


# Sizes


@every_network
def test_the_output_has_the_size_of_the_input_for_every_side_up_to_forty(name, options):
    network = build(name, options)
    for H in range(1, 41):
        y = run(network, image(1, 2, H, 41 - H))
        assert y.shape == (1, 3, H, 41 - H)
        assert np.isfinite(y).all()


@every_network
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_output_has_the_size_of_the_input_at_every_depth(name, options, depth):
    if "skips" in options:
        options = {
            **options,
            "skips": min(options["skips"], max(0, depth - 1 - options.get("dilated", 0))),
        }
    network = build(name, options, depth=depth)
    for H, W in SIZES:
        assert run(network, image(1, 2, H, W)).shape == (1, 3, H, W)


@every_network
def test_every_size_can_be_trained_on(name, options):
    network = build(name, options)
    for H, W in SIZES:
        x, labels = scene(2, H, W)
        labels[...] = np.where(labels == 255, 0, labels)  # at 1x1 nothing else would be left
        loss = F.cross_entropy(network.train()(Tensor(x)), labels)
        network.zero_grad()
        loss.backward()
        for path, p in network.named_parameters():
            assert p.grad is not None, path
            assert p.grad.shape == p.shape, path
            assert p.grad.dtype == np.float32, path
            assert np.isfinite(p.grad).all(), path


@every_network
def test_every_parameter_has_a_part_in_the_output(name, options):
    network = build(name, options, width=4)
    network(Tensor(image(2, 2, 24, 24))).backward(image(2, 3, 24, 24, seed=1))
    assert [path for path, p in network.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        ("fcn", {}, 8),
        ("fcn", {"skips": 2}, 8),
        ("fcn", {"dilated": True}, 4),
        ("segnet", {}, 8),
        ("unet", {}, 4),
    ],
)
def test_an_odd_image_is_filled_up_with_zeros_below_and_to_the_right(name, options, multiple):
    network = build(name, options)
    x = image(1, 2, 2 * multiple - 1, 3 * multiple + 1)
    filled = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, multiple - 1)))
    expected = run(network, filled)[:, :, :-1, : 1 - multiple]
    np.testing.assert_array_equal(run(network, x), expected)


@every_network
def test_an_image_without_a_batch_axis_gets_a_sentence(name, options):
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        build(name, options)(Tensor(image(2, 16, 16)))


@every_network
def test_a_wrong_number_of_channels_gets_a_sentence(name, options):
    with pytest.raises(ValueError, match="x has 3 channels but w expects 2"):
        build(name, options)(Tensor(image(1, 3, 16, 16)))


# Width, depth, parameters


def block(C, O, times=2):
    """Numbers in conv_block: 3x3 kernels without bias, scale and shift of batch normalisation."""
    return 9 * C * O + 9 * O * O * (times - 1) + 2 * O * times


def by_formula(name, options, width, depth, C, K):
    c = [width * 2**n for n in range(depth + 1)]
    if name == "unet":
        down = block(C, c[0]) + sum(block(c[n - 1], c[n]) for n in range(1, depth))
        up = sum(4 * c[n] * c[n - 1] + c[n - 1] + block(c[n], c[n - 1]) for n in range(1, depth))
        return down + up + c[0] * K + K
    if name == "segnet":
        down = block(C, c[0]) + sum(block(c[n - 1], c[n]) for n in range(1, depth))
        up = sum(block(c[n], c[n - 1]) for n in range(1, depth)) + block(c[0], c[0])
        return down + up + c[0] * K + K
    skips, poolings = options.get("skips", 0), depth - options.get("dilated", False)
    down = block(C, c[0]) + sum(block(c[n - 1], c[n]) for n in range(1, depth + 1))
    scores = c[depth] * K + K + sum(c[poolings - 1 - n] * K + K for n in range(skips))
    strides = [2] * skips + [2 ** (poolings - skips)]
    # A bilinear kernel is twice as wide as its stride; stride 1 needs one number.
    return down + scores + sum(K * K * (2 * s - s % 2) ** 2 for s in strides)


def count(network):
    return sum(p.size for p in network.parameters())


@every_network
@pytest.mark.parametrize(("width", "depth"), [(1, 3), (3, 2), (4, 4), (16, 3)])
def test_parameters_are_as_many_as_the_formula_says(name, options, width, depth):
    if options.get("skips", 0) > depth - 1 - options.get("dilated", False):
        options = {**options, "skips": 0}
    network = build(name, options, width, depth, in_channels=3, num_classes=5)
    assert count(network) == by_formula(name, options, width, depth, 3, 5)


@pytest.mark.parametrize(
    ("name", "options", "C", "K", "parameters"),
    [
        # 2,800 + 13,952 + 55,552 down, 8,224 + 2,064 and 27,776 + 6,976 up, 187 for the head
        ("unet", {}, 3, 11, 117_531),
        ("unet", {"padding": "valid"}, 3, 11, 117_531),
        # 2,800 + 13,952 + 55,552 + 221,696 down, 645 for the scores, 25 kernels of 16x16
        ("fcn", {}, 3, 5, 301_045),
        # two more scores (325 + 165), 25 kernels of 4x4 three times instead
        ("fcn", {"skips": 2}, 3, 5, 296_335),
        # 72,304 down, 27,776 + 6,976 + 4,672 up, 85 for the head, and nothing for unpooling
        ("segnet", {}, 3, 5, 111_813),
    ],
)
def test_width_16_depth_3_has_so_many_parameters(name, options, C, K, parameters):
    assert count(build(name, options, 16, 3, 0, C, K)) == parameters


@pytest.mark.parametrize(
    ("name", "options", "maps"),
    [
        ("fcn", {}, [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 4, 4)]),
        ("fcn", {"dilated": True}, [(4, 32, 32), (8, 16, 16), (16, 8, 8), (32, 8, 8)]),
        ("segnet", {}, [(4, 32, 32), (8, 16, 16), (16, 8, 8)]),
        ("unet", {}, [(4, 32, 32), (8, 16, 16), (16, 8, 8)]),
    ],
)
def test_width_is_the_channels_of_the_first_map_and_doubles_depth_times(
    name, options, maps, monkeypatch
):
    network = build(name, options, width=4, depth=3)
    parts = [f"encoder.{n}" for n in range(len(maps))]
    recorded = record(network, monkeypatch, *parts)
    run(network, image(1, 2, 32, 32))
    assert [recorded[part][1].shape for part in parts] == maps
    assert f"encoder.{len(maps)}" not in dict(network.named_modules())


def test_segnet_s_unpooling_has_no_parameters():
    network = build("segnet", {})
    paths = {path.split(".")[0] for path, _ in network.named_parameters()}
    assert paths == {"encoder", "decoder", "head"}
    for path, p in network.named_parameters():  # convolutions and batch normalisation, nothing else
        assert p.shape[2:] in {(3, 3), ()} or path == "head.weight"


def test_a_convolution_before_batch_normalisation_has_no_bias():
    for name, options in NETWORKS.values():
        for path, module in build(name, options).named_modules():
            if isinstance(module, Conv2d):
                assert (module.bias is None) == path.startswith(("encoder", "decoder")), path


# FCN


@pytest.mark.parametrize(
    ("skips", "dilated", "stride"),
    [(0, False, 8), (1, False, 4), (2, False, 2), (0, True, 4), (1, True, 2)],
)
def test_fcn_skips_0_1_2_have_output_strides_8_4_2(skips, dilated, stride, monkeypatch):
    network = build("fcn", {"skips": skips, "dilated": dilated})
    maps = record(network, monkeypatch, *(f"up.{n}" for n in range(skips + 1)))
    run(network, image(1, 2, 48, 32))
    # Each skip doubles the scores; what is left is upsampled in one go.
    sides = [48 // stride // 2 ** (skips - n) for n in range(skips + 1)] + [48]
    for n in range(skips + 1):
        before, after = maps[f"up.{n}"]
        assert before.shape == (3, sides[n], sides[n] * 32 // 48)
        assert after.shape == (3, sides[n + 1], sides[n + 1] * 32 // 48)
    assert f"up.{skips + 1}" not in dict(network.named_modules())


def test_an_untrained_fcn_upsamples_its_scores_bilinearly():
    network = build("fcn", {})
    x = image(1, 2, 48, 40)
    y = run(network, x)
    with no_grad():
        z = Tensor(x)
        for number, part in enumerate(network.encoder):
            z = part(z if number == 0 else F.max_pool2d(z, 2))
        scores = network.score[0](z).numpy()
    assert scores.shape == (1, 3, 6, 5)
    expected = F.interpolate(scores, scale_factor=8, mode="bilinear", align_corners=False)
    inside = (..., slice(8, -8), slice(8, -8))
    np.testing.assert_allclose(y[inside], expected[inside], atol=1e-5)


def test_a_dilated_fcn_leaves_every_second_pixel_out_in_its_last_block_alone():
    network = build("fcn", {"dilated": True}).eval()
    for p in network.parameters():  # nothing cancels and relu hides nothing
        p.data = np.abs(p.data)
    for block, step in zip(network.encoder, (1, 1, 1, 2), strict=True):
        x = np.zeros((1, block[0].weight.shape[1], 17, 17), np.float32)
        x[:, :, 8, 8] = 1
        seen = np.flatnonzero(block(x).numpy().any(axis=(0, 1, 2)))
        assert seen.tolist() == [8 + step * n for n in (-2, -1, 0, 1, 2)]


def test_a_skip_adds_the_scores_of_the_finer_map():
    network = build("fcn", {"skips": 2})
    x = image(1, 2, 16, 16)
    y = run(network, x)
    for skip in (
        1,
        2,
    ):  # a finer map's bias reaches the output, at the weight of bilinear upsampling
        network.score[skip].bias.data += 1
        raised = run(network, x)
        inside = (raised - y)[..., 6:-6, 6:-6]
        np.testing.assert_allclose(inside, np.ones_like(inside), atol=1e-5)
        y = raised


@pytest.mark.parametrize(
    ("options", "depth", "sentence"),
    [
        ({"skips": 3}, 3, r"FCN: skips must lie in 0\.\.2 with 3 poolings, got 3"),
        ({"skips": -1}, 3, r"FCN: skips must lie in 0\.\.2 with 3 poolings, got -1"),
        ({"skips": 2, "dilated": True}, 3, r"FCN: skips must lie in 0\.\.1 with 2 poolings, got 2"),
        ({"skips": 1}, 1, r"FCN: skips must lie in 0\.\.0 with 1 poolings, got 1"),
    ],
)
def test_more_skips_than_maps_get_a_sentence(options, depth, sentence):
    with pytest.raises(ValueError, match=sentence):
        build("fcn", options, depth=depth)


# U-Net


def test_the_paper_s_valid_u_net_takes_572_to_388(monkeypatch):
    network = build("unet", {"padding": "valid"}, width=1, depth=5, in_channels=1, num_classes=2)
    encoder, decoder = [f"encoder.{n}" for n in range(5)], [f"decoder.{n}" for n in range(4)]
    maps = record(network, monkeypatch, *encoder, *decoder)
    with no_grad():
        y = network.eval().unpadded(Tensor(image(1, 1, 572, 572)))
    assert y.shape == (1, 2, 388, 388)
    # figure 1: into and out of each pair of convolutions
    assert [tuple(len(x[0]) for x in maps[part]) for part in encoder] == [
        (572, 568), (284, 280), (140, 136), (68, 64), (32, 28),
    ]  # fmt: skip
    assert [tuple(len(x[0]) for x in maps[part]) for part in decoder] == [
        (56, 52), (104, 100), (200, 196), (392, 388),
    ]  # fmt: skip


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_the_decoder_sees_the_middle_of_the_encoder_s_map_and_then_what_came_up(
    padding, monkeypatch
):
    network = build("unet", {"padding": padding}, depth=4)
    n = next(n for n in range(90, 200, 2) if network.output_size(n))
    parts = [f"encoder.{n}" for n in range(4)]
    parts += [f"{half}.{n}" for n in range(3) for half in ("up", "decoder")]
    maps = record(network, monkeypatch, *parts)
    with no_grad():
        network.eval().unpadded(Tensor(image(1, 2, n, n)))
    for number in range(3):
        skip, came_up = maps[f"encoder.{2 - number}"][1], maps[f"up.{number}"][1]
        border = (skip.shape[1] - came_up.shape[1]) // 2
        assert border == {"same": (0, 0, 0), "valid": (4, 16, 40)}[padding][number]
        middle = skip[:, border : skip.shape[1] - border, border : skip.shape[1] - border]
        np.testing.assert_array_equal(
            maps[f"decoder.{number}"][0], np.concatenate([middle, came_up])
        )


def test_the_smallest_image_of_the_paper_s_u_net_is_188_and_gives_4():
    network = build("unet", {"padding": "valid"}, width=1, depth=5, in_channels=1, num_classes=2)
    with no_grad():
        assert network.eval().unpadded(Tensor(image(1, 1, 188, 204))).shape == (1, 2, 4, 20)
    assert [n for n in range(1, 221) if network.output_size(n)] == [188, 204, 220]
    for n in (172, 187, 196, 571):
        with pytest.raises(
            ValueError, match=rf"UNet: an image of \({n}, 188\) does not halve evenly"
        ):
            network.unpadded(Tensor(image(1, 1, n, 188)))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_output_size_is_the_size_of_unpadded_s_output(depth):
    for padding in ("same", "valid"):
        network = build("unet", {"padding": padding}, width=1, depth=depth)
        sizes = [n for n in range(1, 110) if network.output_size(n)]
        for n in (sizes[0], sizes[1], sizes[-1]):
            with no_grad():
                y = network.eval().unpadded(Tensor(image(1, 2, n, sizes[0])))
            assert y.shape[2:] == (network.output_size(n), network.output_size(sizes[0]))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_valid_u_net_sees_what_a_same_u_net_sees_away_from_the_border(depth):
    same, valid = (build("unet", {"padding": p}, depth=depth) for p in ("same", "valid"))
    valid.load_state_dict(same.state_dict())
    n = 68
    # The valid net pools from pixel 4 of its image on, counted at each resolution: so that both pool
    # the same pairs of pixels, its image begins at pixel 2 of the other's.
    start = 2 if depth > 1 else 0
    x = image(1, 2, 72, 72)
    with no_grad():
        inner = valid.eval().unpadded(Tensor(x[..., start : start + n, start : start + n])).numpy()
    first = start + (n - inner.shape[2]) // 2
    outer = run(same, x)[..., first : first + inner.shape[2], first : first + inner.shape[2]]
    assert inner.size
    np.testing.assert_allclose(inner, outer, rtol=1e-4, atol=1e-5)


def test_a_valid_u_net_frames_the_image_so_that_the_output_lies_where_the_image_was():
    network = build("unet", {"padding": "valid"}, depth=2)
    x = image(1, 2, 9, 14)
    (above, below), (left, right) = network.frame(9), network.frame(14)
    framed = np.pad(x, ((0, 0), (0, 0), (above, below), (left, right)))
    with no_grad():
        y = network.eval().unpadded(Tensor(framed)).numpy()
    assert above == (framed.shape[2] - y.shape[2]) // 2  # output row 0 is image row 0
    np.testing.assert_array_equal(run(network, x), y[:, :, :9, :14])


# Building


@every_network
def test_a_seed_gives_the_same_network_and_another_seed_another(name, options):
    before = np.random.get_state()[1].copy()
    first, again, other = (build(name, options, seed=seed).state_dict() for seed in (3, 3, 4))
    assert first.keys() == again.keys() == other.keys()
    for path, array in first.items():
        np.testing.assert_array_equal(array, again[path], err_msg=path)
    for path, array in first.items():
        drawn = array.ndim == 4 and not (name == "fcn" and path.startswith("up."))
        assert np.array_equal(array, other[path]) != drawn, path
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@every_network
def test_a_state_dict_makes_another_network_the_same(name, options):
    first, other = build(name, options, seed=1), build(name, options, seed=2)
    x = image(2, 2, 13, 10)
    first(Tensor(x))  # running statistics that are not the initial ones
    other.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(run(other, x), run(first, x))


@pytest.mark.parametrize(
    ("arguments", "options", "sentence"),
    [
        (("vgg", 3, 5), {}, "models.build: name must be one of fcn, segnet, unet, got 'vgg'"),
        (("unet", 3, 5), {"skips": 1}, "skips"),
        (
            ("unet", 3, 5),
            {"padding": "full"},
            "UNet: padding must be one of 'same', 'valid', got 'full'",
        ),
        (("unet", 3, 5, 0), {}, "UNet: width must be at least 1, got 0"),
        (("fcn", 3, 5, 16, 0), {}, "FCN: depth must be at least 1, got 0"),
        (("segnet", 3, 0), {}, "SegNet: num_classes must be at least 1, got 0"),
        (("fcn", 3, 5), {"skips": 1.0}, "FCN: skips must be an int, got 1.0"),
        (("unet", 0, 5), {}, "in_channels must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_built_gets_a_sentence(arguments, options, sentence):
    with pytest.raises((TypeError, ValueError)) as caught:
        models.build(*arguments, **options)
    assert sentence in str(caught.value)


# Training


@every_network
def test_running_statistics_move_in_training_only(name, options):
    network = build(name, options)
    x = image(2, 2, 16, 16) * 3 + 1
    before = dict(network.state_dict())
    run(network, x)
    for path, array in network.state_dict().items():
        np.testing.assert_array_equal(array, before[path], err_msg=path)
    network.train()(Tensor(x))
    buffers = {path for path, _ in network.named_buffers()}
    assert {path.rsplit(".", 1)[1] for path in buffers} == {
        "running_mean", "running_var", "num_batches_tracked",
    }  # fmt: skip
    for path, array in network.state_dict().items():
        assert np.array_equal(array, before[path]) == (path not in buffers), path


def train(name, options, steps, kind=Adam, size=32, width=8, xp=np, **settings):
    """Weights and losses after so many steps on one batch."""
    x, labels = scene(4, size, size)
    network = build(name, options, width)
    network.to(device_of(xp.asarray(x)))
    optimizer = kind(network.parameters(), **settings)
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(network(Tensor(xp.asarray(x))), xp.asarray(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return network.state_dict(), losses


@every_network
def test_ten_steps_on_one_scene_lower_the_loss(name, options):
    _, losses = train(name, options, 11, size=16, width=4, lr=0.01)
    assert losses[10] < 0.8 * losses[0]


@every_network
def test_the_same_seed_gives_the_same_bits_run_twice_and_with_one_and_two_threads(name, options):
    threads = minseg.get_num_threads()
    results = []
    try:
        for number in (1, 2, 2):
            minseg.set_num_threads(number)
            results.append(train(name, options, 5, lr=0.01))
        names = [thread.name for thread in threading.enumerate()]
        assert [name for name in names if name.startswith("minseg")]  # the work was shared indeed
    finally:
        minseg.set_num_threads(threads)
    (state, losses), *others = results
    for other, other_losses in others:
        assert other_losses == losses
        for path, array in state.items():
            np.testing.assert_array_equal(other[path], array, err_msg=path)


@every_network
def test_training_on_every_device_gives_the_same_weights(name, options, xp):
    settings = {"size": 8, "width": 2, "kind": SGD, "lr": 0.05, "momentum": 0.9}
    expected, expected_losses = train(name, options, 3, **settings)
    got, losses = train(name, options, 3, xp=xp, **settings)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    for path, array in got.items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-3, atol=1e-4, err_msg=path)


@every_network
@pytest.mark.parametrize("training", [True, False])
def test_the_gradient_of_a_network_is_its_slope_in_a_random_direction(name, options, training):
    rng = np.random.default_rng(5)
    network = build(name, options, width=4).train(training)
    x, labels = scene(2, 16, 16)
    x = x.astype(np.float64)
    for p in network.parameters():
        p.data = p.data.astype(np.float64)
    for _, module in network.named_modules():
        for buffer in ("running_mean", "running_var"):
            if hasattr(module, buffer):
                setattr(module, buffer, getattr(module, buffer).astype(np.float64))
    # Away from the start, where biases are 0 and a relu of nothing but zeros sits on its kink.
    start = [p.data + 0.1 * rng.standard_normal(p.shape) for p in network.parameters()]
    directions = [rng.standard_normal(p.shape) for p in network.parameters()]

    def loss(step):
        for p, w, direction in zip(network.parameters(), start, directions, strict=True):
            p.data = w + step * direction
        return F.cross_entropy(network(Tensor(x)), labels)

    eps = 1e-7  # small, so that no relu or maximum changes sides on the way
    slope = (loss(eps).item() - loss(-eps).item()) / (2 * eps)
    loss(0.0).backward()
    expected = sum(
        np.vdot(p.grad, direction)
        for p, direction in zip(network.parameters(), directions, strict=True)
    )
    assert slope == pytest.approx(expected, rel=1e-6)


def test_no_grad_keeps_no_notes_of_a_network():
    network = build("unet", {})
    with no_grad():
        y = network(Tensor(image(1, 2, 8, 8)))
    assert not y.requires_grad
    assert to_numpy(y.data).shape == (1, 3, 8, 8)
