"""The locks: what they let through, how they end, and that a broken one is noticed."""

import os
import struct
import sys
from types import SimpleNamespace

import pytest
from ordinary_user import folder_of, is_root, needs_bubblewrap, run

from minseg.grading import lock as locks
from minseg.grading import probe, seccomp
from minseg.grading.lock import Lock, LockError, Session, bubblewrap, container, unlocked

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX")
needs_root = pytest.mark.skipif(not is_root(), reason="only root can become another user")

# For the programs below: what lives of a user, and a file of a student's to load.
PRELUDE = """
import dataclasses, os, subprocess, sys, time
from pathlib import Path
from minseg.grading import lock
from minseg.grading.lock import LockError, Session, bubblewrap, other_user, unlocked
from minseg.grading.probe import must_hold

def alive(user=os.getuid()):
    own = {os.getpid(), os.getppid()}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == user and int(entry.name) not in own:
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
                line = (entry / "cmdline").read_bytes()
                worker = b"holds a student" in line or b"--info-fd" in line
                found += [entry.name] if state not in "ZX" and worker else []
        except OSError:
            pass
    return found

FORKS = '''
import os, time

def spread(*args):
    for n in range(4):
        if os.fork() == 0:
            if n % 2:
                os.setsid()
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    pass
    return 1
'''

def load(lock, source, packages=("numpy",)):
    session = Session(lock, list(packages))
    reply = session.load(source, "student.py", 10)
    assert reply.arrays is not None, reply
    return session
"""


def run_code(code, user=None):
    """Run the prelude and a program as an ordinary user, or as the user of that number."""
    who = {} if user is None else {"user": user}
    with folder_of(**who) as folder:
        (folder / "program.py").write_text(PRELUDE + code, encoding="utf-8")
        return run(folder / "program.py", folder=folder, **who)


@needs_bubblewrap
def test_bubblewrap_holds():
    assert run_code("must_hold(bubblewrap()); print('holds')") == "holds\n"


@needs_bubblewrap
def test_no_lock_does_not_hold_and_every_attack_is_told():
    said = run_code("""
try:
    must_hold(unlocked())
except LockError as error:
    print(error)
""")
    assert said.startswith("the lock (none) does not hold: a student's code could ")
    for attack in ("read the grader's files", "write into the grader's folders", "signal the grader",
                   "read the grader's environment", "start processes without end",
                   "reach a Unix socket", "use the network", "see other processes"):  # fmt: skip
        assert attack in said


@needs_bubblewrap
@pytest.mark.parametrize(
    ("option", "attack"),
    [
        ("'--share-net'", "use the network"),
        ("'--bind', '/tmp', '/tmp'", "read the grader's files, write into the grader's folders"),
        ("'--bind', '/proc', '/proc'", "see other processes"),
    ],
)
def test_a_lock_with_a_hole_is_noticed(option, attack):
    said = run_code(f"""
given = bubblewrap()
lock.seccomp.program = lambda: b""  # which would refuse sockets even so
def holed(packages):
    line = given.command(packages)
    place = line.index("--chdir") if {option!r}.startswith("'--bind") else 2
    return [*line[:place], {option}, *line[place:]]
try:
    must_hold(dataclasses.replace(given, command=holed))
except LockError as error:
    print(error)
""")
    assert attack in said


@needs_bubblewrap
def test_all_that_a_worker_started_is_dead_when_its_session_has_ended():
    said = run_code("""
session = load(dataclasses.replace(bubblewrap(), processes=20), FORKS)
assert session.ask("spread", (), {}, 5).arrays is not None
print(len(alive()) > 4)
session.end()
print(alive())
""")
    assert said == "True\n[]\n"


@needs_bubblewrap
def test_a_worker_dies_with_a_grader_that_is_killed():
    said = run_code("""
# here
code = Path(__file__).read_text().partition("# here")[0] + '''
session = load(dataclasses.replace(bubblewrap(), processes=20), FORKS)
session.ask("spread", (), {}, 5)
print("ready", flush=True)
time.sleep(60)
'''
grader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
assert grader.stdout.readline() == b"ready\\n"
print(len(alive()) > 4)
grader.kill()
grader.wait()
until = time.monotonic() + 20
while alive() and time.monotonic() < until:
    time.sleep(0.02)
print(alive())
""")
    assert said == "True\n[]\n"


@needs_bubblewrap
def test_a_worker_inherits_three_files_and_no_environment():
    said = run_code("""
os.environ["SECRET"] = "password"
extra = os.open("/", os.O_RDONLY)
os.set_inheritable(extra, True)
session = load(bubblewrap(), '''
import os

def told():
    files = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if n != "5"}
    raise ValueError(f"{sorted(os.environ)} {files}")
''')
print(session.ask("told", (), {}, 5).problem.split("ValueError: ")[1])
session.end()
""")
    names, _, rest = said.partition("]")
    known = {*locks.ENVIRONMENT, *locks.KEPT, "PWD", "LC_CTYPE"}
    assert {name.strip(" '[") for name in names.split(",")} <= known
    assert rest.count("pipe:") == 2
    assert rest.count("/dev/null") == 3
    assert "password" not in said


@needs_bubblewrap
def test_a_lock_that_cannot_start_says_what_its_program_said():
    said = run_code("""
broken = dataclasses.replace(bubblewrap(), command=lambda packages: ["bwrap", "--no-such"])
for attempt in (must_hold, lambda lock: Session(lock, ["numpy"]).load("", "x.py", 1)):
    try:
        attempt(broken)
    except LockError as error:
        print(error)
""")
    first, second = said.splitlines()
    assert "did not start: bwrap: Unknown option --no-such" in second
    assert first.startswith(second)
    assert "--container" in first


def test_what_a_program_said_is_told_from_both_ends():
    words = "'No daemon is running.\\n' + 'more\\n' * 2000 + 'See --help.'"
    lock = Lock("none", lambda packages: [sys.executable, "-c", f"import sys; sys.exit({words})"])
    with pytest.raises(LockError) as caught:
        Session(lock, ["numpy"]).load("", "x.py", 1)
    said = str(caught.value).partition("did not start: ")[2]
    assert said.startswith("No daemon is running. more")
    assert said.endswith("more See --help.")
    assert len(said) <= 510


@needs_bubblewrap
@needs_root
def test_another_user_cannot_read_what_is_hidden_and_cannot_prevent_the_end():
    said = run_code("""
another = dataclasses.replace(other_user(), processes=20)
secret = Path("secret")
secret.write_text("x")
secret.chmod(0o600)
session = load(another, FORKS + f'''
import signal

def read():
    open({str(secret.resolve())!r})

def kill_who_kills():
    spread()
    if os.fork() == 0:
        while True:
            try:
                os.kill(-1, signal.SIGKILL)
            except OSError:
                pass
    return 1
''')
print(session.ask("read", (), {}, 5).problem)
session.ask("kill_who_kills", (), {}, 0.5)
session.end()
print(alive(another.user))
""", user=0)  # fmt: skip
    assert "PermissionError" in said
    assert said.endswith("[]\n")


@needs_bubblewrap
@needs_root
def test_root_hands_the_worker_to_another_user_wherever_python_lies():
    lock = bubblewrap()
    assert lock.user is not None
    probe.must_hold(lock)


@needs_bubblewrap
@needs_root
def test_another_user_gets_a_copy_of_minseg_where_it_is_allowed_and_it_is_taken_back():
    said = run_code("""
session = load(other_user(), "import minseg.functional", ["numpy", "minseg"])
session.end()
print(list(Path(os.environ["TMPDIR"]).glob("minseg-*")))
""", user=0)  # fmt: skip
    assert said == "[]\n"


@pytest.mark.parametrize(
    ("release", "newer"), [("0.4.1", False), ("0.8.0", True), ("0.11.0", True)]
)
def test_an_older_bubblewrap_is_asked_only_for_what_it_knows(monkeypatch, release, newer):
    monkeypatch.setattr(locks.shutil, "which", lambda name: f"/usr/bin/{name}")
    answer = SimpleNamespace(stdout=f"bubblewrap {release}\n")
    monkeypatch.setattr(locks.subprocess, "run", lambda *args, **kwargs: answer)
    lock = bubblewrap()
    line = lock.command(["numpy"])
    assert lock.name == f"bubblewrap {release}"
    assert ("--size" in line) == ("--disable-userns" in line) == newer
    assert {"--unshare-all", "--die-with-parent"} <= set(line)


def test_a_program_that_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(locks.shutil, "which", lambda name: None)
    with pytest.raises(LockError, match=r"bubblewrap is not installed\. On Debian"):
        bubblewrap()
    with pytest.raises(LockError, match="podman is not installed"):
        container("podman", "an image")


# Begun by the shell, whose first line may name a path with a space in it.
ENGINE = """#!/bin/sh
'''exec' "{python}" "$0" "$@"
'''
import os, sys
with open({log!r}, "a") as log:
    print(sys.argv[1:5], file=log)
if sys.argv[1] == "run":
    script = sys.argv[sys.argv.index("-c") + 1]
    os.execv({python!r}, [{python!r}, "-I", "-S", "-B", "-c", script, {packages!r}])
"""


@posix
def test_a_container_is_started_locked_in_and_removed(tmp_path, monkeypatch):
    log = tmp_path / "log"
    (packages,) = locks.places(["numpy"])
    engine = tmp_path / "podman"
    engine.write_text(ENGINE.format(python=sys.executable, log=str(log), packages=packages))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    lock = container("podman", "an-image")
    line = lock.command(["numpy"])
    assert {"--network=none", "--read-only", "--cap-drop=ALL", "--pull=never"} <= set(line)
    assert line.index("an-image") < line.index("python3")
    assert lock.environment()["PATH"].startswith(str(tmp_path))
    with Session(lock, ["numpy"]) as session:
        assert session.load("def one():\n    return 1.0\n", "x.py", 10).arrays == []
        assert session.ask("one", (), {}, 10).arrays == [1.0]
    name = next(word for word in session.line if word.startswith("--name=")).removeprefix("--name=")
    assert f"['rm', '--force', '{name}']" in log.read_text()


@posix
def test_a_process_that_slips_away_without_a_lock_does_not_hang_its_session():
    source = "import os, time\n\ndef go():\n    if os.fork() == 0:\n        os.setsid()\n"
    source += "        time.sleep(5)\n        os._exit(0)\n    return 1.0\n"
    session = Session(unlocked(), ["numpy"])
    session.load(source, "x.py", 10)
    assert session.ask("go", (), {}, 10).arrays == [1.0]
    session.end()  # though a pipe is still held open
    session.process.stdout = session.process.stdin = None


# The filter of system calls


def allows(filter_, machine, number):
    """Run the filter as the kernel does, on one call."""
    lines = [struct.unpack_from("=HBBI", filter_, at) for at in range(0, len(filter_), 8)]
    at = value = 0
    while True:
        code, if_true, if_false, constant = lines[at]
        at += 1
        if code == seccomp.LOAD:
            value = {seccomp.NUMBER: number, seccomp.MACHINE: machine}[constant]
        elif code == seccomp.RETURN:
            return constant == seccomp.ALLOW
        else:
            true = value == constant if code == seccomp.EQUAL else value >= constant
            at += if_true if true else if_false


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_refuses_what_is_listed_and_allows_all_else(machine):
    filter_, mark = seccomp.program(machine), seccomp.MACHINES[machine]
    refused = {both[machine != "x86_64"] for both in seccomp.REFUSED.values()}
    assert {n for n in range(600) if not allows(filter_, mark, n)} == refused


def test_the_filter_refuses_calls_numbered_in_another_way():
    filter_ = seccomp.program("x86_64")
    of_i386, of_x32 = 0x40000003, seccomp.X32 + 1
    assert not allows(filter_, of_i386, 1)
    assert not allows(filter_, seccomp.MACHINES["x86_64"], of_x32)
    assert seccomp.program("a machine of tomorrow") == b""


# Root


@posix
def test_root_grades_in_a_container_only(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(probe, "in_container", lambda: True)
    probe.refuse_root()
    monkeypatch.setattr(probe, "in_container", lambda: False)
    with pytest.raises(LockError, match=r"refuses to run as root.*ordinary user.*container"):
        probe.refuse_root()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    probe.refuse_root()


def test_a_container_is_known_by_its_signs(monkeypatch, tmp_path):
    monkeypatch.setattr(probe, "Path", lambda name: tmp_path / name.strip("/").replace("/", "-"))
    monkeypatch.delenv("container", raising=False)
    assert not probe.in_container()
    monkeypatch.setenv("container", "podman")
    assert probe.in_container()
    monkeypatch.delenv("container")
    (tmp_path / ".dockerenv").touch()
    assert probe.in_container()
