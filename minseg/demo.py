"""The main job, shown on real input: from the lecture's worked example to labelled handwriting.

Source: University of Waterloo, "Methods for Upsampling" (the worked example); the networks are FCN
and U-Net, the digits those of Alpaydin and Kaynak (see NOTICE).
"""

import time
from pathlib import Path

import numpy as np

import minseg.functional as F
from minseg import data
from minseg.segmenter import Segmenter
from minseg.train import evaluate, train

FCN_STEPS, UNET_STEPS = 1000, 2000


def demo(out: Path, device: str = "cpu", short: bool = False) -> None:
    """Rebuild the worked example, train an FCN and a U-Net, and write pictures and weights to `out`.

    short: a tenth of the steps, to see that everything works.
    """
    begun = time.perf_counter()
    share = 10 if short else 1
    if short:
        print("(short: a tenth of the steps, too few to learn well)\n")
    print("1. The lecture's worked example: a 4x4 image, doubled by a transposed convolution\n")
    worked_example(out)
    print("\n2. A fully convolutional network (FCN, two skips) learns five classes of toy shapes\n")
    run("fcn", "shapes", out / "fcn-shapes", FCN_STEPS // share, device, dict(skips=2))
    print("\n3. A U-Net learns to find and name real handwritten digits, pixel by pixel\n")
    steps = UNET_STEPS // share
    run("unet", "digits", out / "unet-digits", steps, device, {})
    minutes = (time.perf_counter() - begun) / 60
    print(f"\nDone in {minutes:.1f} minutes. Look at the pictures in the folder {out}:")
    for path in sorted(out.rglob("*.png")):
        print(f"  {path}")
    print("and at the weights beside them: untrained.npz, early.npz, late.npz.")


def worked_example(out: Path) -> None:
    """The slide's 4x4 image, its 3x3 kernel, stride 2: the 9x9 canvas, three ways to its numbers."""
    from matplotlib.figure import Figure

    from minseg import plot

    x = np.arange(16.0).reshape(4, 4)
    k = F.bilinear_kernel(2, dtype=np.float64)  # [[.25, .5, .25], [.5, 1, .5], [.25, .5, .25]]
    canvas = F.conv_transpose2d(x, k, stride=2)  # 9 x 9
    crop = F.conv_transpose2d(x, k, stride=2, padding=1)  # 7 x 7
    print(_in_words(canvas))
    bilinear = F.interpolate(x, size=7, mode="bilinear", align_corners=True)
    fractional = F.fractionally_strided_conv2d(x, F.rot180(k), stride=2)
    for claim, holds in {
        "without its border (7x7) it is bilinear interpolation, exactly": (crop == bilinear).all(),
        "zeros between the pixels, then a convolution, gives the same": (
            fractional == canvas
        ).all(),
    }.items():
        print(f"  {'yes' if holds else 'NO '}  {claim}")
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    panels = figure.subplots(1, 3, width_ratios=[4, 3, 9])
    plot.matrix(x, panels[0], title="image, 4x4")
    plot.matrix(k, panels[1], title="kernel, two pixels apart")
    title = "each pixel times the kernel, added up: 9x9 (framed: bilinear)"
    plot.matrix(canvas, panels[2], title=title, highlight=(1, 1, 7, 7))
    plot.save_figure(figure, out / "worked-example.png")


def run(model: str, data_name: str, out: Path, steps: int, device: str, options: dict) -> Segmenter:
    """Train one network on one toy data set; print its table, write its pictures and weights.

    A run that was interrupted goes on where it stopped.
    """
    train_set, test_set = data.build(data_name), data.build(data_name, "test")
    unfinished = _unfinished(out / "checkpoint.npz", steps)
    segmenter, history = train(
        train_set, test_set, out, model=model, steps=steps, device=device, options=options,
        resume=unfinished, label=f"{model} on {data_name}",
        keep={0: "untrained.npz", max(1, steps // 20): "early.npz", steps: "late.npz"},
    )  # fmt: skip
    report(segmenter, history, test_set, out)
    return segmenter


def report(segmenter: Segmenter, history: list, test_set: data.Dataset, out: Path) -> None:
    """Print the table of scores; write it, the curves and a panel of test scenes to `out`."""
    from minseg import plot

    matrix = evaluate(segmenter, test_set)
    table = matrix.table()
    print("\n" + "\n".join(f"  {line}" for line in table.splitlines()))
    scenes = [test_set[n] for n in range(min(4, len(test_set)))]
    images, truths = [image for image, _ in scenes], [labels for _, labels in scenes]
    predictions = [segmenter.predict(image[None])[0] for image in images]
    names = list(test_set.class_names)
    plot.prediction_panel(images, truths, predictions, names, out / "predictions.png")
    plot.confusion(matrix, path=out / "confusion.png")
    if history:
        plot.training_curves(history, out / "curves.png")
    (out / "scores.txt").write_text(table + "\n", encoding="utf-8")


def _unfinished(checkpoint: Path, steps: int) -> bool:
    """Is there a run of so many steps in this folder that stopped before its end?"""
    from minseg.segmenter import load

    try:
        record = load(checkpoint)[1]
    except (FileNotFoundError, ValueError):
        return False
    return record["settings"]["steps"] == steps and 0 < record["step"] < steps


def _in_words(matrix: np.ndarray) -> str:
    return "\n".join("  " + " ".join(f"{value:>5g}" for value in row) for row in matrix)
