"""Which array module owns an array, NumPy or CuPy, and how an array moves between the two.

Every op asks its own inputs where they live and computes there, so one text serves the processor
and the graphics card. This is the only file that imports cupy.
"""

import sys
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # np.ndarray or cupy.ndarray: NumPy's own stubs would refuse the second


def array_module(*arrays: Any) -> ModuleType:
    """numpy or cupy: the module that owns the given arrays (numpy when none is on a card)."""
    # A CuPy array can only exist once somebody imported cupy, so nothing is imported to find out.
    cupy = sys.modules.get("cupy")
    if cupy is not None and any(isinstance(array, cupy.ndarray) for array in arrays):
        return cupy
    return np


def is_array(value: Any) -> bool:
    """Is this a NumPy or CuPy array?"""
    return isinstance(value, np.ndarray) or array_module(value) is not np


def same_device(function: str, arrays: dict[str, Any]) -> None:
    """Do nothing, or say which argument is on the card and which is not; None and numbers go with both."""
    devices = {name: device_of(value) for name, value in arrays.items() if is_array(value)}
    if len(set(devices.values())) > 1:
        places = ", ".join(f"{name} is on {device}" for name, device in devices.items())
        raise TypeError(f"{function}: all arrays must be on one device, but {places}; use to()")


def device_of(array: Array) -> str:
    """ "cpu" or "cuda": where the array lives."""
    return "cpu" if array_module(array) is np else "cuda"


def to_numpy(array: Array) -> np.ndarray:
    """The array on the host; a NumPy array comes back as it is."""
    xp = array_module(array)
    return np.asarray(array) if xp is np else xp.asnumpy(array)


def to_device(array: Array, device: str) -> Array:
    """The array on `device` ("cpu" or "cuda"); unchanged when it is there already.

    Raises:
        ValueError: an unknown device, or "cuda" where CuPy or the card is missing.
    """
    if device == "cpu":
        return to_numpy(array)
    return cuda_module().asarray(array) if check_device(device) == "cuda" else array


def check_device(device: str) -> str:
    """`device` itself, when this machine has it; otherwise a ValueError that says what is missing."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f'device must be "cpu" or "cuda", got {device!r}')
    if device == "cuda":
        cuda_module()
    return device


def cuda_module() -> ModuleType:
    """cupy, ready to compute; a ValueError that says what to install where it is not."""
    try:
        import cupy
    except ImportError:
        raise ValueError(
            'device "cuda" needs CuPy, which is not installed: run `pip install "minseg[cuda13]"` '
            '(or cuda12, whichever `nvidia-smi` shows), or use device "cpu"'
        ) from None
    if not cupy.cuda.is_available():
        raise ValueError(
            'device "cuda": CuPy is installed but finds no NVIDIA graphics card with a working driver '
            '(does `nvidia-smi` list one?); use device "cpu"'
        )
    return cupy
