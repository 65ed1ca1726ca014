"""What the README promises is true: its lines print its numbers, its files exist."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize(("code", "printed"), PROGRAMS)
def test_the_lines_print_what_stands_beside_them(code, printed):
    assert len(PROGRAMS) == README.count("```python") == 2
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    assert out.getvalue() == printed


def test_every_file_it_names_exists():
    names = re.findall(r"`([\w/]+(?:\.py|/))`", README)
    assert len(names) > 40
    for name in names:
        if name not in (
            "minseg-demo/",
            "minseg_work/lectures/",
            "minseg_work/exercises/",
            "photos/images/",
            "photos/masks/",
        ):
            assert (ROOT / "minseg" / name).exists() or (ROOT / name).exists(), name


def test_every_function_it_points_to_is_in_its_file():
    pointers = re.findall(r"`([\w/]+\.py)`(?:,| \()(?: argument)? ?`([\w]+)`", README)
    assert len(pointers) > 8
    for name, function in pointers:
        assert function in (ROOT / "minseg" / name).read_text(encoding="utf-8"), (name, function)


def test_the_house_lists_every_file_of_the_package():
    listed = README[README.index("## The house") : README.index("One idea carries")]
    for path in (ROOT / "minseg").iterdir():
        if path.suffix == ".py" and not path.name.startswith("_"):
            assert f"`{path.name}`" in listed, path.name
        elif path.is_dir() and path.name != "__pycache__":
            assert f"`{path.name}/`" in listed, path.name


def test_how_big_it_is_is_about_right():
    stated = int(re.search(r"in about ([\d,]+) lines", README)[1].replace(",", ""))
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "minseg").rglob("*.py")
    )
    assert abs(lines - stated) < 0.15 * lines, lines
