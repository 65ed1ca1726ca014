"""For authors: does an exercise do what it promises? `minseg exercises --verify` asks.

The stub fails every check; the solution passes all; every wrong answer fails, and is told its own
name; every other right answer passes; and no line of the solution is given away.
"""

import inspect
import time
from collections.abc import Callable, Iterator

from minseg.grading.course import Course
from minseg.grading.examine import Report, examine
from minseg.grading.exercise import Answer, Exercise, Right
from minseg.grading.lock import Lock, unlocked

RIGHT_ANSWERS = 5  # at least so many other ways
LINES = 30  # at most so many to write


def verify_all(course: Course, names: list[str]) -> int:
    """Verify the exercises of these names, or all; prints what does not hold, returns 1 if any."""
    failed = False
    for name in names or course.names:
        begun = time.perf_counter()
        exercise = course.find(name)
        problems = list(verify(exercise, unlocked()))
        failed |= bool(problems)
        seconds = time.perf_counter() - begun
        print(f"{exercise.number:2} {exercise.name:28} {seconds:5.1f} s  "
              f"{len(exercise.checks)} checks, {exercise.points} points"
              + (", FAILS" if problems else ""), flush=True)  # fmt: skip
        for problem in problems:
            print(f"     {problem}")
    return int(failed)


def verify(exercise: Exercise, lock: Lock, seed: int = 0) -> Iterator[str]:
    """What does not hold, a sentence each; nothing where all does."""
    solution = examine(exercise, exercise.solution, seed, lock)
    if not solution.passed:
        yield f"the solution fails: {_first(solution)}"
    stub = examine(exercise, exercise.stub, seed, lock, explain=False)
    for result in stub.results:
        if result.passed:
            yield f"the stub passes the check {result.check.title!r}"
    given = {line.strip() for line in exercise.stub.splitlines()}
    for line in exercise.solution_lines:
        if line in given:
            yield f"the stub gives away a line of the solution: {line}"
    if len(exercise.solution_lines) > LINES:
        yield f"the solution has {len(exercise.solution_lines)} lines, more than {LINES}"
    if len(exercise.hints) != 3:
        yield f"there are {len(exercise.hints)} hints: a question, a pointer and near-code are three"
    for function, library in exercise.reference.items():
        yield from _signature(exercise, function, library)
    for wrong in exercise.all_of(Answer):
        report = examine(exercise, wrong.source, seed, lock)
        name = wrong.name
        if report.passed:
            yield f"the wrong answer {name} passes"
        elif report.refused:
            yield f"the wrong answer {name} does not run: {report.refused}"
        elif report.diagnosis != wrong.sentence:
            yield f"the wrong answer {name} is told {report.diagnosis or 'nothing'!r}"
    rights = exercise.all_of(Right)
    if len(rights) < RIGHT_ANSWERS:
        yield f"there are {len(rights)} other right answers, fewer than {RIGHT_ANSWERS}"
    for other in rights:
        report = examine(exercise, other.source, seed, lock)
        if not report.passed:
            yield f"the right answer {other.name} fails: {_first(report)}"


def _first(report: Report) -> str:
    if report.refused or report.failing is None:
        return report.refused or "it has no case"
    result = next(result for result in report.results if not result.passed)
    return f"{result.check.title!r}: {next(c.problem for c in result.cases if c.problem)}"


def _signature(exercise: Exercise, function: str, library: Callable) -> Iterator[str]:
    """Names, order and defaults of the arguments are the library's, as far as they go."""
    if not getattr(library, "__module__", "").startswith("minseg."):
        return
    own = list(inspect.signature(getattr(exercise.module, function)).parameters.values())
    theirs = list(inspect.signature(library).parameters.values())[: len(own)]
    if [(p.name, p.default) for p in own] != [(p.name, p.default) for p in theirs]:
        yield f"{function} takes {[p.name for p in own]}, the library {[p.name for p in theirs]}"
