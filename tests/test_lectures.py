"""The lecture notebooks: scripts that run, notebooks that hold the scripts' cells, copies kept apart."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from minseg import lectures
from minseg.cli import main

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "lectures"
SCRIPTS = lectures.scripts(FOLDER)
MAP = (FOLDER / "README.md").read_text(encoding="utf-8")


def cells(script):
    return json.loads(script.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]


def source(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lecture_runs_as_a_plain_script(script):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, str(script)], cwd=ROOT, env=environment, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_holds_its_scripts_cells_and_their_outputs(script):
    assert lectures.same_cells(script), f"python3 start.py notebooks {script.stem.split('_')[0]}"
    assert script.with_suffix(".ipynb").stat().st_size < lectures.LARGEST
    code = [cell for cell in cells(script) if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not any(output["output_type"] == "error" for output in outputs)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) >= 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_lecture_says_what_it_takes_and_ends_with_questions_and_an_exercise(script):
    text = [source(cell) for cell in cells(script) if cell["cell_type"] == "markdown"]
    assert re.search(r"\d+ minutes? of reading", text[0] + text[1])
    assert "exercise" in text[-1].lower() + text[-2].lower() + text[-3].lower()
    asserts = sum(source(c).count("assert ") for c in cells(script) if c["cell_type"] == "code")
    assert asserts >= 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_disagreement_with_a_deck_is_a_box_that_can_be_left_out(script):
    for cell in cells(script):
        boxed = "check this against your slides" in source(cell).lower()
        assert boxed == ("erratum" in cell["metadata"].get("tags", [])), source(cell)[:200]


def test_the_map_names_every_notebook():
    for script in SCRIPTS:
        assert f"({script.stem}.ipynb)" in MAP, script.stem


@pytest.mark.slow
def test_a_notebook_runs_in_a_real_kernel(tmp_path):
    first = SCRIPTS[0]
    for path in (first, FOLDER / "weights"):
        (tmp_path / path.name).symlink_to(path, path.is_dir())
    made = next(lectures.make(tmp_path, [first.stem.split("_")[0]]))
    assert made.parent == tmp_path
    assert lectures.same_cells(tmp_path / first.name)


def test_copies_never_replace_what_a_student_changed(tmp_path, monkeypatch, capsys):
    work = tmp_path / "work"
    assert len(lectures.copy(FOLDER, work)) == len(SCRIPTS)
    mine = work / f"{SCRIPTS[0].stem}.ipynb"
    mine.write_text('{"cells": [], "mine": true}')
    untouched = work / f"{SCRIPTS[1].stem}.ipynb"
    assert lectures.copy(FOLDER, work) == []
    assert json.loads(mine.read_text()) == {"cells": [], "mine": True}
    # A notebook that the student left as it was is brought up to date.
    before = untouched.read_text()
    assert untouched in lectures.copy(FOLDER, work, errata=False) or "erratum" not in before


def test_boxes_are_left_out_on_demand(tmp_path):
    lectures.copy(FOLDER, tmp_path, errata=False)
    for path in tmp_path.glob("*.ipynb"):
        assert '"erratum"' not in path.read_text(encoding="utf-8")


def test_the_command_copies_into_minseg_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["lectures", "--no-open"]) == 0
    assert f"{len(SCRIPTS)} notebooks copied" in capsys.readouterr().out
    assert (tmp_path / "minseg_work" / "lectures" / f"{SCRIPTS[0].stem}.ipynb").exists()


def test_an_unknown_lecture_is_named(capsys):
    assert main(["notebooks", "99"]) == 1
    assert "there is no lecture 99" in capsys.readouterr().err
