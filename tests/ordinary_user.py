"""Runs a program as an ordinary user, also where the tests run as root.

Class grading refuses root, and a lock shows what it is worth only where its user is nobody
special. Root's own folder, which may hold the interpreter, is made readable but for its contents.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USER = 65534
NEEDED = (Path(sys.base_prefix), Path(sys.prefix), ROOT)


def is_root():
    return os.name == "posix" and os.geteuid() == 0


def as_user(user=USER):
    """What stands before a command so that it runs as that user; root may be one."""
    if not is_root():
        return []
    line = ["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    line += ["--tmpfs", "/root", "--chmod", "0755", "/root"]
    for needed in map(Path.resolve, NEEDED):
        for above in reversed(needed.parents):
            if above.is_relative_to("/root") and above != Path("/root"):
                line += ["--dir", str(above), "--chmod", "0755", str(above)]
        line += ["--ro-bind", str(needed), str(needed)]
    line += ["--die-with-parent", "--"]
    if user:
        line += ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
    return line


@functools.cache
def missing():
    """Why bubblewrap cannot be tried here; an empty string if it can."""
    if not sys.platform.startswith("linux"):
        return "bubblewrap is for Linux"
    programs = ["bwrap", *(["setpriv"] if is_root() else [])]
    for program in programs:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    inner = ["bwrap", "--unshare-all", "--unshare-user", "--ro-bind", "/", "/", "--proc", "/proc"]
    tried = subprocess.run([*as_user(), *inner, "true"], capture_output=True, text=True)
    return f"no user namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


needs_bubblewrap = pytest.mark.skipif(missing() != "", reason=missing())


@contextmanager
def folder_of(user=USER):
    """A new folder that belongs to that user, deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="minseg-test-")).resolve()
    folder.chmod(0o755)  # like /tmp, whose place it takes
    if is_root():
        os.chown(folder, user, user)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(file, *arguments, folder, user=USER, timeout=120):
    """Run a Python file as that user, with its temporary files in `folder`; returns what it printed."""
    environment = {
        **os.environ, "TMPDIR": str(folder), "HOME": str(folder), "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    ran = subprocess.run(
        [*as_user(user), sys.executable, str(file), *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout
