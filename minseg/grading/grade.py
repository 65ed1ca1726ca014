"""Grading a class: every student's files, each in a process of its own, and what is kept of it.

    grades.jsonl     one line for each student and exercise, written as soon as it is known
    grades.csv       a row for each student
    feedback/        a page for each student

Interrupted, the same command goes on: what was graded stays, unless the file that was handed in,
the exercise or the lock is another one.
"""

import argparse
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
from minseg.grading.lock import LockError
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
        _say(f"ignored, since no student's name goes with them: {', '.join(of_nobody[:10])}")

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


# The command.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `minseg grade`."""
    add = parser.add_argument
    add("submissions", type=Path, nargs="?", metavar="SUBMISSIONS",
        help="a folder of students' folders or zips, or the zip that Moodle or Canvas gives")  # fmt: skip
    add("--out", type=Path, metavar="FOLDER", help="where the grades go (default: grades)")
    add("--jobs", type=int, default=2, metavar="N", help="submissions at once (default: 2)")
    add("--homework", metavar="NAME", help="a homework set of exercises/course.toml")
    add("--exercise", nargs="+", default=[], metavar="NAME", help="these exercises, and no set")
    add("--student", metavar="NAME", help="this student only")
    add("--regrade", action="store_true", help="again, with fresh cases, what was graded before")
    add("--container", choices=("podman", "docker"), help="lock students' code into a container")
    add("--image", metavar="IMAGE", help="of the container: it holds Python and NumPy")
    add("--allow-unisolated", action="store_true",
        help="run students' code with no lock, as yourself: for files you trust")  # fmt: skip
    add("--gradescope", action="store_true", help="make Gradescope's autograder.zip instead")


def run_grade(chosen: argparse.Namespace) -> int:
    """`minseg grade`: returns the exit status, 1 where somebody was not graded, 130 after Ctrl-C.

    Raises:
        ValueError: arguments that do not go together.
        LockError: no lock, one that does not hold, or started as root outside a container.
    """
    if chosen.gradescope:
        from minseg.grading.gradescope import write_autograder

        out = chosen.out or Path("autograder.zip")
        write_autograder(out, chosen.homework, chosen.exercise)
        print(f"{out}: upload it to Gradescope as the autograder of a programming assignment")
        return 0
    if chosen.submissions is None:
        raise ValueError("grade: which submissions? Give the folder or the zip that holds them")
    lock = chosen_lock(chosen)
    out = chosen.out or Path("grades")
    try:
        book = grade(
            chosen.submissions, out, lock=lock, jobs=chosen.jobs, homework=chosen.homework,
            exercises=chosen.exercise, student=chosen.student, regrade=chosen.regrade,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("\nstopped; what is graded is kept. The same command goes on.", file=sys.stderr)
        return 130
    print(f"{out}: grades.csv, grades.jsonl and a page for each student in feedback/")
    print(book.in_short())
    failed = [row for row in book.rows.values() if row["score"] is None]
    for row in failed[:10]:
        _say(f"{row['student']}, {row['exercise']}: {row['refused']}")
    return 1 if failed else 0


def _say(words: str) -> None:
    """Print what names may stand in, on consoles too that lack their letters."""
    encoding = sys.stderr.encoding or "ascii"
    print(words.encode(encoding, "replace").decode(encoding), file=sys.stderr)


def chosen_lock(chosen: argparse.Namespace) -> tuple[str, ...]:
    """The lock that the arguments ask for, tried: it must hold."""
    from minseg.grading.probe import must_hold, refuse_root

    refuse_root()
    if chosen.allow_unisolated:
        print("no lock: students' code runs as you, and every row will say so", file=sys.stderr)
        return ("none",)
    if chosen.container is not None and chosen.image is None:
        raise ValueError("grade: --container needs --image: TEACHING.md says how to make one")
    if chosen.container is None and not sys.platform.startswith("linux"):
        raise LockError(
            "on this system students' code is locked into a container: give --container podman or "
            "docker, and --image (TEACHING.md says how to make one)"
        )
    lock = (
        ("bubblewrap",)
        if chosen.container is None
        else ("container", chosen.container, chosen.image)
    )
    must_hold(lock_of(lock))
    return lock
