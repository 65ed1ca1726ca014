"""The rules of the engine, each learnt from a bug in some well-known project."""

import contextvars
import gc
import operator
import threading
import weakref
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import strict_cupy
from test_gradients import ROWS

import minseg.functional as F
from minseg import Tensor, no_grad
from minseg.tensor import differentiable
from minseg.windows import Windows

rng = np.random.default_rng(0)


def leaf(*shape, dtype=np.float64):
    return Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)


@differentiable
def identity(x):
    """x itself, and dy itself as its gradient: nobody may write into either."""
    return x, (lambda dy: dy,)


# ---- the graph -----------------------------------------------------------------------------------


def test_a_chain_of_ten_thousand_ops_is_differentiated_and_thrown_away():
    x = leaf()
    y = x
    for _ in range(10_000):
        y = y + x
    y.backward()
    assert x.grad == 10_001
    del y
    gc.collect()


def test_a_chain_of_ten_thousand_ops_that_was_never_differentiated_is_thrown_away():
    x = leaf(2)
    y = x
    for _ in range(10_000):
        y = y * 1.0
    note = weakref.ref(y)
    del y
    gc.collect()
    assert note() is None


def test_a_tensor_used_twice_by_one_op_gets_both_gradients():
    x = leaf(3)
    (x * x).backward(np.ones(3))
    np.testing.assert_allclose(x.grad, 2 * x.data)
    x.grad = None
    F.cat([x, x, x]).backward(np.arange(9.0))
    np.testing.assert_allclose(x.grad, [9, 12, 15])


def test_both_arms_of_a_diamond_arrive_before_its_foot_passes_them_on():
    # z = a + b with a = y * y, b = exp(y), y = 3 x; either arm may be the longer one.
    for longer in (lambda a, b: identity(identity(a)) + b, lambda a, b: a + identity(identity(b))):
        x = leaf(4)
        y = 3 * x
        longer(y * y, F.exp(y)).sum().backward()
        np.testing.assert_allclose(x.grad, 3 * (6 * x.data + np.exp(3 * x.data)))


def test_a_ladder_of_reused_tensors_takes_one_step_per_rung():
    # 40 rungs hold 2^40 paths: the walk has to visit tensors, not paths.
    x = leaf()
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad == 2.0**40


def test_gradients_of_several_backward_calls_add_up_in_the_leaves():
    x = leaf(3)
    (2 * x).sum().backward()
    first = x.grad
    (5 * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [7, 7, 7])
    np.testing.assert_array_equal(first, [2, 2, 2])  # whoever kept it still has it


def test_only_leaves_keep_their_gradient():
    x = leaf(3)
    y = 2 * x
    y.sum().backward()
    assert y.grad is None


def test_backward_of_a_leaf_is_its_own_gradient():
    x = leaf(2)
    gradient = np.array([1.0, 2.0])
    x.backward(gradient)
    gradient[0] = 7
    np.testing.assert_array_equal(x.grad, [1, 2])


def test_a_second_backward_over_used_notes_raises_a_sentence_and_adds_nothing():
    x = leaf(3)
    y = F.exp(x)
    left, right = y.sum(), (y * y).sum()
    left.backward()
    before = x.grad.copy()
    for again in (left, right):
        with pytest.raises(RuntimeError, match=r"backward: the notes of (sum|exp) are used up"):
            again.backward()
    np.testing.assert_array_equal(x.grad, before)


def test_a_gradient_function_and_what_it_saved_are_dropped_once_used():
    saved = []

    @differentiable
    def scale(x):
        factor = np.full(x.shape, 3.0)
        saved.append(weakref.ref(factor))
        return x * factor, (lambda dy: dy * factor,)

    alive = []

    @differentiable
    def look(x):
        def grad_x(dy):
            alive.append([factor() is not None for factor in saved])
            return dy

        return x, (grad_x,)

    x = leaf(3)
    y = scale(look(scale(x)))
    assert [factor() is not None for factor in saved] == [True, True]
    y.backward(np.ones(3))
    assert alive == [[True, False]]  # while the walk is half-way
    assert [factor() for factor in saved] == [None, None]


# ---- what is not wanted is not computed ----------------------------------------------------------


def counted_product():
    """x * y, and a list that says which of its gradients were computed."""
    computed = []

    @differentiable
    def product(x, y):
        def grad_x(dy):
            computed.append("x")
            return dy * y

        def grad_y(dy):
            computed.append("y")
            return dy * x

        return x * y, (grad_x, grad_y)

    return product, computed


@pytest.mark.parametrize(
    ("x_wanted", "y_wanted"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_gradient_that_nobody_needs_is_never_computed(x_wanted, y_wanted):
    product, computed = counted_product()
    x, y = Tensor(np.ones(3), x_wanted), Tensor(np.ones(3), y_wanted)
    z = product(x, y)
    assert z.requires_grad == (x_wanted or y_wanted)
    if z.requires_grad:
        z.sum().backward()
    assert computed == ["x"] * x_wanted + ["y"] * y_wanted
    assert (x.grad is not None, y.grad is not None) == (x_wanted, y_wanted)


def test_plain_arrays_and_detached_tensors_need_no_gradient():
    product, computed = counted_product()
    x = leaf(3)
    product(x, np.ones(3)).sum().backward()
    product(x.detach(), x).sum().backward()
    assert computed == ["x", "y"]


def test_the_gradient_of_the_image_is_never_computed_while_training(monkeypatch):
    def refuse(*_):
        raise AssertionError("spread is the gradient in the image, the largest map of all")

    monkeypatch.setattr(Windows, "spread", refuse)
    image, w = Tensor(np.ones((1, 2, 5, 5))), leaf(3, 2, 3, 3)
    F.conv2d(image, w).sum().backward()
    np.testing.assert_array_equal(w.grad, np.full((3, 2, 3, 3), 9.0))


def test_no_grad_notes_nothing_down_even_after_an_error():
    x = leaf(3)
    with no_grad():
        y = x * 2
        with no_grad():
            pass
        assert not (x * 2).requires_grad  # leaving the inner one does not switch notes on again
    with pytest.raises(ZeroDivisionError), no_grad():
        raise ZeroDivisionError
    assert not y.requires_grad
    assert (x * 2).requires_grad


def test_no_grad_holds_for_its_own_thread_only():
    x = leaf(3)
    inside, leave = threading.Event(), threading.Event()
    seen = {}

    def quiet():
        with no_grad():
            inside.set()
            leave.wait(10)
            seen["quiet"] = (x * 2).requires_grad

    thread = threading.Thread(target=quiet)
    thread.start()
    assert inside.wait(10)
    seen["recording"] = (x * 2).requires_grad
    leave.set()
    thread.join()
    assert seen == {"recording": True, "quiet": False}


def test_no_grad_holds_for_its_own_task_only():
    x = leaf(3)
    task = contextvars.copy_context()
    with no_grad():
        assert task.run(lambda: (x * 2).requires_grad)
        assert not contextvars.copy_context().run(lambda: (x * 2).requires_grad)


# ---- whose array is it? --------------------------------------------------------------------------


def test_the_same_gradient_array_can_be_used_three_times():
    @differentiable
    def total(x, y, z):
        return x + y + z, (lambda dw: dw, lambda dw: dw, lambda dw: dw)

    dy = np.array([1.0, 2.0, 3.0])
    x, y = leaf(3), leaf(3)
    for _ in range(3):
        total(x, y, x).backward(dy)
        inner = identity(y)
        total(inner, inner, inner).backward(dy)
    np.testing.assert_array_equal(dy, [1, 2, 3])
    np.testing.assert_array_equal(x.grad, [6, 12, 18])
    np.testing.assert_array_equal(y.grad, [12, 24, 36])


def test_adding_up_inside_the_graph_writes_into_no_array_an_op_returned():
    returned = []

    @differentiable
    def remembered(x):
        def grad_x(dy):
            returned.append((dy, dy.copy()))
            return dy

        return x, (grad_x,)

    x = leaf(3)
    y = identity(x)
    (remembered(y) + remembered(y) + remembered(y)).backward(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(x.grad, [3, 6, 9])
    assert len(returned) == 3
    for array, as_it_was in returned:
        np.testing.assert_array_equal(array, as_it_was)


def test_what_an_op_saved_is_as_it_was_when_its_gradient_is_computed():
    x = leaf(2, 3)
    value = x.data.copy()
    y = F.exp(x)
    kept = y.data.copy()
    # y is used four times: its gradient is added up while exp still holds y itself.
    (y * y + y / 2 + F.relu(y) + identity(y)).sum().backward()
    np.testing.assert_array_equal(y.data, kept)
    np.testing.assert_array_equal(x.data, value)
    np.testing.assert_allclose(x.grad, kept * (2 * kept + 2.5))


def test_the_gradient_of_a_leaf_is_a_copy_of_its_own():
    x, y = leaf(3), leaf(3)
    dy = np.ones(3)
    (identity(x) + identity(y)).backward(dy)
    x.grad += 5
    np.testing.assert_array_equal(y.grad, [1, 1, 1])
    np.testing.assert_array_equal(dy, [1, 1, 1])
    total = leaf(2, 2)
    total.sum().backward()  # its gradient is one number, broadcast
    total.grad[0, 0] = 9
    np.testing.assert_array_equal(total.grad, [[9, 1], [1, 1]])


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0, 2)])
def test_gradients_are_plain_arrays_of_the_leafs_shape_and_type(shape):
    x = leaf(*shape, dtype=np.float32)
    for _ in range(2):
        (x * x * 2).backward(np.ones(shape))
        assert type(x.grad) is np.ndarray
        assert (x.grad.shape, x.grad.dtype) == (shape, np.float32)


# ---- errors --------------------------------------------------------------------------------------


def test_a_gradient_of_the_wrong_shape_names_the_op_the_input_and_both_shapes():
    @differentiable
    def halve(x, y):
        return x / 2, (lambda dy: dy.sum(axis=0), None)

    with pytest.raises(
        ValueError, match=r"^halve: the gradient of x has shape \(3,\), but x has shape \(2, 3\)$"
    ):
        halve(leaf(2, 3), 1).sum().backward()


def test_an_input_without_a_gradient_function_must_be_detached():
    running = leaf(3)
    with pytest.raises(TypeError, match="batch_norm has no gradient for running_mean: detach"):
        F.batch_norm(leaf(4, 3), running, Tensor(np.ones(3)))
    assert F.batch_norm(leaf(4, 3), running.detach(), Tensor(np.ones(3))).requires_grad


def test_a_tensor_cannot_be_assigned_into():
    x = leaf(3)
    before = x.data.copy()
    with pytest.raises(TypeError, match=r"cannot be assigned into: .* build a new Tensor"):
        x[0] = 1
    np.testing.assert_array_equal(x.data, before)


@pytest.mark.parametrize("data", [np.arange(3), np.array([True]), np.uint8([1])])
def test_only_floats_can_require_a_gradient(data):
    with pytest.raises(TypeError, match=f"only floats have gradients, and data is {data.dtype}"):
        Tensor(data, requires_grad=True)
    assert Tensor(data).dtype == data.dtype


def test_backward_says_which_gradient_it_needs():
    x = leaf(2, 3)
    y = x * 2
    with pytest.raises(
        ValueError, match=r"this Tensor has shape \(2, 3\); reduce it to one number"
    ):
        y.backward()
    for wrong in (np.ones((3, 2)), np.ones(3), 1.0):
        with pytest.raises(ValueError, match=r"gradient has shape \(.*\), not \(2, 3\)"):
            y.backward(wrong)
    with pytest.raises(RuntimeError, match="nothing that made this Tensor requires a gradient"):
        Tensor(np.ones(1)).backward()
    assert x.grad is None
    y.backward(Tensor(np.ones((2, 3))))  # the notes are still there
    np.testing.assert_array_equal(x.grad, np.full((2, 3), 2.0))


# ---- NumPy beside it -----------------------------------------------------------------------------

OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv, operator.matmul]


@pytest.mark.parametrize("apply", OPERATORS)
def test_an_array_on_either_side_of_a_tensor_gives_a_tensor(apply):
    x, array = leaf(2, 2), rng.standard_normal((2, 2))
    for left, right in ((array, x), (x, array)):
        y = apply(left, right)
        assert isinstance(y, Tensor)
        assert y.shape == (2, 2)
        plain = [each.data if isinstance(each, Tensor) else each for each in (left, right)]
        np.testing.assert_array_equal(y.data, apply(*plain))
        y.sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("number", [2, 0.5, np.float64(2), np.float32(2), np.int64(2)])
@pytest.mark.parametrize("apply", [*OPERATORS[:4], operator.pow])
def test_float32_stays_float32_beside_any_number(apply, number):
    x = Tensor(np.float32([1, 2, 3]), requires_grad=True)
    results = [apply(x, number)]
    if apply is not operator.pow:
        results.append(apply(number, x))
    for y in results:
        assert isinstance(y, Tensor)
        assert y.dtype == np.float32
        y.sum().backward()
        assert x.grad.dtype == np.float32


def test_float32_stays_float32_beside_a_list():
    x = Tensor(np.float32([1, 2, 3]), requires_grad=True)
    for y in (x * [1.0, 2.0, 3.0], [1.0, 2.0, 3.0] * x):
        assert y.dtype == np.float32


def with_numpy_scalars(function):
    """The same op, its float settings as np.float64 scalars, which turn arrays into float64."""
    if not isinstance(function, partial):
        return function
    scalars = {
        key: np.float64(value) if type(value) is float else value
        for key, value in function.keywords.items()
    }
    return partial(function.func, **scalars)


@pytest.mark.parametrize("name", ROWS)
def test_float32_stays_float32_through_every_op(name):
    _, function, arrays = ROWS[name]
    for variant in (function, with_numpy_scalars(function)):
        given = [
            Tensor(a.astype(np.float32), requires_grad=True) if a.dtype.kind == "f" else a
            for a in arrays
        ]
        y = variant(*given)
        y = y[0] if isinstance(y, tuple) else y
        assert y.dtype == np.float32
        y.backward(np.ones(y.shape, np.float32))
        assert {x.grad.dtype for x in given if isinstance(x, Tensor)} == {np.dtype(np.float32)}


def test_class_weights_of_any_type_leave_the_loss_in_float32():
    logits = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    for weight in (np.ones(3), np.ones(3, int)):
        for smoothing in (0.0, 0.1):
            loss = F.cross_entropy(logits, np.array([0, 2]), weight, label_smoothing=smoothing)
            assert loss.dtype == np.float32


def test_a_float32_leaf_has_a_float32_gradient_whatever_its_result_is():
    x = Tensor(np.float32([1, 2, 3]), requires_grad=True)
    y = x * np.ones(3)
    assert y.dtype == np.float64  # two arrays: NumPy's rule, and no surprise
    y.sum().backward()
    assert x.grad.dtype == np.float32


def test_numbers_and_lists_become_float32_and_numpy_keeps_its_type():
    assert Tensor(1.5).dtype == np.float32
    assert Tensor([[1, 2], [3, 4]]).dtype == np.float32
    assert Tensor(np.float64(1.5)).dtype == np.float64
    assert Tensor(np.float64(1.5)).shape == ()
    for dtype in (np.float64, np.float32, np.int64, bool):
        assert Tensor(np.ones(2, dtype)).dtype == dtype
    x = leaf(2)
    assert Tensor(x).data is x.data
    assert not Tensor(x).requires_grad


def test_fractions_stay_exact_through_value_and_gradient():
    x = Tensor(np.array([Fraction(1, 3), Fraction(2, 7)]), requires_grad=True)
    y = (x * x).sum()
    assert y.data.item() == Fraction(1, 9) + Fraction(4, 49)
    y.backward()
    assert x.grad.tolist() == [Fraction(2, 3), Fraction(4, 7)]


# ---- everyday use --------------------------------------------------------------------------------


def test_arrays_in_array_out_any_tensor_in_tensor_out():
    x, w = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    assert type(F.matmul(x, w)) is np.ndarray
    for given in ((Tensor(x), w), (x, Tensor(w)), (Tensor(x), Tensor(w))):
        assert isinstance(F.matmul(*given), Tensor)
    by_name = F.matmul(x=x, y=leaf(3, 4))
    assert isinstance(by_name, Tensor)
    assert by_name.requires_grad


def test_further_values_of_an_op_are_plain_arrays():
    y, indices = F.max_pool2d(leaf(1, 1, 4, 4), 2, return_indices=True)
    assert isinstance(y, Tensor)
    assert type(indices) is np.ndarray


def test_a_comparison_is_a_plain_array_of_true_and_false():
    x = Tensor(np.array([1.0, 2.0, 3.0]))
    for mask in (x > 1.5, np.array([1.5, 1.5, 1.5]) < x, x != 1, x >= Tensor([2.0, 2.0, 2.0])):
        assert type(mask) is np.ndarray
        assert mask.tolist() == [False, True, True]
    assert ((x == 2).tolist(), (x < 2).tolist()) == ([False, True, False], [True, False, False])
    assert x[x > 1.5].data.tolist() == [2, 3]


def test_a_tensor_answers_what_an_array_answers():
    x = Tensor(np.arange(6.0).reshape(2, 3))
    assert (x.shape, x.ndim, x.size, x.dtype, len(x)) == ((2, 3), 2, 6, np.float64, 2)
    assert x.numpy() is x.data
    assert [row.data.tolist() for row in x] == [[0, 1, 2], [3, 4, 5]]
    assert (x.max().item(), x.mean(axis=0).data.tolist()) == (5.0, [1.5, 2.5, 3.5])
    assert bool(Tensor(np.array(1.0)))
    assert not Tensor(np.array(0.0))
    with pytest.raises(ValueError, match="ambiguous"):
        bool(x)
    assert len({x, x, Tensor(x)}) == 2  # hashed by identity, so that it may be a key


def test_a_tensor_says_how_it_was_made():
    x = Tensor(np.array([1.0]), requires_grad=True)
    assert repr(x) == "Tensor(array([1.]))"
    assert repr(x * 2) == "Tensor(array([2.]), made by multiply)"
    assert repr((x * 2).detach()) == "Tensor(array([2.]))"


def test_detach_and_to_give_leaves():
    x = leaf(3)
    y = x * 2
    assert not y.detach().requires_grad
    moved = y.to("cpu")
    moved.backward(np.ones(3))
    np.testing.assert_array_equal(moved.grad, np.ones(3))
    assert x.grad is None


def test_arrays_on_two_devices_get_a_sentence_that_names_both(monkeypatch):
    strict_cupy.install(monkeypatch)
    x = Tensor(strict_cupy.module.asarray(np.ones((1, 1, 4, 4), np.float32)))
    with pytest.raises(
        TypeError, match="conv2d: all arrays must be on one device, but x is on cuda, w"
    ):
        F.conv2d(x, np.ones((1, 1, 3, 3), np.float32))


def test_the_gradient_of_the_power_zero_is_zero_even_at_zero():
    x = Tensor([0.0, 2.0], requires_grad=True)
    (x**0).sum().backward()
    assert x.grad.tolist() == [0, 0]


def test_an_empty_batch_has_loss_zero():
    loss = F.cross_entropy(np.zeros((0, 3, 4, 4), np.float32), np.zeros((0, 4, 4), int))
    assert loss == 0
