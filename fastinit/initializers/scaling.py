"""Values that depend on fans: ``variance_scaling``, named schemes, other libraries' defaults."""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, Unpack

from fastinit.initializers.distributions import (
    draw_normal,
    draw_truncated_normal,
    draw_uniform,
    uniform,
)
from fastinit.initializers.scheme import register
from fastinit.initializers.target import Axes, Common, Fans, Shape, Target
from fastinit.validation import as_float, check_integer, check_name, is_sequence

Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]

_FANS: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
# The standard deviation of the standard normal distribution cut at two of them.
TRUNCATED_STD = 0.87962566103423978
_DISTRIBUTIONS: dict[str, Callable[[Target, float], Any]] = {
    "normal": lambda target, std: draw_normal(target, 0.0, std),
    "truncated_normal": lambda target, std: draw_truncated_normal(
        target, 0.0, std / TRUNCATED_STD, -2.0, 2.0
    ),
    "uniform": lambda target, std: draw_uniform(
        target, -math.sqrt(3) * std * target.share_of_std, math.sqrt(3) * std * target.share_of_std
    ),
}


def fans(
    shape: tuple[int, ...], in_axis: Axes = 1, out_axis: Axes = 0, batch_axis: Axes = ()
) -> tuple[float, float]:
    """Return (fan_in, fan_out) of a kernel.

    Parameters
    ----------
    shape : tuple of int
        At least two axes.
    in_axis, out_axis : int or sequence of int, default 1 and 0
        The axes of inputs and outputs.
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels lie. All other axes are the receptive field.

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
    # Checked once for each shape: it would take a third of the time of a small fill.
    if type(in_axis) is type(out_axis) is int and type(batch_axis) is tuple and not batch_axis:
        return _cached_fans(shape, in_axis, out_axis, batch_axis)
    return _fans(shape, in_axis, out_axis, batch_axis)


def _fans(
    shape: tuple[int, ...], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[float, float]:
    axes = check_axes(shape, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)
    n_in, n_out, n_batch = [math.prod([shape[axis] for axis in each]) for each in axes]
    field = math.prod(shape) / max(n_in * n_out * n_batch, 1)
    return n_in * field, n_out * field


_cached_fans = lru_cache(1024)(_fans)


def check_axes(shape: tuple[int, ...], **axes: Axes) -> list[list[int]]:
    """Return the axes of each name, counted from 0; no axis is in two of them."""
    rank = len(shape)
    if rank < 2:
        raise ValueError(f"shape: expected at least 2 axes, to have fans; got {shape}")
    found = []
    for name, own in axes.items():
        given: Any = own if is_sequence(own) else (own,)
        places = [check_integer(name, axis, -rank, rank) % rank for axis in given]
        if not places and name != "batch_axis":
            raise ValueError(f"{name}: expected at least one axis; got none")
        found.append(places)
    if len({axis for places in found for axis in places}) < sum(map(len, found)):
        each = ", ".join(f"{name}={own}" for name, own in axes.items())
        raise ValueError(
            f"{', '.join(axes)}: expected every axis once in shape {shape}; got {each}"
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
    **keywords: Unpack[Common],
) -> Any:
    """Fill with draws of mean 0 and variance ``scale / fan``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    scale : float, default 1.0
        At least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        Which fan: the inputs of a unit, its outputs, or their arithmetic or geometric mean.
    distribution : {"normal", "truncated_normal", "uniform"}, default "normal"
        The truncated normal is cut at two standard deviations and widened, so that the variance is
        as asked, as in Keras and JAX.
    in_axis, out_axis : int or sequence of int, default 1 and 0
        The axes of inputs and outputs: by default those of a kernel (n_out, n_in, *field), as
        PyTorch and fastinit.Network have it. Keras and JAX have them at -2 and -1.
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels lie: they count for neither fan. All other axes are
        the receptive field.
    **keywords
        Those of every initialiser.

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
    scale = target.number("scale", scale)
    if scale < 0:
        raise ValueError(f"scale: expected >= 0; got {scale}")
    check_name("mode", mode, _FANS)
    check_name("distribution", distribution, _DISTRIBUTIONS)
    fan = _FANS[mode](*fans(target.shape, in_axis, out_axis, batch_axis))
    # Without a fan there are no weights to fill.
    std = math.sqrt(scale / fan) if fan else 0.0
    return _DISTRIBUTIONS[distribution](target, std) if std else target.constant(0.0)


@register
def he_normal(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill with normal draws of variance ``2 / fan_in``, for ReLU.

    The plain normal distribution, as in the paper, in PyTorch's ``kaiming_normal_`` and in the
    lesson.
    Keras and JAX truncate it: ``variance_scaling(shape, 2.0, "fan_in", "truncated_normal")``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
def he_uniform(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill with uniform draws of variance ``2 / fan_in``, for ReLU.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
def glorot_normal(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill with normal draws of variance ``2 / (fan_in + fan_out)``.

    Keras and JAX truncate it: ``variance_scaling(shape, 1.0, "fan_avg", "truncated_normal")``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
def glorot_uniform(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill with uniform draws of variance ``2 / (fan_in + fan_out)``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
def lecun_normal(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill with normal draws of variance ``1 / fan_in``, for tanh and SELU.

    Keras and JAX truncate it: ``variance_scaling(shape, 1.0, "fan_in", "truncated_normal")``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
def lecun_uniform(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill with uniform draws of variance ``1 / fan_in``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
    """Return the factor on the standard deviation that keeps the variance through a nonlinearity.

    PyTorch's table, and for gelu and silu ``1 / sqrt(E[f(z)**2])`` of a standard normal z.

    Parameters
    ----------
    nonlinearity : str
        linear, conv1d to conv3d, conv_transpose1d to conv_transpose3d, sigmoid, tanh, relu,
        leaky_relu, selu, gelu or silu.
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
    check_name("nonlinearity", nonlinearity, (*_GAINS, "leaky_relu"))
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


@register
def kaiming_normal(
    shape: Shape | None = None,
    a: float = 0.0,
    mode: Mode = "fan_in",
    nonlinearity: str = "leaky_relu",
    **keywords: Unpack[Fans],
) -> Any:
    """Fill with normal draws of standard deviation ``gain / sqrt(fan)``, as ``kaiming_normal_``.

    With its defaults it is :func:`he_normal`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    a : float, default 0.0
        Negative slope of the rectifier after this layer; used with ``"leaky_relu"`` alone.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``"fan_in"`` keeps the variance of the signal, ``"fan_out"`` that of the gradient.
    nonlinearity : str, default "leaky_relu"
        As :func:`gain` takes it.
    **keywords
        Those of every initialiser.

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
    **keywords: Unpack[Fans],
) -> Any:
    """Fill with uniform draws of standard deviation ``gain / sqrt(fan)``, as ``kaiming_uniform_``.

    With its defaults it is :func:`he_uniform`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    a : float, default 0.0
        Negative slope of the rectifier after this layer; used with ``"leaky_relu"`` alone.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}, default "fan_in"
        ``"fan_in"`` keeps the variance of the signal, ``"fan_out"`` that of the gradient.
    nonlinearity : str, default "leaky_relu"
        As :func:`gain` takes it.
    **keywords
        Those of every initialiser.

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


@register
def xavier_normal(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Fans]) -> Any:
    """Fill with normal draws of variance ``gain**2 * 2 / (fan_in + fan_out)``.

    The same as PyTorch's ``xavier_normal_``.

    With a gain of 1 it is :func:`glorot_normal`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    gain : float, default 1.0
    **keywords
        Those of every initialiser.

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
def xavier_uniform(shape: Shape | None = None, gain: float = 1.0, **keywords: Unpack[Fans]) -> Any:
    """Fill with uniform draws of variance ``gain**2 * 2 / (fan_in + fan_out)``.

    The same as PyTorch's ``xavier_uniform_``.

    With a gain of 1 it is :func:`glorot_uniform`.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    gain : float, default 1.0
    **keywords
        Those of every initialiser.

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


# --- what other libraries do by default -----------------------------------------------------------


def _torch_bias(fan_in: int, **keywords: Any) -> Any:
    limit = 1 / math.sqrt(fan_in)
    return uniform(None, -limit, limit, **keywords)


def _sklearn_bias(fan_in: int, *, out: Any, **keywords: Any) -> Any:
    limit = math.sqrt(6 / (fan_in + out.size))
    return uniform(None, -limit, limit, out=out, **keywords)


@register(fill_bias=_torch_bias)
def torch_linear(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill as ``torch.nn.Linear`` and ``Conv`` do: uniform on ±1/√fan_in.

    As a network's scheme it fills the biases with the same distribution.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
    **keywords: Unpack[Common],
) -> Any:
    """Fill as ``keras.layers.Dense`` and ``Conv`` do: Glorot's uniform distribution.

    As a network's scheme it leaves the biases zero, and fills the transposes of the weights, which
    are Keras's kernels.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    in_axis, out_axis : int or sequence of int, default -2 and -1
        The axes of inputs and outputs: by default those of a kernel (*field, n_in, n_out).
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels lie. All other axes are the receptive field.
    **keywords
        Those of every initialiser.

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
    **keywords: Unpack[Common],
) -> Any:
    """Fill as ``flax.linen.Dense`` and ``Conv`` do: LeCun's normal distribution, truncated.

    As a network's scheme it leaves the biases zero, and fills the transposes of the weights, which
    are Flax's kernels.

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    in_axis, out_axis : int or sequence of int, default -2 and -1
        The axes of inputs and outputs: by default those of a kernel (*field, n_in, n_out).
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels lie. All other axes are the receptive field.
    **keywords
        Those of every initialiser.

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
def sklearn_mlp(shape: Shape | None = None, **keywords: Unpack[Fans]) -> Any:
    """Fill as ``sklearn.neural_network.MLPClassifier`` does: uniform on ±√(6 / (fan_in + fan_out)).

    As a network's scheme it fills the biases with the same distribution. (With logistic activations
    scikit-learn takes 2 in the place of 6.)

    Parameters
    ----------
    shape : int or tuple of int, optional
        Shape of the whole array, at least two axes; that of ``out`` by default.
    **keywords
        Those of every initialiser.

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
