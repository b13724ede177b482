"""Optimisers: settings only. The loops that obey them are kernels."""

import sys
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GradientDescent:
    """Plain gradient descent: ``theta -= learning_rate * gradient``.

    Parameters
    ----------
    learning_rate : float, default 0.01
        The step per unit of gradient; finite and not negative.

    Examples
    --------
    >>> GradientDescent(0.1)
    GradientDescent(learning_rate=0.1)
    """

    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        rate = self.learning_rate
        if isinstance(rate, bool) or not isinstance(rate, (int, float, np.integer, np.floating)):
            raise TypeError(f"learning_rate: expected a number; got {type(rate).__name__}")
        if not 0 <= rate <= sys.float_info.max:
            raise ValueError(f"learning_rate: expected finite and >= 0; got {rate}")
        object.__setattr__(self, "learning_rate", float(rate))
