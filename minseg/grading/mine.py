"""A trained U-Net that runs on a student's own functions: `minseg demo --mine`.

Every exercise that passed takes the place of the library's op, each in a worker of its own. If the
labels come out the same, pixel by pixel, the student has written what the network is made of; if
not, a picture shows where they differ.
"""

import contextlib
import inspect
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import minseg.functional as F
from minseg.grading.course import COMMAND
from minseg.grading.lock import Session, unlocked
from minseg.grading.work import Work
from minseg.tensor import Tensor, differentiable

OUT = Path("minseg-demo-mine")
CHANGED = " *"  # stands behind what is another file than when it passed
SECONDS = 300.0  # for one call of one op: loops may take their time
OPS = ("conv2d", "batch_norm", "relu", "max_pool2d", "conv_transpose2d", "cat", "cross_entropy")

# op of the library -> the exercises and functions that may take its place, the fullest first
FORWARD = {
    "conv2d": [("conv2d", "conv2d")],
    "max_pool2d": [("max_pool2d", "max_pool2d")],
    "conv_transpose2d": [("conv_transpose2d", "conv_transpose2d")],
    "cat": [("skip_connections", "concat_skip")],
    "cross_entropy": [("void_and_weights", "cross_entropy"), ("cross_entropy", "cross_entropy")],
}
BACKWARD = {
    "conv2d": ("conv_backward", "conv2d_backward"),
    "cross_entropy": ("void_and_weights", "cross_entropy_gradient"),
}

IN_THE_NETWORK = {name for pairs in FORWARD.values() for name, _ in pairs} | {
    name for name, _ in BACKWARD.values()
}


@dataclass
class Tally:
    """How often an op ran, whose it was, and how long both took."""

    whose: str = "library"
    calls: int = 0
    seconds: float = 0.0
    library_seconds: float = 0.0


@dataclass
class Mine:
    """The student's passed exercises, and the network's ops replaced by them while `running`."""

    work: Work
    tallies: dict[str, Tally] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """minseg.functional's ops are the student's, where passed; put back at the end."""
        library = {op: getattr(F, op) for op in OPS}
        try:
            for op, function in library.items():
                setattr(F, op, self.replacement(op, function))
            yield
        finally:
            for op, function in library.items():
                setattr(F, op, function)
            for session in self.sessions.values():
                session.end()
            self.sessions.clear()

    def exercise_for(self, op: str) -> tuple[str, str] | None:
        """The passed exercise, and its function, that takes the place of an op."""
        return next((pair for pair in FORWARD.get(op, []) if self.work.passed(pair[0])), None)

    def replacement(self, op: str, library: Callable) -> Callable:
        """The op as the network calls it: the student's function where it can take these arguments."""
        signature = inspect.signature(library)
        pair = self.exercise_for(op)
        changed = pair and self.work.changed(pair[0])
        whose = "library" if pair is None else f"mine{CHANGED}" if changed else "mine"
        tally = self.tallies.setdefault(op, Tally(whose))

        def run(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            result = library(*args, **kwargs)
            spent = time.perf_counter() - begun
            tally.calls += 1
            tally.library_seconds += spent
            given = dict(signature.bind(*args, **kwargs).arguments)
            theirs = self.arguments(pair, given, signature) if pair else None
            if pair is None or theirs is None:
                tally.seconds += spent
                return result
            begun = time.perf_counter()
            y = self.ask(*pair, theirs)[0]
            tally.seconds += time.perf_counter() - begun
            values = result.data if isinstance(result, Tensor) else result
            if y.shape != values.shape:
                raise ValueError(
                    f"your {pair[1]} returned shape {y.shape}, the library {values.shape}; "
                    f"run {COMMAND} check {pair[0]}"
                )
            y = y.astype(values.dtype)
            if not isinstance(result, Tensor):
                return y
            if result.requires_grad and op in BACKWARD and self.work.passed(BACKWARD[op][0]):
                return self.differentiable(op, y, given, theirs)
            result.data = y
            return result

        return run

    def arguments(
        self, pair: tuple[str, str], given: dict[str, Any], signature: inspect.Signature
    ) -> dict[str, Any] | None:
        """What the student's function is given; None where the network asks more than it can do."""
        module = self.work.course.exercise(pair[0]).module
        names = list(inspect.signature(getattr(module, pair[1])).parameters)
        if pair[1] == "concat_skip":
            tensors, dim = list(given["tensors"]), given.get("dim", 0)
            if len(tensors) != 2 or dim != 1:
                return None
            given = dict(zip(names, tensors, strict=True))
        theirs = {}
        for name, value in given.items():
            default = signature.parameters[name].default if name in signature.parameters else None
            if isinstance(value, tuple) and len(set(value)) == 1:
                value = value[0]  # (1, 1) is 1
            if name in names:
                theirs[name] = value.data if isinstance(value, Tensor) else value
            elif value != default:
                return None
        odd = any(isinstance(value, (tuple, str)) for value in theirs.values())
        return None if odd else theirs

    def differentiable(self, op: str, y: np.ndarray, given: dict, theirs: dict) -> Tensor:
        """The op's Tensor, whose gradients are the student's too."""
        exercise, function = BACKWARD[op]
        module = self.work.course.exercise(exercise).module
        names = list(inspect.signature(getattr(module, function)).parameters)
        leading = ["x", "w", "b"] if op == "conv2d" else ["logits"]
        found: list[list[np.ndarray]] = []

        def gradient(n: int) -> Callable:
            def pull(dy: np.ndarray) -> np.ndarray:
                if not found:
                    known = dict(theirs, dy=dy)
                    found.append(
                        self.ask(exercise, function, {k: known[k] for k in names if k in known})
                    )
                dx = found[0][n].astype(y.dtype)
                return dx if op == "conv2d" else dx * dy

            return pull

        @differentiable
        def own(*arrays: np.ndarray) -> Any:
            return y, tuple(gradient(n) for n in range(len(arrays)))

        tensors = [given[name] for name in leading if given.get(name) is not None]
        return own(*tensors)

    def ask(self, exercise: str, function: str, arguments: dict[str, Any]) -> list[np.ndarray]:
        """One call of a student's function.

        Raises:
            ValueError: it gave no answer, or one that is no number.
        """
        if exercise not in self.sessions:
            found = self.work.course.exercise(exercise)
            session = self.sessions[exercise] = Session(unlocked(), found.packages)
            loaded = session.load(self.work.source(found), f"{exercise}.py", SECONDS)
            if loaded.arrays is None:
                raise ValueError(f"your {exercise}: {loaded.problem}")
        reply = self.sessions[exercise].ask(function, (), arguments, SECONDS)
        if reply.arrays is None:
            raise ValueError(f"your {function}: {reply.problem}")
        return reply.arrays

    def table(self) -> str:
        """Whose each op was, how often it ran, and how long it took."""
        lines = ["  op                 whose     calls        ms   library's ms"]
        for op, tally in self.tallies.items():
            if tally.calls:
                lines.append(
                    f"  {op:18} {tally.whose:8} {tally.calls:6} {1e3 * tally.seconds:9.1f} "
                    f"{1e3 * tally.library_seconds:14.1f}"
                )
        if any(tally.whose.endswith(CHANGED) for tally in self.tallies.values()):
            lines.append(
                f"  {CHANGED.strip()} changed since it passed: {COMMAND} check looks again"
            )
        return "\n".join(lines)


def demo_mine(work: Work, out: Path, train: bool = False) -> None:
    """Label a scene with the student's own functions; with `train`, train on them as well.

    Raises:
        ValueError: no exercise that a network is made of is passed yet, or a function that fails.
    """
    parts = [op for op in OPS if Mine(work).exercise_for(op)]
    if not parts:
        wanted = ", ".join(dict.fromkeys(pairs[0][0] for pairs in FORWARD.values()))
        raise ValueError(
            f"no exercise that the network is made of is passed yet. These are: {wanted}. Begin with "
            f"`{COMMAND} check conv2d`"
        )
    if train:
        _train(work)
    else:
        _label(work, out)


def _label(work: Work, out: Path) -> None:
    from minseg import plot
    from minseg.data import Digits
    from minseg.segmenter import load

    segmenter, _, _ = load(work.course.folder.parent / "lectures" / "weights" / "unet-digits.npz")
    scenes = Digits("test")
    image, _ = scenes[0]
    expected = segmenter.predict(image[None])[0]
    mine = Mine(work)
    print(
        "A trained U-Net labels a scene of handwritten digits, on your functions ...\n", flush=True
    )
    with mine.running():
        got = segmenter.predict(image[None])[0]
    print(mine.table())
    different = got != expected
    print(f"\n{different.sum():,} of {got.size:,} pixels differ from the library's labels.")
    names = list(scenes.class_names)
    path = out / "pixels.png"
    out.mkdir(parents=True, exist_ok=True)
    figure = plot.prediction_panel([image], [expected], [got], names)
    titles = "image", "the library's labels", "yours", "where they differ"
    for axes, title in zip(figure.axes, titles, strict=False):
        axes.set_title(title)
        axes.set_xlabel("")
    figure.savefig(path)
    print(f"The scene, the library's labels, yours, and where they differ: {path}")
    if different.any():
        rows, columns = np.nonzero(different)
        print(
            f"They lie in rows {rows.min()} to {rows.max()} and columns {columns.min()} to "
            f"{columns.max()}."
        )


STEPS, WIDTH, SIDE, BATCH = 30, 4, 32, 2


def _train(work: Work) -> None:
    """Train a small U-Net on the student's ops, their loss and their backward."""
    from minseg import data, models
    from minseg.optim import Adam
    from minseg.segmenter import Segmenter
    from minseg.train import fit, normalisation

    scenes = data.Shapes("train", size=SIDE)
    network = models.build("unet", scenes.channels, scenes.num_classes, width=WIDTH, depth=2)
    segmenter = Segmenter(network, scenes.class_names, *normalisation(scenes))
    mine = Mine(work)
    print(f"A small U-Net learns toy shapes for {STEPS} steps, on your functions ...\n", flush=True)

    def say(step: int, loss: float) -> None:
        if step % 5 == 0 or step == 1:
            print(f"  step {step:3}  loss {loss:.3f}", flush=True)

    with mine.running():
        fit(segmenter, data.Loader(scenes, BATCH), Adam(segmenter.parameters(), lr=0.01), STEPS,
            after_step=say)  # fmt: skip
    print("\n" + mine.table())
    theirs = [op for op in BACKWARD if work.passed(BACKWARD[op][0]) and mine.exercise_for(op)]
    print(f"\nGradients of yours: {', '.join(theirs) or 'none yet'}; the others are the library's.")
