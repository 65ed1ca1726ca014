"""Films: every frame on the page, nothing fetched; strips that hold the frames pixel for pixel."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from minseg import plot


def film_frames(count=5):
    return [plot.matrix(np.full((2, 3), n), title=f"step {n}", largest=9) for n in range(count)]


def picture(figure):
    """The figure as it is drawn, (H, W, 3) uint8."""
    file = io.BytesIO()
    figure.savefig(file, dpi=figure.dpi)
    return np.asarray(Image.open(file).convert("RGB"))


class Page(HTMLParser):
    """What a page holds: its tags' attributes, the texts of its buttons."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.buttons = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag == "button":
            self.buttons.append("")

    def handle_data(self, data):
        if self.tags[-1:] == ["button"]:
            self.buttons[-1] += data.strip()


def test_a_film_fetches_nothing_and_its_buttons_are_words():
    html = plot.film(film_frames())._repr_html_()
    page = Page(html)
    assert page.buttons == ["|<", "<", "play", ">", ">|"]
    assert set(page.tags) == {"div", "img", "br", "button", "input", "span", "script"}
    (first,) = (value for name, value in page.attributes if name in ("src", "href"))
    assert first.startswith("data:image/png;base64,")
    program = re.sub(r'"[A-Za-z0-9+/=]{99,}"', "", html.replace(first, ""))
    assert len(program) < 3000
    assert not re.search(r"http|url\(|import|fetch|XMLHttp", program)


def test_a_film_holds_every_frame_as_it_is_drawn():
    frames = film_frames()
    html = plot.film(frames).html
    found = json.loads(re.search(r"frames = (\[.*?\]);", html)[1])
    assert len(found) == len(frames)
    assert f'src="data:image/png;base64,{found[0]}"' in html  # to be seen where no program may run
    for figure, encoded in zip(frames, found, strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
        error = np.abs(np.asarray(shown, float) - picture(figure))
        assert error.max() < 60  # 128 colours do for black words on a few tints
        assert error.mean() < 0.5


def test_two_films_on_one_page_do_not_share_a_name():
    one, other = (set(re.findall(r'id="([^"]+)"', plot.film(film_frames(2)).html)) for _ in "ab")
    assert one
    assert not one & other


def test_a_film_is_saved_as_a_page(tmp_path):
    path = tmp_path / "new folder" / "film.html"
    film = plot.film(film_frames(2), path)
    assert path.read_text("utf-8") == film.html
    assert list(path.parent.iterdir()) == [path]


def test_a_filmstrip_shows_the_frames_row_by_row_pixel_for_pixel():
    frames = film_frames(5)
    strip = picture(plot.filmstrip(frames))
    H, W, _ = picture(frames[0]).shape
    columns = 850 // W
    assert 1 < columns < 5  # or this test shows nothing
    assert strip.shape == (-(-5 // columns) * H, columns * W, 3)
    for n, figure in enumerate(frames):
        row, column = divmod(n, columns)
        found = strip[row * H : (row + 1) * H, column * W : (column + 1) * W]
        np.testing.assert_array_equal(found, picture(figure))


@pytest.mark.parametrize("function", [plot.film, plot.filmstrip])
def test_frames_of_different_sizes_or_none_are_refused(function):
    name = function.__name__
    with pytest.raises(ValueError, match=f"{name}: frames must be figures of one size, got none"):
        function([])
    frames = [plot.matrix(np.eye(2)), plot.matrix(np.eye(3))]
    with pytest.raises(ValueError, match=rf"{name}: .* got \(154, 130\) and \(21\d, 1\d\d\)"):
        function(frames)
