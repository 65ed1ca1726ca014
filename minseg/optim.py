"""How a gradient changes a parameter, and how the learning rate changes as training goes on.

Source: ENSTA Paris, CSC_5RO13, "Training Segmentation Networks"; Sutskever et al., On the
importance of initialization and momentum (2013); Kingma and Ba, Adam (2015).
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from minseg.backend import Array, array_module, to_numpy
from minseg.nn import Module, Parameter


class Optimizer:
    """Shared by all: the parameters, the learning rate `lr`, and one state array per parameter.

    A step builds new arrays and leaves the old ones as they are: whatever a recorded graph still
    holds keeps its values.
    """

    state_names: tuple[str, ...] = ()

    def __init__(self, parameters: Iterable[Parameter], lr: float, weight_decay: float) -> None:
        name = type(self).__name__
        is_iterable = isinstance(parameters, Iterable) and not isinstance(parameters, Module)
        self.parameters = list(parameters) if is_iterable else []
        if not is_iterable or not all(isinstance(p, Parameter) for p in self.parameters):
            raise TypeError(f"{name}: parameters must be Parameters, such as model.parameters()")
        if not self.parameters:
            raise ValueError(f"{name}: parameters is empty: nothing to train")
        self.lr = lr
        self.weight_decay = self._number("weight_decay", weight_decay)
        self.steps = 0
        self.state: list[dict[str, Array]] = [{} for _ in self.parameters]

    @property
    def lr(self) -> float:
        """The learning rate; a schedule sets it before each step."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = self._number("lr", value)

    def _number(self, name: str, value: Any, below: float = math.inf) -> float:
        """`value` as Python's float: NumPy's float64 would turn float32 weights into float64."""
        if not isinstance(value, (int, float, np.number)) or not 0 <= value < below:
            limit = "" if below == math.inf else f" and below {below:g}"
            raise ValueError(
                f"{type(self).__name__}: {name} must be a number of at least 0{limit}, got {value!r}"
            )
        return float(value)

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
        wanted = {
            "steps",
            *(f"{name}.{n}" for n, s in enumerate(new) if s for name in self.state_names),
        }
        if missing := sorted(wanted - set(state)):
            raise ValueError(f"{type(self).__name__}: the saved state lacks {', '.join(missing)}")
        self.steps, self.state = int(state["steps"]), new


class SGD(Optimizer):
    """Stochastic gradient descent with momentum:  v = momentum * v + g;  w = w - lr * v"""

    state_names = ("velocity",)

    def __init__(
        self, parameters: Iterable[Parameter], lr: float, momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(parameters, lr, weight_decay)
        self.momentum = self._number("momentum", momentum, below=1)

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
        b1, b2 = betas
        self.betas = self._number("betas", b1, below=1), self._number("betas", b2, below=1)
        self.eps = self._number("eps", eps)

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
    if steps < 1:
        raise ValueError(f"cosine_schedule: steps must be at least 1, got {steps}")
    if not 0 <= warmup < steps:
        raise ValueError(f"cosine_schedule: warmup must lie in 0..{steps - 1} steps, got {warmup}")

    def rate(step: int) -> float:
        if step < warmup:
            return lr * (step + 1) / warmup
        done = min(1.0, (step - warmup) / (steps - warmup))
        return final + (lr - final) * (1 + math.cos(math.pi * done)) / 2

    return rate
