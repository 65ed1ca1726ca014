"""The decks' pages: made from their files, with every link leading somewhere."""

import importlib.util
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from minseg.claims import CLAIMS

LECTURES = Path(__file__).parent.parent / "lectures"
DECKS = sorted((LECTURES / "paths").glob("*.toml"))
SCRIPTS = sorted(LECTURES.glob("[0-9]*_*.py"))
MAP = (LECTURES / "README.md").read_text(encoding="utf-8")


def load_maker():
    file = LECTURES / "paths" / "make_paths.py"
    spec = importlib.util.spec_from_file_location("make_paths", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()


def slides(deck):
    return tomllib.loads(deck.read_text(encoding="utf-8"))["slide"]


def targets(kind):
    """Every target of a kind in any deck."""
    found = [slide[kind] for deck in DECKS for slide in slides(deck) if kind in slide]
    return sorted({t for f in found for t in ([f] if isinstance(f, str) else f)})


def test_five_decks_are_here():
    assert [deck.stem for deck in DECKS] == ["bonn", "dlv", "drake", "ensta", "waterloo"]
    for deck in DECKS:
        assert f"(paths/{deck.stem}.md)" in MAP


@pytest.mark.parametrize("deck", DECKS, ids=lambda path: path.stem)
def test_a_page_is_what_its_deck_makes(deck):
    committed = deck.with_suffix(".md").read_text(encoding="utf-8")
    assert maker.page(deck) == committed, "run python lectures/paths/make_paths.py"


@pytest.mark.parametrize("target", targets("section"))
def test_a_section_leads_to_a_notebook_and_a_heading_in_it(target):
    name, _, heading = target.partition("#")
    assert f"({name}.ipynb)" in MAP, f"{target}: the map has no notebook {name}"
    script = LECTURES / f"{name}.py"
    if not script.exists():
        pytest.skip(f"{name} is not written yet")
    text = script.read_text(encoding="utf-8")
    found = re.search(rf"^# ##+ (\d+\. )?{re.escape(heading)} *$", text, re.MULTILINE)
    assert found or not heading, (
        f'{script.name} has no heading "{heading}": {maker.headings(script)}'
    )


def test_a_claim_is_one_that_the_code_settles():
    assert set(targets("claim")) <= set(CLAIMS)


def test_an_exercise_is_one_of_the_maps():
    assert all(f"`{name}`" in MAP for name in targets("exercise"))


@pytest.mark.parametrize("deck", DECKS, ids=lambda path: path.stem)
def test_a_slide_has_one_title_and_one_kind_of_target(deck):
    for slide in slides(deck):
        kinds = set(slide) - {"title"}
        assert len(kinds) == 1, slide
        assert kinds < {"section", "claim", "exercise", "missing"}, slide
    titles = [slide["title"] for slide in slides(deck)]
    assert all(one != next_one for one, next_one in pairwise(titles))


@pytest.mark.parametrize("deck", DECKS, ids=lambda path: path.stem)
def test_a_deck_is_cited_as_the_claims_cite_it(deck):
    cited = re.search(r"^# (.+)$", maker.page(deck), re.MULTILINE)[1]
    assert cited in {claim.course for claim in CLAIMS.values()}


def test_no_file_of_a_deck_and_no_line_number_is_named():
    forbidden = re.compile(r"\bdecks/|\b\d{3}_[0-9a-f]{6,}|\bL\d+\b|\blines? \d+|\.(txt|pdf)\b")
    for file in [LECTURES / "README.md", *DECKS, *(d.with_suffix(".md") for d in DECKS)]:
        found = forbidden.search(file.read_text(encoding="utf-8"))
        assert found is None, f"{file.name} names {found[0]}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_map_says_what_a_notebook_says_of_itself(script):
    opening = script.read_text(encoding="utf-8")[:1500].replace("\n# ", " ")
    stated = re.search(r"(\d+) minutes? of reading", opening)[1]
    row = next(line for line in MAP.splitlines() if f"({script.stem}.ipynb)" in line)
    assert row.split("|")[2].strip() == stated
    for file in re.findall(r"`(minseg/[\w/]+\.py)`", row):
        assert (LECTURES.parent / file).is_file()
        assert f"`{file}`" in opening, f"{script.name} does not say that it reads {file}"


def test_a_file_that_the_map_names_is_there():
    for name in re.findall(r"\((paths/[\w.]+|pages/[\w.]+)\)", MAP):
        assert (LECTURES / name).is_file(), name


def test_the_maps_example_of_a_deck_makes_a_page(tmp_path):
    deck = tmp_path / "mydeck.toml"
    deck.write_text(re.search(r"```toml\n(.*?)```", MAP, re.DOTALL)[1], encoding="utf-8")
    page = maker.page(deck)
    assert "# My University, Computer Vision (2025)" in page
    assert "| Diffusion models | not here yet, because they have no notebook yet |  |" in page
    assert "`parameter-counts` (proved)" in page
    assert "exercise [`conv_transpose2d`](../../exercises/README.md)" in page
    assert "[notebook 00](../00_ten_minutes.ipynb): *How large is the output?*" in page


@pytest.mark.parametrize(
    ("slide", "sentence"),
    [
        ('section = "00_ten_minutes"', "has no title"),
        ('title = "A"', "has no target, but needs exactly one of section, claim, exercise"),
        ('title = "A"\nclaim = "same-kernel"\nmissing = "x"', "has claim and missing"),
        ('title = "A"\nclaims = "same-kernel"', "has claims"),
        ('title = "A"\nsection = []', "its section must be a text or a list of texts"),
        ('title = "A"\nmissing = true', "its missing must be a text or a list of texts"),
        ('title = "A"\nsection = "99_nothing"', "there is no notebook 99_nothing"),
        ('title = "A"\nsection = "00_ten_minutes#A network labels it"', '"A network labels them"'),
        ('title = "A"\nclaim = "same-kernal"', 'the nearest is "same-kernel"'),
        ('title = "A"\nexercise = "conv9d"', "no exercise of this name"),
        ('title = "A', "mydeck.toml: "),
    ],
)
def test_a_mistake_in_a_deck_is_named(tmp_path, slide, sentence):
    deck = tmp_path / "mydeck.toml"
    deck.write_text(f'course = "Mine"\n[[slide]]\n{slide}\n', encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        maker.page(deck)
    assert str(error.value).startswith("mydeck.toml: ")
