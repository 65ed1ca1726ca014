"""The exercises in their order, as exercises/course.toml lists them."""

import difflib
import os
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from minseg.grading.exercise import Exercise, ExerciseError, read

COMMAND = os.environ.get("MINSEG_COMMAND", "minseg")  # how this user runs minseg


def exercises_folder(start: Path | None = None) -> Path:
    """The repository's exercises/, looked for upward from `start` (the current folder).

    Raises:
        ValueError: it is not there: an installed package has no exercises.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent.parent):
        if (folder / "exercises" / "course.toml").is_file() and (folder / "minseg").is_dir():
            return folder / "exercises"
    raise ValueError(
        "the exercises are not in the installed package: clone the repository and run this inside it"
    )


class Course:
    """What course.toml says: the exercises, and the homework sets made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with open(folder / "course.toml", "rb") as file:
            about = tomllib.load(file)
        self.entries: list[dict[str, Any]] = about["exercise"]
        self.names = [entry["name"] for entry in self.entries]
        for entry in self.entries:
            entry["title"] = _title(folder / f"{entry['name']}.py")
        self.homework: list[dict[str, Any]] = about.get("homework", [])

    def find(self, wanted: str | int) -> Exercise:
        """The exercise of that name or number, or the only one whose name or title has the words.

        Raises:
            ValueError: there is none, or more than one.
        """
        names, entries = self.names, self.entries
        asked = str(wanted)
        if asked.isdigit() and 1 <= int(asked) <= len(names):
            return self.exercise(names[int(asked) - 1])
        name = Path(asked).name.lower().removesuffix(".py")  # a path to the file will do
        if name in names:
            return self.exercise(name)
        word = " " + name.replace("_", " ").strip()
        fits = (
            [entry["name"] for entry in entries if word[1:] in entry.get("short", [])]
            or [name for name in names if word in " " + name.replace("_", " ")]
            or [entry["name"] for entry in entries if word in " " + entry["title"].lower()]
        )
        if len(fits) == 1:
            return self.exercise(fits[0])
        if fits and word.strip():
            raise ValueError(f"{asked} may be {' or '.join(fits)}: write more of the name")
        near = difflib.get_close_matches(name, names, n=1)
        said = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
        raise ValueError(f"there is no exercise {asked!r}; {said}")

    def exercise(self, name: str) -> Exercise:
        """An exercise by its exact name."""
        number = self.names.index(name)
        entry = self.entries[number]
        exercise = _read(self.folder / f"{name}.py")
        exercise.number = number + 1
        exercise.notebook, exercise.minutes = entry["notebook"], entry["minutes"]
        return exercise

    def __iter__(self) -> Any:
        return (self.exercise(name) for name in self.names)


def _title(file: Path) -> str:
    """The first line of an exercise's docstring.

    Raises:
        ExerciseError: there is no such file.
    """
    if not file.is_file():
        raise ExerciseError(f"course.toml lists {file.stem}, but there is no {file}")
    with open(file, encoding="utf-8") as text:
        return text.readline().strip().strip('"').rstrip(".")


_read = lru_cache(maxsize=None)(read)


def course(start: Path | None = None) -> Course:
    """The course of the repository around `start`."""
    return Course(exercises_folder(start))
