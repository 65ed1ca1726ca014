"""Write the polynomials into fractionally_strided.html: `python make_fractionally_strided.py`.

The page is written by hand, but no formula in it is: minseg's own functions are run on formal
variables, and what they write down is put into the page as JSON. A test holds the page to it.
"""

import json
from pathlib import Path

import minseg.functional as F
from minseg.formal import text, variables

PAGE = Path(__file__).parent / "fractionally_strided.html"
IMAGE, KERNEL, STRIDE = 4, 3, 2
OPEN, CLOSE = '<script type="application/json" id="polynomials">', "</script>"


def polynomials() -> dict[str, list[list[str]]]:
    """Each route's output (9, 9), a formula such as "k22*x00 + k20*x01" in every cell."""
    free = variables({"x": (IMAGE, IMAGE), "k": (KERNEL, KERNEL)})
    x, k = free["x"], free["k"]
    routes = {
        "transposed": F.conv_transpose2d(x, k, stride=STRIDE),
        "same": F.fractionally_strided_conv2d(x, k, stride=STRIDE),
        "turned": F.fractionally_strided_conv2d(x, F.rot180(k), stride=STRIDE),
    }
    return {name: [[text(value) for value in row] for row in y] for name, y in routes.items()}


def filled(page: str) -> str:
    """The page with its polynomials made anew, a row of outputs on each line."""
    sizes = {"image": IMAGE, "kernel": KERNEL, "stride": STRIDE, "border": KERNEL - 1}
    entries = [f"{json.dumps(name)}: {size}" for name, size in sizes.items()]
    for name, rows in polynomials().items():
        lines = ",\n".join(json.dumps(row) for row in rows)
        entries.append(f"{json.dumps(name)}: [\n{lines}\n]")
    start = page.index(OPEN) + len(OPEN)
    end = page.index(CLOSE, start)
    return page[:start] + "\n{" + ",\n".join(entries) + "}\n" + page[end:]


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8", newline="\n")
