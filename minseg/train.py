"""Training a network, and measuring how good it is: one readable loop each.

Source: University of Waterloo, "Assignment 5"; Deep Learning for Vision (2024-2025), "Training".
"""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import models
from minseg import segmenter as checkpoints
from minseg.arguments import integer, one_of
from minseg.backend import device_of, to_device
from minseg.data import Dataset, Loader
from minseg.metrics import ConfusionMatrix
from minseg.optim import SGD, Adam, Optimizer, Schedule, cosine_schedule, step_schedule
from minseg.segmenter import Segmenter
from minseg.tensor import Tensor

SCHEDULES = ("cosine", "step", "constant")
OPTIMIZERS = {"adam": Adam, "sgd": SGD}
SAVE_EVERY = 50  # steps between checkpoints


def fit(
    segmenter: Segmenter,
    loader: Loader,
    optimizer: Optimizer,
    steps: int,
    schedule: Schedule | None = None,
    *,
    start: int = 0,
    weight: Any = None,
    after_step: Callable[[int, float], Any] | None = None,
) -> None:
    """Train from step `start` to step `steps`, on the device the segmenter is on.

    Batches, images (N, C, H, W) and labels (N, H, W), come from loader.batch(step), so a run that
    goes on at a later step sees what it would have seen. weight (K,) weighs the classes.
    after_step(steps done, loss) is called after each step; if it returns True, training stops.

    Raises:
        FloatingPointError: the loss is not finite; the weights are still those before that step.
    """
    segmenter.train()
    device = device_of(segmenter.mean)
    for step in range(start, steps):
        images, labels = (to_device(array, device) for array in loader.batch(step))
        loss = F.cross_entropy(segmenter(Tensor(images)), labels, weight)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(
                f"fit: the loss is {value} at step {step}, learning rate {optimizer.lr:.2g}: the rate "
                "may be too high (try a tenth of it), or an image holds NaN"
            )
        if schedule is not None:
            optimizer.lr = schedule(step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if after_step is not None and after_step(step + 1, value):
            break


def evaluate(segmenter: Segmenter, dataset: Dataset, batch_size: int = 8) -> ConfusionMatrix:
    """Label every image of a data set, and count: rows truth, columns prediction, void left out."""
    matrix = ConfusionMatrix(dataset.num_classes, dataset.void, dataset.class_names)
    loader = Loader(dataset, 1 if dataset.size is None else batch_size, shuffle=False)
    for images, labels in loader.epoch():
        matrix.update(labels, segmenter.predict(images))
    return matrix


def normalisation(dataset: Dataset, images: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel over the first so many images: (C,) and (C,)."""
    pixels = [dataset[n][0].reshape(dataset.channels, -1) for n in range(min(images, len(dataset)))]
    together = np.concatenate(pixels, axis=1, dtype=np.float64)  # (C, L)
    return together.mean(axis=1), np.maximum(together.std(axis=1), 1e-3)


@contextmanager
def stop_politely() -> Iterator[Callable[[], bool]]:
    """Inside, the first Ctrl-C only asks to stop after the step at hand; the second one insists.

    Gives a function that says whether to stop.
    """
    asked = False

    def ask(*_: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


class TrainingStopped(Exception):  # noqa: N818  (a wish of the user's, no error)
    """Training was stopped by Ctrl-C, and its checkpoint written."""


def train(
    train_set: Dataset,
    test_set: Dataset,
    out: str | os.PathLike,
    *,
    model: str = "unet",
    width: int = 16,
    depth: int = 3,
    options: dict[str, Any] | None = None,
    steps: int = 2000,
    batch_size: int = 8,
    lr: float = 3e-3,
    optimizer: str = "adam",
    schedule: str = "cosine",
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    evaluations: int = 10,
    keep: dict[int, str] | None = None,
    label: str = "",
    settings: dict[str, Any] | None = None,
) -> tuple[Segmenter, list[dict[str, float]]]:
    """A whole training run with progress, scores on the test set, and checkpoints in `out`.

    Writes out/checkpoint.npz every 50 steps and at the end; keep names further checkpoints to write
    after certain numbers of steps. With resume the run in `out` goes on, bit for bit as if it had
    never stopped; its own settings hold, but steps may be raised. settings: more to note down.
    Returns the trained Segmenter and its history: one record per evaluation, with step, loss,
    pixel_accuracy, mean_iou, seconds.

    Raises:
        TrainingStopped: by Ctrl-C, after the checkpoint was written.
        FileNotFoundError, ValueError: nothing to resume, or settings that do not fit.
        FloatingPointError: the loss is not finite.
    """
    integer("train", "steps", steps, 1)
    one_of("train", "optimizer", optimizer, tuple(OPTIMIZERS))
    path = Path(out) / "checkpoint.npz"
    settings = (settings or {}) | dict(
        steps=steps, batch_size=batch_size, lr=lr, optimizer=optimizer, schedule=schedule, seed=seed,
        data_name=train_set.name,
    )  # fmt: skip
    record: dict[str, Any] = {"settings": settings, "step": 0, "seconds": 0.0, "history": []}
    state: dict[str, np.ndarray] = {}
    if resume:
        segmenter, record, state = checkpoints.load(path)
        settings = record["settings"] = record["settings"] | {"steps": steps}
        if settings["data_name"] != train_set.name:
            raise ValueError(
                f"train: {path} was trained on {settings['data_name']}, not {train_set.name}"
            )
        if record["step"] >= steps:
            raise ValueError(
                f"train: the run in {out} has done {record['step']:,} steps; ask for more than that"
            )
    else:
        network = models.build(
            model, train_set.channels, train_set.num_classes, width, depth, seed, **(options or {})
        )
        segmenter = Segmenter(network, train_set.class_names, *normalisation(train_set))
    segmenter.to(device)
    stepper = OPTIMIZERS[settings["optimizer"]](segmenter.parameters(), settings["lr"])
    if state:
        stepper.load_state_dict(state)
    rate = _schedule(settings)
    loader = Loader(
        train_set, settings["batch_size"], settings["seed"], train_set.augmentations,
        drop_last=len(train_set) >= settings["batch_size"],
    )  # fmt: skip
    history, start = record["history"], record["step"]
    every = max(1, steps // evaluations)
    losses: list[float] = []
    begun, spent = time.perf_counter(), record["seconds"]

    def checkpoint(step: int, to: Path = path) -> None:
        record.update(step=step, seconds=spent + time.perf_counter() - begun)
        checkpoints.save(to, segmenter, record, stepper.state_dict())

    from tqdm import tqdm

    bar = tqdm(
        total=steps, initial=start, desc=label or model, unit="step", file=sys.stdout,
        disable=None, leave=False, dynamic_ncols=True,
    )  # fmt: skip
    with stop_politely() as stopping, bar:

        def say(line: str) -> None:
            with bar.external_write_mode(file=sys.stdout):
                print(line, flush=True)

        def after_step(step: int, loss: float) -> bool:
            losses.append(loss)
            bar.update()
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            if step == start + 10 and steps > start + 20:
                seconds = (time.perf_counter() - begun) / 10 * (steps - step)
                say(f"  {_duration(seconds)} to go for {steps - step:,} steps on this machine")
            if step % every == 0 or step == steps:
                matrix = evaluate(segmenter, test_set, settings["batch_size"])
                scores = {
                    "step": step,
                    "loss": float(np.mean(losses)),
                    "pixel_accuracy": matrix.pixel_accuracy(),
                    "mean_iou": matrix.mean_iou(),
                    "seconds": spent + time.perf_counter() - begun,
                }
                history.append(scores)
                losses.clear()
                only = matrix.predicted_single_class()
                say(
                    f"  step {step:>6,} of {steps:,}   loss {scores['loss']:.3f}   pixel accuracy "
                    f"{scores['pixel_accuracy']:.3f}   mIoU {scores['mean_iou']:.3f}"
                    + (f"   (only {matrix.class_names[only]} so far)" if only is not None else "")
                )
            if keep and step in keep:
                checkpoint(step, Path(out) / keep[step])
            if step % SAVE_EVERY == 0 or step == steps or stopping():
                checkpoint(step)
            if stopping() and step < steps:
                raise TrainingStopped(
                    f"stopped after step {step:,} of {steps:,}; everything up to here is in {path}"
                )
            return False

        if keep and 0 in keep and start == 0:
            checkpoint(0, Path(out) / keep[0])
        fit(segmenter, loader, stepper, steps, rate, start=start, after_step=after_step)
    return segmenter, history


def _schedule(settings: dict[str, Any]) -> Schedule:
    lr, steps, name = settings["lr"], settings["steps"], settings["schedule"]
    if name == "cosine":
        return cosine_schedule(lr, steps, warmup=min(20, steps // 10))
    if name == "step":
        return step_schedule(lr, max(1, steps // 3))
    if name == "constant":
        return lambda step: lr
    raise ValueError(f"train: schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return (
        f"about {seconds / 60:.1f} minutes"
        if seconds < 5400
        else f"about {seconds / 3600:.1f} hours"
    )
