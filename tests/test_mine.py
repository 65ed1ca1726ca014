"""A network that runs on a student's own functions."""

from pathlib import Path

import numpy as np
import pytest

import minseg.functional as F
from minseg.cli import main
from minseg.grading.course import Course
from minseg.grading.mine import FORWARD, Mine, demo_mine
from minseg.grading.work import FOLDER, Work
from minseg.tensor import Tensor

COURSE = Course(Path(__file__).parent.parent / "exercises")
OF_THE_NETWORK = ["conv2d", "max_pool2d", "conv_transpose2d", "skip_connections", "cross_entropy",
                  "void_and_weights", "conv_backward"]  # fmt: skip


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A student's folder where all that a network is made of is passed."""
    (tmp_path / FOLDER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    work = Work(COURSE)
    work.copy_stubs()
    for name in OF_THE_NETWORK:
        passes(work, name, COURSE.exercise(name).solution)
    return work


def passes(work, name, source):
    work.file(name).write_text(source, encoding="utf-8")
    work.note_passed(COURSE.exercise(name), source)


def test_right_answers_change_no_pixel_and_the_table_says_whose_each_op_was(work, tmp_path, capsys):
    demo_mine(work, tmp_path / "out")
    said = capsys.readouterr().out
    assert "\n0 of 2,304 pixels differ" in said
    rows = {
        line.split()[0]: line.split()[1:3] for line in said.splitlines() if line.startswith("  ")
    }
    assert rows["conv2d"] == ["mine", "11"]
    assert rows["max_pool2d"] == ["mine", "2"]
    assert rows["conv_transpose2d"] == ["mine", "2"]
    assert rows["cat"] == ["mine", "2"]
    assert rows["relu"] == ["library", "10"]
    assert (tmp_path / "out" / "pixels.png").stat().st_size > 10_000


def test_a_wrong_op_changes_pixels_and_they_are_counted(work, tmp_path, capsys):
    wrong = COURSE.exercise("conv_transpose2d").solution.replace("+= copies", "= -copies")
    work.file("conv_transpose2d").write_text(wrong, encoding="utf-8")
    demo_mine(work, tmp_path / "out")
    said = capsys.readouterr().out
    assert "conv_transpose2d   mine *" in said
    assert "conv2d             mine  " in said
    assert "* changed since it passed" in said
    assert "\n0 of 2,304" not in said
    assert "They lie in rows" in said


def test_the_librarys_ops_are_put_back_whatever_happens(work, tmp_path):
    before = {op: getattr(F, op) for op in FORWARD}
    passes(work, "conv2d", "def conv2d(x, w, b=None, stride=1, padding=0):\n    return 1 / 0\n")
    with pytest.raises(ValueError, match="your conv2d: line 2:  return 1 / 0\nZeroDivisionError"):
        demo_mine(work, tmp_path / "out")
    assert {op: getattr(F, op) for op in FORWARD} == before


def test_a_wrong_shape_is_a_sentence(work, tmp_path):
    passes(work, "conv2d", "def conv2d(x, w, b=None, stride=1, padding=0):\n    return x\n")
    with pytest.raises(
        ValueError, match=r"your conv2d returned shape \(1, \d, 48, 48\), the library"
    ):
        demo_mine(work, tmp_path / "out")


def test_what_an_exercise_cannot_do_is_left_to_the_library(work):
    x, w = np.ones((1, 2, 5, 5), np.float32), np.ones((2, 1, 3, 3), np.float32)
    mine = Mine(work)
    with mine.running():
        F.conv2d(x, w, groups=2)
        F.conv2d(x, np.ones((1, 2, 3, 3), np.float32), dilation=(2, 2))
        F.conv2d(x, np.ones((1, 2, 3, 3), np.float32), padding="same")
        assert not mine.sessions
        F.conv2d(x, np.ones((1, 2, 3, 3), np.float32), stride=(2, 2))
        assert set(mine.sessions) == {"conv2d"}


def test_gradients_of_the_students_backward_are_the_librarys(work):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in ((2, 3, 6, 5), (4, 3, 3, 3), (4,))]
    target = rng.integers(0, 4, (2, 6, 5))
    target[0, 0] = 255

    def gradients():
        tensors = [Tensor(array.copy(), requires_grad=True) for array in arrays]
        F.cross_entropy(F.conv2d(*tensors, padding=1), target).backward()
        return [tensor.grad for tensor in tensors]

    expected = gradients()
    mine = Mine(work)
    with mine.running():
        got = gradients()
        assert set(mine.sessions) == {"conv2d", "conv_backward", "void_and_weights"}
    for mine_, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine_, theirs, rtol=1e-9, atol=1e-12)


def test_training_on_ones_own_functions_lowers_the_loss(work, tmp_path, capsys):
    demo_mine(work, tmp_path / "out", train=True)
    said = capsys.readouterr().out
    losses = [float(line.split()[-1]) for line in said.splitlines() if line.startswith("  step")]
    assert losses[-1] < 0.7 * losses[0]
    assert "Gradients of yours: conv2d, cross_entropy" in said


def test_without_a_passed_exercise_it_says_where_to_begin(tmp_path, monkeypatch, capsys):
    (tmp_path / FOLDER).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--mine"]) == 1
    assert "Begin with `minseg check conv2d`" in capsys.readouterr().err
    assert main(["demo", "--train"]) == 1
    assert "--train goes with --mine" in capsys.readouterr().err
