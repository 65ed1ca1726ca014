"""Films: figures played one after the other in a notebook or browser, or laid out side by side.

A film is a page of its own that holds all its pictures and its buttons, and fetches nothing. Lectures
draw the frames with plot.py and say plot.film.
"""

import base64
import io
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from minseg.files import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH = 850  # dots, 100 an inch: what fits a notebook cell
_PLAYER = """
<div id="%(id)s">
<img alt="a film: the buttons step through it" src="data:image/png;base64,%(first)s"><br>
<button>|&lt;</button> <button>&lt;</button> <button>play</button> <button>&gt;</button>
<button>&gt;|</button> <input type="range" value="1" min="1" max="%(count)d"> <span>1 / %(count)d</span>
<script>
(() => {
  const film = document.getElementById("%(id)s"), frames = %(frames)s;
  const [slider, count] = [film.querySelector("input"), film.querySelector("span")];
  const [first, back, play, forward, last] = film.querySelectorAll("button");
  let now = 0, timer = null;
  const show = (n) => {
    now = Math.max(0, Math.min(frames.length - 1, n));
    film.querySelector("img").src = "data:image/png;base64," + frames[now];
    slider.value = now + 1;
    count.textContent = (now + 1) + " / " + frames.length;
  };
  const stop = () => { clearInterval(timer); timer = null; play.textContent = "play"; };
  const next = () => { show(now + 1); if (now === frames.length - 1) stop(); };
  first.onclick = () => { stop(); show(0); };
  back.onclick = () => { stop(); show(now - 1); };
  forward.onclick = () => { stop(); show(now + 1); };
  last.onclick = () => { stop(); show(frames.length - 1); };
  slider.oninput = () => { stop(); show(slider.value - 1); };
  play.onclick = () => {
    if (timer) return stop();
    show(now === frames.length - 1 ? 0 : now);  // from the end it begins anew
    timer = setInterval(next, 1000);
    play.textContent = "stop";
  };
})();
</script>
</div>
"""


class Film:
    """A page that plays pictures one after the other, forwards, backwards or step by step."""

    def __init__(self, html: str) -> None:
        self.html = html

    def _repr_html_(self) -> str:
        return self.html


def film(frames: "Sequence[Figure]", path: str | os.PathLike | None = None) -> Film:
    """The figures as a film to step through in a notebook or browser; it fetches nothing.

    (matplotlib's to_jshtml fetches the icons of its buttons, and its frames are twice as large.)

    Args:
        frames: figures of one size. Small ones of few colours: all of them go into the page.
        path: where to save the page too, such as "film.html".

    Raises:
        ValueError: no frame, or frames of different sizes.
    """
    pictures = []
    for picture in _drawn("film", frames):
        file = io.BytesIO()
        picture.quantize(128, dither=0).save(file, "PNG", optimize=True)
        pictures.append(base64.b64encode(file.getvalue()).decode())
    html = _PLAYER % {
        "id": f"film-{uuid4().hex}",
        "first": pictures[0],
        "frames": json.dumps(pictures),
        "count": len(pictures),
    }
    if path is not None:
        with written_whole(Path(path)) as part:
            part.write_text(html, encoding="utf-8")
    return Film(html)


def filmstrip(frames: "Sequence[Figure]") -> "Figure":
    """The frames of a film side by side, row by row: for pages that cannot play it.

    Raises:
        ValueError: no frame, or frames of different sizes.
    """
    from matplotlib.figure import Figure

    pictures = [np.asarray(picture) for picture in _drawn("filmstrip", frames)]
    H, W, _ = pictures[0].shape
    columns = max(1, _WIDTH // W)
    rows = math.ceil(len(pictures) / columns)
    strip = np.full((rows, columns, H, W, 3), 255, np.uint8)
    for n, picture in enumerate(pictures):
        strip[divmod(n, columns)] = picture
    # (ROWS, COLUMNS, H, W, 3) -> (ROWS * H, COLUMNS * W, 3), a pixel of a frame on a pixel
    strip = strip.swapaxes(1, 2).reshape(rows * H, columns * W, 3)
    figure = Figure(figsize=(columns * W / 100, rows * H / 100), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1), frame_on=False, xticks=[], yticks=[])
    ax.imshow(strip, interpolation="nearest")
    return figure


def _drawn(function: str, frames: "Sequence[Figure]") -> list[Any]:
    """The figures as pillow's images, all of one size."""
    from PIL import Image

    pictures = []
    for figure in frames:
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=figure.dpi)
        pictures.append(Image.open(file).convert("RGB"))
    sizes = sorted({picture.size for picture in pictures})
    if len(sizes) != 1:
        raise ValueError(
            f"{function}: frames must be figures of one size, got "
            f"{' and '.join(map(str, sizes)) or 'none'}"
        )
    return pictures
