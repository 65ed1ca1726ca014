"""What students handed in, as a learning platform packs it, and why a file cannot be used.

A folder of submissions (or one zip) holds for every student a folder, a zip, or loose files whose
names begin with the student's, the way Moodle and Canvas write them. Nothing is unpacked to the
disk: only files named after an exercise are read, each with its size bounded before.
"""

import difflib
import hashlib
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

FILE_BYTES = 1 << 20  # of one exercise's file
ARCHIVE_BYTES = 16 << 20  # of one student's zip, which bounds its table of contents too
STUDENT_FILES = 2000  # in one student's folder or zip
ALL_FILES = 200_000  # in a zip of the whole class

# First Last_12345_assignsubmission_file_/conv2d.py, or the same with no folder
MOODLE = re.compile(
    r"(?P<name>.+?)_(?P<number>\d+)_assignsubmission_[a-z]+_?(?P<file>.*)", re.DOTALL
)
# lastnamefirst_LATE_1234_5678_conv2d-1.py: the student's number, the upload's, the file
CANVAS = re.compile(r"(?P<name>.+?)(?:_LATE)?_(?P<number>\d+)_\d+_(?P<file>.+)", re.DOTALL)
CLUTTER = re.compile(r"\..*|__MACOSX|__pycache__|Thumbs\.db|desktop\.ini", re.IGNORECASE)
ENDING = re.compile(r"(\.tar)?\.(zip|rar|7z|tar|gz|tgz|bz2|xz|zst)$", re.IGNORECASE)
OTHER_ARCHIVES = (".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")


class UnusableError(ValueError):
    """Why something that was handed in cannot be used, in a sentence."""


@dataclass
class Found:
    """A file among the submissions; a folder, if the last part of its path is empty."""

    path: tuple[str, ...]
    read: Callable[[int], bytes]  # all of it, if it has at most so many bytes; else UnusableError
    problem: str = ""  # why it cannot be read

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def place(self) -> str:
        return "/".join(self.path)


@dataclass
class Handed:
    """What a student handed in for one exercise: its text, or a sentence why there is none."""

    text: str | None = None
    sha256: str = ""
    problem: str = ""


@dataclass
class Student:
    """A student, and for each exercise what was handed in.

    number: the platform's own, where it tells one. file_name: safe on every system, and unlike any
    other student's.
    """

    name: str
    number: str = ""
    file_name: str = ""
    work: dict[str, Handed] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        return f"{self.name}_{self.number}" if self.number else self.name


def intake(
    place: str | os.PathLike, exercises: Iterable[str], leave_out: Path | None = None
) -> tuple[list[Student], list[str]]:
    """The students whose submissions lie in a folder or zip, by name, and the files of nobody.

    leave_out: a folder that is no student's, such as the one for the grades.

    Raises:
        ValueError: there is no such folder or zip, it cannot be read, or no student is in it.
    """
    place, exercises = Path(place), list(exercises)
    with ExitStack() as stack:
        found = list(_class(place, leave_out, stack))
        single = [f for f in found if not CLUTTER.fullmatch(f.path[0])]
        if len(single) == 1 and place.is_dir() and _is_zip(single[0]) and len(single[0].path) == 1:
            inside = list(_class(place / single[0].name, None, stack))
            if any(_who(f.path[0]) for f in inside):  # the platform's zip of the whole class
                found = inside
        of_student, of_nobody = _by_student(found)
        students = [
            Student(*who, work=_work(files, exercises)) for who, files in of_student.items()
        ]
    if not students:
        raise ValueError(
            f"grade: {place} holds no submissions: a folder or a zip for each student is expected, "
            "or files named as Moodle and Canvas name them"
        )
    students.sort(key=lambda student: (student.name.casefold(), student.name, student.number))
    taken: set[str] = set()
    for student in students:
        student.file_name = file_name(student.identity, taken)
    return students, of_nobody


def called(students: list[Student], asked: str) -> list[Student]:
    """The students of that name, number or both; capitals matter only between two such names.

    Raises:
        ValueError: there is none.
    """
    asked = _readable(asked)
    found = [s for s in students if asked and asked in (s.name, s.number, s.identity)]
    folded = asked.casefold()
    found = found or [s for s in students if folded in (s.name.casefold(), s.identity.casefold())]
    if not found:
        names = {student.name.casefold(): student.name for student in students}
        near = difflib.get_close_matches(folded, names, n=1)
        meant = f"; did you mean {names[near[0]]}?" if near else ""
        raise ValueError(f"grade: there is no student {asked} among the submissions{meant}")
    return found


def handed_in(folder: Path, exercises: Iterable[str]) -> dict[str, Handed]:
    """What the only student handed in whose files lie in a folder."""
    return _work(list(_in_folder(folder)), list(exercises))


def _class(place: Path, leave_out: Path | None, stack: ExitStack) -> Iterator[Found]:
    """Every file below a folder, or in the zip of a class."""
    if place.is_dir():
        yield from _in_folder(place, leave_out)
    elif place.is_file():
        try:
            yield from _in_archive(place, ALL_FILES, stack)
        except UnusableError as error:
            raise ValueError(f"grade: {place} {error}") from None
    else:
        raise ValueError(f"grade: there is no folder or zip {place}")


def _by_student(found: list[Found]) -> tuple[dict[tuple[str, str], list[Found]], list[str]]:
    """(name, number) -> files; and the places of files that no student's name goes with."""
    students: dict[tuple[str, str], list[Found]] = {}
    of_nobody = []
    for file in found:
        first, rest = file.path[0], file.path[1:]
        if CLUTTER.fullmatch(first):
            continue
        named = _who(first)
        if rest:  # in a folder of the student's
            name, number = named[:2] if named else (first, "")
        elif named:  # a loose file that begins with the student's name
            name, number, last = named
            rest = (last,)
        elif first.lower().endswith((".zip", *OTHER_ARCHIVES)) or file.problem:
            name, number, rest = ENDING.sub("", first) or first, "", (first,)
        else:
            of_nobody.append(file.place)
            continue
        who = (_readable(name), number)
        students.setdefault(who, []).append(Found(rest, file.read, file.problem))
    return students, of_nobody


def _who(name: str) -> tuple[str, str, str] | None:
    """Name, number and file, where a platform wrote the name."""
    match = MOODLE.fullmatch(name) or CANVAS.fullmatch(name)
    return (match["name"], match["number"], match["file"]) if match else None


def _work(found: list[Found], exercises: list[str]) -> dict[str, Handed]:
    """For each exercise what one student handed in, zips opened."""
    troubles = [f"{f.place or 'what was handed in'} {f.problem}" for f in found if f.problem]
    with ExitStack() as stack:
        inside: list[Found] = []
        for file in found:
            try:
                if _is_zip(file):
                    data = io.BytesIO(file.read(ARCHIVE_BYTES))
                    inside += _in_archive(data, STUDENT_FILES, stack)
                elif file.name.lower().endswith(OTHER_ARCHIVES):
                    raise UnusableError("is an archive that is not opened here: use a zip")
            except UnusableError as error:
                troubles.append(f"{file.place} {error}")
        troubles += [f"{f.place} is an archive within an archive" for f in inside if _is_zip(f)]
        found = [f for f in (*found, *inside) if f.name and not any(map(CLUTTER.fullmatch, f.path))]
        return {name: _handed(name, found, troubles) for name in exercises}


def _handed(exercise: str, found: list[Found], troubles: list[str]) -> Handed:
    # a file that was uploaded twice comes back as conv2d-1.py or conv2d (1).py
    named = re.compile(rf"{re.escape(exercise)}(-\d+| ?\(\d+\))?\.py", re.IGNORECASE)
    files = [file for file in found if named.fullmatch(file.name)]
    if not files:
        others = sorted({_readable(f.name) for f in found if not _is_zip(f)})
        there = f" (there is {', '.join(others[:5])})" if others else ""
        missing = f"no file {exercise}.py was handed in{there}"
        return Handed(problem="; ".join([*troubles[:3], missing]))
    if len(files) > 1:
        places = " and ".join(_readable(file.place) for file in files[:3])
        return Handed(problem=f"{exercise}.py was handed in {len(files)} times: {places}")
    try:
        data = files[0].read(FILE_BYTES)
        return Handed(_text(data), hashlib.sha256(data).hexdigest())
    except UnusableError as error:
        return Handed(problem=f"{_readable(files[0].place)} {error}")


def _text(data: bytes) -> str:
    if not data.strip():
        raise UnusableError("is empty")
    if b"\0" in data:
        raise UnusableError("holds zero bytes, so it is no UTF-8 text: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UnusableError(f"is not UTF-8 text, from line {line} on: save it as UTF-8") from None


def _is_zip(file: Found) -> bool:
    return file.name.lower().endswith(".zip")


# Reading a folder.


def _in_folder(folder: Path, leave_out: Path | None = None) -> Iterator[Found]:
    """Every file below a folder; links are named, never followed."""
    for top in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if leave_out is not None and Path(top.path).resolve() == leave_out.resolve():
            continue
        waiting: list[tuple[os.DirEntry, tuple[str, ...]]] = [(top, ())]
        count = 0
        while waiting:
            entry, above = waiting.pop()
            path, count = (*above, entry.name), count + 1
            if count > STUDENT_FILES:
                yield _refused((top.name, ""), f"holds more than {STUDENT_FILES:,} files")
                break
            if entry.is_symlink():
                yield _refused(path, "is a link, and links are not followed")
            elif entry.is_dir(follow_symlinks=False):
                yield Found((*path, ""), lambda limit: b"")
                try:
                    with os.scandir(entry.path) as below:
                        waiting += [(e, path) for e in islice(below, STUDENT_FILES + 1)]
                except OSError as error:
                    yield _refused((*path, ""), f"cannot be opened: {error.strerror}")
            else:
                yield Found(path, partial(_read_file, entry.path))


def _read_file(path: str, limit: int) -> bytes:
    try:
        flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
        number = os.open(path, os.O_RDONLY | sum(flags))
    except OSError as error:
        raise UnusableError(f"cannot be opened: {error.strerror}") from None
    with open(number, "rb") as file:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise UnusableError("is not a regular file")
        return _bounded(file.read, about.st_size, limit)


def _bounded(read: Callable[[int], bytes], stated: int, limit: int) -> bytes:
    data = read(limit + 1) if stated <= limit else b""
    if stated > limit or len(data) > limit:
        raise UnusableError(f"is larger than {limit >> 20} MB")
    return data


# Reading a zip.


def _in_archive(file: Path | io.BytesIO, most: int, stack: ExitStack) -> list[Found]:
    """Every file in a zip, which stays open as long as the stack.

    Raises:
        UnusableError: it is no zip, or holds too many files.
    """
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        raise UnusableError("is damaged, or no zip") from None
    members = archive.infolist()
    if len(members) > most:
        raise UnusableError(f"holds more than {most:,} files")
    return [_member(archive, info) for info in members]


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Found:
    parts = info.filename.replace("\\", "/").split("/")
    path = (*(part for part in parts[:-1] if part not in ("", ".", "..")), parts[-1])
    if ".." in parts or parts[0] == "" or re.match("[A-Za-z]:", info.filename):
        return _refused(path, "has a path that leads out of its folder")
    if stat.S_ISLNK(info.external_attr >> 16):
        return _refused(path, "is a link, and links are not followed")
    if info.flag_bits & 1:
        return _refused(path, "is encrypted: hand it in without a password")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _refused(path, "is compressed in an unusual way: make an ordinary zip")
    return Found(path, partial(_read_member, archive, info))


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    try:
        with archive.open(info) as file:
            return _bounded(file.read, info.file_size, limit)
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError,
        NotImplementedError,
    ):  # fmt: skip
        raise UnusableError("is damaged: it cannot be unpacked") from None


def _refused(path: tuple[str, ...], problem: str) -> Found:
    def read(limit: int) -> bytes:
        raise UnusableError(problem)

    return Found(path, read, problem)


# Names.


def _readable(name: str) -> str:
    """A name that can be printed: bytes that are no text and control characters spelled out."""
    name = name.encode("utf-8", "backslashreplace").decode("utf-8")
    name = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return unicodedata.normalize("NFC", name)


def file_name(identity: str, taken: set[str]) -> str:
    """A file's name for a student, safe on every system and not taken yet."""
    name = re.sub(r"[^\w-]+", "_", identity).strip("_")[:60] or "student"
    if re.fullmatch(r"con|prn|aux|nul|(com|lpt)\d", name, re.IGNORECASE):  # Windows' devices
        name = f"{name}_"
    unique, number = name, 2
    while unique.casefold() in taken:
        unique, number = f"{name}-{number}", number + 1
    taken.add(unique.casefold())
    return unique


def cell(text: str) -> str:
    """Text for a cell of a table, which no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
