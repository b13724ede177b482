"""Values that do not depend on fans: constants, and draws from three distributions."""

import decimal
import math
from decimal import Decimal
from functools import lru_cache
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike

from fastinit import kernels
from fastinit.initializers.scheme import register
from fastinit.initializers.target import (
    LARGEST,
    Common,
    Shape,
    Target,
    at_least,
    at_most,
    below,
)

# The largest distance, in standard deviations, of a bound that leaves something of the normal
# distribution: beyond it the mass of the tail, 6e-300, is close to the smallest double.
FARTHEST = 37.0


@register
def constant(shape: Shape | None = None, value: ArrayLike = 0.0, **keywords: Unpack[Common]) -> Any:
    """Fill with one value, or with the values of an array.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    value : float or array_like, default 0.0
        Finite. An array is broadcast to the shape of the whole array.
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
    if np.ndim(value) == 0 and not isinstance(value, np.ndarray):
        return target.constant(target.number("value", value))  # type: ignore[arg-type]
    values = np.asarray(value)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"value: expected real numbers; got dtype {values.dtype}")
    if not (np.abs(values) <= LARGEST[target.kind]).all():
        raise ValueError(f"value: expected finite {target.kind} numbers; got NaN or larger ones")
    try:
        values = np.broadcast_to(values, target.shape)
    except ValueError:
        raise ValueError(
            f"value: expected a shape that broadcasts to {target.shape}; got {values.shape}"
        ) from None
    return target.put(values)


@register
def zeros(shape: Shape | None = None, **keywords: Unpack[Common]) -> Any:
    """Fill with zeros.

    As a network's scheme it leaves the units of each hidden layer identical: the lesson's example
    of a symmetry that training does not break.

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
def ones(shape: Shape | None = None, **keywords: Unpack[Common]) -> Any:
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
    shape: Shape | None = None, low: float = 0.0, high: float = 1.0, **keywords: Unpack[Common]
) -> Any:
    """Fill with draws from the uniform distribution on [low, high).

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    low, high : float, default 0.0 and 1.0
        Bounds. ``high`` is excluded after rounding to the dtype as well.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``
        Complex numbers have independent real and imaginary parts, each on [low, high).

    Notes
    -----
    A value is made of 24 random bits; 52 for float64.

    Examples
    --------
    >>> W = uniform((100, 100), -1, 1, seed=0)
    >>> bool(W.min() >= -1), bool(W.max() < 1)
    (True, True)
    """
    return draw_uniform(Target(shape, **keywords, complex_too=True), low, high)


def draw_uniform(target: Target, low: float, high: float) -> Any:
    """Fill a target with draws from the uniform distribution."""
    low, high = target.number("low", low), target.number("high", high)
    if not low < high:
        raise ValueError(f"low, high: expected low < high; got {low} and {high}")
    lowest, largest = at_least(low, target.kind), below(high, target.kind)
    if lowest > largest:
        raise ValueError(f"low, high: expected a {target.kind} between them; got {low} and {high}")
    width = target.number("high - low", high - low)
    return target.draw(kernels.random.uniform, low, width, lowest, largest)


@register
def normal(
    shape: Shape | None = None, mean: float = 0.0, std: float = 1.0, **keywords: Unpack[Common]
) -> Any:
    """Fill with draws from the normal distribution.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    mean : float, default 0.0
    std : float, default 1.0
        Standard deviation; at least 0.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``
        Complex numbers have independent real and imaginary parts around ``mean``, each with half of
        the variance, as in PyTorch.

    Notes
    -----
    The largest possible distance from the mean is 6.66 standard deviations, 8.57 for float64: one
    value in 10**10 or 10**16 would lie beyond it.

    References
    ----------
    Box and Muller (1958), "A note on the generation of random normal deviates".

    Examples
    --------
    >>> bool(abs(normal((100, 100), std=2, seed=0).std() - 2) < 0.05)
    True
    """
    return draw_normal(Target(shape, **keywords, complex_too=True), mean, std)


def draw_normal(target: Target, mean: float, std: float) -> Any:
    """Fill a target with draws from the normal distribution."""
    mean, std = target.number("mean", mean), target.number("std", std)
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    return target.draw(kernels.random.normal, mean, std * target.share_of_std)


@register
def truncated_normal(
    shape: Shape | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    a: float | None = None,
    b: float | None = None,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with draws from the normal distribution cut off on both sides.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array; that of ``out`` by default.
    mean : float, default 0.0
    std : float, default 1.0
        Standard deviation before the cut; at least 0.
    lower, upper : float, default -2.0 and 2.0
        Bounds, in standard deviations from the mean; either may be infinite.
    a, b : float, optional
        Absolute bounds instead, as PyTorch's ``trunc_normal_`` takes them.
    **keywords
        Those of every initialiser.

    Returns
    -------
    ndarray, or ``out``
        No value lies outside the bounds, after rounding to the dtype as well.

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
    mean, std = target.number("mean", mean), target.number("std", std)
    for name, bound, other in (("a", a, lower == -2.0), ("b", b, upper == 2.0)):
        if bound is not None and not other:
            raise TypeError(f"{name}: expected either absolute or relative bounds; got both")
    if std > 0:
        # The bounds themselves are kept exactly: values are clipped to them, not to their quotient.
        lower = lower if a is None else (_bound(target, "a", a, -math.inf) - mean) / std
        upper = upper if b is None else (_bound(target, "b", b, math.inf) - mean) / std
    return draw_truncated_normal(target, mean, std, lower, upper, a, b)


def _bound(target: Target, name: str, value: float, infinite: float) -> float:
    return value if isinstance(value, float) and value == infinite else target.number(name, value)


def draw_truncated_normal(
    target: Target,
    mean: float,
    std: float,
    lower: float,
    upper: float,
    a: float | None = None,
    b: float | None = None,
) -> Any:
    """Fill a target with draws from the normal distribution cut off on both sides."""
    mean, std = target.number("mean", mean), target.number("std", std)
    lower = _bound(target, "lower", lower, -math.inf)
    upper = _bound(target, "upper", upper, math.inf)
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    if not lower < upper:
        raise ValueError(f"lower, upper: expected lower < upper; got {lower} and {upper}")
    if lower > FARTHEST or upper < -FARTHEST:
        raise ValueError(
            f"lower, upper: expected bounds that reach within {FARTHEST:g} standard deviations of "
            f"the mean; got {lower} and {upper}"
        )
    if std == 0:
        return target.constant(mean)
    std *= target.share_of_std
    lowest, largest = (
        at_least(mean + std * lower if a is None else a, target.kind),
        at_most(mean + std * upper if b is None else b, target.kind),
    )
    if lowest > largest:
        raise ValueError(
            f"lower, upper: expected a {target.kind} between the bounds; "
            f"got {mean + std * lower} to {mean + std * upper}"
        )
    masses = _masses(float(lower), float(upper))
    return target.draw(kernels.random.truncated_normal, mean, std, *masses, lowest, largest)


@lru_cache(256)
def _masses(lower: float, upper: float) -> tuple[float, float, float, float, float]:
    """Return what ``kernels.random.truncated_normal`` asks for: left to unit.

    In decimal arithmetic, because the last bits of ``math.erfc`` differ between platforms.
    """
    with decimal.localcontext(decimal.Context(prec=60)):
        left, right = _mass_beyond(-lower), _mass_beyond(upper)
        # Of three ways to the same number, the one that does not cancel.
        if lower > 0:
            total = _mass_beyond(lower) - right
        elif upper < 0:
            total = _mass_beyond(-upper) - left
        else:
            total = 1 - left - right
        _, exponent = math.frexp(float(min(left, right) + total))
        unit = Decimal(2) ** exponent
        # The larger tail may be too large to write down in these units; it is not used then.
        left, right = (min(mass / unit, Decimal(10) ** 30) for mass in (left, right))
        return float(left), float(right), float(total / unit), float(exponent), 2.0**exponent


def _mass_beyond(bound: float) -> Decimal:
    """Return the mass of the standard normal above ``bound``, to 40 digits."""
    if bound < 0:
        return 1 - _mass_beyond(-bound)
    if bound > 40:  # below 1e-349: no double tells it from nothing
        return Decimal(0)
    x = Decimal(bound)
    density = (-x * x / 2).exp() / Decimal(
        "2.50662827463100050241576528481104525300698674060993831662992357634229"
    )
    if bound < 6:
        # The half less the series x + x**3 / 3 + x**5 / (3 * 5) + ...
        term = total = x
        n = 1
        while term > Decimal("1e-62"):
            n += 2
            term = term * x * x / n
            total += term
        return Decimal("0.5") - density * total
    # Mills' ratio as Laplace's continued fraction.
    ratio = x
    for n in range(300, 0, -1):
        ratio = x + n / ratio
    return density / ratio
