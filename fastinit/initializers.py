"""Weights by scheme: one ``variance_scaling`` behind the named ones.

Every scheme takes a shape, or ``out=`` or both, and these keywords:

seed : int, SeedSequence, Generator or None
    An int gives its 64 bits to the generator, Philox 4x32-10. None draws fresh entropy.
stream : int, default 0
    Tells the tensors of one model apart: same seed, independent values. ``Network.initialize``
    numbers the tensors in the order W1, b1, W2, b2, ... from 0.
dtype : float64, float32, float16 or bfloat16, default float64
    Halves are the float32 values rounded to nearest even, and kept within the bounds where there
    are any; bfloat16 needs the package ml_dtypes.
out : array, optional
    Filled in place and returned: an ndarray or memmap of any strides, or anything on the CPU with
    DLPack or the buffer protocol, such as a torch tensor, whose autograd takes no notice.
window : slice or tuple of slice, optional
    Fill only this part of the whole array of shape ``shape``, with the values it has there.
threads : int, optional
    At most so many; all usable cores if left out. Small arrays are filled by one.
in_axis, out_axis : int, default -1 and 0
    Where fans matter: the axes of inputs and outputs. All others are the receptive field.

The values depend on seed, stream, shape, dtype and the scheme's parameters alone: the same bits on
every platform, for any number of threads, strides and windows. (``orthogonal`` and
``delta_orthogonal`` multiply matrices, and the BLAS decides their last bits.) Integers, complex
numbers and read-only memory are refused as ``out``; everything is checked before anything is
written.

``random`` and ``he`` are the lesson's own draws instead, from NumPy's legacy generator.
"""

import decimal
import math
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, Protocol, Unpack

import numpy as np
from numpy.typing import NDArray

from fastinit import kernels
from fastinit.filling import Common, Filling, Shape, as_float, at_least, at_most, below, key_of
from fastinit.filling import Seed as Seed  # the rooms above take it from here

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]


class Fans(Common, total=False):
    """Keywords of the initialisers to which inputs and outputs matter."""

    in_axis: int
    out_axis: int


class Initializer(Protocol):
    """What every scheme looks like to a network: fill ``out`` in place."""

    def __call__(
        self, shape: Shape | None = None, /, *, seed: Seed = None, stream: int = 0, out: Any = None
    ) -> Any:
        """Return ``out``, filled; or a new array of that shape."""
        ...


# --- values that no fan decides -------------------------------------------------------------------


def constant(shape: Shape | None = None, value: float = 0.0, **keywords: Unpack[Common]) -> Any:
    """Fill with one value.

    Examples
    --------
    >>> constant((2, 2), 0.5)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    filling = Filling(shape, **keywords)
    return filling.constant(filling.number("value", value))


def zeros(shape: Shape | None = None, **keywords: Unpack[Common]) -> Any:
    """Fill with zeros: the lesson's scheme that breaks no symmetry.

    Examples
    --------
    >>> zeros(3)
    array([0., 0., 0.])
    """
    return constant(shape, 0.0, **keywords)


def ones(shape: Shape | None = None, **keywords: Unpack[Common]) -> Any:
    """Fill with ones.

    Examples
    --------
    >>> ones(3)
    array([1., 1., 1.])
    """
    return constant(shape, 1.0, **keywords)


def uniform(
    shape: Shape | None = None, low: float = 0.0, high: float = 1.0, **keywords: Unpack[Common]
) -> Any:
    """Fill with draws from the uniform distribution on [low, high).

    24 random bits each, 52 for float64. ``high`` is excluded after rounding to the dtype too.

    Examples
    --------
    >>> W = uniform((100, 100), -1, 1, seed=0)
    >>> bool(W.min() >= -1), bool(W.max() < 1)
    (True, True)
    """
    return _uniform(Filling(shape, **keywords), low, high)


def _uniform(filling: Filling, low: float, high: float) -> Any:
    low, high = filling.number("low", low), filling.number("high", high)
    if not low < high:
        raise ValueError(f"low, high: expected low < high; got {low} and {high}")
    lowest, largest = at_least(low, filling.kind), below(high, filling.kind)
    if lowest > largest:
        raise ValueError(f"low, high: expected a {filling.kind} between them; got {low} and {high}")
    width = filling.number("high - low", high - low)
    return filling.draw(kernels.random.uniform, low, width, lowest, largest)


def normal(
    shape: Shape | None = None, mean: float = 0.0, std: float = 1.0, **keywords: Unpack[Common]
) -> Any:
    """Fill with draws from the normal distribution.

    The largest possible distance from the mean is 6.66 standard deviations, 8.57 for float64: that
    of one value in 10**10 or 10**16.

    References
    ----------
    Box and Muller (1958), "A note on the generation of random normal deviates".

    Examples
    --------
    >>> bool(abs(normal((100, 100), std=2, seed=0).std() - 2) < 0.05)
    True
    """
    return _normal(Filling(shape, **keywords), mean, std)


def _normal(filling: Filling, mean: float, std: float) -> Any:
    mean, std = filling.number("mean", mean), filling.number("std", std)
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    return filling.draw(kernels.random.normal, mean, std)


def truncated_normal(
    shape: Shape | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with draws from the normal distribution cut off at ``lower`` and ``upper``.

    Both bounds count standard deviations from the mean, and either may be infinite. No value lies
    outside ``mean + std * lower`` and ``mean + std * upper``, after rounding to the dtype too.

    References
    ----------
    Wichura (1988), "Algorithm AS 241: the percentage points of the normal distribution".

    Examples
    --------
    >>> bool(abs(truncated_normal((100, 100), seed=0)).max() <= 2)
    True
    >>> bool(truncated_normal(1000, lower=5, upper=6, seed=0).min() >= 5)
    True
    """
    return _truncated_normal(Filling(shape, **keywords), mean, std, lower, upper)


def _truncated_normal(filling: Filling, mean: float, std: float, lower: float, upper: float) -> Any:
    mean, std = filling.number("mean", mean), filling.number("std", std)
    lower = lower if lower == -math.inf else filling.number("lower", lower)
    upper = upper if upper == math.inf else filling.number("upper", upper)
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
        return filling.constant(mean)
    lowest, largest = (
        at_least(mean + std * lower, filling.kind),
        at_most(mean + std * upper, filling.kind),
    )
    if lowest > largest:
        raise ValueError(
            f"lower, upper: expected a {filling.kind} between the bounds; "
            f"got {mean + std * lower} to {mean + std * upper}"
        )
    masses = _masses(float(lower), float(upper))
    return filling.draw(kernels.random.truncated_normal, mean, std, *masses, lowest, largest)


# Beyond it the mass of the tail, 6e-300, is close to the end of the doubles.
FARTHEST = 37.0


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


# --- values that fans decide ----------------------------------------------------------------------


def fans(shape: tuple[int, ...], in_axis: int = -1, out_axis: int = 0) -> tuple[float, float]:
    """Return (fan_in, fan_out); the axes that are neither are the receptive field.

    Examples
    --------
    >>> fans((5, 10))
    (10.0, 5.0)
    >>> fans((3, 3, 16, 32), in_axis=-2, out_axis=-1)
    (144.0, 288.0)
    """
    _check_axes(shape, in_axis, out_axis)
    field = math.prod(shape) / max(shape[in_axis] * shape[out_axis], 1)
    return shape[in_axis] * field, shape[out_axis] * field


def _check_axes(shape: tuple[int, ...], in_axis: int, out_axis: int) -> None:
    rank = len(shape)
    if rank < 2:
        raise ValueError(f"shape: expected at least 2 axes, to have fans; got {shape}")
    for name, axis in (("in_axis", in_axis), ("out_axis", out_axis)):
        if not isinstance(axis, (int, np.integer)) or isinstance(axis, bool):
            raise TypeError(f"{name}: expected an integer; got {type(axis).__name__}")
        if not -rank <= axis < rank:
            raise ValueError(f"{name}: expected an axis of shape {shape}; got {axis}")
    if in_axis % rank == out_axis % rank:
        raise ValueError(f"in_axis, out_axis: expected two axes; got {in_axis} and {out_axis}")


def variance_scaling(
    shape: Shape | None = None,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
    *,
    in_axis: int = -1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with draws of variance ``scale / fan``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        The shape of the whole array, at least two axes; that of ``out`` if left out.
    scale : float, default 1.0
        The variance is ``scale / fan``; at least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the inputs of a unit, its outputs, or their arithmetic or geometric mean.
    distribution : {"normal", "truncated_normal", "uniform"}
        The truncated normal is cut at two standard deviations and widened, so that the variance is
        as asked, as in Keras and JAX.
    in_axis, out_axis : int
        The axes of inputs and outputs; all others are the receptive field.
    **keywords
        Those of every initialiser, see :mod:`fastinit.initializers`.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    https://keras.io/api/layers/initializers/#variancescaling-class

    Examples
    --------
    >>> variance_scaling((4, 3), 2.0, "fan_in", "normal", seed=0).shape
    (4, 3)
    """
    filling = Filling(shape, **keywords)
    scale = filling.number("scale", scale)
    if scale < 0:
        raise ValueError(f"scale: expected >= 0; got {scale}")
    fan_in, fan_out = fans(filling.shape, in_axis, out_axis)
    for name, value in (("mode", mode), ("distribution", distribution)):
        if not isinstance(value, str):
            raise TypeError(f"{name}: expected a string; got {type(value).__name__}")
    if mode == "fan_in":
        fan = fan_in
    elif mode == "fan_out":
        fan = fan_out
    elif mode == "fan_avg":
        fan = (fan_in + fan_out) / 2
    elif mode == "fan_geo_avg":
        fan = math.sqrt(fan_in * fan_out)
    else:
        raise ValueError(f"mode: expected fan_in, fan_out, fan_avg or fan_geo_avg; got {mode!r}")
    if distribution not in ("normal", "truncated_normal", "uniform"):
        raise ValueError(
            f"distribution: expected normal, truncated_normal or uniform; got {distribution!r}"
        )
    # No fan, no weights: there is nothing to fill then.
    std = math.sqrt(scale / fan) if fan else 0.0
    if std == 0:
        return filling.constant(0.0)
    if distribution == "normal":
        return _normal(filling, 0.0, std)
    if distribution == "truncated_normal":
        return _truncated_normal(filling, 0.0, std / CUT_STD, -2.0, 2.0)
    limit = math.sqrt(3) * std
    return _uniform(filling, -limit, limit)


# The standard deviation of the standard normal cut at two of them.
CUT_STD = 0.87962566103423978


def he_normal(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Draw normals of variance ``2 / fan_in``, for ReLU (He et al. 2015, arXiv:1502.01852).

    The plain normal, as in the paper, in PyTorch's ``kaiming_normal_`` and in the lesson. Keras and
    JAX truncate it: ``variance_scaling(shape, 2.0, "fan_in", "truncated_normal")``.

    Examples
    --------
    >>> he_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 2.0, "fan_in", "normal", **keywords)


def he_uniform(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Draw uniforms of variance ``2 / fan_in`` (He et al. 2015, arXiv:1502.01852).

    Examples
    --------
    >>> bool(abs(he_uniform((4, 6), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 2.0, "fan_in", "uniform", **keywords)


def glorot_normal(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Draw normals of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010).

    Keras and JAX truncate it: ``variance_scaling(shape, 1.0, "fan_avg", "truncated_normal")``.

    Examples
    --------
    >>> glorot_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 1.0, "fan_avg", "normal", **keywords)


def glorot_uniform(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Draw uniforms of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010).

    Examples
    --------
    >>> bool(abs(glorot_uniform((3, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_avg", "uniform", **keywords)


def lecun_normal(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Draw normals of variance ``1 / fan_in`` (LeCun et al. 1998), for tanh and SELU.

    Keras and JAX truncate it: ``variance_scaling(shape, 1.0, "fan_in", "truncated_normal")``.

    Examples
    --------
    >>> lecun_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 1.0, "fan_in", "normal", **keywords)


def lecun_uniform(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Draw uniforms of variance ``1 / fan_in`` (LeCun et al. 1998).

    Examples
    --------
    >>> bool(abs(lecun_uniform((4, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_in", "uniform", **keywords)


# --- torch's names --------------------------------------------------------------------------------


def gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the factor on the standard deviation that keeps the variance through a nonlinearity.

    torch's table, and for gelu and silu ``1 / sqrt(E[f(z)**2])`` of a standard normal z.

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d to conv3d, sigmoid, tanh, relu, leaky_relu, selu, gelu or silu.
    param : float, optional
        The negative slope of leaky_relu, 0.01 if left out.

    References
    ----------
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain

    Examples
    --------
    >>> gain("relu") == 2**0.5
    True
    """
    if not isinstance(nonlinearity, str) or nonlinearity not in (*_GAINS, "leaky_relu"):
        known = ", ".join((*_GAINS, "leaky_relu"))
        raise ValueError(f"nonlinearity: expected one of {known}; got {nonlinearity!r}")
    if nonlinearity != "leaky_relu":
        if param is not None:
            raise ValueError(f"param: expected none for {nonlinearity}; got {param!r}")
        return _GAINS[nonlinearity]
    slope = as_float("param", 0.01 if param is None else param)
    if not math.isfinite(slope):
        raise ValueError(f"param: expected a finite number; got {slope}")
    return math.sqrt(2.0 / (1.0 + slope * slope))


_GAINS = {
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d", "sigmoid"), 1.0),
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
    "gelu": 1.5335304411955312,
    "silu": 1.6765324703310911,
}


def kaiming_normal(
    shape: Shape | None = None,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    **keywords: Unpack[Fans],
) -> Any:
    """Draw normals of standard deviation ``gain / sqrt(fan)``, torch's ``kaiming_normal_``.

    With its defaults it is :func:`he_normal`.

    Examples
    --------
    >>> bool((kaiming_normal((4, 3), seed=0) == he_normal((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _squared_gain(nonlinearity, a), mode, "normal", **keywords)


def kaiming_uniform(
    shape: Shape | None = None,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    **keywords: Unpack[Fans],
) -> Any:
    """Draw uniforms of standard deviation ``gain / sqrt(fan)``, torch's ``kaiming_uniform_``.

    With its defaults it is :func:`he_uniform`.

    Examples
    --------
    >>> bool((kaiming_uniform((4, 3), seed=0) == he_uniform((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _squared_gain(nonlinearity, a), mode, "uniform", **keywords)


def _squared_gain(nonlinearity: str, a: float) -> float:
    # Not gain() squared: the square of a rounded root is not 2, and he_normal has 2.
    square, factor = _square("a", a), gain(nonlinearity)
    if nonlinearity == "leaky_relu":
        return 2.0 / (1.0 + square)
    return 2.0 if nonlinearity == "relu" else factor**2


def _square(name: str, value: float) -> float:
    number = as_float(name, value)
    if not math.isfinite(number * number):
        raise ValueError(f"{name}: expected a number with a finite square; got {number}")
    return number * number


def xavier_normal(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Fans]) -> Any:
    """:func:`glorot_normal` times ``gain``, torch's ``xavier_normal_``.

    Examples
    --------
    >>> bool((xavier_normal((4, 3), seed=0) == glorot_normal((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _square("gain", gain), "fan_avg", "normal", **keywords)


def xavier_uniform(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Fans]) -> Any:
    """:func:`glorot_uniform` times ``gain``, torch's ``xavier_uniform_``.

    Examples
    --------
    >>> bool((xavier_uniform((4, 3), seed=0) == glorot_uniform((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _square("gain", gain), "fan_avg", "uniform", **keywords)


# --- what other libraries do by default -----------------------------------------------------------


def torch_linear(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill as ``torch.nn.Linear`` and ``Conv`` do: uniform on ±1/√fan_in.

    As a network's scheme it fills the biases alike.

    Examples
    --------
    >>> bool(abs(torch_linear((3, 4), seed=0)).max() <= 0.5)
    True
    """
    return variance_scaling(shape, 1 / 3, "fan_in", "uniform", **keywords)


def keras_dense(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill as ``keras.layers.Dense`` does: :func:`glorot_uniform`, and biases zero.

    Examples
    --------
    >>> keras_dense((3, 4), seed=0).shape
    (3, 4)
    """
    return glorot_uniform(shape, **keywords)


def flax_dense(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill as ``flax.linen.Dense`` does: LeCun normals cut at 2 deviations, and biases zero.

    Examples
    --------
    >>> flax_dense((3, 4), seed=0).shape
    (3, 4)
    """
    return variance_scaling(shape, 1.0, "fan_in", "truncated_normal", **keywords)


def sklearn_mlp(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill as ``sklearn.neural_network.MLPClassifier`` does: uniform on ±√(6/fans).

    ``fans`` is fan_in + fan_out. As a network's scheme it fills the biases alike. (With logistic
    activations scikit-learn takes 2 in the place of 6.)

    Examples
    --------
    >>> bool(abs(sklearn_mlp((3, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_avg", "uniform", **keywords)


def fill_bias(scheme: Initializer, bias: Any, fan_in: int, seed: Seed, stream: int) -> None:
    """Fill one layer's bias as the scheme's library does; zeros for most.

    Parameters
    ----------
    scheme : callable
        The initialiser of the layer's weights.
    bias : ndarray of shape (n_out, 1)
        Filled in place.
    fan_in : int
        Inputs of each unit.
    seed, stream
        As for every initialiser.

    Examples
    --------
    >>> bias = np.empty((2, 1))
    >>> fill_bias(he_normal, bias, 3, 0, 1)
    >>> bias
    array([[0.],
           [0.]])
    """
    if scheme is torch_linear:
        limit = 1 / math.sqrt(fan_in)
    elif scheme is sklearn_mlp:
        limit = math.sqrt(6 / (fan_in + bias.size))
    else:
        bias[...] = 0
        return
    uniform(low=-limit, high=limit, out=bias, seed=seed, stream=stream)


# --- matrices with a structure --------------------------------------------------------------------


def orthogonal(
    shape: Shape | None = None,
    gain: float = 1.0,
    *,
    in_axis: int = -1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill with a random orthogonal matrix times ``gain`` (Saxe et al. 2014, arXiv:1312.6120).

    The rows are the outputs; the other axes together are the columns, as in torch. The longer side
    has orthonormal vectors of the shorter one: ``W @ W.T`` or ``W.T @ W`` is the identity.

    Distributed by Haar's measure: the Q of the QR decomposition of a normal matrix, R's diagonal
    positive. Householder's reflectors need not be computed from such a matrix, since they are
    themselves independent normal vectors (Stewart 1980). float32 and halves from 512 x 512 on are
    computed in float32, everything else in float64. The same seed gives the same matrix up to
    rounding: the BLAS decides the last bits.

    References
    ----------
    G. W. Stewart (1980), "The efficient generation of random orthogonal matrices".
    F. Mezzadri (2007), arXiv:math-ph/0609050.

    Examples
    --------
    >>> W = orthogonal((3, 5), seed=0)
    >>> bool(np.allclose(W @ W.T, np.eye(3)))
    True
    """
    filling = Filling(shape, **keywords)
    gain = filling.number("gain", gain)
    _check_axes(filling.shape, in_axis, out_axis)
    if filling.cells.size == 0:
        return filling.result
    n_out = filling.shape[out_axis]
    Q = _haar(filling, n_out, math.prod(filling.shape) // n_out)
    Q *= gain
    others = [n for axis, n in enumerate(filling.shape) if axis != out_axis % len(filling.shape)]
    return filling.put(np.moveaxis(Q.reshape(n_out, *others), 0, out_axis))


# Reflectors in one block: as wide as the matrix products need to be fast, no wider.
PANEL = 64
# From this many elements on, orthogonal works in float32 if that is asked for.
LARGE = 512 * 512


def _haar(filling: Filling, rows: int, columns: int) -> NDArray[Any]:
    """Return orthonormal rows or columns, whichever are fewer, drawn from Haar's measure."""
    long, short = max(rows, columns), min(rows, columns)
    real = np.float64 if filling.kind == "float64" or rows * columns < LARGE else np.float32
    drawn = Filling((short, long), dtype=real, seed=filling.key, stream=filling.stream)
    V: NDArray[Any] = _normal(drawn, 0.0, 1.0)
    # Row k reflects the axes from k on: x -> x - 2 v v'x / v'v takes its normal vector to an axis.
    V = np.triu(V)
    diagonal = V.diagonal().copy()
    sign = np.where(diagonal < 0, real(-1), real(1))
    norm = np.sqrt(np.einsum("ij,ij->i", V, V))
    np.fill_diagonal(V, diagonal + sign * norm)
    # Scaled to v'v = 2, so that a reflection is I - v v'.
    V *= (np.sqrt(real(2)) / np.sqrt(np.einsum("ij,ij->i", V, V)))[:, None]
    Q = np.zeros((short, long), real)
    np.fill_diagonal(Q, -sign)
    # Blocks of reflectors multiply to I - V' T V (Schreiber and Van Loan 1989), last block first;
    # the transpose, so that rows stay contiguous. Rows above the block are still untouched.
    # On aarch64 NumPy's products raise floating-point flags that their results do not deserve.
    with np.errstate(all="ignore"):
        for start in reversed(range(0, short, PANEL)):
            v = V[start : start + PANEL, start:]
            gram = np.triu(v @ v.T, 1) + np.eye(len(v), dtype=real)
            q = Q[start:, start:]
            q -= (q @ v.T) @ np.linalg.solve(gram.T, v)
    return Q if rows <= columns else np.ascontiguousarray(Q.T)


def identity(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Common]) -> Any:
    """Fill with the identity matrix times ``gain``; a part of it where the shape is not square.

    Examples
    --------
    >>> identity((2, 3), 2.0)
    array([[2., 0., 0.],
           [0., 2., 0.]])
    """
    filling = Filling(shape, **keywords)
    gain = filling.number("gain", gain)
    if len(filling.shape) != 2:
        raise ValueError(f"shape: expected 2 axes; got {filling.shape}")
    i, j = _indices(filling)
    return filling.put_part(np.where(i == j, gain, 0.0))


def _indices(filling: Filling) -> list[NDArray[np.intp]]:
    """Return the index along each axis of the whole, over the window, ready to broadcast."""
    return list(np.ix_(*(np.arange(*limits) for limits in filling.window)))


def _centre(filling: Filling, axes: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where all axes but the given ones are at the middle of the receptive field."""
    inside: Any = np.ones((1,) * len(filling.shape), bool)
    indices = _indices(filling)
    for axis, length in enumerate(filling.shape):
        if axis not in {other % len(filling.shape) for other in axes}:
            inside = inside & (indices[axis] == length // 2)
    return inside  # type: ignore[no-any-return]


def dirac(
    shape: Shape | None = None,
    groups: int = 1,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill a convolution with the kernel that hands as many channels through as it can.

    The shape is (n_out, n_in / groups, *field), as in torch.

    References
    ----------
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.dirac_

    Examples
    --------
    >>> dirac((1, 1, 3))
    array([[[0., 1., 0.]]])
    """
    filling = Filling(shape, **keywords)
    if not 3 <= len(filling.shape) <= 5:
        raise ValueError(f"shape: expected 3 to 5 axes, channels and a field; got {filling.shape}")
    _check_axes(filling.shape, in_axis, out_axis)
    if not isinstance(groups, (int, np.integer)) or isinstance(groups, bool):
        raise TypeError(f"groups: expected an integer; got {type(groups).__name__}")
    n_out = filling.shape[out_axis]
    if groups < 1 or n_out % groups:
        raise ValueError(f"groups: expected a divisor of the {n_out} outputs; got {groups}")
    indices = _indices(filling)
    # Outputs beyond the inputs of their group stay zero.
    same = indices[out_axis] % max(n_out // groups, 1) == indices[in_axis]
    return filling.put_part(np.where(same & _centre(filling, (in_axis, out_axis)), 1.0, 0.0))


def delta_orthogonal(
    shape: Shape | None = None,
    gain: float = 1.0,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill a convolution with an orthogonal matrix at the middle of the field, zero elsewhere.

    At most as many inputs as outputs. The shape is (n_out, n_in, *field) unless the axes say else.

    References
    ----------
    Xiao et al. (2018), arXiv:1806.05393; ``jax.nn.initializers.delta_orthogonal``.

    Examples
    --------
    >>> W = delta_orthogonal((4, 2, 3, 3), seed=0)
    >>> bool(np.allclose(W[:, :, 1, 1].T @ W[:, :, 1, 1], np.eye(2)))
    True
    """
    filling = Filling(shape, **keywords)
    gain = filling.number("gain", gain)
    if not 3 <= len(filling.shape) <= 5:
        raise ValueError(f"shape: expected 3 to 5 axes, channels and a field; got {filling.shape}")
    _check_axes(filling.shape, in_axis, out_axis)
    n_out, n_in = filling.shape[out_axis], filling.shape[in_axis]
    if n_in > n_out:
        raise ValueError(f"shape: expected at most as many inputs as outputs; got {filling.shape}")
    if filling.cells.size == 0:
        return filling.result
    Q = _haar(filling, n_out, n_in) * gain
    indices = _indices(filling)
    tap = Q[indices[out_axis], indices[in_axis]]
    return filling.put_part(np.where(_centre(filling, (in_axis, out_axis)), tap, 0.0))


def sparse(
    shape: Shape | None = None,
    sparsity: float = 0.9,
    std: float = 0.01,
    *,
    in_axis: int = -1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Draw normals, then cut the same share of every input's weights (Martens 2010).

    In each column exactly ``ceil(sparsity * n_out)`` weights are zero, as in torch's ``sparse_``.
    Which ones: those with the smallest random words of stream ``stream + 2**63``.

    Examples
    --------
    >>> (sparse((10, 3), 0.75, seed=0) == 0).sum(axis=0)
    array([8, 8, 8])
    """
    filling = Filling(shape, **keywords)
    sparsity, std = filling.number("sparsity", sparsity), filling.number("std", std)
    if len(filling.shape) != 2:
        raise ValueError(f"shape: expected 2 axes; got {filling.shape}")
    _check_axes(filling.shape, in_axis, out_axis)
    if not 0 <= sparsity <= 1:
        raise ValueError(f"sparsity: expected 0 <= sparsity <= 1; got {sparsity}")
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    _normal(filling, 0.0, std)
    (i, end_i), (j, end_j) = filling.window
    n_i, n_j = filling.shape
    by_column = out_axis % 2 == 0
    # Whole columns of the mask, because a weight's rank among its column's decides.
    if by_column:
        words = np.empty((n_i, end_j - j), np.uint32)
        kernels.random.words(words, j, n_j, filling.key, filling.stream + 2**63)
    else:
        words = np.empty((end_i - i, n_j), np.uint32)
        kernels.random.words(words, i * n_j, n_j, filling.key, filling.stream + 2**63)
    axis = 0 if by_column else 1
    n_out = words.shape[axis]
    lost = math.ceil(sparsity * n_out)
    if lost == 0 or words.size == 0:
        return filling.result
    # The index in the low half breaks ties, so the mask is the same on every platform.
    place = np.arange(n_out, dtype=np.uint64)
    ranked = words.astype(np.uint64) << np.uint64(32) | (place[:, None] if by_column else place)
    last = np.partition(ranked, lost - 1, axis=axis).take([lost - 1], axis=axis)
    dead = ranked <= last
    filling.cells[dead[i:end_i] if by_column else dead[:, j:end_j]] = 0
    return filling.result


def zero_init(
    shape: Shape | None = None,
    *,
    in_axis: int = 1,
    out_axis: int = 0,
    **keywords: Unpack[Common],
) -> Any:
    """Fill without chance, by identity and Hadamard matrices: ZerO (Zhao et al. 2022).

    The identity, a part of it where the outputs are fewer, and a scaled part of a Hadamard matrix
    where they are more. A convolution has it at the middle of its field.

    References
    ----------
    J. Zhao, F. Schäfer and A. Anandkumar (2022), "ZerO initialization", arXiv:2110.12661.

    Examples
    --------
    >>> zero_init((2, 3))
    array([[1., 0., 0.],
           [0., 1., 0.]])
    >>> zero_init((4, 2)) * 2**0.5
    array([[ 1.,  1.],
           [ 1., -1.],
           [ 1.,  1.],
           [ 1., -1.]])
    """
    filling = Filling(shape, **keywords)
    _check_axes(filling.shape, in_axis, out_axis)
    n_out, n_in = filling.shape[out_axis], filling.shape[in_axis]
    indices = _indices(filling)
    i, j = indices[out_axis], indices[in_axis]
    if n_out <= n_in:
        tap: NDArray[Any] = np.where(i == j, 1.0, 0.0)
    else:
        # Sylvester's matrix of 2**m rows has at (i, j) the parity of the bits in i & j.
        m = (n_out - 1).bit_length()
        bits = i & j
        for shift in (32, 16, 8, 4, 2, 1):
            bits = bits ^ (bits >> shift)
        tap = np.where(bits & 1, -1.0, 1.0) * math.sqrt(2.0 ** (1 - m))
    return filling.put_part(np.where(_centre(filling, (in_axis, out_axis)), tap, 0.0))


def lsuv(
    network: Any, theta: NDArray[Any], X: Any, *, tolerance: float = 0.01, attempts: int = 10
) -> NDArray[Any]:
    """Return ``theta`` with every layer's weights scaled to outputs of unit variance on ``X``.

    Layer-sequential unit-variance initialisation (Mishkin and Matas 2016). The paper starts from
    :func:`orthogonal` weights; any start will do.

    Parameters
    ----------
    network : Network
    theta : ndarray of shape (n_parameters,)
        The start; not changed.
    X : array_like of shape (n_features, n_examples)
        A batch of data.
    tolerance : float, default 0.01
        How far from 1 a variance may stay, where a bias keeps it from being met at once.
    attempts : int, default 10
        Scalings per layer at most.

    Raises
    ------
    ValueError
        If a layer's outputs do not vary at all: no scale helps then.

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
    parameters = network.unpack(theta)
    for layer in range(1, network.n_layers + 1):
        W, b = parameters[f"W{layer}"], parameters[f"b{layer}"]
        Z = W @ A + b
        for _ in range(attempts):
            variance = float(Z.var(dtype=np.float64))
            if not 0 < variance < math.inf:
                raise ValueError(
                    f"theta: expected outputs of layer {layer} that vary; got variance {variance}"
                )
            if abs(variance - 1) <= tolerance:
                break
            W /= math.sqrt(variance)
            Z = W @ A + b
        A = np.maximum(Z, 0)
    return theta


# --- the lesson's own draws -------------------------------------------------------------------


def _legacy(seed: Seed) -> Any:
    """Return the legacy generator of a seed: NumPy's global one for None."""
    if seed is None:
        return np.random
    if isinstance(seed, np.random.RandomState):
        return seed
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed: expected 0 <= seed < 2**32 for a lesson's scheme; got {seed}")
        return np.random.RandomState(int(seed))
    if isinstance(seed, np.random.Generator):
        seed = np.random.SeedSequence(key_of(seed))
    if isinstance(seed, np.random.SeedSequence):
        return np.random.RandomState(np.random.MT19937(seed))
    raise TypeError(
        "seed: expected int, SeedSequence, Generator, RandomState or None; "
        f"got {type(seed).__name__}"
    )


def random(
    shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None
) -> Any:
    """Fill with the lesson's large random weights, ``randn(...) * 10``, exactly.

    Without a seed they come from NumPy's global random state as it stands; ``stream`` is not used.

    Examples
    --------
    >>> random((1, 2), seed=3)
    array([[17.88628473,  4.36509851]])
    """
    filling = Filling(shape, out=out)
    return filling.put(_legacy(seed).randn(*filling.shape) * 10)


def he(shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None) -> Any:
    """Fill with the lesson's He weights, ``randn(...) * sqrt(2 / fan_in)``, exactly.

    Without a seed they come from NumPy's global random state as it stands; ``stream`` is not used.

    Examples
    --------
    >>> he((1, 2), seed=3)
    array([[1.78862847, 0.43650985]])
    """
    filling = Filling(shape, out=out)
    # Without inputs there is nothing to draw.
    std = np.sqrt(2.0 / max(fans(filling.shape)[0], 1))
    return filling.put(_legacy(seed).randn(*filling.shape) * std)


_SCHEMES: dict[str, Initializer] = {
    scheme.__name__: scheme
    for scheme in (
        zeros,
        ones,
        constant,
        uniform,
        normal,
        truncated_normal,
        variance_scaling,
        he_normal,
        he_uniform,
        glorot_normal,
        glorot_uniform,
        lecun_normal,
        lecun_uniform,
        kaiming_normal,
        kaiming_uniform,
        xavier_normal,
        xavier_uniform,
        torch_linear,
        keras_dense,
        flax_dense,
        sklearn_mlp,
        orthogonal,
        identity,
        dirac,
        delta_orthogonal,
        sparse,
        zero_init,
        random,
        he,
    )
}


def names() -> list[str]:
    """Return the names that :func:`get` knows.

    Examples
    --------
    >>> "he_normal" in names()
    True
    """
    return list(_SCHEMES)


def get(name: str) -> Initializer:
    """Return the initialiser of that name.

    Examples
    --------
    >>> get("zeros") is zeros
    True
    """
    if name not in _SCHEMES:
        raise ValueError(f"scheme: expected one of {', '.join(_SCHEMES)}; got {name!r}")
    return _SCHEMES[name]


def shared_seed(scheme: str | Callable[..., Any], seed: Seed) -> Seed:
    """Return the seed for all tensors of a network, which are filled in turn.

    The lesson draws its layers one after another from one legacy generator; the other schemes share
    a key and tell the layers apart by ``stream``.
    """
    if scheme in ("random", "he", random, he):
        return None if seed is None else _legacy(seed)
    return key_of(seed)
