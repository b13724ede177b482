"""Optimisers and learning-rate schedules.

The classes hold settings only; the updates are computed by the kernels.

``learning_rate`` is a number or a schedule: a callable that takes the iteration, counted from 0,
and returns a number. It may also be a sequence with one entry per layer. An entry is a number or a
schedule, or a pair of these for the weights and the biases of the layer. A learning rate of 0
leaves the parameters unchanged.

``l2`` adds ``l2 / 2 * sum(W ** 2)`` to the cost that is minimised. The sum runs over the weights,
not over the biases. Recorded costs do not include it, unless :func:`fastinit.train` is called with
``penalty_in_cost=True``.
"""

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.validation import as_float, check_bool, check_integer, is_sequence

Rate = float | Callable[[int], float]
# One for all parameters, one per layer, or one each for the weights and the biases of every layer.
LearningRate = Rate | Sequence[Rate | Sequence[Rate]]


class Rule(NamedTuple):
    """Name and settings of an update kernel."""

    name: str
    beta1: float = 0.0
    beta2: float = 0.0
    epsilon: float = 0.0
    l2: float = 0.0
    weight_decay: float = 0.0
    # The factor of ``l2 / 2 * sum(W ** 2)`` in the recorded costs; 0 leaves it out.
    penalty_in_cost: float = 0.0
    # Whether ``l2`` is divided by the total weight of the examples of each batch.
    l2_by_batch: bool = False
    nesterov: bool = False
    rate_in_velocity: bool = False
    epsilon_hat: bool = False


class Optimizer:
    """Base class of the optimisers. Each optimiser is a frozen dataclass of settings.

    Attributes
    ----------
    slots : int
        Number of state vectors, of n_parameters numbers each, that the optimiser keeps.
    learning_rate : float, callable or tuple
        The learning rate. :class:`LBFGS` has none.

    Examples
    --------
    >>> isinstance(Adam(), Optimizer), Adam.slots
    (True, 2)
    """

    slots: ClassVar[int] = 0
    learning_rate: LearningRate

    @property
    def rule(self) -> Rule:
        """Name and settings of the update kernel."""
        raise TypeError(f"optimizer: expected one with an update kernel; got {self!r}")


@dataclass(frozen=True, kw_only=True)
class InverseScaling:
    """Learning-rate schedule ``initial / (iteration + 1) ** power``.

    Parameters
    ----------
    initial : float
        Learning rate of iteration 0; finite and >= 0.
    power : float, default 0.5
        Exponent, finite and >= 0; ``power_t`` in scikit-learn.

    Raises
    ------
    TypeError
        If an argument is not a number.
    ValueError
        If an argument is negative or not finite.

    Examples
    --------
    >>> InverseScaling(initial=0.1)(3)
    0.05
    """

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        _check(self, initial=math.inf, power=math.inf)

    def __call__(self, iteration: int) -> float:
        """Return the learning rate of an iteration, counted from 0."""
        return float(self.initial / (iteration + 1) ** self.power)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Learning-rate schedule that decays along a half cosine and then stays at ``final`` [1]_.

    Parameters
    ----------
    initial : float
        Learning rate of iteration 0; finite and >= 0.
    iterations : int
        Number of iterations after which ``final`` is reached; at least 1.
    final : float, default 0
        Learning rate from then on; finite and >= 0.

    Raises
    ------
    TypeError
        If an argument is not a number, or `iterations` is not an integer.
    ValueError
        If an argument is out of its range.

    Notes
    -----
    This is the schedule of [1]_ without restarts.

    References
    ----------
    .. [1] Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017,
       arXiv:1608.03983.

    Examples
    --------
    >>> rate = Cosine(initial=0.1, iterations=100)
    >>> rate(0), round(rate(50), 12), rate(100)
    (0.1, 0.05, 0.0)
    """

    initial: float
    iterations: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(self, initial=math.inf, final=math.inf)
        check_integer("iterations", self.iterations, 1)

    def __call__(self, iteration: int) -> float:
        """Return the learning rate of an iteration, counted from 0."""
        if iteration >= self.iterations:
            return self.final
        share = (1 + math.cos(math.pi * iteration / self.iterations)) / 2
        return self.final + (self.initial - self.final) * share


@dataclass(frozen=True)
class GradientDescent(Optimizer):
    """Plain gradient descent: ``theta -= learning_rate * gradient``.

    Parameters
    ----------
    learning_rate : float, callable or sequence, default 0.01
        The learning rate, finite and >= 0, or a schedule, or a sequence with one entry per layer:
        see :mod:`fastinit.optimizers`.
    l2 : float, default 0
        Coefficient of the penalty ``l2 / 2 * sum(W ** 2)`` on the weights; finite and >= 0.
    l2_by_batch : bool, default False
        Whether `l2` is divided by the number of examples of each batch, or the sum of their
        weights, as scikit-learn divides ``alpha``.

    Raises
    ------
    TypeError
        If a setting is not a number, or `learning_rate` is not a number, a callable or a
        sequence.
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> GradientDescent(0.1)
    GradientDescent(learning_rate=0.1, l2=0.0, l2_by_batch=False)
    """

    learning_rate: LearningRate = 0.01
    l2: float = 0.0
    l2_by_batch: bool = False

    def __post_init__(self) -> None:
        _check_rate(self)
        _check(self, l2=math.inf)
        check_bool("l2_by_batch", self.l2_by_batch)

    @property
    def rule(self) -> Rule:
        """Name and settings of the update kernel."""
        return Rule("gradient_descent", l2=self.l2, l2_by_batch=bool(self.l2_by_batch))


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Gradient descent with momentum: ``v = momentum * v + gradient; theta -= learning_rate * v``.

    Parameters
    ----------
    learning_rate : float, callable or sequence, default 0.01
        The learning rate, finite and >= 0, or a schedule, or a sequence with one entry per layer:
        see :mod:`fastinit.optimizers`.
    momentum : float, default 0.9
        Decay rate of ``v``, in [0, 1).
    nesterov : bool, default False
        Whether to use Nesterov momentum [1]_: the step is ``learning_rate`` times
        ``gradient + momentum * v``, as in PyTorch.
    l2 : float, default 0
        Coefficient of the penalty ``l2 / 2 * sum(W ** 2)`` on the weights; finite and >= 0.
    l2_by_batch : bool, default False
        Whether `l2` is divided by the number of examples of each batch, or the sum of their
        weights, as scikit-learn divides ``alpha``.
    rate_in_velocity : bool, default False
        Whether the velocity includes the learning rate: ``v = momentum * v + learning_rate *
        gradient; theta -= v``, as in [1]_, Keras and scikit-learn. The steps are the same while the
        learning rate is.

    Raises
    ------
    TypeError
        If a setting is not a number, one that is True or False is not a bool, or `learning_rate` is
        not a number, a callable or a sequence.
    ValueError
        If a setting is out of its range.

    References
    ----------
    .. [1] Sutskever et al., "On the importance of initialization and momentum in deep learning",
       ICML 2013.

    Examples
    --------
    >>> Momentum(0.1, nesterov=True)  # doctest: +NORMALIZE_WHITESPACE
    Momentum(learning_rate=0.1, momentum=0.9, nesterov=True, l2=0.0, l2_by_batch=False,
             rate_in_velocity=False)
    """

    learning_rate: LearningRate = 0.01
    momentum: float = 0.9
    nesterov: bool = False
    l2: float = 0.0
    l2_by_batch: bool = False
    rate_in_velocity: bool = False
    slots = 1

    def __post_init__(self) -> None:
        _check_rate(self)
        _check(self, momentum=1, l2=math.inf)
        for name in ("nesterov", "l2_by_batch", "rate_in_velocity"):
            check_bool(name, getattr(self, name))

    @property
    def rule(self) -> Rule:
        """Name and settings of the update kernel."""
        return Rule(
            "momentum",
            self.momentum,
            l2=self.l2,
            l2_by_batch=bool(self.l2_by_batch),
            nesterov=bool(self.nesterov),
            rate_in_velocity=bool(self.rate_in_velocity),
        )


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam [1]_.

    ::

        v = beta1 * v + (1 - beta1) * gradient
        s = beta2 * s + (1 - beta2) * gradient ** 2
        v_hat = v / (1 - beta1 ** t)
        s_hat = s / (1 - beta2 ** t)
        theta -= learning_rate * v_hat / (sqrt(s_hat) + epsilon)

    ``t`` is the number of the update, counted from 1.

    Parameters
    ----------
    learning_rate : float, callable or sequence, default 0.001
        The learning rate, finite and >= 0, or a schedule, or a sequence with one entry per layer:
        see :mod:`fastinit.optimizers`.
    beta1, beta2 : float, default 0.9 and 0.999
        Exponential decay rates of the moment estimates, in [0, 1).
    epsilon : float, default 1e-8
        Added to the denominator for numerical stability; finite and above 0.
    l2 : float, default 0
        Coefficient of the penalty ``l2 / 2 * sum(W ** 2)`` on the weights, whose derivative is
        added to the gradient; finite and >= 0.
    l2_by_batch : bool, default False
        Whether `l2` is divided by the number of examples of each batch, or the sum of their
        weights, as scikit-learn divides ``alpha``.
    epsilon_hat : bool, default False
        Whether `epsilon` is the epsilon hat of [1]_, Section 2, as in TensorFlow and scikit-learn:
        it is added to ``sqrt(s)``, and the rate is multiplied by ``sqrt(1 - beta2 ** t)`` in place
        of the division of ``s``.

    Raises
    ------
    TypeError
        If a setting is not a number, or `learning_rate` is not a number, a callable or a
        sequence.
    ValueError
        If a setting is out of its range.

    References
    ----------
    .. [1] Kingma and Ba, "Adam: a method for stochastic optimization", 2015, arXiv:1412.6980.

    Examples
    --------
    >>> Adam().learning_rate
    0.001
    """

    learning_rate: LearningRate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    l2: float = 0.0
    l2_by_batch: bool = False
    epsilon_hat: bool = False
    slots = 2

    def __post_init__(self) -> None:
        _check_adam(self)
        _check(self, l2=math.inf)
        for name in ("l2_by_batch", "epsilon_hat"):
            check_bool(name, getattr(self, name))

    @property
    def rule(self) -> Rule:
        """Name and settings of the update kernel."""
        return Rule(
            "adam",
            self.beta1,
            self.beta2,
            self.epsilon,
            l2=self.l2,
            l2_by_batch=bool(self.l2_by_batch),
            epsilon_hat=bool(self.epsilon_hat),
        )


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay [1]_.

    In addition to the step of :class:`Adam`, each update subtracts
    ``learning_rate * weight_decay * W`` from the weights.

    Parameters
    ----------
    learning_rate : float, callable or sequence, default 0.001
        The learning rate, finite and >= 0, or a schedule, or a sequence with one entry per layer:
        see :mod:`fastinit.optimizers`.
    beta1, beta2 : float, default 0.9 and 0.999
        Exponential decay rates of the moment estimates, in [0, 1).
    epsilon : float, default 1e-8
        Added to the denominator for numerical stability; finite and above 0.
    weight_decay : float, default 0.01
        Coefficient of the weight decay, which does not apply to the biases; finite and >= 0.

    Raises
    ------
    TypeError
        If a setting is not a number, or `learning_rate` is not a number, a callable or a
        sequence.
    ValueError
        If a setting is out of its range.

    References
    ----------
    .. [1] Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, arXiv:1711.05101.

    Examples
    --------
    >>> AdamW(0.01).weight_decay
    0.01
    """

    learning_rate: LearningRate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    slots = 2

    def __post_init__(self) -> None:
        _check_adam(self)
        _check(self, weight_decay=math.inf)

    @property
    def rule(self) -> Rule:
        """Name and settings of the update kernel."""
        return Rule("adam", self.beta1, self.beta2, self.epsilon, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class LBFGS(Optimizer):
    """Limited-memory BFGS [1]_, as implemented by ``scipy.optimize.minimize``.

    Requires SciPy and full batches. There is no learning rate: a line search determines the length
    of each step. One iteration may evaluate the cost more than once.

    Parameters
    ----------
    history : int, default 10
        Number of stored corrections, from 1 to 1000; SciPy's ``maxcor``.
    tol : float, default 1e-5
        The training has converged when no entry of the gradient has a larger absolute value;
        SciPy's ``gtol``.
    max_fun : int, default 15000
        Largest number of evaluations of the cost in one call of :func:`fastinit.train`; SciPy's
        ``maxfun``. SciPy checks it after each iteration only.
    l2 : float, default 0
        Coefficient of the penalty ``l2 / 2 * sum(W ** 2)`` on the weights; finite and >= 0.

    Raises
    ------
    TypeError
        If a setting is not a number, or `history` or `max_fun` is not an integer.
    ValueError
        If a setting is out of its range.

    References
    ----------
    .. [1] Byrd, Lu, Nocedal and Zhu, "A limited memory algorithm for bound constrained
       optimization", SIAM J. Sci. Comput. 16, 1995.

    Examples
    --------
    >>> LBFGS().history
    10
    """

    history: int = 10
    tol: float = 1e-5
    max_fun: int = 15_000
    l2: float = 0.0

    def __post_init__(self) -> None:
        check_integer("history", self.history, 1, 1001)
        check_integer("max_fun", self.max_fun, 1, 2**31)
        _check(self, tol=math.inf, l2=math.inf)


OPTIMIZERS: tuple[type[Optimizer], ...] = tuple(Optimizer.__subclasses__())


def checked_rate(rate: Any, name: str = "learning_rate") -> float:
    """Return a finite number >= 0 as a float; raise if it is anything else."""
    number = as_float(name, rate)
    if not 0 <= number <= sys.float_info.max:
        raise ValueError(f"{name}: expected finite and >= 0; got {number}")
    return number


def learning_rates(
    optimizers: Sequence[Any], start: int, stop: int, n_layers: int
) -> NDArray[np.float64]:
    """Return the learning rates of the iterations from ``start`` to ``stop``, for the kernels.

    Returns
    -------
    ndarray of shape (n_optimizers, 1 or stop - start, 1 or 2 * n_layers), float64
        The second axis has length 1 if every learning rate is a single number. The last axis has an
        entry each for W1, b1, W2, b2, ... if an optimiser has rates per layer.
    """
    if all(isinstance(each.learning_rate, float) for each in optimizers):
        return np.array([[[each.learning_rate]] for each in optimizers])
    by_layer = any(isinstance(each.learning_rate, tuple) for each in optimizers)
    rates = np.empty((len(optimizers), stop - start, 2 * n_layers if by_layer else 1))
    for own, optimizer in zip(rates, optimizers, strict=True):
        rate = optimizer.learning_rate
        if not isinstance(rate, tuple):
            own[:] = _rates(rate, "learning_rate", start, stop)
            continue
        for layer, both in enumerate(rate):
            pair = both if isinstance(both, tuple) else (both, both)
            for biases, each in enumerate(pair):
                own[:, 2 * layer + biases] = _rates(
                    each, f"learning_rate of layer {layer + 1}", start, stop
                )[..., 0]
    return rates


def _rates(rate: Rate, name: str, start: int, stop: int) -> NDArray[np.float64]:
    """Return the learning rates as a column, with a single row if the rate is a number."""
    if not callable(rate):
        return np.array([[rate]])
    values = [checked_rate(rate(i), f"{name} at iteration {i}") for i in range(start, stop)]
    return np.array(values).reshape(-1, 1)


def _check_rate(optimizer: Any) -> None:
    rate = optimizer.learning_rate
    if is_sequence(rate):
        if not len(rate):
            raise ValueError("learning_rate: expected one for each layer; got none")
        rate = tuple([_layer_rate(each, layer) for layer, each in enumerate(rate, start=1)])
    elif not callable(rate):
        rate = checked_rate(rate)
    object.__setattr__(optimizer, "learning_rate", rate)


def _layer_rate(rate: Any, layer: int) -> Any:
    """Return the checked rate of one layer, or the pair of rates of its weights and biases."""
    name = f"learning_rate of layer {layer}"
    if is_sequence(rate):
        if len(rate) != 2:
            raise ValueError(f"{name}: expected one, or two for weights and biases; got {rate!r}")
        return tuple(each if callable(each) else checked_rate(each, name) for each in rate)
    return rate if callable(rate) else checked_rate(rate, name)


def _check_adam(optimizer: Any) -> None:
    _check_rate(optimizer)
    _check(optimizer, beta1=1, beta2=1, epsilon=math.inf)
    if optimizer.epsilon == 0:
        raise ValueError("epsilon: expected above 0; got 0.0")


def _check(settings: Any, **ends: float) -> None:
    """Convert the named settings to floats in [0, end)."""
    for name, end in ends.items():
        value = checked_rate(getattr(settings, name), name)
        if not value < end:
            raise ValueError(f"{name}: expected from 0 up to, not including, {end}; got {value}")
        object.__setattr__(settings, name, value)
