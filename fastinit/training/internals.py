"""What the other packages of fastinit use of networks and runs beyond their public methods.

Private attributes of :mod:`fastinit.training` are read here and nowhere else in ``comparison``.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.training.network import Array, Network
from fastinit.training.run import Stack


def architecture_of(network: Network) -> dict[str, Any]:
    """Return the arguments that reconstruct a network, in JSON types."""
    return network._architecture


def variant(network: Network, **changes: Any) -> Network:
    """Return a network with some arguments changed, and all others the same.

    Examples
    --------
    >>> variant(Network([2, 3, 1], activation="tanh"), sizes=[2, 1])
    Network([2, 1], activation='tanh', output='sigmoid', dtype='float64')
    """
    return Network(**network._architecture | changes)


def is_weight(network: Network) -> NDArray[np.bool_]:
    """Return a mask over ``theta``: True for weights, False for biases."""
    return network._is_weight


def costs_and_scores(
    network: Network,
    thetas: Array,
    X: Array,
    Y: Array,
    sample_weight: Array | None,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weighted costs and unweighted scores of a stack, of arrays that have been checked."""
    return network._score(thetas, X, Y, sample_weight, threads)


def outputs_of(network: Network, thetas: Array, X: Array) -> Array:
    """Return the outputs of a stack, of shape (k, n_outputs, n_examples)."""
    return network._outputs(thetas, X)


def sample_weight_of(stack: Stack) -> Array | None:
    """Return the weights of the training examples, with those of the classes; None for equal."""
    data = stack[0]._data
    return None if data is None else data.sample_weight
