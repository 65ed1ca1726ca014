"""start.py: one command from a bare Python to a running demo, and a sentence where it cannot."""

import ast
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import start

ROOT = Path(start.__file__).parent
POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")


def run_on_a_bare_console(code):
    """Run code as on Windows: a cp1252 console, and none of the modules that only POSIX has."""
    without = f"import sys; sys.modules.update(dict.fromkeys({POSIX_ONLY!r}))\n"
    return subprocess.run(
        [sys.executable, "-c", without + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "cp1252:strict", "PYTHONUTF8": "0"},
        capture_output=True,
        encoding="cp1252",
    )


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A start.py whose virtual environment would lie in a temporary folder."""
    monkeypatch.setattr(start, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(start, "STAMP", tmp_path / ".venv" / "minseg-installed")
    return tmp_path


def test_start_parses_on_old_pythons():
    ast.parse(Path(start.__file__).read_text(), feature_version=(3, 7))


def test_start_imports_the_standard_library_only():
    tree = ast.parse(Path(start.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    imports_from = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports for alias in node.names] + imports_from
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_help_is_plain_text_and_works_without_posix_modules():
    answer = run_on_a_bare_console("import start; sys.exit(start.main(['--help']))")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "start.py demo" in answer.stdout
    assert "start.py test" in answer.stdout
    assert answer.stdout.isascii()


def test_no_command_shows_the_help_and_installs_nothing(home, capsys):
    assert start.main([]) == 0
    assert capsys.readouterr().out == start.__doc__.strip() + "\n"
    assert not start.VENV.exists()


def test_an_old_python_gets_a_sentence_and_no_traceback():
    answer = run_on_a_bare_console(
        "import start; sys.version_info = (3, 8, 18); sys.exit(start.main(['demo']))"
    )
    assert (answer.returncode, answer.stdout) == (1, "")
    assert "needs Python 3.11 or newer, and this is 3.8." in answer.stderr
    assert answer.stderr.count("\n") == 1


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_a_missing_venv_module_names_the_package_that_brings_it(missing):
    with pytest.raises(start.SetupError, match="sudo apt install python3-venv"):
        start.check_python((3, 11), has_module=lambda name: name != missing)


def test_programs_lie_where_each_system_puts_them(home):
    assert start.program("python", "posix") == str(home / ".venv" / "bin" / "python")
    assert start.program("python", "nt") == str(home / ".venv" / "Scripts" / "python.exe")


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_a_changed_list_of_packages_asks_for_a_new_install(tmp_path, changed):
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text("numpy")
    before = start.fingerprint(tmp_path)
    assert start.fingerprint(tmp_path) == before
    (tmp_path / changed).write_text("numpy<3")
    assert start.fingerprint(tmp_path) != before


def test_a_moved_folder_asks_for_a_new_install(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        for name in ("pyproject.toml", "constraints.txt"):
            (tmp_path / folder / name).write_text("numpy")
    assert start.fingerprint(tmp_path / "here") != start.fingerprint(tmp_path / "there")


@pytest.mark.parametrize(
    ("stamp", "extras"),
    [(None, None), ("", None), ("old\ntest", None), ("now", set()), ("now\ntest", {"test"})],
)
def test_only_a_stamp_with_the_right_fingerprint_counts(tmp_path, stamp, extras):
    path = tmp_path / "stamp"
    if stamp is not None:
        path.write_text(stamp)
    assert start.installed_extras(path, "now") == extras


def test_nothing_is_installed_twice(home, monkeypatch):
    commands = []
    monkeypatch.setattr(start, "venv_is_usable", lambda: True)
    monkeypatch.setattr(start, "run", lambda *command, cwd: commands.append(command) or 0)
    start.VENV.mkdir()
    start.install("")
    start.install("")
    start.install("test")
    start.install("")
    assert [command[-1] for command in commands] == [".", ".[test]"]


@pytest.mark.parametrize("status", [1, 130])
def test_a_broken_install_leaves_no_stamp(home, monkeypatch, capsys, status):
    monkeypatch.setattr(start, "venv_is_usable", lambda: True)
    monkeypatch.setattr(start, "run", lambda *command, cwd: status)
    start.VENV.mkdir()
    start.STAMP.write_text("of an earlier install")
    assert start.main(["demo"]) == status
    assert not start.STAMP.exists()
    sentence = {1: "pip could not install the packages", 130: "stopped"}[status]
    assert sentence in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_gets_a_sentence(home, monkeypatch, capsys):
    (home / "a file").touch()
    monkeypatch.setattr(start, "VENV", home / "a file" / ".venv")
    monkeypatch.setattr(start, "STAMP", home / "a file" / ".venv" / "minseg-installed")
    assert start.main(["demo"]) == 1
    assert "cannot make the virtual environment" in capsys.readouterr().err


def test_a_virtual_environment_without_a_python_is_not_usable(home):
    assert not start.venv_is_usable()


@pytest.mark.parametrize(("status", "shell_status"), [(0, 0), (7, 7), (-9, 137)])
def test_any_other_word_is_handed_to_minseg_with_its_arguments(monkeypatch, status, shell_status):
    commands = []
    monkeypatch.setattr(start, "install", lambda extra: commands.append(extra))
    monkeypatch.setattr(start, "run", lambda *command: commands.append(command) or status)
    assert start.main(["train", "--model", "unet"]) == shell_status
    assert commands == ["", (start.program("minseg"), "train", "--model", "unet")]


def test_all_checks_run_even_after_one_failed(monkeypatch, capsys):
    commands = []

    def run(python, dash_m, *command, cwd):
        commands.append(command)
        return 1 if command[0] == "mypy" else 0

    monkeypatch.setattr(start, "run", run)
    assert start.run_checks(["-k", "conv"]) == 1
    assert commands == [*start.CHECKS[:-1], ("pytest", "-k", "conv")]
    assert "failed: mypy\n" in capsys.readouterr().err


def test_run_returns_the_status_of_the_command():
    assert start.run(sys.executable, "-c", "raise SystemExit(3)") == 3


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal for a group of processes")
def test_ctrl_c_lets_the_command_save_its_work(tmp_path):
    command = (
        "import signal, sys, time\n"
        "try:\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    time.sleep(1); open('saved', 'w').close(); sys.exit(1)\n"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import start; print(start.run({sys.executable!r}, '-c', {command!r}))",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout.readline() == "ready\n"
    os.killpg(parent.pid, signal.SIGINT)  # as a terminal does: to both
    out, err = parent.communicate()
    assert (out, err) == ("130\n", "")
    assert (tmp_path / "saved").exists()


def test_every_dependency_has_bounds_and_a_pin_within_them():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    tested = map(Requirement, project["dependencies"] + project["optional-dependencies"]["test"])
    for requirement in tested:
        assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, requirement
        assert requirement.specifier.contains(pins[requirement.name]), requirement


@pytest.mark.parametrize("name", [".ci/run", "README.md"])
def test_ci_and_the_readme_use_the_same_command(name):
    assert "python3 start.py test\n" in (ROOT / name).read_text(encoding="utf-8")
