"""The interface of the dense kernels; every CPU level and ``fastinit.reference`` has the same."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Real = TypeVar("_Real", np.float32, np.float64)

__test__: dict[str, str]  # Cython puts one into every module

def linear(
    W: NDArray[_Real], b: NDArray[_Real], A: NDArray[_Real], out: NDArray[_Real]
) -> None: ...
def linear_relu(
    W: NDArray[_Real], b: NDArray[_Real], A: NDArray[_Real], out: NDArray[_Real]
) -> None: ...
def sigmoid(Z: NDArray[_Real], out: NDArray[_Real]) -> None: ...
def sigmoid_cross_entropy(
    Z: NDArray[_Real], Y: NDArray[_Real], A: NDArray[_Real], dZ: NDArray[_Real]
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
    theta: NDArray[_Real], gradient: NDArray[_Real], learning_rate: float
) -> None: ...
def forward(
    sizes: NDArray[np.intp], theta: NDArray[_Real], X: NDArray[_Real], out: NDArray[_Real]
) -> None: ...
def loss_and_gradient(
    sizes: NDArray[np.intp],
    theta: NDArray[_Real],
    X: NDArray[_Real],
    Y: NDArray[_Real],
    gradient: NDArray[_Real],
) -> float: ...
def descend(
    sizes: NDArray[np.intp],
    theta: NDArray[_Real],
    X: NDArray[_Real],
    Y: NDArray[_Real],
    learning_rate: float,
    costs: NDArray[np.float64],
) -> int: ...
