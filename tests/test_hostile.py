"""Hostile submissions earn nothing, harm nobody and leave nothing behind."""

import json
from pathlib import Path

import numpy as np
import pytest
from hostile import HOSTILE
from ordinary_user import folder_of, needs_bubblewrap, run

from minseg.grading.examine import examine
from minseg.grading.exercise import read
from minseg.grading.lock import unlocked

HERE = Path(__file__).parent
EXERCISE = read(HERE.parent / "exercises" / "conv_transpose2d.py")
HONEST = 24
LONG_IS_DOUBLE = np.dtype(np.longdouble).itemsize == 8  # and so accepted


def grade_class(honest, *names):
    """What hostile_class.py found, its rows by student."""
    with folder_of() as folder:
        said = run(HERE / "hostile_class.py", folder, honest, *names, folder=folder, timeout=300)
    found = json.loads(said)
    found["rows"] = {(row["student"], row["exercise"]): row for row in found["rows"]}
    return found


def earned_by(hostile):
    everything = hostile.earned == "all" or (LONG_IS_DOUBLE and "longdouble" in hostile.name)
    return EXERCISE.points if everything else hostile.earned


@pytest.fixture(scope="module")
def graded():
    """All hostile students and some honest ones, graded at once by an ordinary user."""
    return grade_class(HONEST)


def test_there_are_many_kinds_each_with_its_reason():
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) >= 40
    assert all(len(hostile.why.split()) >= 4 for hostile in HOSTILE)


@needs_bubblewrap
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_submission_earns_what_its_right_answers_earn_and_no_more(graded, hostile):
    exercise = "roomy" if hostile.roomy else "conv_transpose2d"
    row = graded["rows"][f"hostile {hostile.name}", exercise]
    assert row["score"] == earned_by(hostile), hostile.why
    reasons = [row["refused"], *(check["problem"] for check in row["checks"])]
    assert row["passed"] or any(reasons)


@needs_bubblewrap
def test_honest_students_beside_hostile_ones_have_full_scores(graded):
    scores = [graded["rows"][f"honest {n}", "conv_transpose2d"]["score"] for n in range(HONEST)]
    assert scores == HONEST * [EXERCISE.points]


@needs_bubblewrap
def test_nothing_hostile_is_left_written_told_or_alive(graded):
    assert graded["changed"] == []
    assert graded["left"] == []
    assert graded["alive"] == []
    assert not graded["told"]  # a secret of the grader's environment
    assert all(row["isolation"].startswith("bubblewrap") for row in graded["rows"].values()
               if row["sha256"])  # fmt: skip


@needs_bubblewrap
def test_no_hostile_submission_takes_much_memory_or_fills_the_record(graded):
    assert graded["peak"] < 1 << 30  # bytes, of the largest process there was
    assert graded["bytes"] < 20_000 * len(graded["rows"])


@needs_bubblewrap
@pytest.mark.slow
def test_200_honest_runs_under_load_are_200_full_scores():
    found = grade_class(200, "takes_all_memory", "starts_processes_where_some_may", "sleeps")
    scores = [row["score"] for (student, exercise), row in found["rows"].items()
              if student.startswith("honest") and exercise == "conv_transpose2d"]  # fmt: skip
    assert scores == 200 * [EXERCISE.points]


@pytest.mark.parametrize(
    "hostile", [h for h in HOSTILE if not h.needs_lock], ids=lambda hostile: hostile.name
)
def test_what_concerns_answers_and_their_pipe_fails_without_a_lock_too(hostile, monkeypatch):
    monkeypatch.setattr(EXERCISE.module, "SECONDS", 1, raising=False)
    source = hostile.written(EXERCISE.solution)
    report = examine(EXERCISE, source, 1, unlocked(), explain=False)
    assert report.score == earned_by(hostile), hostile.why


def test_the_places_of_an_expected_infinity_take_no_other_number():
    from minseg.grading.examine import difference

    infinite = [np.array([np.inf, -np.inf, 1.0])]
    assert difference(infinite, [np.array([np.inf, -np.inf, 1.0])], 1e-5) is None
    for wrong in ([0.0, -np.inf, 1.0], [-np.inf, np.inf, 1.0]):
        assert difference(infinite, [np.array(wrong)], 1e-5) is not None
