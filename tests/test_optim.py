"""Optimisers against their recurrences, written out by hand, and against PyTorch; schedules by value."""

import math

import numpy as np
import pytest

from minseg import nn
from minseg.backend import device_of, to_numpy
from minseg.optim import SGD, Adam, cosine_schedule, step_schedule

OPTIMIZERS = {
    "SGD": (SGD, {"lr": 0.05}),
    "SGD with weight decay": (SGD, {"lr": 0.05, "weight_decay": 0.2}),
    "SGD with momentum": (SGD, {"lr": 0.05, "momentum": 0.9}),
    "SGD with both": (SGD, {"lr": 0.05, "momentum": 0.8, "weight_decay": 0.2}),
    "Adam": (Adam, {}),
    "Adam with everything": (
        Adam,
        {"lr": 0.1, "betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.2},
    ),
}
every_optimizer = pytest.mark.parametrize(("kind", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)


class Valley:
    """The loss w.Hw/2 - c.w for each of two parameters: its gradient is Hw - c."""

    def __init__(self, dtype=np.float64, move=np.asarray):
        rng = np.random.default_rng(4)
        self.start = [rng.standard_normal(shape).astype(dtype) for shape in ((3, 4), (5,))]
        factors = [rng.standard_normal((n, n)) for n in (3, 5)]
        self.H = [(A @ A.T / len(A)).astype(dtype) for A in factors]
        self.parameters = [nn.Parameter(move(w)) for w in self.start]
        self.move = move

    def gradient(self, n, w):
        return self.H[n] @ w - 1

    def train(self, optimizer, steps):
        for _ in range(steps):
            for n, p in enumerate(self.parameters):
                p.grad = self.move(self.gradient(n, to_numpy(p.data)))
            optimizer.step()
        return [to_numpy(p.data) for p in self.parameters]


def by_hand(kind, steps, lr=1e-3, momentum=0.0, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8):
    """The recurrences of Sutskever et al. (2013) and of Kingma and Ba (2015), algorithm 1."""
    valley, results = Valley(), []
    for n, w in enumerate(valley.start):
        v, m, s = 0.0, 0.0, 0.0
        for t in range(1, steps + 1):
            g = valley.gradient(n, w) + weight_decay * w
            if kind is SGD:
                v = momentum * v + g
                w = w - lr * v
            else:
                m = betas[0] * m + (1 - betas[0]) * g
                s = betas[1] * s + (1 - betas[1]) * g**2
                m_hat, s_hat = m / (1 - betas[0] ** t), s / (1 - betas[1] ** t)
                w = w - lr * m_hat / (np.sqrt(s_hat) + eps)
        results.append(w)
    return results


@every_optimizer
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_optimizers_follow_their_recurrence(kind, options, steps):
    valley = Valley()
    got = valley.train(kind(valley.parameters, **options), steps)
    for w, expected in zip(got, by_hand(kind, steps, **options), strict=True):
        np.testing.assert_allclose(w, expected, rtol=1e-12, atol=1e-12)


@every_optimizer
def test_twenty_steps_are_pytorchs(kind, options):
    torch = pytest.importorskip("torch")
    mine, theirs = Valley(), Valley()
    weights = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in theirs.start]
    optimizer = getattr(torch.optim, kind.__name__)(weights, **options)
    for _ in range(20):
        for n, w in enumerate(weights):
            w.grad = torch.from_numpy(theirs.gradient(n, w.detach().numpy()))
        optimizer.step()
    for got, w in zip(mine.train(kind(mine.parameters, **options), 20), weights, strict=True):
        np.testing.assert_allclose(got, w.detach().numpy(), rtol=1e-6, atol=1e-12)


def test_adams_first_step_is_lr_whatever_the_size_of_the_gradient():
    p = nn.Parameter(np.zeros(3))
    p.grad = np.array([1e-3, -7.0, 1e4])
    Adam([p], lr=0.5).step()
    np.testing.assert_allclose(p.data, [-0.5, 0.5, -0.5], rtol=1e-4)


@every_optimizer
def test_an_optimizer_with_its_state_loaded_goes_on_bit_by_bit(kind, options):
    straight = Valley(np.float32)
    expected = straight.train(kind(straight.parameters, **options), 12)

    first, second = Valley(np.float32), Valley(np.float32)
    before = kind(first.parameters, **options)
    weights = first.train(before, 5)
    state = before.state_dict()
    assert all(isinstance(array, np.ndarray) for array in state.values())
    after = kind(second.parameters, **options)
    for p, w in zip(second.parameters, weights, strict=True):
        p.data = w.copy()
    after.load_state_dict(state)
    for w, v in zip(second.train(after, 7), expected, strict=True):
        np.testing.assert_array_equal(w, v)
    for w, v in zip(first.train(before, 7), expected, strict=True):  # unmoved by the other's steps
        np.testing.assert_array_equal(w, v)


@every_optimizer
def test_a_step_makes_new_arrays_and_leaves_every_old_one_as_it_was(kind, options):
    valley = Valley()
    optimizer = kind(valley.parameters, **options)
    valley.train(optimizer, 2)
    old = [array for p in valley.parameters for array in (p.data, p.grad)]
    old += [array for state in optimizer.state for array in state.values()]
    saved = optimizer.state_dict()
    copies, saved_copies = [array.copy() for array in old], [a.copy() for a in saved.values()]
    optimizer.step()
    assert not any(p.data is array for p in valley.parameters for array in old)
    for array, copy in zip([*old, *saved.values()], [*copies, *saved_copies], strict=True):
        np.testing.assert_array_equal(array, copy)


@every_optimizer
def test_a_parameter_without_a_gradient_stays_where_it_is(kind, options):
    valley = Valley()
    optimizer = kind(valley.parameters, **options)
    valley.parameters[0].grad = np.ones_like(valley.start[0])
    optimizer.step()
    assert not np.array_equal(valley.parameters[0].data, valley.start[0])
    np.testing.assert_array_equal(valley.parameters[1].data, valley.start[1])
    optimizer.zero_grad()
    assert [p.grad for p in valley.parameters] == [None, None]


@every_optimizer
@pytest.mark.parametrize("number", [float, np.float32, np.float64])
def test_float32_weights_stay_float32_whatever_kind_of_number_the_rate_is(kind, options, number):
    valley = Valley(np.float32)
    options = {
        name: tuple(map(number, value)) if isinstance(value, tuple) else number(value)
        for name, value in options.items()
    }
    optimizer = kind(valley.parameters, **options)
    valley.train(optimizer, 2)
    optimizer.lr = cosine_schedule(number(0.1), 10, final=number(0.01))(3)
    optimizer.step()
    assert [p.dtype for p in valley.parameters] == [np.float32, np.float32]
    arrays = [array for state in optimizer.state for array in state.values()]
    assert {array.dtype for array in arrays} <= {np.dtype(np.float32)}


@every_optimizer
def test_the_same_steps_on_every_device(kind, options, xp):
    host, there = Valley(np.float32), Valley(np.float32, xp.asarray)
    device = device_of(xp.asarray(np.zeros(1)))
    expected = host.train(kind(host.parameters, **options), 6)
    first = kind(there.parameters, **options)
    there.train(first, 3)
    second = kind(there.parameters, **options)
    second.load_state_dict(first.state_dict())
    for got, w in zip(there.train(second, 3), expected, strict=True):
        np.testing.assert_allclose(got, w, rtol=1e-5, atol=1e-6)
    assert {device_of(p.data) for p in there.parameters} == {device}
    for state in second.state:
        assert {device_of(array) for array in state.values()} <= {device}


# Schedules


def test_step_schedule_drops_by_the_factor_every_so_many_steps():
    rate = step_schedule(0.8, every=10, factor=0.5)
    assert [rate(step) for step in (0, 9, 10, 19, 20, 35)] == [0.8, 0.8, 0.4, 0.4, 0.2, 0.1]
    assert step_schedule(1.0, every=1)(2) == pytest.approx(0.01)


def test_cosine_schedule_falls_along_half_a_cosine():
    rate = cosine_schedule(0.8, steps=100)
    assert rate(0) == 0.8
    assert rate(25) == pytest.approx(0.4 * (1 + math.sqrt(0.5)))
    assert rate(50) == pytest.approx(0.4)
    assert rate(75) == pytest.approx(0.4 * (1 - math.sqrt(0.5)))
    assert rate(100) == rate(1000) == 0.0


def test_cosine_schedule_rises_for_warmup_steps_and_ends_at_final():
    rate = cosine_schedule(0.8, steps=104, warmup=4, final=0.2)
    assert [rate(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rate(54) == pytest.approx(0.5)
    assert rate(104) == pytest.approx(0.2)
    rates = [rate(step) for step in range(4, 105)]
    assert rates == sorted(rates, reverse=True)


def test_the_schedules_are_pytorchs():
    torch = pytest.importorskip("torch")
    schedulers = torch.optim.lr_scheduler
    for mine, scheduler, options in (
        (step_schedule(0.8, 3, 0.5), schedulers.StepLR, {"step_size": 3, "gamma": 0.5}),
        (cosine_schedule(0.8, 9, final=0.1), schedulers.CosineAnnealingLR, {"T_max": 9, "eta_min": 0.1}),
    ):  # fmt: skip
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
        theirs = scheduler(optimizer, **options)
        for step in range(10):
            assert mine(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
            optimizer.step()
            theirs.step()


# Bad input


def one():
    return [nn.Parameter(np.zeros(3, np.float32))]


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: SGD([], 0.1), "SGD: parameters is empty"),
        (lambda: Adam(iter(())), "Adam: parameters is empty"),
        (lambda: SGD(nn.Linear(2, 2), 0.1), "SGD: parameters"),
        (lambda: SGD(nn.Sequential(nn.Linear(2, 2)), 0.1), "SGD: parameters"),
        (lambda: Adam([np.zeros(3)]), "Adam: parameters"),
        (lambda: SGD(one(), -0.1), "SGD: lr must be a number of at least 0, got -0.1"),
        (lambda: SGD(one(), float("nan")), "SGD: lr must be a number of at least 0, got nan"),
        (lambda: Adam(one(), math.inf), "Adam: lr must be a number of at least 0, got inf"),
        (lambda: Adam(one(), "0.1"), "Adam: lr must be a number of at least 0, got '0.1'"),
        (lambda: SGD(one(), 0.1, weight_decay=-1), "SGD: weight_decay must be a number of at least 0"),
        (
            lambda: SGD(one(), 0.1, momentum=1),
            "SGD: momentum must be a number of at least 0 and below 1, got 1",
        ),
        (
            lambda: Adam(one(), betas=(0.9, 1.0)),
            "Adam: betas must be a number of at least 0 and below 1, got 1.0",
        ),
        (lambda: step_schedule(0.1, 0), "step_schedule: every must be at least 1 step, got 0"),
        (lambda: cosine_schedule(0.1, 10, 10), "cosine_schedule: warmup must lie in 0..9 steps, got 10"),
        (lambda: cosine_schedule(0.1, 0), "cosine_schedule: steps"),
        (lambda: SGD(one(), 0.1).load_state_dict({"mean.0": np.zeros(3)}), "the saved state mean.0"),
        (lambda: SGD(one(), 0.1).load_state_dict({"velocity.1": np.zeros(3)}), "saved state velocity.1"),
        (lambda: SGD(one(), 0.1).load_state_dict({"velocity.0": np.zeros(4)}), "velocity.0 of shape (4,)"),
        (lambda: SGD(one(), 0.1).load_state_dict({"velocity.0": np.zeros(3)}), "steps"),
        (lambda: Adam(one()).load_state_dict({"steps": 1, "mean.0": np.zeros(3)}), "square.0"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence(build, sentence):
    with pytest.raises((TypeError, ValueError)) as caught:
        build()
    assert sentence in str(caught.value)


def test_a_state_that_does_not_fit_changes_nothing():
    valley = Valley()
    optimizer = Adam(valley.parameters)
    valley.train(optimizer, 2)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match="does not belong"):
        optimizer.load_state_dict({**before, "steps": 9, "mean.0": before["mean.1"]})
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
