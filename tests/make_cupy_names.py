"""Write cupy_names.txt: the public names of the installed CuPy and what each accepts.

The strict stand-in for CuPy (strict_cupy.py) offers these names and no others. CuPy imports
without a GPU, so any machine with `pip install cupy-cuda13x` can refresh the list:

    python tests/make_cupy_names.py            write the file
    python tests/make_cupy_names.py --check    compare only: 0 same, 1 different, 2 no comparison
"""

import inspect
import sys
from pathlib import Path

import numpy

PATH = Path(__file__).with_name("cupy_names.txt")
NAMESPACES = ("", "linalg.", "lib.stride_tricks.")
CUDA_NAMES = ["is_available", "Device", "Device.id", "Device.synchronize", "Device.use",
              "runtime.CUDARuntimeError", "runtime.getDeviceCount"]  # fmt: skip


def parameter_text(signature: inspect.Signature) -> str:
    """Parameters without annotations, every default written as `...`."""
    bare = [
        p.replace(annotation=p.empty, default=p.default if p.default is p.empty else ...)
        for p in signature.parameters.values()
    ]
    return str(inspect.Signature(bare)).replace("Ellipsis", "...")


def method_parameter_text(docstring: str) -> str:
    """Parameters of a compiled method, read from its docstring's first line.

    `_ndarray_base.sort(self, int axis=-1, kind=None)` becomes `(axis=..., kind=...)`.
    """
    inside = docstring.splitlines()[0].partition("(")[2].partition(")")[0]
    bare = []
    for parameter in inside.split(",")[1:]:
        typed_name, equals, _ = parameter.partition("=")
        bare.append(typed_name.split()[-1] + ("=..." if equals else ""))
    return f"({', '.join(bare)})"


def describe(name: str, value: object, ufunc: type) -> str:
    """One line: `name ufunc`, `name(parameters)`, or the name alone."""
    if isinstance(value, ufunc):
        return f"{name} ufunc"
    if isinstance(value, type) or not callable(value) or value is getattr(numpy, name, None):
        return name  # what CuPy hands on from NumPy changes with NumPy
    try:
        return name + parameter_text(inspect.signature(value))
    except ValueError:  # compiled: CuPy tells no signature
        return name


def names_text() -> str:
    """The whole file, from the CuPy that is installed."""
    import cupy

    lines = []
    for prefix in NAMESPACES:
        namespace = cupy
        for part in prefix.split(".")[:-1]:
            namespace = getattr(namespace, part)
        for name in sorted(n for n in dir(namespace) if not n.startswith("_")):
            if name in ("annotations", "np"):  # left over from CuPy's own import lines
                continue
            lines.append(describe(prefix + name, getattr(namespace, name), cupy.ufunc))
    for name in sorted(n for n in dir(cupy.ndarray) if not n.startswith("_")):
        method = getattr(cupy.ndarray, name)
        parameters = method_parameter_text(method.__doc__) if callable(method) else ""
        lines.append(f"ndarray.{name}{parameters}")
    for name in CUDA_NAMES:
        value = cupy.cuda
        for part in name.split("."):
            value = getattr(value, part)
        lines.append(f"cuda.{name}")
    return f"# CuPy {cupy.__version__}, listed by make_cupy_names.py\n" + "\n".join(lines) + "\n"


def check() -> int:
    """Compare the file with the installed CuPy and say what differs."""
    try:
        import cupy
    except ImportError as error:
        print(f"cupy cannot be imported here ({error}), so there is nothing to compare with")
        return 2
    listed = PATH.read_text(encoding="utf-8").splitlines()
    if f"CuPy {cupy.__version__}," not in listed[0]:
        print(f"cupy {cupy.__version__} is installed, but the list says: {listed[0]}")
        return 2
    differences = sorted(set(listed) ^ set(names_text().splitlines()))
    print("\n".join(differences) or "the list agrees with the installed cupy")
    return 1 if differences else 0


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(check())
    PATH.write_text(names_text(), encoding="utf-8", newline="\n")
    print(f"wrote {PATH}")
