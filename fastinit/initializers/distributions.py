"""Initialisers that do not depend on fans: constants, and draws from three distributions."""

import decimal
import math
from decimal import Decimal
from functools import lru_cache
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike

from fastinit import kernels
from fastinit.initializers.scheme import register
from fastinit.initializers.target import (
    LARGEST,
    Common,
    Out,
    Shape,
    Target,
    at_least,
    at_most,
    below,
)
from fastinit.validation import as_float

# The largest distance of a bound from the mean, in standard deviations. The mass of the tail beyond
# it, 6e-300, is close to the smallest double.
FARTHEST = 37.0


@register
def constant(
    shape: Shape | None = None, value: ArrayLike = 0.0, **keywords: Unpack[Common[Out]]
) -> Out:
    """Fill with a value, or with the values of an array.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    value : float or array_like, default 0.0
        Finite in the dtype. An array is broadcast to the shape of the whole array.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    Examples
    --------
    >>> constant((2, 2), 0.5)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    >>> constant((2, 2), [1, 2], window=slice(1, 2))
    array([[1., 2.]])
    """
    target = Target(shape, **keywords)
    try:
        values = np.asarray(value)
    except Exception as error:  # whatever the array-likes of other libraries raise
        raise ValueError(
            f"value: expected a number or an array of numbers; got {type(value).__name__}: {error}"
        ) from error
    if values.ndim == 0 and not isinstance(value, np.ndarray):
        return target.constant(target.number("value", value))  # type: ignore[arg-type]
    if values.dtype.kind not in "fiub":
        raise TypeError(f"value: expected real numbers; got dtype {values.dtype}")
    with np.errstate(over="ignore"):  # wider floats become infinite, and are refused
        doubles = values.astype(np.float64, copy=False)
    if not (np.abs(doubles) <= LARGEST[target.kind]).all():
        raise ValueError(
            f"value: expected finite {target.kind} numbers; got NaN, infinity or larger ones"
        )
    try:
        values = np.broadcast_to(values, target.shape)
    except ValueError:
        raise ValueError(
            f"value: expected a shape that broadcasts to {target.shape}; got {values.shape}"
        ) from None
    return target.put(values)


@register
def zeros(shape: Shape | None = None, **keywords: Unpack[Common[Out]]) -> Out:
    """Fill with zeros.

    As the scheme of a network it makes all units of a hidden layer identical, and training keeps
    them identical.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    Examples
    --------
    >>> zeros(3)
    array([0., 0., 0.])
    """
    return constant(shape, 0.0, **keywords)


@register
def ones(shape: Shape | None = None, **keywords: Unpack[Common[Out]]) -> Out:
    """Fill with ones.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``

    Examples
    --------
    >>> ones(3)
    array([1., 1., 1.])
    """
    return constant(shape, 1.0, **keywords)


@register
def uniform(
    shape: Shape | None = None, low: float = 0.0, high: float = 1.0, **keywords: Unpack[Common[Out]]
) -> Out:
    """Fill with draws from the uniform distribution on [low, high).

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    low, high : float, default 0.0 and 1.0
        Bounds. Values are below ``high`` after rounding to the dtype as well.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``
        Complex numbers have independent real and imaginary parts, each on [low, high).

    Notes
    -----
    Each value is computed from 24 random bits, or 52 for float64 and complex128.

    Examples
    --------
    >>> W = uniform((100, 100), -1, 1, seed=0)
    >>> bool(W.min() >= -1), bool(W.max() < 1)
    (True, True)
    """
    return draw_uniform(Target(shape, **keywords, complex_too=True), low, high)


def draw_uniform(target: Target[Out], low: float, high: float) -> Out:
    """Fill a target with draws from the uniform distribution."""
    low, high = target.number("low", low), target.number("high", high)
    if not low < high:
        raise ValueError(f"low, high: expected low < high; got {low} and {high}")
    lowest, largest = at_least(low, target.kind), below(high, target.kind)
    if lowest > largest:
        raise ValueError(
            f"low, high: expected a {target.kind} between the bounds; got {low} and {high}"
        )
    width = target.number("high - low", high - low)
    return target.draw(kernels.random.uniform, low, width, lowest, largest)


@register
def normal(
    shape: Shape | None = None, mean: float = 0.0, std: float = 1.0, **keywords: Unpack[Common[Out]]
) -> Out:
    """Fill with draws from the normal distribution.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    mean : float, default 0.0
    std : float, default 1.0
        Standard deviation, at least 0.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``
        Complex numbers have independent real and imaginary parts with mean ``mean``, each with half
        of the variance, as in PyTorch.

    Notes
    -----
    The largest distance from the mean is 6.66 standard deviations, or 8.57 for float64 and
    complex128. Exact normal draws exceed it once in 10**10 or 10**16 values.

    References
    ----------
    Box and Muller (1958), "A note on the generation of random normal deviates".

    Examples
    --------
    >>> bool(abs(normal((100, 100), std=2, seed=0).std() - 2) < 0.05)
    True
    """
    target = Target(shape, **keywords, complex_too=True)
    mean, std = target.number("mean", mean), target.number("std", std, 0.0)
    return target.draw(kernels.random.normal, mean, std * target.share_of_std)


@register
def truncated_normal(
    shape: Shape | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float | None = None,
    upper: float | None = None,
    *,
    a: float | None = None,
    b: float | None = None,
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill with draws from the normal distribution, truncated on both sides.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    mean : float, default 0.0
    std : float, default 1.0
        Standard deviation before the truncation, at least 0.
    lower, upper : float, optional
        Bounds in standard deviations from the mean, -2.0 and 2.0 by default. Either may be
        infinite.
    a, b : float, optional
        Absolute bounds instead of ``lower`` and ``upper``, as in PyTorch's ``trunc_normal_``.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``
        All values lie within the bounds, after rounding to the dtype as well.

    References
    ----------
    Wichura (1988), "Algorithm AS 241: the percentage points of the normal distribution".

    Examples
    --------
    >>> bool(abs(truncated_normal((100, 100), seed=0)).max() <= 2)
    True
    >>> bool(truncated_normal(1000, std=0.02, a=-0.03, b=0.03, seed=0).min() >= -0.03)
    True
    """
    target = Target(shape, **keywords)
    mean, std = target.number("mean", mean), target.number("std", std, 0.0)
    low_name, lower, low = _bound(mean, std, -2.0, lower=lower, a=a)
    high_name, upper, high = _bound(mean, std, 2.0, upper=upper, b=b)
    names = f"{low_name}, {high_name}"
    # Two absolute bounds may be equal in standard deviations after rounding, and the reverse.
    if None in (a, b):
        first, last, unit = lower, upper, " standard deviations from the mean"
    else:
        first, last, unit = low, high, ""
    if not first < last:
        raise ValueError(
            f"{names}: expected a lower bound below the upper one; got {first} and {last}{unit}"
        )
    if lower > FARTHEST or upper < -FARTHEST:
        raise ValueError(
            f"{names}: expected an interval that reaches within {FARTHEST:g} standard deviations "
            f"of the mean; got one from {lower} to {upper}"
        )
    lowest, largest = at_least(low, target.kind), at_most(high, target.kind)
    limit = LARGEST[target.kind]
    if max(lowest, -limit) > min(largest, limit):
        raise ValueError(
            f"{names}: expected a {target.kind} between the bounds; got {low} and {high}"
        )
    if std == 0:
        return target.constant(min(max(mean, lowest), largest))
    return draw_truncated_normal(target, mean, std, lower, upper, lowest, largest)


def _bound(
    mean: float, std: float, default: float, **given: float | None
) -> tuple[str, float, float]:
    """Return a bound: the name of its argument, its distance in standard deviations, its value.

    ``given`` holds the argument in standard deviations and the absolute one, at most one of them
    not None.
    """
    (relative, z), (absolute, value) = given.items()
    if value is None:
        z = default if z is None else _not_nan(relative, z)
        # Without a spread every value is the mean, whatever the bounds in standard deviations.
        return relative, z, mean + std * z if std else math.copysign(math.inf, default)
    if z is not None:
        raise TypeError(f"{relative}, {absolute}: expected at most one of them; got both")
    value = _not_nan(absolute, value)
    distance = value - mean
    z = distance / std if std else math.copysign(math.inf, distance or default)
    return absolute, z, value


def _not_nan(name: str, value: float) -> float:
    number = as_float(name, value)
    if math.isnan(number):
        raise ValueError(f"{name}: expected a number or infinity; got nan")
    return number


def draw_truncated_normal(
    target: Target[Out],
    mean: float,
    std: float,
    lower: float,
    upper: float,
    lowest: float,
    largest: float,
) -> Out:
    """Fill a target with draws from the normal distribution, truncated on both sides.

    ``lower`` and ``upper`` are in standard deviations from the mean. Values are clipped to
    ``lowest`` and ``largest``, numbers in the dtype.
    """
    masses = _masses(lower, upper)
    return target.draw(kernels.random.truncated_normal, mean, std, *masses, lowest, largest)


@lru_cache(256)
def _masses(lower: float, upper: float) -> tuple[float, float, float, float, float]:
    """Return the parameters ``left`` to ``unit`` of ``kernels.random.truncated_normal``.

    They are computed in decimal arithmetic, because the last bits of ``math.erfc`` differ between
    platforms.
    """
    with decimal.localcontext(decimal.Context(prec=60)):
        left, right = _mass_beyond(-lower), _mass_beyond(upper)
        # Of three equivalent formulas, the one without cancellation.
        if lower > 0:
            total = _mass_beyond(lower) - right
        elif upper < 0:
            total = _mass_beyond(-upper) - left
        else:
            total = 1 - left - right
        _, exponent = math.frexp(float(min(left, right) + total))
        unit = Decimal(2) ** exponent
        # The larger tail may overflow in these units; it is not used then.
        left, right = (min(mass / unit, Decimal(10) ** 30) for mass in (left, right))
        return float(left), float(right), float(total / unit), float(exponent), 2.0**exponent


def _mass_beyond(bound: float) -> Decimal:
    """Return the mass of the standard normal above ``bound``, to 40 digits."""
    if bound < 0:
        return 1 - _mass_beyond(-bound)
    if bound > 40:  # the mass is below 1e-349, and thus 0 as a double
        return Decimal(0)
    x = Decimal(bound)
    density = (-x * x / 2).exp() / Decimal(
        "2.50662827463100050241576528481104525300698674060993831662992357634229"
    )
    if bound < 6:
        # One half minus the density times the series x + x**3 / 3 + x**5 / (3 * 5) + ...
        term = total = x
        n = 1
        while term > Decimal("1e-62"):
            n += 2
            term = term * x * x / n
            total += term
        return Decimal("0.5") - density * total
    # Laplace's continued fraction of Mills' ratio.
    ratio = x
    for n in range(300, 0, -1):
        ratio = x + n / ratio
    return density / ratio
