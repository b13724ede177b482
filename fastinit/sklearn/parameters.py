"""The checks of the estimators' parameters."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np
import sklearn

from fastinit.training.network import ACTIVATIONS
from fastinit.training.optimizers import LBFGS, Optimizer

# Names of scikit-learn's activations that the kernels call otherwise.
KERNEL_NAMES = {"logistic": "sigmoid"}
_THEIRS = ("identity", "sigmoid", "tanh", "relu")
STOCHASTIC = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "invscaling", "adaptive")


# Any: the types of numbers have no comparisons for type checkers.
REAL: Any = Real
INTEGRAL: Any = Integral


def _real(low: float, high: float, closed: str) -> Callable[[Any], bool]:
    """Return a check of real numbers between two bounds."""
    left, right = closed in ("left", "both"), closed in ("right", "both")

    def check(value: Any) -> bool:
        return (
            isinstance(value, REAL)
            and (value > low or (left and value == low))
            and (value < high or (right and value == high))
        )

    return check


def _whole(low: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, INTEGRAL) and value >= low


def _boolean(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def _array_like(value: Any) -> bool:
    return not isinstance(value, str) and (
        hasattr(value, "__len__") or hasattr(value, "shape") or hasattr(value, "__array__")
    )


def _random_state(value: Any) -> bool:
    return (
        value is None
        or isinstance(value, np.random.RandomState)
        or (isinstance(value, INTEGRAL) and 0 <= value < 2**32)
    )


def _initialization(value: Any) -> bool:
    return isinstance(value, str) or callable(value) or isinstance(value, Sequence)


def _class_weight(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(each, Mapping) for each in value)
    return value is None or isinstance(value, Mapping) or value == "balanced"


_AT_LEAST_ONE = _whole(1)
# What scikit-learn has too; its own check words the error.
SHARED: dict[str, Callable[[Any], bool]] = {
    "loss": lambda value: value in ("squared_error", "poisson"),
    "hidden_layer_sizes": lambda value: _AT_LEAST_ONE(value) or _array_like(value),
    "activation": lambda value: (
        isinstance(value, str)
        and (value in ACTIVATIONS or value in KERNEL_NAMES)
        and value != "sigmoid"
    ),
    "solver": lambda value: (
        (isinstance(value, str) and value in (*STOCHASTIC, "lbfgs"))
        or (isinstance(value, Optimizer) and not isinstance(value, LBFGS))
    ),
    "alpha": _real(0, inf, "left"),
    "batch_size": lambda value: value == "auto" if isinstance(value, str) else _AT_LEAST_ONE(value),
    "learning_rate": lambda value: (
        value in SCHEDULES if isinstance(value, str) else callable(value)
    ),
    "learning_rate_init": _real(0, inf, "neither"),
    "power_t": _real(0, inf, "left"),
    "max_iter": _AT_LEAST_ONE,
    "shuffle": _boolean,
    "random_state": _random_state,
    "tol": _real(0, inf, "left"),
    "verbose": lambda value: _boolean(value) or _whole(0)(value),
    "warm_start": _boolean,
    "momentum": _real(0, 1, "both"),
    "nesterovs_momentum": _boolean,
    "early_stopping": _boolean,
    "validation_fraction": _real(0, 1, "left"),
    "beta_1": _real(0, 1, "left"),
    "beta_2": _real(0, 1, "left"),
    "epsilon": _real(0, inf, "neither"),
    "n_iter_no_change": lambda value: _AT_LEAST_ONE(value) or value == inf,
    "max_fun": _AT_LEAST_ONE,
}
OWN: dict[str, tuple[Callable[[Any], bool], str]] = {
    "initialization": (
        _initialization, "a str, a callable or a sequence with one of these for each layer",
    ),
    "class_weight": (
        _class_weight, "a str among {'balanced'}, a dict, a list of dicts (one per output) or None",
    ),
    "n_networks": (_AT_LEAST_ONE, "an int in the range [1, inf)"),
    "n_init": (_AT_LEAST_ONE, "an int in the range [1, inf)"),
    "threads": (
        lambda value: value is None or _AT_LEAST_ONE(value),
        "an int in the range [1, inf) or None",
    ),
}  # fmt: skip
# What shared parameters accept in addition: notes below the errors, whose texts are scikit-learn's.
ALSO = {
    "activation": ", ".join(repr(name) for name in ACTIVATIONS if name not in _THEIRS),
    "solver": "'adamw' and optimisers other than LBFGS, such as fastinit.Adam(0.01)",
    "learning_rate": "callables, such as fastinit.Cosine; a number is learning_rate_init",
}


class InvalidParameterError(ValueError, TypeError):
    """A parameter has a wrong type or value, as in scikit-learn."""


def check(estimator: Any, original: Any) -> None:
    """Raise scikit-learn's error if a parameter is invalid.

    ``original`` is scikit-learn's estimator, which is asked to raise the error itself.
    """
    if sklearn.get_config()["skip_parameter_validation"]:
        return
    values = vars(estimator)
    for name, valid in SHARED.items():
        if name in values and not valid(values[name]):
            _raise(estimator, original, name)
    for name, (valid, expected) in OWN.items():
        if name in values and not valid(values[name]):
            raise InvalidParameterError(
                f"The {name!r} parameter of {type(estimator).__name__} must be {expected}. "
                f"Got {values[name]!r} instead."
            )


def _raise(estimator: Any, original: Any, name: str) -> None:
    value = getattr(estimator, name)
    # A class of the same name, which the message mentions.
    theirs = type(type(estimator).__name__, (original,), {"__init__": original.__init__})
    try:
        theirs(**{name: value}).fit(np.zeros((2, 1)), np.arange(2))
    except (TypeError, ValueError) as error:
        if name in ALSO:
            error.add_note(f"fastinit also accepts {ALSO[name]}.")
        raise
    raise InvalidParameterError(
        f"The {name!r} parameter of {type(estimator).__name__} is invalid. Got {value!r}."
    )
