"""The worker: what crosses its pipes, and what it takes for an answer."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minseg.grading import worker
from minseg.grading.worker import (
    ANSWER,
    DONE,
    DTYPES,
    LIMIT_ARRAYS,
    LIMIT_TEXT,
    MAGIC,
    RAISED,
    FrameError,
    as_arrays,
    read_answer,
    read_call,
    write_answer,
    write_call,
)

LIMIT = 1 << 16  # bytes, for these tests
arrays_of_all_kinds = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
)


class Pipe(io.BytesIO):
    """A pipe that is never asked for more than an answer may hold."""

    def read(self, count=-1):
        assert 0 <= count <= max(LIMIT, LIMIT_TEXT)
        return super().read(count)


def written(*arguments):
    pipe = io.BytesIO()
    write_answer(pipe, *arguments)
    return pipe.getvalue()


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


@given(st.lists(arrays_of_all_kinds, max_size=4), st.text(max_size=50), st.integers(0, 2**64 - 1))
def test_an_answer_arrives_as_it_was_sent(arrays, text, number):
    data = written(number, RAISED, arrays, text, "printed")
    status, got, error, printed = read_answer(Pipe(data), number, LIMIT)
    assert (status, printed) == (RAISED, "printed")
    assert error == text.encode("utf-8", "replace").decode()
    assert len(got) == len(arrays)
    assert all(map(same, got, arrays))


def read_or_refuse(data):
    """Whatever the bytes are, they are an answer within the limit, or one of two errors."""
    try:
        _, arrays, error, printed = read_answer(Pipe(data), 7, LIMIT)
    except (EOFError, FrameError):
        return None
    assert sum(array.nbytes for array in arrays) <= LIMIT
    assert len(arrays) <= LIMIT_ARRAYS
    assert max(len(error), len(printed)) <= LIMIT_TEXT
    return arrays


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_order(data):
    assert read_or_refuse(data) is None


@settings(max_examples=500)
@given(
    st.integers(0, 4),
    st.integers(0, 2**32 - 1) | st.integers(0, 40),
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=10),
    st.binary(max_size=300),
)
def test_a_frame_with_any_fields_is_an_answer_or_refused_in_order(status, count, shape, rest):
    head = ANSWER.pack(MAGIC, 7, status, count % 256, 0, count if len(rest) % 2 else 0)
    axes = struct.pack("<BB", count % 7, len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    read_or_refuse(head + axes + rest)


@settings(max_examples=500)
@given(st.lists(arrays_of_all_kinds, max_size=3), st.data())
def test_a_spoilt_frame_is_an_answer_or_refused_in_order(arrays, data):
    frame = bytearray(written(7, DONE, arrays, "error", "printed"))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(frame))
    read_or_refuse(bytes(frame[: data.draw(st.integers(0, len(frame)))]))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (written(8, DONE, []), "answered call 8 when call 7 was asked"),
        (written(7, DONE, [np.zeros(LIMIT // 8 + 1)]), "more than 65,536 bytes"),
        (ANSWER.pack(MAGIC, 7, DONE, 1, 0, 0) + struct.pack("<BB2Q", 1, 2, 2**40, 0), "65,536"),
        (ANSWER.pack(MAGIC, 7, DONE, 0, LIMIT_TEXT + 1, 0), "announced more"),
        (ANSWER.pack(MAGIC, 7, DONE, LIMIT_ARRAYS + 1, 0, 0), "announced more"),
        (ANSWER.pack(MAGIC, 7, DONE, 1, 0, 0) + struct.pack("<BBQ", 5, 1, 1) + b"\2", "truth"),
        (b"{" * 100, "wrote into the pipe"),
    ],
)
def test_what_is_no_answer_is_refused_with_a_reason(data, problem):
    with pytest.raises(FrameError, match=problem):
        read_answer(Pipe(data), 7, LIMIT)


def test_several_arrays_share_one_limit():
    half = np.zeros(LIMIT // 16 + 1)
    read_answer(Pipe(written(7, DONE, [half])), 7, LIMIT)
    with pytest.raises(FrameError, match="more than"):
        read_answer(Pipe(written(7, DONE, [half, half])), 7, LIMIT)


def test_a_call_arrives_as_it_was_sent():
    x = np.arange(6.0).reshape(2, 3)
    call = {
        "number": 3, "function": "f", "args": (x.T, [1, (2.5, None)], np.float32(2)),
        "kwargs": {"stride": 2, "nested": {"x": np.zeros((0, 4), np.uint8)}, "one": np.array(5)},
    }  # fmt: skip
    pipe = io.BytesIO()
    write_call(pipe, call)
    pipe.seek(0)
    got = read_call(pipe)
    assert same(got["args"][0], x.T)
    assert got["args"][1:] == ([1, (2.5, None)], 2.0)
    assert got["kwargs"]["stride"] == 2
    assert same(got["kwargs"]["nested"]["x"], np.zeros((0, 4), np.uint8))
    assert same(got["kwargs"]["one"], np.array(5))
    with pytest.raises(ValueError, match="read-only"):
        got["args"][0][...] = 0
    assert read_call(pipe) is None


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "returned None"),
        ("text", "returned str"),
        (np.zeros(2).view(Subclass), "returned Subclass"),
        ([[1, 2], [3, 4]], r"^returned a list with a list in it; return NumPy arrays \(np\.array"),
        ((np.zeros(2), "text"), "^returned a tuple with a str in it; return NumPy arrays"),
        ((np.zeros(2), None), "^returned a tuple with None in it; return NumPy arrays"),
        (np.zeros(2, complex), "dtype complex128"),
        (np.array(["a"]), "dtype <U1"),
        (np.array([None]), "dtype object"),
        (np.zeros(2, np.int8), "dtype int8"),
        (2**70, "dtype object"),
        (17 * [1], "returned 17 things"),
    ],
)
def test_what_is_no_plain_array_is_refused_and_never_cast(value, words):
    with pytest.raises(TypeError, match=words):
        as_arrays(value)


@pytest.mark.parametrize(
    "value",
    [np.zeros((2, 3), ">f4"), np.asfortranarray(np.eye(3)), np.arange(9)[::-2], True, 1, 2.5],
)
def test_the_order_of_bytes_and_axes_in_memory_does_not_matter(value):
    (array,) = as_arrays(value)
    assert array.dtype.str in DTYPES
    assert array.flags.c_contiguous
    assert np.array_equal(array, value)


@pytest.mark.parametrize("kind", [KeyError, SyntaxError, ValueError])
def test_an_exception_s_message_is_cut_and_says_so(kind):
    said = worker.in_words(kind("z" * 5000), "x.py", "")
    assert said.startswith(f"{kind.__name__}: ")
    assert said.count("z") in (999, 1000)  # KeyError puts its message in quotation marks
    assert said.endswith("z...")
    assert worker.in_words(kind("z" * 900), "x.py", "").count("z") == 900
    assert worker.in_words(SyntaxError(), "x.py", "") == "SyntaxError: None"


def test_printed_text_is_kept_within_bounds():
    printed = worker.Printed()
    for _ in range(100):
        printed.write("x" * 1000)
    assert printed.taken() == "x" * (LIMIT_TEXT // 4)
    assert printed.taken() == ""
