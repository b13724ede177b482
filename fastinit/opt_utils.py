"""The lesson on optimisers: mini-batches, momentum and Adam, under its own names.

``from fastinit.opt_utils import *`` stands in for the lesson's ``opt_utils`` module and the
functions of its notebook. :func:`fastinit.train` runs the same methods in one kernel, with
:class:`fastinit.Adam`, and with :class:`fastinit.Momentum` at ``(1 - beta)`` times the rate.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastinit.init_utils import (
    Array,
    Parameters,
    backward_propagation,
    check_dictionary,
    entries,
    forward_propagation,
    plot_decision_boundary,
    predict,
    predict_dec,
    relu,
    sigmoid,
    take_step,
)
from fastinit.init_utils import compute_loss as compute_cost
from fastinit.init_utils import initialize_parameters_he as initialize_parameters
from fastinit.init_utils import update_parameters as update_parameters_with_gd
from fastinit.lesson import make_moons
from fastinit.validation import as_float, check_integer

__all__ = [
    "backward_propagation",
    "compute_cost",
    "forward_propagation",
    "initialize_adam",
    "initialize_parameters",
    "initialize_velocity",
    "load_dataset",
    "plot_decision_boundary",
    "predict",
    "predict_dec",
    "random_mini_batches",
    "relu",
    "sigmoid",
    "update_parameters_with_adam",
    "update_parameters_with_gd",
    "update_parameters_with_momentum",
]


def load_dataset() -> tuple[Array, NDArray[np.intp]]:
    """Return the lesson's two half moons, ``X`` of shape (2, 300) and ``Y`` of shape (1, 300).

    Like the lesson's own function, this reseeds NumPy's global random state, with 3.
    """
    np.random.seed(3)
    X, y = make_moons(300, noise=0.2)
    return np.ascontiguousarray(X.T), y.reshape(1, -1)


def random_mini_batches(
    X: ArrayLike, Y: ArrayLike, mini_batch_size: int = 64, seed: int = 0
) -> list[tuple[NDArray[np.generic], NDArray[np.generic]]]:
    """Shuffle the examples and cut them into mini-batches, the last of which may be smaller.

    Like the lesson's own function, this reseeds NumPy's global random state.

    Parameters
    ----------
    X : array_like of shape (n_features, m)
    Y : array_like of shape (1, m)
    mini_batch_size : int, default 64
    seed : int, default 0

    Returns
    -------
    list of (mini_batch_X, mini_batch_Y)

    Examples
    --------
    >>> batches = random_mini_batches(np.zeros((2, 148)), np.zeros((1, 148)))
    >>> [Y.shape for X, Y in batches]
    [(1, 64), (1, 64), (1, 20)]
    """
    size = check_integer("mini_batch_size", mini_batch_size, 1)
    seed = check_integer("seed", seed, 0, 2**32)
    X, Y = np.asarray(X), np.asarray(Y)
    for name, array in (("X", X), ("Y", Y)):
        if array.ndim != 2:
            raise ValueError(f"{name}: expected 2 dimensions; got shape {array.shape}")
    m = X.shape[1]
    if Y.shape[1] != m:
        raise ValueError(f"Y: expected shape (1, {m}) to match X {X.shape}; got {Y.shape}")
    np.random.seed(seed)
    order = np.random.permutation(m)
    return [(X[:, order[k : k + size]], Y[:, order[k : k + size]]) for k in range(0, m, size)]


def initialize_velocity(parameters: Mapping[str, Array]) -> Parameters:
    """Return zeros of the shape of each parameter: ``dW1, db1, ...``.

    Examples
    --------
    >>> initialize_velocity({"b1": np.ones((1, 2))})
    {'db1': array([[0., 0.]])}
    """
    values = entries("parameters", parameters, parameters)
    return {
        f"d{name}": np.zeros(np.shape(value))
        for name, value in zip(parameters, values, strict=True)
    }


def initialize_adam(parameters: Mapping[str, Array]) -> tuple[Parameters, Parameters]:
    """Return both moving averages of Adam, ``v`` and ``s``, as :func:`initialize_velocity`."""
    return initialize_velocity(parameters), initialize_velocity(parameters)


def update_parameters_with_momentum(
    parameters: Parameters,
    grads: Mapping[str, Array],
    v: Parameters,
    beta: float,
    learning_rate: float,
) -> tuple[Parameters, Parameters]:
    """Take a step with ``v = beta * v + (1 - beta) * gradient``, down ``learning_rate * v``.

    Parameters
    ----------
    parameters, v : dict
        Updated, and returned; their arrays are replaced once all are computed.
    grads : dict
        Has a gradient ``d<name>`` of the same shape for each parameter.
    beta, learning_rate : float

    Returns
    -------
    parameters, v : dict

    Examples
    --------
    >>> one, half = {"b": np.array([1.0])}, {"db": np.array([0.5])}
    >>> update_parameters_with_momentum(one, half, initialize_velocity(one), 0.5, 1.0)
    ({'b': array([0.75])}, {'db': array([0.25])})
    """
    rate, beta = as_float("learning_rate", learning_rate), as_float("beta", beta)
    check_dictionary("v", v)
    take_step(parameters, grads, v, None, rate, beta, 0.0, 0.0, 1)
    return parameters, v


def update_parameters_with_adam(
    parameters: Parameters,
    grads: Mapping[str, Array],
    v: Parameters,
    s: Parameters,
    t: int,
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> tuple[Parameters, Parameters, Parameters]:
    """Take a step of Adam [1]_.

    Parameters
    ----------
    parameters, v, s : dict
        Updated, and returned; their arrays are replaced once all are computed.
    grads : dict
        Has a gradient ``d<name>`` of the same shape for each parameter.
    t : int
        Which step this is, from 1 on.
    learning_rate, beta1, beta2, epsilon : float

    Returns
    -------
    parameters, v, s : dict

    References
    ----------
    .. [1] Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015.

    Examples
    --------
    >>> one, gradient = {"b": np.array([1.0])}, {"db": np.array([0.5])}
    >>> update_parameters_with_adam(one, gradient, *initialize_adam(one), 1, 0.25, epsilon=0.0)[0]
    {'b': array([0.75])}
    """
    t = check_integer("t", t, 1)
    rate, epsilon = as_float("learning_rate", learning_rate), as_float("epsilon", epsilon)
    beta1, beta2 = as_float("beta1", beta1), as_float("beta2", beta2)
    check_dictionary("v", v)
    check_dictionary("s", s)
    take_step(parameters, grads, v, s, rate, beta1, beta2, epsilon, t)
    return parameters, v, s
