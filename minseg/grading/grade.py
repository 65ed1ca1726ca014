"""Grading a class: every student's files, each in a process of its own, and what is kept of it.

    grades.jsonl     one line for each student and exercise, written as soon as it is known
    grades.csv       a row for each student
    feedback/        a page for each student

Interrupted, the same command goes on: what was graded stays, unless the file that was handed in,
the exercise or the lock is another one.
"""

import hashlib
import re
import secrets
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minseg.files import written_whole
from minseg.grading.course import Course, course
from minseg.grading.exercise import Exercise
from minseg.grading.gradebook import Gradebook, Row, alone_in
from minseg.grading.intake import Student, called, file_name, intake
from minseg.grading.page import page
from minseg.grading.supervise import Supervisor, SupervisorError, lock_of

TRIES = 2  # of a supervisor that dies


def grade(
    submissions: str | Path,
    out: str | Path = "grades",
    *,
    lock: Sequence[str] = ("bubblewrap",),
    jobs: int = 2,
    homework: str | None = None,
    exercises: Iterable[str] = (),
    student: str | None = None,
    regrade: bool = False,
) -> Gradebook:
    """Grade a folder (or zip) of submissions into the folder `out`.

    lock: of the student's process, in words: ("bubblewrap",), ("container", engine, image),
    ("other_user",) or ("none",). jobs: submissions at once. homework or exercises: what is graded;
    every exercise that anyone handed in, if left out. student: only this one. regrade: again, with
    fresh cases, what was graded before; the old rows go to the end of grades.jsonl.old.

    Raises:
        ValueError: no submissions, no such homework, exercise or student, homework and exercises
            at once, jobs < 1, or another grader is at work in `out`.
        LockError: the lock cannot be had.
        KeyboardInterrupt: after Ctrl-C, with all that was graded kept.
    """
    if jobs < 1:
        raise ValueError(f"grade: jobs is {jobs}; at least 1 is needed")
    isolation = lock_of(tuple(lock)).name
    out = Path(out)
    the_course = course()
    students, of_nobody = intake(submissions, the_course.names, leave_out=out)
    graded = chosen_exercises(the_course, students, homework, exercises)
    wanted = students if student is None else called(students, student)
    if of_nobody:
        say(f"ignored, since no student's name goes with them: {', '.join(of_nobody[:10])}")

    with alone_in(out):
        book = Gradebook(out)
        every = [Job(s, e, isolation) for s in wanted for e in graded]
        todo = [
            job
            for job in every
            if regrade or not job.stands(book.get(job.student, job.exercise.name))
        ]
        book.drop((job.student.identity, job.exercise.name) for job in todo)
        try:
            with closing(work_off(todo, the_course, lock, jobs, len(every))) as rows:
                for row in rows:
                    book.add(row)
        finally:
            # What earlier commands graded stands there too.
            held = book.exercises(students) | {e.name for e in graded}
            shown = [name for name in the_course.names if name in held]
            shown += sorted(held - set(shown))  # no longer in the course
            book.write_table(students, shown)
            if student is None:
                _remove_pages(out, students, book)
            for s in wanted:
                _write_page(out, s, [book.get(s, name) for name in shown])
    return book


def chosen_exercises(
    the_course: Course, students: list[Student], homework: str | None, names: Iterable[str]
) -> list[Exercise]:
    """The exercises to grade, in the order of the course.

    Raises:
        ValueError: no such homework or exercise, or both are given.
    """
    wanted = {the_course.find(name).name for name in names}
    if homework is not None and wanted:
        raise ValueError(
            f"grade: homework {homework} and exercise {', '.join(sorted(wanted))}: give one or the "
            "other"
        )
    if homework is not None:
        sets = {entry["name"]: entry["exercises"] for entry in the_course.homework}
        if homework not in sets:
            raise ValueError(
                f"grade: there is no homework {homework}. There are: {', '.join(sets) or 'none'}"
            )
        wanted = set(sets[homework])
    if not wanted:
        handed_in = {name for s in students for name, work in s.work.items() if work.sha256}
        wanted = handed_in or set(the_course.names)
    return [the_course.exercise(name) for name in the_course.names if name in wanted]


class Job:
    """One file of one student, to be graded for one exercise."""

    def __init__(self, student: Student, exercise: Exercise, isolation: str) -> None:
        self.student, self.exercise, self.isolation = student, exercise, isolation
        self.handed = student.work[exercise.name]
        self.seed = f"{secrets.randbits(128):032x}"
        self.tries = 0

    def stands(self, row: Row | None) -> bool:
        """Does a row from before still hold?"""
        new = self.row({})
        same = ("sha256", "exercise_sha256", "points")
        return (
            row is not None
            and row["score"] is not None
            and all(row.get(key) == new[key] for key in same)
            and (row["isolation"] == self.isolation or self.handed.text is None)
            and (self.handed.text is not None or row["refused"] == self.handed.problem)
        )

    def words(self, lock: Sequence[str], folder: Path) -> dict[str, Any]:
        """What its supervisor is told."""
        return {
            "exercise": self.exercise.name, "folder": str(folder.resolve()), "seed": self.seed,
            "source": self.handed.text, "lock": list(lock),
        }  # fmt: skip

    def row(self, result: dict[str, Any]) -> Row:
        """The line of the record, of what its supervisor said; of an unusable file if nothing."""
        checks = [
            {"title": c.title, "points": c.points, "passed": False, "problem": "was not asked"}
            for c in self.exercise.checks
        ]
        unused = {
            "title": self.exercise.title, "score": 0, "points": self.exercise.points,
            "passed": False, "refused": self.handed.problem, "checks": checks, "failing": None,
            "diagnosis": "", "holds": [], "printed": "",
        }  # fmt: skip
        return {
            "student": self.student.identity,
            "exercise": self.exercise.name,
            "graded": datetime.now(UTC).isoformat(timespec="seconds"),
            "isolation": result.get("isolation", ""),
            "versions": result.get("versions", {}),
            "seed": self.seed if result else "",
            "sha256": self.handed.sha256,
            "exercise_sha256": hashlib.sha256(self.exercise.text.encode()).hexdigest(),
            "seconds": result.get("seconds", 0),
        } | result.get("summary", unused)

    def not_graded(self, why: Exception) -> Row:
        """The line of a submission whose supervisor failed: no score, since nothing is known."""
        return self.row({}) | {"score": None, "refused": f"not graded: the grader failed ({why})"}


def work_off(
    waiting: list[Job], the_course: Course, lock: Sequence[str], at_once: int, total: int
) -> Generator[Row, None, None]:
    """The rows of the jobs, as they are done."""
    from tqdm import tqdm

    queue, running = deque(waiting), dict[Supervisor, Job]()
    done_before = total - len(waiting)
    with (
        tempfile.TemporaryDirectory(prefix="minseg-grade-") as folder,
        tqdm(total=total, initial=done_before, desc="graded", unit="file", smoothing=0.05) as bar,
    ):
        try:
            while queue or running:
                while queue and queue[0].handed.text is None:
                    yield queue.popleft().row({})
                    bar.update()
                while queue and len(running) < at_once:
                    job = queue.popleft()
                    job.tries += 1
                    words = job.words(lock, the_course.folder)
                    running[Supervisor(words, _seconds(job.exercise), folder)] = job
                ended = [supervisor for supervisor in running if supervisor.done]
                if not ended:
                    time.sleep(0.005)
                for supervisor in ended:
                    job = running.pop(supervisor)
                    try:
                        row = job.row(supervisor.result())
                    except SupervisorError as error:
                        if job.tries < TRIES:
                            queue.append(job)
                            continue
                        row = job.not_graded(error)
                    yield row
                    bar.update()
        finally:
            for supervisor in running:
                supervisor.process.terminate()  # all at once, then wait for each
            for supervisor in running:
                supervisor.end()


def _seconds(exercise: Exercise) -> float:
    """More than a supervisor needs for the slowest answers that are still taken."""
    return 120 + 60 * exercise.seconds


def _remove_pages(out: Path, students: list[Student], book: Gradebook) -> None:
    """Remove the pages of students who are in the record, but no longer among the submissions."""
    present = {student.file_name for student in students}
    known = {file_name(identity, set()) for identity in book.students}
    for file in (out / "feedback").glob("*.html"):
        names = {file.stem, re.sub(r"-\d+$", "", file.stem)}  # -2: of two alike
        if file.stem not in present and names & known:
            file.unlink()


def _write_page(out: Path, student: Student, rows: list[Row | None]) -> None:
    """The student's page, feedback/NAME.html, of what is graded so far."""
    with written_whole(out / "feedback" / f"{student.file_name}.html") as part:
        text = page(student.name, [row for row in rows if row is not None])
        part.write_text(text, encoding="utf-8", newline="\n")


def say(words: str) -> None:
    """Print what names may stand in, on consoles too that lack their letters."""
    encoding = sys.stderr.encoding or "ascii"
    print(words.encode(encoding, "replace").decode(encoding), file=sys.stderr)
