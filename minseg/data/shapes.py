"""Scenes of disks, squares, triangles and rings on a textured ground, drawn as they are asked for.

The smallest problem that has all of the real one: objects hide each other, colour says nothing
about the class, most pixels are background, and borders are void as in Pascal VOC.
Source of the labels: Waterloo, "Fully-supervised Semantic Segmentation".
"""

import numpy as np

from minseg.data.dataset import SHAPES, VOID, Pair, Scenes, bilinear_weights, flip_horizontal

# The signed distance, in pixels, of the point (u, v) from the border of a shape of radius r around
# (0, 0), negative inside. The four have about the same area, so the classes are equally frequent.
DISTANCES = {
    "disk": lambda u, v, r: np.hypot(u, v) - r,
    "square": lambda u, v, r: np.maximum(np.abs(u), np.abs(v)) - 0.9 * r,
    "triangle": lambda u, v, r: np.maximum(0.75**0.5 * np.abs(u) + v / 2, -v) - 0.75 * r,
    "ring": lambda u, v, r: np.abs(np.hypot(u, v) - 0.9 * r) - 0.35 * r,
}
CLASS_NAMES = ["background", *DISTANCES]
RADIUS = (0.10, 0.16)  # of a shape, as a part of the scene's shorter side
CONTRAST = 0.25  # the least difference of a shape from the ground, in every colour channel


class Shapes(Scenes):
    """2 to 5 shapes, turned at random, the later over the earlier: image (3, H, W), labels (H, W).

    Classes: 0 background, 1 disk, 2 square, 3 triangle, 4 ring. Void is one pixel on both sides of
    every border, be it between an object and the ground or between two objects: 9 % of the
    pixels. Of the others 86 % are background.
    """

    name = "shapes"
    class_names = CLASS_NAMES
    channels = 3
    augmentations = (flip_horizontal,)
    purpose = SHAPES
    default_size = 64
    default_lengths = (400, 100)
    smallest = 32

    def draw(self, rng: np.random.Generator) -> Pair:
        """One scene: image (3, H, W) and labels (H, W)."""
        H, W = self.size
        ground = rng.random(3, np.float32)
        image = ground[:, None, None] + texture(rng, H, W)
        objects = np.zeros((H, W), np.int64)  # 0 for the ground, then 1, 2, .. as they are drawn
        classes = [0]
        y, x = np.arange(H, dtype=np.float32)[:, None], np.arange(W, dtype=np.float32)
        for number in range(1, rng.integers(2, 6) + 1):
            label = int(rng.integers(1, self.num_classes))
            r = rng.uniform(*RADIUS) * min(H, W)
            dy, dx = y - rng.uniform(r, H - r), x - rng.uniform(r, W - r)
            angle = rng.uniform(0, 2 * np.pi)
            u = np.float32(np.cos(angle)) * dx + np.float32(np.sin(angle)) * dy
            v = np.float32(np.cos(angle)) * dy - np.float32(np.sin(angle)) * dx
            distance = DISTANCES[self.class_names[label]](u, v, np.float32(r))
            # Each channel moves on by 1/4 to 3/4 on the circle [0, 1): any colour but the ground's.
            shift = rng.uniform(CONTRAST, 1 - CONTRAST, 3)
            colour = ((ground + shift) % 1).astype(np.float32)[:, None, None]
            cover = np.clip(0.5 - distance, 0, 1)  # a border pixel is covered in part
            image += cover * (colour - image)
            objects[distance < 0] = number
            classes.append(label)
        labels = np.array(classes)[objects]
        labels[borders(objects)] = VOID
        image += 0.03 * rng.standard_normal(image.shape, np.float32)
        return np.clip(image, 0, 1, out=image), labels


def texture(rng: np.random.Generator, H: int, W: int) -> np.ndarray:
    """Smooth noise around 0, (3, H, W): random values on two grids, with a knot every 16 and every
    4 pixels, and bilinear interpolation between the knots."""
    total = np.zeros((3, H, W), np.float32)
    for step, strength in ((16, 0.12), (4, 0.08)):
        rows, columns = H // step + 2, W // step + 2
        knots = strength * rng.standard_normal((3, rows, columns), np.float32)
        A = bilinear_weights(np.arange(H) / step, rows)
        B = bilinear_weights(np.arange(W) / step, columns)
        total += A @ knots @ B.T  # (H, rows) x (3, rows, columns) x (columns, W) -> (3, H, W)
    return total


def borders(objects: np.ndarray) -> np.ndarray:
    """True where a pixel of the map (H, W) has another object above, below, left or right of it:
    one pixel on both sides of every border. Bool, (H, W)."""
    border = np.zeros(objects.shape, bool)
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        differs = objects[here] != objects[there]
        border[here] |= differs
        border[there] |= differs
    return border
