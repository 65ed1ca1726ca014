"""One process for each submission: it examines one file for one exercise, says what came of it, ends.

Started by the coordinator (grade.py), which runs no student's code and survives whatever happens
here. A process and not a thread: ending a submission kills processes, and must never end those of
a neighbour.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minseg.grading.lock import Lock, bubblewrap, container, other_user, unlocked

# How a lock is asked for, in words that can be sent: ("container", "podman", "an image").
LOCKS: dict[str, Callable[..., Lock]] = {
    "bubblewrap": bubblewrap,
    "container": container,
    "other_user": other_user,
    "none": unlocked,
}
LIMIT_BYTES = 8 << 20  # of what a supervisor says
ENDING = 20.0  # seconds in which a supervisor that is told to end must have ended


class SupervisorError(RuntimeError):
    """A supervisor died, took too long or made no sense: no fault of the student's is proved."""


def lock_of(words: tuple[str, ...]) -> Lock:
    """The lock that is asked for in words.

    Raises:
        LockError: it cannot be had on this machine.
    """
    return LOCKS[words[0]](*words[1:])


class Supervisor:
    """A supervisor at work on one job, as the coordinator sees it."""

    def __init__(self, job: dict[str, Any], seconds: float, folder: str) -> None:
        root = str(Path(__file__).resolve().parent.parent.parent)
        paths = [root, os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.seconds = seconds
        self.began = time.monotonic()
        # Files and no pipes: no side ever waits for the other to read.
        self.says = tempfile.TemporaryFile()  # noqa: SIM115  (closed by end)
        self.complains = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as asked:
            asked.write(json.dumps(job).encode())
            asked.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-B", "-m", "minseg.grading.supervise"],
                stdin=asked, stdout=self.says, stderr=self.complains, cwd=folder, env=environment,
                start_new_session=True,
            )  # fmt: skip

    @property
    def done(self) -> bool:
        """Has it ended, or had all the time it gets?"""
        return self.process.poll() is not None or time.monotonic() > self.began + self.seconds

    def result(self) -> dict[str, Any]:
        """What it said.

        Raises:
            SupervisorError: it said nothing that could be used.
        """
        try:
            if self.process.poll() is None:
                raise SupervisorError(f"no result within {self.seconds:g} seconds")
            if self.process.returncode != 0:
                raise SupervisorError(f"exit status {self.process.returncode}{self._last_words()}")
            if os.fstat(self.says.fileno()).st_size > LIMIT_BYTES:
                raise SupervisorError(f"it said more than {LIMIT_BYTES >> 20} MB")
            self.says.seek(0)
            try:
                return json.loads(self.says.read())
            except ValueError:
                raise SupervisorError("what it said is no JSON") from None
        finally:
            self.end()

    def _last_words(self) -> str:
        size = os.fstat(self.complains.fileno()).st_size
        self.complains.seek(max(0, size - 2000))
        lines = self.complains.read().decode("utf-8", "replace").split("\n")
        return "".join(f": {line.strip()}" for line in lines[-2:-1])

    def end(self) -> None:
        """End it, kindly at first, so that it ends what it started."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(ENDING)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.says.close()
        self.complains.close()


# The rest runs in the supervisor's own process.


def main() -> None:
    """Read a job from standard input, examine, write what came of it to standard output."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves every `with` on its way out
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    says, sys.stdout = sys.stdout, sys.stderr  # whatever prints, only the result goes out
    json.dump(supervise(json.load(sys.stdin)), says)


def supervise(job: dict[str, Any]) -> dict[str, Any]:
    """Examine a source: what a student reads of it, and how it was done."""
    import numpy as np

    from minseg import __version__
    from minseg.grading.course import Course
    from minseg.grading.examine import examine
    from minseg.grading.feedback import summary

    began = time.monotonic()
    lock = lock_of(tuple(job["lock"]))
    exercise = Course(Path(job["folder"])).exercise(job["exercise"])
    report = examine(exercise, job["source"], int(job["seed"], 16), lock)
    return {
        "summary": summary(report),
        "isolation": lock.name,
        "versions": {
            "minseg": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "seconds": round(time.monotonic() - began, 3),
    }


def _end_with(parent: int) -> None:
    """End when the coordinator is gone, however it went."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
