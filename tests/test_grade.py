"""Grading a class: everyone gets a row, nothing graded is lost, and what is kept can be read."""

import argparse
import csv
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import redirect_stderr
from html.parser import HTMLParser
from pathlib import Path

import ordinary_user
import pytest

from minseg.grading import command, gradescope, supervise
from minseg.grading import grade as grading
from minseg.grading.course import course
from minseg.grading.exercise import Answer
from minseg.grading.grade import grade
from minseg.grading.gradebook import Gradebook, alone_in
from minseg.grading.lock import LockError
from minseg.grading.page import page

ROOT = Path(__file__).parent.parent
NAME = "conv_transpose2d"
EXERCISE = course(ROOT).exercise(NAME)
FIRST_LINE = "    N, C, H, W = x.shape"  # of the solution
LOCK = ("none",)


def wrong(name):
    return next(a.source for a in EXERCISE.all_of(Answer) if a.name == name)


def first(statement):
    """The solution, with a statement before its first line."""
    return EXERCISE.solution.replace(FIRST_LINE, f"    {statement}\n{FIRST_LINE}", 1)


def hand_in(root, **texts):
    """A folder of submissions: student=text of the exercise's file, or bytes of a zip."""
    for student, text in texts.items():
        if isinstance(text, bytes):
            (root / f"{student}.zip").write_bytes(text)
        else:
            (root / student).mkdir(parents=True, exist_ok=True)
            (root / student / f"{NAME}.py").write_text(text, encoding="utf-8")
    return root


def lines(out):
    text = (out / "grades.jsonl").read_text(encoding="utf-8")
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def table(out):
    with open(out / "grades.csv", encoding="utf-8-sig", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of seven, graded."""
    root = tmp_path_factory.mktemp("class")
    hand_in(
        root / "in",
        right=EXERCISE.solution,
        adds_not=wrong("overwrites"),
        raises=first("print('<script>alert(1)</script>'); x[99]"),
        leaves=first("import os; os._exit(0)"),
        not_a_number=EXERCISE.solution.replace(
            "return y if", "y = y * float('nan')\n    return y if"
        ),
        empty="",
    )
    hand_in(root / "in", broken=b"PK")
    grade(root / "in", root / "out", lock=LOCK)
    return root / "out"


def test_everyone_has_a_row_with_what_they_earned(graded):
    rows = table(graded)
    scores = {name: row["total"] for name, row in rows.items()}
    full = str(EXERCISE.points)
    assert scores == {
        "right": full, "adds_not": "1", "raises": "0", "leaves": "0", "not_a_number": "0",
        "empty": "0", "broken": "0",
    }  # fmt: skip
    assert all(row[NAME] == row["total"] and row["points"] == full for row in rows.values())
    assert {row["isolation"] for row in rows.values()} == {"none", ""}  # "": nothing was run


def test_the_record_says_what_was_graded_and_how(graded):
    rows = {row["student"]: row for row in lines(graded)}
    assert len(rows) == len(lines(graded)) == 7
    right = rows["right"]
    assert set(right["versions"]) == {"minseg", "numpy", "python"}
    assert [len(right[key]) for key in ("sha256", "exercise_sha256", "seed")] == [64, 64, 32]
    assert right["seed"] != rows["raises"]["seed"]
    assert (right["isolation"], right["refused"]) == ("none", "")
    assert right["seconds"] > 0
    assert all(check["passed"] for check in right["checks"])
    assert "overwriting instead of adding" in rows["adds_not"]["diagnosis"]
    assert "; x[99]\nIndexError" in rows["raises"]["failing"]["problem"]
    assert rows["empty"]["refused"] == f"{NAME}.py is empty"
    assert "damaged, or no zip" in rows["broken"]["refused"]


class Page(HTMLParser):
    """Which tags a page has, which of them fetch something, and how many cells are wrong."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.fetched, self.wrong = set(), [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.fetched += [value for name, value in attributes if name in ("src", "href", "srcset")]
        self.wrong += dict(attributes).get("class") == "n wrong"


def test_every_student_has_a_page_that_needs_nothing_else(graded):
    pages = {
        path.stem: path.read_text(encoding="utf-8") for path in (graded / "feedback").iterdir()
    }
    assert set(pages) == set(table(graded))
    for text in pages.values():
        seen = Page(text)
        assert not seen.fetched
        assert not seen.tags & {"script", "img", "link", "iframe", "object"}
        assert "@import" not in text
        assert "url(" not in text
    assert "&lt;script&gt;alert(1)" in pages["raises"]
    assert "; x[99]\nIndexError" in pages["raises"]
    assert Page(pages["adds_not"]).wrong == 1
    assert "overwriting instead of adding" in pages["adds_not"]
    assert Page(pages["not_a_number"]).wrong > 0
    assert "is empty" in pages["empty"]


def test_a_page_escapes_all_that_came_from_outside(graded):
    nasty = '<b onclick="x">&'
    row = next(row for row in lines(graded) if row["student"] == "adds_not")
    row = row | {"exercise": nasty, "title": nasty, "diagnosis": nasty, "printed": nasty}
    row["failing"] = row["failing"] | {"call": nasty, "problem": nasty, "check": nasty}
    row["holds"] = [{"title": nasty, "holds": True}]
    refused = row | {"refused": nasty, "failing": None}
    text = page(nasty, [row, refused])
    assert "<b onclick" not in text
    assert '"x">' not in text
    assert text.count("&lt;b onclick=&quot;x&quot;&gt;&amp;") > 10


def test_planes_of_larger_arrays_are_told_apart(graded):
    row = next(row for row in lines(graded) if row["student"] == "adds_not")
    values = [[[[1, 2.5]], [["nan", True]]], [[[3, 4]], [[5, 6]]], [[[7, 8]], [[9, 10]]]]
    big = {"shape": [3, 2, 1, 2], "dtype": "float64", "values": values}
    row["failing"]["inputs"] = [
        {"name": "x", **big}, {"name": "s", "shape": [], "dtype": "int64", "values": 3},
        {"name": "none", "shape": [0, 2], "dtype": "int64", "values": []},
        {"name": "huge", "shape": [900, 2], "dtype": "int64", "values": None},
    ]  # fmt: skip
    text = page("anna", [row])
    assert re.findall(r"\[(\d, \d)\]", text) == ["0, 0", "0, 1", "1, 0", "1, 1", "2, 0", "2, 1"]
    assert '<td class="n">2.5</td>' in text
    assert '<td class="n">nan</td><td class="n">True</td>' in text
    assert "too large to show" in text
    assert ">empty<" in text


# Going on after an interrupt, and once more from the start.


@pytest.fixture
def started(monkeypatch):
    """The jobs of the supervisors that are started from here on."""
    jobs = []

    class Counted(supervise.Supervisor):
        def __init__(self, job, *rest):
            jobs.append(job)
            super().__init__(job, *rest)

    monkeypatch.setattr(grading, "Supervisor", Counted)
    return jobs


def test_what_is_graded_stays(tmp_path, started):
    hand_in(tmp_path / "in", anna=EXERCISE.solution, bo=EXERCISE.stub)
    (tmp_path / "in" / "cy").mkdir()
    out = tmp_path / "out"
    grade(tmp_path / "in", out, lock=LOCK)
    before = lines(out)
    assert len(started) == 2
    (out / "grades.csv").unlink()
    grade(tmp_path / "in", out, lock=LOCK)
    assert len(started) == 2
    assert lines(out) == before
    assert table(out)["bo"]["total"] == "0"

    hand_in(tmp_path / "in", bo=EXERCISE.solution)  # a later version of the file
    grade(tmp_path / "in", out, lock=LOCK)
    assert len(started) == 3
    assert len(lines(out)) == 3
    assert table(out)["bo"]["total"] == str(EXERCISE.points)
    old = (out / "grades.jsonl.old").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in old] == [r for r in before if r["student"] == "bo"]


def test_half_a_line_is_forgotten_and_graded_again(tmp_path, started):
    hand_in(tmp_path / "in", anna=EXERCISE.solution, bo=EXERCISE.solution)
    out = tmp_path / "out"
    grade(tmp_path / "in", out, lock=LOCK, jobs=1)
    whole = (out / "grades.jsonl").read_bytes()
    kept = whole.index(b"\n") + 1
    for length in (kept + 200, len(whole) - 1):  # the last: only the line's end is missing
        (out / "grades.jsonl").write_bytes(whole[:length])
        started.clear()
        grade(tmp_path / "in", out, lock=LOCK)
        assert len(started) == (1 if length < len(whole) - 1 else 0)
        assert [row["student"] for row in lines(out)] == ["anna", "bo"]
        assert (out / "grades.jsonl").read_bytes()[:kept] == whole[:kept]


def test_regrade_draws_new_cases_of_those_it_is_asked_for(tmp_path, started):
    hand_in(tmp_path / "in", anna=EXERCISE.solution, bo=EXERCISE.solution)
    out = tmp_path / "out"
    grade(tmp_path / "in", out, lock=LOCK)
    before = {row["student"]: row["seed"] for row in lines(out)}
    grade(tmp_path / "in", out, lock=LOCK, regrade=True, student="anna")
    after = {row["student"]: row["seed"] for row in lines(out)}
    assert after["bo"] == before["bo"]
    assert after["anna"] != before["anna"]
    assert len(lines(out)) == 2
    assert set(table(out)) == {"anna", "bo"}

    grade(tmp_path / "in", out, lock=LOCK, regrade=True, student="bo")
    old = (out / "grades.jsonl.old").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["seed"] for line in old] == [before["anna"], before["bo"]]


def test_a_grade_given_with_another_lock_does_not_stand(tmp_path, started):
    hand_in(tmp_path / "in", anna=EXERCISE.solution)
    out = tmp_path / "out"
    grade(tmp_path / "in", out, lock=LOCK)
    (row,) = lines(out)
    (out / "grades.jsonl").write_text(json.dumps(row | {"isolation": "bubblewrap 0"}) + "\n")
    grade(tmp_path / "in", out, lock=LOCK)
    assert len(started) == 2


def start_grading(tmp_path):
    code = (
        "import argparse, sys\n"
        "from pathlib import Path\n"
        "from minseg.grading import command as g\n"
        "g.chosen_lock = lambda chosen: ('none',)\n"
        "parser = argparse.ArgumentParser()\n"
        "g.add_arguments(parser)\n"
        "sys.exit(g.run_grade(parser.parse_args(sys.argv[1:])))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def wait_for_lines(out, count):
    file = out / "grades.jsonl"
    until = time.monotonic() + 60
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < until
        time.sleep(0.01)


def children_of(pid):
    """The process ids of a process's children (Linux)."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill -9"])
def test_an_interrupted_class_goes_on_where_it_stopped(tmp_path, number):
    hangs = first("while True: pass")
    hand_in(tmp_path / "in", anna=EXERCISE.solution, zoe=hangs, zzz=EXERCISE.solution)
    process = start_grading(tmp_path)
    wait_for_lines(tmp_path / "out", 2)
    with pytest.raises(ValueError, match=rf"another grader is at work .*process {process.pid} on"):
        grade(tmp_path / "in", tmp_path / "out", lock=LOCK)
    supervisors = children_of(process.pid)
    workers = [worker for supervisor in supervisors for worker in children_of(supervisor)]
    assert supervisors
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "The same command goes on" in said
        assert table(tmp_path / "out")["zoe"]["total"] == "not graded"
    until = time.monotonic() + 20
    while any(Path(f"/proc/{one}").exists() for one in supervisors + workers):
        assert time.monotonic() < until, "a process outlives the coordinator"
        time.sleep(0.05)
    kept = lines(tmp_path / "out")
    hand_in(tmp_path / "in", zoe=EXERCISE.solution)
    grade(tmp_path / "in", tmp_path / "out", lock=LOCK)
    assert lines(tmp_path / "out")[: len(kept)] == kept
    assert sorted(row["student"] for row in lines(tmp_path / "out")) == ["anna", "zoe", "zzz"]
    assert {row["total"] for row in table(tmp_path / "out").values()} == {str(EXERCISE.points)}
    assert not (tmp_path / "out" / "grades.lock").exists()


@pytest.mark.parametrize("system", ["linux", "win32"])
@pytest.mark.skipif(os.name != "posix", reason="there, os.kill does not ask")
def test_only_the_file_of_a_grader_that_is_surely_dead_is_taken_over(tmp_path, monkeypatch, system):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        pass
    monkeypatch.setattr(sys, "platform", system)
    file, here = tmp_path / "grades.lock", platform.node()
    alive = [f"{os.getpid()} on {here}", f"{dead.pid} on {here}-2", "", "half a line"]
    if system == "win32":  # where nobody can be asked without being ended
        monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("the other grader is killed"))
        alive.append(f"{dead.pid} on {here}")
    for holder in alive:
        file.write_text(holder, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"delete {re.escape(str(file))}"), alone_in(tmp_path):
            pytest.fail("two graders at once")
        assert file.read_text(encoding="utf-8") == holder
    if system == "linux":
        file.write_text(f"{dead.pid} on {here}", encoding="utf-8")
        with alone_in(tmp_path):
            assert file.read_text(encoding="utf-8") == f"{os.getpid()} on {here}"
        assert not file.exists()


@ordinary_user.needs_bubblewrap
def test_a_class_is_graded_behind_bubblewrap(tmp_path):
    with ordinary_user.folder_of() as folder:
        hand_in(folder / "in", anna=EXERCISE.solution, bo=wrong("overwrites"),
                eve=first("from minseg.functional import conv_transpose2d"))  # fmt: skip
        driver = folder / "driver.py"
        driver.write_text(
            "from minseg.grading.grade import grade\ngrade('in', 'out', lock=('bubblewrap',))\n"
        )
        ordinary_user.run(driver, folder=folder)
        rows = table(folder / "out")
    assert [rows[name]["total"] for name in rows] == [str(EXERCISE.points), "1", "0"]
    assert all(row["isolation"].startswith("bubblewrap") for row in rows.values())


# What an earlier command graded.


def test_table_and_pages_show_all_that_was_ever_graded_in_the_order_of_the_course(tmp_path):
    first_one = course(ROOT).names[0]
    hand_in(tmp_path / "in", anna=EXERCISE.solution)
    out = tmp_path / "out"
    grade(tmp_path / "in", out, lock=LOCK, exercises=[NAME])
    grade(tmp_path / "in", out, lock=LOCK, exercises=[first_one])
    row = table(out)["anna"]
    assert list(row)[2:4] == [first_one, NAME]
    assert [row[first_one], row[NAME], row["total"]] == ["0", *2 * [str(EXERCISE.points)]]
    said = (out / "feedback" / "anna.html").read_text(encoding="utf-8")
    assert said.index(f"{first_one}.py") < said.index(f"{NAME}.py")


def test_who_is_gone_has_no_page_any_more_once_everybody_is_graded(tmp_path):
    hand_in(tmp_path / "in", anna="", bo="", **{"bo!": ""})
    pages = tmp_path / "out" / "feedback"

    def graded_pages(**options):
        grade(tmp_path / "in", tmp_path / "out", lock=LOCK, **options)
        return {file.name for file in pages.iterdir()}

    assert graded_pages() == {"anna.html", "bo.html", "bo-2.html"}
    (pages / "letter.html").touch()  # the teacher's own
    for name in ("bo", "bo!"):
        (tmp_path / "in" / name).rename(tmp_path / name)
    assert len(graded_pages(student="anna")) == 4
    assert graded_pages() == {"anna.html", "letter.html"}


# A supervisor that fails.


@pytest.mark.parametrize("failures", [1, 2])
def test_a_supervisor_that_dies_is_tried_once_more_and_gives_no_number(
    tmp_path, monkeypatch, failures, started
):
    hand_in(tmp_path / "in", anna=EXERCISE.solution, bo=EXERCISE.solution)
    words = grading.Job.words

    def broken(job, *rest):
        dies = job.student.name == "anna" and job.tries <= failures
        return words(job, *rest) | ({"seed": "no number"} if dies else {})

    monkeypatch.setattr(grading.Job, "words", broken)
    grade(tmp_path / "in", tmp_path / "out", lock=LOCK)
    full = str(EXERCISE.points)
    assert len(started) == 3
    rows = table(tmp_path / "out")
    assert rows["bo"]["total"] == full
    if failures == 1:
        assert rows["anna"]["total"] == full
        return
    assert (rows["anna"][NAME], rows["anna"]["total"]) == ("not graded", "not graded")
    (row,) = (row for row in lines(tmp_path / "out") if row["student"] == "anna")
    assert row["score"] is None
    assert "ValueError" in row["refused"]
    said = (tmp_path / "out" / "feedback" / "anna.html").read_text(encoding="utf-8")
    assert "The grader failed here, not your code" in said

    monkeypatch.undo()
    grade(tmp_path / "in", tmp_path / "out", lock=LOCK)
    assert table(tmp_path / "out")["anna"]["total"] == full


def test_a_supervisor_that_never_ends_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(grading, "_seconds", lambda exercise: 0.4)
    hand_in(tmp_path / "in", anna=first("while True: pass"))
    book = grade(tmp_path / "in", tmp_path / "out", lock=LOCK)
    (row,) = book.rows.values()
    assert row["score"] is None
    assert "no result within 0.4 seconds" in row["refused"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("print('{' * 9)", "no JSON"),
        ("print('x' * (9 << 20))", "more than 8 MB"),
        ("import sys; sys.exit('it broke')", "exit status 1: it broke"),
        ("import os; os.abort()", "exit status"),
    ],
)
def test_what_a_supervisor_says_is_bounded_and_checked(monkeypatch, tmp_path, code, said):
    start = subprocess.Popen
    monkeypatch.setattr(
        supervise.subprocess,
        "Popen",
        lambda _, **options: start([sys.executable, "-c", code], **options),
    )
    supervisor = supervise.Supervisor({}, 20, str(tmp_path))
    while not supervisor.done:
        time.sleep(0.01)
    with pytest.raises(supervise.SupervisorError, match=said):
        supervisor.result()


# What is asked for.


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"jobs": 0}, "jobs is 0; at least 1"),
        ({"homework": "nope"}, "there is no homework nope"),
        ({"exercises": ["nope"]}, "there is no exercise 'nope'"),
        ({"student": "nobody"}, "there is no student nobody among the submissions$"),
        ({"student": "Ann"}, "there is no student Ann among the submissions; did you mean anna"),
        ({"homework": "windows", "exercises": [NAME]}, "homework windows and exercise .* one or"),
    ],
)
def test_what_does_not_fit_is_named_before_anything_is_graded(tmp_path, started, options, said):
    hand_in(tmp_path / "in", anna=EXERCISE.solution)
    with pytest.raises(ValueError, match=said):
        grade(tmp_path / "in", tmp_path / "out", lock=LOCK, **options)
    assert not started
    assert not (tmp_path / "out").exists()


def test_a_homework_is_graded_whole_and_else_what_was_handed_in(tmp_path):
    hand_in(tmp_path / "in", anna=EXERCISE.solution)
    the_course = course(ROOT)
    students, _ = grading.intake(tmp_path / "in", the_course.names)

    def names(*asked):
        return [e.name for e in grading.chosen_exercises(the_course, students, *asked)]

    assert names(None, ()) == [NAME]
    assert names(None, [the_course.names[0]]) == the_course.names[:1]
    for entry in the_course.homework:
        assert sorted(names(entry["name"], ())) == sorted(entry["exercises"])
    students[0].work[NAME].sha256 = ""  # nobody handed in anything
    assert names(None, ()) == the_course.names


def test_capitals_matter_only_between_two_students_of_one_name(tmp_path):
    for name in ("Ada Lovelace_12_assignsubmission_file_", "bo", "Bo"):
        (tmp_path / name).mkdir(exist_ok=True)
    students, _ = grading.intake(tmp_path, [NAME])

    def called(asked):
        return [student.identity for student in grading.called(students, asked)]

    for asked in ("Ada Lovelace", "ada lovelace", "12", "ADA LOVELACE_12"):
        assert called(asked) == ["Ada Lovelace_12"]
    assert called("bo") == ["bo"]
    with pytest.raises(ValueError, match="did you mean Ada Lovelace"):
        called("Lovelace")
    with pytest.raises(ValueError, match="there is no student"):
        called("")


def parsed(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def probed(monkeypatch):
    """The locks that were tried; nothing is really tried."""
    from minseg.grading import probe

    tried = []
    monkeypatch.setattr(probe, "refuse_root", lambda: tried.append("root"))
    monkeypatch.setattr(probe, "must_hold", lambda lock: tried.append(lock))
    monkeypatch.setattr(command, "lock_of", lambda words: words)
    monkeypatch.setattr(sys, "platform", "linux")
    return tried


def test_a_lock_is_tried_before_it_is_trusted(probed):
    assert command.chosen_lock(parsed("in")) == ("bubblewrap",)
    assert probed == ["root", ("bubblewrap",)]
    words = ("in", "--container", "podman", "--image", "numpy")
    assert command.chosen_lock(parsed(*words)) == ("container", "podman", "numpy")
    assert probed[2:] == ["root", ("container", "podman", "numpy")]


def test_no_lock_must_be_asked_for_by_name(probed):
    with redirect_stderr(io.StringIO()) as said:
        assert command.chosen_lock(parsed("in", "--allow-unisolated")) == LOCK
    assert "every row will say so" in said.getvalue()
    assert probed == ["root"]


def test_a_system_without_bubblewrap_needs_a_container(probed, monkeypatch):
    for system in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        with pytest.raises(LockError, match="locked into a container: give --container"):
            command.chosen_lock(parsed("in"))
    with pytest.raises(ValueError, match="--container needs --image"):
        command.chosen_lock(parsed("in", "--container", "docker"))


def test_the_command_ends_with_what_is_in_the_record(tmp_path, probed, monkeypatch, capsys):
    hand_in(tmp_path / "in", anna=EXERCISE.solution, bo="", cy=wrong("overwrites"))
    monkeypatch.setattr(command, "lock_of", supervise.lock_of)
    words = (str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--allow-unisolated")
    assert command.run_grade(parsed(*words)) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "3 students, 3 files: 1 passed, 1 could not be used, 0 not graded"

    monkeypatch.setattr(grading.Job, "words", lambda *_: {})
    assert command.run_grade(parsed(*words, "--student", "Anna", "--regrade")) == 1
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "3 students, 3 files: 0 passed, 1 could not be used, 1 not graded"


def test_no_submissions_is_a_sentence(probed):
    with pytest.raises(ValueError, match="which submissions"):
        command.run_grade(parsed())


# Gradescope.


def test_the_autograder_is_an_archive_that_gradescope_takes(tmp_path):
    gradescope.write_autograder(tmp_path / "autograder.zip", names=[NAME])
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        names = archive.namelist()
        about = {name: archive.getinfo(name) for name in names}
        assert json.loads(archive.read("autograder.json")) == {"exercises": [NAME]}
        assert b"numpy>=2" in archive.read("requirements.txt")
        scripts = [archive.read(name).decode() for name in ("setup.sh", "run_autograder")]
    assert {"minseg/__init__.py", "minseg/grading/worker.py", f"exercises/{NAME}.py"} <= set(names)
    assert "exercises/course.toml" in names
    assert "constraints.txt" in names
    assert not [name for name in names if "__pycache__" in name or name.startswith(("/", "."))]
    for name, script in zip(("setup.sh", "run_autograder"), scripts, strict=True):
        assert about[name].external_attr >> 16 == 0o100755
        assert script.startswith("#!/usr/bin/env bash\n")
        assert "\r" not in script
    assert (tmp_path / "autograder.zip").stat().st_size < 20 << 20


def test_the_autograder_is_for_a_set_or_for_exercises_by_name(tmp_path):
    words = ("--gradescope", "--homework", "windows", "--exercise", NAME)
    with pytest.raises(ValueError, match="give one or the other"):
        command.run_grade(parsed(*words, "--out", str(tmp_path / "autograder.zip")))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def autograder(tmp_path, monkeypatch):
    """The folder that Gradescope makes, with our archive unpacked; run() is run_autograder."""
    from minseg.grading import probe

    gradescope.write_autograder(tmp_path / "autograder.zip", names=[NAME])
    with zipfile.ZipFile(tmp_path / "autograder.zip") as archive:
        archive.extractall(tmp_path / "source")
    for name in ("submission", "results"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(gradescope, "LOCK", LOCK)
    monkeypatch.setattr(probe, "refuse_root", lambda: None)
    monkeypatch.setattr(probe, "must_hold", lambda lock: None)
    monkeypatch.setattr(sys, "argv", ["run_autograder", "--autograder", str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize(
    ("text", "score", "said"),
    [
        (EXERCISE.solution, EXERCISE.points, None),
        (wrong("overwrites"), 1, "Your output equals overwriting"),
        (first("x[99]"), 0, "IndexError"),
        ("", 0, "is empty"),
    ],
)
def test_gradescope_reads_a_score_and_a_test_for_each_check(autograder, text, score, said):
    (autograder / "submission" / f"{NAME}.py").write_text(text, encoding="utf-8")
    gradescope.main()
    results = json.loads((autograder / "results" / "results.json").read_text(encoding="utf-8"))
    tests = results["tests"]
    assert results["score"] == score == sum(test["score"] for test in tests)
    assert sum(test["max_score"] for test in tests) == EXERCISE.points
    assert [test["name"] for test in tests] == [f"{NAME}: {c.title}" for c in EXERCISE.checks]
    for test in tests:
        assert test["status"] == ("passed" if test["score"] else "failed")
        assert test["visibility"] == "visible"
    assert results["execution_time"] > 0
    assert results["extra_data"]["rows"][0]["isolation"] == ("none" if text else "")
    outputs = [test["output"] for test in tests if test["output"]]
    assert not outputs if said is None else said in outputs[0]
    if os.name == "posix":
        assert (autograder / "source").stat().st_mode & 0o777 == 0o700


def test_gradescope_is_told_no_score_when_the_grader_fails(autograder, monkeypatch):
    (autograder / "submission" / f"{NAME}.py").write_text(EXERCISE.solution, encoding="utf-8")
    monkeypatch.setattr(grading.Job, "words", lambda *_: {})
    with pytest.raises(RuntimeError, match="not graded"):
        gradescope.main()
    assert not list((autograder / "results").iterdir())


def test_a_record_of_strange_lines_is_read_as_far_as_it_goes(tmp_path):
    (tmp_path / "grades.jsonl").write_text('[]\n{"student": "a"}\n\xff\n', encoding="utf-8")
    assert Gradebook(tmp_path).rows == {}
    assert (tmp_path / "grades.jsonl").read_text() == ""
