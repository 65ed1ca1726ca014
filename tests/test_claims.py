"""Each of the lectures' claims gets the verdict that is written beside it; the command shows them."""

import re
from pathlib import Path

import pytest

from minseg import claims
from minseg.cli import main


@pytest.mark.parametrize("name", claims.CLAIMS)
def test_a_claim_gets_the_verdict_beside_it(name):
    entry = claims.CLAIMS[name]
    verdict = entry.settle()
    assert verdict.status == entry.expected, str(verdict)
    # What is false has the right sentence beside it; what is true needs none.
    assert bool(entry.correction) == (entry.expected == "REFUTED")
    assert entry.course
    assert entry.slide


def test_every_file_of_claims_is_in_the_list_and_no_claim_hides_another():
    here = Path(claims.__file__).parent
    files = {path.stem for path in here.glob("*.py")} - {"__init__", "claim"}
    assert {topic.__name__.split(".")[-1] for topic in claims.TOPICS} == files
    written = sum(path.read_text("utf-8").count("\n@claim(") for path in here.glob("*.py"))
    assert written == len(claims.CLAIMS)


def test_central_symmetry_is_also_needed():
    assert claims.CLAIMS["central-symmetry"].settle().only_if is True


def test_the_list_shows_the_two_formulas_and_the_eight_claims_that_matter_most(capsys):
    assert main(["prove"]) == 0
    shown = capsys.readouterr().out
    formulas = re.findall(r"stride=2\) +(.*)", shown)
    assert formulas == [
        "a*k22 + b*k20 + c*k02 + d*k00",
        "a*k00 + b*k02 + c*k20 + d*k22",
        "a*k22 + b*k20 + c*k02 + d*k00",
    ]
    assert len(re.findall(r"^(PROVED|REFUTED|EVIDENCE) ", shown, re.MULTILINE)) == 8
    assert max(map(len, shown.splitlines())) <= 100
    shown.encode("cp1252")


def test_all_claims_are_listed_on_demand(capsys):
    assert main(["prove", "--all"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {name}\n" in shown for name in claims.CLAIMS)
    shown.encode("cp1252")


def test_one_claim_is_shown_at_length(capsys):
    assert main(["prove", "same-kernel"]) == 0
    shown = capsys.readouterr().out
    assert "y[0,0]: left k00*x00" in shown
    assert "An input that shows it, ready to run:" in shown
    assert "Right is: The kernel must be turned by 180 degrees" in shown


def test_a_mistyped_name_gets_the_near_ones(capsys):
    assert main(["prove", "pading-law"]) == 1
    assert "did you mean padding-law" in capsys.readouterr().err


OWN = """
import numpy as np
shapes = dict(X=(3, 3), K=(2, 2))

def left(X, K):
    Y = np.zeros((4, 4), X.dtype)
    for i in range(3):
        for j in range(3):
            Y[i:i+2, j:j+2] {} X[i, j] * K
    return Y

def right(X, K):
    from minseg.functional import conv_transpose2d
    return conv_transpose2d(X, K)
"""


def test_a_file_of_ones_own_is_settled(tmp_path, capsys):
    (tmp_path / "right.py").write_text(OWN.format("+="))
    (tmp_path / "wrong.py").write_text(OWN.format("="))
    assert main(["prove", str(tmp_path / "right.py")]) == 0
    assert capsys.readouterr().out.startswith("PROVED for X=(3, 3), K=(2, 2)")
    assert main(["prove", str(tmp_path / "wrong.py")]) == 0
    assert capsys.readouterr().out.startswith("REFUTED")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = 1 +", "does not run: SyntaxError"),
        ("1 / 0", "does not run: ZeroDivisionError: division by zero (line 1)"),
        ("def left(x): return x", "must define right, shapes (or over)"),
        ("shapes = {'x': (2,)}\nleft = right = lambda x: None", "left must return an array"),
    ],
)
def test_a_file_that_does_not_fit_gets_a_sentence(tmp_path, capsys, text, sentence):
    (tmp_path / "own.py").write_text(text)
    assert main(["prove", str(tmp_path / "own.py")]) == 1
    assert sentence in capsys.readouterr().err
    assert main(["prove", str(tmp_path / "gone.py")]) == 1
    assert "gone.py" in capsys.readouterr().err
