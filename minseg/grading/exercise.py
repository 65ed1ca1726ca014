"""An exercise: what a student is given, and what a right answer must do.

One source file holds all of an exercise. Above the line `### FOR THE TEACHER` stands the student's
file, its solution between `### BEGIN SOLUTION` and `### END SOLUTION`. Below it stand

    HINTS       three strings: a question, a pointer, nearly the code
    REFERENCE   {function: the library's own}, whose values are the expected ones
    PACKAGES    what the code may import (NumPy alone, if left out)
    @check      generators of calls that must give the reference's values, easy ones first
    @holds      a property, such as linearity, told to the student when a check fails
    @wrong      a wrong answer seen in the wild, and the sentence that helps who wrote it
    @right      another way to be right, which must pass as well

A check yields calls and never sees the answers, so nothing expected exists while they are computed.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

BEGIN, END, TEACHER = "### BEGIN SOLUTION", "### END SOLUTION", "### FOR THE TEACHER"


@dataclass
class Call:
    """One call of a student's function: conv2d(x, w, stride=2)."""

    function: str
    args: tuple
    kwargs: dict[str, Any]

    @property
    def size(self) -> int:
        """How much there is to read in it: the entries of its arrays."""
        return _entries((*self.args, *self.kwargs.values()))


def _entries(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return sum(map(_entries, value))
    return value.size if isinstance(value, np.ndarray) else 1


def call(function: str, *args: Any, **kwargs: Any) -> Call:
    """The call function(*args, **kwargs), to be made in the student's process."""
    return Call(function, args, kwargs)


class Draw:
    """What a check draws its cases from: a seed that nobody knows before."""

    def __init__(self, seed: Any) -> None:
        self.rng = np.random.default_rng(seed)

    def integers(self, *shape: int, low: int = -9, high: int = 9) -> np.ndarray:
        """Whole numbers in [low, high] without 0, float64: exact, and seldom 0 by luck."""
        if not low < 0 < high:
            raise ExerciseError(f"Draw.integers: 0 must lie between low {low} and high {high}")
        values = self.rng.integers(low, high, shape)
        return np.where(values >= 0, values + 1, values).astype(np.float64)

    def distinct(self, *shape: int) -> np.ndarray:
        """Whole numbers from -size/2 on, no two alike, in random order, as float64."""
        size = int(np.prod(shape))
        return (self.rng.permutation(size) - size // 2).reshape(shape).astype(np.float64)

    def normal(self, *shape: int) -> np.ndarray:
        """Numbers of the normal distribution, float64."""
        return self.rng.standard_normal(shape)

    def labels(self, *shape: int, num_classes: int, void: float = 0.0) -> np.ndarray:
        """Class numbers, int64; the share `void` of them 255."""
        values = self.rng.integers(0, num_classes, shape)
        return np.where(self.rng.random(shape) < void, 255, values)

    def one_of(self, *values: Any) -> Any:
        """One of the values."""
        return values[int(self.rng.integers(len(values)))]

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""
        return int(self.rng.integers(low, high + 1))


Cases = Callable[[Draw], Iterator[Call]]
Judge = Callable[[Call, list[np.ndarray]], str | None]


@dataclass
class Check:
    """Calls that must all be answered rightly; points are given for all of them or not at all."""

    title: str
    cases: Cases
    points: int = 1
    tolerance: float = 1e-5
    judge: Judge | None = None


@dataclass
class Property:
    """Something true of every right answer: asks some calls, is sent the answers, returns a bool."""

    title: str
    ask: Callable[[Draw], Generator[list[Call], list[list[np.ndarray]], bool]]


@dataclass
class Answer:
    """One way to write a function of the exercise, right or wrong, and a sentence about it.

    Either `write`, the function itself, or `instead`, what stands in the solution and what stands
    in this answer instead.
    """

    function: str
    sentence: str
    write: Callable | None = None
    instead: dict[str, str] = field(default_factory=dict)
    name: str = ""
    source: str = ""  # the student's file of who gave this answer

    def read(self, name: str, exercise: "Exercise") -> None:
        """Make its source and its function, once the exercise is known.

        Raises:
            ExerciseError: `instead` replaces what does not stand in the solution.
        """
        self.name = name
        if self.write is None:
            self.source = exercise.solution
            for there, here in self.instead.items():
                if there not in self.source:
                    raise ExerciseError(f"{exercise.name}, {name}: no {there!r} in the solution")
                self.source = self.source.replace(there, here)
            names: dict[str, Any] = {"__name__": exercise.name}
            exec(compile(self.source, name, "exec"), names)
            self.write = names[self.function]
            return
        lines = textwrap.dedent(inspect.getsource(self.write)).splitlines()
        first = next(n for n, line in enumerate(lines) if line.startswith("def "))
        own = "\n".join(lines[first:])
        self.source = f"{exercise.solution}\n\n{own}\n\n{self.function} = {self.write.__name__}\n"


def check(
    title: str, points: int = 1, tolerance: float = 1e-5, judge: Judge | None = None
) -> Callable[[Cases], Check]:
    """Make a generator of calls a check. A judge, where given, replaces comparing with REFERENCE:
    it is shown each call and its answer and returns what is wrong with it, or None."""
    return lambda cases: Check(title, cases, points, tolerance, judge)


def holds(title: str) -> Callable[[Callable], Property]:
    """Make a generator a property: `answers = yield [calls]`, then `return` whether it holds."""
    return lambda ask: Property(title, ask)


def wrong(function: str, sentence: str, instead: dict[str, str] | None = None) -> Any:
    """Name a wrong answer: the sentence completes "Your output equals".

    A decorator of the answer written out; or with `instead`, the answer itself: the solution with
    {what stands there: what this student wrote}, as in `overwrites = wrong(..., {"+=": "="})`.
    """
    if instead:
        return Answer(function, sentence, instead=instead)
    return lambda write: Answer(function, sentence, write)


class Right(Answer):
    """Another right answer."""


def right(function: str, how: str) -> Callable[[Callable], Right]:
    """Another right answer, and in a few words how it goes about it."""
    return lambda write: Right(function, how, write)


class ExerciseError(ValueError):
    """An exercise's source that does not hold together; the message says where."""


@dataclass
class Exercise:
    """An exercise, read from its source file."""

    name: str
    text: str
    module: ModuleType
    title: str = ""
    notebook: str = ""
    minutes: int = 15
    number: int = 0

    @property
    def hints(self) -> list[str]:
        return [textwrap.dedent(hint).strip() for hint in self.module.HINTS]

    @property
    def reference(self) -> dict[str, Callable]:
        return self.module.REFERENCE

    @property
    def functions(self) -> list[str]:
        """The functions that a student writes."""
        return list(self.reference)

    @property
    def packages(self) -> list[str]:
        return list(getattr(self.module, "PACKAGES", ("numpy",)))

    @property
    def seconds(self) -> float:
        """How long one call may take."""
        return float(getattr(self.module, "SECONDS", 10))

    def all_of(self, kind: type) -> list:
        return [value for value in vars(self.module).values() if type(value) is kind]

    @property
    def checks(self) -> list[Check]:
        return self.all_of(Check)

    @property
    def points(self) -> int:
        return sum(check.points for check in self.checks)

    @property
    def student_part(self) -> str:
        return self.text.partition(TEACHER)[0].rstrip() + "\n"

    @property
    def solution_lines(self) -> list[str]:
        """The lines of code between BEGIN and END, comments and docstrings' quotes aside."""
        parts = re.findall(f"{BEGIN}(.*?){END}", self.student_part, re.DOTALL)
        lines = [line.strip() for part in parts for line in part.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]

    @property
    def stub(self) -> str:
        """The student's file: every solution replaced by a line that says it is missing."""
        return _stub(self.student_part)

    @property
    def solution(self) -> str:
        """The student's file with the solution in it."""
        lines = self.student_part.splitlines()
        return "\n".join(line for line in lines if line.strip() not in (BEGIN, END)) + "\n"

    def names(self, call: Call) -> dict[str, Any]:
        """The arguments of a call by the names of the exercise's own signature."""
        signature = inspect.signature(getattr(self.module, call.function))
        return dict(signature.bind(*call.args, **call.kwargs).arguments)


def _stub(text: str) -> str:
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.strip() == BEGIN:
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            kept.append(f'{indent}raise NotImplementedError("write me")')
        elif line.strip() == END:
            inside = False
        elif not inside:
            kept.append(line)
    return "\n".join(kept) + "\n"


def read(file: Path) -> Exercise:
    """An exercise from its source.

    Raises:
        ExerciseError: a part that is missing.
    """
    text = file.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text or TEACHER not in text:
        raise ExerciseError(f"{file}: needs the lines {BEGIN}, {END} and {TEACHER}")
    spec = spec_from_file_location(f"minseg_exercise_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("HINTS", "REFERENCE"):
        if not hasattr(module, name):
            raise ExerciseError(f"{file}: needs {name} below {TEACHER}")
    exercise = Exercise(file.stem, text, module)
    for function in exercise.functions:
        if not callable(getattr(module, function, None)):
            raise ExerciseError(f"{file}: defines no {function}, which REFERENCE names")
    for name, answer in vars(module).items():
        if isinstance(answer, Answer):
            answer.read(name, exercise)
    if not exercise.checks:
        raise ExerciseError(f"{file}: has no @check")
    title = ast.get_docstring(ast.parse(text))
    if not title:
        raise ExerciseError(f"{file}: needs a docstring; its first line is the title")
    exercise.title = title.splitlines()[0].rstrip(".")
    return exercise
