"""The same numbers on every device: NumPy, the strict stand-in for CuPy, and a card where there is.

What is expected is always computed by NumPy in float64, and so it is held against NumPy's float32
as well. Layers, optimisers and training have their own tests on devices, beside their other tests.
"""

import sys

import numpy as np
import pytest
import strict_cupy
from test_gradients import NETWORKS, ROWS

import minseg.functional as F
from minseg import models, nn
from minseg.backend import array_module, device_of, to_numpy
from minseg.metrics import ConfusionMatrix
from minseg.optim import SGD, Adam
from minseg.tensor import Tensor, no_grad


def device(xp):
    return "cpu" if xp is np else "cuda"


def close(got, expected, tolerance=1e-5):
    """Equal up to `tolerance` of the largest number."""
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(to_numpy(got), expected, rtol=0, atol=tolerance * scale)


# ---- ops -----------------------------------------------------------------------------------------


def value_and_gradients(function, arrays, xp, dtype):
    """The op's value, its further values, and the gradient of every floating input, as they are."""
    given = [
        Tensor(xp.asarray(a.astype(dtype)), requires_grad=True)
        if a.dtype.kind == "f"
        else xp.asarray(a)
        for a in arrays
    ]
    y = function(*given)
    y, *further = y if isinstance(y, tuple) else (y,)
    dy = np.random.default_rng(0).standard_normal(y.shape).astype(dtype)
    y.backward(xp.asarray(dy))
    return [y.data, *further, *(x.grad for x in given if isinstance(x, Tensor))]


@pytest.mark.parametrize("name", ROWS)
def test_every_op_computes_the_same_forward_and_backward_on_every_device(name, xp):
    _, function, arrays = ROWS[name]
    results = value_and_gradients(function, arrays, xp, np.float32)
    assert {array_module(result) for result in results} == {xp}
    for got, expected in zip(
        results, value_and_gradients(function, arrays, np, np.float64), strict=True
    ):
        assert got.shape == expected.shape
        close(got, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_of_every_integer_type_give_the_same_loss(dtype, xp):
    rng = np.random.default_rng(1)
    logits = rng.standard_normal((2, 4, 3, 5))
    target = rng.choice([0, 1, 2, 3, 255], (2, 3, 5))
    x = Tensor(xp.asarray(logits.astype(np.float32)), requires_grad=True)
    loss = F.cross_entropy(x, xp.asarray(target.astype(dtype)))
    loss.backward()
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    one_hot = np.arange(4)[:, None, None] == target[:, None]
    valid = target != 255
    assert loss.item() == pytest.approx(-log_p[one_hot].sum() / valid.sum(), rel=1e-5)
    close(x.grad, (np.exp(log_p) - one_hot) * valid[:, None] / valid.sum())


def test_a_wrong_label_is_named_on_every_device(xp):
    target = np.zeros((2, 3, 5), int)
    target[1, 2, 4] = 7
    logits = xp.asarray(np.zeros((2, 4, 3, 5), np.float32))
    with pytest.raises(ValueError, match=r"label 7 at \(1, 2, 4\), but there are 4 classes"):
        F.cross_entropy(logits, xp.asarray(target))


def test_a_seed_drops_the_same_numbers_on_every_device(xp):
    x = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    here, there = (
        F.dropout(array, 0.4, rng=np.random.default_rng(3)) for array in (x, xp.asarray(x))
    )
    assert (here == 0).any()
    np.testing.assert_array_equal(to_numpy(there), here)


def test_plain_arrays_stay_plain_arrays_of_their_device(xp):
    x = xp.asarray(np.ones((1, 2, 6, 6), np.float32))
    w = xp.asarray(np.ones((3, 2, 3, 3), np.float32))
    for y in (F.conv2d(x, w), F.max_pool2d(x, 2), F.softmax(x), F.interpolate(x, 3), F.mean(x)):
        assert array_module(y) is xp


def test_integers_are_convolved_exactly_on_every_device(xp):
    rng = np.random.default_rng(0)
    x, w, y = (rng.integers(-9, 10, shape) for shape in [(2, 4, 6, 7), (6, 2, 3, 2), (2, 6, 3, 4)])
    settings = {"stride": 2, "padding": 1, "groups": 2}
    for op, image in ((F.conv2d, x), (F.conv_transpose2d, y)):
        expected = op(image.astype(object), w.astype(object), **settings).astype(int)
        got = op(xp.asarray(image), xp.asarray(w), **settings)
        np.testing.assert_array_equal(to_numpy(got), expected)


# ---- tensors -------------------------------------------------------------------------------------


def test_a_tensor_moves_there_and_back(xp):
    x = Tensor(np.float32([1, 2, 3]), requires_grad=True)
    there = x.to(device(xp))
    assert (array_module(there.data), there.requires_grad) == (xp, True)
    (there * there).sum().backward()
    assert array_module(there.grad) is xp
    back = there.to("cpu")
    assert type(back.data) is np.ndarray
    np.testing.assert_array_equal(back.data, x.data)
    np.testing.assert_array_equal(there.numpy(), x.data)
    assert there.sum().item() == 6.0
    assert x.grad is None


def test_a_host_gradient_is_moved_to_the_tensor_it_belongs_to(xp):
    x = Tensor(xp.asarray(np.float32([1, 2, 3])), requires_grad=True)
    (x * 2).backward(np.array([1.0, 0.0, 1.0]))
    assert array_module(x.grad) is xp
    assert to_numpy(x.grad).tolist() == [2, 0, 2]


def test_gradients_add_up_on_every_device(xp):
    x = Tensor(xp.asarray(np.float32([1, 2, 3])), requires_grad=True)
    dy = xp.asarray(np.float32([1, 1, 2]))
    for _ in range(2):
        (F.relu(x) + x * x + x[:] + x.reshape(3)).backward(dy)
    assert array_module(x.grad) is xp
    assert to_numpy(x.grad).tolist() == [10, 14, 36]
    assert to_numpy(dy).tolist() == [1, 1, 2]


# ---- networks ------------------------------------------------------------------------------------


def scene(xp):
    rng = np.random.default_rng(2)
    image = rng.standard_normal((3, 2, 9, 10)).astype(np.float32)
    return xp.asarray(image), xp.asarray(rng.choice([0, 1, 2, 255], (3, 9, 10)))


def step(network, optimizer, xp):
    image, target = scene(xp)
    loss = F.cross_entropy(network(Tensor(image)), target)
    network.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def everything(network):
    return [value for _, value in network.named_buffers()] + [
        parameter.data for parameter in network.parameters()
    ]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("kind", "options"), [(SGD, {"momentum": 0.9, "weight_decay": 1e-3}), (Adam, {"eps": 1e-3})]
)
def test_a_network_trains_is_saved_and_goes_on_on_every_device(network, kind, options, xp):
    name, settings = NETWORKS[network]

    def built():
        return models.build(name, 2, 3, width=2, seed=3, **settings)

    here, there = built(), built()
    here_optimizer = kind(here.parameters(), lr=0.05, **options)
    parameters = there.parameters()
    there_optimizer = kind(parameters, lr=0.05, **options)
    # Moved after the optimiser got to know its parameters: they must stay the same objects.
    assert there.to(device(xp)) is there
    assert [id(p) for p in there.parameters()] == [id(p) for p in parameters]
    for _ in range(2):
        assert step(there, there_optimizer, xp) == pytest.approx(
            step(here, here_optimizer, np), rel=1e-4
        )
    assert {array_module(array) for array in everything(there)} == {xp}
    assert {array_module(parameter.grad) for parameter in parameters} == {xp}
    moments = [array for state in there_optimizer.state for array in state.values()]
    assert {array_module(array) for array in moments} == {xp}

    saved, saved_optimizer = there.state_dict(), there_optimizer.state_dict()
    assert {type(array) for array in (saved | saved_optimizer).values()} == {np.ndarray}
    for key, array in here.state_dict().items():
        np.testing.assert_allclose(saved[key], array, rtol=1e-3, atol=1e-4, err_msg=key)

    resumed = built().to(device(xp))
    resumed_optimizer = kind(resumed.parameters(), lr=0.05, **options)
    resumed.load_state_dict(saved)
    resumed_optimizer.load_state_dict(saved_optimizer)
    assert step(resumed, resumed_optimizer, xp) == pytest.approx(
        step(there, there_optimizer, xp), rel=1e-6
    )
    assert {array_module(array) for array in everything(resumed)} == {xp}
    for key, array in there.state_dict().items():
        np.testing.assert_allclose(resumed.state_dict()[key], array, 1e-5, 1e-6, err_msg=key)

    with no_grad():
        scores = there.eval()(Tensor(scene(xp)[0]))
        assert array_module(scores.data) is xp
        there.to("cpu")
        assert {array_module(array) for array in everything(there)} == {np}
        close(scores.data, there(Tensor(scene(np)[0])).data, 1e-4)


def test_every_layer_computes_on_its_device(xp):
    def seeded():
        return np.random.default_rng(1)

    layers = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2, rng=seeded()),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        nn.ConvTranspose2d(4, 4, 4, 2, 1, bias=False, init="bilinear"),
        nn.MaxPool2d(3, 2, 1),
        nn.Dropout(0.3, rng=seeded()),
        nn.Linear(20, 3, rng=seeded()),
    )
    expected = layers(Tensor(scene(np)[0]))
    layers[6].rng = seeded()
    got = layers.to(device(xp))(Tensor(scene(xp)[0]))
    assert array_module(got.data) is xp
    close(got.data, expected.data, 1e-4)


def test_unpooling_layers_compute_on_their_device(xp):
    image = np.random.default_rng(0).standard_normal((2, 3, 6, 7)).astype(np.float32)
    y, places = nn.MaxPool2d(2, return_indices=True)(Tensor(xp.asarray(image)))
    assert array_module(places) is xp
    back = to_numpy(nn.MaxUnpool2d(2)(y, places, (6, 7)).data)
    kept = back != 0
    assert kept.sum() == 2 * 3 * 3 * 3
    np.testing.assert_array_equal(back[kept], image[kept])


# ---- metrics -------------------------------------------------------------------------------------


def test_the_confusion_matrix_counts_the_same_on_every_device_and_keeps_counts_on_the_host(xp):
    rng = np.random.default_rng(4)
    target = rng.choice([0, 1, 2, 255], (2, 9, 10))
    scores = rng.standard_normal((2, 3, 9, 10))
    matrix = ConfusionMatrix(3)
    matrix.update(xp.asarray(target), xp.asarray(scores).argmax(axis=1))
    assert type(matrix.counts) is np.ndarray
    expected = [
        [int(((target == i) & (scores.argmax(axis=1) == j)).sum()) for j in range(3)]
        for i in range(3)
    ]
    assert matrix.counts.tolist() == expected


# ---- no card, no CuPy, no such device ------------------------------------------------------------


@pytest.fixture
def no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # now `import cupy` fails


@pytest.fixture
def no_card(monkeypatch):
    cupy = strict_cupy.install(monkeypatch)
    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)


WITHOUT = {
    "no_cupy": r'^device "cuda" needs CuPy, which is not installed: run `pip install .* use device "cpu"$',
    "no_card": r'^device "cuda": CuPy is installed but finds no NVIDIA .* use device "cpu"$',
}


@pytest.mark.parametrize("missing", WITHOUT)
def test_without_cuda_the_sentence_says_what_to_install_and_nothing_is_moved(missing, request):
    request.getfixturevalue(missing)
    network = models.build("unet", 1, 2, width=2)
    step_taken = nn.Parameter(np.ones(2, np.float32))
    step_taken.grad = np.ones(2, np.float32)
    network.extra = step_taken
    for move in (Tensor([1.0]).to, network.to):
        with pytest.raises(ValueError, match=WITHOUT[missing]):
            move("cuda")
    assert {device_of(array) for array in everything(network)} == {"cpu"}
    assert step_taken.grad is not None
    assert network.to("cpu") is network  # the host is always there


@pytest.mark.parametrize("unknown", ["gpu", "cuda:0", "", None, 0])
def test_an_unknown_device_is_named(unknown):
    for move in (Tensor([1.0]).to, nn.ReLU().to):
        with pytest.raises(ValueError, match='device must be "cpu" or "cuda", got') as refusal:
            move(unknown)
        assert repr(unknown) in str(refusal.value)
