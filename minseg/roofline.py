"""The most a machine can do, and what a training step is made of, op by op.

No op can multiply faster than the processor's matrix product, nor read and write faster than memory
is copied. The longer of the two times that an op's arithmetic and its bytes need at least is its floor.

Source: Williams, Waterman and Patterson, Roofline (2009).
"""

import os
import platform
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from statistics import median
from typing import Any

import numpy as np

import minseg.functional as F
from minseg import tensor
from minseg.plot import save_figure
from minseg.threads import for_each, get_num_threads


def machine() -> dict[str, Any]:
    """GFLOP/s of a large matrix product and GB/s of a large copy on this machine; and its BLAS."""
    import threadpoolctl

    a, b, out = np.ones((3, 1536, 1536), np.float32)
    source, copied = np.ones((2, 4 * get_num_threads(), 1 << 21), np.float32)  # in parts of 8 MB
    product = min(_seconds(lambda: np.matmul(a, b, out=out)) for _ in range(7))
    copying = min(
        _seconds(lambda: for_each(lambda n: np.copyto(copied[n], source[n]), len(source)))
        for _ in range(7)
    )
    blas = [each for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"]
    kernels = [f"{b['internal_api']} {b['version']}, {b.get('architecture')}" for b in blas]
    return dict(
        processor=platform.processor() or platform.machine(), threads=get_num_threads(),
        gflops=2e-9 * len(a) ** 3 / product, gigabytes=2e-9 * source.nbytes / copying,
        blas="; ".join(kernels), coretype=os.environ.get("OPENBLAS_CORETYPE", "not set"),
    )  # fmt: skip


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def floor(roof: dict[str, Any], flops: float, nbytes: float) -> float:
    """The milliseconds that so much arithmetic and so many bytes, read and written, take at least."""
    return 1e-6 * max(flops / roof["gflops"], nbytes / roof["gigabytes"])


@contextmanager
def watched(roof: dict[str, Any]) -> Iterator[dict[str, list[float]]]:
    """Inside, every op and gradient is noted: calls, milliseconds, floor."""
    notes: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    ops = {name: op for name in F.__all__ if callable(op := getattr(F, name))}
    pull_back = tensor._Op.pull_back

    def note(name: str, begun: float, least: float) -> None:
        seen = notes[name]
        seen[:] = seen[0] + 1, seen[1] + 1e3 * (time.perf_counter() - begun), seen[2] + least

    def watch(name: str) -> Callable:
        def call(*args: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            y = ops[name](*args, **options)
            arrays = [*(args[0] if isinstance(args[0], (list, tuple)) else args), y]
            shapes = [each.shape for each in arrays if hasattr(each, "shape")]
            flops = 0
            if name.startswith("conv"):  # each weight meets every number of one map once
                meets = shapes[-1] if name == "conv2d" else shapes[0]
                flops = 2 * prod(meets) * prod(shapes[1][1:])
            least = floor(roof, flops, 4 * sum(map(prod, shapes)))
            note(name, begun, least)
            if getattr(y, "_made_by", None) and name != "cat":  # whose gradients are views
                y._made_by.least = least
            return y

        return call

    def pulled_back(op: Any, dy: Any) -> Iterator:
        gradients = pull_back(op, dy)
        while op.inputs:
            name, begun = f"{op.name}, d{op.inputs[0][0]}", time.perf_counter()
            x, dx = next(gradients)
            note(name, begun, getattr(op, "least", 0.0) if dx.ndim > 1 else 0.0)
            yield x, dx

    try:
        for name in ops:
            setattr(F, name, watch(name))
        tensor._Op.pull_back = pulled_back  # type: ignore[method-assign, assignment]
        yield notes
    finally:
        for name, op in ops.items():
            setattr(F, name, op)
        tensor._Op.pull_back = pull_back  # type: ignore[method-assign, assignment]


def breakdown(
    step: Callable[[], Any], roof: dict[str, Any], steps: int = 20
) -> list[dict[str, Any]]:
    """A training step op by op, the slowest first: calls, milliseconds (medians), and their floor."""
    rounds = []
    for _ in range(steps + 3):
        with watched(roof) as notes:
            whole = 1e3 * _seconds(step)
        notes["all else"] = [1, whole - sum(ms for _, ms, _ in notes.values()), 0.0]
        rounds.append(notes)
    table = [
        dict(op=op, calls=calls, ms=median(each[op][1] for each in rounds[3:]), floor_ms=least)
        for op, (calls, _, least) in rounds[-1].items()
    ]
    return sorted(table, key=lambda row: -float(row["ms"]))


def draw(figures: dict[str, Any], path: str | os.PathLike) -> None:
    """bench.measure()'s ops under this machine's roof: GFLOP/s over operations per byte, to `path`."""
    from matplotlib.figure import Figure

    roof = figures["machine"]
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes = figure.subplots()
    per_byte = np.geomspace(0.5, 1000, 200)
    limit = np.minimum(per_byte * roof["gigabytes"], roof["gflops"])
    axes.loglog(per_byte, limit, color="black", label="this machine's roof")
    cases = [each for each in figures["cases"] if each["flops"]]
    for name, marker in (("minseg", "o"), ("PyTorch", "s")):
        if name in cases[0]:
            x = [each["flops"] / each["nbytes"] for each in cases]
            y = [each["flops"] / 1e6 / sum(each[name].values()) for each in cases]
            axes.plot(x, y, marker, label=name)
    for number, each in enumerate(cases, 1):
        at = each["flops"] / each["nbytes"], each["flops"] / 1e6 / sum(each["minseg"].values())
        axes.annotate(str(number), at, xytext=(5, -11), textcoords="offset points")
        axes.plot([], [], " ", label=f"{number}  {each['case']}")
    axes.set(xlabel="operations per byte", ylabel="GFLOP/s, forward and backward")
    heights = axes.get_ylim()
    axes.set_yticks([m * 10**n for n in range(5) for m in (1, 2, 5)])
    axes.set_ylim(heights)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)
    save_figure(figure, path)
