"""Memory that is lent again, and work cut into blocks: no number may come out otherwise."""

import os
import threading

import numpy as np
import pytest

import minseg
import minseg.functional as F
from minseg import channels, memory
from minseg.tensor import Tensor
from minseg.threads import for_each
from minseg.windows import Windows

SHAPE = (2, 3, 128, 128)


def address(array):
    return array.__array_interface__["data"][0]


@pytest.fixture
def lender(monkeypatch):
    """A lender of the test's own, with nothing lent and nothing kept."""
    monkeypatch.setattr(memory, "_lender", memory._Lender())
    return memory._lender


def test_memory_is_lent_again_only_when_no_view_looks_at_it_any_more(lender):
    x = memory.empty(SHAPE, np.float32)
    place, view = address(x), x[0, 1].reshape(-1).view(np.int32)
    del x
    y = memory.empty(SHAPE, np.float32)
    assert address(y) != place
    del view
    z = memory.empty(SHAPE, np.float32)
    assert address(z) == place


def test_lent_and_kept_memory_are_never_more_than_was_lent_at_one_time(lender):
    rng = np.random.default_rng(0)
    held = []
    most = 0
    for _ in range(300):
        if held and rng.random() < 0.5:
            del held[rng.integers(len(held))]
        else:
            held.append(memory.empty((int(rng.integers(1, 5)), 1 << 16), np.float32))
        most = max(most, sum(x.nbytes for x in held))
        memory.empty((1, 1 << 16), np.float32)  # a loan that ends at once: the books are made up
        most = max(most, sum(x.nbytes for x in held) + (1 << 18))
        assert lender.lent_bytes + lender.kept_bytes <= most
    assert lender.kept_bytes == sum(size * len(blocks) for size, blocks in lender.kept.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.int64])
def test_a_loan_is_an_ordinary_array_that_begins_with_a_line_of_memory(dtype, lender):
    x = memory.empty(SHAPE, dtype)
    assert (type(x), x.shape, x.dtype) == (np.ndarray, SHAPE, dtype)
    assert x.flags.c_contiguous
    assert x.flags.writeable
    assert address(x) % memory.LINE_BYTES == 0


def test_objects_are_never_lent(lender):
    assert memory.empty(SHAPE, object)[0, 0, 0, 0] is None
    assert lender.most_lent == 0


def test_blocks_of_channels_give_the_numbers_of_the_whole_with_any_number_of_threads(monkeypatch):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, 7, 5, 6)).astype(np.float32)
    dy = rng.standard_normal(x.shape).astype(np.float32)
    weight, bias = rng.standard_normal((2, 7)).astype(np.float32)

    def results():
        leaves = [Tensor(a.copy(), requires_grad=True) for a in (x, weight, bias)]
        running = np.zeros(7, np.float32), np.ones(7, np.float32)
        y = F.relu(F.batch_norm(leaves[0], *running, *leaves[1:], training=True))
        y.backward(dy)
        return [y.data, *running, *(leaf.grad for leaf in leaves)]

    whole = results()
    monkeypatch.setattr(channels, "LEAST_BYTES", 0)
    monkeypatch.setattr(channels, "BLOCK_BYTES", 2 * x[:, :1].nbytes)
    before = minseg.get_num_threads()
    in_blocks = []
    try:
        for threads in (1, 2, 3):
            minseg.set_num_threads(threads)
            in_blocks.append(results())
    finally:
        minseg.set_num_threads(before)
    for got, expected in zip(in_blocks[0], whole, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    assert all(map(np.array_equal, in_blocks[1], in_blocks[0]))
    assert all(map(np.array_equal, in_blocks[2], in_blocks[0]))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_thread_reaches_the_caller(threads):
    before = minseg.get_num_threads()
    done = []

    def work(number):
        if number == 3:
            raise FloatingPointError("three")
        done.append(number)

    try:
        minseg.set_num_threads(threads)
        with pytest.raises(FloatingPointError, match="three"):
            for_each(work, 50)
        done.clear()
        for_each(done.append, 50)
        assert sorted(done) == list(range(50))
    finally:
        minseg.set_num_threads(before)


def test_threads_work_under_the_callers_errstate():
    before = minseg.get_num_threads()
    seen = []
    met = threading.Barrier(2, timeout=20)

    def work(number):
        met.wait()  # so that two threads take one number each
        seen.append((threading.get_ident(), np.geterr()["divide"]))

    try:
        minseg.set_num_threads(2)
        with np.errstate(divide="raise"):
            for_each(work, 2)
    finally:
        minseg.set_num_threads(before)
    assert len({ident for ident, _ in seen}) == 2
    assert [divide for _, divide in seen] == ["raise", "raise"]


def test_work_is_done_where_no_thread_can_be_started(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    before = minseg.get_num_threads()
    done = []
    try:
        minseg.set_num_threads(3)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        for_each(done.append, 5)
    finally:
        minseg.set_num_threads(before)
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_may_borrow_though_the_lock_was_taken(lender):
    with lender.lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if memory.empty(SHAPE, np.float32).shape == SHAPE else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("sizes", [(3, 16), (16, 16), (16, 3), (1, 1), (40, 8)])
@pytest.mark.parametrize("kernel", [(3, 1, 1), (1, 1, 0), (2, 2, 0), (4, 2, 1)])
def test_matrix_products_in_pieces_are_those_of_the_plain_definition(sizes, kernel):
    C, O = sizes
    k, stride, padding = kernel
    rng = np.random.default_rng(2)
    windows = Windows((64, 50), (k, k), (stride, stride), ((padding, padding),) * 2)
    x = rng.integers(-9, 10, (2, C, 64, 50))
    w = rng.integers(-9, 10, (O, C, k, k))
    y = rng.integers(-9, 10, (2, O, windows.OH, windows.OW))
    fx, fw, fy = (a.astype(np.float32) for a in (x, w, y))  # small whole numbers: sums are exact
    np.testing.assert_array_equal(windows.slide(fx, fw), windows.slide(x, w))
    np.testing.assert_array_equal(windows.spread(fy, fw), windows.spread(y, w))
    np.testing.assert_array_equal(windows.overlap(fx, fy), windows.overlap(x, y))
