"""What a student meets: stubs, checks, hints, the solution, and their own folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minseg.grading
from minseg.cli import main
from minseg.grading import examine as examine_module
from minseg.grading.course import Course
from minseg.grading.desk import Desk, beside
from minseg.grading.examine import difference, examine
from minseg.grading.exercise import Answer
from minseg.grading.feedback import grid, summary, text
from minseg.grading.lock import Session, unlocked
from minseg.grading.work import FOLDER, Work

ROOT = Path(__file__).parent.parent
COURSE = Course(ROOT / "exercises")
EXERCISE = COURSE.exercise("conv_transpose2d")
WRONG = {answer.name: answer for answer in EXERCISE.all_of(Answer)}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    (tmp_path / FOLDER).mkdir(parents=True)  # or one above, of somebody's own, would be found
    monkeypatch.chdir(tmp_path)
    return Desk()


def write(desk, source, name="conv_transpose2d"):
    desk.work.copy_stubs()
    desk.work.file(name).write_text(source, encoding="utf-8")


def said_of(source, exercise=EXERCISE, seed=1):
    return text(summary(examine(exercise, source, seed, unlocked())))


def in_order(text, *parts):
    places = [text.index(part) for part in parts]
    return places == sorted(places)


def test_stubs_are_copied_once_and_never_over_work(desk):
    assert len(desk.work.copy_stubs()) == len(COURSE.names)
    desk.work.file("conv2d").write_text("mine", encoding="utf-8")
    assert desk.work.copy_stubs() == []
    assert desk.work.file("conv2d").read_text("utf-8") == "mine"


def test_a_stub_holds_no_solution_and_nothing_of_the_teachers(desk):
    for file in desk.work.copy_stubs():
        stub = file.read_text("utf-8")
        assert "SOLUTION" not in stub
        assert "TEACHER" not in stub
        assert "HINTS" not in stub
        compile(stub, file.name, "exec")


def test_the_feedback_of_a_wrong_answer_says_most_useful_things_first():
    said = said_of(WRONG["overwrites"].source)
    assert in_order(
        said, "- copies that overlap add up", "The smallest failing case", "conv_transpose2d(x, w)",
        "expected", "got", "1 of 3 wrong", "Your output equals overwriting instead of adding",
        "yes  linear in x",
    )  # fmt: skip


def test_a_wrong_shape_is_told_with_both_shapes():
    said = said_of(WRONG["one_axis"].source)
    assert re.search(r"returned shape \(1, 1, \d, 3\); expected \(1, 1, \d, 4\)", said)
    assert "Your output equals a stride along the rows only" in said


def test_a_wrong_answer_without_a_name_gets_no_name():
    source = EXERCISE.solution.replace("return y if b is None", "return 3 * y if b is None")
    report = examine(EXERCISE, source, 1, unlocked())
    assert not report.passed
    assert report.diagnosis == ""
    assert ("linear in x: f(x + z) = f(x) + f(z)", True) in report.properties


def test_an_error_shows_the_students_own_line_only():
    source = EXERCISE.stub.replace(
        'raise NotImplementedError("write me")', "return np.dot(x, w[0, 0])"
    )
    said = said_of(source)
    assert "return np.dot(x, w[0, 0])" in said
    assert "ValueError" in said
    assert "Traceback" not in said
    assert "site-packages" not in said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("return None", "returned None (is a `return` missing?)"),
        ("return [1, 2]", "returned 2 arrays; expected one array"),
        ("return x.tolist()", "returned a list with a list in it"),
        ("return x.astype(complex)", "dtype complex128"),
        ("return x * np.nan", "returned shape"),
        ("import minseg", "this exercise is solved with numpy alone, without minseg"),
        ("raise SystemExit", "SystemExit"),
        ("import os; os._exit(0)", "ended the process it runs in"),
        ("x += 1; return x", "a function must not change its arguments: work on a copy"),
    ],
)
def test_what_is_no_answer_is_said_in_a_sentence(line, told):
    said = said_of(EXERCISE.stub.replace('raise NotImplementedError("write me")', line))
    assert told in said


def test_numbers_that_are_not_finite_are_named():
    want = [np.array([1.0, 2.0])]
    assert (
        difference(want, [np.array([1.0, np.nan])], 1e-5)
        == "returned nan where a number is expected"
    )
    assert difference([np.array([np.nan])], [np.array([np.nan])], 1e-5) is None


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def conv_transpose2d(:\n", "SyntaxError"),
        ("import numpy as np\n", "defines no function conv_transpose2d"),
        ("conv_transpose2d = 1 / 0\n", "line 1:  conv_transpose2d = 1 / 0\n  ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(source, told):
    said = said_of(source)
    assert told in said
    assert "Your file could not be used" in said


def test_code_that_never_ends_costs_its_time_and_is_told(monkeypatch):
    monkeypatch.setattr(EXERCISE.module, "SECONDS", 0.3, raising=False)
    source = EXERCISE.stub.replace('raise NotImplementedError("write me")', "while True: pass")
    said = said_of(source)
    assert "gave no answer within 0.3 seconds" in said


def test_what_the_code_prints_is_shown_and_bounded():
    source = EXERCISE.solution.replace(
        "    N, C, H, W", "    print('hello', x.shape)\n    N, C, H, W"
    )
    report = examine(EXERCISE, source, 1, unlocked())
    assert report.passed
    assert "hello (" in report.printed
    flood = EXERCISE.solution.replace("    N, C, H, W", "    print('y' * 10**7)\n    N, C, H, W")
    assert len(examine(EXERCISE, flood, 1, unlocked()).printed) <= 2000


def test_nothing_expected_exists_while_the_students_code_lives(monkeypatch):
    alive = set()
    begin, end = Session.__init__, Session.end
    monkeypatch.setattr(Session, "__init__", lambda s, *a: (begin(s, *a), alive.add(s))[0])
    monkeypatch.setattr(Session, "end", lambda s: (end(s), alive.discard(s))[0])
    compared = []

    def reference(*args, **kwargs):
        assert not alive
        compared.append(1)
        return EXERCISE.module.F.conv_transpose2d(*args, **kwargs)

    monkeypatch.setitem(EXERCISE.module.REFERENCE, "conv_transpose2d", reference)
    assert examine(EXERCISE, EXERCISE.solution, 1, unlocked()).passed
    assert len(compared) > 5


def test_cases_differ_from_seed_to_seed():
    first, second = (examine(EXERCISE, EXERCISE.solution, seed, unlocked()) for seed in (1, 2))
    a, b = (report.results[0].cases[0].call.args[0] for report in (first, second))
    assert not np.array_equal(a, b)


def test_check_remembers_a_pass_and_goes_on_to_the_next(desk):
    first = COURSE.names[0]
    write(desk, COURSE.exercise(first).solution, first)
    said = desk.check(None)
    assert said.summary["passed"]
    assert f"Next: {COURSE.names[1]}" in said.text
    again = Desk()
    assert again.work.passed(first)
    assert again.work.next_unsolved() == COURSE.names[1]
    assert f"[x] {first}" in again.work.listing()


def test_an_untouched_stub_is_told_where_to_begin(desk):
    said = desk.check("transposed")
    assert not said.summary["passed"]
    assert "Nothing is written yet" in said.text
    assert "conv_transpose2d.py" in said.text


def test_hints_come_one_by_one_and_end(desk):
    first, second, third, fourth = (desk.hint("transposed") for _ in range(4))
    assert "A question" in first
    assert "A pointer" not in first
    assert "A pointer" in second
    assert "Nearly the code" in third
    assert "That was the last hint" in third
    assert fourth == third


def test_the_solution_waits_for_a_pass_or_for_giving_up(desk):
    with pytest.raises(ValueError, match="is not passed yet"):
        desk.solution("transposed", give_up=False)
    said = desk.solution("transposed", give_up=True)
    assert "the exercise's solution" in said
    assert "minseg/functional/conv.py" in said
    assert "Windows(" in said
    assert not desk.work.passed("conv_transpose2d")


def test_beside_puts_texts_side_by_side_only_where_they_fit(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert beside("a", "one", "b", "two").splitlines()[2] == "one  | two"
    assert "|" not in beside("a", "x" * 50, "b", "y" * 50)


def test_reset_keeps_what_was_there(desk):
    for number in (1, 2):
        write(desk, f"attempt {number}")
        said = desk.reset("transposed")
        kept = desk.work.folder / f"conv_transpose2d.before-reset-{number}.py"
        assert kept.name in said
        assert kept.read_text("utf-8") == f"attempt {number}"
    assert desk.work.file("conv_transpose2d").read_text("utf-8") == EXERCISE.stub


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "is empty"), (b"\xff\xfe\x00x", "is not UTF-8 text")]
)
def test_a_file_that_is_no_text_is_told_in_a_sentence(desk, content, told):
    desk.work.copy_stubs()
    desk.work.file("conv_transpose2d").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        desk.check("transposed")


def test_a_damaged_record_is_put_aside(desk):
    desk.hint("transposed")
    (desk.work.folder / ".progress.json").write_text("{half", encoding="utf-8")
    assert Work(COURSE).record == {}
    assert (desk.work.folder / ".progress.damaged").exists()


def test_the_folder_is_found_from_inside_it(desk, monkeypatch):
    desk.work.copy_stubs()
    notebooks = desk.work.folder.parent / "lectures"
    notebooks.mkdir()
    for inside in (desk.work.folder, notebooks):
        monkeypatch.chdir(inside)
        assert Work(COURSE).folder == desk.work.folder


def test_check_in_a_notebook_shows_the_failing_case_as_a_picture(desk, capsys):
    write(desk, WRONG["overwrites"].source)
    figure = minseg.grading.check("transposed")
    assert "Your output equals overwriting" in capsys.readouterr().out
    assert [axis.get_title() for axis in figure.axes] == ["expected", "got"]
    write(desk, EXERCISE.solution)
    assert minseg.grading.check("transposed") is None


def test_a_grid_prints_planes_one_below_the_other():
    array = {"values": np.arange(8.0).reshape(2, 2, 2).tolist(), "shape": [2, 2, 2]}
    assert grid(array) == ["[0]", "  0  1", "  2  3", "[1]", "  4  5", "  6  7"]
    assert grid({"values": [1.5, 2.0], "shape": [2]}, [True, False]) == ["1.5*   2"]


def test_the_command_checks_hints_and_refuses(desk, capsys, monkeypatch):
    assert main(["exercises"]) == 0
    assert "[ ] conv_transpose2d" in capsys.readouterr().out
    write(desk, WRONG["turned"].source)
    assert main(["check", "transposed"]) == 1
    assert (
        "Your output equals the transposed convolution with the kernel turned"
        in capsys.readouterr().out
    )
    assert main(["check", "nothing"]) == 1
    assert "there is no exercise 'nothing'" in capsys.readouterr().err
    assert main(["hint", "transposed"]) == 0
    assert main(["solution", "transposed"]) == 1
    assert main(["reset", "transposed"]) == 0


def test_check_never_loads_matplotlib_sympy_or_a_picture(desk):
    code = (
        "import sys; from minseg.grading.desk import Desk; Desk().check('transposed'); "
        "print(sorted({'matplotlib', 'sympy', 'PIL'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert answer.stdout.strip() == "[]"


def test_too_many_lost_calls_and_the_rest_is_not_asked(monkeypatch):
    monkeypatch.setattr(examine_module, "TIMEOUTS", 2)
    source = EXERCISE.stub.replace(
        'raise NotImplementedError("write me")', "import os; os._exit(1)"
    )
    report = examine(EXERCISE, source, 1, unlocked())
    problems = [case.problem for result in report.results for case in result.cases]
    assert problems[:2] == ["ended the process it runs in"] * 2
    assert all(problem.startswith("was not asked") for problem in problems[2:])
    assert report.score == 0


def test_the_summary_is_plain_json():
    for source in (EXERCISE.solution, EXERCISE.stub, WRONG["turned"].source):
        said = summary(examine(EXERCISE, source, 1, unlocked()))
        assert json.loads(json.dumps(said)) == said


def test_where_there_is_no_folder_yet_check_says_so_and_makes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minseg.grading.work._find", lambda start: start / FOLDER)
    assert main(["check", "conv2d"]) == 1
    assert "there is no minseg_work" in capsys.readouterr().err
    assert not (tmp_path / "minseg_work").exists()


def test_a_passed_exercise_that_changed_is_marked_and_a_stub_is_not_passed(desk):
    write(desk, EXERCISE.solution)
    desk.check("transposed")
    assert "[x] conv_transpose2d" in desk.work.listing()
    write(desk, EXERCISE.solution + "\n# more\n")
    assert "[~] conv_transpose2d" in desk.work.listing()
    write(desk, EXERCISE.stub)
    assert "[ ] conv_transpose2d" in desk.work.listing()
    assert not desk.work.passed("conv_transpose2d")


def test_arguments_that_are_several_arrays_are_shown_one_by_one():
    engine = COURSE.exercise("engine_backward")
    said = said_of(engine.stub, engine)
    assert re.search(r"\w+\(.*\*\w+\)", said)
    assert "[0] (" in said


def test_watch_checks_again_what_was_saved_and_nothing_else(desk, monkeypatch):
    """A save of another file is passed over; one that cannot be read is told, and watching goes on."""
    write(desk, WRONG["overwrites"].source)
    file = desk.work.file("conv_transpose2d")

    def saves(folder, **_):
        assert folder == desk.work.folder
        yield {(1, str(desk.work.file("conv2d")))}
        file.write_text(" ", encoding="utf-8")
        yield {(1, str(file))}
        file.write_text(EXERCISE.solution, encoding="utf-8")
        yield {(1, str(file)), (1, str(folder / ".progress.json"))}

    monkeypatch.setattr("watchfiles.watch", saves)
    said = []
    desk.watch("transposed", said.append)
    heard = [words for words in said if words.strip("\n=")]
    assert len(heard) == 4
    assert "Your output equals overwriting" in heard[0]
    assert "Watching for changes" in heard[1]
    assert "is empty" in heard[2]
    assert "Passed." in heard[3]
