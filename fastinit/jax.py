"""JAX: the initialisers of ``jax.nn.initializers``, with the same bits under any sharding.

The functions have the names and signatures of ``jax.nn.initializers``, and return an initialiser
``init(key, shape, dtype, out_sharding)``. Its values depend only on the key, the shape, the dtype
and the arguments of the initialiser: not on the sharding, the number of devices or processes, and
not on whether it is called inside ``jit`` or ``vmap``.

The two words of a key of JAX's default generator, the first as the upper half, are the seed of the
functions of :mod:`fastinit`, with stream 0: ``jax.random.key(5)`` is ``seed=5``. The data of other
keys, such as the four words of ``rbg``, are hashed to a seed with BLAKE2b.

Outside ``jit`` each device's shard is filled in place, without the whole array. Inside ``jit`` a
host callback fills the array, or with ``out_sharding`` one callback for each device's shard.
``zeros``, ``ones`` and ``constant`` are those of JAX.
"""

import inspect
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer, constant, ones, zeros
from jax.sharding import NamedSharding, PartitionSpec, Sharding
from numpy.typing import NDArray

from fastinit import initializers
from fastinit.initializers.fills import aligned, shards_of
from fastinit.initializers.scaling import MODES, TRUNCATED_STD, Distribution, Mode
from fastinit.initializers.target import (
    PARTS,
    REAL,
    REAL_AND_COMPLEX,
    Axes,
    Sources,
    check_shape,
)
from fastinit.validation import (
    as_dtype,
    as_float,
    check_integer,
    check_name,
    frames_inside,
    is_sequence,
)

__all__ = [
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Array = NDArray[Any]
Shape = tuple[int, ...]
Window = tuple[slice, ...]
# What fills an array, with the common keywords of the initialisers, and its other keywords.
Plan = tuple[Callable[..., Any], dict[str, Any]]

# Elements whose moduli are computed at a time.
CHUNK = 1 << 16
# The standard deviation of a complex normal number of variance 1, truncated to moduli below 2.
TRUNCATED_COMPLEX_STD = math.sqrt(1 - 4 / math.expm1(4))


@dataclass(frozen=True)
class _Fill:
    """What fills an array of one shape and dtype, after the arguments of the initialiser.

    ``function`` takes the common keywords of the initialisers. If ``whole``, it computes the whole
    array for any window of it. Equal ones are the same callback for JAX, which is compiled once.
    """

    function: Callable[..., Any]
    keywords: tuple[tuple[str, Any], ...]
    shape: Shape
    dtype: np.dtype[Any]
    whole: bool

    def into(self, out: Array, seed: int | Sources, window: Window) -> None:
        # There is nothing to fill, and the initialisers would warn.
        if out.size:
            self.function(self.shape, **dict(self.keywords), out=out, seed=seed, window=window)

    def check(self) -> None:
        """Raise the errors that filling would raise."""
        if 0 not in self.shape:
            nothing = tuple(slice(0, 0) for _ in self.shape)
            out = np.empty([0] * len(self.shape), self.dtype)
            self.function(self.shape, **dict(self.keywords), out=out, seed=0, window=nothing)

    def filled(self, seed: int, window: Window) -> Array:
        """Return the window of the array, in memory that XLA takes over."""
        out = aligned([part.stop - part.start for part in window], self.dtype)
        self.into(out, seed, window)
        return out


@dataclass(frozen=True)
class _Callback:
    """What a compiled function calls to fill shards of one shape.

    It is called with the data of keys, of shape (*batch, words), and the place of the shard among
    those along each axis, of shape (*batch or 1, rank).
    """

    fill: _Fill
    part: Shape

    def __call__(self, data: Any, places: Any) -> Array:
        keys = np.asarray(data)
        place = np.asarray(places).ravel()[-len(self.part) :]
        window = tuple(
            slice(int(i) * n, int(i) * n + n) for i, n in zip(place, self.part, strict=False)
        )
        batch = keys.shape[:-1]
        if not batch:
            return self.fill.filled(_seed_of(keys), window)
        seeds = [_seed_of(key) for key in keys.reshape(-1, keys.shape[-1])]
        pairs = np.array([(seed, 0) for seed in seeds], np.uint64).reshape(-1, 2)
        out = aligned((len(seeds), *self.part), self.fill.dtype)
        self.fill.into(out, Sources(pairs), window)
        filled: Array = out.reshape(batch + self.part)
        return filled


@dataclass(frozen=True)
class _Initializer:
    """An initialiser: called with a key, a shape, a dtype and a sharding.

    ``plan`` returns the function that fills an array of some shape and dtype, and its keywords.
    Initialisers with the same arguments are equal, so that modules which have them as attributes
    are.
    """

    plan: Callable[..., Plan]
    arguments: tuple[Any, ...]
    dtype: np.dtype[Any] | None
    dtypes: tuple[str, ...] = REAL_AND_COMPLEX
    whole: bool = False

    def __repr__(self) -> str:
        names = list(inspect.signature(self.plan).parameters)[2:]  # after the shape and the dtype
        parts = [f"{name}={value!r}" for name, value in zip(names, self.arguments, strict=True)]
        if self.dtype is not None:
            parts.append(f"dtype={self.dtype}")
        return f"{self.plan.__name__.removeprefix('_')}({', '.join(parts)})"

    def __call__(
        self,
        key: Any,
        shape: Sequence[int],
        dtype: Any = None,
        out_sharding: Sharding | PartitionSpec | None = None,
    ) -> jax.Array:
        """Return an array filled with the initialiser's values.

        Parameters
        ----------
        key : key
            A typed key, or the uint32 data of one.
        shape : sequence of int
        dtype : optional
            float32, float64, float16, bfloat16, and for most initialisers complex64 or complex128.
            The default is that of the factory, else JAX's default floating-point dtype.
        out_sharding : NamedSharding, PartitionSpec or Sharding, optional
            A PartitionSpec refers to the mesh of ``jax.set_mesh``.

        Returns
        -------
        jax.Array

        Raises
        ------
        TypeError
            If the key, shape, dtype or sharding has another type.
        ValueError
            If there are several keys, or if the shape does not fit the initialiser or the sharding.
        """
        data = _data_of(key)
        lengths = check_shape(shape)
        own = _enabled(self.dtype if dtype is None else _as_dtype(dtype, self.dtypes))
        function, keywords = self.plan(lengths, own, *self.arguments)
        fill = _Fill(function, tuple(keywords.items()), lengths, own, self.whole)
        traced = isinstance(data, jax.core.Tracer) or _is_inside()
        sharding = _sharding_of(out_sharding, lengths, traced)
        if traced:
            fill.check()
            return _by_callback(fill, data, sharding)
        seed = _seed_of(np.asarray(data))
        if sharding is None:
            whole = tuple(slice(0, n) for n in lengths)
            found: jax.Array = jax.device_put(fill.filled(seed, whole))
            return found
        shard = shards_of(lengths, partial(fill.filled, seed), fill.whole)
        return jax.make_array_from_callback(lengths, sharding, shard)


# --- the functions of jax.nn.initializers ---------------------------------------------------------


def uniform(scale: float = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initialiser that draws from the uniform distribution on [0, scale).

    Parameters
    ----------
    scale : float, default 1e-2
        Upper bound, at least 0.
    dtype : optional
        Default dtype of the initialiser: float32, float64, float16 or bfloat16.

    Returns
    -------
    callable
        ``init(key, shape, dtype, out_sharding)``.

    Examples
    --------
    >>> w = uniform(10.0)(jax.random.key(0), (3, 5))
    >>> bool((w >= 0).all() and (w < 10).all())
    True
    """
    return _initializer(_uniform, _number("scale", scale, 0.0), dtype=dtype, dtypes=REAL)


def normal(stddev: float = 1e-2, dtype: Any = None) -> Initializer:
    """Return an initialiser that draws from the normal distribution with mean 0.

    Parameters
    ----------
    stddev : float, default 1e-2
        At least 0. Each part of a complex number has half of the variance.
    dtype : optional
        Default dtype of the initialiser: one of those for real numbers, complex64 or complex128.

    Returns
    -------
    callable
        ``init(key, shape, dtype, out_sharding)``.

    Examples
    --------
    The values are those of :func:`fastinit.normal` with the same seed:

    >>> import fastinit as fi
    >>> w = normal(0.02)(jax.random.key(5), (100, 100))
    >>> bool((w == fi.normal((100, 100), std=0.02, seed=5, dtype="float32")).all())
    True
    """
    return _initializer(_normal, _number("stddev", stddev, 0.0), dtype=dtype)


def truncated_normal(
    stddev: float = 1e-2, dtype: Any = None, lower: float = -2.0, upper: float = 2.0
) -> Initializer:
    """Return an initialiser that draws from the normal distribution, truncated on both sides.

    Parameters
    ----------
    stddev : float, default 1e-2
        Standard deviation before the truncation, at least 0.
    dtype : optional
        Default dtype of the initialiser: float32, float64, float16 or bfloat16.
    lower, upper : float, default -2.0 and 2.0
        Bounds in standard deviations.

    Returns
    -------
    callable
        ``init(key, shape, dtype, out_sharding)``.

    Examples
    --------
    >>> w = truncated_normal(1.0)(jax.random.key(0), (100, 100))
    >>> bool((abs(w) <= 2).all())
    True
    """
    numbers = _number("stddev", stddev, 0.0), _number("lower", lower), _number("upper", upper)
    if not numbers[1] < numbers[2]:
        raise ValueError(f"lower, upper: expected lower < upper; got {lower} and {upper}")
    return _initializer(_truncated_normal, *numbers, dtype=dtype, dtypes=REAL)


def variance_scaling(
    scale: float,
    mode: Mode,
    distribution: Distribution,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """Return an initialiser of mean 0 and variance ``scale / fan``.

    Parameters
    ----------
    scale : float
        At least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        The fan: that of the inputs, that of the outputs, or their arithmetic or geometric mean.
    distribution : {"truncated_normal", "normal", "uniform"}
        The truncated normal distribution is cut at two standard deviations and widened to the
        given variance. Complex numbers are truncated by modulus, and uniform ones fill a disk.
    in_axis, out_axis : int or sequence of int, default -2 and -1
        The axes of inputs and outputs. Axes that are not named are the receptive field. As in JAX
        an axis may be named twice; embeddings of Flax do so.
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels are stacked; they do not count towards the fans.
    dtype : optional
        Default dtype of the initialiser: one of those for real numbers, complex64 or complex128.

    Returns
    -------
    callable
        ``init(key, shape, dtype, out_sharding)``.

    Notes
    -----
    A complex number is drawn from the truncated normal distribution as z of the normal one, with
    modulus r shortened to the root of ``r**2 mod 4``: the square of the modulus is exponential, and
    thus stays so modulo a constant, up to the truncation.

    Examples
    --------
    >>> init = variance_scaling(1.0, "fan_in", "uniform", in_axis=(0, 1))
    >>> w = init(jax.random.key(0), (4, 3, 5))
    >>> bool((abs(w) <= 0.5).all())  # sqrt(3 / 12)
    True
    """
    return _initializer(
        _variance_scaling,
        _number("scale", scale, 0.0),
        check_name("mode", mode, MODES),
        check_name("distribution", distribution, _DISTRIBUTIONS),
        _as_axes("in_axis", in_axis),
        _as_axes("out_axis", out_axis),
        _as_axes("batch_axis", batch_axis),
        dtype=dtype,
    )


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initialiser with uniform draws of variance ``2 / (fan_in + fan_out)``.

    Parameters and return value are those of :func:`variance_scaling`.

    Examples
    --------
    >>> glorot_uniform()(jax.random.key(0), (3, 4)).shape
    (3, 4)
    """
    return variance_scaling(1.0, "fan_avg", "uniform", in_axis, out_axis, batch_axis, dtype)


xavier_uniform = glorot_uniform


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initialiser with truncated normal draws of variance ``2 / (fan_in + fan_out)``.

    Parameters and return value are those of :func:`variance_scaling`.

    Examples
    --------
    >>> glorot_normal()(jax.random.key(0), (3, 4)).shape
    (3, 4)
    """
    return variance_scaling(
        1.0, "fan_avg", "truncated_normal", in_axis, out_axis, batch_axis, dtype
    )


xavier_normal = glorot_normal


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initialiser with uniform draws of variance ``1 / fan_in``.

    Parameters and return value are those of :func:`variance_scaling`.

    Examples
    --------
    >>> lecun_uniform()(jax.random.key(0), (3, 4)).shape
    (3, 4)
    """
    return variance_scaling(1.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initialiser with truncated normal draws of variance ``1 / fan_in``.

    Parameters and return value are those of :func:`variance_scaling`.

    Examples
    --------
    >>> lecun_normal()(jax.random.key(0), (3, 4)).shape
    (3, 4)
    """
    return variance_scaling(1.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


def he_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initialiser with uniform draws of variance ``2 / fan_in``.

    Parameters and return value are those of :func:`variance_scaling`.

    Examples
    --------
    >>> he_uniform()(jax.random.key(0), (3, 4)).shape
    (3, 4)
    """
    return variance_scaling(2.0, "fan_in", "uniform", in_axis, out_axis, batch_axis, dtype)


kaiming_uniform = he_uniform


def he_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Return an initialiser with truncated normal draws of variance ``2 / fan_in``.

    Parameters and return value are those of :func:`variance_scaling`.

    Examples
    --------
    >>> he_normal()(jax.random.key(0), (3, 4)).shape
    (3, 4)
    """
    return variance_scaling(2.0, "fan_in", "truncated_normal", in_axis, out_axis, batch_axis, dtype)


kaiming_normal = he_normal


def orthogonal(scale: float = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initialiser that draws orthogonal matrices, times ``scale``.

    Parameters
    ----------
    scale : float, default 1.0
    column_axis : int, default -1
        The axis that forms the columns of the matrix; all others together form the rows. The rows
        or the columns are orthonormal, whichever are fewer.
    dtype : optional
        Default dtype of the initialiser: one of those for real numbers, or complex64 or complex128
        for unitary matrices.

    Returns
    -------
    callable
        ``init(key, shape, dtype, out_sharding)``. A sharded array is cut from the whole matrix.

    Notes
    -----
    The last bits of the values depend on the BLAS.

    Examples
    --------
    >>> w = orthogonal()(jax.random.key(0), (5, 3))
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(3), atol=1e-6))
    True
    """
    column_axis = check_integer("column_axis", column_axis, -(2**63))
    return _initializer(_orthogonal, _number("scale", scale), column_axis, dtype=dtype, whole=True)


def delta_orthogonal(scale: float = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """Return an initialiser of convolution kernels: an orthogonal matrix at the centre, else zeros.

    Parameters
    ----------
    scale : float, default 1.0
    column_axis : int, default -1
        The axis of the matrix, of shape (n_in, n_out), that forms its columns.
    dtype : optional
        As for :func:`orthogonal`.

    Returns
    -------
    callable
        ``init(key, shape, dtype, out_sharding)``, for shapes of 3 to 5 axes (*field, n_in, n_out)
        with at most as many inputs as outputs.

    References
    ----------
    Xiao et al. (2018), arXiv:1806.05393.

    Examples
    --------
    >>> w = delta_orthogonal()(jax.random.key(0), (3, 2, 4))
    >>> bool(jnp.allclose(w[1] @ w[1].T, jnp.eye(2), atol=1e-6) and not w[0].any())
    True
    """
    column_axis = check_integer("column_axis", column_axis, -2, 2)
    return _initializer(
        _delta_orthogonal, _number("scale", scale), column_axis, dtype=dtype, whole=True
    )


def _initializer(
    plan: Callable[..., Plan],
    *arguments: Any,
    dtype: Any,
    dtypes: tuple[str, ...] = REAL_AND_COMPLEX,
    whole: bool = False,
) -> _Initializer:
    return _Initializer(plan, arguments, _as_dtype(dtype, dtypes), dtypes, whole)


# --- what fills an array of some shape and dtype --------------------------------------------------


def _uniform(shape: Shape, dtype: np.dtype[Any], scale: float) -> Plan:
    return (initializers.uniform, {"low": 0.0, "high": scale}) if scale else (_zero, {})


def _normal(shape: Shape, dtype: np.dtype[Any], stddev: float) -> Plan:
    return initializers.normal, {"std": stddev}


def _truncated_normal(
    shape: Shape, dtype: np.dtype[Any], stddev: float, lower: float, upper: float
) -> Plan:
    return initializers.truncated_normal, {"std": stddev, "lower": lower, "upper": upper}


def _variance_scaling(
    shape: Shape,
    dtype: np.dtype[Any],
    scale: float,
    mode: str,
    distribution: str,
    in_axis: int | tuple[int, ...],
    out_axis: int | tuple[int, ...],
    batch_axis: int | tuple[int, ...],
) -> Plan:
    fan = MODES[mode](*_fans(shape, in_axis, out_axis, batch_axis))
    std = math.sqrt(scale / fan) if fan else 0.0
    return _DISTRIBUTIONS[distribution](std, dtype.name in PARTS) if std else (_zero, {})


_DISTRIBUTIONS: dict[str, Callable[[float, bool], Plan]] = {
    "truncated_normal": lambda std, is_complex: (
        (_truncated_complex, {"std": std / TRUNCATED_COMPLEX_STD})
        if is_complex
        else (initializers.truncated_normal, {"std": std / TRUNCATED_STD})
    ),
    "normal": lambda std, is_complex: (initializers.normal, {"std": std}),
    "uniform": lambda std, is_complex: (
        (_disk, {"std": std})
        if is_complex
        else (initializers.uniform, {"low": -math.sqrt(3) * std, "high": math.sqrt(3) * std})
    ),
}


def _fans(shape: Shape, *axes: int | tuple[int, ...]) -> tuple[float, float]:
    """Return the fans as JAX computes them, also for axes that are named twice."""
    rank = len(shape)
    if rank < 2 and axes[0] == -2:
        raise ValueError(
            "shape: expected at least 2 axes, for inputs and outputs, or the axis of the inputs as "
            f"in_axis; got {shape}"
        )
    lengths = []
    for name, own in zip(("in_axis", "out_axis", "batch_axis"), axes, strict=True):
        each = own if isinstance(own, tuple) else (own,)
        lengths.append(math.prod([shape[check_integer(name, i, -rank, rank)] for i in each]))
    if 0 in shape:
        return 0.0, 0.0
    n_in, n_out, n_batch = lengths
    field = math.prod(shape) / n_in / n_out / n_batch
    return n_in * field, n_out * field


def _orthogonal(shape: Shape, dtype: np.dtype[Any], scale: float, column_axis: int) -> Plan:
    rank = len(shape)
    if rank < 2:
        raise ValueError(f"shape: expected at least 2 axes; got {shape}")
    axis = check_integer("column_axis", column_axis, -rank, rank) % rank
    return _matrix, {"scale": scale, "column_axis": axis}


def _delta_orthogonal(shape: Shape, dtype: np.dtype[Any], scale: float, column_axis: int) -> Plan:
    if not 3 <= len(shape) <= 5:
        raise ValueError(
            f"shape: expected 3 to 5 axes, for receptive field and channels; got {shape}"
        )
    if shape[-2] > shape[-1]:
        raise ValueError(f"shape: expected at most as many inputs as outputs; got {shape}")
    return _delta, {"scale": scale, "column_axis": column_axis % 2}


# --- functions with the common keywords of the initialisers ---------------------------------------


def _zero(shape: Shape, *, out: Array, seed: int | Sources, window: Window) -> None:
    out[...] = 0


def _truncated_complex(
    shape: Shape, std: float, *, out: Array, seed: int | Sources, window: Window
) -> None:
    """Fill with complex normal numbers of moduli below 2 standard deviations."""
    initializers.normal(shape, out=out, seed=seed, window=window)
    for (z,) in _chunks(out):
        squares = np.square(z).sum(-1)
        # The square of a modulus is 0 once in 2**24 numbers.
        factors = np.sqrt(np.fmod(squares, 4) / np.where(squares, squares, 1))
        z *= (factors * z.dtype.type(std))[:, None]


def _disk(shape: Shape, std: float, *, out: Array, seed: int | Sources, window: Window) -> None:
    """Fill with complex numbers that are uniform on a disk.

    Directions are those of normal numbers; a cosine would have other last bits on other platforms.
    """
    initializers.normal(shape, out=out, seed=seed, window=window)
    radii = np.empty(out.shape, out.real.dtype)
    initializers.uniform(shape, 0.0, 2.0, out=radii, seed=seed, stream=1, window=window)
    for z, own in _chunks(out, radii):
        squares = np.square(z).sum(-1)
        z *= (np.sqrt(own[:, 0] / np.where(squares, squares, 1)) * z.dtype.type(std))[:, None]


def _chunks(out: Array, *others: Array) -> Iterator[tuple[Array, ...]]:
    """Yield views of parts of arrays, of shape (k, parts of a number)."""
    flat = [out.reshape(-1, 1).view(out.real.dtype), *(each.reshape(-1, 1) for each in others)]
    for start in range(0, len(flat[0]), CHUNK):
        yield tuple(each[start : start + CHUNK] for each in flat)


def _matrix(
    shape: Shape,
    scale: float,
    column_axis: int,
    *,
    out: Array,
    seed: int | Sources,
    window: Window,
) -> None:
    """Fill with orthogonal or unitary matrices; ``column_axis`` forms their columns."""
    if out.dtype.name not in PARTS:
        initializers.orthogonal(
            shape,
            scale,
            in_axis=1 if column_axis == 0 else 0,
            out_axis=column_axis,
            out=out,
            seed=seed,
            window=window,
        )
        return
    n = shape[column_axis]
    others = [length for axis, length in enumerate(shape) if axis != column_axis]
    m = math.prod(others)
    stack, pairs = (out, seed.pairs.tolist()) if isinstance(seed, Sources) else ([out], [(seed, 0)])
    for own, (key, stream) in zip(stack, pairs, strict=True):
        if not own.size:
            continue
        Z = initializers.normal((max(m, n), min(m, n)), dtype=out.dtype, seed=key, stream=stream)
        Q, R = np.linalg.qr(Z)
        # Mezzadri (2007): the distribution is uniform if the diagonal of R is positive.
        Q *= R.diagonal() / np.abs(R.diagonal())
        Q = (Q if m >= n else Q.T).reshape(*others, n)
        own[...] = scale * np.moveaxis(Q, -1, column_axis)[window]


def _delta(
    shape: Shape,
    scale: float,
    column_axis: int,
    *,
    out: Array,
    seed: int | Sources,
    window: Window,
) -> None:
    """Fill with an orthogonal matrix at the centre and zeros elsewhere."""
    out[...] = 0
    field = tuple((n - 1) // 2 for n in shape[:-2])
    inside = zip(field, window, strict=False)
    if all(part.start <= place < part.stop for place, part in inside):
        place = tuple(i - part.start for i, part in zip(field, window, strict=False))
        # A stack has an axis before those of the kernel.
        tap = out[(..., *place, slice(None), slice(None))]
        matrix = np.empty(tap.shape, out.dtype)
        _matrix(shape[-2:], scale, column_axis, out=matrix, seed=seed, window=window[-2:])
        tap[...] = matrix


# --- filling --------------------------------------------------------------------------------------


def _by_callback(fill: _Fill, data: Any, sharding: NamedSharding | None) -> jax.Array:
    """Return an array that the host fills when the traced function runs."""
    if sharding is None:
        place = np.zeros(len(fill.shape), np.int32)
        return _call(_Callback(fill, fill.shape), data, place)
    mesh = sharding.mesh
    names = [
        () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        for entry in itertools.chain(sharding.spec, [None] * len(fill.shape))
    ]
    callback = _Callback(fill, sharding.shard_shape(fill.shape))

    def local(data: Any) -> Any:
        # The first of several mesh axes along an array axis varies slowest.
        places = [
            jax.lax.axis_index(names[axis]) if names[axis] else jnp.int32(0)
            for axis in range(len(fill.shape))
        ]
        return _call(callback, data, jnp.array(places, jnp.int32))

    array: jax.Array = jax.shard_map(
        local, mesh=mesh, in_specs=PartitionSpec(), out_specs=sharding.spec, check_vma=False
    )(data)
    return array


def _call(callback: _Callback, data: Any, places: Any) -> Any:
    result = jax.ShapeDtypeStruct(callback.part, callback.fill.dtype)
    return jax.pure_callback(callback, result, data, places, vmap_method="expand_dims")


# --- arguments ------------------------------------------------------------------------------------


def _data_of(key: Any) -> Any:
    """Return the data of a single key, a tracer in functions that are compiled."""
    try:
        data = jax.random.key_data(key)
    except TypeError as error:
        raise TypeError(f"key: expected a key of jax.random; {error}") from None
    if data.ndim != 1:
        raise ValueError(
            f"key: expected a single key; got several, of shape {data.shape[:-1]}. "
            "Call the initialiser under jax.vmap for each of them"
        )
    return data


def _seed_of(data: Array) -> int:
    """Return the seed of a key, by a map that does not depend on the process or machine.

    Examples
    --------
    >>> _seed_of(np.array([1, 2], np.uint32)) == 2**32 + 2
    True
    """
    words = np.ascontiguousarray(data, "<u4")
    if len(words) == 2:
        return int(words[0]) << 32 | int(words[1])
    return int.from_bytes(blake2b(words.tobytes(), digest_size=8).digest(), "little")


def _as_dtype(dtype: Any, names: tuple[str, ...]) -> np.dtype[Any] | None:
    """Return a dtype if it is one of those that can be filled; None is the default of JAX."""
    if dtype is None:
        return None
    expected = f"dtype: expected {', '.join(names[:-1])} or {names[-1]}"
    found = as_dtype(dtype, expected)
    if found.name not in names or not found.isnative:
        raise TypeError(f"{expected}; got {found}")
    return found


def _enabled(given: np.dtype[Any] | None) -> np.dtype[Any]:
    """Return a dtype, in 32 bits instead of 64 unless JAX has them enabled."""
    if given is None:
        return np.dtype(jnp.result_type(float))
    found = np.dtype(jax.dtypes.canonicalize_dtype(given))
    if found != given:
        warnings.warn(
            f"dtype: {given} requires the setting jax_enable_x64; {found} is used instead",
            stacklevel=frames_inside(),
        )
    return found


def _is_inside() -> bool:
    """Return whether JAX is tracing a function, which the key need not depend on."""
    try:
        jax.sharding.get_mesh()
    except ValueError:  # the mesh of the devices is known outside alone
        return True
    return False


def _sharding_of(sharding: Any, shape: Shape, traced: bool) -> Any:
    """Return a sharding that suits a shape, or None."""
    mesh: Any = jax.sharding.get_abstract_mesh() if traced else jax.sharding.get_mesh()
    if sharding is None:
        # As JAX does with a mesh, all devices have the whole array. Within shard_map, each device
        # calls the initialiser by itself.
        if mesh.empty or jax.sharding.AxisType.Manual in mesh.axis_types:
            return None
        sharding = PartitionSpec()
    if isinstance(sharding, PartitionSpec):
        if mesh.empty:
            raise ValueError(
                "out_sharding: expected a NamedSharding, or a PartitionSpec and a mesh of "
                f"jax.set_mesh; got {sharding} without a mesh"
            )
        sharding = NamedSharding(mesh, sharding)
    if not isinstance(sharding, NamedSharding if traced else Sharding):
        kinds = "NamedSharding" if traced else "Sharding"
        raise TypeError(
            f"out_sharding: expected a PartitionSpec, a {kinds} or None; "
            f"got {type(sharding).__name__}"
        )
    if isinstance(sharding, NamedSharding):
        if sharding.spec.unreduced:
            raise ValueError(f"out_sharding: expected no unreduced axes; got {sharding.spec}")
        if len(sharding.spec) > len(shape):
            raise ValueError(
                f"out_sharding: expected at most {len(shape)} axes, as shape {shape} has; "
                f"got {sharding.spec}"
            )
    sharding.shard_shape(shape)  # JAX's own errors
    return sharding


def _number(name: str, value: Any, least: float = -math.inf) -> float:
    """Return a number, also that of an array with one element."""
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name}: expected a number that is known before compilation; got a tracer")
    if isinstance(value, (jax.Array, np.ndarray)) and value.ndim == 0:
        value = np.asarray(value, np.float64)[()]
    number = as_float(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: expected a finite number; got {number}")
    if number < least:
        raise ValueError(f"{name}: expected >= {least:g}; got {number}")
    return number


def _as_axes(name: str, axes: Axes) -> int | tuple[int, ...]:
    if is_sequence(axes):
        return tuple([check_integer(name, axis, -(2**63)) for axis in axes])  # type: ignore
    return check_integer(name, axes, -(2**63))  # type: ignore[arg-type]
