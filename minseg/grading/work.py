"""A student's own folder: their files, what they passed, which hints they read.

minseg_work/exercises/ holds one file an exercise. A file is written once, from the stub, and never
over work.
"""

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from minseg.files import written_whole
from minseg.grading.course import COMMAND, Course
from minseg.grading.exercise import Exercise

FOLDER = Path("minseg_work") / "exercises"

# Where each exercise stands in a U-Net. A passed one is lit. Numbers are widths.
DRAWING = """
    image                                                     classes
      |                                                          ^
  {output_size:54}{confusion_matrix}
  {conv2d:54}{metrics}
      |                                                          ^
      |                                                 {cross_entropy}
      +------------ {skip_connections} ---------> {void_and_weights}
      |                                                          ^
  {max_pool2d:54}{max_unpool2d}
      |                                                 {conv_transpose2d}
      |                                                 {bilinear_kernel}
      |                                                 {fractionally_strided_conv2d}
      |                                                          ^
      +--> {convolutionalize}  {dilated_conv2d}              |
           {receptive_field:20}  {flops} ----------------------+

  the way back: {conv_backward}  {engine_backward}     all of it: {train_a_segmenter}
"""


class Work:
    """A student's folder, and the record of what was done in it."""

    def __init__(self, course: Course, start: Path | None = None) -> None:
        self.course = course
        self.folder = _find(start or Path.cwd())
        self.record: dict[str, dict[str, Any]] = {}
        if self._file.is_file():
            try:
                self.record = dict(json.loads(self._file.read_text(encoding="utf-8")))
            except ValueError:
                self._file.replace(self._file.with_suffix(".damaged"))

    @property
    def _file(self) -> Path:
        return self.folder / ".progress.json"

    def file(self, name: str) -> Path:
        """Where the student writes the exercise of that name."""
        return self.folder / f"{name}.py"

    def copy_stubs(self) -> list[Path]:
        """Write the stubs that are not there yet; what is there is left alone."""
        new = [exercise for exercise in self.course if not self.file(exercise.name).exists()]
        for exercise in new:
            self._write(self.file(exercise.name), exercise.stub)
        return [self.file(exercise.name) for exercise in new]

    def must_exist(self) -> None:
        """Raise a ValueError where there is no folder yet: perhaps it lies elsewhere."""
        if not self.folder.is_dir():
            raise ValueError(
                f"there is no {FOLDER} at or above {Path.cwd()}: go to where yours is, or begin here "
                f"with `{COMMAND} exercises`"
            )

    def source(self, exercise: Exercise) -> str:
        """What the student wrote.

        Raises:
            ValueError: the file is empty or no text; a file that was missing is written anew.
        """
        file = self.file(exercise.name)
        if not file.exists():
            self._write(file, exercise.stub)
        try:
            text = file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise ValueError(f"{file} is not UTF-8 text: save it as UTF-8 in your editor") from None
        if not text.strip():
            raise ValueError(
                f"{file} is empty: `{COMMAND} reset {exercise.name}` writes the stub anew"
            )
        return text

    def reset(self, exercise: Exercise) -> Path | None:
        """Write the stub anew; returns where the student's text is kept, if there was any."""
        file = self.file(exercise.name)
        kept = None
        if file.exists() and file.read_bytes() != exercise.stub.encode():
            names = (f"{exercise.name}.before-reset-{n}.py" for n in itertools.count(1))
            kept = next(path for name in names if not (path := file.with_name(name)).exists())
            file.replace(kept)
        self._write(file, exercise.stub)
        self.note(exercise.name, passed=None)
        return kept

    def passed(self, name: str) -> bool:
        """Did the exercise pass, at some time, and is not the stub again?"""
        if not self.record.get(name, {}).get("passed"):
            return False
        return self._text(name).strip() not in ("", self.course.exercise(name).stub.strip())

    def mark(self, name: str) -> str:
        """[x] passed, [~] passed but changed since, [ ] not yet."""
        if not self.passed(name):
            return "[ ]"
        return "[~]" if self.changed(name) else "[x]"

    def changed(self, name: str) -> bool:
        """Is the file another one than when it passed?"""
        return self.record.get(name, {}).get("passed") != _hash(self._text(name))

    def _text(self, name: str) -> str:
        """What stands in a file; nothing where it is missing or no text."""
        try:
            return self.file(name).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError):
            return ""

    def next_unsolved(self) -> str | None:
        """The first exercise, in the order of the lectures, that did not pass yet."""
        return next((name for name in self.course.names if not self.passed(name)), None)

    def note(self, name: str, **facts: Any) -> None:
        """Remember facts about an exercise; the record is written at once, whole."""
        self.record[name] = self.record.get(name, {}) | facts
        self._write(self._file, json.dumps(self.record, indent=1))

    def note_passed(self, exercise: Exercise, source: str) -> None:
        self.note(exercise.name, passed=_hash(source))

    def _write(self, file: Path, text: str) -> None:
        with written_whole(file) as part:
            part.write_text(text, encoding="utf-8", newline="\n")

    def listing(self) -> str:
        """The network with what is passed lit, and the exercises chapter by chapter."""
        lines = [self.drawing(), ""]
        chapters = dict.fromkeys(entry["notebook"] for entry in self.course.entries)
        number = 0
        for notebook in chapters:
            entries = [e for e in self.course.entries if e["notebook"] == notebook]
            done = sum(self.passed(entry["name"]) for entry in entries)
            bar = "#" * done + "." * (len(entries) - done)
            lines.append(f"{notebook:42} [{bar}] {done}/{len(entries)}")
            for entry in entries:
                number += 1
                mark = self.mark(entry["name"])
                lines.append(
                    f"  {number:2} {mark} {entry['name']:28} {entry['minutes']:3} min  {entry['title']}"
                )
        if any(self.mark(name) == "[~]" for name in self.course.names):
            lines += ["", "[~] changed since it passed: check it again"]
        return "\n".join(lines)

    def drawing(self) -> str:
        """The U-Net drawn from the exercises."""
        names = {name: f"{self.mark(name)} {name}" for name in self.course.names}
        return DRAWING.format_map(_Unknown(names)).strip("\n")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Unknown(dict):
    def __missing__(self, name: str) -> str:
        return f"    {name}"


def _find(start: Path) -> Path:
    """The student's folder at or above `start`; below it where there is none yet."""
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir():
            return folder / FOLDER
        if folder.name == FOLDER.parts[0]:
            return folder / FOLDER.parts[1]
    return start / FOLDER
