"""What a student does with an exercise: check it, ask for a hint, see the solution, start again."""

import ast
import inspect
import secrets
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minseg.grading.course import COMMAND, course
from minseg.grading.examine import examine
from minseg.grading.exercise import Exercise
from minseg.grading.feedback import summary, text
from minseg.grading.lock import unlocked
from minseg.grading.mine import IN_THE_NETWORK
from minseg.grading.work import Work


class Said(NamedTuple):
    """What came of a check: in words, and as plain data."""

    text: str
    summary: dict[str, Any]


class Desk:
    """The course, and the student's folder."""

    def __init__(self, start: Path | None = None) -> None:
        self.course = course(start)
        self.work = Work(self.course, start)

    def exercise(self, wanted: str | int | None) -> Exercise:
        """The exercise that is meant: by name, number or words; the next unsolved where None."""
        self.work.must_exist()
        if wanted is None:
            wanted = self.work.next_unsolved() or self.course.names[-1]
        return self.course.find(wanted)

    def check(self, wanted: str | int | None) -> Said:
        """Run the checks; a pass is remembered."""
        exercise = self.exercise(wanted)
        source = self.work.source(exercise)
        if source.strip() == exercise.stub.strip():
            return self._untouched(exercise)
        report = examine(exercise, source, secrets.randbits(64), unlocked(), patience=1)
        said = summary(report)
        head = f"{exercise.number} {exercise.title}  ({self._shown(exercise)})"
        if report.passed:
            self.work.note_passed(exercise, source)
            return Said(f"{head}\n\n{text(said)}\n\n{self._after(exercise)}", said)
        hint = f"For a hint: {COMMAND} hint {exercise.name}"
        return Said(f"{head}\n\n{text(said, hint)}", said)

    def _untouched(self, exercise: Exercise) -> Said:
        report = summary(examine(exercise, exercise.stub, 0, unlocked(), explain=False))
        words = (
            f"{exercise.number} {exercise.title}\n\nNothing is written yet. Open\n"
            f"  {self._shown(exercise)}\nin an editor, read it, and write the missing lines "
            f"(about {exercise.minutes} minutes). It goes with the notebook "
            f"{exercise.notebook}.\nThen: {COMMAND} check {exercise.name}"
        )
        return Said(words, report)

    def _shown(self, exercise: Exercise) -> str:
        file = self.work.file(exercise.name)
        return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)

    def _after(self, exercise: Exercise) -> str:
        follows = self.work.next_unsolved()
        lines = [f"Passed. The library's version beside yours: {COMMAND} solution {exercise.name}"]
        if exercise.name in IN_THE_NETWORK:
            lines.append(f"Your code inside a trained U-Net:        {COMMAND} demo --mine")
        lines.append(f"Next: {follows}" if follows else "That was the last one: all are passed.")
        return "\n".join(lines)

    def hint(self, wanted: str | int | None) -> str:
        """One hint more than last time: a question, a pointer, nearly the code."""
        exercise = self.exercise(wanted)
        read = self.work.record.get(exercise.name, {}).get("hints", 0)
        shown = min(read + 1, len(exercise.hints))
        self.work.note(exercise.name, hints=shown)
        kinds = ("A question", "A pointer", "Nearly the code")
        lines = [f"{exercise.number} {exercise.title}\n"]
        lines += [
            f"{kind}:\n\n{textwrap.indent(hint, '  ')}\n"
            for kind, hint in zip(kinds[:shown], exercise.hints, strict=False)
        ]
        more = len(exercise.hints) - shown
        lines.append(f"{more} more: the same command again." if more else "That was the last hint.")
        return "\n".join(lines)

    def solution(self, wanted: str | int | None, give_up: bool) -> str:
        """The student's text, the model solution, and the library's own function.

        Raises:
            ValueError: the exercise is not passed, and the student does not give up.
        """
        exercise = self.exercise(wanted)
        if not (give_up or self.work.passed(exercise.name)):
            raise ValueError(
                f"{exercise.name} is not passed yet: try `{COMMAND} hint {exercise.name}`, or add "
                "--give-up to see the solution"
            )
        if give_up and not self.work.passed(exercise.name):
            self.work.note(exercise.name, given_up=True)
        yours = _functions_of(self.work.source(exercise))
        model = _functions_of(exercise.solution)
        parts = [beside("yours", yours, "the exercise's solution", model)]
        for function, library in exercise.reference.items():
            where, source = _library(library)
            if where:
                parts.append(
                    f"the library's {function}, {where}:\n\n{textwrap.indent(source, '  ')}"
                )
        return "\n\n".join(parts)

    def reset(self, wanted: str | int) -> str:
        """Start an exercise again; nothing is lost."""
        exercise = self.exercise(wanted)
        kept = self.work.reset(exercise)
        lines = [f"{self._shown(exercise)} is the stub again."]
        if kept is not None:
            lines.append(f"What you had is in {kept.name} beside it.")
        return "\n".join(lines)

    def watch(self, wanted: str | int | None, say: Callable[[str], None]) -> None:
        """Check again whenever a file is saved, until Ctrl-C."""
        from watchfiles import watch

        self.work.copy_stubs()
        say(self.check(wanted).text)
        say("\nWatching for changes; Ctrl-C ends.")
        names = set(self.course.names)
        for changes in watch(self.work.folder, raise_interrupt=True):
            stems = sorted({Path(path).stem for _, path in changes} & names)
            chosen = stems if wanted is None else [self.exercise(wanted).name]
            if wanted is not None and chosen[0] not in stems:
                continue
            for stem in chosen:
                say("\n" + "=" * 80 + "\n")
                try:
                    say(self.check(stem).text)
                except ValueError as error:  # saved half-way: the next save mends it
                    say(str(error))


def _functions_of(text: str) -> str:
    """A file's functions, without their docstrings, which both sides share; all of it if unreadable."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text.rstrip()
    lines: list[str | None] = list(text.splitlines())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node):
            said = node.body[0]
            for number in range(said.lineno - 1, said.end_lineno or said.lineno):
                lines[number] = None
    starts = [n.lineno for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    kept = lines[min(starts, default=1) - 1 :]
    return "\n".join(line for line in kept if line is not None).rstrip()


def _library(function: Callable) -> tuple[str, str]:
    """Where a function of the library stands, and its text without the docstring."""
    function = inspect.unwrap(function)
    file = Path(inspect.getsourcefile(function) or "")
    if "minseg" not in file.parts or not (function.__module__ or "").startswith("minseg."):
        return "", ""
    source = inspect.getsource(function)
    if function.__doc__:
        source = source.replace(f'    """{function.__doc__}"""\n', "", 1)
    place = "/".join(file.parts[len(file.parts) - file.parts[::-1].index("minseg") - 1 :])
    return place, textwrap.dedent(source).rstrip()


def beside(left_title: str, left: str, right_title: str, right: str) -> str:
    """Two texts side by side where the screen is wide enough, otherwise one below the other."""
    pair = [[f"{title}:", "", *body.splitlines()]
            for title, body in ((left_title, left), (right_title, right))]  # fmt: skip
    width = max(map(len, pair[0]))
    if width + max(map(len, pair[1])) + 4 > shutil.get_terminal_size().columns:
        return "\n\n".join("\n".join(lines) for lines in pair)
    rows = max(map(len, pair))
    for lines in pair:
        lines += [""] * (rows - len(lines))
    return "\n".join(f"{a:{width}}  | {b}".rstrip() for a, b in zip(*pair, strict=True))
