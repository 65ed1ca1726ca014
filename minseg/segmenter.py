"""A network with all it takes to label a picture, and the file it is kept in."""

import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minseg import models
from minseg.backend import Array, array_module, to_numpy
from minseg.files import written_whole
from minseg.nn import Dropout, Module
from minseg.tensor import Tensor, no_grad

FORMAT = 1  # of checkpoint files; a reader refuses what is newer than itself


class Segmenter(Module):
    """A network, the names of its classes, and how its images are normalised.

    network: a Module from models.build, (N, C, H, W) -> (N, K, H, W).
    class_names: the K names, background first.
    mean, std: (C,), subtracted from and divided into every image; part of the saved weights.
    """

    def __init__(
        self, network: Module, class_names: Sequence[str], mean: Any = 0.0, std: Any = 1.0
    ) -> None:
        self.network = network
        self.class_names = [str(name) for name in class_names]
        self.mean: Array = np.asarray(mean, np.float32).reshape(-1, 1, 1)
        self.std: Array = np.asarray(std, np.float32).reshape(-1, 1, 1)

    def forward(self, images: Any) -> Any:
        """Scores of every class for every pixel: (N, C, H, W) -> (N, K, H, W)."""
        return self.network((images - self.mean) / self.std)

    def predict(self, images: Array) -> np.ndarray:
        """The class of every pixel: images (N, C, H, W), values 0..1 -> labels (N, H, W), int64."""
        was_training = self.training
        self.eval()
        try:
            with no_grad():
                images = array_module(self.mean).asarray(images, dtype=np.float32)
                return to_numpy(self(Tensor(images)).data.argmax(axis=1)).astype(np.int64)
        finally:
            self.train(was_training)


def save(
    path: str | os.PathLike, segmenter: Segmenter, record: dict[str, Any] | None = None,
    optimizer_state: dict[str, np.ndarray] | None = None,
) -> None:  # fmt: skip
    """Write a checkpoint: weights, how to build the network, class names, normalisation, and what a
    training needs to go on (optimiser state, states of the random generators, `record`).

    An .npz of plain arrays, no pickle; the rest is JSON in one of them. Written whole or not at all.

    Raises:
        ValueError: the network was not made by models.build, so a file could not rebuild it.
    """
    built = getattr(segmenter.network, "built", None)
    if built is None:
        raise ValueError(
            "save: the network must come from models.build, so that load can rebuild it"
        )
    about = {
        "format": FORMAT,
        "network": built,
        "class_names": segmenter.class_names,
        "random": {
            name: module.rng.bit_generator.state
            for name, module in segmenter.named_modules()
            if isinstance(module, Dropout)
        },
        "record": record or {},
    }
    arrays = {f"model.{name}": array for name, array in segmenter.state_dict().items()}
    arrays |= {f"optimizer.{name}": array for name, array in (optimizer_state or {}).items()}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    with written_whole(path) as part, open(part, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: str | os.PathLike) -> tuple[Segmenter, dict[str, Any], dict[str, np.ndarray]]:
    """Read a checkpoint back: the Segmenter, its record, and the optimiser's state.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no checkpoint, is damaged, or comes from a newer version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load: there is no checkpoint {path}")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        about = json.loads(arrays.pop("about").tobytes())
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
        raise ValueError(f"load: {path} is no checkpoint of minseg, or damaged") from None
    if about["format"] > FORMAT:
        raise ValueError(f"load: {path} was written by a newer version of minseg; update this one")
    state = _under("model.", arrays)
    network = models.build(**about["network"])
    segmenter = Segmenter(network, about["class_names"], state["mean"], state["std"])
    segmenter.load_state_dict(state)
    modules = dict(segmenter.named_modules())
    for name, random_state in about["random"].items():
        modules[name].rng.bit_generator.state = random_state  # type: ignore[attr-defined]
    return segmenter, about["record"], _under("optimizer.", arrays)


def _under(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
