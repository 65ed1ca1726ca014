"""How the worker that holds a student's code is locked in, started and ended.

A learner's own code runs as an ordinary process. For a class's code the worker is locked in by
bubblewrap (Linux): no network, no other process in sight, a read-only system, and of the packages
only those the exercise names; or by a container.
"""

import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np

from minseg.grading import worker

SCRIPT = Path(worker.__file__).resolve()
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "LANG": "C.UTF-8",
}
KEPT = ("OPENBLAS_CORETYPE", "SYSTEMROOT", "SystemRoot", "TEMP", "TMP")  # a process needs these
SCRATCH_BYTES = 64 << 20
MEMORY = 2 << 30
PROCESSES = 8  # and threads, of one submission
STARTING = 30.0  # seconds until a worker must have loaded NumPy


class LockError(ValueError):
    """No lock can be had, or one does not hold; the message says what to do."""


@dataclass
class Lock:
    """A way to start the worker: its name as written into each grade, and its command line."""

    name: str
    command: Callable[[list[str]], list[str]]  # packages -> command
    user: int | None = None  # the unprivileged user it runs as, where it is not our own
    after: Callable[[list[str]], None] = lambda command: None  # what ends it besides killing it


def sources(packages: list[str]) -> list[Path]:
    """The files and folders that make up these packages, wherever they are installed."""
    found: list[Path] = []
    for name in packages:
        if name == "minseg":
            found += [Path(__file__).resolve().parent.parent]
            found += sources(["threadpoolctl"])
            continue
        module = __import__(name)
        file = Path(module.__file__ or "").resolve()
        found.append(file.parent if file.name == "__init__.py" else file)
        libraries = file.parent.parent / f"{name}.libs"
        found += [libraries] if libraries.is_dir() else []
    return found


def interpreter() -> str:
    """The Python beneath the virtual environment, so that nothing else of it comes along."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)


def unlocked() -> Lock:
    """An ordinary process of this user: for one's own code."""

    def command(packages: list[str]) -> list[str]:
        places = dict.fromkeys(str(source.parent) for source in sources(packages))
        return [sys.executable, "-I", "-S", "-B", str(SCRIPT), *places]

    return Lock("none", command)


def bubblewrap() -> Lock:
    """A process with no network, no other process in sight and nothing to read but Python and NumPy.

    Raises:
        LockError: bubblewrap is not installed.
    """
    program = which("bwrap")
    if program is None:
        raise LockError(
            "bubblewrap is not installed. On Debian and Ubuntu: sudo apt install bubblewrap; on "
            "Fedora: sudo dnf install bubblewrap"
        )
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()
    newer = tuple(int(n) for n in version[-1].split(".")[:2]) >= (0, 8)
    base, python = Path(sys.base_prefix).resolve(), interpreter()
    line = [program, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    line += ["--disable-userns"] if newer else []
    line += ["--clearenv"]
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    for name, value in (ENVIRONMENT | kept | {"HOME": "/scratch", "PATH": "/usr/bin"}).items():
        line += ["--setenv", name, value]
    line += ["--ro-bind", "/usr", "/usr"]
    for folder in ("/bin", "/lib", "/lib64", "/lib32"):
        if os.path.islink(folder):
            line += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            line += ["--ro-bind", folder, folder]
    line += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    if not base.is_relative_to("/usr"):
        for folder in (base / "bin", base / "lib", base / "lib64"):  # and no environment in it
            line += ["--ro-bind-try", str(folder), str(folder)]
    for root in {base, Path("/usr"), Path("/usr/local")}:
        # What is installed for everybody is not for this exercise.
        for folder in {*root.glob("lib*/python3*/*-packages")}:
            line += ["--tmpfs", str(folder), "--remount-ro", str(folder)]
    end = ["--ro-bind", str(SCRIPT), "/worker.py", "--proc", "/proc", "--dev", "/dev"]
    end += ["--remount-ro", "/dev", "--size", str(SCRATCH_BYTES), "--tmpfs", "/scratch"]
    end += ["--chdir", "/scratch", "--remount-ro", "/"]
    end += [python, "-I", "-S", "-B", "/worker.py", "/packages"]

    def command(packages: list[str]) -> list[str]:
        given = []
        for source in sources(packages):
            given += ["--ro-bind", str(source), f"/packages/{source.name}"]
        return [*line, *given, *end]

    return Lock(f"bubblewrap {version[-1]}", command)


def container(engine: str, image: str) -> Lock:
    """A container of podman or docker, made from an image that holds Python and NumPy.

    Raises:
        LockError: the engine is not installed.
    """
    program = which(engine)
    if program is None:
        raise LockError(f"{engine} is not installed, or not on the PATH")

    def command(packages: list[str]) -> list[str]:
        line = [
            program, "run", "--rm", "--interactive", f"--name=minseg-{os.urandom(8).hex()}",
            "--network=none", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges",
            "--user=65534:65534", f"--pids-limit={PROCESSES + 8}", f"--memory={MEMORY}",
            f"--tmpfs=/scratch:rw,mode=1777,size={SCRATCH_BYTES}", "--workdir=/scratch",
            f"--volume={SCRIPT}:/worker.py:ro",
        ]  # fmt: skip
        for name, value in ENVIRONMENT.items():
            line += ["--env", f"{name}={value}"]
        if "minseg" in packages:
            line += [f"--volume={source}:/packages/{source.name}:ro"
                     for source in sources(["minseg"])]  # fmt: skip
        return [*line, image, "python3", "-I", "-B", "/worker.py", "/packages"]

    def after(line: list[str]) -> None:
        name = next(word for word in line if word.startswith("--name=")).removeprefix("--name=")
        subprocess.run([program, "rm", "--force", name], capture_output=True, timeout=60)

    return Lock(f"{engine} {image}", command, after=after)


def other_user() -> Lock:
    """Inside a container, as root: a user who may read nothing of the grader's.

    The container itself is the wall to the outside; inside it the worker has a network.
    """
    given = unlocked()

    def command(packages: list[str]) -> list[str]:
        return [interpreter(), *given.command(packages)[1:]]

    return Lock("user in a container", command, user=60000 + os.getpid() % 5000)


@dataclass
class Reply:
    """What came back of one call."""

    arrays: list[np.ndarray] | None  # None where there is no answer
    problem: str = ""  # why not, in a sentence
    printed: str = ""
    lost: bool = False  # the process is gone or must go


class Session:
    """A running worker with one student's file loaded.

    `ask` sends a call and waits so many seconds at most; `end` kills the worker and all it started,
    and returns only when they are dead.
    """

    def __init__(self, lock: Lock, packages: list[str]) -> None:
        self.lock, self.packages = lock, packages
        self.number = 0
        self.folder = tempfile.TemporaryDirectory(prefix="minseg-", ignore_cleanup_errors=True)
        self.line = lock.command(packages)
        read, write = os.pipe() if lock.name.startswith("bubblewrap") else (-1, -1)
        if write >= 0:  # bubblewrap tells there which process is the first of its namespace
            self.line[1:1] = ["--info-fd", str(write)]
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        options: dict[str, Any] = dict(
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=self.folder.name, env=ENVIRONMENT | kept,
        )  # fmt: skip
        if lock.user is not None:
            os.chown(self.folder.name, lock.user, lock.user)
            options |= dict(user=lock.user, group=lock.user, extra_groups=[])
        if os.name == "posix":
            options |= dict(start_new_session=True, pass_fds=[write] if write >= 0 else [])
        self.process = subprocess.Popen(self.line, **options)
        self.first = -1  # a handle on the namespace's first process
        if write >= 0:
            os.close(write)
            self.first = _handle(read)
        self.calls: queue.SimpleQueue = queue.SimpleQueue()
        self.replies: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._talk, daemon=True).start()

    def load(self, source: str, file: str, seconds: float) -> Reply:
        """Load a file, which confines the process first."""
        settings = dict(packages=self.packages, memory=MEMORY, processes=PROCESSES)
        return self._send(dict(source=source, file=file) | settings, STARTING + seconds)

    def ask(self, function: str, args: tuple, kwargs: dict, seconds: float) -> Reply:
        """One call of one function."""
        return self._send(dict(function=function, args=args, kwargs=kwargs), seconds)

    def _send(self, call: dict[str, Any], seconds: float) -> Reply:
        self.number += 1
        self.calls.put(call | {"number": self.number})
        try:
            return self.replies.get(timeout=seconds)
        except queue.Empty:
            return Reply(None, f"gave no answer within {seconds:g} seconds", lost=True)

    def _talk(self) -> None:
        """In a thread of its own, since both writing and reading may hang: call by call."""
        to, of = self.process.stdin, self.process.stdout
        assert to is not None and of is not None
        while (call := self.calls.get()) is not None:
            try:
                worker.write_call(to, call)
                status, arrays, problem, printed = worker.read_answer(of, call["number"])
            except worker.FrameError as error:
                self.replies.put(Reply(None, str(error), lost=True))
                return
            except (EOFError, OSError, ValueError):
                self.replies.put(Reply(None, "ended the process it runs in", lost=True))
                return
            done = status == worker.DONE
            self.replies.put(Reply(arrays if done else None, problem, printed))

    def end(self) -> None:
        """Kill the worker and whatever it started, and wait until all of it is dead."""
        self.calls.put(None)
        if os.name == "posix":
            _quietly(os.killpg, self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.lock.after(self.line)
        self.process.wait()
        if self.first >= 0:  # it ends last of all in its namespace
            dead, _, _ = select.select([self.first], [], [], 30)
            os.close(self.first)
            if not dead:
                raise LockError("a worker's processes did not end within 30 seconds")
        if self.lock.user is not None:
            _kill_all_of(self.lock.user)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            _quietly(pipe.close)
        self.folder.cleanup()

    def __enter__(self) -> "Session":
        return self

    def __exit__(self, *_: Any) -> None:
        self.end()


def _handle(read: int) -> int:
    """A handle that turns readable when the process bubblewrap names on that pipe has died."""
    import json

    with os.fdopen(read) as pipe:
        text = pipe.read()
    try:
        return os.pidfd_open(json.loads(text)["child-pid"])
    except (ValueError, KeyError, ProcessLookupError):
        return -1  # it did not even start


def _quietly(do: Callable, *arguments: Any) -> None:
    try:
        do(*arguments)
    except OSError:
        pass


def _kill_all_of(user: int) -> None:
    """Kill every process of a user, by becoming them for a moment."""
    code = "import os, signal; os.kill(-1, signal.SIGKILL)"
    subprocess.run([interpreter(), "-I", "-S", "-c", code], user=user, group=user, extra_groups=[])
