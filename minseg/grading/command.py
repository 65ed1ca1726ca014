"""`minseg grade`: what a teacher types, made into a call of grade() or an archive for Gradescope."""

import argparse
import sys
from pathlib import Path

from minseg.grading import probe
from minseg.grading.grade import grade, say
from minseg.grading.gradescope import write_autograder
from minseg.grading.lock import LockError
from minseg.grading.supervise import lock_of


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
        say(f"{row['student']}, {row['exercise']}: {row['refused']}")
    return 1 if failed else 0


def chosen_lock(chosen: argparse.Namespace) -> tuple[str, ...]:
    """The lock that the arguments ask for, tried: it must hold."""
    probe.refuse_root()
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
    probe.must_hold(lock_of(lock))
    return lock
