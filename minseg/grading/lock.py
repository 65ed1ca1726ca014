"""How the worker that holds a student's code is locked in, started and ended.

A learner's own code runs as an ordinary process. For a class's code the worker is locked in by
bubblewrap (Linux): no network, no other process in sight, and nothing to read but Python's own
library and the packages that the exercise names; or by a container.
"""

import contextlib
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from minseg.grading import seccomp, worker

SCRIPT = Path(worker.__file__).resolve()
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "LANG": "C.UTF-8",
}
KEPT = ("OPENBLAS_CORETYPE", "SYSTEMROOT", "SystemRoot", "TEMP", "TMP")  # a process needs these
SCRATCH_BYTES = 16 << 20
MEMORY = 2 << 30  # bytes of address space
THREADS = 8  # of code that may use minseg, which computes on several; NumPy alone needs none
STARTING = 30.0  # seconds until a worker must have loaded NumPy
DYING = 30.0  # seconds until all that was killed must be dead
SPARE_USER = 59999  # owns nothing and runs nothing


class LockError(ValueError):
    """No lock can be had, or one does not hold; the message says what to do."""


@dataclass
class Lock:
    """A way to start the worker: its name as written into each grade, and its command line."""

    name: str
    command: Callable[[list[str]], list[str]]  # packages -> command
    user: int | None = None  # the unprivileged user it runs as, where it is not our own
    become: tuple[str, ...] = ()  # the command by which it becomes that user, where there is one
    processes: int | None = None  # of its user, the worker itself counted; None: not bounded here
    namespace: bool = False  # killed whole, by killing its first process
    network: bool = False  # open, and the list of processes with it
    environment: Callable[[], dict[str, str]] = lambda: (
        ENVIRONMENT | {name: os.environ[name] for name in KEPT if name in os.environ}
    )
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


def places(packages: list[str]) -> list[str]:
    """The folders to import these packages from."""
    return list(dict.fromkeys(str(source.parent) for source in sources(packages)))


def unlocked() -> Lock:
    """An ordinary process of this user: for one's own code."""

    def command(packages: list[str]) -> list[str]:
        return [sys.executable, "-I", "-S", "-B", str(SCRIPT), *places(packages)]

    return Lock("none", command)


def bubblewrap() -> Lock:
    """A process with no network, no other process in sight and nothing to read but Python and NumPy.

    Raises:
        LockError: bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise LockError(
            "bubblewrap is not installed. On Debian and Ubuntu: sudo apt install bubblewrap; on "
            "Fedora: sudo dnf install bubblewrap"
        )
    version = subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()
    release = tuple(int(n) for n in version[-1].split(".")[:2])
    base, python = Path(sys.base_prefix).resolve(), interpreter()
    roots = [Path("/usr"), base]

    line = [program, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    line += ["--as-pid-1"]  # nothing of bubblewrap's beside it, which it could meddle with
    line += ["--disable-userns"] if release >= (0, 8) else []
    libraries = [root / name for root in (Path("/"), *roots) for name in ("lib", "lib32", "lib64")]
    for folder in dict.fromkeys(libraries):
        if folder.is_symlink():
            line += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            line += ["--ro-bind", str(folder), str(folder)]
    # Debian's NumPy finds its linear algebra by way of /etc/alternatives.
    for path in ("/etc/ld.so.cache", "/etc/alternatives"):
        line += ["--ro-bind-try", path, path]
    line += ["--ro-bind", python, python]
    # What is installed for everybody is not for this exercise.
    installed = {folder.resolve() for r in roots for folder in r.glob("lib*/python3*/*-packages")}
    for folder in sorted(installed):
        line += ["--tmpfs", str(folder)]

    end = [word for folder in sorted(installed) for word in ("--remount-ro", str(folder))]
    end += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    # An older bubblewrap cannot bound what is written to memory: there, nothing can be written.
    end += ["--size", str(SCRATCH_BYTES), "--tmpfs"] if release >= (0, 7) else ["--dir"]
    end += ["/scratch", "--chdir", "/scratch", "--remount-ro", "/"]
    end += [python, "-I", "-S", "-B", "-c", SCRIPT.read_text("utf-8")]

    def command(packages: list[str]) -> list[str]:
        given = []
        for source in sources(packages):  # in its own place, where its libraries are looked for
            given += ["--ro-bind", str(source), str(source)]
        return [*line, *given, *end, *places(packages)]

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    user = _other_user() if root else None
    become = _becoming(program, user, [python, *map(str, (base, sys.prefix))]) if user else ()
    name = f"bubblewrap {version[-1]}"
    return Lock(name, command, user, become, processes=1, namespace=True)


def _becoming(program: str, user: int, needed: list[str]) -> tuple[str, ...]:
    """The command by which root runs another as that user; none where the system's own way will do.

    It will not where Python lies in a folder that nobody else may enter, such as /root. Then a
    first bubblewrap hides that folder behind an empty one with only what is needed in it.
    """
    paths = [Path(path).resolve() for path in needed]
    closed = {p for path in paths for p in path.parents if not p.stat().st_mode & 0o001}
    switch = shutil.which("setpriv")
    if not closed or switch is None:
        return ()
    line = [program, "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    for folder in sorted(closed):
        line += ["--tmpfs", str(folder), "--chmod", "0755", str(folder)]
    for path in paths:
        if not closed.isdisjoint(path.parents):
            for above in reversed(path.parents):  # made anew, and open to all
                if not closed.isdisjoint(above.parents):
                    line += ["--dir", str(above), "--chmod", "0755", str(above)]
            line += ["--ro-bind", str(path), str(path)]
    line += ["--die-with-parent", "--"]
    return (*line, switch, f"--reuid={user}", f"--regid={user}", "--clear-groups")


def container(engine: str, image: str) -> Lock:
    """A container of podman or docker, made from an image that holds Python and NumPy.

    Raises:
        LockError: the engine is not installed.
    """
    program = shutil.which(engine)
    if program is None:
        raise LockError(f"{engine} is not installed, or not on the PATH")

    def command(packages: list[str]) -> list[str]:
        line = [
            program, "run", "--rm", "--interactive", f"--name=minseg-{os.urandom(8).hex()}",
            "--pull=never", "--network=none", "--read-only", "--cap-drop=ALL",
            "--security-opt=no-new-privileges", "--user=65534:65534",
            f"--pids-limit={THREADS + 8}", f"--memory={MEMORY}", f"--memory-swap={MEMORY}",
            f"--tmpfs=/scratch:rw,mode=1777,size={SCRATCH_BYTES}", "--workdir=/scratch",
        ]  # fmt: skip
        for name, value in ENVIRONMENT.items():
            line += ["--env", f"{name}={value}"]
        if "minseg" in packages:
            line += [f"--volume={source}:/packages/{source.name}:ro"
                     for source in sources(["minseg"])]  # fmt: skip
        return [*line, image, "python3", "-I", "-B", "-c", SCRIPT.read_text("utf-8"), "/packages"]

    def after(line: list[str]) -> None:
        name = next(word for word in line if word.startswith("--name=")).removeprefix("--name=")
        try:
            subprocess.run([program, "rm", "--force", name], capture_output=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            raise LockError(f"{engine} did not end the container {name}: {error}") from None

    def environment() -> dict[str, str]:  # of the engine's own command; it hands none of it on
        return dict(os.environ)

    return Lock(f"{engine} {image}", command, environment=environment, after=after)


def other_user() -> Lock:
    """Inside a container, as root: a user who may read nothing of the grader's.

    The container itself is the wall to the outside; inside it the worker has a network and sees
    which processes there are.
    """

    def command(packages: list[str]) -> list[str]:
        # The script in words, and minseg, where it is allowed, as a copy: what they are made from
        # need not be readable.
        folders = places([name for name in packages if name != "minseg"])
        if "minseg" in packages:
            folders += [tempfile.mkdtemp(prefix="minseg-package-")]
            for source in sources(["minseg"]):
                copy = shutil.copytree if source.is_dir() else shutil.copy
                copy(source, Path(folders[-1], source.name))
            os.chmod(folders[-1], 0o755)
        return [interpreter(), "-I", "-S", "-B", "-c", SCRIPT.read_text("utf-8"), *folders]

    def after(line: list[str]) -> None:
        if "minseg-package-" in line[-1]:
            shutil.rmtree(line[-1], ignore_errors=True)

    name = "another user in a container, network open"
    return Lock(name, command, _other_user(), processes=1, network=True, after=after)


def _other_user() -> int:
    """The number of a user that no other process of ours runs as."""
    return 60000 + os.getpid() % 5000


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
        self.number, self.ended = 0, False
        self.folder = tempfile.TemporaryDirectory(prefix="minseg-", ignore_cleanup_errors=True)
        self.line = lock.command(packages)
        line, given, read = list(self.line), [], -1
        if lock.namespace:  # bubblewrap says there which process is the first of its namespace
            read, write = os.pipe()
            line[1:1] = ["--info-fd", str(write)]
            given = [write]
            if refused := seccomp.program():
                given += [_holding(refused)]
                line[1:1] = ["--seccomp", str(given[-1])]
        options: dict[str, Any] = dict(
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd=self.folder.name, env=lock.environment(),
        )  # fmt: skip
        if lock.user is not None:
            os.chown(self.folder.name, lock.user, lock.user)
            if not lock.become:
                options |= dict(user=lock.user, group=lock.user, extra_groups=[])
        if os.name == "posix":
            options |= dict(start_new_session=True, pass_fds=given)
        try:
            self.process = subprocess.Popen([*lock.become, *line], **options)
        except OSError:
            self.folder.cleanup()
            raise
        finally:
            for number in given:
                os.close(number)
        # A handle on the namespace's first process.
        self.first = _handle(read) if lock.namespace else -1
        self.calls: queue.SimpleQueue = queue.SimpleQueue()
        self.replies: queue.SimpleQueue = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._talk, daemon=True)
        self.thread.start()

    def load(self, source: str, file: str, seconds: float) -> Reply:
        """Confine the process, then load a file.

        Raises:
            LockError: the process did not come to the point where a student's code could run.
        """
        processes = self.lock.processes
        if processes is not None and "minseg" in self.packages:
            processes += THREADS
        settings = dict(packages=self.packages, memory=MEMORY, processes=processes)
        if self._send(settings, STARTING).arrays is None:
            raise LockError(f"the worker ({self.lock.name}) did not start: {self._last_words()}")
        complaints = self.process.stderr
        assert complaints is not None
        complaints.close()  # nobody reads on, so nothing can pile up there
        return self._send(dict(source=source, file=file), seconds)

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
        to, of = cast(BinaryIO, self.process.stdin), cast(BinaryIO, self.process.stdout)
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

    def _last_words(self) -> str:
        """What the command wrote to standard error before it ended: its beginning and its end."""
        self.end()
        assert self.process.stderr is not None
        words = " ".join(self.process.stderr.read().decode("utf-8", "replace").split())
        self.process.stderr.close()
        if len(words) > 500:
            words = f"{words[:250]} ... {words[-250:]}"
        return words or f"nothing within {STARTING:g} seconds"

    def end(self) -> None:
        """Kill the worker and whatever it started, and wait until all of it is dead.

        Raises:
            LockError: something still lives.
        """
        if self.ended:  # by now, its number may be another process's
            return
        self.ended = True
        self.calls.put(None)
        if self.first >= 0:
            _quietly(signal.pidfd_send_signal, self.first, signal.SIGKILL)
        if os.name == "posix":
            _quietly(os.killpg, self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.lock.after(self.line)
        if self.first >= 0:  # it ends last of all in its namespace
            dead, _, _ = select.select([self.first], [], [], DYING)
            os.close(self.first)
            if not dead:
                raise LockError(f"a worker's processes did not end within {DYING:g} seconds")
        if self.lock.user is not None:
            _kill_all_of(self.lock.user)
        # Its pipes have ended with it, and so has the thread; but without a lock, a process that
        # slipped away may hold them open.
        self.thread.join(1)
        if not self.thread.is_alive():
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                _quietly(pipe.close)
        _quietly(self.folder.cleanup)

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
    except (ValueError, KeyError, OSError):
        return -1  # it did not even start


def _holding(data: bytes) -> int:
    """A pipe that holds a little data, to be read once."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


def _quietly(do: Callable, *arguments: Any) -> None:
    with contextlib.suppress(OSError, RecursionError):  # the latter: folders 1000 deep
        do(*arguments)


def _kill_all_of(user: int) -> None:
    """Kill every process of a user, as somebody they cannot kill first, until none is left.

    Raises:
        LockError: one still lives.
    """
    code = f"import os; os.setresuid({SPARE_USER}, {user}, 0); os.kill(-1, {int(signal.SIGKILL)})"
    until = time.monotonic() + DYING
    while _lives(user):
        if time.monotonic() > until:
            raise LockError(f"a worker's processes did not end within {DYING:g} seconds")
        subprocess.run([interpreter(), "-I", "-S", "-c", code], stderr=subprocess.DEVNULL)


def _lives(user: int) -> bool:
    """Does any process of that user still run?"""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = dict(line.split(":\t", 1) for line in status.read_text().splitlines())
        except OSError:  # ended meanwhile
            continue
        if str(user) in lines["Uid"].split() and lines["State"][0] not in "ZX":
            return True
    return False
