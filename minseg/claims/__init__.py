"""The lectures' claims, each settled by the code itself: `minseg prove` lists them.

A claim is a sentence of a lecture, a table of shapes, and two functions that should be equal. What is
false stays here as REFUTED, with the right sentence beside it. One file per lecture topic; this one
holds the list and what the command prints.

Sources: beside each claim, by course and slide title.
"""

import textwrap

from minseg.claims import (
    convolution,
    metrics,
    networks,
    training,
    transposed,
    trilinear,
    upsampling,
)
from minseg.claims.claim import Claim
from minseg.claims.transposed import two_formulas
from minseg.proofs import prove

__all__ = ["CLAIMS", "Claim", "at_length", "from_file", "overview", "two_formulas"]

TOPICS = (transposed, trilinear, upsampling, convolution, metrics, training, networks)

CLAIMS: dict[str, Claim] = {
    entry.name: entry
    for topic in TOPICS
    for entry in vars(topic).values()
    if isinstance(entry, Claim)
}


def _wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, 98, initial_indent="  ", subsequent_indent="    ")


def overview(everything: bool = False) -> str:
    """The claims with their verdicts, a paragraph each: the eight that matter most, or all."""
    chosen = [c for c in CLAIMS.values() if everything or c.matters_most]
    paragraphs = [two_formulas()]
    for entry in chosen:
        verdict = entry.settle()
        lines = [f"{verdict.status:<9} {entry.name}", _wrapped(entry.statement)]
        if verdict.status == "REFUTED":
            where = verdict.difference["where"]
            sides = (
                f"{where}: left {verdict.difference['left']}, right {verdict.difference['right']}"
            )
            lines.append("  " + textwrap.shorten(sides, 96, placeholder=" ..."))
        if entry.correction:
            lines.append(_wrapped(f"Right is: {entry.correction}"))
        lines.append(f'  {entry.course}, "{entry.slide}"')
        paragraphs.append("\n".join(lines))
    if not everything:
        paragraphs.append(f"{len(CLAIMS) - len(chosen)} more: minseg prove --all")
    paragraphs.append("One at length: minseg prove NAME.  Your own: minseg prove FILE.py")
    return "\n\n".join(paragraphs)


def at_length(name: str) -> str:
    """One claim with all that its verdict says.

    Raises:
        ValueError: no claim has this name; similar ones are listed.
    """
    if name not in CLAIMS:
        import difflib

        near = difflib.get_close_matches(name, CLAIMS, 3, 0.4)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ValueError(f"prove: there is no claim {name!r}{hint} (minseg prove --all lists them)")
    entry = CLAIMS[name]
    lines = [
        f'{entry.course}, "{entry.slide}":',
        _wrapped(entry.statement),
        "",
        str(entry.settle()),
    ]
    if entry.correction:
        lines += ["", _wrapped(f"Right is: {entry.correction}")]
    return "\n".join(lines)


def from_file(path: str) -> str:
    """The verdict on a student's own file, which defines left, right, and shapes or over.

        shapes = dict(x=(4, 4), k=(3, 3))
        def left(x, k): ...
        def right(x, k): ...

    where, letters, indices, least and analytic may be defined too, as prove takes them.

    Raises:
        ValueError: the file does not run, or lacks one of these names.
    """
    import runpy

    try:
        names = runpy.run_path(path)
    except Exception as error:
        at = error.__traceback__
        while at is not None and at.tb_next is not None:
            at = at.tb_next
        line = getattr(error, "lineno", None) or (at.tb_lineno if at else "?")
        raise ValueError(
            f"prove: {path} does not run: {type(error).__name__}: {error} (line {line})"
        ) from None
    missing = [name for name in ("left", "right") if not callable(names.get(name))]
    if "shapes" not in names and "over" not in names:
        missing.append("shapes (or over)")
    if missing:
        raise ValueError(
            f"prove: {path} must define {', '.join(missing)}; for example left and right, two "
            "functions of (x, k), and shapes = dict(x=(4, 4), k=(3, 3))"
        )
    options = {
        name: names[name]
        for name in ("over", "where", "letters", "indices", "least", "analytic")
        if name in names
    }
    return str(prove(names["left"], names["right"], **options, **names.get("shapes", {})))
