"""A strict stand-in for CuPy: NumPy behind CuPy's rules, so the GPU path is tested without a GPU.

An array of the stand-in holds a NumPy array and shows only what cupy.ndarray shows; the module
offers only CuPy's names with CuPy's parameters (cupy_names.txt, read from the real package). What
CuPy refuses is refused, and so are things that CuPy lets pass but this project does not want:
NumPy functions called on device arrays, a NumPy array as an index (a hidden copy to the device),
a fancy index out of range (CuPy wraps it), a store through duplicate indices (undefined on the
device), comparison with None. Not imitated: speed, rounding, memory layout, cupy.random, kernels.
Source: CuPy 14.2 and its user guide, "Differences between CuPy and NumPy".

    with strict_cupy.installed() as xp:      # in a fixture: xp = strict_cupy.install(monkeypatch)
        x = xp.asarray(host)
"""

import ctypes
import functools
import importlib.machinery
import inspect
import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, NoneType, SimpleNamespace
from typing import Any, NamedTuple

import cuda_shim
import numpy as np
import pytest

_TITLE, *_LINES = Path(__file__).with_name("cupy_names.txt").read_text("utf-8").splitlines()
VERSION = _TITLE.split()[2].rstrip(",")
# name -> its parameters; None where the real package does not tell them
NAMES: dict[str, str | None] = {}
for _line in _LINES:
    if _line.endswith(" ufunc"):
        NAMES[_line.removesuffix(" ufunc")] = "*operands, out=..., casting=..., dtype=..."
    else:
        _name, _bracket, _rest = _line.partition("(")
        NAMES[_name] = _rest.removesuffix(")") if _bracket else None
# CuPy names writeable= here only to refuse it.
NAMES["lib.stride_tricks.sliding_window_view"] = "x, window_shape, axis=..., *, subok=..."

DTYPES = "?bhilqBHILQefdFD"
NUMBERS = (bool, int, float, complex, np.bool_, np.number)
# Parameters by name: those that take device arrays only, those that gather several arguments
# (each is looked at), those that take numbers too, but no lists, and those that take Python ints.
ARRAYS = {"a", "arr", "array", "ary", "condition", "dst", "prototype", "tup"}
SEVERAL = {"tup", "args", "arys", "operands", "xi"}
ARRAYS_OR_NUMBERS = {"b", "x", "y", "z", "m", "v", "A", "a1", "a2", "src", "values", "weights",
                     "fill_value", "a_min", "a_max"} | SEVERAL  # fmt: skip
INTS = {"shape", "newshape", "axis", "axes", "start", "stop", "step", "num", "N", "M", "n", "k",
        "minlength", "pad_width", "repeats", "reps", "shift", "dims", "decimals",
        "window_shape"}  # fmt: skip
ANYTHING_GOES = {"allclose", "isclose", "ndim", "shape"}
# NumPy answers these with a Python number, CuPy with a 0-d array.
ANSWERED_ON_DEVICE = {"allclose", "array_equal", "array_equiv", "count_nonzero"}
# What DeviceArray passes straight through to the array inside.
ATTRIBUTES = ("shape", "dtype", "ndim", "size", "itemsize", "nbytes", "strides",
              "T", "mT", "real", "imag")  # fmt: skip
SPECIAL_METHODS = ("bool", "int", "float", "complex", "len", "repr", "str", "format",
                   "neg", "pos", "abs", "invert")  # fmt: skip
OPERATORS = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide,
             "floordiv": np.floor_divide, "mod": np.remainder, "pow": np.power,
             "lshift": np.left_shift, "rshift": np.right_shift, "and": np.bitwise_and,
             "or": np.bitwise_or, "xor": np.bitwise_xor, "matmul": np.matmul}  # fmt: skip
NOT_IMITATED = {"put", "place", "ndarray.put"}  # write a[i] = v, which checks its indices


class Flags(NamedTuple):
    """Memory layout; nothing here can be set, as in CuPy."""

    c_contiguous: bool
    f_contiguous: bool
    owndata: bool


class DeviceArray:
    """cupy.ndarray: a NumPy array that only the stand-in's functions can see."""

    __slots__ = ("_host",)
    __array_ufunc__ = None  # NumPy's operators leave the work, and the refusal, to this class
    _host: np.ndarray

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError("cupy.ndarray: make arrays with cupy.empty, cupy.zeros or cupy.asarray")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise TypeError(
            "implicit conversion of a CuPy array to a NumPy array is not allowed; "
            "call x.get() or cupy.asnumpy(x)"
        )

    def __array_function__(self, function: Callable, *_: Any) -> Any:
        raise TypeError(
            f"numpy.{function.__name__} was called on a CuPy array; call it through the array's "
            "own module (xp), or move the array with x.get()"
        )

    @property
    def flags(self) -> Flags:
        return Flags(*(getattr(self._host.flags, name) for name in Flags._fields))

    @property
    def device(self) -> "Device":
        return Device(0)

    def get(self, stream: Any = None, order: Any = "C", out: Any = None, blocking: bool = True):
        """A copy on the host."""
        if out is None:
            return np.array(self._host, order=order)
        np.copyto(out, self._host, casting="no")
        return out

    def __getitem__(self, key: Any) -> "DeviceArray":
        return _device(self._host[_host_key(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(value, (DeviceArray, *NUMBERS)):
            raise TypeError(f"cupy: x[...] = {type(value).__name__}; only a number or a CuPy array")
        host_key = _host_key(key)
        if isinstance(value, DeviceArray):
            if any(isinstance(part, list | np.ndarray) for part in host_key):
                _refuse_duplicates("x[i] = v", _positions(self)[key])
            value = value._host
        self._host[host_key] = value

    def __iter__(self) -> Iterator["DeviceArray"]:
        return (self[i] for i in range(len(self)))  # type: ignore[arg-type]

    def __reduce__(self) -> tuple:  # pickle, copy and deepcopy
        return array, (self.get(),)


def _device(host: Any) -> DeviceArray:
    """The host array, or number, wrapped: a view stays a view."""
    host = np.asarray(host)
    if host.dtype.char not in DTYPES:
        raise ValueError(f"cupy: unsupported dtype {host.dtype}; CuPy has numbers and bool only")
    result = object.__new__(DeviceArray)
    result._host = host
    return result


def _host_key(key: Any) -> tuple:
    """The index for the array inside: ints, slices, None, Ellipsis, lists and device arrays."""
    parts = key if isinstance(key, tuple) else (key,)
    if any(isinstance(part, np.ndarray) for part in parts):
        raise TypeError("cupy: a NumPy array used as an index; move it with cupy.asarray first")
    host = tuple(part._host if isinstance(part, DeviceArray) else part for part in parts)
    if sum(isinstance(part, np.ndarray) and part.dtype == bool for part in host) > 1:
        raise IndexError("cupy: CuPy takes at most one boolean array in an index")
    # x[0] of a vector is a 0-d view in CuPy, a number in NumPy: x[0, ...] is the view.
    return host if any(part is Ellipsis for part in host) else (*host, ...)


def _positions(x: DeviceArray) -> DeviceArray:
    """Each element's number: whatever selects elements of x selects their numbers here."""
    return _device(np.arange(x._host.size).reshape(x._host.shape))


def _refuse_duplicates(what: str, positions: DeviceArray) -> None:
    if np.unique(positions._host).size < positions._host.size:
        raise ValueError(
            f"cupy: {what} stores several values in one element; which one stays is undefined"
        )


@functools.cache
def _signature(name: str) -> inspect.Signature:
    parameters = NAMES[name]
    text = "*_, **__" if parameters is None else parameters
    return inspect.signature(eval(f"lambda {text}: None"))


def _check_arguments(name: str, args: tuple, keywords: dict[str, Any]) -> None:
    """Refuse keywords that CuPy's function lacks, and what is not on the side it wants it."""
    try:
        arguments = _signature(name).bind(*args, **keywords).arguments
    except TypeError as error:
        raise TypeError(f"cupy.{name}: {error}; CuPy has {name}({NAMES[name]})") from None
    for parameter, value in arguments.items():
        parts = value if isinstance(value, list | tuple) else (value,)
        if parameter in INTS and any(isinstance(part, DeviceArray) for part in parts):
            raise TypeError(f"cupy.{name}: {parameter} is on the device, it must be a Python int")
        for each in value if parameter in SEVERAL else (value,):
            refused = (parameter in ARRAYS and not isinstance(each, DeviceArray)) or (
                parameter in ARRAYS_OR_NUMBERS and isinstance(each, list | tuple)
            )
            if refused and name not in ANYTHING_GOES:
                raise TypeError(
                    f"cupy.{name}: {parameter} got a {type(each).__name__}, but CuPy takes arrays "
                    "on the device there (cupy.asarray moves one)"
                )


def _call(name: str, function: Callable, *args: Any, **keywords: Any) -> Any:
    """function(*args, **keywords) on the arrays inside; the arrays it returns are wrapped."""
    owners = {}

    def unwrap(value: Any) -> Any:
        if isinstance(value, DeviceArray):
            owners[id(value._host)] = value
            return value._host
        if isinstance(value, np.ndarray):
            raise TypeError(
                f"cupy.{name}: got a NumPy array {value.shape}; move it with cupy.asarray first"
            )
        return type(value)(map(unwrap, value)) if type(value) in (list, tuple) else value

    def wrap(value: Any) -> Any:
        if id(value) in owners:  # out=, or an array that needed no copy
            return owners[id(value)]
        if isinstance(value, list | tuple):
            return (list if isinstance(value, list) else tuple)(map(wrap, value))
        return _device(value) if isinstance(value, np.ndarray | np.generic) else value

    result = function(*unwrap(args), **{key: unwrap(value) for key, value in keywords.items()})
    return wrap(np.asarray(result) if name in ANSWERED_ON_DEVICE else result)


def _function(name: str, function: Callable) -> Callable:
    """CuPy's function (or method) of that name; function is NumPy's."""

    def call(*args: Any, **keywords: Any) -> Any:
        _check_arguments(name, args[name.startswith("ndarray.") :], keywords)
        return _call(name, function, *args, **keywords)

    return call


def _operator(name: str, function: Callable, kind: str = "plain") -> Callable:
    def operate(self: DeviceArray, other: Any) -> Any:
        if not isinstance(other, (DeviceArray, *NUMBERS)):
            if getattr(other, "__array_ufunc__", self) is None:  # it has operators of its own
                return NotImplemented
            raise TypeError(
                f"cupy: {name} of a CuPy array and {type(other).__name__}; CuPy takes its own "
                "arrays and numbers only (cupy.asarray moves a NumPy array)"
            )
        operands = (other, self) if kind == "reflected" else (self, other)
        return _call(name, function, *operands, **({"out": self} if kind == "in place" else {}))

    return operate


def _complete_device_array() -> None:
    """Give DeviceArray the attributes, methods and operators that only pass through."""
    for name in ATTRIBUTES:
        read = functools.partial(_call, name, operator.attrgetter(name))
        setattr(DeviceArray, name, property(lambda self, read=read: read(self)))
    for name in SPECIAL_METHODS:
        forward = functools.partial(_call, name, getattr(np.ndarray, f"__{name}__"))
        setattr(DeviceArray, f"__{name}__", lambda *args, forward=forward: forward(*args))
    for name, ufunc in OPERATORS.items():
        setattr(DeviceArray, f"__{name}__", _operator(name, ufunc))
        setattr(DeviceArray, f"__r{name}__", _operator(name, ufunc, "reflected"))
        if name != "matmul":  # CuPy has no @= of its own: Python computes a @ b and rebinds a
            setattr(DeviceArray, f"__i{name}__", _operator(name, ufunc, "in place"))
    for name in ("lt", "le", "eq", "ne", "gt", "ge"):
        setattr(DeviceArray, f"__{name}__", _operator(name, getattr(operator, name)))
    DeviceArray.__hash__ = None  # type: ignore[assignment]
    for name, parameters in NAMES.items():
        short = name.removeprefix("ndarray.")
        new = short != name and name not in NOT_IMITATED and not hasattr(DeviceArray, short)
        if new and parameters is not None and hasattr(np.ndarray, short):
            setattr(DeviceArray, short, _function(name, getattr(np.ndarray, short)))


_complete_device_array()


def array(
    obj: Any, dtype: Any = None, copy: Any = True, order: Any = "K", subok: bool = False,
    ndmin: int = 0, *, blocking: bool = False,
) -> DeviceArray:  # fmt: skip
    """A new device array; with asarray the only way in from the host."""

    def unwrap(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [unwrap(each) for each in value]
        return value._host if isinstance(value, DeviceArray) else value

    return _device(np.array(unwrap(obj), dtype, order=order, ndmin=ndmin))


def asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> DeviceArray:
    """A device array as it is; anything else is copied to the device."""
    if isinstance(a, DeviceArray):
        return _call("asarray", np.asarray, a, dtype, order, copy=copy)
    return array(a, dtype, order=order or "K")


def asnumpy(
    a: Any, stream: Any = None, order: Any = "C", out: Any = None, *, blocking: bool = True
) -> np.ndarray:
    """A copy on the host."""
    return a.get(order=order, out=out) if isinstance(a, DeviceArray) else np.asarray(a, order=order)


def get_array_module(*args: Any) -> ModuleType:
    return module if any(isinstance(a, DeviceArray) for a in args) else np


def put_along_axis(arr: DeviceArray, indices: DeviceArray, values: Any, axis: Any) -> None:
    if isinstance(arr, DeviceArray) and isinstance(values, DeviceArray):
        stored = _call("put_along_axis", np.take_along_axis, _positions(arr), indices, axis)
        _refuse_duplicates("put_along_axis", stored)
    _function("put_along_axis", np.put_along_axis)(arr, indices, values, axis)


def as_strided(x: DeviceArray, shape: Any = None, strides: Any = None) -> DeviceArray:
    """A view; where its elements share memory it cannot be written: threads would race for it."""
    view = np.lib.stride_tricks.as_strided(x._host, shape, strides)
    steps = [stride * np.arange(n) for n, stride in zip(view.shape, view.strides, strict=True)]
    offsets = functools.reduce(np.add.outer, steps, np.zeros((), int))
    if np.unique(offsets).size < offsets.size:
        view.flags.writeable = False
    return _device(view)


def _compile(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("cupy: the stand-in compiles no CUDA; run this test on a GPU")


class RawKernel:
    """A kernel of a RawModule, run by the processor."""

    def __init__(self, module: "RawModule", name: str) -> None:
        self.module, self.name = module, name

    def __call__(self, grid: tuple, block: tuple, args: tuple) -> None:
        held = []
        for each in args:
            if isinstance(each, DeviceArray):
                if not each.flags.c_contiguous:
                    raise ValueError("cupy.RawKernel: a kernel sees no strides; hand it no view")
                held.append(each._host)
            elif isinstance(each, np.ndarray) and each.size == 1:  # a struct, by value
                held.append((ctypes.c_char * each.nbytes).from_buffer_copy(each))
            else:
                raise TypeError(
                    f"cupy.RawKernel: {type(each).__name__}; hand over arrays on the device, and "
                    "numbers as a NumPy array of one element, whose type is theirs"
                )
        library = cuda_shim.compiled(self.module.code, self.module.options)
        cuda_shim.launch(library, self.name, grid, block, held)


class RawModule:
    """CUDA source, compiled for the processor when a kernel first runs."""

    def __init__(self, *, code: str, options: tuple = ()) -> None:
        self.code, self.options = code, options

    def get_function(self, name: str) -> RawKernel:
        return RawKernel(self, name)


def _last_owner(places: DeviceArray, size: int) -> DeviceArray:
    """minseg.cuda.last_owner without a kernel: of several values NumPy keeps the last."""
    owners = np.full((*places.shape[:2], size), -1, np.int32)
    numbers = np.broadcast_to(np.arange(places.shape[2], dtype=np.int32), places.shape)
    np.put_along_axis(owners, places._host, numbers, axis=2)
    return _device(owners)


class Products:
    """cupy._core._routines_linalg: how float32 is rounded before a product."""

    COMPUTE_TYPE_DEFAULT, COMPUTE_TYPE_TF32 = 1, 7

    def __init__(self) -> None:
        self.kinds: dict[np.dtype, int] = {}

    def set_compute_type(self, dtype: Any, compute_type: int) -> None:
        self.kinds[np.dtype(dtype)] = compute_type

    def get_compute_type(self, dtype: Any) -> int:
        return self.kinds.get(np.dtype(dtype), self.COMPUTE_TYPE_DEFAULT)


class CUDARuntimeError(RuntimeError):
    """What CuPy raises for a device that is not there."""


class Device:
    """The only device there is."""

    def __init__(self, device: int = 0) -> None:
        if device != 0:
            raise CUDARuntimeError(f"cupy.cuda.Device: there is device 0 only, not {device}")
        self.id = 0

    def use(self) -> None: ...

    def synchronize(self) -> None: ...

    def __enter__(self) -> "Device":
        return self

    def __exit__(self, *_: object) -> None: ...


class Namespace(ModuleType):
    """A module with the real package's names and no others."""

    def __init__(self, name: str, **members: Any) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)  # find_spec asks for one
        self.__dict__.update(members)

    def __getattr__(self, attribute: str) -> Any:
        name = f"{self.__name__}.{attribute}".removeprefix("cupy.")
        if name not in NAMES:
            raise AttributeError(f"CuPy {VERSION} has no cupy.{name} (see tests/cupy_names.txt)")
        twin: Any = np
        for part in name.split("."):
            twin = getattr(twin, part, ...)
        if isinstance(twin, type):  # dtypes and errors are NumPy's own
            known = issubclass(twin, np.generic | np.dtype | np.finfo | np.iinfo | Exception)
        else:
            known = callable(twin) or isinstance(twin, float | NoneType)
        if not known or name in NOT_IMITATED:
            raise NotImplementedError(f"cupy.{name} exists, but the stand-in does not imitate it")
        if callable(twin) and not isinstance(twin, type):
            twin = _function(name, twin)
        setattr(self, attribute, twin)
        return twin


_cuda = ModuleType("cupy.cuda")
_cuda.__dict__.update(
    Device=Device,
    is_available=lambda: True,
    runtime=SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=CUDARuntimeError),
)
_stride_tricks = Namespace("cupy.lib.stride_tricks", as_strided=as_strided)
_kernels = ("ElementwiseKernel", "ReductionKernel", "RawKernel", "fuse")
module = Namespace(
    "cupy",
    __version__=VERSION,
    ndarray=DeviceArray,
    array=array,
    asarray=asarray,
    asanyarray=asarray,
    asnumpy=asnumpy,
    get_array_module=get_array_module,
    put_along_axis=put_along_axis,
    is_available=lambda: True,
    cuda=_cuda,
    RawModule=RawModule,
    _core=SimpleNamespace(_routines_linalg=Products()),
    linalg=Namespace("cupy.linalg"),
    lib=Namespace("cupy.lib", stride_tricks=_stride_tricks),
    **dict.fromkeys(_kernels, _compile),
)
MODULES = {m.__name__: m for m in (module, _cuda, module.linalg, module.lib, _stride_tricks)}


def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make `import cupy` find the stand-in until the monkeypatch is undone; returns it."""
    for name, stand_in in MODULES.items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    if cuda_shim.MISSING:
        monkeypatch.setattr("minseg.cuda.serves", lambda *_: False)
        monkeypatch.setattr("minseg.cuda.last_owner", _last_owner)
    return module


@contextmanager
def installed() -> Iterator[ModuleType]:
    """The same, for a with block."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield install(monkeypatch)
