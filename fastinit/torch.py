"""PyTorch: the functions of ``torch.nn.init``, whole modules, and sharded parameters.

The functions have the names, signatures and errors of ``torch.nn.init``, and take ``seed`` and
``stream`` as well. :func:`patch` makes existing code use them. :func:`initialize` fills all
parameters of a module, so that the values of each depend only on the seed, its full name, its shape
and its rule.

Parameters may be DTensors, as after ``fully_shard`` or ``parallelize_module``. Each process fills
the part that it holds, without communication, and the values are those of the whole tensor.
"""

import importlib
import itertools
import math
import numbers
import os
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn.init import calculate_gain
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from fastinit import initializers
from fastinit.comparison.tables import Table
from fastinit.initializers.fills import (
    FIXED,
    Fill,
    Shape,
    Window,
    check_matches,
    check_rule,
    fill_of,
    needs_whole,
    pattern_of,
    scheme_of,
    std_of,
    stream_of,
    takes_complex,
    takes_stacks,
)
from fastinit.initializers.scaling import fans
from fastinit.initializers.scheme import Scheme
from fastinit.initializers.target import Plan, Seed, Sources, key_of
from fastinit.validation import check_integer, frames_inside

__all__ = [
    "calculate_gain",
    "constant_",
    "dirac_",
    "eye_",
    "initialize",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "patch",
    "sparse_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

P = ParamSpec("P")
R = TypeVar("R")
Rule = Any  # a name, an initialiser, a function of torch.nn.init, or a number
Rules = Mapping[Any, Rule] | Callable[[nn.Module], object]

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
COMPLEX = (torch.complex64, torch.complex128)
PLAIN = (Tensor, nn.Parameter)
# Elements of a buffer on the CPU, for tensors whose memory cannot be written directly.
CHUNK = 1 << 24
# The types of devices that copy from pinned memory while the CPU goes on.
PINNED = ("cuda", "xpu")
# Tensors of at most this many elements are filled together with others of the same kind, in stacks
# of at most BATCH elements: a call of an initialiser takes longer than to fill 10,000 elements.
SMALL, BATCH = 1 << 14, 1 << 19


# --- the functions of torch.nn.init ---------------------------------------------------------------


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


def _deprecated(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function under its name without the underscore, which PyTorch deprecated."""
    name = function.__name__

    def old(*args: P.args, **keywords: P.kwargs) -> R:
        warnings.warn(
            f"`nn.init.{name[:-1]}` is now deprecated in favor of `nn.init.{name}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **keywords)

    old.__name__ = old.__qualname__ = name[:-1]
    old.__doc__ = f"Deprecated name of :func:`{name}`."
    return old


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)


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
    session = _SESSION.get()
    if session is not None:
        return session.fill(tensor, fill, generator, seed, stream)
    return _fill_alone(tensor, fill, generator, seed, stream)


def _fill_alone(
    tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
) -> Tensor:
    key = 0
    if fill.function is not None and fill.function not in FIXED:
        if seed is not None:
            key = key_of(seed)
        elif tensor.is_meta or _is_fake(tensor):
            return tensor
        elif generator is None and _is_dtensor(tensor):
            raise ValueError(
                "seed: expected a seed or a generator for a DTensor, the same on every process; "
                "got neither"
            )
        else:
            key = _draw(generator)
    with torch.no_grad():
        _fill_tensor(tensor, fill, key, stream)
    return tensor


def _draw(generator: Generator | None) -> int:
    """Return a seed drawn from a generator, PyTorch's default one if it is None."""
    device = "cpu" if generator is None else generator.device
    return int(torch.empty((), dtype=torch.int64, device=device).random_(generator=generator))


# --- filling --------------------------------------------------------------------------------------


def _fill_tensor(
    tensor: Tensor, fill: Fill, key: int, stream: int, threads: int | None = None
) -> None:
    """Fill a tensor in place, without gradients: the own part, if it is a DTensor."""
    shape = tuple(tensor.shape)
    if not _is_dtensor(tensor):
        whole = _whole_window(shape) if fill.rows else None
        _fill_piece(tensor, fill, shape, whole, key, stream, threads)
        return
    local, pieces = _pieces_of(tensor)
    if needs_whole(fill.function) and len(pieces) > 1:
        source = torch.empty(shape, dtype=local.dtype)
        _fill_piece(source, fill, shape, None, key, stream, threads)
        fill = Fill(fill.name, None, {"value": source}, fill.rows)
    for part, window in pieces:
        _fill_piece(local[part], fill, shape, window, key, stream, threads)
    increment_version(tensor)


def _fill_piece(
    piece: Tensor,
    fill: Fill,
    shape: Shape,
    window: Window | None,
    key: int,
    stream: int,
    threads: int | None,
) -> None:
    """Fill a tensor that is the window of a whole one of some shape; all of it by default."""
    if piece.is_meta or not piece.numel() or _is_fake(piece):
        return
    function, keywords = fill.function, fill.keywords
    if function is None:
        value = keywords["value"]
        if isinstance(value, Tensor):
            piece.copy_(value if window is None else value[window])
        else:
            piece.fill_(value)
    else:
        make = partial(function, shape, **keywords, seed=key, stream=stream, threads=threads)
        direct = _is_direct(piece, function)
        if direct and _draw_on_device(piece, fill, shape, window, key, stream):
            increment_version(piece)
        elif direct and piece.is_cpu:
            make(out=piece, window=window)
            increment_version(piece)
        else:
            _fill_by_copies(piece, function, make, window or _whole_window(shape))
    for row, number in fill.rows:
        if window is not None and window[0].start <= row < window[0].stop:
            piece[row - window[0].start].fill_(number)


def _whole_window(shape: Shape) -> Window:
    return tuple(slice(0, n) for n in shape)


def _draw_on_device(
    piece: Tensor, fill: Fill, shape: Shape, window: Window | None, key: int, stream: int
) -> bool:
    """Fill a tensor by the kernels of its own device, and return whether there are any."""
    function = fill.function
    kernels = _kernels_of(piece.device.type)
    if kernels is None or function is None or not takes_stacks(function):
        return False
    plan = Plan(str(piece.dtype).removeprefix("torch."))
    try:
        function(shape, **fill.keywords, out=plan, seed=key, stream=stream)
    except (AttributeError, TypeError):  # it needs an array, or its arguments are wrong
        return False
    if len(plan.draws) != 1 or not kernels.agrees(plan.draws[0].kernel, piece.dtype, piece.device):
        return False
    kernels.draw(piece, plan.draws[0], shape, window or _whole_window(shape))
    return True


@lru_cache
def _kernels_of(device: str) -> types.ModuleType | None:
    """Return the module that draws on a type of device."""
    if device != "cuda" or torch.version.hip or os.environ.get("FASTINIT_TRITON") == "0":
        return None
    try:
        return importlib.import_module("fastinit.triton")
    except ImportError:
        return None


class _Buffer:
    """Memory on the CPU, to be copied to a device; pinned, so that the device copies on its own."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self.pinned = device.type in PINNED
        self.memory = torch.empty(size, dtype=dtype, pin_memory=self.pinned)
        self.copied = torch.Event(device) if self.pinned else None

    def take(self, shape: Shape) -> Tensor:
        """Return memory to write to, after the last copy from it."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.memory[: math.prod(shape)].view(shape)

    def send(self, target: Tensor) -> None:
        """Copy to a tensor on the device, or start to."""
        values = self.memory[: target.numel()].view(target.shape)
        target.copy_(values, non_blocking=self.pinned)
        if self.copied is not None:
            self.copied.record(torch.accelerator.current_stream(self.device))


def _fill_by_copies(
    piece: Tensor, function: Callable[..., Any], make: Callable[..., Any], window: Window
) -> None:
    """Fill a tensor whose memory the kernels cannot write to: another device, or another dtype.

    A device copies from one of two buffers while the next chunk is made in the other.
    """
    dtype = piece.dtype if _is_drawn(piece.dtype, function) else torch.float32
    buffers: list[_Buffer] = []
    for i, (target, part) in enumerate(_chunks(piece, window, function)):
        if i < 2:  # the first chunk is as large as any
            buffers.append(_Buffer(target.numel(), dtype, piece.device))
        buffer = buffers[i % 2]
        make(out=buffer.take(tuple(target.shape)), window=part)
        buffer.send(target)


def _chunks(
    piece: Tensor, window: Window, function: Callable[..., Any]
) -> Iterator[tuple[Tensor, Window]]:
    """Yield parts of a tensor with at most CHUNK elements, and their windows."""
    if needs_whole(function) or piece.numel() <= CHUNK:
        yield piece, window
        return
    axis = next(axis for axis, n in enumerate(piece.shape) if n > 1)
    n, start = piece.shape[axis], window[axis].start
    size = max(CHUNK * n // piece.numel(), 1)
    for i in range(0, n, size):
        stop = min(i + size, n)
        limits = (*window[:axis], slice(start + i, start + stop), *window[axis + 1 :])
        yield from _chunks(piece.narrow(axis, i, stop - i), limits, function)


def _is_direct(piece: Tensor, function: Callable[..., Any]) -> bool:
    """Return whether the kernels of a tensor's device can write to its memory."""
    if (
        type(piece) not in PLAIN
        or piece.layout is not torch.strided
        or piece.is_conj()
        or piece.is_neg()
    ):
        return False
    if not piece.is_contiguous() and any(
        n > 1 and not stride for n, stride in zip(piece.shape, piece.stride(), strict=True)
    ):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    return _is_drawn(piece.dtype, function)


def _is_drawn(dtype: torch.dtype, function: Callable[..., Any]) -> bool:
    """Return whether an initialiser has values of a dtype; raise if they cannot be converted."""
    if dtype in REAL or (dtype in COMPLEX and takes_complex(function)):
        return True
    if function not in FIXED:
        name = getattr(function, "__name__", type(function).__name__)
        raise NotImplementedError(f'"{name}" not implemented for {dtype}')
    return False


# --- DTensors -------------------------------------------------------------------------------------


def _is_fake(tensor: Tensor) -> bool:
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)


def _is_dtensor(tensor: Tensor) -> bool:
    # Whoever made a DTensor has imported the module, which takes long.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def _pieces_of(tensor: Any) -> tuple[Tensor, list[tuple[Window, Window]]]:
    """Return the local part of a DTensor, and its pieces: where they are in it, and in the whole.

    The placements are applied as PyTorch does, from the first to the last dimension of the mesh.
    """
    mesh = tensor.device_mesh
    local = tensor.to_local()
    runs = [[(0, n)] if n else [] for n in tensor.shape]
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # this process is not in the mesh
        return local, []
    for i, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            continue
        factor = getattr(placement, "split_factor", None)  # that of _StridedShard
        if placement.is_partial() or (factor is None and not placement.is_shard()):
            raise ValueError(f"tensor: expected shards or replicas; got a DTensor with {placement}")
        axis, k, own = placement.dim, mesh.size(i), coordinate[i]
        parts = [_chunk(runs[axis], factor or 1, part) for part in range(factor or 1)]
        runs[axis] = _joined(run for part in parts for run in _chunk(part, k, own))
    axes = []
    for axis in runs:
        starts = itertools.accumulate((stop - start for start, stop in axis), initial=0)
        axes.append(
            [
                (slice(first, first + stop - start), slice(start, stop))
                for first, (start, stop) in zip(starts, axis, strict=False)
            ]
        )
    found = tuple(sum(part.stop - part.start for _, part in axis) for axis in axes)
    if tuple(local.shape) != found:
        raise ValueError(
            f"tensor: expected a local part of shape {found} for {tensor.placements} of "
            f"{tuple(tensor.shape)}; got {tuple(local.shape)}"
        )
    pieces = [
        (tuple(own for own, _ in piece), tuple(there for _, there in piece))
        for piece in itertools.product(*axes)
    ]
    return local, pieces


Runs = list[tuple[int, int]]


def _chunk(runs: Runs, count: int, index: int) -> Runs:
    """Return a chunk of the indices in some intervals, cut as ``torch.chunk`` does."""
    n = sum(stop - start for start, stop in runs)
    size = -(-n // count)
    low, high = min(index * size, n), min((index + 1) * size, n)
    found, before = [], 0
    for start, stop in runs:
        first, last = max(start, start + low - before), min(stop, start + high - before)
        if first < last:
            found.append((first, last))
        before += stop - start
    return found


def _joined(runs: Iterator[tuple[int, int]]) -> Runs:
    """Return intervals with those joined that follow each other directly."""
    found: Runs = []
    for start, stop in runs:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found


# --- sessions: code of others that calls torch.nn.init --------------------------------------------


class _Session(TorchFunctionMode):
    """While it is entered, ``torch.nn.init`` and tensors' own methods fill through this session."""

    def fill(
        self, tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
    ) -> Tensor:
        raise NotImplementedError

    def __enter__(self) -> Any:
        _divert(1)
        self._token = _SESSION.set(self)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        _SESSION.reset(self._token)
        _divert(-1)


_SESSION: ContextVar[_Session | None] = ContextVar("fastinit.torch", default=None)
_DIVERTED = (
    constant_, dirac_, eye_, kaiming_normal_, kaiming_uniform_, normal_, ones_, orthogonal_,
    sparse_, trunc_normal_, uniform_, xavier_normal_, xavier_uniform_, zeros_,
)  # fmt: skip
# PyTorch's functions themselves: others put wrappers of theirs into torch.nn.init.
_TORCH: dict[Callable[..., Any], Any] = {
    ours: getattr(nn.init, ours.__name__) for ours in _DIVERTED
}
_LOCK = threading.Lock()
_depth = 0


def _detour(
    *args: Any,
    _ours: Any = None,
    _original: Any = None,
    _session: Any = None,
    _quiet: Any = None,
    **keywords: Any,
) -> Any:
    # All names are arguments: this code runs with the globals of torch.nn.init.
    if _session.get() is None:  # another thread, which keeps PyTorch's own function
        return _original(*args, **keywords)
    # Without a call of the session for every attribute of a tensor.
    with _quiet():
        return _ours(*args, **keywords)


def _divert(change: int) -> None:
    """Enter or leave: let the functions of ``torch.nn.init`` call ours while any session is open.

    Their code is exchanged, because references to them are everywhere: ``from torch.nn.init import
    xavier_uniform_`` in PyTorch itself, tables of functions in transformers, partials elsewhere.
    """
    global _depth
    with _LOCK:
        _depth += change
        if _depth == change == 1:
            for ours, function in _TORCH.items():
                function.__kwdefaults__ = {
                    "_ours": ours,
                    "_original": _ORIGINALS[ours],
                    "_session": _SESSION,
                    "_quiet": torch._C.DisableTorchFunction,
                }
                function.__code__ = _detour.__code__
        elif _depth == 0:
            for ours, function in _TORCH.items():
                original = _ORIGINALS[ours]
                function.__code__ = original.__code__
                function.__kwdefaults__ = original.__kwdefaults__


def _copy_of(function: Any) -> types.FunctionType:
    copied = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


_ORIGINALS = {ours: _copy_of(function) for ours, function in _TORCH.items()}


class _Patch(_Session):
    """Fill at once, with the next stream of one seed."""

    def __init__(self, seed: Seed) -> None:
        super().__init__()
        self.key = None if seed is None else key_of(seed)
        self.streams = itertools.count()

    def fill(
        self, tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
    ) -> Tensor:
        if generator is None and seed is None and self.key is not None:
            seed, stream = self.key, next(self.streams)
        return _fill_alone(tensor, fill, generator, seed, stream)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (ours := _METHODS.get(func)) is not None:
            kwargs = _renamed(kwargs)
            if args[0].requires_grad and torch.is_grad_enabled():
                # Unlike the functions of torch.nn.init, it is an operation of autograd.
                return args[0].copy_(ours(torch.empty_like(args[0]), *args[1:], **kwargs))
            return ours(*args, **kwargs)
        if (factory := _FACTORIES.get(func)) is not None:
            make, ours = factory
            generator = kwargs.pop("generator", None)
            made = make(*args, **kwargs)
            return (
                ours(made, generator=generator)
                if made.dtype in REAL + COMPLEX
                else func(*args, **kwargs, generator=generator)
            )
        return func(*args, **kwargs)


_METHODS: dict[Any, Callable[..., Tensor]] = {Tensor.normal_: normal_, Tensor.uniform_: uniform_}
_FACTORIES: dict[Any, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    torch.randn: (torch.empty, normal_),
    torch.rand: (torch.empty, uniform_),
    torch.randn_like: (torch.empty_like, normal_),
    torch.rand_like: (torch.empty_like, uniform_),
}


def _renamed(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return the keywords of a method of tensors under the names of ``torch.nn.init``."""
    return {{"from": "a", "to": "b"}.get(name, name): value for name, value in keywords.items()}


@contextmanager
def patch(seed: Seed = None) -> Iterator[None]:
    """Let code of others initialise through this module.

    Within the context, all functions of ``torch.nn.init`` are those of this module, wherever they
    were imported, and so are ``Tensor.normal_``, ``Tensor.uniform_``, ``torch.randn``,
    ``torch.rand`` and their ``_like`` forms. That covers constructors of modules,
    ``reset_parameters`` and the ``_init_weights`` of transformers. Other threads are not affected.

    Parameters
    ----------
    seed : int, SeedSequence, Generator, RandomState, optional
        The n-th call draws from stream n of this seed, so the values depend on the order of the
        calls, unlike those of :func:`initialize`. Calls with a ``generator`` draw from it. Without
        a seed, each call draws one from PyTorch's default generator.

    Examples
    --------
    >>> with patch(seed=0):
    ...     first = nn.Linear(4, 3)
    >>> with patch(seed=0):
    ...     second = nn.Linear(4, 3)
    >>> torch.equal(first.weight, second.weight)
    True
    """
    with _Patch(seed):
        yield


class _RefusedError(Exception):
    """A function that initialises does what cannot be recorded."""


class _Recorder(_Session):
    """Record what fills each tensor, and fill nothing.

    Parameters
    ----------
    tensors : iterable of Tensor
        The parameters and buffers to be filled. Every operation that changes one of them is either
        recorded or refused.
    """

    def __init__(self, tensors: Iterator[Tensor]) -> None:
        super().__init__()
        self.watched = {id(tensor): tensor for tensor in tensors}
        self.found: dict[int, Fill] = {}
        # Rows, temporary tensors, and tensors computed from values that are not there yet.
        self.rows: dict[int, tuple[Tensor, int]] = {}
        self.temporary: dict[int, Tensor] = {}
        self.tainted: dict[int, Tensor] = {}

    def fill(
        self,
        tensor: Tensor,
        fill: Fill,
        generator: Generator | None = None,
        seed: Seed = None,
        stream: int = 0,
    ) -> Tensor:
        key = id(tensor)
        if key in self.rows:
            whole, row = self.rows[key]
            if fill.function is not None or id(whole) not in self.found:
                raise _RefusedError(f"fills a row by {fill.name}")
            before = self.found[id(whole)]
            name = f"{before.name}, row {row} {fill.name}"
            rows = (*before.rows, (row, fill.keywords["value"]))
            self.found[id(whole)] = before._replace(name=name, rows=rows)
        elif key in self.tainted:
            raise _RefusedError(f"fills a part or a result by {fill.name}")
        else:
            if key not in self.watched:
                self.temporary[key] = tensor
            self.found[key] = fill
        return tensor

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.__name__
        if name in _METADATA or (name == "__get__" and func.__self__ not in _VIEWS):
            return func(*args, **kwargs)
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if name in _RECORDED and first is not None and func is getattr(Tensor, name):
            return _RECORDED[name](*args, **_renamed(kwargs))
        if func in _FACTORIES and kwargs.get("out") is None:
            make, ours = _FACTORIES[func]
            return ours(make(*args, **{k: v for k, v in kwargs.items() if k != "generator"}))
        known = [tensor for tensor in _tensors_of(args, kwargs) if self._is_known(tensor)]
        if not known:
            result = func(*args, **kwargs)
            if _is_random(name):  # the seed does not determine what is computed from it
                self.tainted.update((id(each), each) for each in _tensors_of((result,), {}))
            return result
        if name == "detach" or getattr(func, "__self__", None) is Tensor.data:
            if name == "__set__":
                raise _RefusedError("assigns its data")
            return known[0]
        if first is known[0]:
            if name == "copy_":
                return self._copy(first, args[1] if len(args) > 1 else kwargs["src"])
            if name == "__getitem__" and type(args[1]) is int and first.shape:
                row = torch.empty(first.shape[1:], dtype=first.dtype, device="meta")
                self.rows[id(row)] = first, args[1] % max(len(first), 1)
                self.temporary[id(row)] = row
                return row
        if _changes(name) or kwargs.get("inplace") or kwargs.get("out") is not None:
            raise _RefusedError(f"changes it by {name}")
        if name in _READS:
            raise _RefusedError(f"reads its values by {name}")
        result = func(*args, **kwargs)
        if name == "__iter__":
            result = list(result)
        if name not in ("empty_like", "new_empty"):
            for tensor in _tensors_of((result,), {}):
                self.tainted[id(tensor)] = tensor
        return iter(result) if name == "__iter__" else result

    def _is_known(self, tensor: Tensor) -> bool:
        key = id(tensor)
        return key in self.watched or key in self.temporary or key in self.tainted

    def _copy(self, tensor: Tensor, source: Any) -> Tensor:
        if id(source) in self.found and tuple(source.shape) == tuple(tensor.shape):
            return self.fill(tensor, self.found[id(source)])
        if self._is_known(source) or source.is_meta:
            raise _RefusedError("copies values that depend on others")
        value = source.detach().expand(tensor.shape)
        return self.fill(tensor, Fill("copy_", None, {"value": value}))


def _fill_method(tensor: Tensor, value: Any) -> Tensor:
    return constant_(tensor, value.item() if isinstance(value, Tensor) else value)


_RECORDED: dict[str, Callable[..., Tensor]] = {
    "normal_": normal_, "uniform_": uniform_, "zero_": zeros_, "fill_": _fill_method,
}  # fmt: skip


# Neither read nor change the values.
_METADATA = {
    "_set_grad_enabled", "dim", "element_size", "is_complex", "is_contiguous", "is_floating_point",
    "ndimension", "nelement", "numel", "requires_grad_", "size", "stride",
}  # fmt: skip
# The attributes of a tensor that share its memory; all others are metadata.
_VIEWS = {Tensor.data, Tensor.T, Tensor.mT, Tensor.H, Tensor.mH, Tensor.real, Tensor.imag}
# Give values to Python, or memory to others.
_READS = {
    "__array__", "__bool__", "__complex__", "__dlpack__", "__float__", "__int__", "data_ptr",
    "item", "numpy", "storage", "tolist", "untyped_storage",
}  # fmt: skip


def _tensors_of(args: Any, kwargs: Mapping[str, Any]) -> Iterator[Tensor]:
    """Yield the tensors among arguments, also those in lists and tuples."""
    for value in itertools.chain(args, kwargs.values()):
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from (each for each in value if isinstance(each, Tensor))


@lru_cache
def _is_random(name: str) -> bool:
    """Return whether an operation draws from a generator of PyTorch."""
    packet = getattr(torch.ops.aten, name, None)
    seeded = torch.Tag.nondeterministic_seeded
    return packet is not None and any(
        seeded in getattr(packet, overload).tags for overload in packet.overloads()
    )


def _changes(name: str) -> bool:
    """Return whether a method of tensors changes the first one."""
    if name.startswith("__"):
        return name == "__setitem__" or (
            name.startswith("__i") and name not in ("__index__", "__int__", "__invert__")
        )
    return name.endswith("_")


# --- whole modules --------------------------------------------------------------------------------

# The rule of what a module's own function does.
RESET = "reset_parameters"
# Parts of names that wrappers of modules add.
_WRAPPERS = re.compile(r"(?:_orig_mod|_checkpoint_wrapped_module)\.")


@dataclass(slots=True)
class _Entry:
    """A parameter or buffer of a module, with all of its names.

    ``names`` holds all of its names. ``places`` holds the modules and attributes that hold it; the
    first place is that of ``name``, the first of its names in alphabetical order.
    """

    name: str
    tensor: Tensor
    is_parameter: bool
    names: list[str]
    places: list[tuple[nn.Module, str]]

    @property
    def owner(self) -> nn.Module:
        return self.places[0][0]

    @property
    def key(self) -> str:
        return self.places[0][1]


def initialize(
    module: nn.Module,
    rules: Rules | None = None,
    *,
    seed: Seed,
    threads: int | None = None,
    device: torch.device | str | None = None,
    prefix: str = "",
) -> Table:
    """Fill all parameters of a module in place.

    The values of a parameter depend on the seed, its full name, its shape, its dtype and its rule.
    They do not depend on other parameters or their order, on pipeline stages, on sharding or on the
    number of processes: of DTensors, each process fills its own part, without communication.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters on the meta device are materialised. Shared parameters are filled once.
    rules : dict or callable, optional
        A dict maps patterns of full names (``"encoder.*.weight"``, as in :mod:`fnmatch`, or a
        compiled regular expression that matches the whole name) or types of modules, whose own
        parameters they stand for, to schemes. The first that matches counts. A scheme is a name of
        ``fastinit.initializers.names()``, an initialiser, a function of ``torch.nn.init`` or of
        this module, a partial of one, a number, or ``"reset_parameters"`` for what the function
        ``reset_parameters`` of the module does, which is the default for all modules. Initialisers
        that depend on fans fill a bias of one axis as they fill those of a :class:`Network`.

        A callable initialises one module, as for ``Module.apply``, such as ``model._init_weights``
        of transformers. It is called for every module, children first.
    seed : int, SeedSequence, Generator or RandomState
        With DTensors or several processes, the same on each of them.
    threads : int, optional
        Maximum number of threads; all usable cores by default. The values do not depend on it.
    device : torch.device or str, optional
        Where meta tensors are materialised: by default on that of its mesh for a DTensor, otherwise
        on the CPU.
    prefix : str, default ""
        What precedes the names of this module in the whole model, such as ``"layers.4."`` for a
        stage of a pipeline.

    Returns
    -------
    Table
        A row for each tensor that was filled: its name, shape, scheme, and the standard deviation
        of its distribution, None if it is unknown.

    Raises
    ------
    ValueError
        If no rule matches a parameter, or if its function does what cannot be recorded; the error
        lists all such parameters. If a pattern matches no parameter, unless there is a prefix.
        Nothing is filled before all rules and their arguments are checked.

    Notes
    -----
    The functions of modules are not run on the parameters, but recorded: calls of
    ``torch.nn.init`` and of ``normal_``, ``uniform_``, ``fill_``, ``zero_`` and ``copy_``. What
    they fill besides, such as running means, is filled too.

    The stream of a tensor is the BLAKE2b hash of its name, without the parts that
    ``torch.compile`` and activation checkpointing add. A shared parameter has the name that
    comes first in alphabetical order. ``orthogonal`` multiplies whole matrices, so the last bits of
    its values depend on the BLAS.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    >>> initialize(model, seed=0)
    name      shape   scheme            std
    --------  ------  ----------------  --------
    0.weight  (3, 4)  kaiming_uniform_  0.288675
    0.bias    (3,)    uniform_          0.288675
    1.weight  (3,)    ones_             0
    1.bias    (3,)    zeros_            0
    >>> rules = {nn.Linear: "he_normal", "*": "reset_parameters"}
    >>> table = initialize(model, rules, seed=0)
    >>> table[0]["scheme"]
    'he_normal'
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a Module; got {type(module).__name__}")
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module = module.module
    if threads is not None:
        threads = check_integer("threads", threads, 1)
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a string; got {type(prefix).__name__}")
    if device is not None and torch.device(device).type == "meta":
        raise ValueError("device: expected one whose tensors have values; got meta")
    _reshard(module)
    entries = _entries_of(module, prefix)
    fills = _fills_of(module, entries, rules, prefix)
    tasks = _check_fills(entries, fills)
    if seed is None and any(_is_dtensor(task.entry.tensor) for task in tasks):
        raise ValueError("seed: expected the same seed on every process for DTensors; got None")
    key = key_of(seed)
    _materialise(module, entries, device)
    filled: list[str] = []
    try:
        with torch.no_grad():
            for batch in _batches(tasks):
                _fill_batch(batch, key, threads)
                filled += [task.entry.name for task in batch]
    except BaseException as error:
        names = ", ".join(filled) or "none"
        error.add_note(f"initialize: these tensors were filled before the error: {names}")
        raise
    return Table(
        [
            {
                "name": task.entry.name,
                "shape": task.shape,
                "scheme": task.fill.name,
                "std": task.std,
            }
            for task in tasks
        ]
    )


def _reshard(module: nn.Module) -> None:
    """Let modules of FSDP hold their sharded parameters, which last, instead of gathered copies."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return
    for part in module.modules():
        if isinstance(part, fsdp.FullyShardedDataParallel):
            raise TypeError(
                "module: expected one of fully_shard(); got FullyShardedDataParallel, whose "
                "parameters have lost their shapes"
            )
        if isinstance(part, fsdp.FSDPModule):
            part.reshard()


def _entries_of(module: nn.Module, prefix: str) -> list[_Entry]:
    found: dict[int, _Entry] = {}
    for path, part in module.named_modules(remove_duplicate=False):
        before = f"{prefix}{path}." if path else prefix
        for is_parameter, tensors in ((True, part._parameters), (False, part._buffers)):
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                name = before + key
                if "._" in name or name[0] == "_":
                    name = _WRAPPERS.sub("", name)
                place = (part, key)
                entry = found.get(id(tensor))
                if entry is None:
                    found[id(tensor)] = _Entry(name, tensor, is_parameter, [name], [place])
                    continue
                entry.names.append(name)
                if name < entry.name:
                    entry.name = name
                    entry.places.insert(0, place)
                else:
                    entry.places.append(place)
    return list(found.values())


def _fills_of(
    module: nn.Module,
    entries: list[_Entry],
    rules: Rules | None,
    prefix: str,
    reset: Callable[[nn.Module], object] | None = None,
    optional: Container[int] = (),
) -> list[Fill | None]:
    """Return what fills each entry, None for a buffer that keeps its values.

    ``reset`` initialises a module where no rules do, or the rule "reset_parameters" does. Of the
    tensors with ids in ``optional``, none is required.
    """
    compiled, reset = _compiled(rules, reset or _reset)
    chosen = [RESET] * len(entries)
    if compiled:
        chosen = [_rule_of(entry, compiled) if entry.is_parameter else RESET for entry in entries]
        if not prefix:  # a part of a model takes the rules of the whole
            names = [name for entry in entries if entry.is_parameter for name in entry.names]
            check_matches(rules, names)  # type: ignore[arg-type]
    recorder = _Recorder(entry.tensor for entry in entries)
    reasons: dict[int, str] = {}
    if any(
        rule is RESET and (entry.is_parameter or entry.tensor.is_meta)
        for entry, rule in zip(entries, chosen, strict=True)
    ):
        reasons = _record(module, entries, reset, recorder)
    found: list[Fill | None] = []
    missing: list[str] = []
    for entry, rule in zip(entries, chosen, strict=True):
        tensor, fill, reason = entry.tensor, None, ""
        lazy = is_lazy(tensor)
        if lazy:
            reason = "it is not initialised before the first forward pass"
        elif rule is RESET:
            fill = recorder.found.get(id(tensor))
            reason = reasons.get(id(tensor), "")
        elif rule is not None:
            try:
                fill = _fill_of(rule, entry)
            except Exception as error:
                error.add_note(f"initialize: the rule of {entry.name} is {rule!r}")
                raise
        if fill is None and (entry.is_parameter or tensor.is_meta) and id(tensor) not in optional:
            shape = "" if lazy else f" {tuple(tensor.shape)}"
            kind = type(entry.owner).__name__
            missing.append(f"{entry.name}{shape} of {kind}" + (f": {reason}" if reason else ""))
        found.append(fill)
    if missing:
        lines = "\n  ".join(missing)
        raise ValueError(f"rules: expected one for every parameter; got none for\n  {lines}")
    return found


def _compiled(
    rules: Any, reset: Callable[[nn.Module], object]
) -> tuple[list[tuple[Any, Rule]], Callable[[nn.Module], object]]:
    """Return pairs of a pattern or type and its rule, and what initialises a module."""
    if rules is None or (callable(rules) and not isinstance(rules, Mapping)):
        return [], rules or reset
    if not isinstance(rules, Mapping):
        raise TypeError(f"rules: expected a dict or a callable; got {type(rules).__name__}")
    if not rules:
        raise ValueError("rules: expected at least one; got an empty dict")
    compiled: list[tuple[Any, Rule]] = []
    for where, rule in rules.items():
        if not (isinstance(where, type) and issubclass(where, nn.Module)):
            where = pattern_of(where, "patterns or types of modules")
        compiled.append((where, _checked_rule(rule)))
    return compiled, reset


def _checked_rule(rule: Rule) -> Rule:
    """Return a rule after checking it; names and initialisers become schemes."""
    if isinstance(rule, str) and rule == RESET:
        return RESET
    if isinstance(rule, (int, float)) and not isinstance(rule, bool):
        return Fill(f"constant_({rule})", None, {"value": rule})
    base = rule
    while isinstance(base, partial):
        base = base.func
    for ours, theirs in _TORCH.items():
        if base is ours or base is theirs:
            check_rule(rule)
            is_partial = isinstance(rule, partial)
            return partial(ours, *rule.args, **rule.keywords) if is_partial else partial(ours)
    return scheme_of(rule)


def _rule_of(entry: _Entry, compiled: list[tuple[Any, Rule]]) -> Rule:
    for where, rule in compiled:
        if isinstance(where, re.Pattern):
            if any(map(where.fullmatch, entry.names)):
                return rule
        elif isinstance(entry.owner, where):
            return rule
    return None


def _fill_of(rule: Rule, entry: _Entry) -> Fill:
    """Return what fills a parameter by a rule that was checked."""
    if isinstance(rule, Fill):
        return rule
    if not isinstance(rule, Scheme):
        recorder = _Recorder(iter(()))
        token = _SESSION.set(recorder)
        try:
            rule(entry.tensor)
        finally:
            _SESSION.reset(token)
        return recorder.found[id(entry.tensor)]
    weight = None
    if "bias" in entry.key:
        weight = getattr(entry.owner, entry.key.replace("bias", "weight"), None)
    shape = None if weight is None else tuple(weight.shape)
    return fill_of(rule, entry.key, tuple(entry.tensor.shape), shape)


def _reset(module: nn.Module) -> None:
    """Initialise the own parameters of a module, as its constructor does."""
    for name in ("reset_parameters", "_reset_parameters"):
        if (function := getattr(type(module), name, None)) is not None:
            function(module)
            return


def _record(
    module: nn.Module,
    entries: list[_Entry],
    reset: Callable[[nn.Module], object],
    recorder: _Recorder,
) -> dict[int, str]:
    """Record what initialises all modules, children first; return why tensors have no record."""
    shared = {id(entry.tensor): entry.owner for entry in entries if len(entry.places) > 1}
    reasons: dict[int, str] = {}
    name = RESET if reset is _reset else getattr(reset, "__name__", type(reset).__name__)
    versions = [_version_of(entry.tensor) for entry in entries]
    with recorder:
        for part in reversed(list(module.modules())):
            # A shared parameter is initialised by the module of its name, and by parents.
            kept: dict[int, Fill | None] = {}
            if shared:
                own = map(id, part._parameters.values())
                others = [key for key in own if shared.get(key, part) is not part]
                kept = {key: recorder.found.get(key) for key in others}
            try:
                reset(part)
            except Exception as error:
                text = str(error) if isinstance(error, _RefusedError) else f"raises {error!r}"
                for tensor in itertools.chain(part.parameters(), part.buffers()):
                    recorder.found.pop(id(tensor), None)
                    reasons[id(tensor)] = f"{name} of {type(part).__name__} {text}"
            for key, fill in kept.items():
                recorder.found.pop(key, None)
                if fill is not None:
                    recorder.found[key] = fill
    for entry, version in zip(entries, versions, strict=True):
        for owner, attribute in entry.places if entry.is_parameter else ():
            if owner._parameters.get(attribute) is not entry.tensor:
                owner._parameters[attribute] = entry.tensor  # type: ignore[assignment]
                recorder.found.pop(id(entry.tensor), None)
                reasons[id(entry.tensor)] = f"{name} of {type(owner).__name__} replaces it"
        if _version_of(entry.tensor) != version:
            recorder.found.pop(id(entry.tensor), None)
            reasons[id(entry.tensor)] = f"{name} has changed it"
    return reasons


def _version_of(tensor: Tensor) -> int:
    try:
        return tensor._version
    except RuntimeError:  # an inference tensor
        return 0


class _Task(NamedTuple):
    """What fills an entry, after all checks.

    ``alike`` is the same for tensors that differ in names only, and 0 for a tensor that is not
    filled together with others.
    """

    entry: _Entry
    fill: Fill
    shape: Shape
    std: float | None
    alike: int


def _check_fills(entries: list[_Entry], fills: list[Fill | None]) -> list[_Task]:
    """Fill an empty window of each tensor, which checks all arguments; return the tasks."""
    checked: dict[Any, tuple[float | None, int]] = {}
    tasks = []
    for entry, fill in zip(entries, fills, strict=True):
        if fill is None:
            continue
        tensor, function = entry.tensor, fill.function
        shape, dtype = tuple(tensor.shape), tensor.dtype
        std: float | None = 0.0
        alike = 0
        try:
            if sharded := _is_dtensor(tensor):
                _pieces_of(tensor)
            if tensor.layout is not torch.strided or _is_fake(tensor):
                kind = "a FakeTensor" if _is_fake(tensor) else f"{tensor.layout}"
                raise TypeError(f"module: expected tensors with memory of their own; got {kind}")
            if function is not None:
                if not tensor.is_meta and not tensor.is_contiguous():
                    _is_direct(tensor, function)
                key = (function, tuple(fill.keywords.items()), shape, dtype)
                if (known := checked.get(key)) is None:
                    _try(fill, shape, dtype)
                    small = 0 < math.prod(shape) <= SMALL and takes_stacks(function)
                    std = std_of(function, fill.keywords, shape, dtype in COMPLEX)
                    known = checked[key] = std, len(checked) + 1 if small else 0
                std, alike = known
                if sharded or fill.rows:
                    alike = 0
            elif isinstance(value := fill.keywords["value"], Tensor):
                std = float(value.double().std(correction=0)) if value.numel() else 0.0
            elif (constant := (repr(value), dtype)) not in checked:
                torch.empty(2, dtype=dtype).fill_(value)  # one element takes more numbers
                checked[constant] = std, 0
        except Exception as error:
            error.add_note(f"initialize: {entry.name} {shape} would be filled by {fill.name}")
            raise
        tasks.append(_Task(entry, fill, shape, std, alike))
    return tasks


def _try(fill: Fill, shape: Shape, dtype: torch.dtype) -> None:
    """Raise the errors that filling a tensor would raise."""
    if fill.function is None or not _is_drawn(dtype, fill.function):
        dtype = torch.float32
    if fill.function is not None and 0 not in shape:
        out = torch.empty((0,) * len(shape), dtype=dtype)
        window = tuple(slice(0, 0) for _ in shape)
        fill.function(
            shape, **fill.keywords, out=out, seed=0, stream=0, window=window, threads=None
        )


def _batches(tasks: list[_Task]) -> Iterator[list[_Task]]:
    """Yield the tasks, small ones of the same kind together."""
    together: dict[int, list[_Task]] = {}
    for task in tasks:
        if task.alike:
            together.setdefault(task.alike, []).append(task)
        else:
            yield [task]
    for batch in together.values():
        most = max(BATCH // max(math.prod(batch[0].shape), 1), 1)
        for start in range(0, len(batch), most):
            yield batch[start : start + most]


def _fill_batch(batch: list[_Task], key: int, threads: int | None) -> None:
    """Fill one tensor, or several of the same kind as a stack that is copied from."""
    entry, fill, shape, *_ = batch[0]
    if len(batch) == 1 or fill.function is None:
        for task in batch:
            stream = stream_of(task.entry.name)
            _fill_tensor(task.entry.tensor, fill, key, stream, threads)
        return
    pairs = np.empty((len(batch), 2), np.uint64)
    pairs[:, 0] = key
    pairs[:, 1] = [stream_of(task.entry.name) for task in batch]
    pinned = entry.tensor.device.type in PINNED
    stack = torch.empty((len(batch), *shape), dtype=entry.tensor.dtype, pin_memory=pinned)
    fill.function(shape, **fill.keywords, out=stack, seed=Sources(pairs), threads=threads)
    # Not a documented function, but the one of PyTorch's optimisers; copy_() for each tensor takes
    # longer than the values of a small one.
    torch._foreach_copy_([task.entry.tensor for task in batch], stack.unbind(), pinned)


def _materialise(
    module: nn.Module, entries: list[_Entry], device: torch.device | str | None
) -> None:
    """Give meta tensors memory, and keep those shared that were."""
    if not any(entry.tensor.is_meta for entry in entries):
        return
    made: dict[int, Tensor] = {}

    def real(tensor: Any) -> Tensor:
        if not tensor.is_meta:
            return tensor  # type: ignore[no-any-return]
        if id(tensor) not in made:
            place = device
            if place is None:
                place = tensor.device_mesh.device_type if _is_dtensor(tensor) else "cpu"
            made[id(tensor)] = torch.empty_like(tensor, device=place)
        return made[id(tensor)]

    # Not to_empty(), which would also replace tensors that are not on the meta device. Modules such
    # as those of FSDP and recurrent ones override _apply() to keep their own references.
    module._apply(real)  # type: ignore[no-untyped-call]
    for entry in entries:
        if entry.tensor.is_meta:
            owner, key = entry.places[0]
            entry.tensor = getattr(owner, key)
            for other, name in entry.places[1:]:
                if getattr(other, name) is not entry.tensor:
                    setattr(other, name, entry.tensor)


# --- tensors that are filled elsewhere ------------------------------------------------------------


class Planned(NamedTuple):
    """A tensor of a module's state, and what fills it.

    ``names`` holds all of its names in the state.
    """

    names: list[str]
    tensor: Tensor
    stream: int
    fill: Fill
    std: float | None

    def write(
        self, memory: NDArray[np.uint8], window: Window, key: int, threads: int | None = 1
    ) -> None:
        """Fill memory, contiguous, with the values that :func:`initialize` gives to a window."""
        lengths = [part.stop - part.start for part in window]
        piece = torch.from_numpy(memory).view(self.tensor.dtype).view(lengths)
        shape = tuple(self.tensor.shape)
        _fill_piece(piece, self.fill, shape, window, key, self.stream, threads)


def plan(
    module: nn.Module,
    rules: Rules | None = None,
    *,
    prefix: str = "",
    reset: Callable[[nn.Module], object] | None = None,
) -> list[Planned]:
    """Return what :func:`initialize` would fill each tensor of ``module.state_dict()`` with.

    Nothing is filled, so the module may be on the meta device. Buffers keep their values unless a
    function of their module fills them.

    Parameters
    ----------
    module, rules, prefix
        As for :func:`initialize`.
    reset : callable, optional
        What initialises a module, instead of its own ``reset_parameters``.

    Returns
    -------
    list of Planned
        In the order of the state.

    Raises
    ------
    TypeError, ValueError
        As for :func:`initialize`, and if the state holds anything but parameters and buffers.

    Examples
    --------
    >>> [(each.names, each.fill.name) for each in plan(nn.Linear(3, 2))]
    [(['weight'], 'kaiming_uniform_'), (['bias'], 'uniform_')]
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a Module; got {type(module).__name__}")
    entries = _entries_of(module, prefix)
    places = {id(entry.tensor): i for i, entry in enumerate(entries)}
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in places:
            raise ValueError(
                f"module: expected parameters and buffers alone in its state; got {name} of "
                f"{type(tensor).__name__}"
            )
        names.setdefault(id(tensor), []).append(_WRAPPERS.sub("", prefix + name))
    fills = _fills_of(module, entries, rules, prefix, reset, places.keys() - names.keys())
    tasks = {id(task.entry.tensor): task for task in _check_fills(entries, fills)}
    found = []
    for key, own in names.items():
        entry = entries[places[key]]
        fill, std = Fill("kept", None, {"value": entry.tensor.detach()}), None
        if key in tasks:
            fill, std = tasks[key].fill, tasks[key].std
        found.append(Planned(own, entry.tensor, stream_of(entry.name), fill, std))
    return found
