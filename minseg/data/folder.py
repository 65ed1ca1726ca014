"""Your own pictures: a folder with images/ and masks/, a mask being an image of class ids.

The palette images of Pascal VOC's SegmentationClass are such masks, void 255 included.
Source: Waterloo, "Fully-supervised Semantic Segmentation".
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from minseg.arguments import integer
from minseg.data.dataset import (
    SPLITS,
    VOID,
    Dataset,
    Pair,
    center_crop,
    check_size,
    check_split,
    flip_horizontal,
    random_crop,
)

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
DEEP_MODES = ("I;16", "I")  # Pillow's names for grey with 16 bits a pixel
GREY_MODES = ("1", "L", *DEEP_MODES)
MASK_MODES = ("P", *GREY_MODES)  # what holds one number per pixel


class Folder(Dataset):
    """The pairs images/NAME.png (or .jpg) and masks/NAME.png of a folder: image (C, H, W), C being
    1 if all images are grey and else 3, and labels (H, W).

    A mask is a palette or grey PNG; its numbers are the class ids, 255 is void. classes.txt, one
    name a line, names the classes; without it all masks are read to find the largest id. Pairs are
    sorted by name and every 5th is for testing, unless train.txt or test.txt lists names, one a
    line; with only one of them the other split is the rest.

    `size`, an int or (H, W), makes all pictures equally large for batches: test pictures are cut to
    their middle, training pictures by the first of `augmentations`, a random crop. Nothing is
    resized. `length` keeps the first so many pairs of the split.

    Raises FileNotFoundError or ValueError, naming the file: a folder missing, no pair, a mask that
    differs in size from its image, a mask value that is no class.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        split: str = "train",
        size: int | tuple[int, int] | None = None,
        seed: int = 0,
        length: int | None = None,
    ):
        check_split("Folder", split)
        self.path = Path(path)
        self.name = self.path.name or str(self.path)
        crop = None if size is None else check_size("Folder", size)
        every_pair = find_pairs(self.path)
        names = split_names(self.path, sorted(every_pair), split)
        if length is not None:
            names = names[: integer("Folder", "length", length, 1)]
        self.pairs = [every_pair[name] for name in names]
        files = sorted((self.path / "images").iterdir())
        self.unused = [f.name for f in files if f.stem not in every_pair and _is_image(f)]
        super().__init__(split, integer("Folder", "seed", seed, 0), len(names))

        # Opening reads no pixels, only the head of a file.
        heads = {name: head(image, mask) for name, (image, mask) in every_pair.items()}
        self.channels = 1 if all(grey for grey, _ in heads.values()) else 3
        sizes = {heads[name][1] for name in names}
        self.size = sizes.pop() if len(sizes) == 1 else None
        self.class_names = class_names(self.path, [mask for _, mask in every_pair.values()])

        self.crop = None
        if crop is None:
            self.augmentations = (flip_horizontal,)
        elif split == "train":
            self.augmentations = (random_crop(crop), flip_horizontal)
        else:
            self.crop = self.size = crop

    def item(self, index: int) -> Pair:
        """Pair `index`: image float32 (C, H, W) and labels int64 (H, W)."""
        image_file, mask_file = self.pairs[index]
        labels = read_mask(mask_file)
        wrong = (labels >= self.num_classes) & (labels != VOID)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise ValueError(
                f"{mask_file}: row {row}, column {column} holds {labels[row, column]}, but there "
                f"are {self.num_classes} classes: 0..{self.num_classes - 1}, or 255 for void"
            )
        image = read_image(image_file, self.channels)
        if self.crop is not None:
            return center_crop(image, labels, self.crop)
        return image, labels


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")


def find_pairs(folder: Path) -> dict[str, tuple[Path, Path]]:
    """The files (image, mask) of every name that has both."""
    found: dict[str, dict[str, Path]] = {}
    for part, suffixes in (("images", IMAGE_SUFFIXES), ("masks", (".png",))):
        if not (folder / part).is_dir():
            raise FileNotFoundError(
                f"{folder}: a data folder holds images/ and masks/, but {folder / part} is no "
                "folder"
            )
        found[part] = {}
        for file in sorted((folder / part).iterdir()):
            if file.suffix.lower() not in suffixes or file.name.startswith("."):
                continue
            if file.stem in found[part]:
                other = found[part][file.stem].name
                raise ValueError(f"{file}: {other} has the same name; keep one of them")
            found[part][file.stem] = file
    images, masks = found["images"], found["masks"]
    pairs = {name: (images[name], masks[name]) for name in images if name in masks}
    if not pairs:
        raise ValueError(
            f"{folder}: none of the {len(images)} images has a mask of the same name, such as "
            "images/cat.jpg and masks/cat.png"
        )
    return pairs


def split_names(folder: Path, names: list[str], split: str) -> list[str]:
    """The names that belong to the split, in the order of its list or else sorted."""
    listed = {s: read_lines(folder / f"{s}.txt") for s in SPLITS if (folder / f"{s}.txt").is_file()}
    for which, lines in listed.items():
        for name in lines:
            if name not in names:
                raise ValueError(
                    f"{folder / which}.txt: it lists {name!r}, but there is no images/{name} with "
                    f"masks/{name}.png (names stand without .png or .jpg)"
                )
    if split in listed:
        chosen = listed[split]
    elif listed:
        (other,) = listed.values()
        chosen = [name for name in names if name not in other]
    else:
        chosen = [name for i, name in enumerate(names) if (i % 5 == 4) == (split == "test")]
    if not chosen:
        raise ValueError(
            f"{folder}: no picture is left for the {split} split of its {len(names)} pairs; list "
            f"some in {split}.txt, one name a line"
        )
    return chosen


def class_names(folder: Path, masks: list[Path]) -> list[str]:
    """The K names in classes.txt, or "class 0" .. as far as the ids in the masks (H, W) reach."""
    if (folder / "classes.txt").is_file():
        names = read_lines(folder / "classes.txt")
        if not 2 <= len(names) <= VOID:
            raise ValueError(
                f"{folder / 'classes.txt'}: 2 to 255 names are wanted, one a line, the first for "
                f"label 0; it has {len(names)}"
            )
        seen = np.unique(np.concatenate([np.unique(read_mask(mask)) for mask in masks[:20]]))
        if set(seen.tolist()) <= {0, VOID}:
            raise ValueError(
                f"{folder}: the first masks hold nothing but 0 and 255, background and void; class "
                f"ids are small numbers: 1 for {names[1]} (they look black)"
            )
        return names
    largest = 0
    for mask in masks:
        labels = read_mask(mask)
        largest = max(largest, int(labels[labels != VOID].max(initial=0)))
    if largest == 0:
        raise ValueError(
            f"{folder}: its masks hold nothing but 0 and 255, background and void; class ids are "
            "small numbers, 1, 2, .. (they look black)"
        )
    if largest > VOID:
        raise ValueError(f"{folder}: its masks hold {largest}; class ids are 0..254, void is 255")
    return [f"class {k}" for k in range(largest + 1)]


def head(image_file: Path, mask_file: Path) -> tuple[bool, tuple[int, int]]:
    """Whether the image is grey, and its (H, W); ValueError if the mask has another size or is no
    image of numbers."""
    with open_image(image_file) as image, open_image(mask_file) as mask:
        if image.size != mask.size:
            raise ValueError(
                f"{mask_file}: the mask is {mask.height} x {mask.width} pixels (H x W), but "
                f"{image_file.name} is {image.height} x {image.width}"
            )
        if mask.mode not in MASK_MODES:
            raise ValueError(
                f"{mask_file}: a mask is a palette or grey PNG whose values are class ids, but "
                f"this one is {mask.mode}"
            )
        return image.mode in GREY_MODES, (image.height, image.width)


def read_mask(file: Path) -> np.ndarray:
    """The class ids of a mask, int64 (H, W)."""
    with open_image(file) as mask:
        return np.array(mask).astype(np.int64)


def read_image(file: Path, channels: int) -> np.ndarray:
    """An image as float32 (channels, H, W), values 0..1."""
    with open_image(file) as picture:
        if picture.mode in DEEP_MODES:  # Pillow's own conversion would cut off at 255
            values = np.array(picture, np.float32)[None] / 65535
            return np.repeat(values, channels, axis=0)
        try:
            values = np.array(picture.convert("L" if channels == 1 else "RGB"), np.float32) / 255
        except OSError as error:
            raise ValueError(f"{file}: the picture is damaged ({error})") from None
    # (H, W) -> (1, H, W), or (H, W, 3) -> (3, H, W)
    return values[None] if channels == 1 else np.ascontiguousarray(values.transpose(2, 0, 1))


def open_image(file: Path) -> "Image":
    """The opened file, its pixels (H, W) not yet read; ValueError if it is no image."""
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except UnidentifiedImageError:
        raise ValueError(f"{file}: this file is no image") from None


def read_lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty, without the space around them."""
    return [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
