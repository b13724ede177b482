"""Initialisers that need data: layer-sequential unit variance (LSUV)."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.kernels import dense
from fastinit.validation import as_float, check_integer

if TYPE_CHECKING:
    from fastinit.training.network import Network


def lsuv(
    network: "Network",
    theta: NDArray[Any],
    X: ArrayLike,
    *,
    tolerance: float = 0.01,
    attempts: int = 10,
) -> NDArray[Any]:
    """Rescale the weights of each layer so that its outputs on ``X`` have unit variance.

    Layer-sequential unit-variance initialisation. The outputs of a layer are its pre-activations;
    the next layer receives their activations. The paper starts from :func:`orthogonal` weights, but
    any initial values can be used. Biases are kept.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,), the dtype of the network
        The initial parameters. They are not modified.
    X : array_like of shape (n_features, n_examples)
        A batch of data.
    tolerance : float, default 0.01
        The largest accepted distance of a variance from 1.
    attempts : int, default 10
        The maximum number of times that a layer is rescaled. Layers with nonzero biases may need
        several.

    Returns
    -------
    ndarray of shape (n_parameters,)

    Raises
    ------
    ValueError
        If the outputs of a layer are constant, so that no scale gives unit variance.

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
    # Not isinstance: Network is defined in a package that imports this one.
    if isinstance(network, type) or not hasattr(network, "check_theta"):
        raise TypeError(f"network: expected a Network; got {type(network).__name__}")
    tolerance = as_float("tolerance", tolerance)
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance: expected finite and >= 0; got {tolerance}")
    attempts = check_integer("attempts", attempts, 1)
    A = network.check_X(X)
    if A.shape[1] == 0:
        raise ValueError(f"X: expected at least one example; got shape {A.shape}")
    theta = network.check_theta(theta).copy()
    parameters = network.unpack(theta)
    for layer in range(1, network.n_layers + 1):
        W = parameters[f"W{layer}"]
        b = parameters.get(f"b{layer}", np.zeros((len(W), 1), theta.dtype))
        Z = np.empty((len(W), A.shape[1]), theta.dtype)
        dense.linear(W, b, A, Z)
        for _ in range(attempts):
            with np.errstate(all="ignore"):  # a variance that overflows is refused below
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
