"""What a student reads about their code, most useful first.

The smallest failing case; the call; expected and got with the wrong cells marked; what the wrong
answer is, where it has a name; what holds all the same. `summary` gathers it as plain data, which
the text here, the picture and the class's pages all show.
"""

import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np

from minseg.grading.examine import Case, Report, same

ENTRIES = 150  # of an array that is still printed whole
WRONG = "*"  # stands behind a wrong cell


def summary(report: Report) -> dict[str, Any]:
    """All there is to say of a report, as plain data that JSON can hold."""
    case = report.failing
    return {
        "exercise": report.exercise.name,
        "title": report.exercise.title,
        "score": report.score,
        "points": report.exercise.points,
        "passed": report.passed,
        "refused": report.refused,
        "checks": [
            {"title": c.title, "points": c.points, "passed": result is not None and result.passed,
             "problem": _problem(result)}
            for c, result in _with_results(report)
        ],
        "failing": None if case is None else failing(report, case),
        "diagnosis": report.diagnosis,
        "holds": [{"title": title, "holds": holds} for title, holds in report.properties],
        "printed": report.printed,
    }  # fmt: skip


def _with_results(report: Report) -> Iterable[tuple]:
    results = {id(result.check): result for result in report.results}
    return [(check, results.get(id(check))) for check in report.exercise.checks]


def _problem(result: Any) -> str:
    if result is None:
        return "was not asked"
    return next((case.problem for case in result.cases if case.problem), "")


def failing(report: Report, case: Case) -> dict[str, Any]:
    """A failing case as plain data: the call, its arrays, expected and got."""
    named = report.exercise.names(case.call)
    arrays, words = {}, []
    for name, value in named.items():
        parts = value if isinstance(value, (tuple, list)) else ()
        if isinstance(value, np.ndarray):
            arrays[name] = value
            words.append(name)
        elif any(isinstance(part, np.ndarray) for part in parts):
            arrays |= {f"{name}[{n}]": part for n, part in enumerate(parts)}
            words.append(f"*{name}")
        else:
            words.append(f"{name}={_short(value)}")
    check = next(r.check for r in report.results if any(c is case for c in r.cases))
    got = case.reply.arrays or []
    return {
        "check": check.title,
        "call": f"{case.call.function}({', '.join(words)})",
        "inputs": [{"name": name, **_as_data(array)} for name, array in arrays.items()],
        "problem": case.problem,
        "expected": [_as_data(array) for array in case.expected],
        "got": [_as_data(array) for array in got],
        "wrong": [
            None if w.shape != g.shape else (~same(w, g, check.tolerance)).tolist()
            for w, g in zip(case.expected, got, strict=False)
        ],
    }


def _as_data(array: np.ndarray) -> dict[str, Any]:
    """An array as plain data; its values only where a person would still read them."""
    values = array.tolist() if array.size <= ENTRIES else None
    return {"shape": list(array.shape), "dtype": str(array.dtype), "values": values}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def text(said: dict[str, Any], hint: str = "") -> str:
    """The feedback in plain text."""
    lines: list[str] = []
    if said["refused"]:
        lines += ["Your file could not be used:", _indented(said["refused"])]
    for check in said["checks"] if not said["refused"] else []:
        lines.append(f"  {'+' if check['passed'] else '-'} {check['title']}")
    if case := said["failing"]:
        lines += ["", f"The smallest failing case, of the check {case['check']!r}:", ""]
        lines += [f"  {case['call']}", ""]
        for array in case["inputs"]:
            lines += _labelled(array["name"], array)
        lines += [""] * bool(case["inputs"]) + _outcome(case)
    if said["diagnosis"]:
        lines += ["", _wrapped(f"Your output equals {said['diagnosis'].rstrip('.')}.")]
    if said["holds"]:
        lines += ["", "What holds of your code, and what does not:"]
        lines += [f"  {'yes' if p['holds'] else ' no'}  {p['title']}" for p in said["holds"]]
    if said["printed"]:
        lines += ["", "Your code printed:", _indented(_end_of(said["printed"]))]
    if hint and not said["passed"]:
        lines += ["", hint]
    return "\n".join(lines)


def _outcome(case: dict[str, Any]) -> list[str]:
    """Expected and got, side by side where both are small, the wrong cells marked."""
    if not case["got"] or not case["expected"]:
        return [f"  Your code: {_indented(case['problem'], 2).lstrip()}"]
    lines = []
    if not case["problem"].startswith("the values differ"):
        lines += [f"  Your function {case['problem']}.", ""]
    several = len(case["expected"]) > 1 or len(case["got"]) > 1
    for n, (want, got) in enumerate(zip(case["expected"], case["got"], strict=False)):
        wrong = case["wrong"][n]
        if several and wrong is not None and not np.any(wrong):
            continue  # this one is right
        number = f", output {n + 1}" if several else ""
        left = [f"expected{number} {_size(want)}", *grid(want)]
        right = [f"got{number} {_size(got)}", *grid(got, wrong)]
        width = max(map(len, left))
        if width + max(map(len, right)) > 92:
            lines += [f"  {line}" for line in [*left, "", *right]]
        else:
            rows = max(len(left), len(right))
            left += [""] * (rows - len(left))
            right += [""] * (rows - len(right))
            lines += [f"  {a:{width}}    {b}".rstrip() for a, b in zip(left, right, strict=True)]
        if wrong is not None and np.any(wrong) and np.size(wrong) > 1:
            count = int(np.sum(wrong))
            lines += ["", f"  {count} of {np.size(wrong)} wrong, marked {WRONG}"]
    return lines


def _size(array: dict[str, Any]) -> str:
    return f"{tuple(array['shape'])}" if array["shape"] else ""


def _labelled(name: str, array: dict[str, Any]) -> list[str]:
    rows = grid(array)
    head = f"  {name} {_size(array)} = "
    if len(rows) == 1:
        return [head + rows[0]]
    return [head.rstrip(), *(f"    {row}" for row in rows)]


def grid(array: dict[str, Any], wrong: Any = None) -> list[str]:
    """An array as lines of numbers, plane below plane; wrong cells carry a mark."""
    if array["values"] is None:
        return ["(too large to print)"]
    values = np.array(array["values"], dtype=object).reshape(array["shape"])
    marks = np.zeros(values.shape, bool) if wrong is None else np.array(wrong, bool)
    if values.ndim == 0:
        return [_number(values.item()) + (WRONG if marks.any() else "")]
    if values.size == 0:
        return ["(empty)"]
    cells = [_number(v) for v in values.flat]
    width = max(map(len, cells))
    places = iter(zip(cells, marks.flat, strict=True))
    flat = values.reshape(-1, values.shape[-1])
    rows = [
        " ".join(f"{cell:>{width}}{WRONG if bad else ' '}"
                 for cell, bad in (next(places) for _ in range(flat.shape[1]))).rstrip()
        for _ in range(flat.shape[0])
    ]  # fmt: skip
    if values.ndim <= 2:
        return rows
    planes = list(np.ndindex(values.shape[:-2]))
    if len(planes) == 1:
        return rows
    lines = []
    height = values.shape[-2]
    for number, place in enumerate(planes):
        lines.append(f"[{', '.join(map(str, place))}]")
        lines += [f"  {row}" for row in rows[number * height : (number + 1) * height]]
    return lines


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e6:
        return str(int(value))
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _end_of(printed: str, most: int = 600) -> str:
    """The last of what was printed, from a whole line on where there is one."""
    if len(printed.rstrip()) <= most:
        return printed.rstrip()
    last = printed.rstrip()[-most:]
    return "...\n" + (last.partition("\n")[2] or last)


def _indented(words: str, by: int = 2) -> str:
    return "\n".join(" " * by + line for line in words.splitlines())


def _wrapped(words: str) -> str:
    return textwrap.fill(words, 92)
