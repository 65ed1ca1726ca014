"""The same grading on Gradescope: an archive to upload, and what runs of it in their container.

Gradescope unpacks the archive in /autograder/source, runs setup.sh once, then run_autograder for
every submission, as root in a container of its own, and reads results/results.json.
Source: gradescope-autograders.readthedocs.io, "Autograder Specifications".
"""

import argparse
import json
import time
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from minseg.files import written_whole
from minseg.grading.course import Course, course
from minseg.grading.feedback import text
from minseg.grading.grade import Job, chosen_exercises, work_off
from minseg.grading.gradebook import Row
from minseg.grading.intake import Student, handed_in
from minseg.grading.supervise import lock_of

LOCK = ("other_user",)
PACKAGES = ("numpy", "tqdm", "threadpoolctl")  # of our dependencies, what grading needs

SETUP = """#!/usr/bin/env bash
# Run once, when the container is made: Python, and the packages the grader needs.
# minseg itself stays below /autograder/source, where no student's code can read.
set -euo pipefail
cd /autograder/source
chmod -R go= .

export DEBIAN_FRONTEND=noninteractive
fits() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python=
for name in python3.14 python3.13 python3.12 python3.11 python3; do
    if fits "$name"; then python=$name; break; fi
done
if [ -z "$python" ]; then
    apt-get update
    for name in python3.13 python3.12 python3.11; do
        if apt-get install -y "$name" "$name-venv" && fits "$name"; then python=$name; break; fi
    done
fi
[ -n "$python" ] || { echo "no Python 3.11 or newer: choose a newer base image"; exit 1; }

"$python" -m venv /opt/minseg
/opt/minseg/bin/python -m pip install --no-cache-dir -r requirements.txt -c constraints.txt
"""

RUN = """#!/usr/bin/env bash
# Run for every submission.
cd /autograder/source
export PYTHONPATH=/autograder/source
exec /opt/minseg/bin/python -P -B -m minseg.grading.gradescope "$@"
"""


def write_autograder(out: Path, homework: str | None = None, names: Iterable[str] = ()) -> None:
    """Write the archive for these exercises: a homework set, some by name, or the whole course.

    Raises:
        ValueError: no such homework or exercise; the exercises are not there.
    """
    the_course = course()
    graded = [e.name for e in chosen_exercises(the_course, [], homework, names)]
    root = the_course.folder.parent
    about = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    texts = {
        "setup.sh": SETUP,
        "run_autograder": RUN,
        "autograder.json": json.dumps({"exercises": graded}),
        "requirements.txt": "".join(
            f"{line}\n" for line in about["project"]["dependencies"] if line.startswith(PACKAGES)
        ),
    }
    files = [root / name for name in ("constraints.txt", "LICENSE", "NOTICE")]
    files += [*sorted(the_course.folder.glob("*.py")), the_course.folder / "course.toml"]
    files += sorted(f for f in (root / "minseg").rglob("*") if f.is_file() and f.suffix != ".pyc")
    with written_whole(out) as part, _new_archive(part) as archive:
        for name, words in texts.items():
            info = zipfile.ZipInfo(name)
            info.create_system = 3  # Unix, whose permissions are meant here
            info.external_attr = (
                0o100755 if name in ("setup.sh", "run_autograder") else 0o100644
            ) << 16
            archive.writestr(info, words, zipfile.ZIP_DEFLATED)
        for file in files:
            archive.write(file, file.relative_to(root).as_posix())


def _new_archive(file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False)


# The rest runs on Gradescope.


def results(rows: list[Row], seconds: float) -> dict[str, Any]:
    """What Gradescope reads: a test for each check, the feedback below the first that failed."""
    tests = []
    for row in rows:
        told = False
        for check in row["checks"]:
            output = ""
            if not check["passed"]:
                output = check["problem"] if told else text(row)
                told = True
            tests.append({
                "name": f"{row['exercise']}: {check['title']}",
                "score": check["points"] if check["passed"] else 0,
                "max_score": check["points"],
                "status": "passed" if check["passed"] else "failed",
                "output": output,
                "visibility": "visible",
            })  # fmt: skip
    kept = ("exercise", "isolation", "versions", "seed", "sha256", "exercise_sha256", "seconds")
    return {
        "score": sum(row["score"] for row in rows),
        "execution_time": round(seconds, 2),
        "tests": tests,
        "extra_data": {"rows": [{key: row[key] for key in kept} for row in rows]},
    }


def grade_one(
    the_course: Course, names: list[str], submission: Path, lock: tuple[str, ...]
) -> list[Row]:
    """The rows of the one student whose files lie in a folder, in the order of the names.

    Raises:
        RuntimeError: an exercise could not be graded, so there is no score to tell.
    """
    student = Student("submission", work=handed_in(submission, names))
    isolation = lock_of(lock).name
    todo = [Job(student, the_course.exercise(name), isolation) for name in names]
    rows = {row["exercise"]: row for row in work_off(todo, the_course, lock, 2, len(todo))}
    for row in rows.values():
        if row["score"] is None:
            raise RuntimeError(f"{row['exercise']}: {row['refused']}")
    return [rows[name] for name in names]


def main() -> None:
    """Grade /autograder/submission; the results are written last, and whole or not at all."""
    parser = argparse.ArgumentParser("run_autograder")
    parser.add_argument("--autograder", type=Path, default=Path("/autograder"))
    folder = parser.parse_args().autograder
    began = time.monotonic()
    source = folder / "source"
    source.chmod(0o700)
    lock = LOCK
    from minseg.grading.probe import must_hold, refuse_root

    refuse_root()
    must_hold(lock_of(lock))
    names = json.loads((source / "autograder.json").read_text(encoding="utf-8"))["exercises"]
    rows = grade_one(Course(source / "exercises"), names, folder / "submission", lock)
    with written_whole(folder / "results" / "results.json") as part:
        said = json.dumps(results(rows, time.monotonic() - began), indent=1)
        part.write_text(said, encoding="utf-8")


if __name__ == "__main__":
    main()
