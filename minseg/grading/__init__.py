"""Exercises, their feedback, and grading a class. In a notebook:

from minseg.grading import check

check("conv2d")
"""

from pathlib import Path
from typing import Any


def check(name: str | int | None = None, start: Path | None = None) -> Any:
    """Run the checks of an exercise on the file you wrote, and show what came of it.

    name: an exercise's name or number; the next unsolved where None. Returns a figure of the
    failing case where there is one to draw, which a notebook shows below the text.

    Raises:
        TypeError: name is no name and no number.
        ValueError: no such exercise; a file that is empty or no text.
    """
    if name is not None and not isinstance(name, (str, int)):
        raise TypeError(f"check: name must be an exercise's name or number, got {name!r}")
    from minseg.grading import desk
    from minseg.grading.picture import picture

    said = desk.Desk(start).check(name)
    print(said.text)
    return picture(said.summary)


__all__ = ["check"]
