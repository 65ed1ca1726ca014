"""Grades a class of hostile and honest students under bubblewrap, and looks what is left of it.

    python hostile_class.py FOLDER HONEST [NAME ...]

Run as an ordinary user, in an empty folder of theirs; HONEST is how many honest students sit among
the hostile ones of those names (all, if none is given). Prints what was found as JSON.
"""

import itertools
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from hostile import HOSTILE

from minseg.grading import grade as grading
from minseg.grading.exercise import read

ROOT = Path(__file__).resolve().parent.parent
EXERCISE = ROOT / "exercises" / "conv_transpose2d.py"
COURSE = """
version = 1
exercise = [
    {name = "conv_transpose2d", notebook = "none", minutes = 1},
    {name = "roomy", notebook = "none", minutes = 1},
]
"""
MARK = f"minseg-mark-{os.getpid()}"
SECONDS = "\nSECONDS = 1.5\n"


def build(folder, honest, names):
    """A course of two exercises, and a class."""
    (folder / "minseg").mkdir()  # what a clone of the repository is known by
    course, students = folder / "exercises", folder / "class"
    course.mkdir()
    text = EXERCISE.read_text("utf-8")
    (course / "course.toml").write_text(COURSE, "utf-8")
    (course / "conv_transpose2d.py").write_text(text + SECONDS, "utf-8")
    (course / "roomy.py").write_text(f'{text}{SECONDS}PACKAGES = ("numpy", "minseg")\n', "utf-8")
    solution = read(EXERCISE).solution
    for n in range(honest):
        (students / f"honest {n}").mkdir(parents=True)
        (students / f"honest {n}" / "conv_transpose2d.py").write_text(solution, "utf-8")
    for each in HOSTILE:
        if not names or each.name in names:
            place = students / f"hostile {each.name}"
            place.mkdir(parents=True)
            code = each.written(solution, COURSE=course, ROOT=ROOT, CLASS=students, MARK=MARK)
            name = "roomy" if each.roomy else "conv_transpose2d"
            (place / f"{name}.py").write_text(code, "utf-8")
    return students


def snapshot(*folders):
    """Every file below the folders, with its size and time."""
    found = {}
    for folder in folders:
        for file in folder.rglob("*"):
            if "__pycache__" not in file.parts:
                about = file.lstat()
                found[str(file)] = (about.st_size, about.st_mtime_ns, about.st_mode)
    return found


def marks():
    """Files with the mark in the folders that anyone may write to."""
    places = ("/tmp", "/var/tmp", "/dev/shm", "/", Path.home(), ROOT, ROOT / "minseg")
    return [str(f) for place in places for f in Path(place).glob("*minseg-mark*") if MARK in f.name]


def workers():
    """The processes of this user that hold a student's code or stand around one, by command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            mine = entry.stat().st_uid == os.getuid() and entry.name != str(os.getpid())
            line = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if mine and (b"--info-fd" in line or b"holds a student's code" in line):
            found.append(f"{entry.name} {line[:60]!r}")
    return found


def main():
    folder, honest, names = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    seeds = itertools.count(1)
    grading.secrets.randbits = lambda bits: next(seeds)  # so that no answer is right by luck
    temporary = folder / "temporary"
    temporary.mkdir()
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    os.environ["MINSEG_SECRET"] = "the-password"
    students = build(folder, honest, names)
    os.chdir(folder)
    watched = students, folder / "exercises", ROOT / "minseg", ROOT / "exercises"
    before, began = snapshot(*watched), time.monotonic()
    book = grading.grade(students, folder / "grades", jobs=4)
    seconds = time.monotonic() - began
    time.sleep(0.3)  # a daemon would show now
    after = snapshot(*watched)
    text = (folder / "grades" / "grades.jsonl").read_text("utf-8")
    found = {
        "rows": list(book.rows.values()),
        "seconds": seconds,
        "changed": sorted(path for path in before | after if before.get(path) != after.get(path)),
        "left": [str(path) for path in temporary.rglob("*")] + marks(),
        "alive": workers(),
        "told": "the-password" in text,
        "bytes": sum(file.stat().st_size for file in (folder / "grades").rglob("*")),
        "peak": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10,
    }
    print(json.dumps(found))
    shutil.rmtree(folder / "grades")


if __name__ == "__main__":
    main()
