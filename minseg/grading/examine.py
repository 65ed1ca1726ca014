"""A student's file put to the test, in three steps whose order is the whole protection.

1. The worker answers every call; nothing expected exists yet.
2. The worker and all that it started are killed, and proved dead.
3. Only now is the reference run, and each answer compared with it.
"""

import contextlib
import copy
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minseg.grading.exercise import Answer, Call, Check, Draw, Exercise, Property
from minseg.grading.lock import Lock, Reply, Session

NOT_ASKED = "was not asked"
TIMEOUTS = 2  # so many answers that never come, and the rest is not asked
TOGETHER = 6  # times as long as one call may take, all calls of a submission may
KEPT_BYTES = 64 << 20  # of all answers to a submission's calls


@dataclass
class Case:
    """One call, its answer, and after the comparison what was expected and what is wrong."""

    call: Call
    reply: Reply
    expected: list[np.ndarray] = field(default_factory=list)
    problem: str | None = None


@dataclass
class Result:
    """What came of one check."""

    check: Check
    cases: list[Case]

    @property
    def passed(self) -> bool:
        return bool(self.cases) and all(case.problem is None for case in self.cases)


@dataclass
class Report:
    """What came of a file: its checks, what its wrong answer is, and what holds all the same."""

    exercise: Exercise
    results: list[Result]
    refused: str = ""  # why the file could not even be loaded
    printed: str = ""
    diagnosis: str = ""
    properties: list[tuple[str, bool]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.refused and all(result.passed for result in self.results)

    @property
    def score(self) -> int:
        return sum(result.check.points for result in self.results if result.passed)

    @property
    def failing(self) -> Case | None:
        """The smallest failing case: of those that were answered, or at least asked, if any were."""
        cases = [case for r in self.results for case in r.cases if case.problem is not None]
        return min(cases, key=_told_first, default=None)


def examine(
    exercise: Exercise, source: str, seed: Any, lock: Lock, explain: bool = True,
    patience: int = TIMEOUTS,
) -> Report:  # fmt: skip
    """Run a student's file through the checks of an exercise.

    seed: of the cases (anything numpy.random.default_rng takes). explain: also try the properties,
    and look whether the answers are those of a wrong solution that has a name. patience: so many
    answers that never come, and the rest is not asked.
    """
    if any(function not in source for function in exercise.functions):
        missing = next(f for f in exercise.functions if f not in source)
        return Report(exercise, [], f"the file defines no function {missing}")
    drawn = [
        (c, list(c.cases(Draw([number, *_words(seed)]))))
        for number, c in enumerate(exercise.checks)
    ]
    asked = exercise.all_of(Property) if explain else []
    open_questions = [(p, p.ask(Draw([1000 + n, *_words(seed)]))) for n, p in enumerate(asked)]
    questions = [(p, generator, next(generator)) for p, generator in open_questions]

    # Step 1 and 2.
    students = _Students(exercise, source, lock, patience)
    with contextlib.closing(students):
        if students.refused:
            return Report(exercise, [], students.refused, students.printed)
        results = [
            Result(c, [Case(call, students.ask(call)) for call in calls]) for c, calls in drawn
        ]
        answers = [[students.ask(call) for call in calls] for _, _, calls in questions]

    # Step 3: the worker is dead.
    for result in results:
        for case in result.cases:
            _judge(exercise, result.check, case)
    report = Report(exercise, results, printed=students.printed)
    if explain and not report.passed:
        report.diagnosis = _diagnose(exercise, results)
        for (prop, generator, calls), replies in zip(questions, answers, strict=True):
            if all(_of_like_size(exercise, *pair) for pair in zip(calls, replies, strict=True)):
                report.properties.append((prop.title, _settled(generator, replies)))
    return report


def _told_first(case: Case) -> tuple:
    return case.reply.lost, case.reply.problem.startswith(NOT_ASKED), case.call.size


class _Students:
    """A worker with the student's file, started anew where it was lost."""

    def __init__(self, exercise: Exercise, source: str, lock: Lock, patience: int) -> None:
        self.exercise, self.source, self.lock, self.patience = exercise, source, lock, patience
        self.lost = 0
        self.spent = 0.0
        self.kept = 0
        self.printed = ""
        self.session: Session | None = None
        try:
            self.refused = self._start()
        except BaseException:  # the grader itself is told to end, say
            self.close()
            raise

    def _start(self) -> str:
        self.session = Session(self.lock, self.exercise.packages)
        reply = self.session.load(self.source, f"{self.exercise.name}.py", self.exercise.seconds)
        self.printed += reply.printed
        return reply.problem if reply.arrays is None else ""

    def ask(self, call: Call) -> Reply:
        if self.spent > TOGETHER * self.exercise.seconds:
            return Reply(None, f"{NOT_ASKED}: the calls before took {self.spent:.0f} seconds")
        began = time.monotonic()
        reply = self._asked(call)
        self.spent += time.monotonic() - began
        self.kept += sum(array.nbytes for array in reply.arrays or ())
        if self.kept > KEPT_BYTES:
            return Reply(None, f"returned more than {KEPT_BYTES >> 20} MB in all calls together")
        return reply

    def _asked(self, call: Call) -> Reply:
        if self.session is None:
            if self.lost >= self.patience:
                return Reply(None, f"{NOT_ASKED}: an earlier call did not come back", lost=True)
            if self._start():
                self.close()
                return Reply(None, "could not be loaded a second time", lost=True)
        assert self.session is not None
        reply = self.session.ask(call.function, call.args, call.kwargs, self.exercise.seconds)
        self.printed = (self.printed + reply.printed)[-2000:]
        if reply.lost:
            self.lost += 1
            self.close()
        return reply

    def close(self) -> None:
        if self.session is not None:
            self.session.end()
            self.session = None


def _words(seed: Any) -> list[int]:
    return [seed] if isinstance(seed, int) else list(seed)


def as_arrays(value: Any) -> list[np.ndarray]:
    """What a trusted function returned, as the list of arrays that a worker would have sent."""
    values = value if isinstance(value, (tuple, list)) else [value]
    return [np.asarray(entry) for entry in values]


def copies(call: Call) -> tuple[list, dict]:
    """The arguments of a call on arrays of their own."""
    return copy.deepcopy(list(call.args)), copy.deepcopy(call.kwargs)


def _judge(exercise: Exercise, check: Check, case: Case) -> None:
    if case.reply.arrays is None:
        case.problem = case.reply.problem
        return
    if check.judge is not None:
        try:
            case.problem = _not_finite(case.reply.arrays) or check.judge(
                case.call, case.reply.arrays
            )
        except (ValueError, IndexError, TypeError, ArithmeticError, MemoryError):
            case.problem = "returned arrays of a kind or shape that cannot be judged"
        return
    args, kwargs = copies(case.call)
    case.expected = as_arrays(exercise.reference[case.call.function](*args, **kwargs))
    case.problem = difference(case.expected, case.reply.arrays, check.tolerance)


def difference(want: list[np.ndarray], got: list[np.ndarray], tolerance: float) -> str | None:
    """How the arrays differ, in a sentence; None where |got - want| <= tolerance (1 + |want|)."""
    if len(want) != len(got):
        return f"returned {_things(len(got))}; expected {_things(len(want))}"
    for n, (w, g) in enumerate(zip(want, got, strict=True)):
        which = f" as number {n + 1}" if len(want) > 1 else ""
        if w.shape != g.shape:
            return f"returned shape {g.shape}{which}; expected {w.shape}"
        odd = ~np.isfinite(g) & np.isfinite(w)
        if odd.any():
            return f"returned {g[odd].flat[0]}{which} where a number is expected"
        if not same(w, g, tolerance).all():
            return f"the values differ{which}"
    return None


def same(want: np.ndarray, got: np.ndarray, tolerance: float) -> np.ndarray:
    """Entry by entry: are they equal within the tolerance? NaN equals NaN."""
    w, g = want.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(g - w) <= tolerance * (1 + np.abs(w))
    return (w == g) | (near & np.isfinite(w)) | (np.isnan(w) & np.isnan(g))


def _not_finite(arrays: list[np.ndarray]) -> str | None:
    if all(np.isfinite(array).all() for array in arrays):
        return None
    return "returned a number that is not finite"


def _things(count: int) -> str:
    return "one array" if count == 1 else f"{count} arrays"


def _diagnose(exercise: Exercise, results: list[Result]) -> str:
    """The sentence of the named wrong solution whose answers these are."""
    judged = [r for r in results if r.check.judge is None]
    for answer in exercise.all_of(Answer):
        cases = [
            (r.check, c) for r in judged for c in r.cases if c.call.function == answer.function
        ]
        answered = [(check, case) for check, case in cases if case.reply.arrays is not None]
        explains = any(case.problem is not None for _, case in answered)
        if explains and all(_is_of(answer, *pair) for pair in answered):
            return answer.sentence
    return ""


def _is_of(answer: Answer, check: Check, case: Case) -> bool:
    args, kwargs = copies(case.call)
    assert answer.write is not None
    try:
        with np.errstate(all="ignore"):
            values = as_arrays(answer.write(*args, **kwargs))
    except Exception:
        return False
    assert case.reply.arrays is not None
    return difference(values, case.reply.arrays, check.tolerance) is None


def _of_like_size(exercise: Exercise, call: Call, reply: Reply) -> bool:
    """May a property compute with this answer? (n, 1) + (1, n) would be a giant for large n."""
    args, kwargs = copies(call)
    want, got = as_arrays(exercise.reference[call.function](*args, **kwargs)), reply.arrays
    return (
        got is not None
        and len(got) == len(want)
        and all(
            w.ndim == g.ndim and all(b <= 4 * a + 8 for a, b in zip(w.shape, g.shape, strict=True))
            for w, g in zip(want, got, strict=True)
        )
    )


def _settled(generator: Any, replies: list[Reply]) -> bool:
    try:
        with np.errstate(all="ignore"):
            generator.send([reply.arrays for reply in replies])
    except StopIteration as end:
        return bool(np.all(end.value))
    except (ValueError, IndexError, TypeError):  # shapes that do not even fit each other
        return False
    return False
