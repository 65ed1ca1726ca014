"""How a gradient changes a parameter, and how the learning rate changes as training goes on.

Source: ENSTA Paris, CSC_5RO13, "Training Segmentation Networks"; Sutskever et al., On the importance of
initialization and momentum (2013); Kingma and Ba, Adam (2015).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minseg.backend import Array, array_module, to_numpy
from minseg.nn import Parameter


class Optimizer:
    """Shared by all: the parameters, the learning rate `lr`, and one state array per parameter.

    A step builds new arrays and leaves the old ones as they are: whatever a recorded graph still
    holds keeps its values.
    """

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        name = type(self).__name__
        if not self.parameters:
            raise ValueError(f"{name}: parameters is empty: nothing to train")
        for value, label in ((lr, "lr"), (weight_decay, "weight_decay")):
            if not (isinstance(value, (int, float)) and 0 <= value < math.inf):
                raise ValueError(f"{name}: {label} must be a number of at least 0, got {value!r}")
        self.lr, self.weight_decay = lr, weight_decay
        self.steps = 0
        self.state: list[dict[str, Array]] = [{} for _ in self.parameters]

    def update(self, data: Array, gradient: Array, state: dict[str, Array]) -> Array:
        """The step to subtract from `data`; may replace what is in `state`."""
        raise NotImplementedError

    def step(self) -> None:
        """Move every parameter that has a gradient one step downhill."""
        self.steps += 1
        for parameter, state in zip(self.parameters, self.state, strict=True):
            if parameter.grad is None:
                continue
            data, gradient = parameter.data, parameter.grad
            if self.weight_decay:
                gradient = gradient + self.weight_decay * data
            if not state:
                zeros = array_module(data).zeros_like
                state.update({name: zeros(data) for name in self.state_names})
            parameter.data = data - self.update(data, gradient, state)

    def zero_grad(self) -> None:
        """Forget all gradients; `backward` adds to what it finds."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, np.ndarray]:
        """All a resumed run needs, as arrays on the host."""
        arrays = {"steps": np.array(self.steps)}
        for n, state in enumerate(self.state):
            arrays |= {f"{name}.{n}": np.array(to_numpy(value)) for name, value in state.items()}
        return arrays

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what state_dict() gave.

        Raises:
            ValueError: the state belongs to another optimiser or other parameters.
        """
        new: list[dict[str, Array]] = [{} for _ in self.parameters]
        for key, value in state.items():
            name, _, number = key.partition(".")
            if key == "steps":
                continue
            known = name in self.state_names and number.isdigit() and int(number) < len(new)
            if not known or np.shape(value) != self.parameters[int(number)].shape:
                raise ValueError(
                    f"{type(self).__name__}: the saved state {key} of shape {np.shape(value)} does "
                    "not belong to this optimiser and these parameters"
                )
            new[int(number)][name] = array_module(self.parameters[int(number)].data).asarray(value)
        self.steps, self.state = int(state["steps"]), new


class SGD(Optimizer):
    """Stochastic gradient descent with momentum:  v = momentum * v + g;  w = w - lr * v"""

    state_names = ("velocity",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr, weight_decay)
        if not 0 <= momentum < 1:
            raise ValueError(f"SGD: momentum must lie in 0 <= momentum < 1, got {momentum}")
        self.momentum = momentum

    def update(self, data: Array, gradient: Array, state: dict[str, Array]) -> Array:
        if self.momentum:
            gradient = state["velocity"] = self.momentum * state["velocity"] + gradient
        return self.lr * gradient


class Adam(Optimizer):
    """Adam: a step of about lr in each direction, whatever the size of the gradient there.

        m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
        w = w - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Source: Kingma and Ba (2015), algorithm 1.
    """

    state_names = ("mean", "square")

    def __init__(
        self, parameters: Iterable[Parameter], lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr, weight_decay)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"Adam: betas must lie in 0 <= beta < 1, got {betas}")
        self.betas, self.eps = betas, eps

    def update(self, data: Array, gradient: Array, state: dict[str, Array]) -> Array:
        b1, b2 = self.betas
        mean = state["mean"] = b1 * state["mean"] + (1 - b1) * gradient
        square = state["square"] = b2 * state["square"] + (1 - b2) * (gradient * gradient)
        spread = array_module(data).sqrt(square / (1 - b2**self.steps)) + self.eps
        return self.lr / (1 - b1**self.steps) * mean / spread


Schedule = Callable[[int], float]


def step_schedule(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr(step) = lr * factor^floor(step / every): the rate drops by a factor every so many steps."""
    if every < 1:
        raise ValueError(f"step_schedule: every must be at least 1 step, got {every}")
    return lambda step: lr * factor ** (step // every)


def cosine_schedule(lr: float, steps: int, warmup: int = 0, final: float = 0.0) -> Schedule:
    """lr(step) falls from lr to `final` along half a cosine, after `warmup` steps of rising to lr.

    Source: Loshchilov and Hutter, SGDR (2017), equation 5.
    """
    if not 0 <= warmup < steps:
        raise ValueError(f"cosine_schedule: warmup must lie in 0..{steps - 1} steps, got {warmup}")

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = min(1.0, (step - warmup) / (steps - warmup))
        return final + (lr - final) * (1 + math.cos(math.pi * done)) / 2

    return rate
