"""Weights by scheme: one ``variance_scaling`` behind the named ones.

The named schemes draw from NumPy's Philox generator, keyed by ``seed`` and ``stream``. ``random``
and ``he`` are the lesson's own draws instead, from NumPy's legacy generator.
"""

import math
import statistics
from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

Seed = int | np.random.SeedSequence | np.random.Generator | np.random.RandomState | None
Shape = int | tuple[int, ...]
Window = tuple[slice, ...] | slice | None
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
Distribution = Literal["normal", "truncated_normal", "uniform"]


class Initializer(Protocol):
    """What every scheme looks like to a network: fill ``out`` in place."""

    def __call__(
        self, shape: Shape | None = None, /, *, seed: Seed = None, stream: int = 0, out: Any = None
    ) -> NDArray[Any]:
        """Return ``out``, filled; or a new array of that shape."""
        ...


def _target(
    shape: Shape | None, dtype: DTypeLike | None, out: NDArray[Any] | None, window: Window
) -> tuple[tuple[int, ...], NDArray[Any]]:
    """Return the whole shape and the array to fill, checked before anything is drawn."""
    if shape is None and out is None:
        raise TypeError("shape: expected a shape, or an array as out=; got neither")
    if out is not None:
        if not isinstance(out, np.ndarray):
            raise TypeError(f"out: expected a NumPy array; got {type(out).__name__}")
        if out.dtype not in (np.float32, np.float64):
            raise TypeError(f"out: expected dtype float32 or float64; got {out.dtype}")
        if dtype is not None and np.dtype(dtype) != out.dtype:
            raise TypeError(f"dtype: expected that of out, {out.dtype}; got {np.dtype(dtype)}")
        if not out.flags.writeable:
            raise ValueError("out: expected a writable array; got a read-only one")
    kind = np.dtype(np.float64 if dtype is None else dtype)
    if out is None and kind not in (np.float32, np.float64):
        raise TypeError(f"dtype: expected float32 or float64; got {kind}")
    if shape is None:
        assert out is not None
        whole = out.shape
        if window is not None:
            raise TypeError("window: expected shape= beside it, the shape of the whole; got none")
    else:
        whole = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        for length in whole:
            if not isinstance(length, (int, np.integer)):
                raise TypeError(f"shape: expected integers; got {shape!r}")
            if length < 0:
                raise ValueError(f"shape: expected lengths >= 0; got {shape!r}")
    part = np.broadcast_to(np.empty((), kind), whole)[window if window is not None else ()].shape
    if out is None:
        return whole, np.empty(part, kind)
    if out.shape != part:
        raise ValueError(f"out: expected shape {part}; got {out.shape}")
    return whole, out


def _generator(seed: Seed, stream: int) -> np.random.Generator:
    """Return the generator of one tensor: ``stream`` tells tensors of one seed apart."""
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**63))
    if isinstance(seed, np.random.SeedSequence):
        entropy = seed
    elif seed is None:
        entropy = np.random.SeedSequence()
    elif isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected 0 <= seed < 2**64; got {seed}")
        entropy = np.random.SeedSequence(int(seed))
    else:
        raise TypeError(
            f"seed: expected int, SeedSequence, Generator or None; got {type(seed).__name__}"
        )
    key = entropy.generate_state(1, np.uint64)[0]
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, stream]))


def _number(name: str, value: float) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number; got {type(value).__name__}")
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number; got {value}")
    return float(value)


def _fill(
    draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]],
    shape: Shape | None,
    seed: Seed,
    stream: int,
    dtype: DTypeLike | None,
    out: NDArray[Any] | None,
    window: Window,
) -> NDArray[Any]:
    whole, out = _target(shape, dtype, out, window)
    out[...] = draw(_generator(seed, stream), whole)[window if window is not None else ()]
    return out


def constant(
    shape: Shape | None = None,
    value: float = 0.0,
    *,
    seed: Seed = None,
    stream: int = 0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    window: Window = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Fill with one value.

    Examples
    --------
    >>> constant((2, 2), 0.5)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    value = _number("value", value)
    _, out = _target(shape, dtype, out, window)
    out[...] = value
    return out


def zeros(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with zeros: the lesson's scheme that breaks no symmetry.

    Examples
    --------
    >>> zeros(3)
    array([0., 0., 0.])
    """
    return constant(shape, 0.0, **keywords)


def ones(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with ones.

    Examples
    --------
    >>> ones(3)
    array([1., 1., 1.])
    """
    return constant(shape, 1.0, **keywords)


def uniform(
    shape: Shape | None = None,
    low: float = 0.0,
    high: float = 1.0,
    *,
    seed: Seed = None,
    stream: int = 0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    window: Window = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Fill with draws from the uniform distribution on [low, high).

    Examples
    --------
    >>> W = uniform((100, 100), -1, 1, seed=0)
    >>> bool(W.min() >= -1), bool(W.max() < 1)
    (True, True)
    """
    low, high = _number("low", low), _number("high", high)
    if not low < high:
        raise ValueError(f"low, high: expected low < high; got {low} and {high}")
    return _fill(lambda g, n: g.uniform(low, high, n), shape, seed, stream, dtype, out, window)


def normal(
    shape: Shape | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    *,
    seed: Seed = None,
    stream: int = 0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    window: Window = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Fill with draws from the normal distribution.

    Examples
    --------
    >>> bool(abs(normal((100, 100), std=2, seed=0).std() - 2) < 0.05)
    True
    """
    mean, std = _number("mean", mean), _number("std", std)
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    return _fill(lambda g, n: g.normal(mean, std, n), shape, seed, stream, dtype, out, window)


def truncated_normal(
    shape: Shape | None = None,
    mean: float = 0.0,
    std: float = 1.0,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    seed: Seed = None,
    stream: int = 0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    window: Window = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Fill with draws from the normal distribution cut off at ``lower`` and ``upper``.

    Both bounds count standard deviations from the mean.

    Examples
    --------
    >>> bool(abs(truncated_normal((100, 100), seed=0)).max() <= 2)
    True
    """
    mean, std = _number("mean", mean), _number("std", std)
    lower, upper = _number("lower", lower), _number("upper", upper)
    if std < 0:
        raise ValueError(f"std: expected >= 0; got {std}")
    if not lower < upper:
        raise ValueError(f"lower, upper: expected lower < upper; got {lower} and {upper}")

    def draw(generator: np.random.Generator, whole: tuple[int, ...]) -> NDArray[np.float64]:
        standard = statistics.NormalDist()
        low, high = standard.cdf(lower), standard.cdf(upper)
        levels = generator.uniform(low, high, whole).ravel()
        inside = [standard.inv_cdf(min(max(p, 1e-300), 1 - 1e-16)) for p in levels]
        return np.asarray(mean + std * np.clip(np.reshape(inside, whole), lower, upper))

    return _fill(draw, shape, seed, stream, dtype, out, window)


def fans(shape: tuple[int, ...], in_axis: int = -1, out_axis: int = 0) -> tuple[float, float]:
    """Return (fan_in, fan_out); the axes that are neither are the receptive field.

    Examples
    --------
    >>> fans((5, 10))
    (10.0, 5.0)
    >>> fans((3, 3, 16, 32), in_axis=-2, out_axis=-1)
    (144.0, 288.0)
    """
    if len(shape) < 2:
        raise ValueError(f"shape: expected at least 2 axes, to have fans; got {shape}")
    field = math.prod(shape) / max(shape[in_axis] * shape[out_axis], 1)
    return shape[in_axis] * field, shape[out_axis] * field


def variance_scaling(
    shape: Shape | None = None,
    scale: float = 1.0,
    mode: Mode = "fan_in",
    distribution: Distribution = "normal",
    *,
    in_axis: int = -1,
    out_axis: int = 0,
    seed: Seed = None,
    stream: int = 0,
    dtype: DTypeLike | None = None,
    out: NDArray[Any] | None = None,
    window: Window = None,
    threads: int | None = None,
) -> NDArray[Any]:
    """Fill with draws of variance ``scale / fan``.

    Parameters
    ----------
    shape : int or tuple of int, optional
        The shape of the whole array; that of ``out`` if left out.
    scale : float, default 1.0
        The variance is ``scale / fan``; at least 0.
    mode : {"fan_in", "fan_out", "fan_avg", "fan_geo_avg"}
        Which fan: the inputs of a unit, its outputs, or their arithmetic or geometric mean.
    distribution : {"normal", "truncated_normal", "uniform"}
        The truncated normal is cut at two standard deviations and widened, so that the variance is
        as asked, as in Keras and JAX.
    in_axis, out_axis : int
        The axes of inputs and outputs; all others are the receptive field.
    seed : int, SeedSequence, Generator or None
        None draws fresh entropy.
    stream : int, default 0
        Tells the tensors of one seed apart.
    dtype : float32 or float64, default float64
    out : ndarray, optional
        Filled in place and returned.
    window : slice or tuple of slice, optional
        Return only this part of the whole array, with the values it has there.
    threads : int, optional

    Returns
    -------
    ndarray

    References
    ----------
    https://keras.io/api/layers/initializers/#variancescaling-class

    Examples
    --------
    >>> variance_scaling((4, 3), 2.0, "fan_in", "normal", seed=0).shape
    (4, 3)
    """
    if mode not in ("fan_in", "fan_out", "fan_avg", "fan_geo_avg"):
        raise ValueError(f"mode: expected fan_in, fan_out, fan_avg or fan_geo_avg; got {mode!r}")
    scale = _number("scale", scale)
    if scale < 0:
        raise ValueError(f"scale: expected >= 0; got {scale}")
    whole, out = _target(shape, dtype, out, window)
    fan_in, fan_out = fans(whole, in_axis, out_axis)
    fan = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    if out.size == 0:
        return out
    std = math.sqrt(scale / fan)
    common: dict[str, Any] = {"seed": seed, "stream": stream, "out": out, "window": window}
    if distribution == "normal":
        return normal(whole, 0.0, std, **common)
    if distribution == "truncated_normal":
        # The standard deviation of the standard normal cut at +-2, which the widening undoes.
        return truncated_normal(whole, 0.0, std / 0.87962566103423978, **common)
    if distribution == "uniform":
        limit = math.sqrt(3) * std
        return uniform(whole, -limit, limit, **common) if limit else constant(whole, **common)
    raise ValueError(
        f"distribution: expected normal, truncated_normal or uniform; got {distribution!r}"
    )


def he_normal(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with normal draws of variance ``2 / fan_in``, for ReLU (He et al. 2015).

    The plain normal, as in the paper (arXiv:1502.01852), in PyTorch's ``kaiming_normal_`` and in
    the lesson. Keras and JAX truncate it, which is
    ``variance_scaling(shape, 2.0, "fan_in", "truncated_normal")`` here.
    Keywords as for :func:`variance_scaling`.

    Examples
    --------
    >>> he_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 2.0, "fan_in", "normal", **keywords)


def he_uniform(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with uniform draws of variance ``2 / fan_in`` (He et al. 2015).

    Examples
    --------
    >>> bool(abs(he_uniform((4, 6), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 2.0, "fan_in", "uniform", **keywords)


def glorot_normal(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with normal draws of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010).

    Examples
    --------
    >>> glorot_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 1.0, "fan_avg", "normal", **keywords)


def glorot_uniform(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with uniform draws of variance ``2 / (fan_in + fan_out)`` (Glorot and Bengio 2010).

    Examples
    --------
    >>> bool(abs(glorot_uniform((3, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_avg", "uniform", **keywords)


def lecun_normal(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with normal draws of variance ``1 / fan_in`` (LeCun et al. 1998), for tanh and SELU.

    Examples
    --------
    >>> lecun_normal((4, 3), seed=0).shape
    (4, 3)
    """
    return variance_scaling(shape, 1.0, "fan_in", "normal", **keywords)


def lecun_uniform(shape: Shape | None = None, **keywords: Any) -> NDArray[Any]:
    """Fill with uniform draws of variance ``1 / fan_in`` (LeCun et al. 1998).

    Examples
    --------
    >>> bool(abs(lecun_uniform((4, 3), seed=0)).max() <= 1)
    True
    """
    return variance_scaling(shape, 1.0, "fan_in", "uniform", **keywords)


# --- the lesson's own draws -------------------------------------------------------------------


def _legacy(seed: Any) -> Any:
    """Return a legacy generator: of a seed, one handed in, or NumPy's global one for None."""
    if seed is None:
        return np.random
    return seed if isinstance(seed, np.random.RandomState) else np.random.RandomState(seed)


def random(
    shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None
) -> NDArray[Any]:
    """Fill with the lesson's large random weights, ``randn(...) * 10``, exactly.

    Without a seed they come from NumPy's global random state as it stands; ``stream`` is not used.

    Examples
    --------
    >>> random((1, 2), seed=3)
    array([[17.88628473,  4.36509851]])
    """
    whole, target = _target(shape, None, out, None)
    target[...] = _legacy(seed).randn(*whole) * 10
    return target


def he(
    shape: Shape | None = None, *, seed: Seed = None, stream: int = 0, out: Any = None
) -> NDArray[Any]:
    """Fill with the lesson's He weights, ``randn(...) * sqrt(2 / fan_in)``, exactly.

    Without a seed they come from NumPy's global random state as it stands; ``stream`` is not used.

    Examples
    --------
    >>> he((1, 2), seed=3)
    array([[1.78862847, 0.43650985]])
    """
    whole, target = _target(shape, None, out, None)
    target[...] = _legacy(seed).randn(*whole) * np.sqrt(2.0 / fans(whole)[0])
    return target


_SCHEMES: dict[str, Initializer] = {
    scheme.__name__: scheme
    for scheme in (
        zeros,
        ones,
        uniform,
        normal,
        truncated_normal,
        he_normal,
        he_uniform,
        glorot_normal,
        glorot_uniform,
        lecun_normal,
        lecun_uniform,
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


def shared_seed(scheme: str, seed: Seed) -> Seed:
    """Return the seed for all tensors of a network, which are filled in turn.

    The lesson draws its layers one after another from one legacy generator; the other schemes tell
    the layers apart by ``stream``.
    """
    if scheme in ("random", "he") and isinstance(seed, (int, np.integer)):
        return np.random.RandomState(seed)
    return seed
