"""The functions of ``torch.nn.init``, which also take ``seed`` and ``stream``."""

import math
import numbers
import warnings
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Generator, Tensor
from torch.nn.init import calculate_gain

from fastinit import initializers
from fastinit.initializers.fills import FIXED, Fill
from fastinit.initializers.scaling import fans
from fastinit.initializers.target import Seed, key_of
from fastinit.torch.internals import is_fake
from fastinit.torch.sharding import fill_tensor, is_dtensor
from fastinit.validation import check_integer, frames_inside


class Filler(Protocol):
    """What takes the calls of the functions in a session."""

    def fill(
        self, tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
    ) -> Tensor:
        """Fill a tensor, or note what fills it, and return it."""


# The session of this thread or task, in which functions leave it to another object what they fill.
SESSION: ContextVar[Filler | None] = ContextVar("fastinit.torch", default=None)


def uniform_(
    tensor: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with draws from the uniform distribution on [a, b).

    Parameters
    ----------
    tensor : Tensor
        Of any strides, floating-point or complex, and filled in place. A DTensor requires a seed or
        a generator in the same state on every process.
    a, b : float, default 0.0 and 1.0
        Bounds.
    generator : torch.Generator, optional
        One draw from it is the seed. The default is PyTorch's default generator.
    seed : int, SeedSequence, Generator, RandomState, optional
        The seed itself, instead of a generator. Tensors of the same shape, seed and stream have
        the same values.
    stream : int, default 0
        Number of the tensor within a model. Each stream of a seed has independent values.

    Returns
    -------
    Tensor
        ``tensor``.

    Examples
    --------
    >>> w = uniform_(torch.empty(3, 5), -1.0, 1.0, seed=0)
    >>> bool((w >= -1).all() and (w < 1).all())
    True
    """
    a, b = _number("a", a), _number("b", b)
    if a > b:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}"
        )
    fill = Fill("uniform_", initializers.uniform, {"low": a, "high": b})
    if a == b:
        fill = Fill("uniform_", None, {"value": a})
    return _fill(tensor, fill, generator, seed, stream)


def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with draws from the normal distribution.

    Parameters
    ----------
    tensor : Tensor
        As for :func:`uniform_`.
    mean, std : float, default 0.0 and 1.0
    generator, seed, stream
        As for :func:`uniform_`.

    Returns
    -------
    Tensor
        ``tensor``.

    Examples
    --------
    >>> w = normal_(torch.empty(100, 100), std=0.02, seed=0)
    >>> bool(abs(w.std() - 0.02) < 0.001)
    True
    """
    mean, std = _number("mean", mean), _check_std(std)
    fill = Fill("normal_", initializers.normal, {"mean": mean, "std": std})
    return _fill(tensor, fill, generator, seed, stream)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with draws from the normal distribution, truncated to [a, b].

    Parameters
    ----------
    tensor : Tensor
        As for :func:`uniform_`, but not complex.
    mean, std : float, default 0.0 and 1.0
        Mean and standard deviation before the truncation.
    a, b : float, default -2.0 and 2.0
        Bounds, as values: not in standard deviations.
    generator, seed, stream
        As for :func:`uniform_`.

    Returns
    -------
    Tensor
        ``tensor``.

    Warns
    -----
    UserWarning
        If the mean is more than two standard deviations outside the bounds, because such bounds are
        often meant in standard deviations. The distribution is exact all the same.

    Examples
    --------
    >>> w = trunc_normal_(torch.empty(3, 5), std=0.02, a=-0.04, b=0.04, seed=0)
    >>> bool((abs(w) <= 0.04).all())
    True
    """
    mean, std = _number("mean", mean), _check_std(std)
    a, b = _number("a", a), _number("b", b)
    if a > b:
        raise RuntimeError(f"trunc_normal_ expects bounds a <= b, but found a={a} > b={b}")
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The bounds are values, not numbers of standard deviations.",
            stacklevel=frames_inside(),
        )
    keywords = {"mean": mean, "std": std, "a": a, "b": b}
    fill = Fill("trunc_normal_", initializers.truncated_normal, keywords)
    if a == b:
        fill = Fill("trunc_normal_", None, {"value": a})
    return _fill(tensor, fill, generator, seed, stream)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill with one value.

    Parameters
    ----------
    tensor : Tensor
        Of any dtype.
    val : float

    Returns
    -------
    Tensor
        ``tensor``.

    Examples
    --------
    >>> constant_(torch.empty(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    return _fill(tensor, Fill(f"constant_({val})", None, {"value": val}))


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones; as :func:`constant_`.

    Examples
    --------
    >>> ones_(torch.empty(2))
    tensor([1., 1.])
    """
    return _fill(tensor, Fill("ones_", None, {"value": 1}))


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros; as :func:`constant_`.

    Examples
    --------
    >>> zeros_(torch.empty(2))
    tensor([0., 0.])
    """
    return _fill(tensor, Fill("zeros_", None, {"value": 0}))


def eye_(tensor: Tensor) -> Tensor:
    """Fill a tensor of two axes with the identity matrix, truncated if it is not square.

    Examples
    --------
    >>> eye_(torch.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if _dimensions(tensor) != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return _fill(tensor, Fill("eye_", initializers.identity, {}))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution kernel so that as many input channels as possible are preserved.

    Parameters
    ----------
    tensor : Tensor
        Of 3 to 5 axes.
    groups : int, default 1
        Number of groups of channels, a divisor of the first length.

    Returns
    -------
    Tensor
        ``tensor``.

    Examples
    --------
    >>> dirac_(torch.empty(1, 1, 3))
    tensor([[[0., 1., 0.]]])
    """
    if _dimensions(tensor) not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % check_integer("groups", groups, 1):
        raise ValueError("dim 0 must be divisible by groups")
    return _fill(tensor, Fill("dirac_", initializers.dirac, {"groups": groups}))


def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with uniform draws of variance ``gain**2 * 2 / (fan_in + fan_out)``.

    Parameters
    ----------
    tensor : Tensor
        As for :func:`uniform_`, of shape (n_out, n_in, *field).
    gain : float, default 1.0
    generator, seed, stream
        As for :func:`uniform_`.

    Returns
    -------
    Tensor
        ``tensor``.

    Examples
    --------
    >>> w = xavier_uniform_(torch.empty(2, 4), seed=0)
    >>> bool((abs(w) <= 1).all())
    True
    """
    _check_fans(tensor)
    gain = _number("gain", gain)
    fill = Fill("xavier_uniform_", initializers.xavier_uniform, {"gain": gain})
    if tensor.is_complex() and tensor.numel():
        fan_in, fan_out = fans(tuple(tensor.shape))
        fill = _both_parts(fill.name, gain * math.sqrt(2 / (fan_in + fan_out)))
    return _fill(tensor, fill, generator, seed, stream)


def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with normal draws of variance ``gain**2 * 2 / (fan_in + fan_out)``.

    Parameters and return value are those of :func:`xavier_uniform_`.

    Examples
    --------
    >>> xavier_normal_(torch.empty(2, 4), seed=0).shape
    torch.Size([2, 4])
    """
    _check_fans(tensor)
    keywords = {"gain": _number("gain", gain)}
    fill = Fill("xavier_normal_", initializers.xavier_normal, keywords)
    return _fill(tensor, fill, generator, seed, stream)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with uniform draws of standard deviation ``gain / sqrt(fan)``.

    Parameters
    ----------
    tensor : Tensor
        As for :func:`uniform_`, of shape (n_out, n_in, *field).
    a : float, default 0
        Negative slope of the rectifier that follows; used only with ``"leaky_relu"``.
    mode : {"fan_in", "fan_out"}, default "fan_in"
    nonlinearity : str, default "leaky_relu"
        One of those of :func:`calculate_gain`.
    generator, seed, stream
        As for :func:`uniform_`.

    Returns
    -------
    Tensor
        ``tensor``.

    Warns
    -----
    UserWarning
        If the tensor has no elements.

    Examples
    --------
    >>> w = kaiming_uniform_(torch.empty(2, 6), nonlinearity="relu", seed=0)
    >>> bool((abs(w) <= 1).all())
    True
    """
    fill = _kaiming("uniform", tensor, a, mode, nonlinearity)
    return _fill(tensor, fill, generator, seed, stream)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with normal draws of standard deviation ``gain / sqrt(fan)``.

    Parameters, return value and warning are those of :func:`kaiming_uniform_`.

    Examples
    --------
    >>> kaiming_normal_(torch.empty(2, 4), nonlinearity="relu", seed=0).shape
    torch.Size([2, 4])
    """
    fill = _kaiming("normal", tensor, a, mode, nonlinearity)
    return _fill(tensor, fill, generator, seed, stream)


def orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with a random orthogonal matrix times ``gain``.

    Parameters
    ----------
    tensor : Tensor
        Real, of at least two axes. All but the first form the columns.
    gain : float, default 1
    generator, seed, stream
        As for :func:`uniform_`.

    Returns
    -------
    Tensor
        ``tensor``.

    Notes
    -----
    The last bits of the values depend on the BLAS. A process that holds a part of a DTensor
    computes the whole matrix.

    Examples
    --------
    >>> w = orthogonal_(torch.empty(3, 5), seed=0)
    >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
    True
    """
    if _dimensions(tensor) < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    fill = Fill("orthogonal_", initializers.orthogonal, {"gain": _number("gain", gain)})
    return _fill(tensor, fill, generator, seed, stream)


def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: Generator | None = None,
    *,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill with normal draws, and set a fraction of each column to zero.

    Parameters
    ----------
    tensor : Tensor
        Real, of two axes.
    sparsity : float
        Fraction of zeros in each column, from 0 to 1.
    std : float, default 0.01
        Standard deviation of the other values.
    generator, seed, stream
        As for :func:`uniform_`.

    Returns
    -------
    Tensor
        ``tensor``.

    Examples
    --------
    >>> (sparse_(torch.empty(10, 3), 0.75, seed=0) == 0).sum(0)
    tensor([8, 8, 8])
    """
    if _dimensions(tensor) != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    keywords = {"sparsity": _number("sparsity", sparsity), "std": _check_std(std)}
    fill = Fill("sparse_", initializers.sparse, keywords)
    return _fill(tensor, fill, generator, seed, stream)


def _kaiming(distribution: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> Fill:
    name = f"kaiming_{distribution}_"
    _check_fans(tensor)
    if not tensor.numel():
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=frames_inside())
        return Fill(name, None, {"value": 0})
    fill, gain = _kaiming_fill(name, _number("a", a), mode, nonlinearity)
    if tensor.is_complex() and distribution == "uniform":
        fan_in, fan_out = fans(tuple(tensor.shape))
        return _both_parts(name, gain / math.sqrt(fan_in if mode.lower() == "fan_in" else fan_out))
    return fill


# Typed, because a slope of True is refused.
@lru_cache(256, typed=True)
def _kaiming_fill(name: str, a: float, mode: str, nonlinearity: str) -> tuple[Fill, float]:
    if not isinstance(mode, str) or mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    gain = calculate_gain(nonlinearity, a)  # type: ignore[arg-type]
    keywords = {"a": a, "mode": mode.lower(), "nonlinearity": nonlinearity}
    return Fill(name, getattr(initializers, name[:-1]), keywords), gain


def _both_parts(name: str, std: float) -> Fill:
    """Return what PyTorch draws for complex tensors: each part has the variance of a real number.

    The initialisers of fastinit halve it, as PyTorch does for normal draws alone.
    """
    limit = math.sqrt(3) * abs(std)
    if not limit:
        return Fill(name, None, {"value": 0})
    return Fill(name, initializers.uniform, {"low": -limit, "high": limit})


def _number(name: str, value: Any) -> Any:
    """Return a number, that of a tensor with one element too."""
    if isinstance(value, (float, int)):  # quickly: Real is an abstract class
        return value
    if isinstance(value, Tensor):
        value = value.item()
    if not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected a number; got {type(value).__name__}")
    return value


def _check_std(value: Any) -> Any:
    std = _number("std", value)
    if std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    return std


def _check_tensor(tensor: Any) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor: expected a Tensor; got {type(tensor).__name__}")


def _dimensions(tensor: Any) -> int:
    _check_tensor(tensor)
    return tensor.dim()  # type: ignore[no-any-return]


def _check_fans(tensor: Any) -> None:
    if _dimensions(tensor) < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )


def _fill(
    tensor: Tensor,
    fill: Fill,
    generator: Generator | None = None,
    seed: Seed = None,
    stream: int = 0,
) -> Tensor:
    """Fill one tensor, or leave it to the session of :func:`patch` or :func:`initialize`."""
    _check_tensor(tensor)
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"generator: expected a torch.Generator; got {type(generator).__name__}")
    if generator is not None and seed is not None:
        raise TypeError("generator, seed: expected at most one of them; got both")
    session = SESSION.get()
    if session is not None:
        return session.fill(tensor, fill, generator, seed, stream)
    return fill_alone(tensor, fill, generator, seed, stream)


def fill_alone(
    tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
) -> Tensor:
    """Fill one tensor at once, by a seed, by a draw from a generator, or by PyTorch's default."""
    key = 0
    if fill.function is not None and fill.function not in FIXED:
        if seed is not None:
            key = key_of(seed)
        elif tensor.is_meta or is_fake(tensor):
            return tensor
        elif generator is None and is_dtensor(tensor):
            raise ValueError(
                "seed: expected a seed or a generator for a DTensor, the same on every process; "
                "got neither"
            )
        else:
            key = _draw(generator)
    with torch.no_grad():
        fill_tensor(tensor, fill, key, stream)
    return tensor


def _draw(generator: Generator | None) -> int:
    """Return a seed drawn from a generator, PyTorch's default one if it is None."""
    device = "cpu" if generator is None else generator.device
    return int(torch.empty((), dtype=torch.int64, device=device).random_(generator=generator))
