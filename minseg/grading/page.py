"""A student's feedback as one page of HTML, which needs nothing but itself.

No script and nothing fetched; light or dark as the reader's system is; fit to print. All that
comes from a student is escaped, and the page forbids itself to run or load anything.
"""

from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fff; --soft: #5f6770; --line: #d5dae0;
  --tint: #f4f6f8; --good: #14703c; --bad: #b3261e; --badtint: #fde3e1; --help: #eaf1fd;
  --helpline: #3566b8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --paper: #15181b; --soft: #9aa4ae;
  --line: #363c43; --tint: #1f2428; --good: #63c98d; --bad: #ff9d94; --badtint: #57211d;
  --help: #1b2a42; --helpline: #7fa8ee; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.25rem; margin: 0; }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
code, pre, td.n { font-family: ui-monospace, Consolas, monospace; font-size: .9rem; }
pre { background: var(--tint); padding: .6rem .8rem; margin: .4rem 0; white-space: pre-wrap; }
section { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: 1.5rem; }
.soft, footer { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.total { font-size: 1.25rem; margin: .2rem 0 1rem; }
.head { display: flex; justify-content: space-between; gap: 1rem; align-items: baseline; }
.score { white-space: nowrap; font-weight: 600; }
ul { list-style: none; padding: 0; margin: .4rem 0; } li { padding: .1rem 0 .1rem 1.6rem; }
li::before { float: left; margin-left: -1.6rem; font-weight: 700; }
li.yes::before { content: "\\2713"; color: var(--good); }
li.no::before { content: "\\2717"; color: var(--bad); }
.help { background: var(--help); border-left: 4px solid var(--helpline); padding: .6rem .9rem;
  margin: 1rem 0; }
.arrays { display: flex; flex-wrap: wrap; gap: .4rem 2.5rem; }
.array { max-width: 100%; overflow-x: auto; }
.array p { margin: .4rem 0 .2rem; }
.plane { margin: 0 0 .5rem; }
table { border-collapse: collapse; }
table.overview { width: 100%; margin: .5rem 0; }
.overview td { text-align: left; padding: .25rem .5rem .25rem 0;
  border-bottom: 1px solid var(--line); }
.overview td:last-child { text-align: right; white-space: nowrap; padding-right: 0; }
td.n { border: 1px solid var(--line); padding: .1rem .45rem; text-align: right; min-width: 1.6rem; }
td.wrong { background: var(--badtint); color: var(--bad); border: 2px solid var(--bad);
  font-weight: 700; print-color-adjust: exact; }
footer { border-top: 1px solid var(--line); margin-top: 2rem; padding-top: .8rem; font-size: .8rem; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } .array, tr, li, .help {
  break-inside: avoid; } h2, h3 { break-after: avoid; } .array { overflow: visible; } }
"""

FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def page(student: str, rows: list[dict[str, Any]]) -> str:
    """The page of a student, from the rows of the record: a summary of each exercise."""
    graded = [row for row in rows if row["score"] is not None]
    total = f"{sum(r['score'] for r in graded)} of {_points(sum(r['points'] for r in graded))}"
    if len(graded) < len(rows):
        missing = ", ".join(row["exercise"] for row in rows if row["score"] is None)
        total += f"; not graded yet: {missing}"
    body = [
        f"<header><h1>{escape(student)}</h1>",
        f'<p class="total">{escape(total)}</p>',
        _overview(rows) if len(rows) > 1 else "",
        "</header>",
        *map(_exercise, rows),
        _footer(rows),
    ]
    title = f"{escape(student)}: feedback"
    return FRAME.format(title=title, style=STYLE, body="\n".join(body))


def _overview(rows: list[dict[str, Any]]) -> str:
    lines = [f"<tr><td>{escape(row['title'])}</td><td>{_score(row)}</td></tr>" for row in rows]
    return "\n".join(['<table class="overview">', *lines, "</table>"])


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _score(row: dict[str, Any]) -> str:
    if row["score"] is None:
        return "not graded"
    return f"{row['score']} of {row['points']}"


def _exercise(row: dict[str, Any]) -> str:
    parts = [
        f'<section><div class="head"><h2>{escape(row["title"])}</h2>'
        f'<span class="score">{_score(row)}</span></div>',
        f'<p class="soft"><code>{escape(row["exercise"])}.py</code></p>',
    ]
    if row["score"] is None:
        parts += ["<p>The grader failed here, not your code. It will be graded again.</p>"]
    elif row["refused"]:
        parts += ["<p>Your file could not be used:</p>", _verbatim(row["refused"])]
    else:
        items = [(c["passed"], f"{c['title']} ({_points(c['points'])})") for c in row["checks"]]
        parts += ["<h3>Checks</h3>", _list(items)]
    if row["failing"]:
        parts += _failing(row["failing"])
    if row["diagnosis"]:
        parts += [f'<p class="help">Your output equals {escape(row["diagnosis"])}.</p>']
    if row["holds"]:
        items = [(p["holds"], p["title"]) for p in row["holds"]]
        parts += ["<h3>What holds of your code, and what does not</h3>", _list(items)]
    if row["printed"].strip():
        parts += ["<h3>What your code printed</h3>", _verbatim(row["printed"].strip())]
    return "\n".join([*parts, "</section>"])


def _list(items: list[tuple[bool, str]]) -> str:
    """Ticks and crosses, which a reader of the page aloud hears as words."""
    lines = [
        f'<li class="{"yes" if good else "no"}" aria-label="{"yes" if good else "no"}: '
        f'{escape(title)}">{escape(title)}</li>'
        for good, title in items
    ]
    return "\n".join(["<ul>", *lines, "</ul>"])


def _failing(case: dict[str, Any]) -> list[str]:
    """The call, its arrays, and expected and got side by side."""
    parts = [
        "<h3>The smallest failing case</h3>",
        f'<p class="soft">of the check “{escape(case["check"])}”</p>',
        f"<pre>{escape(case['call'])}</pre>",
        '<div class="arrays">',
        *(_array(array["name"], array) for array in case["inputs"]),
        "</div>",
    ]
    if not case["got"] or not case["expected"]:
        return [*parts, "<p>Your code:</p>", _verbatim(case["problem"])]
    if not case["problem"].startswith("the values differ"):
        parts += [f"<p>Your function {escape(case['problem'])}.</p>"]
    pairs = list(zip(case["expected"], case["got"], case["wrong"], strict=False))
    for number, (want, got, wrong) in enumerate(pairs):
        marks = _flat(wrong)
        if len(pairs) > 1 and wrong is not None and not any(marks):
            continue  # this one is right
        which = f", output {number + 1}" if len(pairs) > 1 else ""
        parts += [
            '<div class="arrays">',
            _array(f"expected{which}", want),
            _array(f"got{which}", got, marks),
            "</div>",
        ]
        if any(marks):
            count = f"{sum(marks)} of {len(marks)}"
            parts += [f'<p class="bad">{count} wrong, framed in red.</p>']
    return parts


def _array(name: str, array: dict[str, Any], wrong: list[bool] | None = None) -> str:
    """An array as tables, one for each plane of its last two axes; wrong cells are marked."""
    shape = tuple(array["shape"])
    size = f'<span class="soft">{escape(str(shape or ""))}</span>'
    parts = [f'<div class="array"><p><b>{escape(name)}</b> {size}</p>']
    if array["values"] is None:
        return parts[0] + '<p class="soft">too large to show</p></div>'
    values = _flat(array["values"])
    if not values:
        return parts[0] + '<p class="soft">empty</p></div>'
    marks = wrong or [False] * len(values)
    columns = shape[-1] if shape else 1
    rows = shape[-2] if len(shape) > 1 else 1
    cells = [
        f'<td class="n{" wrong" if bad else ""}">{escape(_number(value))}</td>'
        for value, bad in zip(values, marks, strict=True)
    ]
    lines = ["".join(cells[n : n + columns]) for n in range(0, len(cells), columns)]
    for plane, first in enumerate(range(0, len(lines), rows)):
        if len(lines) > rows:
            place = ", ".join(map(str, _place(plane, shape[:-2])))
            parts.append(f'<p class="soft">[{place}]</p>')
        body = "".join(f"<tr>{line}</tr>" for line in lines[first : first + rows])
        parts.append(f'<table class="plane">{body}</table>')
    return "\n".join([*parts, "</div>"])


def _flat(values: Any) -> list:
    """The entries of nested lists."""
    if isinstance(values, list):
        return [entry for part in values for entry in _flat(part)]
    return [] if values is None else [values]


def _place(number: int, shape: tuple[int, ...]) -> list[int]:
    """The index of the number-th plane: the digits of the number, counted by the shape."""
    place: list[int] = []
    for size in reversed(shape):
        number, digit = divmod(number, size)
        place.insert(0, digit)
    return place


def _number(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e6 else f"{value:.4g}"
    return str(value)  # whole numbers, True and False, and the words nan and inf


def _verbatim(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def _footer(rows: list[dict[str, Any]]) -> str:
    """What was graded, by what, and how it was locked in."""
    lines = [
        f"{row['exercise']}: graded {row['graded']}, minseg {row['versions']['minseg']}, NumPy "
        f"{row['versions']['numpy']}, isolation {row['isolation']}, sha256 {row['sha256'][:16]}"
        for row in rows
        if row["versions"]
    ]
    return "<footer>" + "<br>".join(map(escape, lines)) + "</footer>" if lines else ""
