"""Every kernel again, in plain NumPy: the permanent slow twin.

Same names, same arguments, same meaning as ``fastinit.kernels.dense``; the tests hold each pair
together. ``FASTINIT_KERNELS=reference`` runs everything on this file.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 or float64, the same for all arguments of a call

# As in the kernels, infinities and NaN are results here, not news.
_quiet = np.errstate(all="ignore")


@_quiet
def linear(W: Array, b: Array, A: Array, out: Array) -> None:
    """Overwrite ``out`` with ``W @ A + b``."""
    np.matmul(W, A, out=out)
    out += b


@_quiet
def linear_relu(W: Array, b: Array, A: Array, out: Array) -> None:
    """Overwrite ``out`` with ``max(W @ A + b, 0)``; NaN stays NaN."""
    linear(W, b, A, out)
    np.maximum(out, 0, out=out)


@_quiet
def sigmoid(Z: Array, out: Array) -> None:
    """Overwrite ``out`` with ``1 / (1 + exp(-Z))``."""
    out[...] = 1 / (1 + np.exp(-Z))


@_quiet
def sigmoid_cross_entropy(Z: Array, Y: Array, A: Array, dZ: Array) -> float:
    """Overwrite ``A`` with ``sigmoid(Z)`` and ``dZ`` with ``(A - Y) / m``; return the cost."""
    m = Z.shape[1]
    sigmoid(Z, A)
    np.subtract(A, Y, out=dZ)
    dZ *= 1 / max(m, 1)
    total = np.nansum(-np.log(A) * Y - np.log(1 - A) * (1 - Y), dtype=np.float64)
    return float(total / np.float64(m))


@_quiet
def backward(
    W: Array,
    A: Array,
    dZ: Array,
    dW: Array,
    db: Array,
    dA: Array | None,
) -> None:
    """Accumulate ``dW += dZ @ A.T`` and ``db += sum(dZ)``; overwrite ``dA`` unless it is None."""
    dW += dZ @ A.T
    db += dZ.sum(axis=1, keepdims=True)
    if dA is not None:
        np.multiply(W.T @ dZ, A > 0, out=dA)


@_quiet
def update_parameters(theta: Array, gradient: Array, learning_rate: float) -> None:
    """Update ``theta -= learning_rate * gradient`` in place."""
    theta -= theta.dtype.type(learning_rate) * gradient


def _layers(sizes: NDArray[np.intp], theta: Array) -> Iterator[tuple[Array, Array]]:
    """Yield (W, b) of each layer as views of ``theta``."""
    end = 0
    for n_in, n_out in pairwise(sizes):
        start, middle, end = end, end + n_out * n_in, end + n_out * (n_in + 1)
        yield theta[start:middle].reshape(n_out, n_in), theta[middle:end].reshape(n_out, 1)


def _activations(sizes: NDArray[np.intp], theta: Array, X: Array) -> list[Array]:
    """Return X and what every layer makes of it; the last layer stays linear."""
    activations = [X]
    layers = list(_layers(sizes, theta))
    for W, b in layers:
        out = np.empty((len(W), X.shape[1]), X.dtype)
        (linear if len(activations) == len(layers) else linear_relu)(W, b, activations[-1], out)
        activations.append(out)
    return activations


def forward(sizes: NDArray[np.intp], theta: Array, X: Array, out: Array) -> None:
    """Overwrite ``out`` with the network's output, after the sigmoid."""
    sigmoid(_activations(sizes, theta, X)[-1], out)


def loss_and_gradient(
    sizes: NDArray[np.intp],
    theta: Array,
    X: Array,
    Y: Array,
    gradient: Array,
) -> float:
    """Overwrite ``gradient`` with the cost's derivative by ``theta``; return the cost."""
    *inputs, Z = _activations(sizes, theta, X)
    dZ = np.empty_like(Z)
    cost = sigmoid_cross_entropy(Z, Y, np.empty_like(Z), dZ)
    gradient[...] = 0
    parameters = list(_layers(sizes, theta))
    gradients = list(_layers(sizes, gradient))
    for layer in reversed(range(len(parameters))):
        dA = np.empty_like(inputs[layer]) if layer > 0 else None
        backward(parameters[layer][0], inputs[layer], dZ, *gradients[layer], dA)
        if dA is not None:
            dZ = dA
    return cost


@_quiet
def descend(
    sizes: NDArray[np.intp],
    theta: Array,
    X: Array,
    Y: Array,
    learning_rate: float,
    costs: NDArray[np.float64],
) -> int:
    """Run ``len(costs)`` iterations of gradient descent; return how many were whole."""
    gradient = np.empty_like(theta)
    updated = np.empty_like(theta)
    for i in range(len(costs)):
        cost = loss_and_gradient(sizes, theta, X, Y, gradient)
        updated[...] = theta
        update_parameters(updated, gradient, learning_rate)
        if not np.isfinite(updated).all():
            return i
        theta[...] = updated
        costs[i] = cost
    return len(costs)
