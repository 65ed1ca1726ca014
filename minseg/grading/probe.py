"""Does the lock hold? Before a class is graded, the lock's own worker is made to attack the grader.

What a sandbox promises depends on the machine: its kernel, its settings, who runs it. So nothing is
believed: the attacks below are loaded like a student's file, and the grader looks, from outside,
at what came of them.
"""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from minseg.grading import worker
from minseg.grading.course import exercises_folder
from minseg.grading.lock import MEMORY, Lock, LockError, Session, places

SECONDS = 20.0  # for all attacks together
PROCESSES = 40  # more than any lock lets a submission start
FOREIGN = ("minseg", "scipy", "torch")  # each could answer an exercise

# Tried one by one in the worker; an attack that raises nothing is told.
ATTACKS = '''
import importlib.machinery, os, signal, socket, sys, time


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def write(path):
    with open(path, "xb") as file:
        file.write(b"x")


def connect(kind, address):
    with socket.socket(getattr(socket, kind)) as door:
        door.settimeout(2)
        door.connect(address)


def send(address):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door:
        door.sendto(b"x", tuple(address))


def signal_it(pid):
    os.kill(pid, signal.SIGKILL)


def find(what, token):
    """Look for a word in /proc/*/cmdline or /proc/*/environ."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/{what}", "rb") as file:
                if token.encode() in file.read():
                    return
        except OSError:
            pass
    raise LookupError


def import_it(name):
    if importlib.machinery.PathFinder.find_spec(name) is None:
        raise ImportError


def fork(count):
    """Start so many processes at once."""
    children = []
    try:
        for _ in range(count):
            child = os.fork()
            if child == 0:
                time.sleep(60)
                os._exit(0)
            children.append(child)
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def allocate(size):
    import numpy
    numpy.empty(size, "u1")  # address space alone


def unlimit():
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def attack(attacks):
    """Each attack is (what it is, function, arguments); the texts of those that succeeded, as bytes."""
    import numpy
    done = []
    for text, function, arguments in attacks:
        try:
            globals()[function](*arguments)
        except (OSError, LookupError, ImportError, MemoryError, ValueError):
            continue
        done.append(text)
    return numpy.frombuffer("\\n".join(done).encode(), "u1")
'''


def must_hold(lock: Lock) -> None:
    """Attack from inside the lock; return where nothing succeeds.

    Reads the exercises, the library and the grader's files; writes beside them; connects and sends
    over TCP, UDP and Unix sockets; kills a process of the grader's and looks for one; imports minseg
    and SciPy; starts processes and takes memory without end; raises its own limits. Of another user
    in a container, the network and the list of processes are not held against it: its name says so.

    Raises:
        LockError: something succeeded, or the worker did not even start.
    """
    token = f"minseg-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="minseg-probe-")))
        secret = folder / token
        secret.write_text(token, encoding="utf-8")
        secret.chmod(0o600)
        # A process of the grader's for the attacks to aim at, with a word to look for.
        victim = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", "input()", token],
            stdin=subprocess.PIPE, env=os.environ | {"MINSEG_TOKEN": token},
        )  # fmt: skip
        stack.callback(victim.communicate)
        stack.callback(victim.kill)
        calls = socket.create_server(("127.0.0.1", 0))
        stack.enter_context(calls)
        letters = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        letters.bind(("127.0.0.1", 0))
        letters.setblocking(False)

        course = exercises_folder()
        library = Path(worker.__file__).resolve().parent.parent
        read = [*sorted(course.glob("*.py"))[:3], library / "functional" / "conv.py", secret]
        write = [folder, course, library, Path.home(), *map(Path, places(["numpy"]))]
        attacks: list[list[Any]] = [
            *(["read the grader's files", "read", [str(path)]] for path in read),
            *(["write into the grader's folders", "write", [str(f / token)]] for f in write),
            ["read the grader's environment", "find", ["environ", token]],
            *([f"import {name}", "import_it", [name]] for name in FOREIGN),
            ["start processes without end", "fork", [PROCESSES]],
            ["take memory without end", "allocate", [MEMORY + (1 << 30)]],
            ["lift its own limits", "unlimit", []],
        ]
        if hasattr(socket, "AF_UNIX"):
            for path in (str(folder / "door"), f"\0{token}"):
                doors = stack.enter_context(socket.socket(socket.AF_UNIX))
                try:
                    doors.bind(path)
                except OSError:  # a path too long; abstract ones are Linux's
                    continue
                doors.listen()
                if path[0] == "\0" and lock.network:
                    continue
                attacks += [["reach a Unix socket", "connect", ["AF_UNIX", path]]]
        if not lock.network:
            attacks += [
                ["use the network", "connect", ["AF_INET", calls.getsockname()]],
                ["see other processes", "find", ["cmdline", token]],
            ]
            attacks += [["", "send", [letters.getsockname()]]]  # told by what arrives
        attacks += [["signal the grader", "signal_it", [victim.pid]]]

        done = _result_of(lock, attacks)
        try:
            letters.recv(1)
            done.append("use the network")
        except OSError:
            pass
        for place in write:
            if (place / token).exists() and place != folder:
                (place / token).unlink()
        if victim.poll() is not None:
            done.append("signal the grader")
    done = [text for text in dict.fromkeys(done) if text]
    if done:
        raise LockError(
            f"the lock ({lock.name}) does not hold: a student's code could {', '.join(done)}"
        )


def _result_of(lock: Lock, attacks: list[list[Any]]) -> list[str]:
    """Which attacks succeeded, by their texts."""
    with Session(lock, ["numpy"]) as session:
        try:
            reply = session.load(ATTACKS, "attacks.py", SECONDS)
        except LockError as error:
            instead = " (instead of bubblewrap, --container works too)" if lock.namespace else ""
            raise LockError(f"{error}{instead}") from None
        if reply.arrays is not None:
            reply = session.ask("attack", (attacks,), {}, SECONDS)
    if reply.arrays is None:
        raise LockError(f"the lock ({lock.name}) could not be tried: the attack {reply.problem}")
    return bytes(reply.arrays[0]).decode().split("\n")


def refuse_root() -> None:
    """Root may grade inside a container only: limits do not bind root, and permissions neither.

    Raises:
        LockError: this is root, and no container.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not in_container():
        raise LockError(
            "class grading refuses to run as root, whom no limit binds: run it as an ordinary user, "
            "or inside a container"
        )


def in_container() -> bool:
    """Is this a container of docker, podman or systemd?"""
    signs = (Path("/.dockerenv"), Path("/run/.containerenv"))
    named = bool(os.environ.get("container"))  # noqa: SIM112 (as podman and systemd write it)
    return named or any(sign.exists() for sign in signs)
