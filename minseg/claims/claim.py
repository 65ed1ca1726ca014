"""What a claim is, and the courses that make them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from minseg.proofs import Verdict

WATERLOO = "University of Waterloo"
DRAKE = "Drake University, CS195 (2024)"
BONN = "Bonn University, MA-INF 4308 (2023)"
ENSTA = "ENSTA Paris, CSC_5RO13"
DLV = "Deep Learning for Vision (2024-2025)"


@dataclass(frozen=True)
class Claim:
    """One sentence, where it is said, what the code makes of it, and the right one where it is false."""

    name: str
    course: str
    slide: str
    statement: str
    settle: Callable[[], Verdict]
    expected: str = "PROVED"
    correction: str = ""
    matters_most: bool = False


def claim(
    course: str, slide: str, statement: str, expected: str = "PROVED", correction: str = "",
    matters_most: bool = False,
) -> Callable[[Callable[[], Verdict]], Claim]:  # fmt: skip
    """Make a Claim of the function that settles it: `def same_kernel()` settles "same-kernel"."""

    def of(settle: Callable[[], Verdict]) -> Claim:
        name = settle.__name__.replace("_", "-")
        return Claim(name, course, slide, statement, settle, expected, correction, matters_most)

    return of


def table(arrays: dict[str, Any], **parameters: Any) -> list[dict[str, Any]]:
    """All combinations of some parameters, over the same arrays."""
    return [
        dict(zip(parameters, values, strict=True)) | arrays
        for values in product(*parameters.values())
    ]
