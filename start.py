"""Set minseg up and run it, with nothing but Python 3.11 or newer.

    python3 start.py demo             see minseg train and label real handwriting
    python3 start.py test             install what the tests need, run what CI runs
    python3 start.py test -k conv     further words go to pytest
    python3 start.py lectures         open the lecture notebooks in JupyterLab
    python3 start.py train --help     any other word is a minseg command

The first time, this makes the virtual environment .venv beside this file and
installs minseg into it, with the tested versions listed in constraints.txt.
After that it starts at once. To undo everything, delete the folder .venv.
On Windows, write "py" for "python3".
"""
# Everything here must parse on any Python 3, so that an old one can say what it lacks.

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
STAMP = VENV / "minseg-installed"  # what is installed; written last, so no half install has one
EXTRAS = {
    "test": "test",
    "lectures": "lectures",
    "notebooks": "lectures",
}  # command: the extra of pyproject.toml that it needs
CHECKS = ("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("pytest",)


class SetupError(Exception):
    """Something the user can cure; the message is the sentence that says how."""


def check_python(version, has_module=importlib.util.find_spec):
    """Raise SetupError where this Python is too old or cannot make virtual environments."""
    if version < (3, 11):
        raise SetupError(
            f"minseg needs Python 3.11 or newer, and this is {version[0]}.{version[1]}. Write "
            "python3.13 (or .12, .11) for python3, and where there is none, install it from "
            "https://www.python.org"
        )
    if not (has_module("venv") and has_module("ensurepip")):
        raise SetupError(
            "this Python lacks its venv module. On Debian and Ubuntu, install it with: "
            "sudo apt install python3-venv"
        )


def program(name, system=os.name):
    """Path of a program inside the virtual environment: in bin, or in Scripts on Windows."""
    return str(VENV / "Scripts" / f"{name}.exe" if system == "nt" else VENV / "bin" / name)


def fingerprint(root=ROOT):
    """Hash of all that decides an install: the two lists, this Python, and the folder."""
    lists = [(root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return hashlib.sha256(b"\0".join([*lists, sys.version.encode(), os.fsencode(root)])).hexdigest()


def installed_extras(stamp, wanted):
    """The set of extras installed under this fingerprint; None where the install is not current."""
    lines = stamp.read_text().splitlines() if stamp.exists() else []
    return set(lines[1:]) if lines[:1] == [wanted] else None


def venv_is_usable():
    """Whether .venv has pip and runs this very Python: not so once Python was updated or moved."""
    probe = [program("python"), "-c", "import sys, pip; print(sys.version)"]
    try:
        answer = subprocess.run(probe, capture_output=True, text=True)
    except OSError:
        return False
    return answer.stdout.strip() == sys.version.strip()


def run(*command, cwd=None):
    """Run a command and return its exit status; 130 where Ctrl-C stopped it."""
    interrupted = False
    with subprocess.Popen(command, cwd=cwd) as child:
        while True:
            try:
                status = child.wait()
                return 130 if interrupted and status else status
            except KeyboardInterrupt:  # the child got it too, and may be saving its work
                interrupted = True


def install(extra):
    """Bring .venv up to date with pyproject.toml and constraints.txt; do nothing where it is."""
    wanted = fingerprint()
    extras = installed_extras(STAMP, wanted)
    if extras is not None and extra in {"", *extras}:
        return
    extras = sorted({extra, *(extras or ())} - {""})
    try:
        STAMP.unlink(missing_ok=True)
        if not venv_is_usable():
            say(f"making the virtual environment {VENV}")
            import venv

            venv.create(VENV, clear=True, with_pip=True, symlinks=os.name != "nt")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"cannot make the virtual environment ({error}). Is the disk full? Otherwise copy "
            f"the folder {ROOT} to a place where you may write, and start there."
        ) from error

    say("installing minseg and what it needs (a minute or two, the first time)")
    pip = (program("python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install")
    # The pins are older than Python 3.15, where most would have to be compiled.
    pins = ("--constraint", "constraints.txt") if sys.version_info < (3, 15) else ()
    target = f".[{','.join(extras)}]" if extras else "."
    status = run(*pip, *pins, "--editable", target, cwd=ROOT)
    if status == 130:
        raise KeyboardInterrupt
    if status:
        raise SetupError(
            "pip could not install the packages; its own words are above. Most often the network "
            "is missing (behind a proxy, set HTTPS_PROXY) or the disk is full. Cure it and run "
            "the same command again."
        )
    STAMP.write_text("\n".join([wanted, *extras]))


def run_checks(pytest_arguments):
    """Run every check of CI, also after one failed; return 0 where all passed."""
    failed = []
    for check in CHECKS:
        command = [*check, *(pytest_arguments if check == ("pytest",) else ())]
        say(" ".join(command))
        status = run(program("python"), "-m", *command, cwd=ROOT)
        if status == 130:
            raise KeyboardInterrupt
        if status:
            failed.append(" ".join(check))
    say("failed: " + ", ".join(failed) if failed else "all checks passed")
    return 1 if failed else 0


def say(sentence):
    print("start.py: " + sentence, file=sys.stderr, flush=True)


def main(arguments):
    """Carry out one command line and return the exit status."""
    if not arguments or arguments[0] in ("help", "-h", "--help"):
        print(__doc__.strip())
        return 0
    command, *further = arguments
    try:
        check_python(sys.version_info[:2])
        install(EXTRAS.get(command, ""))
        if command == "test":
            return run_checks(further)
        # What minseg calls itself where it tells what to type next.
        os.environ["MINSEG_COMMAND"] = " ".join([
            "py" if os.name == "nt" else "python3",
            f'"{sys.argv[0]}"' if " " in sys.argv[0] else sys.argv[0],
        ])  # fmt: skip
        status = run(program("minseg"), command, *further)
        return status if status >= 0 else 128 - status  # ended by a signal: as the shell counts
    except KeyboardInterrupt:
        say("stopped")
        return 130
    except SetupError as error:
        say(str(error))
    except OSError as error:
        say(f"{error}. Delete the folder .venv and run the same command again.")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
