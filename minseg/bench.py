"""How fast is this machine, and how much of it do our ops use, beside PyTorch where it is installed?

Forward and backward of the ops, and one training step of the U-Net, against this machine's own roof
(roofline.py). Each library runs in a process of its own, and they take turns: what else the machine
does in the meantime slows both.
"""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import minseg.functional as F
from minseg import models, tensor
from minseg.files import written_whole
from minseg.optim import Adam
from minseg.roofline import breakdown, draw, floor, machine
from minseg.threads import get_num_threads

N, K, SIZE, WIDTH = 8, 5, 64, 16  # 8 images of 64 x 64 pixels, 5 classes, 16 channels at full size
STEP = f"U-Net step, {N} x 3 x {SIZE} x {SIZE}, width {WIDTH}"


class Case(NamedTuple):
    """An op at one size. PyTorch's functions have our names, so one text calls both."""

    name: str
    inputs: Callable[[np.random.Generator], list[np.ndarray]]
    run: Callable  # (functional module, *tensors) -> y
    flops: int = 0  # forward and backward; a multiplication and its addition are two


def _floats(*shapes: tuple[int, ...]) -> Callable:
    return lambda rng: [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def _conv(C: int, O: int, size: int) -> Case:
    name, flops = f"conv2d 3x3, {C} -> {O}, {size} x {size}", 2 * N * O * C * 9 * size**2
    inputs = _floats((N, C, size, size), (O, C, 3, 3))
    return Case(name, inputs, lambda F, x, w: F.conv2d(x, w, padding=1), 3 * flops)


def _conv_transpose(k: int, padding: int) -> Case:
    C, O, size = 32, 16, SIZE // 2
    name, flops = f"conv_transpose2d {k}x{k}, stride 2", 2 * N * O * C * k**2 * size**2
    inputs = _floats((N, C, size, size), (C, O, k, k))
    return Case(
        name, inputs, lambda F, x, w: F.conv_transpose2d(x, w, stride=2, padding=padding), 3 * flops
    )


def _pooled(rng: np.random.Generator) -> list[np.ndarray]:
    """Maxima, and where each stood in its 2x2 window: (N, 16, 32, 32) twice."""
    half = 2 * np.arange(SIZE // 2)
    row, column = rng.integers(0, 2, (2, N, WIDTH, len(half), len(half)))
    return [*_floats(row.shape)(rng), (row + half[:, None]) * SIZE + column + half]


def _scores(rng: np.random.Generator) -> list[np.ndarray]:
    return [*_floats((N, 21, SIZE, SIZE))(rng), rng.integers(0, 21, (N, SIZE, SIZE))]


MAP, HALF = (N, WIDTH, SIZE, SIZE), (N, WIDTH, SIZE // 2, SIZE // 2)
CASES = [
    *(_conv(*sizes) for sizes in ((3, 16, 64), (16, 16, 64), (32, 32, 32), (64, 64, 16), (128, 128, 8))),
    _conv_transpose(2, 0),
    _conv_transpose(4, 1),
    Case("max_pool2d 2x2 with indices", _floats(MAP),
         lambda F, x: F.max_pool2d(x, 2, return_indices=True)[0]),
    Case("max_unpool2d 2x2", _pooled, lambda F, x, places: F.max_unpool2d(x, places, 2)),
    Case("interpolate, bilinear x2", _floats(HALF),
         lambda F, x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)),
    Case("batch_norm", _floats(MAP, (WIDTH,), (WIDTH,)),
         lambda F, x, w, b: F.batch_norm(x, None, None, w, b, training=True)),
    Case("relu", _floats(MAP), lambda F, x: F.relu(x)),
    Case("cross_entropy, 21 classes", _scores,
         lambda F, x, target: F.cross_entropy(x, target, ignore_index=255)),
]  # fmt: skip


# A library, in a process of its own


class Ours:
    """What the measurements need of a library; this one is minseg."""

    functional: Any = F

    def tensor(self, array: np.ndarray, leaf: bool = True) -> Any:
        return tensor.Tensor(array, requires_grad=leaf and array.dtype.kind == "f")

    def training(self) -> tuple[Any, Any]:
        network = models.build("unet", 3, K, WIDTH, 3)
        return network, Adam(network.parameters(), 1e-3)


class PyTorch(Ours):
    """PyTorch, eager, with as many threads."""

    def __init__(self) -> None:
        import torch

        torch.set_num_threads(get_num_threads())
        self.torch, self.functional = torch, torch.nn.functional

    def tensor(self, array: np.ndarray, leaf: bool = True) -> Any:
        return self.torch.tensor(array, requires_grad=leaf and array.dtype.kind == "f")

    def training(self) -> tuple[Any, Any]:
        nn = self.torch.nn

        def block(C: int, O: int) -> Any:
            two = [
                (nn.Conv2d(c, O, 3, padding=1, bias=False), nn.BatchNorm2d(O), nn.ReLU())
                for c in (C, O)
            ]
            return nn.Sequential(*two[0], *two[1])

        def up(C: int, O: int) -> Any:
            return nn.ConvTranspose2d(C, O, 2, 2)

        w1, w2, w4 = WIDTH, 2 * WIDTH, 4 * WIDTH
        parts = nn.ModuleList([
            block(3, w1), block(w1, w2), block(w2, w4), up(w4, w2), block(w4, w2), up(w2, w1),
            block(w2, w1), nn.Conv2d(w1, K, 1),
        ])  # fmt: skip

        def network(x: Any) -> Any:
            down1, down2, down3, up2, merge2, up1, merge1, head = parts
            x1 = down1(x)
            x2 = down2(self.functional.max_pool2d(x1, 2))
            x3 = down3(self.functional.max_pool2d(x2, 2))
            y2 = merge2(self.torch.cat([x2, up2(x3)], 1))
            return head(merge1(self.torch.cat([x1, up1(y2)], 1)))

        return network, self.torch.optim.Adam(parts.parameters(), 1e-3)


LIBRARIES = {"minseg": Ours, "PyTorch": PyTorch}


def training_step(library: Ours) -> Callable[[], tuple[float, float]]:
    """A function that trains the U-Net by one step and gives the seconds forward and backward."""
    rng = np.random.default_rng(0)
    x = library.tensor(_floats((N, 3, SIZE, SIZE))(rng)[0], leaf=False)
    labels = library.tensor(rng.integers(0, K, (N, SIZE, SIZE)))
    network, optimizer = library.training()

    def step() -> tuple[float, float]:
        begun = time.perf_counter()
        loss = library.functional.cross_entropy(network(x), labels)
        between = time.perf_counter()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return between - begun, time.perf_counter() - between

    return step


def one_op(library: Ours, case: Case) -> Callable[[], tuple[float, float]]:
    """A function that runs a case once and gives the seconds forward and backward."""
    rng = np.random.default_rng(0)
    inputs = [library.tensor(array) for array in case.inputs(rng)]
    shape = tuple(case.run(library.functional, *inputs).shape)
    dy = library.tensor(_floats(shape)(rng)[0], leaf=False)

    def run() -> tuple[float, float]:
        for x in inputs:
            x.grad = None
        begun = time.perf_counter()
        y = case.run(library.functional, *inputs)
        between = time.perf_counter()
        y.backward(dy)
        return between - begun, time.perf_counter() - between

    return run


def serve(name: str) -> None:
    """Measure for each line "SECONDS CASE" that comes in; answer with milliseconds, in JSON."""
    library = LIBRARIES[name]()
    prepared: dict[str, Callable] = {}
    for line in sys.stdin:
        seconds, what = line.rstrip("\n").split(" ", 1)
        if what not in prepared:
            cases = {case.name: case for case in CASES}
            prepared[what] = (
                training_step(library) if what == STEP else one_op(library, cases[what])
            )
            for _ in range(3):
                prepared[what]()
        runs: list[tuple[float, float]] = []
        end = time.perf_counter() + float(seconds)
        while len(runs) < 3 or time.perf_counter() < end:
            runs.append(prepared[what]())
        print(json.dumps([1e3 * median(part) for part in zip(*runs, strict=True)]), flush=True)


# The whole of it


def measure(quick: bool = False) -> dict[str, Any]:
    """Everything, as plain numbers: the machine, each case by each library, the step op by op."""
    names = [name for name in LIBRARIES if name == "minseg" or importlib.util.find_spec("torch")]
    rounds, seconds = (3, 0.04) if quick else (15, 0.1)
    roof = machine()
    command = [
        sys.executable,
        "-c",
        "import sys; from minseg.bench import serve; serve(sys.argv[1])",
    ]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "MINSEG_NUM_THREADS": str(roof["threads"])}
    workers = {
        name: subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True, env=environment)
        for name in names
    }  # fmt: skip
    results = []
    try:
        for case in [*CASES, Case(STEP, _floats(), F.relu)]:
            ms: dict[str, list] = {name: [] for name in names}
            for _ in range(rounds):
                for name, worker in workers.items():
                    assert worker.stdin is not None and worker.stdout is not None  # noqa: PT018
                    print(seconds, case.name, file=worker.stdin, flush=True)
                    ms[name].append(json.loads(worker.stdout.readline()))
                    time.sleep(0.01)  # until its threads have come to rest
            results.append(_result(case, ms, roof))
    finally:
        for worker in workers.values():
            worker.communicate()
    step = breakdown(training_step(Ours()), roof, 5 if quick else 20)
    results[-1]["floor_ms"] = sum(row["floor_ms"] for row in step)
    return dict(machine=roof, cases=results, step=step)


def _result(case: Case, ms: dict[str, list], roof: dict[str, Any]) -> dict[str, Any]:
    arrays = case.inputs(np.random.default_rng(0))
    result: dict[str, Any] = dict(case=case.name, flops=case.flops)
    if arrays:  # read and written once forward, and their gradients once backward
        nbytes = 2 * sum(map(_nbytes, [*arrays, case.run(F, *arrays)]))
        result |= dict(nbytes=nbytes, floor_ms=floor(roof, case.flops, nbytes))
    for name, rounds in ms.items():
        forward, backward = (median(part) for part in zip(*rounds, strict=True))
        result[name] = dict(forward_ms=forward, backward_ms=backward)
    if "PyTorch" in ms:
        turns = zip(ms["minseg"], ms["PyTorch"], strict=True)
        result["ratio"] = median(sum(ours) / sum(theirs) for ours, theirs in turns)
    return result


def _nbytes(array: Any) -> int:
    return np.asarray(array).nbytes


def report(figures: dict[str, Any]) -> str:
    """The figures of measure(), to read."""
    roof = figures["machine"]
    lines = [
        f"{roof['processor']}, {roof['threads']} threads; BLAS {roof['blas']}, OPENBLAS_CORETYPE "
        f"{roof['coretype']}",
        f"at most {roof['gflops']:.0f} GFLOP/s (matrix product), {roof['gigabytes']:.0f} GB/s (copy)",
        "",
        f"{'milliseconds, forward + backward':42} {'minseg':>13} {'PyTorch':>13} {'ratio':>6} "
        f"{'floor':>6} {'GFLOP/s':>8} {'of peak':>7}",
    ]
    for each in figures["cases"]:
        both = [each.get(name) for name in LIBRARIES]
        times = [f"{t['forward_ms']:.2f} + {t['backward_ms']:.2f}" if t else "" for t in both]
        ratio = f"{each['ratio']:.2f}" if "ratio" in each else ""
        rate = each["flops"] / 1e6 / sum(each["minseg"].values())
        share = f"{rate:8.0f} {rate / roof['gflops']:7.0%}" if rate else ""
        lines.append(
            f"{each['case']:42} {times[0]:>13} {times[1]:>13} {ratio:>6} {each['floor_ms']:6.2f} {share}"
        )
    lines += ["", f"{'the step, op by op':42} {'calls':>6} {'ms':>6} {'floor':>6}"]
    for row in figures["step"]:
        lines.append(f"{row['op']:42} {row['calls']:6} {row['ms']:6.2f} {row['floor_ms']:6.2f}")
    return "\n".join(line.rstrip() for line in lines)


def main(json_file: Path | None = None, picture: Path | None = None, quick: bool = False) -> int:
    """Measure and print; also write the figures as JSON and draw the roofline, where asked for."""
    figures = measure(quick)
    print(report(figures))
    if json_file is not None:
        with written_whole(json_file) as part:
            part.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if picture is not None:
        draw(figures, picture)
    return 0
