"""The interface of the dense kernels; every CPU level and ``fastinit.reference`` has the same."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Real = TypeVar("Real", np.float32, np.float64)

def linear(W: NDArray[Real], b: NDArray[Real], A: NDArray[Real], out: NDArray[Real]) -> None: ...
def linear_relu(
    W: NDArray[Real], b: NDArray[Real], A: NDArray[Real], out: NDArray[Real]
) -> None: ...
def sigmoid(Z: NDArray[Real], out: NDArray[Real]) -> None: ...
def sigmoid_cross_entropy(
    Z: NDArray[Real], Y: NDArray[Real], A: NDArray[Real], dZ: NDArray[Real]
) -> float: ...
def backward(
    W: NDArray[Real],
    A: NDArray[Real],
    dZ: NDArray[Real],
    dW: NDArray[Real],
    db: NDArray[Real],
    dA: NDArray[Real] | None,
) -> None: ...
def update_parameters(
    theta: NDArray[Real], gradient: NDArray[Real], learning_rate: float
) -> None: ...
def forward(
    sizes: NDArray[np.intp], theta: NDArray[Real], X: NDArray[Real], out: NDArray[Real]
) -> None: ...
def loss_and_gradient(
    sizes: NDArray[np.intp],
    theta: NDArray[Real],
    X: NDArray[Real],
    Y: NDArray[Real],
    gradient: NDArray[Real],
) -> float: ...
def descend(
    sizes: NDArray[np.intp],
    theta: NDArray[Real],
    X: NDArray[Real],
    Y: NDArray[Real],
    learning_rate: float,
    costs: NDArray[np.float64],
) -> int: ...
