"""Initialisers that need data: layer-sequential unit variance (LSUV)."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.kernels import dense
from fastinit.validation import check_integer


def lsuv(
    network: Any, theta: NDArray[Any], X: Any, *, tolerance: float = 0.01, attempts: int = 10
) -> NDArray[Any]:
    """Return ``theta`` with each layer's weights scaled to unit variance of its outputs on ``X``.

    Layer-sequential unit-variance initialisation. The outputs of a layer are its pre-activations,
    and the next layer gets their activations. The paper starts from :func:`orthogonal` weights, but
    any start can be used.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,)
        The start; not changed.
    X : array_like of shape (n_features, n_examples)
        A batch of data.
    tolerance : float, default 0.01
        A layer is done when its variance is this close to 1. With biases that are not zero this
        may take several attempts.
    attempts : int, default 10
        Scalings of a layer at most.

    Raises
    ------
    ValueError
        If the outputs of a layer do not vary, so that no scale helps.

    References
    ----------
    D. Mishkin and J. Matas (2016), "All you need is a good init", arXiv:1511.06422.

    Examples
    --------
    >>> import fastinit as fi
    >>> net = fi.Network([2, 10, 1])
    >>> X = fi.normal((2, 300), seed=1)
    >>> theta = fi.lsuv(net, net.initialize("orthogonal", seed=0), X)
    >>> W = net.unpack(theta)
    >>> bool(abs((W["W1"] @ X).var() - 1) < 0.01)
    True
    """
    A = network.check_X(X)
    theta = network.check_theta(theta).copy()
    check_integer("attempts", attempts)
    parameters = network.unpack(theta)
    for layer in range(1, network.n_layers + 1):
        W = parameters[f"W{layer}"]
        b = parameters.get(f"b{layer}", np.zeros((len(W), 1), theta.dtype))
        Z = np.empty((len(W), A.shape[1]), theta.dtype)
        dense.linear(W, b, A, Z)
        for _ in range(attempts):
            variance = float(Z.var(dtype=np.float64))
            if not 0 < variance < math.inf:
                raise ValueError(
                    f"theta: expected outputs of layer {layer} that vary; got variance {variance}"
                )
            if abs(variance - 1) <= tolerance:
                break
            W /= math.sqrt(variance)
            dense.linear(W, b, A, Z)
        A = np.empty_like(Z)
        dense.activate(Z, network.activation, network.negative_slope, A, np.empty_like(Z))
    return theta
