"""The bench: what it counts, what it restores, what it writes. How fast anything is, no test says."""

import io
import json
import sys

import numpy as np
import pytest

import minseg.functional as F
from minseg import bench, models, roofline, tensor
from minseg.tensor import Tensor

ROOF = dict(
    processor="a machine",
    threads=2,
    gflops=100.0,
    gigabytes=10.0,
    blas="openblas",
    coretype="not set",
)


def small_step():
    network = models.build("unet", 1, 2, 2, 2)
    x, labels = np.ones((1, 1, 8, 8), np.float32), np.zeros((1, 8, 8), int)
    F.cross_entropy(network(Tensor(x)), labels).backward()


def test_the_floor_is_the_longer_of_the_two_times():
    assert roofline.floor(ROOF, 100e9, 0) == pytest.approx(1000)
    assert roofline.floor(ROOF, 0, 10e9) == pytest.approx(1000)
    assert roofline.floor(ROOF, 1e9, 10e9) == pytest.approx(1000)


def test_the_machines_roof_is_measured_and_its_blas_named():
    roof = roofline.machine()
    assert roof["gflops"] > 0
    assert roof["gigabytes"] > 0
    assert roof["coretype"]


def test_a_watched_step_notes_every_op_and_is_put_back_as_it_was():
    before = dict(vars(F)), tensor._Op.pull_back
    with roofline.watched(ROOF) as notes:
        small_step()
    assert (dict(vars(F)), tensor._Op.pull_back) == before
    assert notes["conv2d"][0] == notes["conv2d, dw"][0] == 7
    assert notes["conv2d, dx"][0] == 6  # an image needs no gradient
    assert notes["max_pool2d"][0] == notes["conv_transpose2d"][0] == 1


def test_what_a_convolution_multiplies_is_counted(monkeypatch):
    monkeypatch.setattr(roofline, "floor", lambda roof, flops, nbytes: flops)
    x, w = np.ones((2, 3, 8, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
    with roofline.watched(ROOF) as notes:
        F.conv2d(x, w, padding=1)
        F.conv_transpose2d(np.ones((2, 4, 5, 5), np.float32), w, stride=2)
    assert notes["conv2d"][2] == 2 * (2 * 4 * 8 * 8) * (3 * 3 * 3)
    assert notes["conv_transpose2d"][2] == 2 * (2 * 4 * 5 * 5) * (3 * 3 * 3)


def test_a_steps_parts_add_up_to_it():
    table = roofline.breakdown(small_step, ROOF, 3)
    assert {"conv2d", "batch_norm, dx", "all else"} <= {row["op"] for row in table}
    assert [row["ms"] for row in table] == sorted((row["ms"] for row in table), reverse=True)
    assert all(row["ms"] > 0 for row in table)


@pytest.mark.parametrize("case", bench.CASES, ids=lambda case: case.name)
def test_both_libraries_compute_the_same_in_each_case(case):
    torch = pytest.importorskip("torch")
    arrays = case.inputs(np.random.default_rng(0))
    ours = case.run(F, *arrays)
    theirs = case.run(torch.nn.functional, *map(torch.tensor, arrays)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_both_networks_have_the_same_parameters():
    pytest.importorskip("torch")
    ours, theirs = bench.Ours().training()[1], bench.PyTorch().training()[1]
    sizes = sorted(p.size for p in ours.parameters)
    assert sizes == sorted(p.numel() for p in theirs.param_groups[0]["params"])


def test_a_worker_answers_each_line_with_milliseconds(monkeypatch, capsys):
    asked = f"0.001 {bench.CASES[-2].name}\n0.001 {bench.CASES[-1].name}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(asked))
    bench.serve("minseg")
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2
    assert all(forward > 0 and backward > 0 for forward, backward in answers)


@pytest.fixture
def figures(monkeypatch):
    """A measurement of one op and the step, by minseg alone."""
    monkeypatch.setattr(bench, "CASES", bench.CASES[:1])
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    return bench.measure(quick=True)


def test_the_bench_prints_writes_and_draws(figures, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "measure", lambda quick: figures)
    assert bench.main(tmp_path / "bench.json", tmp_path / "roof.png", quick=True) == 0
    assert json.loads((tmp_path / "bench.json").read_text("utf-8")) == figures
    assert (tmp_path / "roof.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert bench.CASES[0].name in printed
    assert bench.STEP in printed
    assert "OPENBLAS_CORETYPE" in printed


def test_the_report_puts_pytorch_beside_minseg(figures):
    times = dict(forward_ms=1.0, backward_ms=2.0)
    case = dict(
        case="an op", flops=0, nbytes=8, floor_ms=0.5, minseg=times, PyTorch=times, ratio=1.25
    )
    text = bench.report(dict(machine=ROOF, cases=[case], step=[]))
    assert "1.00 + 2.00   1.00 + 2.00   1.25" in text
