"""Training, checkpoints and the command: nothing is lost, and the same seed means the same bits."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

import minseg
from minseg import data, models
from minseg.cli import main
from minseg.files import written_whole
from minseg.nn import Conv2d, Dropout, Sequential
from minseg.optim import SGD
from minseg.segmenter import Segmenter, load, save
from minseg.train import TrainingStopped, evaluate, fit, normalisation, train

SMALL = dict(width=2, depth=2, batch_size=2, evaluations=2)


def digits(split="train", length=6):
    return data.build("digits", split, length=length)


def weights(segmenter):
    return segmenter.state_dict()


def same_bits(first, second):
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


@pytest.fixture
def threads():
    before = minseg.get_num_threads()
    yield
    minseg.set_num_threads(before)


def test_the_same_seed_gives_the_same_bits_with_one_thread_and_two(tmp_path, threads):
    runs = []
    for number, count in enumerate((1, 2, 2)):
        minseg.set_num_threads(count)
        segmenter, _ = train(digits(), digits("test", 2), tmp_path / str(number), steps=6, **SMALL)
        runs.append(weights(segmenter))
    assert same_bits(runs[0], runs[1])
    assert same_bits(runs[1], runs[2])


def test_another_seed_gives_other_weights(tmp_path):
    first, second = (
        train(digits(), digits("test", 2), tmp_path / str(s), steps=2, seed=s, **SMALL)[0]
        for s in (0, 1)
    )
    assert not same_bits(weights(first), weights(second))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_resumed_run_ends_in_the_same_bits_as_one_that_never_stopped(
    tmp_path, monkeypatch, optimizer
):
    settings = dict(steps=9, lr=0.01, optimizer=optimizer, **SMALL)
    whole, history = train(digits(), digits("test", 2), tmp_path / "whole", **settings)

    loads = iter(range(100))
    batch = data.Loader.batch

    def interrupted_batch(self, step):
        if self.shuffle and next(loads) == 4:  # while the fifth batch is made, somebody hits Ctrl-C
            signal.raise_signal(signal.SIGINT)
        return batch(self, step)

    monkeypatch.setattr(data.Loader, "batch", interrupted_batch)
    with pytest.raises(TrainingStopped, match=r"stopped after step 5 of 9; .*checkpoint\.npz"):
        train(digits(), digits("test", 2), tmp_path / "parts", **settings)
    assert load(tmp_path / "parts" / "checkpoint.npz")[1]["step"] == 5
    resumed, again = train(digits(), digits("test", 2), tmp_path / "parts", **settings, resume=True)
    assert same_bits(weights(whole), weights(resumed))
    scores = ("step", "pixel_accuracy", "mean_iou")
    assert [[r[k] for k in scores] for r in history] == [[r[k] for k in scores] for r in again]


@pytest.mark.slow
def test_a_killed_process_leaves_a_checkpoint_that_goes_on(tmp_path):
    command = [sys.executable, "-m", "minseg", "train", "--data", "digits", "--width", "2"]
    command += ["--depth", "2", "--steps", "100000", "--out", str(tmp_path), "--batch-size", "1"]
    checkpoint = tmp_path / "checkpoint.npz"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not checkpoint.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert load(checkpoint)[1]["step"] >= 50
    steps = str(load(checkpoint)[1]["step"] + 1)
    again = ["train", "--data", "digits", "--steps", steps, "--out", str(tmp_path), "--resume"]
    segmenter = load(checkpoint)[0]
    assert all(np.isfinite(array).all() for array in segmenter.state_dict().values())
    assert main(again) == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one child alone")
def test_ctrl_c_stops_after_the_step_at_hand_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "minseg", "train", "--width", "2", "--depth", "2"]
    command += ["--steps", "100000", "--out", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "to go for" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after step" in output
    assert "--resume" in output
    assert errors == ""
    assert load(tmp_path / "checkpoint.npz")[1]["step"] >= 10


def test_training_stops_on_a_loss_that_is_not_finite_and_keeps_the_weights():
    segmenter = Segmenter(models.build("unet", 1, 11, 2, 2), data.build("digits").class_names)
    loader = data.Loader(digits(), 2)
    segmenter.network.head.bias.data[0] = np.nan
    before = segmenter.state_dict()["network.encoder.0.0.weight"]
    with pytest.raises(FloatingPointError, match=r"the loss is nan at step 3, learning rate 0\.1"):
        fit(segmenter, loader, SGD(segmenter.parameters(), 0.1), 9, start=3)
    assert np.array_equal(before, segmenter.state_dict()["network.encoder.0.0.weight"])


def test_a_network_that_sees_one_class_is_told_so():
    segmenter = Segmenter(models.build("unet", 1, 11, 2, 2), data.build("digits").class_names)
    segmenter.network.head.bias.data[0] = 1e6
    matrix = evaluate(segmenter, digits("test", 2))
    assert matrix.predicted_single_class() == 0
    assert "Every pixel is predicted as background" in matrix.table()


def test_evaluation_counts_every_pixel_once_and_changes_nothing():
    test_set = digits("test", 5)
    segmenter = Segmenter(models.build("unet", 1, 11, 2, 2), test_set.class_names)
    segmenter.train()
    before = segmenter.state_dict()
    matrix = evaluate(segmenter, test_set, batch_size=2)
    assert matrix.counts.sum() == sum((labels != 255).sum() for _, labels in test_set)
    assert segmenter.training
    assert same_bits(before, segmenter.state_dict())


def test_normalisation_is_the_mean_and_spread_of_each_channel():
    dataset = data.build("shapes", length=3)
    pixels = np.stack([image for image, _ in dataset]).astype(np.float64)
    mean, std = normalisation(dataset)
    np.testing.assert_allclose(mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_checkpoint_brings_back_weights_names_normalisation_and_chance(tmp_path):
    network = models.build("fcn", 3, 4, 2, 2, seed=5, skips=1)
    network.drop = Dropout(0.5, rng=np.random.default_rng(7))
    network.drop.rng.random(3)
    segmenter = Segmenter(network, ["sky", "road", "car", "tree"], [1, 2, 3], [4, 5, 6])
    # A rebuilt network has the parts that models.build gives it, so dropout must be one of them.
    del network.drop
    save(tmp_path / "a.npz", segmenter, {"step": 3})
    again, record, _ = load(tmp_path / "a.npz")
    assert same_bits(segmenter.state_dict(), again.state_dict())
    assert again.class_names == ["sky", "road", "car", "tree"]
    assert record == {"step": 3}
    images = np.random.default_rng(0).random((2, 3, 9, 7), np.float32)
    assert np.array_equal(segmenter.predict(images), again.predict(images))


def test_the_state_of_dropouts_generator_is_kept(tmp_path, monkeypatch):
    def with_dropout(in_channels, num_classes, width, depth, *, rng):
        return Sequential(Conv2d(in_channels, num_classes, 1, rng=rng), Dropout(0.5, rng=rng))

    monkeypatch.setitem(models.MODELS, "dropping", with_dropout)
    segmenter = Segmenter(models.build("dropping", 1, 2), ["a", "b"])
    x = np.ones((1, 1, 8, 8), np.float32)
    segmenter(x)
    save(tmp_path / "a.npz", segmenter)
    assert np.array_equal(load(tmp_path / "a.npz")[0](x), segmenter(x))


def test_a_checkpoint_holds_no_pickle(tmp_path):
    save(tmp_path / "a.npz", Segmenter(models.build("unet", 1, 2, 2, 2), ["a", "b"]))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
        assert json.loads(file["about"].tobytes())["network"]["name"] == "unet"


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half of one"])
def test_a_damaged_checkpoint_is_named(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"load: .*a\.npz is no checkpoint of minseg, or damaged"):
        load(tmp_path / "a.npz")


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "scores.txt"
    path.write_text("whole")
    with pytest.raises(RuntimeError), written_whole(path) as part:  # noqa: PT012
        part.write_text("ha")
        raise RuntimeError("interrupted")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_trains_resumes_predicts_on_a_folder_of_ones_own(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
    for n in range(6):
        mask = np.zeros((20, 26), np.uint8)
        mask[4:12, 5 + n : 15 + n] = 1
        image = (mask[..., None] * 150 + rng.integers(0, 90, (20, 26, 3))).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "photos" / "images" / f"{n}.png")
        Image.fromarray(mask).save(tmp_path / "photos" / "masks" / f"{n}.png")
    out = tmp_path / "run"
    command = ["train", "--data", str(tmp_path / "photos"), "--width", "2", "--depth", "2"]
    command += ["--batch-size", "2", "--out", str(out)]
    assert main([*command, "--steps", "4"]) == 0
    assert {path.name for path in out.iterdir()} == {
        "checkpoint.npz", "predictions.png", "curves.png", "confusion.png", "scores.txt",
    }  # fmt: skip
    assert main([*command, "--steps", "4"]) == 1
    assert "holds a run already: add --resume" in capsys.readouterr().err
    assert main([*command, "--steps", "4", "--resume"]) == 1
    assert "has done 4 steps; ask for more" in capsys.readouterr().err
    assert main([*command, "--lr", "0.5", "--resume"]) == 1
    assert "--lr 0.5 does not fit: the run in" in capsys.readouterr().err
    assert main(["train", "--steps", "6", "--out", str(out), "--resume"]) == 0
    assert load(out / "checkpoint.npz")[1]["step"] == 6
    picture = tmp_path / "photos" / "images" / "0.png"
    assert main(["predict", str(out), str(picture), "--out", str(tmp_path / "seen")]) == 0
    labels = np.array(Image.open(tmp_path / "seen" / "0.png.labels.png"))
    assert labels.shape == (20, 26)
    assert set(np.unique(labels)) <= {0, 1}
    assert (tmp_path / "seen" / "0.png.seen.png").exists()
    assert main(["predict", str(out), str(picture), "nothing.png"]) == 1
    assert "there is no picture nothing.png" in capsys.readouterr().err
    assert main(["predict", str(picture), str(picture)]) == 1
    assert "is no checkpoint of minseg, or damaged" in capsys.readouterr().err


def test_the_short_demo_shows_the_worked_example_and_writes_every_picture(tmp_path, capsys):
    assert main(["demo", "--short", "--out", str(tmp_path / "demo")]) == 0
    shown = capsys.readouterr().out
    assert "      3     6  6.25   6.5  6.75     7  7.25   7.5  3.75" in shown
    assert shown.count("  yes  ") == 2
    assert shown.count("mean IoU") == 2
    run = {"predictions.png", "curves.png", "confusion.png", "scores.txt", "checkpoint.npz"}
    run |= {"untrained.npz", "early.npz", "late.npz"}
    for name in ("fcn-shapes", "unet-digits"):
        assert {path.name for path in (tmp_path / "demo" / name).iterdir()} == run
    assert (tmp_path / "demo" / "worked-example.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "resnet"], "--model must be one of 'fcn', 'segnet', 'unet', got 'resnet'"),
        (["--depth", "20"], "depth must be at most 8, got 20"),
        (["--seed", "-1"], "seed must be at least 0, got -1"),
        (["--data", "cats"], "'cats' is neither a data set"),
        (["--skips", "1"], "--skips and --dilated go with --model fcn only"),
        (["--model", "fcn", "--padding", "same"], "--padding goes with --model unet only"),
        (["--model", "fcn", "--skips", "7"], "skips must lie in 0..2"),
        (["--device", "tpu"], 'device must be "cpu" or "cuda", got \'tpu\''),
        (["--threads", "0"], "count must be an int of at least 1, got 0"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--resume"], "there is no checkpoint"),
    ],
)
def test_the_command_says_what_does_not_fit(tmp_path, capsys, arguments, sentence):
    assert main(["train", "--out", str(tmp_path / "run"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("minseg: ")
    assert sentence in error
    assert not (tmp_path / "run").exists()


def test_without_cuda_the_device_is_refused_with_the_cure(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)  # makes `import cupy` fail
    assert main(["train", "--out", str(tmp_path / "run"), "--device", "cuda"]) == 1
    assert 'pip install "minseg[cuda13]"' in capsys.readouterr().err
