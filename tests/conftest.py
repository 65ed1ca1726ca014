"""Fixtures for every test: the array modules that each op has to run under."""

import sys

import numpy as np
import pytest
import strict_cupy


def real_cupy():
    """The real CuPy where there is a card to run it on, else None."""
    try:
        import cupy
    except ImportError:
        return None
    return cupy if cupy.cuda.is_available() else None


@pytest.fixture(
    params=[
        "numpy",
        "strict",
        pytest.param("cupy", marks=[pytest.mark.gpu]),
    ]
)
def xp(request, monkeypatch):
    """numpy, the strict stand-in for CuPy, and CuPy itself where there is a graphics card.

    `xp.asarray(host_array)` brings data over; `to_numpy` of minseg.backend brings results back.
    """
    if request.param == "numpy":
        return np
    if request.param == "strict":
        strict_cupy.install(monkeypatch)
        return sys.modules["cupy"]
    cupy = real_cupy()
    if cupy is None:
        pytest.skip("no CUDA graphics card here")
    return cupy
