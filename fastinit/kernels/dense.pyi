"""The interface of the dense kernels, the same for every CPU level and ``fastinit.reference``."""

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import disjoint_base

_Real = TypeVar("_Real", np.float32, np.float64)

class _Layout(Protocol):
    """The interface of :class:`fastinit.training.network.Layout`."""

    @property
    def sizes(self) -> tuple[int, ...]: ...
    @property
    def activation(self) -> str: ...
    @property
    def negative_slope(self) -> float: ...
    @property
    def loss(self) -> str: ...
    @property
    def bias(self) -> bool: ...

class _Rule(Protocol):
    """The interface of :class:`fastinit.training.optimizers.Rule`."""

    @property
    def name(self) -> str: ...
    @property
    def beta1(self) -> float: ...
    @property
    def beta2(self) -> float: ...
    @property
    def epsilon(self) -> float: ...
    @property
    def l2(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def penalty_in_cost(self) -> float: ...
    @property
    def l2_by_batch(self) -> bool: ...
    @property
    def nesterov(self) -> bool: ...
    @property
    def rate_in_velocity(self) -> bool: ...
    @property
    def epsilon_hat(self) -> bool: ...

# The names of what can be chosen; the reference has dictionaries of functions.
ACTIVATIONS: Collection[str]
LOSSES: Collection[str]
OPTIMIZERS: Collection[str]

__test__: dict[str, str]  # Cython adds one to every module

def all_finite(A: NDArray[_Real]) -> bool: ...
def usable(
    array: Any,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    content: str,
    written: bool = False,
) -> bool: ...
def linear(
    W: NDArray[_Real], b: NDArray[_Real], A: NDArray[_Real], out: NDArray[_Real]
) -> None: ...
def linear_relu(
    W: NDArray[_Real], b: NDArray[_Real], A: NDArray[_Real], out: NDArray[_Real]
) -> None: ...
def sigmoid(Z: NDArray[_Real], out: NDArray[_Real]) -> None: ...
def activate(
    Z: NDArray[_Real],
    activation: str,
    negative_slope: float,
    A: NDArray[_Real],
    derivatives: NDArray[_Real],
) -> None: ...
def loss(
    Z: NDArray[_Real],
    Y: NDArray[_Real],
    sample_weight: NDArray[_Real] | None,
    loss: str,
    A: NDArray[_Real],
    dZ: NDArray[_Real],
) -> float: ...
def backward(
    W: NDArray[_Real],
    A: NDArray[_Real],
    dZ: NDArray[_Real],
    dW: NDArray[_Real],
    db: NDArray[_Real],
    dA: NDArray[_Real] | None,
) -> None: ...
def update_parameters(
    layout: _Layout,
    rule: _Rule,
    theta: NDArray[_Real],
    gradient: NDArray[_Real],
    state: NDArray[_Real],
    step: int,
    rates: NDArray[np.float64],
) -> None: ...

@disjoint_base
class Descent:
    """The memory and the threads of a run, which are kept between its slices."""

    def __new__(cls) -> Descent: ...
    def interrupt(self) -> None: ...

def forward(
    layout: _Layout,
    thetas: NDArray[_Real],
    X: NDArray[_Real],
    Y: NDArray[_Real] | None,
    sample_weight: NDArray[_Real] | None,
    out: NDArray[_Real],
    threads: int,
    descent: Descent | None = None,
) -> NDArray[np.float64]: ...
def loss_and_gradient(
    layout: _Layout,
    thetas: NDArray[_Real],
    X: NDArray[_Real],
    Y: NDArray[_Real],
    sample_weight: NDArray[_Real] | None,
    gradients: NDArray[_Real],
    threads: int,
    descent: Descent | None = None,
) -> NDArray[np.float64]: ...
def descend(
    layout: _Layout,
    rules: Sequence[_Rule],
    thetas: NDArray[_Real],
    states: NDArray[_Real],
    step: int,
    X: NDArray[_Real],
    Y: NDArray[_Real],
    sample_weight: NDArray[_Real] | None,
    order: NDArray[np.intp] | None,
    batch_size: int,
    first: int,
    rates: NDArray[np.float64],
    costs: NDArray[np.float64],
    counts: NDArray[np.intp],
    networks: NDArray[np.intp],
    threads: int,
    descent: Descent | None = None,
) -> None: ...
def propagate(
    X: Any, parameters: Sequence[Any], masks: Sequence[Any] | None, keep_prob: float
) -> list[NDArray[np.float64]]: ...
def cross_entropy(A: Any, Y: Any) -> float: ...
def propagate_back(
    Y: Any,
    activations: Sequence[Any],
    weights: Sequence[Any],
    masks: Sequence[Any] | None,
    keep_prob: float,
    lambd: float,
    average_first: bool,
) -> list[NDArray[np.float64]]: ...
def step(
    parameters: MutableMapping[Any, Any],
    grads: Mapping[Any, Any],
    v: MutableMapping[Any, Any] | None,
    s: MutableMapping[Any, Any] | None,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    t: float,
) -> None: ...

# For the tests alone, and without a counterpart in the reference.
def _exp(Z: NDArray[_Real], out: NDArray[_Real]) -> None: ...
def _log(Z: NDArray[_Real], out: NDArray[_Real]) -> None: ...
def _log1p(Z: NDArray[_Real], out: NDArray[_Real]) -> None: ...
