"""The process that holds a student's code: it takes calls, runs them, and answers with raw arrays.

It knows no expected value and gives no verdict; it runs as a script, without minseg in reach:

    python -I -S -B worker.py FOLDER_OF_NUMPY

Calls come on standard input and answers leave on standard output, each as one frame. A call is
trusted, so it may be JSON with arrays behind it. An answer is not: its frame has fixed fields,
each with a bound that the reader checks before it allocates anything (read_answer), and no object
is ever rebuilt from what it says.
"""

import contextlib
import io
import json
import os
import struct
import sys
from typing import Any, BinaryIO

LIMIT_BYTES = 64 << 20  # of the arrays in one answer
LIMIT_TEXT = 8000  # bytes of an error or of what the code printed
LIMIT_MESSAGE = 1000  # characters of an exception's own words
LIMIT_ARRAYS = 16
LIMIT_AXES = 8

ANSWER = struct.Struct("<4sQBBII")  # magic, number of the call, status, arrays, error, printed
ARRAY = struct.Struct("<BB")  # place in DTYPES, axes
MAGIC = b"msg1"
DONE, RAISED, NOT_ARRAYS = range(3)
DTYPES = ("<f4", "<f8", "<i4", "<i8", "|u1", "|b1")


class FrameError(Exception):
    """What came over the pipe is no frame of ours; the message says in what it differs."""


# A call: {"number", "function", "args", "kwargs", "arrays": [[dtype, shape], ...]}, then the bytes.


def write_call(pipe: BinaryIO, call: dict[str, Any]) -> None:
    """Send a call, {"packages", "memory", "processes"} to confine the process, or {"source", "file"}
    to load a file; arrays may stand anywhere in its values."""
    import numpy as np

    arrays: list = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            # C order, without ascontiguousarray, which would turn a number into an axis of one
            arrays.append(np.asarray(value, order="C"))
            return {"array": len(arrays) - 1}
        if isinstance(value, dict):
            return {"dict": {key: plain(entry) for key, entry in value.items()}}
        if isinstance(value, (list, tuple)):
            return {type(value).__name__: [plain(entry) for entry in value]}
        return value.item() if isinstance(value, np.generic) else value

    text = {key: plain(value) for key, value in call.items()}
    header = json.dumps(text | {"arrays": [[a.dtype.str, a.shape] for a in arrays]}).encode()
    pipe.write(struct.pack("<I", len(header)) + header)
    for array in arrays:
        pipe.write(array.tobytes())
    pipe.flush()


def read_call(pipe: BinaryIO) -> dict[str, Any] | None:
    """The next call, its arrays rebuilt, for reading only; None at the end."""
    import numpy as np

    length = pipe.read(4)
    if len(length) < 4:
        return None
    header = json.loads(pipe.read(struct.unpack("<I", length)[0]))
    arrays = []
    for dtype, shape in header.pop("arrays"):
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(pipe.read(count * kind.itemsize), kind).reshape(shape).copy()
        array.flags.writeable = False  # an op that changed its input would spoil the network's
        arrays.append(array)

    def rebuilt(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, entry),) = value.items()
        if kind == "array":
            return arrays[entry]
        if kind == "dict":
            return {key: rebuilt(part) for key, part in entry.items()}
        return {"list": list, "tuple": tuple}[kind](rebuilt(part) for part in entry)

    return {key: rebuilt(value) for key, value in header.items()}


# An answer: the fixed fields of ANSWER, the two texts, then for each array its fields and bytes.


def write_answer(
    pipe: BinaryIO, number: int, status: int, arrays: list, error: str = "", printed: str = ""
) -> None:
    """Send an answer: the arrays, or what went wrong in words."""
    texts = [text.encode("utf-8", "replace")[:LIMIT_TEXT] for text in (error, printed)]
    pipe.write(ANSWER.pack(MAGIC, number, status, len(arrays), *map(len, texts)))
    pipe.write(b"".join(texts))
    for array in arrays:
        pipe.write(ARRAY.pack(DTYPES.index(array.dtype.str), array.ndim))
        pipe.write(struct.pack(f"<{array.ndim}Q", *array.shape) + array.tobytes())
    pipe.flush()


def read_answer(pipe: BinaryIO, number: int, limit: int = LIMIT_BYTES) -> tuple:
    """The answer to a call: (status, arrays, error, printed). Every field is checked before use.

    Raises:
        EOFError: the pipe ended.
        FrameError: a field out of its bounds, or the answer to another call.
    """
    import numpy as np

    magic, to, status, count, *lengths = ANSWER.unpack(_exactly(pipe, ANSWER.size))
    if magic != MAGIC or status not in (DONE, RAISED, NOT_ARRAYS):
        raise FrameError("wrote into the pipe that carries its answers")
    if to != number:
        raise FrameError(f"answered call {to} when call {number} was asked")
    if count > LIMIT_ARRAYS or max(lengths) > LIMIT_TEXT:
        raise FrameError("announced more than an answer may hold")
    error, printed = (_exactly(pipe, n).decode("utf-8", "replace") for n in lengths)
    arrays = []
    for _ in range(count):
        code, axes = ARRAY.unpack(_exactly(pipe, ARRAY.size))
        if code >= len(DTYPES) or axes > LIMIT_AXES:
            raise FrameError("announced an array of a kind that is not accepted")
        shape = struct.unpack(f"<{axes}Q", _exactly(pipe, 8 * axes))
        dtype = np.dtype(DTYPES[code])
        size = dtype.itemsize
        for n in shape:
            size *= n
        if size > limit or max(shape, default=0) > limit:
            raise FrameError(f"returned an array of shape {shape}, more than {limit:,} bytes")
        limit -= size
        data = _exactly(pipe, size)
        if DTYPES[code] == "|b1" and data.translate(None, b"\0\1"):
            raise FrameError("returned truth values that are neither true nor false")
        arrays.append(np.frombuffer(data, dtype).reshape(shape))
    return status, arrays, error, printed


def _exactly(pipe: BinaryIO, count: int) -> bytes:
    data = pipe.read(count) if count else b""
    if len(data) < count:
        raise EOFError
    return data


# The rest runs in the worker's own process only.


class Printed(io.TextIOBase):
    """Keeps the last of what the code prints, and no more, however much it is."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text = (self.text + str(text))[-LIMIT_TEXT // 4 :]
        return len(text)

    def taken(self) -> str:
        text, self.text = self.text, ""
        return text


def confine(memory: int, processes: int | None) -> None:
    """Bound this process for good, where the system can: memory, files, processes, no core dump.

    Files are small and few, since they may lie in memory (memfd_create) where nothing else counts
    them. A core dump of 1 byte is none, and unlike 0 bytes it calls no crash reporter either.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    bounds = {"AS": memory, "FSIZE": 1 << 20, "NOFILE": 32, "CORE": 1}
    if processes is not None:
        bounds["NPROC"] = processes
    for name, bound in bounds.items():
        # macOS refuses some; only class grading relies on them, and it tests its lock.
        with contextlib.suppress(ValueError, OSError, AttributeError):
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (bound, bound))


def in_words(error: BaseException, file: str, source: str) -> str:
    """An exception, with the line of the student's own file where it happened."""
    lines = source.splitlines()
    number = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            number = trace.tb_lineno
        trace = trace.tb_next
    message = str(error.msg if isinstance(error, SyntaxError) else error)
    if len(message) > LIMIT_MESSAGE:
        message = f"{message[:LIMIT_MESSAGE]}..."
    if isinstance(error, ValueError) and "read-only" in message:
        message += " (a function must not change its arguments: work on a copy)"
    where = ""
    if number and 0 < number <= len(lines):
        where = f"line {number}:  {lines[number - 1].strip()}\n"
    return f"{where}{type(error).__name__}: {message}"


def as_arrays(value: Any) -> list:
    """What a function returned as plain arrays; a sentence (TypeError) where it is anything else.

    Nothing is converted: only true arrays of DTYPES and true numbers pass, never a subclass, whose
    methods could lie.
    """
    import numpy as np

    values = value if type(value) in (tuple, list) else [value]
    if len(values) > LIMIT_ARRAYS:
        raise TypeError(f"returned {len(values)} things; at most {LIMIT_ARRAYS} are expected")
    arrays = []
    for entry in values:
        if type(entry) in (int, float, bool) or isinstance(entry, np.generic):
            entry = np.array(entry)
        if value is None:
            raise TypeError("returned None (is a `return` missing?)")
        if type(entry) is not np.ndarray:
            if entry is value:
                raise TypeError(f"returned {type(value).__name__}; a plain NumPy array is expected")
            kind = "None" if entry is None else f"a {type(entry).__name__}"
            raise TypeError(
                f"returned a {type(value).__name__} with {kind} in it; return NumPy arrays "
                "(np.array(...) makes one)"
            )
        if entry.dtype.newbyteorder("<").str not in DTYPES:
            raise TypeError(
                f"returned an array of dtype {entry.dtype}; float32, float64, int32, int64, uint8 "
                "or bool is expected"
            )
        arrays.append(entry.astype(entry.dtype.newbyteorder("<"), order="C", copy=True))
    return arrays


def serve(calls: BinaryIO, answers: BinaryIO) -> None:
    """Load a file, then answer calls until the pipe ends."""
    printed = Printed()
    sys.stdout = sys.stderr = printed  # type: ignore[assignment]
    names: dict[str, Any] = {}
    source, file = "", ""
    while (call := read_call(calls)) is not None:
        number = call["number"]
        try:
            result: list = []
            if "packages" in call:
                confine(call["memory"], call["processes"])
                refuse_imports(call["packages"])
            elif "source" in call:
                source, file = call["source"], call["file"]
                names = {"__name__": "exercise", "__file__": file}
                exec(compile(source, file, "exec"), names)
            else:
                result = answer_of(names, call)
        except TypeError as error:
            known = error.__traceback__ is not None and _raised_here(error)
            status = NOT_ARRAYS if known else RAISED
            words = str(error) if known else in_words(error, file, source)
            write_answer(answers, number, status, [], words, printed.taken())
        except BaseException as error:  # SystemExit and KeyboardInterrupt too: they are answers
            write_answer(
                answers, number, RAISED, [], in_words(error, file, source), printed.taken()
            )
        else:
            write_answer(answers, number, DONE, result, "", printed.taken())


def answer_of(names: dict[str, Any], call: dict[str, Any]) -> list:
    function = names.get(call["function"])
    if not callable(function):
        raise TypeError(f"there is no function {call['function']} in the file")
    return as_arrays(function(*call["args"], **call["kwargs"]))


def _raised_here(error: TypeError) -> bool:
    """Was it as_arrays or answer_of that raised, and no code below them?"""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_name in ("as_arrays", "answer_of")


def refuse_imports(packages: list[str]) -> None:
    """Say, where a student could be tempted, that the exercise is solved without that package.

    A kindness, not the lock: in class grading, nothing but these packages is there to import.
    """
    allowed = {*packages, *sys.stdlib_module_names, *(name.split(".")[0] for name in sys.modules)}

    class Refuse:
        def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
            if name.split(".")[0] not in allowed:
                raise ImportError(
                    f"this exercise is solved with {' and '.join(packages)} alone, without {name}"
                )

    sys.meta_path.insert(0, Refuse())  # type: ignore[arg-type]


def main() -> None:
    """Keep the two pipes for ourselves, so that what the code prints cannot mix with the answers."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "r+b") as nowhere:
        for number in (0, 1, 2):
            os.dup2(nowhere.fileno(), number)
    sys.path[:] = [*sys.argv[1:], *sys.path]
    sys.dont_write_bytecode = True
    import numpy  # noqa: F401  (before the limits: it needs more than a student's code)

    serve(calls, answers)


if __name__ == "__main__":
    main()
