"""Initialisers that depend on fans: ``variance_scaling``, named schemes, libraries' defaults."""

import math
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Any, Literal, Unpack

from fastinit import kernels
from fastinit.initializers.distributions import (
    draw_truncated_normal,
    draw_uniform,
    uniform,
)
from fastinit.initializers.scheme import register
from fastinit.initializers.target import (
    Axes,
    Common,
    Fans,
    Out,
    Shape,
    Target,
    at_least,
    at_most,
    check_shape,
)
from fastinit.validation import as_float, check_integer, check_name, is_sequence

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]

# The fan of a mode, from those of the inputs and of the outputs.
MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
# The standard deviation of the standard normal distribution truncated at -2 and 2.
TRUNCATED_STD = 0.87962566103423978


def _normal(target: Target[Out], std: float) -> Out:
    return target.draw(kernels.random.normal, 0.0, std * target.share_of_std)


def _truncated_normal(target: Target[Out], std: float) -> Out:
    std = std / TRUNCATED_STD * target.share_of_std
    lowest, largest = at_least(-2.0 * std, target.kind), at_most(2.0 * std, target.kind)
    return draw_truncated_normal(target, 0.0, std, -2.0, 2.0, lowest, largest)


def _uniform(target: Target[Out], std: float) -> Out:
    limit = math.sqrt(3) * std * target.share_of_std
    return draw_uniform(target, -limit, limit)


# Each fills a target with the given standard deviation.
_DISTRIBUTIONS: dict[str, Callable[[Target[Any], float], Any]] = {
    "normal": _normal,
    "truncated_normal": _truncated_normal,
    "uniform": _uniform,
}


def fans(
    shape: Shape, in_axis: Axes = 1, out_axis: Axes = 0, batch_axis: Axes = ()
) -> tuple[float, float]:
    """Return (fan_in, fan_out) of a kernel.

    The fans are the numbers of inputs and outputs, each times the size of the receptive field.

    Parameters
    ----------
    shape : tuple of int
        At least two axes.
    in_axis, out_axis : int or sequence of int, default 1 and 0
        The axes of inputs and outputs. The default is for kernels of shape (n_out, n_in, *field),
        as in PyTorch and :class:`fastinit.Network`. For Keras and JAX kernels,
        (*field, n_in, n_out), pass ``in_axis=-2, out_axis=-1``.
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels are stacked; they do not count towards the fans. All
        remaining axes are the receptive field.

    Returns
    -------
    fan_in, fan_out : float

    Raises
    ------
    TypeError
        If the shape or the axes are not integers.
    ValueError
        If the shape has fewer than two axes or a negative length, or if an axis is out of range or
        occurs twice.

    Examples
    --------
    >>> fans((5, 10))
    (10.0, 5.0)
    >>> fans((64, 3, 7, 7))
    (147.0, 3136.0)
    >>> fans((3, 3, 16, 32), in_axis=-2, out_axis=-1)
    (144.0, 288.0)
    >>> fans((8, 256, 1024), in_axis=1, out_axis=2, batch_axis=0)
    (256.0, 1024.0)
    """
    return _fans(check_shape(shape), *_as_axes(in_axis, out_axis, batch_axis))


# Cached, because it takes a third of the time of a small fill. The arguments must be tuples of int,
# because True and 1.0 have the same cache entry as 1.
@lru_cache(1024)
def _fans(
    shape: tuple[int, ...],
    in_axis: tuple[int, ...],
    out_axis: tuple[int, ...],
    batch_axis: tuple[int, ...],
) -> tuple[float, float]:
    axes = check_axes(shape, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)
    n_in, n_out, _ = (math.prod([shape[axis] for axis in each]) for each in axes)
    field = math.prod([n for axis, n in enumerate(shape) if axis not in chain(*axes)])
    return float(n_in * field), float(n_out * field)


def _as_axes(in_axis: Axes, out_axis: Axes, batch_axis: Axes) -> list[tuple[int, ...]]:
    """Return the axes of each kind as tuples of int."""
    # The usual axes first: a small fill takes microseconds.
    if type(in_axis) is type(out_axis) is int and type(batch_axis) is tuple and not batch_axis:
        return [(in_axis,), (out_axis,), ()]
    found = []
    for name, axes in (("in_axis", in_axis), ("out_axis", out_axis), ("batch_axis", batch_axis)):
        each: Any = axes if is_sequence(axes) else (axes,)
        found.append(tuple([check_integer(name, axis, -(2**63)) for axis in each]))
    return found


def check_axes(shape: tuple[int, ...], **axes: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the axes of each name, counted from 0, after checking that no axis occurs twice.

    Examples
    --------
    >>> check_axes((3, 4, 5), in_axis=(1,), out_axis=(-1,))
    [(1,), (2,)]
    """
    rank = len(shape)
    if rank < 2:
        raise ValueError(f"shape: expected at least 2 axes, for inputs and outputs; got {shape}")
    found = []
    for name, own in axes.items():
        if not own and name != "batch_axis":
            raise ValueError(f"{name}: expected at least one axis; got none")
        found.append(tuple([check_integer(name, axis, -rank, rank) % rank for axis in own]))
    if len(set(chain(*found))) < len(list(chain(*found))):
        got = ", ".join(f"{name}={own[0] if len(own) == 1 else own}" for name, own in axes.items())
        raise ValueError(
            f"{', '.join(axes)}: expected each axis of shape {shape} at most once; got {got}"
        )
    return found


@register
def variance_scaling(
    shape: Shape | None = None,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
    *,
    in_axis: Axes = 1,
    out_axis: Axes = 0,
    batch_axis: Axes = (),
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill with draws of mean 0 and variance ``scale / fan``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    scale : float, default 1.0
        At least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        The fan: that of the inputs, that of the outputs, or their arithmetic or geometric mean.
    distribution : {"normal", "truncated_normal", "uniform"}, default "normal"
        The truncated normal distribution is cut at two standard deviations and widened to the
        given variance, as in Keras and JAX.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

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
    target = Target(shape, **keywords, complex_too=True)
    scale = target.number("scale", scale, 0.0)
    check_name("mode", mode, MODES)
    check_name("distribution", distribution, _DISTRIBUTIONS)
    fan = MODES[mode](*_fans(target.shape, *_as_axes(in_axis, out_axis, batch_axis)))
    # A fan of 0 means that there are no weights.
    std = math.sqrt(scale / fan) if fan else 0.0
    return _DISTRIBUTIONS[distribution](target, std) if std else target.constant(0.0)


@register
def he_normal(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill with normal draws of variance ``2 / fan_in``, for ReLU.

    The distribution is not truncated, as in the paper and in PyTorch's ``kaiming_normal_``. Keras
    and JAX truncate it: ``variance_scaling(shape, 2.0, "fan_in", "truncated_normal")``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    He et al. (2015), "Delving deep into rectifiers", arXiv:1502.01852.

    Examples
    --------
    >>> he_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 2.0, "fan_in", "normal", **keywords)


@register
def he_uniform(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill with uniform draws of variance ``2 / fan_in``, for ReLU.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    He et al. (2015), "Delving deep into rectifiers", arXiv:1502.01852.

    Examples
    --------
    >>> bool(abs(he_uniform((4, 6), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 2.0, "fan_in", "uniform", **keywords)


@register
def glorot_normal(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill with normal draws of variance ``2 / (fan_in + fan_out)``.

    The distribution is not truncated. Keras and JAX truncate it:
    ``variance_scaling(shape, 1.0, "fan_avg", "truncated_normal")``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS.

    Examples
    --------
    >>> glorot_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 1.0, "fan_avg", "normal", **keywords)


@register
def glorot_uniform(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill with uniform draws of variance ``2 / (fan_in + fan_out)``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS.

    Examples
    --------
    >>> bool(abs(glorot_uniform((3, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_avg", "uniform", **keywords)


@register
def lecun_normal(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill with normal draws of variance ``1 / fan_in``, for tanh and SELU.

    The distribution is not truncated. Keras and JAX truncate it:
    ``variance_scaling(shape, 1.0, "fan_in", "truncated_normal")``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    LeCun et al. (1998), "Efficient BackProp".

    Examples
    --------
    >>> lecun_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 1.0, "fan_in", "normal", **keywords)


@register
def lecun_uniform(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill with uniform draws of variance ``1 / fan_in``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    LeCun et al. (1998), "Efficient BackProp".

    Examples
    --------
    >>> bool(abs(lecun_uniform((4, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_in", "uniform", **keywords)


# --- PyTorch's names ------------------------------------------------------------------------------


def gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the recommended gain for a nonlinearity, a factor of the standard deviation.

    The values are PyTorch's. For gelu and silu, which PyTorch lacks, the gain is
    ``1 / sqrt(E[f(z)**2])`` with z standard normal, so that the second moment is preserved.

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d to conv3d, conv_transpose1d to conv_transpose3d, sigmoid, tanh, relu,
        leaky_relu, selu, gelu or silu.
    param : float, optional
        The negative slope of leaky_relu, 0.01 by default.

    Returns
    -------
    float

    References
    ----------
    https://docs.pytorch.org/docs/stable/nn.init.html#torch.nn.init.calculate_gain

    Examples
    --------
    >>> gain("relu") == 2**0.5
    True
    """
    check_name("nonlinearity", nonlinearity, _NONLINEARITIES)
    if nonlinearity != "leaky_relu":
        if param is not None:
            raise ValueError(f"param: expected none for {nonlinearity}; got {param!r}")
        return _GAINS[nonlinearity]
    slope = as_float("param", 0.01 if param is None else param)
    if not math.isfinite(slope):
        raise ValueError(f"param: expected a finite number; got {slope}")
    return math.sqrt(2.0 / (1.0 + slope * slope))


_CONVOLUTIONS = tuple(f"{kind}{n}d" for kind in ("conv", "conv_transpose") for n in (1, 2, 3))
_GAINS = {
    **dict.fromkeys(("linear", *_CONVOLUTIONS, "sigmoid"), 1.0),
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 0.75,
    "gelu": 1.5335304411955312,
    "silu": 1.6765324703310911,
}
_NONLINEARITIES = (*_GAINS, "leaky_relu")


@register
def kaiming_normal(
    shape: Shape | None = None,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    **keywords: Unpack[Fans[Out]],
) -> Out:
    """Fill with normal draws of standard deviation ``gain / sqrt(fan)``.

    Equivalent to PyTorch's ``kaiming_normal_``, and by default to :func:`he_normal`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    a : float, default 0.0
        Negative slope of the rectifier that follows; used only with ``"leaky_relu"``.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``"fan_in"`` preserves the variance in the forward pass, ``"fan_out"`` in the backward pass.
    nonlinearity : str, default "leaky_relu"
        One of those of :func:`gain`.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    He et al. (2015), "Delving deep into rectifiers", arXiv:1502.01852.

    Examples
    --------
    >>> bool((kaiming_normal((4, 3), seed=0) == he_normal((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _squared_gain(nonlinearity, a), mode, "normal", **keywords)


@register
def kaiming_uniform(
    shape: Shape | None = None,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    **keywords: Unpack[Fans[Out]],
) -> Out:
    """Fill with uniform draws of standard deviation ``gain / sqrt(fan)``.

    Equivalent to PyTorch's ``kaiming_uniform_``, and by default to :func:`he_uniform`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    a : float, default 0.0
        Negative slope of the rectifier that follows; used only with ``"leaky_relu"``.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``"fan_in"`` preserves the variance in the forward pass, ``"fan_out"`` in the backward pass.
    nonlinearity : str, default "leaky_relu"
        One of those of :func:`gain`.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    He et al. (2015), "Delving deep into rectifiers", arXiv:1502.01852.

    Examples
    --------
    >>> bool((kaiming_uniform((4, 3), seed=0) == he_uniform((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _squared_gain(nonlinearity, a), mode, "uniform", **keywords)


def _squared_gain(nonlinearity: str, a: float) -> float:
    # gain() is a rounded root: its square is not exactly 2, the scale of he_normal.
    slope_squared = _square("a", a)
    check_name("nonlinearity", nonlinearity, _NONLINEARITIES)
    if nonlinearity == "leaky_relu":
        return 2.0 / (1.0 + slope_squared)
    return 2.0 if nonlinearity == "relu" else _GAINS[nonlinearity] ** 2


def _square(name: str, value: float) -> float:
    number = as_float(name, value)
    if not math.isfinite(number * number):
        raise ValueError(f"{name}: expected a number with a finite square; got {number}")
    return number * number


@register
def xavier_normal(
    shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Fans[Out]]
) -> Out:
    """Fill with normal draws of variance ``gain**2 * 2 / (fan_in + fan_out)``.

    Equivalent to PyTorch's ``xavier_normal_``, and with a gain of 1 to :func:`glorot_normal`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    gain : float, default 1.0
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS.

    Examples
    --------
    >>> bool((xavier_normal((4, 3), seed=0) == glorot_normal((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _square("gain", gain), "fan_avg", "normal", **keywords)


@register
def xavier_uniform(
    shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Fans[Out]]
) -> Out:
    """Fill with uniform draws of variance ``gain**2 * 2 / (fan_in + fan_out)``.

    Equivalent to PyTorch's ``xavier_uniform_``, and with a gain of 1 to :func:`glorot_uniform`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    gain : float, default 1.0
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS.

    Examples
    --------
    >>> bool((xavier_uniform((4, 3), seed=0) == glorot_uniform((4, 3), seed=0)).all())
    True
    """
    return variance_scaling(shape, _square("gain", gain), "fan_avg", "uniform", **keywords)


# --- defaults of other libraries ------------------------------------------------------------------


def _torch_bias(fan_in: int, **keywords: Any) -> Any:
    limit = 1 / math.sqrt(fan_in)
    return uniform(None, -limit, limit, **keywords)


def _sklearn_bias(fan_in: int, *, out: Any, **keywords: Any) -> Any:
    limit = math.sqrt(6 / (fan_in + out.shape[-2]))
    return uniform(None, -limit, limit, out=out, **keywords)


@register(fill_bias=_torch_bias)
def torch_linear(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill as ``torch.nn.Linear`` and ``torch.nn.Conv2d`` do: uniform on ±1/√fan_in.

    As the scheme of a network it fills the biases from the same distribution.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html

    Examples
    --------
    >>> bool(abs(torch_linear((3, 4), seed=0)).max() <= 0.5)
    True
    """
    return variance_scaling(shape, 1 / 3, "fan_in", "uniform", **keywords)


@register(inputs_first=True)
def keras_dense(
    shape: Shape | None = None,
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill as ``keras.layers.Dense`` and ``keras.layers.Conv2D`` do: Glorot uniform.

    Kernels have the shape (*field, n_in, n_out). As the scheme of a network it fills the transposed
    weights, and sets the biases to zero.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    https://keras.io/api/layers/core_layers/dense/

    Examples
    --------
    >>> keras_dense((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(
        shape, 1.0, "fan_avg", "uniform",
        in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, **keywords,
    )  # fmt: skip


@register(inputs_first=True)
def flax_dense(
    shape: Shape | None = None,
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    **keywords: Unpack[Common[Out]],
) -> Out:
    """Fill as ``flax.linen.Dense`` and ``flax.linen.Conv`` do: truncated LeCun normal.

    Kernels have the shape (*field, n_in, n_out). As the scheme of a network it fills the transposed
    weights, and sets the biases to zero.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    https://flax.readthedocs.io/en/latest/api_reference/flax.linen/layers.html

    Examples
    --------
    >>> flax_dense((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(
        shape, 1.0, "fan_in", "truncated_normal",
        in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis, **keywords,
    )  # fmt: skip


@register(fill_bias=_sklearn_bias)
def sklearn_mlp(shape: Shape | None = None, **keywords: Unpack[Fans[Out]]) -> Out:
    """Fill as ``sklearn.neural_network.MLPClassifier`` does: uniform on ±√(6 / (fan_in + fan_out)).

    As the scheme of a network it fills the biases from the same distribution. For logistic
    activations scikit-learn uses 2 instead of 6.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser; ``dtype`` may be complex.

    Returns
    -------
    ndarray, or ``out``

    References
    ----------
    https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html

    Examples
    --------
    >>> bool(abs(sklearn_mlp((3, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_avg", "uniform", **keywords)
