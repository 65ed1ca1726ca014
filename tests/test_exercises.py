"""Each exercise does what it promises, and the lectures' map names them all."""

import re
from pathlib import Path

import pytest

from minseg.grading.course import Course
from minseg.grading.examine import examine
from minseg.grading.exercise import BEGIN, END, TEACHER, Answer, ExerciseError, read
from minseg.grading.lock import unlocked
from minseg.grading.verify import verify

ROOT = Path(__file__).parent.parent
COURSE = Course(ROOT / "exercises")
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name == "train_a_segmenter" else name
    for name in COURSE.names
]


@pytest.mark.parametrize("name", NAMES)
def test_exercise(name):
    """The stub fails every check, the solution passes, each wrong answer is named, others pass."""
    assert list(verify(COURSE.exercise(name), unlocked(), seed=2026)) == []


def test_the_course_and_the_folder_hold_the_same_exercises():
    assert sorted(COURSE.names) == sorted(file.stem for file in COURSE.folder.glob("*.py"))


def test_the_map_of_the_lectures_names_every_exercise_in_its_notebook_and_no_other():
    rows = (ROOT / "lectures" / "README.md").read_text("utf-8").splitlines()
    cells = [row.split("|") for row in rows if re.match(r"\| (\[|\d\d)", row)]
    named = {
        (match[1], name)
        for row in cells
        if (match := re.search(r"\((\w+)\.ipynb\)", row[1]))
        for name in re.findall(r"`(\w+)`", row[4])
    }
    assert named == {(entry["notebook"], entry["name"]) for entry in COURSE.entries}


def test_every_homework_set_is_made_of_exercises_that_are_there():
    assert len(COURSE.homework) >= 3
    for homework in COURSE.homework:
        assert set(homework["exercises"]) <= set(COURSE.names)
        minutes = sum(e["minutes"] for e in COURSE.entries if e["name"] in homework["exercises"])
        assert 60 <= minutes <= 150, homework["name"]
        assert homework["minutes"] == minutes


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("transposed", "conv_transpose2d"), ("conv_transpose2d", "conv_transpose2d"), ("1", "output_size"),
     ("bilinear", "bilinear_kernel"), ("conv2d", "conv2d"), ("CONFUSION", "confusion_matrix"),
     ("CONV2D.PY", "conv2d"), (2, "conv2d"), ("minseg_work/exercises/metrics.py", "metrics")],
)  # fmt: skip
def test_an_exercise_is_found_by_name_number_or_word(wanted, name):
    assert COURSE.find(wanted).name == name


def test_a_word_that_fits_several_exercises_or_none_says_which_there_are():
    with pytest.raises(ValueError, match="may be max_pool2d or max_unpool2d"):
        COURSE.find("max_")
    with pytest.raises(
        ValueError, match="there is no exercise 'dropout'; there are: output_size, "
    ):
        COURSE.find("dropout")
    with pytest.raises(ValueError, match=r"there is no exercise 'conv3d'; did you mean conv2d\?"):
        COURSE.find("conv3d")
    with pytest.raises(ValueError, match="there is no exercise 'all'"):
        COURSE.find("all")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x = 1\n", "needs the lines"),
        (f"{BEGIN}\n{END}\n{TEACHER}\n", "needs HINTS"),
        (f"{BEGIN}\n{END}\n{TEACHER}\nHINTS = []\nREFERENCE = {{'f': abs}}\n", "defines no f"),
        (
            f"{BEGIN}\nf = abs\n{END}\n{TEACHER}\nHINTS = []\nREFERENCE = {{'f': f}}\n",
            "has no @check",
        ),
    ],
)
def test_a_source_that_lacks_a_part_says_which(tmp_path, text, problem):
    file = tmp_path / "broken.py"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ExerciseError, match=problem):
        read(file)


BAD = """\"\"\"A bad exercise.\"\"\"
def double(x):
    ### BEGIN SOLUTION
    y = 2 * x
    return y
    ### END SOLUTION


# return y
### FOR THE TEACHER
from minseg.grading.exercise import call, check, right, wrong

REFERENCE = {"double": lambda x: 2 * x}
HINTS = ["?"]

@check("twice")
def twice(draw):
    yield call("double", draw.integers(3))

@wrong("double", "adding x to itself")
def adds(x):
    return x + x

@wrong("double", "three times x")
def triples(x):
    return x * 3.0

@wrong("double", "three times x again")
def triples_again(x):
    return x + x + x

@right("double", "wrongly")
def not_right(x):
    return x
"""


def test_verify_says_all_that_is_wrong_with_an_exercise(tmp_path):
    (tmp_path / "double.py").write_text(
        BAD.replace("# return y", "x = 1\ny = 2 * x"), encoding="utf-8"
    )
    said = list(verify(read(tmp_path / "double.py"), unlocked()))
    assert "the stub gives away a line of the solution: y = 2 * x" in said
    assert "the wrong answer adds passes" in said
    assert "the wrong answer triples_again is told 'three times x'" in said
    assert any(line.startswith("there are 1 hints") for line in said)
    assert any(line.startswith("there are 1 other right answers") for line in said)
    assert any(line.startswith("the right answer not_right fails: 'twice'") for line in said)


def test_a_wrong_answer_may_be_the_solution_with_a_word_changed(tmp_path):
    text = BAD.replace("# return y", "").replace(
        '@wrong("double", "adding x to itself")\ndef adds(x):\n    return x + x\n',
        'tripled = wrong("double", "three times x", {"2 * x": "3 * x"})\n',
    )
    (tmp_path / "double.py").write_text(text, encoding="utf-8")
    exercise = read(tmp_path / "double.py")
    tripled = exercise.all_of(Answer)[0]
    assert (tripled.name, tripled.write(5)) == ("tripled", 15)
    assert "y = 3 * x" in tripled.source
    assert examine(exercise, tripled.source, 1, unlocked()).diagnosis == "three times x"
    (tmp_path / "double.py").write_text(text.replace('2 * x":', '4 * x":'), encoding="utf-8")
    with pytest.raises(ExerciseError, match=r"double, tripled: no '4 \* x' in the solution"):
        read(tmp_path / "double.py")
