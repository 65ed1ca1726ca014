"""Trains the five networks that lecture 07 compares, and writes them to compare-*.npz.

    python lectures/weights/make_comparison.py

All have depth 3, see the same batches of the same digit scenes, and are trained for about a minute.
Each is trained from three seeds: the file holds the network of the first, and in its record the
scores of all three, so that nobody takes one number for the truth. Names of networks may be given, to
make only those. The notebook reads the files, or calls train_one() itself.

Source: Deep Learning for Vision (2024-2025), "How to improve the results?"; Drake University, CS195
(2024), "Popular CNNs for Semantic Segmentation".
"""

import sys
import time
from pathlib import Path

import numpy as np

from minseg import models
from minseg import segmenter as checkpoints
from minseg.data import Digits, Loader
from minseg.optim import Adam, cosine_schedule
from minseg.segmenter import Segmenter
from minseg.train import evaluate, fit, normalisation

# SegNet and U-Net score a map of `width` channels, and with 8 for 11 classes they hardly learnt.
NETWORKS = {
    "fcn-skips-0": dict(name="fcn", width=8, skips=0),
    "fcn-skips-1": dict(name="fcn", width=8, skips=1),
    "fcn-skips-2": dict(name="fcn", width=8, skips=2),
    "segnet": dict(name="segnet", width=12),
    "unet": dict(name="unet", width=12),
}
STEPS, BATCH, RATE = 1200, 8, 3e-3
SEEDS = (0, 1, 2)


def train_one(network: str, seed: int = 0) -> Segmenter:
    """One of the networks, trained; the seed decides its first weights and the order of the scenes."""
    scenes = Digits("train")
    built = models.build(in_channels=1, num_classes=11, seed=seed, **NETWORKS[network])
    segmenter = Segmenter(built, scenes.class_names, *normalisation(scenes))
    loader = Loader(scenes, BATCH, seed, scenes.augmentations, drop_last=True)
    optimizer = Adam(segmenter.parameters(), RATE)
    fit(segmenter, loader, optimizer, STEPS, cosine_schedule(RATE, STEPS, warmup=20))
    return segmenter


if __name__ == "__main__":
    for network in sys.argv[1:] or NETWORKS:
        path = Path(__file__).with_name(f"compare-{network}.npz")
        scores, first = [], None
        begun = time.perf_counter()
        for seed in SEEDS:
            segmenter = train_one(network, seed)
            scores.append(evaluate(segmenter, Digits("test")).mean_iou())
            first = first or segmenter
        seconds = (time.perf_counter() - begun) / len(SEEDS)
        for parameter in first.parameters():  # half the bytes, and the same labels but for a few
            parameter.data = parameter.data.astype(np.float16)
        record = {"steps": STEPS, "seeds": SEEDS, "mean_iou": [round(s, 4) for s in scores]}
        checkpoints.save(path, first, record)
        loaded = evaluate(checkpoints.load(path)[0], Digits("test")).mean_iou()
        print(
            f"{network}: mIoU {', '.join(f'{s:.3f}' for s in scores)}, as saved {loaded:.3f}; "
            f"{seconds:.0f} s each, {path.stat().st_size:,} bytes",
            flush=True,
        )
