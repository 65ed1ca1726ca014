"""The habits of the house: who imports whom, what a docstring says, what an import may do."""

import argparse
import ast
import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import minseg
import minseg.cli
import minseg.data
import minseg.functional as F
import minseg.metrics
import minseg.windows

PACKAGE = Path(minseg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")

# A file imports only files above it; inside a folder the order is free.
# __init__.py is the door: `from minseg import Tensor` is for files below it.
ORDER = [
    "backend.py", "threads.py", "memory.py", "channels.py", "arguments.py", "files.py", "film.py",
    "plot.py", "strips.py", "cuda.py", "windows.py", "tensor.py", "functional/", "loops.py",
    "check.py", "nn.py", "optim.py", "metrics.py", "models/", "data/", "segmenter.py", "train.py",
    "anatomy.py", "classics.py", "formal.py", "verdict.py", "question.py", "proofs.py", "claims/",
    "roofline.py", "bench.py", "__init__.py", "lectures.py", "grading/", "demo.py", "cli.py",
    "__main__.py",
]  # fmt: skip


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), **environment},
        capture_output=True,
        encoding="cp1252",
        timeout=120,
    )


def relative(path):
    return path.relative_to(PACKAGE).as_posix()


def unit(path):
    """The entry of the list that a file belongs to: "nn.py", or "models/" for models/fcn.py."""
    first, _, rest = relative(path).partition("/")
    return f"{first}/" if rest else first


def imported_modules(tree, package):
    """Dotted names of all modules that a file of that package imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *([node.module] if node.module else [])]
            yield from (".".join([*parts, alias.name]) for alias in node.names)


def imported_units(source, package="minseg"):
    """The entries of the list that a file imports; "__init__.py" for a name of minseg itself."""
    for name in imported_modules(ast.parse(source), package):
        root, _, rest = name.partition(".")
        if root == "minseg":
            first = rest.split(".")[0]
            entries = [f"{first}.py", f"{first}/"] if first else []
            yield next((entry for entry in entries if (PACKAGE / entry).exists()), "__init__.py")


def package_of(path):
    return ".".join(["minseg", *path.relative_to(PACKAGE).parts[:-1]])


def imports_below(source, entry, package="minseg"):
    """The imports of a file that the order forbids."""
    allowed = ORDER[: ORDER.index(entry)] + [entry] * entry.endswith("/")
    return [name for name in imported_units(source, package) if name not in allowed]


def test_every_file_has_its_place_in_the_order():
    unknown = sorted({unit(path) for path in FILES} - set(ORDER))
    assert not unknown, f"add {', '.join(unknown)} to ORDER, below all that it imports"
    gone = [entry for entry in ORDER if not (PACKAGE / entry).exists()]
    assert not gone, f"take {', '.join(gone)} out of ORDER: there is no such file any more"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_imports_only_files_above_it(path):
    if unit(path) not in ORDER:
        pytest.skip("the test above says so")
    wrong = imports_below(path.read_text("utf-8"), unit(path), package_of(path))
    assert not wrong, f"{relative(path)} imports {', '.join(wrong)}, which stand below it"


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        ("import minseg.functional as F\nfrom minseg import strips, nn\n", ["nn.py"]),
        ("def f():\n    from minseg.models.fcn import FCN\n", ["models/"]),
        ("from . import optim, tensor\nfrom .data import loader\n", ["optim.py", "data/"]),
        ("from minseg import Tensor\nimport minseg\n", ["__init__.py", "__init__.py"]),
        ("import numpy\nimport minseg.check\n", []),
    ],
)
def test_an_import_from_below_is_seen_however_it_is_written(source, wrong):
    assert imports_below(source, "nn.py") == wrong


def test_only_backend_knows_cupy():
    for path in FILES:
        tree = ast.parse(path.read_text("utf-8"))
        names = set(imported_modules(tree, package_of(path)))
        names |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        cupy = {n for n in names if isinstance(n, str) and re.match(r"cupy(\.|$)", n)}
        assert bool(cupy) == (relative(path) == "backend.py"), relative(path)


def test_windows_strips_and_metrics_know_no_tensor():
    def reached(entry, seen):
        if entry not in seen:
            seen.add(entry)
            for below in imported_units((PACKAGE / entry).read_text("utf-8")):
                reached(below, seen)
        return seen

    for entry in ("windows.py", "strips.py", "metrics.py"):
        assert "tensor.py" not in reached(entry, set())
    assert "tensor.py" in reached("check.py", set())  # the search does find what is there


# Docstrings

SIZE = r"(?:\.\.\.|(?:[A-Z]{1,3}\d?|size)(?:\s*[-+*/]\s*\w+)*|\d[\d,]*)"
SHAPE = re.compile(rf"\({SIZE}(?:, {SIZE})*,?\)|any (?:shape|dimension)")
WITHOUT_ARRAYS = {"output_size"}


def public(module):
    """Functions and classes written in this module."""
    return {
        name: thing
        for name, thing in vars(module).items()
        if (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    }


def modules_of(*names):
    for name in names:
        module = importlib.import_module(f"minseg.{name}")
        yield module
        for part in pkgutil.iter_modules(getattr(module, "__path__", [])):
            yield importlib.import_module(f"{module.__name__}.{part.name}")


def test_every_public_function_class_and_method_has_a_docstring():
    bare = []
    for module in modules_of("functional", "windows", "nn", "metrics", "models", "data"):
        for name, thing in public(module).items():
            if not thing.__doc__:
                bare.append(f"{module.__name__}.{name}")
            for method, value in vars(thing).items() if inspect.isclass(thing) else ():
                documented = inspect.isfunction(value) and not method.startswith("_")
                # What forward does is what the class's docstring says.
                if (
                    documented
                    and method != "forward"
                    and not inspect.getdoc(getattr(thing, method))
                ):
                    bare.append(f"{module.__name__}.{name}.{method}")
    assert not bare, f"no docstring: {', '.join(bare)}"


def takes_or_gives_arrays(function):
    return "ndarray" in str(annotations := inspect.get_annotations(function)) or any(
        annotation is minseg.backend.Array for annotation in annotations.values()
    )


@pytest.mark.parametrize("name", F.__all__)
def test_an_op_s_docstring_states_its_shapes_and_its_source(name):
    text = inspect.getdoc(getattr(F, name)) or ""
    assert re.search(r"^Source: \S", text, re.M), f"{name}: no line `Source: ...`"
    if name in WITHOUT_ARRAYS:
        assert "in pixels" in text
    else:
        assert SHAPE.search(text), f"{name}: no shape such as (N, C, H, W), nor 'any shape'"


def test_the_contractions_the_metrics_and_the_data_state_their_shapes():
    functions = [getattr(minseg.data, name) for name in minseg.data.__all__]
    functions += public(minseg.metrics).values()
    for kind in (minseg.windows.Windows, minseg.metrics.ConfusionMatrix):
        functions += [f for name, f in vars(kind).items() if not name.startswith("_")]
    functions = [f for f in functions if inspect.isfunction(f) and takes_or_gives_arrays(f)]
    assert {"slide", "spread", "overlap", "iou"} <= {f.__name__ for f in functions}
    silent = [f.__qualname__ for f in functions if not SHAPE.search(f.__doc__ or "")]
    assert not silent, f"no shape such as (N, C, H, W), nor 'any shape': {', '.join(silent)}"


@pytest.mark.parametrize(
    ("text", "states"),
    [
        ("x (N, C, H, W) -> (N, O, OH, OW)", True),
        ("weight (O, C/groups, KH, KW)", True),
        ("x (..., H + top + bottom, W)", True),
        ("b (O,)", True),
        ("Largest over any shape", True),
        ("an axis (an int, a tuple, or None for all)", False),
        ("the network (the first, and the last)", False),
    ],
)
def test_what_counts_as_a_shape(text, states):
    assert bool(SHAPE.search(text)) == states


# Importing


def test_import_minseg_is_light_silent_and_touches_nothing():
    result = run_python("""
import os, sys, threading
import numpy as np
from threadpoolctl import threadpool_info

def world():
    limits = [(pool["filepath"], pool["num_threads"]) for pool in threadpool_info()]
    random = np.random.get_state()
    return limits, threading.active_count(), dict(os.environ), random[1].tolist(), random[2:]

before = world()
import minseg
assert world() == before, "import minseg changed a thread count, the environment or chance"
heavy = "matplotlib sympy cupy tqdm PIL onnx torch sklearn scipy pandas".split()
assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)
""")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


# As on Windows: what only POSIX has cannot be imported, and os lacks half of its functions.
BARE = f"""
import os, sys
sys.modules.update(dict.fromkeys({POSIX_ONLY}))
for name in ("fork", "register_at_fork", "sched_getaffinity", "getuid", "geteuid"):
    if hasattr(os, name):
        delattr(os, name)
"""
CONSOLE = {"PYTHONIOENCODING": "cp1252:strict", "PYTHONUTF8": "0", "COLUMNS": "80"}


def test_every_module_imports_silently_without_what_only_posix_has():
    code = """
import importlib, pkgutil, minseg
names = [module.name for module in pkgutil.walk_packages(minseg.__path__, "minseg.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    result = run_python(BARE + code)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{len(FILES) - 1}\n"  # all but minseg itself


# The command


def subparsers(parser):
    """The parsers of all subcommands, by the words that lead to them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield (name,), child
                yield from (((name, *words), each) for words, each in subparsers(child))


COMMANDS = [(), *(words for words, _ in subparsers(minseg.cli.build_parser()))]


def test_the_command_has_its_subcommands():
    assert {("demo",), ("train",), ("predict",)} <= set(COMMANDS)


def run_minseg(*arguments):
    """The minseg command on a bare Windows console of 1252 letters."""
    return run_python(BARE + "from minseg.cli import main\nsys.exit(main())", *arguments, **CONSOLE)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_reads_well_on_a_windows_console(words):
    result = run_minseg(*words, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(" ".join(["usage: minseg", *words]))
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_python_m_minseg_is_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "minseg", "--help"], cwd=PACKAGE.parent,
        env={**os.environ, **CONSOLE}, capture_output=True, encoding="cp1252", timeout=120,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, run_minseg("--help").stdout)


def test_a_network_is_trained_and_used_from_a_windows_console(tmp_path):
    options = ["--data", "digits", "--size", "32", "--width", "2", "--steps", "2"]
    result = run_minseg("train", *options, "--out", str(tmp_path / "run"))
    assert result.returncode == 0, result.stderr
    assert "mIoU" in result.stdout
    picture = next((tmp_path / "run").glob("*.png"))
    predict = ["predict", str(tmp_path / "run"), str(picture), "--out", str(tmp_path)]
    result = run_minseg(*predict)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{picture}: ")


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_a_file_is_utf_8_and_its_texts_can_be_printed_on_a_1252_console(path):
    for node in ast.walk(ast.parse(path.read_bytes().decode("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value.encode("cp1252")


# What may not be written


def attribute(node):
    """An expression such as np.add.at as the text "np.add.at"."""
    if isinstance(node, ast.Attribute):
        return f"{attribute(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


GENERATORS = {"Generator", "default_rng"}  # all of np.random that has no global state


def forbidden(source):
    """Scattered additions, global chance and pickles, with their lines."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        name = attribute(node)
        if isinstance(node, ast.Attribute) and node.attr == "at":
            yield f"line {node.lineno}: {name} is slow, and CuPy lacks most of it"
        if re.fullmatch(r"(np|numpy|xp|cupy)\.random\.\w+", name) and node.attr not in GENERATORS:
            yield f"line {node.lineno}: {name} is global chance; use np.random.default_rng"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            refused = isinstance(node.value, ast.Constant) and node.value.value is False
            if not refused:
                yield f"line {node.value.lineno}: allow_pickle lets a file run code"
    for name in imported_modules(tree, "minseg"):
        if name.split(".")[0] in {"pickle", "cPickle", "dill", "shelve", "marshal", "random"}:
            yield f"import {name}"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_scattered_addition_no_global_chance_and_no_pickle(path):
    assert list(forbidden(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "np.add.at(x, i, 1)",
        "xp.maximum.at(x, i, 1)",
        "np.random.seed(0)",
        "x = np.random.rand(3)",
        "np.load(path, allow_pickle=True)",
        "import pickle",
        "from random import shuffle",
    ],
)
def test_what_may_not_be_written_is_found(source):
    assert len(list(forbidden(source))) == 1


# Threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_computes_after_the_parent_used_its_threads():
    result = run_python("""
import os, sys, threading
import numpy as np
import minseg, minseg.functional as F

minseg.set_num_threads(2)
x, w = np.ones((8, 8, 64, 64), np.float32), np.ones((8, 8, 3, 3), np.float32)
expected = F.conv2d(x, w, padding=1)
assert any(thread.name.startswith("minseg") for thread in threading.enumerate())
child = os.fork()
if child == 0:
    same = np.array_equal(F.conv2d(x, w, padding=1), expected)
    helpers = [t for t in threading.enumerate() if t.name.startswith("minseg")]  # of its own
    os._exit(0 if same and helpers else 1)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert np.array_equal(F.conv2d(x, w, padding=1), expected)
sys.exit(status)
""")
    assert result.returncode == 0, result.stderr
