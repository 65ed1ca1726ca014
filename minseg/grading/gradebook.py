"""The record of a class: one line of JSON for each student and exercise, and the table made of it.

grades.jsonl is written line by line as the work goes on, so that nothing graded is lost; grades.csv
is written whole from it.
"""

import csv
import json
import math
from collections.abc import Iterable
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
        """Forget rows that are going to be graded again; the file that holds them stays as .old."""
        dropped = [place for place in places if self.rows.pop(place, None)]
        if dropped:
            with written_whole(self.file.with_suffix(".jsonl.old")) as part:
                part.write_bytes(self.file.read_bytes())
            self._write()

    def add(self, row: Row) -> None:
        """Keep a row, on the disk before anything else is done."""
        self.rows[row["student"], row["exercise"]] = row
        with open(self.file, "a", encoding="utf-8", newline="\n") as file:
            file.write(_line(row))

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


def _line(row: Row) -> str:
    return json.dumps(_finite(row), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The same with nan and inf as words, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
