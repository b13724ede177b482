"""What fills the tensors of a model: their streams, the rules for them, and what these come to.

The faces and the checkpoints turn names and rules into a :class:`Fill` for each tensor, so that a
tensor has the same values wherever it is filled.
"""

import fnmatch
import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.initializers.distributions import ones, truncated_normal, zeros
from fastinit.initializers.scaling import fans
from fastinit.initializers.scheme import OWN, Scheme, get
from fastinit.initializers.structured import (
    delta_orthogonal,
    dirac,
    identity,
    orthogonal,
    sparse,
    zero_init,
)
from fastinit.initializers.target import Draw, Plan, bits_of

Shape = tuple[int, ...]
Number = int | float
Window = tuple[slice, ...]

# Draw nothing.
FIXED = (identity, dirac, zero_init)
# Compute the whole array for any window of it.
WHOLE = (orthogonal, delta_orthogonal)


class Fill(NamedTuple):
    """What fills a tensor: a function with the common keywords of the initialisers, or a constant.

    ``name`` is shown in tables. ``rows`` are set to a constant afterwards, as the rows of
    ``padding_idx`` are. Without a function, ``keywords["value"]`` holds a number or an array.
    """

    name: str
    function: Callable[..., Any] | None
    keywords: dict[str, Any]
    rows: tuple[tuple[int, Number], ...] = ()


def stream_of(name: str) -> int:
    """Return the stream of a tensor: 63 bits of a hash of its name.

    Examples
    --------
    >>> stream_of("layers.0.weight") == stream_of("layers.1.weight")
    False
    """
    return int.from_bytes(_digest(name), "little") >> 1


def streams_of(names: Iterable[str]) -> NDArray[np.uint64]:
    """Return the streams of several tensors.

    Examples
    --------
    >>> bool(streams_of(["a", "b"])[1] == stream_of("b"))
    True
    """
    digests = b"".join(map(_digest, names))
    return np.frombuffer(digests, "<u8") >> np.uint64(1)


def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()


# --- rules ----------------------------------------------------------------------------------------


def pattern_of(where: Any, kinds: str = "patterns of names") -> re.Pattern[str]:
    """Return the expression that matches the names of a rule, a pattern as in :mod:`fnmatch`.

    Examples
    --------
    >>> bool(pattern_of("*.bias").fullmatch("layers.0.bias"))
    True
    """
    if isinstance(where, str):
        return re.compile(fnmatch.translate(where))
    if isinstance(where, re.Pattern) and isinstance(where.pattern, str):
        return where
    raise TypeError(f"rules: expected {kinds}; got {where!r}")


def check_matches(rules: Iterable[Any], names: Sequence[str]) -> None:
    """Raise a ValueError for a pattern that matches no name, because it is misspelt.

    Examples
    --------
    >>> check_matches(["*.bais", "*"], ["0.weight", "0.bias"])
    Traceback (most recent call last):
        ...
    ValueError: rules: expected patterns that match a name, such as '0.bias'; got '*.bais'
    """
    for where in rules:
        is_type = isinstance(where, type)
        if names and not is_type and not any(map(pattern_of(where).fullmatch, names)):
            raise ValueError(
                f"rules: expected patterns that match a name, such as {names[-1]!r}; got {where!r}"
            )


def check_rule(rule: Any) -> None:
    """Raise a TypeError for a partial with a keyword that is set for each tensor.

    Examples
    --------
    >>> check_rule(partial(orthogonal, seed=0))
    Traceback (most recent call last):
        ...
    TypeError: rules: expected a partial without seed, which is set for each tensor; got seed=0
    """
    for name, value in rule.keywords.items() if isinstance(rule, partial) else ():
        if name in (*OWN, "generator"):  # the latter of PyTorch's functions
            raise TypeError(
                f"rules: expected a partial without {name}, which is set for each tensor; got "
                f"{name}={value!r}"
            )


def scheme_of(rule: Any) -> Scheme:
    """Return the scheme of a name or an initialiser, if it has streams.

    Raises
    ------
    TypeError
        As :func:`check_rule`.
    ValueError
        If the name is unknown, or the tensors of the scheme are drawn from one generator.

    Examples
    --------
    >>> scheme_of("he_normal").name
    'he_normal'
    """
    check_rule(rule)
    scheme = get(rule)
    if scheme.sequential:
        raise ValueError(f"rules: expected a scheme with streams; got {scheme.name}")
    return scheme


def fill_of(scheme: Scheme, key: str, shape: Shape, weight: Shape | None) -> Fill:
    """Return what fills a tensor by a scheme.

    Parameters
    ----------
    scheme : Scheme
    key : str
        Name of the tensor within its module. Initialisers that depend on fans fill one of at most
        one axis whose name contains "bias" as the biases of a network.
    shape : tuple of int
    weight : tuple of int or None
        Shape of the weights that a bias belongs to.

    Returns
    -------
    Fill

    Raises
    ------
    ValueError
        If the scheme draws biases by the fan of the weights, and there are none.

    Examples
    --------
    >>> fill_of(scheme_of("he_normal"), "bias", (3,), None).name
    'he_normal, bias'
    """
    keywords: dict[str, Any] = {}
    function = scheme.fill
    if len(shape) < 2 and "bias" in key and _has_fans(function):
        if scheme.fill_bias is None:
            return Fill(f"{scheme.name}, bias", None, {"value": 0})
        if weight is None:
            raise ValueError(
                f"rules: expected weights beside {key}, because {scheme.name} fills biases by "
                "their fan; got none"
            )
        fan_in = int(fans(weight)[0])
        function = _whole(partial(_fill_bias, scheme.fill_bias, fan_in))
        return Fill(f"{scheme.name}, bias", function, keywords)
    if scheme.inputs_first:
        keywords = {"in_axis": 1, "out_axis": 0}
    if not scheme.fills_stacks:
        function = _whole(function)
    return Fill(scheme.name, function, keywords)


@lru_cache(256)
def _has_fans(function: Callable[..., Any]) -> bool:
    return "in_axis" in inspect.signature(function).parameters


def _fill_bias(fill: Callable[..., Any], fan_in: int, *, out: Any, **keywords: Any) -> None:
    fill(fan_in, out=out[:, None], **keywords)


def _whole(fill: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes the common keywords, for one that fills whole arrays only."""
    return partial(_fill_whole, fill)


def _fill_whole(
    fill: Callable[..., Any],
    shape: Shape,
    *,
    out: Any,
    seed: int,
    stream: int,
    window: Window | None,
    dtype: Any = None,
    **_: Any,
) -> None:
    keywords = {} if dtype is None else {"dtype": dtype}
    if window is None or tuple(out.shape) == shape:
        fill(out=out, seed=seed, stream=stream, **keywords)
    elif 0 not in out.shape:
        # An array of NumPy or a tensor of PyTorch.
        make = getattr(out, "new_empty", None) or partial(np.empty, dtype=out.dtype)
        source = make(shape)
        fill(out=source, seed=seed, stream=stream, **keywords)
        out[...] = source[window]


# --- properties of functions ----------------------------------------------------------------------


def needs_whole(function: Callable[..., Any] | None) -> bool:
    """Return whether a function computes the whole array for any window of it.

    Examples
    --------
    >>> needs_whole(partial(orthogonal, gain=2.0))
    True
    """
    while isinstance(function, partial) and function.func is not _fill_whole:
        function = function.func
    return function in WHOLE or isinstance(function, partial)


@lru_cache(64)
def takes_complex(function: Callable[..., Any]) -> bool:
    """Return whether an initialiser has complex values.

    Examples
    --------
    >>> takes_complex(orthogonal)
    False
    """
    name = getattr(function, "__name__", "")
    real = ("truncated_normal", "orthogonal", "delta_orthogonal", "sparse")
    return function not in FIXED and name not in real


def takes_stacks(function: Callable[..., Any]) -> bool:
    """Return whether a function draws, and can fill a stack of arrays at once."""
    return function not in FIXED and get(function).fills_stacks


# --- arrays ---------------------------------------------------------------------------------------

# XLA takes over the memory of an array of NumPy at such addresses, and copies others.
ALIGNMENT = 64


def aligned(shape: Sequence[int], dtype: Any) -> NDArray[Any]:
    """Return a new array, not filled, at an address that XLA takes over without a copy.

    Examples
    --------
    >>> aligned((3, 4), "float32").ctypes.data % 64
    0
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    found: NDArray[Any] = memory[start : start + size].view(dtype).reshape(shape)
    return found


def shards_of(
    shape: Shape, filled: Callable[[Window], NDArray[Any]], whole: bool
) -> Callable[[Window | None], NDArray[Any]]:
    """Return what ``jax.make_array_from_callback`` calls with the index of each shard.

    Equal shards are filled once.

    Parameters
    ----------
    shape : tuple of int
        That of the whole array.
    filled : callable
        Returns a window of the array.
    whole : bool
        Whether to fill the whole array once, at once, instead of each window.

    Examples
    --------
    >>> shard = shards_of((4,), lambda window: np.arange(4)[window], False)
    >>> shard((slice(2, None),))
    array([2, 3])
    """
    made: dict[tuple[tuple[int, int], ...], NDArray[Any]] = {}
    source = filled(tuple(slice(0, n) for n in shape)) if whole else None

    def shard(index: Window | None) -> NDArray[Any]:
        bounds = tuple(part.indices(n)[:2] for part, n in zip(index or (), shape, strict=True))
        if bounds not in made:
            window = tuple(slice(*limits) for limits in bounds)
            if source is None:
                made[bounds] = filled(window)
            else:
                made[bounds] = aligned([stop - start for start, stop in bounds], source.dtype)
                made[bounds][...] = source[window]
        return made[bounds]

    return shard


def fill_array(
    out: NDArray[Any],
    fill: Fill,
    dtype: str,
    shape: Shape,
    window: Window,
    key: int,
    stream: int,
    threads: int | None = 1,
) -> None:
    """Fill an array of NumPy, the window of a whole one.

    Parameters
    ----------
    out : ndarray
        Of ``dtype``; for bfloat16, of uint16.
    fill : Fill
        Without rows, and with numbers alone as constants.
    dtype : str
    shape : tuple of int
        That of the whole array.
    window : tuple of slice
    key, stream : int
    threads : int, optional
        One by default; None for all usable cores.

    Examples
    --------
    >>> out = np.empty((1, 2), np.float32)
    >>> fill_array(out, Fill("ones", None, {"value": 1}), "float32", (3, 2), (slice(0, 1),), 0, 0)
    >>> out
    array([[1., 1.]], dtype=float32)
    """
    if fill.function is None:
        value = fill.keywords["value"]
        out[...] = bits_of(np.float64(value), dtype) if dtype == "bfloat16" else value
        return
    fill.function(
        shape, **fill.keywords, out=out, dtype=dtype, seed=key, stream=stream, window=window,
        threads=threads,
    )  # fmt: skip


def draw_of(
    function: Callable[..., Any],
    keywords: dict[str, Any],
    shape: Shape,
    kind: str,
    key: int = 0,
    stream: int = 0,
) -> Draw | None:
    """Return the draw by which an initialiser fills an array of a dtype, None if it does more.

    Examples
    --------
    >>> from fastinit import ones, uniform
    >>> draw_of(uniform, {}, (3, 4), "float32").kernel
    'uniform'
    >>> draw_of(ones, {}, (3, 4), "float32")
    """
    if not takes_stacks(function):
        return None
    plan = Plan(kind)
    try:
        function(shape, **keywords, out=plan, seed=key, stream=stream)
    except (AttributeError, TypeError):  # it needs an array, or its arguments are wrong
        return None
    return plan.draws[0] if len(plan.draws) == 1 else None


# --- the standard deviations of tables ------------------------------------------------------------


def std_of(
    function: Callable[..., Any],
    keywords: dict[str, Any],
    shape: Shape,
    is_complex: bool = False,
) -> float | None:
    """Return the standard deviation of what an initialiser draws, None if it is not known.

    Examples
    --------
    >>> from fastinit import lecun_normal
    >>> std_of(lecun_normal, {}, (3, 4))
    0.5
    """
    if 0 in shape:
        return 0.0
    draw = draw_of(function, keywords, shape, "complex128" if is_complex else "float64")
    if draw is None:
        return _std_without_draw(function, keywords, shape)
    parts = math.sqrt(2.0) if is_complex else 1.0  # both have the variance of the draw
    match draw.kernel:
        case "uniform":
            _, width, *_ = draw.parameters
            return parts * width / math.sqrt(12)
        case "normal":
            _, std = draw.parameters
            return parts * std
        case "truncated_normal":
            mean, std, *_, lowest, largest = draw.parameters
            return _truncated_std(std, (lowest - mean) / std, (largest - mean) / std)
    return None


def _std_without_draw(
    function: Callable[..., Any], keywords: dict[str, Any], shape: Shape
) -> float | None:
    """Return the standard deviation of the initialisers that do not draw every element."""
    base, args, given = function, (), keywords
    if isinstance(function, partial):
        base, args, given = function.func, function.args, function.keywords | keywords
    if base in (zeros, ones, truncated_normal):  # the last one without a spread
        return 0.0
    if base not in (sparse, orthogonal, identity, dirac):
        return None
    bound = inspect.signature(base).bind_partial(*(args or (None,)), **given)
    bound.apply_defaults()
    a = bound.arguments
    if base is sparse:
        n = shape[a["out_axis"]]
        return float(a["std"]) * math.sqrt(1 - math.ceil(a["sparsity"] * n) / n)
    if base is orthogonal:
        # The squares of r orthonormal rows or columns add up to r; all axes but that of the
        # outputs form one of them.
        fan_in, size = fans(shape, a["in_axis"], a["out_axis"])[0], math.prod(shape)
        return float(abs(a["gain"])) / math.sqrt(max(fan_in, size / fan_in))
    if base is identity:
        return float(abs(a["gain"])) * _indicator_std(min(shape) / math.prod(shape))
    n_out, n_in = shape[a["out_axis"]], shape[a["in_axis"]]
    return _indicator_std(a["groups"] * min(n_out // a["groups"], n_in) / math.prod(shape))


def _indicator_std(share: float) -> float:
    return math.sqrt(share * (1 - share))


def _truncated_std(std: float, low: float, high: float) -> float | None:
    """Return the standard deviation after a truncation at two bounds, given in ``std``."""
    # The tail that is farther from the mean is computed without cancellation.
    sign = -1 if low > 0 else 1
    mass = abs(math.erfc(-sign * high / math.sqrt(2)) - math.erfc(-sign * low / math.sqrt(2))) / 2
    if mass < 1e-12:
        return None

    def density(z: float) -> float:
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    def moment(z: float) -> float:
        return z * density(z) if math.isfinite(z) else 0.0

    shift = (density(low) - density(high)) / mass
    variance = 1 + (moment(low) - moment(high)) / mass - shift * shift
    return float(std * math.sqrt(max(variance, 0.0)))
