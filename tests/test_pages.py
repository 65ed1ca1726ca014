"""The lectures' pages: their formulas are the code's own, and they fetch nothing."""

import importlib.util
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

PAGES = Path(__file__).parent.parent / "lectures" / "pages"
PAGE = (PAGES / "fractionally_strided.html").read_text(encoding="utf-8")
# What makes a browser fetch: by a tag's attribute, by a style sheet, by a script.
FETCHING = {"src", "srcset", "href", "action", "formaction", "data", "poster", "ping", "background"}
STYLE = re.compile(r"@import|url\(|image-set\(", re.IGNORECASE)
SCRIPT = re.compile(
    r"fetch\(|XMLHttpRequest|WebSocket|EventSource|sendBeacon|Worker\(|importScripts|\bimport\b"
    r"|new Image|createElement\(\"(script|link|img|iframe)|\.src\b|\.href\b|location\s*=|window\.open"
)


def maker():
    file = PAGES / "make_fractionally_strided.py"
    spec = importlib.util.spec_from_file_location("make_fractionally_strided", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resources(page):
    """Everything outside itself that a page could load: attributes, style rules, script calls."""
    found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", page)

    class Reader(HTMLParser):
        inside = ""

        def handle_starttag(self, tag, attributes):
            self.inside = tag
            for name, value in attributes:
                if name in FETCHING and not (value or "").startswith("data:"):
                    found.append(f"<{tag} {name}={value}>")
                if name == "style" and STYLE.search(value or ""):
                    found.append(value)

        def handle_data(self, text):
            pattern = {"style": STYLE, "script": SCRIPT}.get(self.inside)
            if pattern and (match := pattern.search(text)):
                found.append(match[0])

    Reader().feed(page)
    return found


def test_the_pages_formulas_are_those_the_code_writes_down():
    assert maker().filled(PAGE) == PAGE, "run python lectures/pages/make_fractionally_strided.py"


def test_a_page_whose_formulas_were_changed_is_made_right_again():
    assert PAGE.count('"k11*x00"') == 3  # one of the cells where all three routes agree
    assert maker().filled(PAGE.replace('"k11*x00"', '"k22*x00"')) == PAGE


def test_the_turned_kernel_makes_all_81_outputs_equal_and_the_same_one_only_16():
    data = json.loads(re.search(r'id="polynomials">(.*?)</script>', PAGE, re.DOTALL)[1])

    def agreeing(route):
        return [
            (i, j)
            for i, row in enumerate(data[route])
            for j, formula in enumerate(row)
            if formula == data["transposed"][i][j]
        ]

    assert len(agreeing("turned")) == 81
    assert agreeing("same") == [(i, j) for i in (1, 3, 5, 7) for j in (1, 3, 5, 7)]
    assert data["transposed"][4][4] == "k22*x11 + k20*x12 + k02*x21 + k00*x22"


def test_the_page_loads_nothing_from_outside():
    assert resources(PAGE) == []
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]*)"', PAGE)[1]
    assert policy.startswith("default-src 'none';")  # so the browser holds it to that too


@pytest.mark.parametrize(
    "line",
    [
        '<script src="plot.js"></script>',
        '<link rel="stylesheet" href="style.css">',
        '<img alt="" src="x.png">',
        "<style>@import 'a.css';</style>",
        "<style>p { background: url(a.png) }</style>",
        "<script>fetch('data.json')</script>",
        "<script>import('./a.js')</script>",
        "<p>https://example.org</p>",
    ],
)
def test_a_line_that_would_load_something_is_seen(line):
    assert resources(PAGE.replace("</body>", line + "</body>"))
