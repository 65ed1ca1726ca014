"""Layers: each is its op with its own weights, and its weights are PyTorch's by name and shape."""

import inspect

import numpy as np
import pytest

import minseg.functional as F
from minseg import nn
from minseg.backend import device_of, to_numpy
from minseg.tensor import Tensor


def image(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def seeded():
    return np.random.default_rng(7)


def small_network(layers=nn, **options):
    """Convolution, batch normalisation, pooling and both upsamplings; the same text for torch.nn."""
    return layers.Sequential(
        layers.Sequential(
            layers.Conv2d(
                4, 6, (3, 2), stride=(2, 1), padding=1, dilation=(1, 2), groups=2, **options
            ),
            layers.BatchNorm2d(6, eps=1e-3, momentum=0.2),
            layers.ReLU(),
        ),
        layers.MaxPool2d(2, stride=1, padding=1),
        layers.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2, **options),
        layers.BatchNorm2d(4, affine=False),
        layers.Dropout(0.5, **options),
        layers.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        layers.Linear(32, 3, **options),
    )


# What a layer is built from, and its state_dict: the same for minseg.nn and torch.nn.
STATE_DICTS = [
    ("Linear", (3, 5), {}, {"weight": (5, 3), "bias": (5,)}),
    ("Linear", (3, 5, False), {}, {"weight": (5, 3)}),
    ("Conv2d", (4, 6, (3, 5)), {"groups": 2}, {"weight": (6, 2, 3, 5), "bias": (6,)}),
    ("Conv2d", (4, 6, 1), {"bias": False}, {"weight": (6, 4, 1, 1)}),
    ("ConvTranspose2d", (4, 6, (3, 2), 2), {"groups": 2}, {"weight": (4, 3, 3, 2), "bias": (6,)}),
    ("ConvTranspose2d", (4, 6, 2), {"bias": False}, {"weight": (4, 6, 2, 2)}),
    (
        "BatchNorm2d", (4,), {},
        {"weight": (4,), "bias": (4,), "running_mean": (4,), "running_var": (4,),
         "num_batches_tracked": ()},
    ),
    (
        "BatchNorm2d", (4,), {"affine": False},
        {"running_mean": (4,), "running_var": (4,), "num_batches_tracked": ()},
    ),
    ("ReLU", (), {}, {}),
    ("MaxPool2d", (2,), {}, {}),
    ("MaxUnpool2d", (2,), {}, {}),
    ("Upsample", (), {"scale_factor": 2}, {}),
    ("Dropout", (), {}, {}),
]  # fmt: skip


def shapes(state):
    return {name: tuple(array.shape) for name, array in state.items()}


@pytest.mark.parametrize(("name", "args", "options", "expected"), STATE_DICTS)
def test_state_dict_has_the_names_and_shapes_of_the_table(name, args, options, expected):
    assert shapes(getattr(nn, name)(*args, **options).state_dict()) == expected


@pytest.mark.parametrize(("name", "args", "options", "expected"), STATE_DICTS)
def test_the_table_of_names_and_shapes_is_pytorchs(name, args, options, expected):
    torch = pytest.importorskip("torch")
    assert shapes(getattr(torch.nn, name)(*args, **options).state_dict()) == expected


@pytest.mark.parametrize("name", sorted({row[0] for row in STATE_DICTS}))
def test_a_layers_arguments_come_in_pytorchs_order_with_its_defaults(name):
    torch = pytest.importorskip("torch")

    def positional(layer):
        parameters = inspect.signature(layer).parameters.values()
        return [(p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]

    mine = positional(getattr(nn, name))
    theirs = positional(getattr(torch.nn, name))
    assert mine == theirs[: len(mine)]


@pytest.mark.parametrize("training", [True, False])
def test_weights_carried_over_from_pytorch_give_pytorchs_outputs(training):
    torch = pytest.importorskip("torch")
    theirs = small_network(torch.nn)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in theirs.state_dict().values():
            if tensor.is_floating_point():  # variances, too, must be above 0
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    theirs[4].p = 0.0  # no two libraries drop the same numbers
    mine = small_network(rng=seeded())
    mine[4].p = 0.0
    mine.load_state_dict(theirs.state_dict())
    x = image(2, 4, 9, 7)
    theirs.train(training)
    mine.train(training)
    np.testing.assert_allclose(
        mine(Tensor(x)).numpy(), theirs(torch.from_numpy(x)).detach().numpy(), rtol=1e-5, atol=1e-5
    )
    after = theirs.state_dict()
    assert mine.state_dict().keys() == after.keys()
    for name, array in mine.state_dict().items():
        np.testing.assert_allclose(array, after[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_weights_carry_over_to_pytorch_and_back_unchanged():
    torch = pytest.importorskip("torch")
    mine, theirs = small_network(rng=seeded()), small_network(torch.nn)
    sent = mine.state_dict()
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in sent.items()})
    again = small_network(rng=np.random.default_rng(8))
    again.load_state_dict(theirs.state_dict())
    for name, array in again.state_dict().items():
        np.testing.assert_array_equal(array, sent[name], err_msg=name)
        assert array.dtype == sent[name].dtype


LAYERS = {
    "Linear": (
        nn.Linear(5, 3, rng=seeded()),
        (2, 4, 5),
        lambda m, x: F.linear(x, m.weight, m.bias),
    ),
    "Conv2d": (
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2, rng=seeded()),
        (2, 4, 7, 6),
        lambda m, x: F.conv2d(x, m.weight, m.bias, (2, 1), (1, 0), (1, 2), 2),
    ),
    "Conv2d, same, no bias": (
        nn.Conv2d(4, 6, 4, padding="same", bias=False, rng=seeded()),
        (2, 4, 7, 6),
        lambda m, x: F.conv2d(x, m.weight, padding="same"),
    ),
    "ConvTranspose2d": (
        nn.ConvTranspose2d(4, 6, (3, 2), (3, 2), (1, 0), (2, 1), 2, True, (1, 2), rng=seeded()),
        (2, 4, 5, 3),
        lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, (3, 2), (1, 0), (2, 1), 2, (1, 2)),
    ),
    "ReLU": (nn.ReLU(), (2, 4, 5, 3), lambda m, x: F.relu(x)),
    "MaxPool2d": (
        nn.MaxPool2d((2, 3), 2, (1, 0), (1, 2), ceil_mode=True),
        (2, 4, 9, 8),
        lambda m, x: F.max_pool2d(x, (2, 3), 2, (1, 0), (1, 2), ceil_mode=True),
    ),
    "Upsample, nearest": (
        nn.Upsample(scale_factor=2.5),
        (2, 4, 5, 3),
        lambda m, x: F.interpolate(x, scale_factor=2.5),
    ),
    "Upsample, bilinear": (
        nn.Upsample((7, 4), mode="bilinear", align_corners=True),
        (2, 4, 5, 3),
        lambda m, x: F.interpolate(x, (7, 4), mode="bilinear", align_corners=True),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_its_op_with_its_own_weights(name):
    layer, shape, op = LAYERS[name]
    x, again = (Tensor(image(*shape), requires_grad=True) for _ in range(2))
    layer.zero_grad()
    y = layer(x)
    y.backward(image(*y.shape, seed=1))
    gradients = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    expected = op(layer, again)
    expected.backward(image(*y.shape, seed=1))
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    np.testing.assert_array_equal(x.grad, again.grad)
    for gradient, parameter in zip(gradients, layer.parameters(), strict=True):
        assert gradient.shape == parameter.shape
        assert gradient.dtype == y.dtype == np.float32
        np.testing.assert_array_equal(gradient, parameter.grad)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_its_op_with_its_own_weights_and_running_statistics(affine):
    layer = nn.BatchNorm2d(3, 1e-3, 0.3, affine)
    if affine:
        layer.weight.data, layer.bias.data = image(3), image(3, seed=1)
    mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
    for step in range(3):
        x = image(2, 3, 4, 5, seed=step) * 3 + 1
        expected = F.batch_norm(x, mean, var, layer.weight, layer.bias, True, 0.3, 1e-3)
        np.testing.assert_array_equal(_values(layer(Tensor(x))), _values(expected))
        np.testing.assert_array_equal(layer.running_mean, mean)
        np.testing.assert_array_equal(layer.running_var, var)
        assert layer.num_batches_tracked == step + 1
    kept = layer.eval().state_dict()
    expected = F.batch_norm(x, mean, var, layer.weight, layer.bias, False, 0.3, 1e-3)
    np.testing.assert_array_equal(_values(layer(Tensor(x))), _values(expected))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, kept[name], err_msg=name)


def _values(y):
    return y.numpy() if isinstance(y, Tensor) else y


def test_unpooling_puts_the_maxima_back_where_pooling_found_them():
    x = image(2, 3, 7, 6)
    y, indices = nn.MaxPool2d(2, return_indices=True)(Tensor(x))
    back = nn.MaxUnpool2d(2)(y, indices, (7, 6)).numpy()
    assert np.count_nonzero(back) == y.size
    np.testing.assert_array_equal(back[back != 0], x[back != 0])


# Chance


@pytest.mark.parametrize(
    ("layer", "fan_in", "fan_out"),
    [
        (lambda init: nn.Linear(100, 400, init=init, rng=seeded()), 100, 400),
        (lambda init: nn.Conv2d(64, 32, 3, init=init, rng=seeded()), 64 * 9, 32 * 9),
        (lambda init: nn.Conv2d(64, 128, 3, groups=4, init=init, rng=seeded()), 16 * 9, 32 * 9),
        # One output pixel in four hears from each tap of a kernel of stride 2.
        (lambda init: nn.ConvTranspose2d(64, 32, 4, 2, init=init, rng=seeded()), 64 * 4, 32 * 16),
    ],
    ids=["linear", "conv", "grouped conv", "transposed conv"],
)
def test_he_and_xavier_weights_have_mean_zero_and_the_papers_variance(layer, fan_in, fan_out):
    for init, variance in (("he", 2 / fan_in), ("xavier", 2 / (fan_in + fan_out))):
        w = layer(init).weight.data
        assert w.dtype == np.float32
        # n normal numbers: their variance is known to within sqrt(2 / n), their mean to sqrt(1 / n)
        assert np.var(w) == pytest.approx(variance, rel=5 * np.sqrt(2 / w.size))
        assert abs(np.mean(w)) < 5 * np.sqrt(variance / w.size)


def test_he_keeps_the_size_of_a_signal_through_twenty_layers_with_relu():
    rng = seeded()
    x = rng.standard_normal((64, 256)).astype(np.float32)
    size = np.mean(x**2)
    for _ in range(20):
        x = F.relu(nn.Linear(256, 256, rng=rng)(x)).numpy()
    assert size / 2 < 2 * np.mean(x**2) < size * 4  # relu halves it, the next layer doubles it


def test_he_keeps_the_size_of_a_signal_through_a_transposed_convolution_of_any_stride():
    x = image(8, 64, 12, 12)
    for size, stride in ((4, 1), (4, 2), (3, 3), (2, 2), (8, 4)):
        y = nn.ConvTranspose2d(64, 64, size, stride, rng=seeded())(x).numpy()
        inside = y[..., size:-size, size:-size]
        assert np.mean(inside**2) == pytest.approx(2, rel=0.2), (size, stride)


def test_biases_begin_at_zero_and_batch_norm_as_the_identity():
    for layer in (nn.Linear(3, 2), nn.Conv2d(3, 2, 3), nn.ConvTranspose2d(3, 2, 3)):
        np.testing.assert_array_equal(layer.bias.data, np.zeros(2, np.float32))
    x = image(2, 3, 4, 4)
    np.testing.assert_allclose(nn.BatchNorm2d(3).eval()(x).numpy(), x, rtol=1e-5)


def test_the_same_generator_gives_the_same_weights_and_none_gives_new_ones():
    def weights(rng):
        return nn.Conv2d(3, 4, 3, rng=rng).weight.data

    np.testing.assert_array_equal(weights(seeded()), weights(seeded()))
    rng = seeded()
    assert not np.array_equal(weights(rng), weights(rng))
    assert not np.array_equal(weights(None), weights(None))


def test_dropout_with_a_seed_drops_the_same_numbers_and_new_ones_each_time():
    x = np.ones((50, 40), np.float32)

    def two_masks():
        layer = nn.Dropout(0.3, rng=seeded())
        return layer(x), layer(x)

    (first, second), (again, _) = two_masks(), two_masks()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)
    np.testing.assert_allclose(np.unique(first), [0, 1 / 0.7], rtol=1e-6)
    assert np.mean(first == 0) == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / x.size))


def test_dropout_does_nothing_in_evaluation_and_consumes_no_chance():
    layer = nn.Dropout(0.3, rng=seeded()).eval()
    x = image(4, 5)
    np.testing.assert_array_equal(layer(x), x)
    assert layer.rng.bit_generator.state == seeded().bit_generator.state


# Bilinear beginnings


@pytest.mark.parametrize("s", [1, 2, 4, 8])
def test_bilinear_init_of_size_2s_minus_1_is_exactly_interpolation_with_align_corners(s):
    up = nn.ConvTranspose2d(3, 3, 2 * s - 1, s, padding=s - 1, bias=False, init="bilinear")
    x = np.random.default_rng(0).integers(-8, 9, (2, 3, 5, 4)).astype(np.float32)
    size = (4 * s + 1, 3 * s + 1)
    expected = F.interpolate(x, size, mode="bilinear", align_corners=True)
    np.testing.assert_array_equal(up(x).numpy(), expected)  # weights are multiples of 1/s^2: exact


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("s", [2, 3, 4, 5, 8])
def test_bilinear_init_of_the_fcn_release_is_interpolation_away_from_the_border(s, groups):
    up = nn.ConvTranspose2d(
        3, 3, 2 * s - s % 2, s, padding=s // 2, groups=groups, bias=False, init="bilinear"
    )
    x = image(2, 3, 5, 4)
    y, expected = up(x).numpy(), F.interpolate(x, scale_factor=s, mode="bilinear")
    assert y.shape == expected.shape
    inside = (..., slice(s, -s), slice(s, -s))
    np.testing.assert_allclose(y[inside], expected[inside], rtol=0, atol=1e-6)
    assert not np.allclose(y, expected, atol=1e-3)  # at the border it mixes in zeros


# The state of a module


def test_named_parameters_come_in_the_order_the_network_was_written():
    class Net(nn.Module):
        def __init__(self):
            self.stem = nn.Conv2d(1, 2, 3)
            self.scale = nn.Parameter(np.ones(1, np.float32))
            self.blocks = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(12)))
            self.norm = nn.BatchNorm2d(2)

    net = Net()
    names = [name for name, _ in net.named_parameters()]
    # A module's own parameters come first, then those of its parts.
    assert names == [
        "scale", "stem.weight", "stem.bias",
        *(f"blocks.{n}.weight" for n in range(12)),
        "norm.weight", "norm.bias",
    ]  # fmt: skip
    assert [name for name, _ in net.named_buffers()] == [
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked",
    ]  # fmt: skip
    assert [id(p) for p in net.parameters()] == [id(p) for _, p in net.named_parameters()]
    assert set(net.state_dict()) == {*names, *(name for name, _ in net.named_buffers())}


def test_named_modules_have_dotted_names_and_begin_with_the_module_itself():
    net = small_network(rng=seeded())
    modules = dict(net.named_modules())
    assert modules[""] is net
    assert modules["0.1"] is net[0][1]
    assert list(modules) == ["", "0", "0.0", "0.1", "0.2", "1", "2", "3", "4", "5", "6"]


def test_sequential_numbers_its_parts_and_runs_them_in_order():
    parts = [nn.Linear(2, 3, rng=seeded()), nn.ReLU(), nn.Linear(3, 1, rng=seeded())]
    net = nn.Sequential(*parts)
    assert len(net) == 3
    assert list(net) == parts
    assert net[0] is parts[0]
    assert net[-1] is parts[2]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    x = image(4, 2)
    np.testing.assert_array_equal(net(x).numpy(), parts[2](parts[1](parts[0](x))).numpy())
    np.testing.assert_array_equal(nn.Sequential()(x), x)


def test_train_and_eval_reach_every_part_and_give_the_module_back():
    net = small_network(rng=seeded())
    assert all(module.training for _, module in net.named_modules())
    assert net.eval() is net
    assert not any(module.training for _, module in net.named_modules())
    assert net.train() is net
    assert all(module.training for _, module in net.named_modules())
    assert nn.ReLU().training  # and nobody else's


def test_gradients_add_up_until_zero_grad_forgets_them():
    layer = nn.Linear(3, 2, rng=seeded())
    x = image(4, 3)
    layer(x).sum().backward()
    once = [p.grad.copy() for p in layer.parameters()]
    layer(x).sum().backward()
    for gradient, p in zip(once, layer.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, 2 * gradient)
    layer.zero_grad()
    assert [p.grad for p in layer.parameters()] == [None, None]


def test_state_dict_is_a_copy_and_loading_it_copies_again():
    one, two = small_network(rng=seeded()), small_network(rng=np.random.default_rng(1))
    state = one.state_dict()
    two.load_state_dict(state)
    for array in state.values():
        array[...] = 5
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[name], array, err_msg=name)
        assert not np.all(array == 5)


def test_load_state_dict_lists_everything_that_does_not_fit_and_changes_nothing():
    net = small_network(rng=seeded())
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    del state["0.0.bias"]
    state["0.0.weight"] = state["0.0.weight"][:3]
    state["6.weight"] = np.zeros(())
    state["extra"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"load_state_dict: ") as caught:
        net.load_state_dict(state)
    for problem in (
        "0.0.bias is missing",
        "extra is unknown",
        "0.0.weight is (3, 2, 3, 2) but should be (6, 2, 3, 2)",
        "6.weight is () but should be (3, 32)",
    ):
        assert problem in str(caught.value)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_load_state_dict_counts_what_it_has_no_room_to_list():
    net = small_network(rng=seeded())
    with pytest.raises(
        ValueError, match=rf"0.0.weight is missing.*, and {len(net.state_dict()) - 5} more$"
    ):
        net.load_state_dict({})


def test_load_state_dict_changes_nothing_when_an_array_holds_no_numbers():
    net = nn.BatchNorm2d(2)
    before = net.state_dict()
    state = {name: array + 1 for name, array in before.items()}
    state["running_var"] = np.array(["one", "two"])
    with pytest.raises((TypeError, ValueError)):
        net.load_state_dict(state)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_loaded_arrays_take_the_networks_own_type():
    layer = nn.Linear(3, 2, rng=seeded())
    layer.load_state_dict({name: a.astype(np.float64) for name, a in layer.state_dict().items()})
    assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float32)}


def test_a_network_on_the_device_computes_what_it_computes_on_the_host(xp):
    host, there = small_network(rng=seeded()), small_network(rng=seeded())
    device = device_of(xp.asarray(np.zeros(1)))
    assert there.to(device) is there
    x, dy = image(2, 4, 9, 7), None
    results = []
    for net, move in ((host, np.asarray), (there, xp.asarray)):
        y = net(Tensor(move(x)))
        dy = image(*y.shape, seed=1)
        y.backward(move(dy))
        assert {device_of(p.grad) for p in net.parameters()} == {device_of(y.data)}
        results.append([to_numpy(y.data), *(to_numpy(p.grad) for p in net.parameters())])
    for expected, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    for name, array in there.state_dict().items():  # copies on the host
        assert isinstance(array, np.ndarray)
        np.testing.assert_allclose(array, host.state_dict()[name], rtol=1e-5, atol=1e-6)
    there.load_state_dict(host.state_dict())
    assert {device_of(p.data) for p in there.parameters()} == {device}
    assert {device_of(buffer) for _, buffer in there.named_buffers()} == {device}


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: nn.Linear(0, 3), "Linear: features must be at least 1, got 0"),
        (lambda: nn.Conv2d(0, 3, 3), "Conv2d: in_channels must be at least 1, got 0"),
        (lambda: nn.Conv2d(3, 2.0, 3), "Conv2d: out_channels must be an int, got 2.0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "Conv2d: in_channels (3) must be a multiple of groups (2)"),
        (lambda: nn.Conv2d(4, 3, 3, groups=2), "Conv2d: out_channels (3) must be a multiple of groups (2)"),
        (lambda: nn.Conv2d(3, 4, (3, 3, 3)), "an int or a pair of ints, got (3, 3, 3)"),
        (lambda: nn.Conv2d(3, 4, 3, init="zero"), "init must be one of 'he', 'xavier', got 'zero'"),
        (lambda: nn.ConvTranspose2d(3, 4, 0), "ConvTranspose2d: kernel_size must be at least 1, got 0"),
        (lambda: nn.ConvTranspose2d(3, 3, 5, 2, init="bilinear"), "got kernel_size (5, 5), stride (2, 2)"),
        (lambda: nn.ConvTranspose2d(3, 4, 4, 2, init="bilinear"), "as many channels out as in"),
        (lambda: nn.ConvTranspose2d(3, 3, 4, (2, 4), init="bilinear"), "one stride s for both axes"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d: num_features must be at least 1, got 0"),
        (lambda: nn.BatchNorm2d(3)(image(3, 3)), "BatchNorm2d: x must have shape (N, C, H, W), got (3, 3)"),
        (lambda: nn.Conv2d(3, 4, 3)(image(1, 2, 5, 5)), "conv2d: x has 2 channels but w expects 3"),
        (lambda: nn.Dropout(1.5)(image(3)), "dropout: p is a probability, 0..1, got 1.5"),
        (lambda: nn.Parameter(np.zeros(3, np.int64)), "only floats have gradients"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(build, sentence):
    with pytest.raises((TypeError, ValueError)) as caught:
        build()
    assert sentence in str(caught.value)


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(image(3))


def test_parts_in_a_list_are_found_and_a_part_used_twice_is_trained_once():
    class Twice(nn.Module):
        def __init__(self):
            self.parts = [nn.Linear(2, 2), nn.ReLU()]
            self.again = self.parts[0]

    names = [name for name, _ in Twice().named_parameters()]
    assert names == ["parts.0.weight", "parts.0.bias", "again.weight", "again.bias"]
    assert len(Twice().parameters()) == 2
