"""The record of a class: one line of JSON for each student and exercise, and the table made of it.

grades.jsonl is written line by line as the work goes on, so that nothing graded is lost; grades.csv
is written whole from it.
"""

import csv
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from minseg.files import written_whole
from minseg.grading.intake import Student, cell

Row = dict[str, Any]
NOT_GRADED = "not graded"


class Gradebook:
    """The rows of grades.jsonl: at most one for each student and exercise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "grades.jsonl"
        self.rows: dict[tuple[str, str], Row] = {}
        folder.mkdir(parents=True, exist_ok=True)
        whole = True
        if self.file.exists():
            with open(self.file, encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        row = json.loads(line)
                        self.rows[row["student"], row["exercise"]] = row
                    except (ValueError, KeyError, TypeError):
                        whole = False  # half a line: the machine stopped while it was written
                    whole = whole and line.endswith("\n")
        if not whole:
            self._write()

    def get(self, student: Student, exercise: str) -> Row | None:
        """The row of a student and an exercise, if there is one."""
        return self.rows.get((student.identity, exercise))

    def drop(self, places: Iterable[tuple[str, str]]) -> None:
        """Forget rows that are going to be graded again, once they stand in grades.jsonl.old."""
        dropped = [row for place in places if (row := self.rows.pop(place, None))]
        if dropped:
            old = self.file.with_suffix(".jsonl.old")
            with open(old, "a", encoding="utf-8", newline="\n") as file:
                file.write("".join(map(_line, dropped)))
            self._write()

    def add(self, row: Row) -> None:
        """Keep a row, on the disk before anything else is done."""
        self.rows[row["student"], row["exercise"]] = row
        with open(self.file, "a", encoding="utf-8", newline="\n") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    @property
    def students(self) -> set[str]:
        """The identities of all whose work was graded."""
        return {student for student, _ in self.rows}

    def exercises(self, students: Iterable[Student]) -> set[str]:
        """The exercises that anyone of these has a row for."""
        asked = {student.identity for student in students}
        return {exercise for student, exercise in self.rows if student in asked}

    def in_short(self) -> str:
        """What is in the record, in a line: passed means every check."""
        rows = self.rows.values()
        graded = [row for row in rows if row["score"] is not None]
        passed = sum(row["passed"] for row in graded)
        unusable = sum(bool(row["refused"]) for row in graded)
        return (
            f"{_counted(len(self.students), 'student')}, {_counted(len(rows), 'file')}: "
            f"{passed} passed, {unusable} could not be used, {len(rows) - len(graded)} not graded"
        )

    def _write(self) -> None:
        with written_whole(self.file) as part:
            text = "".join(map(_line, self.rows.values()))
            part.write_text(text, encoding="utf-8", newline="\n")

    def write_table(self, students: list[Student], exercises: list[str]) -> None:
        """grades.csv: a row for each student, a column for each exercise, and a total.

        What was not graded is never a number, and its total is none either.
        """
        with (
            written_whole(self.folder / "grades.csv") as part,
            # utf-8-sig: by its first bytes, Excel knows that the names are UTF-8
            open(part, "w", encoding="utf-8-sig", newline="") as file,
        ):
            table = csv.writer(file)
            table.writerow(["student", "number", *exercises, "total", "points", "isolation"])
            for student in students:
                rows = [self.get(student, exercise) for exercise in exercises]
                scores = [score(row) for row in rows]
                total = NOT_GRADED if NOT_GRADED in scores else sum(map(int, scores))
                points = "" if None in rows else sum(row["points"] for row in rows if row)
                isolation = sorted({row["isolation"] for row in rows if row and row["isolation"]})
                table.writerow([cell(student.name), cell(student.number), *scores, total, points,
                                cell(", ".join(isolation))])  # fmt: skip


def score(row: Row | None) -> int | str:
    """What stands in the table for a row."""
    return NOT_GRADED if row is None or row["score"] is None else row["score"]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep every other grader out of a folder, by a file in it that names our process.

    Raises:
        ValueError: another grader is at work there, as far as can be known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "grades.lock"
    if _has_ended(_holder(file)):
        file.unlink(missing_ok=True)
    try:
        with open(file, "x", encoding="utf-8") as lock:  # "x": of two at once, one gets it
            lock.write(f"{os.getpid()} on {platform.node()}")
    except FileExistsError:
        raise ValueError(
            f"grade: another grader is at work in {folder} (process {_holder(file) or 'unknown'}): "
            f"wait until it has ended; if there is none any more, delete {file}"
        ) from None
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _holder(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:  # there is none, or none any more
        return ""


def _has_ended(holder: str) -> bool:
    """Is it certain that this process, "NUMBER on MACHINE", is no more?"""
    number, _, machine = holder.partition(" on ")
    if not number.isdecimal() or machine != platform.node():
        return False
    if sys.platform == "win32":  # there, os.kill would end it instead of asking
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # another user's, or no number of ours
        return False
    return False


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _line(row: Row) -> str:
    return json.dumps(_finite(row), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The same with nan and inf as words, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
