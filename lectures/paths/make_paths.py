"""A page for every deck, NAME.md from NAME.toml: `python lectures/paths/make_paths.py`.

A deck is a list of slide titles, each with the place here where the slide comes alive. To add a deck
of your own, write one TOML file like those beside this one and run this; lectures/README.md says how.
"""

import difflib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from minseg.claims import CLAIMS

PATHS = Path(__file__).parent
LECTURES = PATHS.parent
KINDS = ("section", "claim", "exercise", "missing")


def map_text() -> str:
    """lectures/README.md, which names every notebook and every exercise."""
    return (LECTURES / "README.md").read_text(encoding="utf-8")


def headings(script: Path) -> list[str]:
    """The headings in a notebook's script, without their numbers: "2. Void" is "Void"."""
    text = script.read_text(encoding="utf-8")
    return re.findall(r"^# #{2,} (?:\d+[.)] )?(.+?) *$", text, re.MULTILINE)


def described(target: str, kind: str) -> str:
    """A target in Markdown; of a section, its heading.

    Raises:
        ValueError: it does not exist; the sentence says what was asked for and what comes near.
    """
    if kind == "section":
        name, _, heading = target.partition("#")
        if f"({name}.ipynb)" not in map_text():
            raise ValueError(f'section = "{target}": there is no notebook {name} in the map')
        script = LECTURES / f"{name}.py"
        if heading and script.exists() and heading not in headings(script):
            near = difflib.get_close_matches(heading, headings(script), n=1, cutoff=0)
            raise ValueError(
                f'section = "{target}": {script.name} has no heading "{heading}"; '
                f'the nearest is "{near[0]}"'
            )
        return f"*{heading}*" if heading else ""
    if kind == "claim":
        if target not in CLAIMS:
            near = difflib.get_close_matches(target, CLAIMS, n=1, cutoff=0)
            raise ValueError(
                f'claim = "{target}": there is no such claim; the nearest is "{near[0]}"'
            )
        return f"`{target}` ({CLAIMS[target].expected.lower()})"
    if kind == "exercise":
        if f"`{target}`" not in map_text():
            raise ValueError(f'exercise = "{target}": the map has no exercise of this name')
        return f"exercise [`{target}`](../../exercises/README.md)"
    return f"not here yet, because {target}"


def linked(targets: list[str], headings: list[str]) -> list[str]:
    """A link to each notebook, followed by the headings in it."""
    inside: dict[str, list[str]] = {}
    for target, heading in zip(targets, headings, strict=True):
        inside.setdefault(target.split("#")[0], []).append(heading)
    return [
        f"[notebook {name.split('_')[0]}](../{name}.ipynb)" + (": " + ", ".join(those)).rstrip(": ")
        for name, those in inside.items()
    ]


def row(slide: dict[str, Any], course: str) -> str:
    """One slide's line of the table: its title, where it comes alive, its settled claims.

    Raises:
        ValueError: the slide has no title, no target, or targets of two kinds.
    """
    title = slide.get("title")
    if not isinstance(title, str) or not title:
        raise ValueError(f"a slide has no title (it is {slide})")
    kinds = [key for key in slide if key != "title"]
    if len(kinds) != 1 or kinds[0] not in KINDS:
        raise ValueError(
            f'slide "{title}" has {" and ".join(kinds) or "no target"}, but needs exactly one of '
            + ", ".join(KINDS)
        )
    kind, targets = kinds[0], slide[kinds[0]]
    targets = targets if isinstance(targets, list) else [targets]
    if not targets or not all(isinstance(target, str) and target for target in targets):
        raise ValueError(
            f'slide "{title}": its {kind} must be a text or a list of texts (it is {slide[kind]!r})'
        )
    settled = {
        claim.name for claim in CLAIMS.values() if (claim.course, claim.slide) == (course, title)
    }
    texts = [described(target, kind) for target in targets]
    if kind == "claim":
        settled, where = settled | set(targets), "settled by the code"
    else:
        where = "; ".join(linked(targets, texts) if kind == "section" else texts)
    claims = ", ".join(described(name, "claim") for name in CLAIMS if name in settled)
    return f"| {title.replace('|', '/')} | {where} | {claims} |"


def page(file: Path) -> str:
    """The page of one deck.

    Raises:
        ValueError: the deck has a mistake; the sentence names the file.
    """
    try:
        deck = tomllib.loads(file.read_text(encoding="utf-8"))
        for key in ("course", "slide"):
            if not deck.get(key):
                raise ValueError(f"it has no {key}")
        course = f"{deck['course']} ({deck['year']})" if deck.get("year") else str(deck["course"])
        rows = [row(slide, course) for slide in deck["slide"]]
    except ValueError as error:  # tomllib's own error is one too
        raise ValueError(f"{file.name}: {error}") from None
    return "\n".join([
        f"<!-- Made from {file.name} by make_paths.py: change that, not this. -->",
        f"# {course}",
        "",
        "The slides in their order, and where each one comes alive. Title pages, outlines and references",
        "are left out; neighbours of the same title are one line. `python3 start.py lectures` opens the",
        "notebooks, `python3 start.py prove NAME` shows a claim at length, and [the map](../README.md) has",
        "the exercises.",
        "",
        "| slide | here | claims |",
        "|---|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def main() -> int:
    """Write every deck's page; 1 where a deck has a mistake."""
    for file in sorted(PATHS.glob("*.toml")):
        try:
            text = page(file)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        file.with_suffix(".md").write_text(text, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
