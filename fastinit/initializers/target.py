"""The array to fill: its shape, window, memory and dtype, and the seed and threads to fill it with.

An initialiser passes its common keywords to :class:`Target`, which checks them, provides memory
that the kernels can write to, and runs a kernel over disjoint ranges of it.
"""

import copy
import math
import operator
import sys
import threading
import typing
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, SupportsIndex, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastinit.kernels import usable_cores
from fastinit.validation import as_dtype, as_float, check_integer, frames_inside, is_sequence

Seed = int | np.random.SeedSequence | np.random.Generator | np.random.RandomState | None
Shape = SupportsIndex | Sequence[SupportsIndex]
Axes = int | Sequence[int]
Window = tuple[slice, ...] | slice | None
Kernel = Callable[..., None]

# The minimum number of elements per thread. Filling with float32 normals takes one thread and two
# threads, in microseconds: 2**17 elements 138, 162; 2**18 262, 241; 2**19 506, 373; 2**20 996, 633.
# Two threads break even at 2**17 elements each, and are faster from 2**18 each.
THREAD_ELEMENTS = 1 << 18
# The maximum number of elements that one call of a kernel fills. At 25 ns per element, the slowest
# case, a call takes less than 50 ms. Ctrl-C is handled between calls, and a slower core makes fewer
# of them.
SLICE_ELEMENTS = 1 << 20
# A multiple of the number of elements that every kernel draws together, so that cutting there draws
# nothing twice.
ALIGNMENT = 256

# The most elements of an array with interleaved strides whose addresses are compared one by one.
MOST_COMPARED = 1 << 24

HALVES = ("float16", "bfloat16")
# A complex number takes two cells, its real and its imaginary part.
PARTS = {"complex64": "float32", "complex128": "float64"}
REAL = ("float64", "float32", *HALVES)
REAL_AND_COMPLEX = (*REAL, *PARTS)
_KINDS = {np.dtype(name): name for name in ("float64", "float32", "float16", *PARTS)}


# The type of what an initialiser returns: that of out, or of a new array.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    Out = TypeVar("Out", default=NDArray[Any])
else:  # a default has no effect at run time, and requires Python 3.13
    Out = typing.TypeVar("Out")


class Sources(NamedTuple):
    """What an initialiser takes as ``seed`` to fill a stack of arrays at once.

    ``out`` then has a leading axis of length k. The shape, which determines fans and windows, is
    that of one array. ``pairs``, of shape (k, 2), holds the key and the stream of each array; the
    keyword ``stream`` is added to the streams.
    """

    pairs: NDArray[np.uint64]


class Draw(NamedTuple):
    """What a random kernel draws for a whole array.

    ``kernel`` is its name and ``parameters`` those after the stream. A complex array has a last
    axis of length 2.
    """

    kernel: str
    parameters: tuple[float, ...]
    key: int
    stream: int


class Plan:
    """What an initialiser takes as ``out`` to tell what it draws, without an array.

    It is for memory that the kernels cannot write to. Any other use of the memory than a draw
    raises AttributeError: the initialiser then needs an array.

    Parameters
    ----------
    kind : str
        Name of a dtype.

    Attributes
    ----------
    draws : list of Draw

    Examples
    --------
    >>> from fastinit import normal
    >>> normal((2, 3), std=2.0, seed=1, out=Plan("float32")).draws
    [Draw(kernel='normal', parameters=(0.0, 2.0), key=1, stream=0)]
    """

    __slots__ = ("draws", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.draws: list[Draw] = []


class Common(TypedDict, Generic[Out], total=False):
    """Keywords of every initialiser. Only :class:`Scheme` passes :class:`Sources`."""

    seed: Seed | Sources
    stream: int
    dtype: DTypeLike | None
    out: Out | None
    window: Window
    threads: int | None


class Fans(Common[Out], Generic[Out], total=False):
    """Keywords of the initialisers that depend on fans."""

    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes


class Target(Generic[Out]):
    """An array to fill, or a window of one, after all checks.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole array, of which the window is a part. The arrays of a stack have the same
        shape and window.
    window : tuple of (int, int)
        Start and stop along each axis of the whole array.
    result : Out
        The return value: ``out`` itself, or a new array.
    cells : ndarray of float32, float64 or uint16
        The memory of ``result``, with a leading axis for the arrays of a stack; it has length 1
        without a stack. uint16 holds the bits of halves; complex arrays have an additional last
        axis of length 2.
    kind : str
        Name of the dtype of a cell.
    is_complex : bool
    stream : int
    threads : int or None
    """

    __slots__ = (
        "_index_shape",
        "_key",
        "_sources",
        "cells",
        "is_complex",
        "kind",
        "result",
        "shape",
        "stream",
        "threads",
        "window",
    )

    def __init__(
        self,
        shape: Shape | None,
        *,
        seed: Seed | Sources = None,
        stream: int = 0,
        dtype: DTypeLike | None = None,
        out: Out | None = None,
        window: Window = None,
        threads: int | None = None,
        complex_too: bool = False,
        **unknown: Any,
    ) -> None:
        if unknown:
            raise TypeError(
                f"{next(iter(unknown))}: expected a keyword of the initialiser; got an unknown one"
            )
        if shape is not None:
            self.shape = check_shape(shape)
        elif out is None:
            raise TypeError("shape: expected a shape, or an array as out=; got neither")
        elif window is not None:
            raise TypeError("window: expected the shape of the whole array as shape=; got none")
        is_stack = isinstance(seed, Sources)
        kind = None if dtype is None else _kind_of(dtype, "dtype: expected", complex_too)
        own_shape: tuple[int, ...] | None = None
        if isinstance(out, Plan):
            found, kind = None, _kind_of(out.kind, "out: expected dtype", complex_too)
        elif out is not None:
            found, own = _cells_of(out, complex_too, kind)
            if kind is not None and kind != own:
                raise TypeError(f"dtype: expected that of out, {own}; got {kind}")
            kind = own
            own_shape = found.shape[1:] if is_stack else found.shape
            if shape is None:
                self.shape = own_shape
        kind = kind or "float64"
        self.window = _check_window(window, self.shape)
        part = self.shape if window is None else tuple(stop - start for start, stop in self.window)
        if own_shape not in (None, part):
            raise ValueError(f"out: expected shape {part}; got {own_shape}")
        self.threads = None if threads is None else check_integer("threads", threads, 1)
        self.stream = check_integer("stream", stream)
        self._key = self._sources = None
        if isinstance(seed, Sources):
            self._sources = seed.pairs
        elif seed is not None:
            self._key = key_of(seed)
        if out is None:
            found = np.empty(part, _dtype_of(kind))
        self.result: Out = found if out is None else out  # type: ignore[assignment]
        self.is_complex = kind in PARTS
        self.kind = PARTS.get(kind, kind)
        self._index_shape = self.shape
        if self.is_complex:
            # Fans are computed from the shape, which does not have the axis of the two parts.
            self._index_shape = (*self.shape, 2)
            self.window = (*self.window, (0, 2))
        if found is not None:  # a plan has no cells
            found = found if is_stack else found[None]
            if self.is_complex:
                self.cells = found[..., None].view(self.kind)
            else:
                self.cells = found.view(np.uint16) if self.kind in HALVES else found
        if 0 in self.shape:
            warnings.warn(
                f"shape: {self.shape} has no elements, so there is nothing to fill",
                stacklevel=frames_inside(),
            )

    @property
    def key(self) -> int:
        """The 64-bit key of the seed. Without a seed, entropy is drawn when it is first needed."""
        if self._key is None:
            self._key = key_of(None)
        return self._key

    @property
    def sources(self) -> NDArray[np.uint64]:
        """The key of each array, and what is added to its stream: of shape (k, 2)."""
        if self._sources is None:
            self._sources = np.empty((1, 2), np.uint64)
            self._sources[0] = self.key, 0
        return self._sources

    def each(self) -> "Iterator[Target[Out]]":
        """Yield a target for each array of a stack."""
        for i, (key, stream) in enumerate(self.sources.tolist()):
            one = copy.copy(self)
            one.cells, one._sources = self.cells[i : i + 1], None
            one._key, one.stream = key, self.stream + stream
            yield one

    @property
    def share_of_std(self) -> float:
        """Factor of the standard deviation: a part of a complex number has half of the variance."""
        return math.sqrt(0.5) if self.is_complex else 1.0

    def number(self, name: str, value: float, least: float = -math.inf) -> float:
        """Return a parameter as a float that is finite in the dtype and not below ``least``."""
        number = as_float(name, value)
        if not abs(number) <= LARGEST[self.kind]:
            raise ValueError(f"{name}: expected a finite {self.kind}; got {number}")
        if number < least:
            raise ValueError(f"{name}: expected >= {least:g}; got {number}")
        return number

    def constant(self, value: float) -> Out:
        """Fill with one value, rounded to the dtype."""
        if self.cells.dtype == np.uint16:
            self.cells[...] = bits_of(np.float64(value), self.kind)
        else:
            self.cells[...] = value
        return self.result

    def put(self, values: NDArray[Any]) -> Out:
        """Fill with the window's part of ``values``, which has the shape of the whole array."""
        part = np.asarray(values)[tuple([slice(*limits) for limits in self.window])]
        return self.put_part(part)

    def put_part(self, values: NDArray[Any]) -> Out:
        """Fill with ``values``, which has the shape of the window, rounded once to the dtype."""
        if self.cells.dtype == np.uint16:
            values = bits_of(values, self.kind)
        self.cells[...] = values
        return self.result

    def draw(self, kernel: Kernel, *parameters: float) -> Out:
        """Fill with a kernel that computes each value from its index in the whole array."""
        if isinstance(self.result, Plan):
            self.result.draws.append(Draw(kernel.__name__, parameters, self.key, self.stream))
            return self.result
        brain = self.kind == "bfloat16"
        sources, stream, k = self.sources, self.stream, len(self.cells)
        size = k * _drawn(self.cells.size // k)
        if size < 2 * THREAD_ELEMENTS:
            for cells, first, step in self._matrices():
                kernel(cells, first, step, sources, stream, *parameters, brain)
            return self.result
        most = min(SLICE_ELEMENTS, THREAD_ELEMENTS + size // 64)
        slices = deque(
            piece for matrix in self._matrices() for piece in _pieces(*matrix, sources, most)
        )

        def work() -> None:
            while slices:
                try:
                    piece = slices.popleft()
                except IndexError:  # another thread took the last one
                    return
                kernel(*piece, stream, *parameters, brain)

        wanted = usable_cores() if self.threads is None else self.threads
        # New threads for each call: a pool would not survive a fork, and is hardly cheaper.
        helpers = [
            threading.Thread(target=work, daemon=True)
            for _ in range(min(wanted, size // THREAD_ELEMENTS) - 1)
        ]
        try:
            for helper in helpers:
                try:
                    helper.start()
                except RuntimeError:  # no thread is available: the others do its share
                    break
            work()
        finally:
            slices.clear()
            join_all(helpers)
        return self.result

    def _matrices(self) -> Iterator[tuple[NDArray[Any], int, int]]:
        """Yield stacks of matrices: cells, the index of the first, the index step between rows.

        Neighbouring columns are neighbours in the whole array; in memory they may have any stride.
        """
        cells = self.cells
        if cells.size == 0:
            return
        k, shape, strides = len(cells), cells.shape[1:], cells.strides[1:]
        if cells[0].flags.c_contiguous and shape == self._index_shape:
            yield cells.reshape(k, 1, -1), 0, 0
            return
        lengths = self._index_shape
        steps = [math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
        first = sum(start * step for (start, _), step in zip(self.window, steps, strict=True))
        axes = merged_axes(shape, steps, strides, cells.itemsize)
        lengths, index_steps, strides = zip(*axes, strict=True)
        merged = np.lib.stride_tricks.as_strided(cells, (k, *lengths), (cells.strides[0], *strides))
        for outer in np.ndindex(*lengths[:-2]):
            start = sum(i * step for i, step in zip(outer, index_steps, strict=False))
            yield merged[(slice(None), *outer)], first + start, index_steps[-2]


def merged_axes(
    shape: Sequence[int], steps: Sequence[int], strides: Sequence[int], unit: int
) -> list[tuple[int, int, int]]:
    """Return length, index step and stride in memory of axes after merging, at least two of them.

    Axes that are contiguous in both index and memory become one. The last one has index step 1.
    ``unit`` is the stride of neighbours in contiguous memory.

    Examples
    --------
    >>> merged_axes((2, 3, 4), (24, 4, 1), (12, 4, 1), 1)
    [(2, 24, 12), (12, 1, 1)]
    """
    axes: list[tuple[int, int, int]] = []
    for n, step, stride in zip(shape, steps, strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1:] == (n * step, n * stride):
            axes[-1] = (axes[-1][0] * n, step, stride)
        else:
            axes.append((n, step, stride))
    if not axes or axes[-1][1] != 1:
        axes.append((1, 1, unit))
    if len(axes) == 1:
        axes.insert(0, (1, 0, 0))
    return axes


def _drawn(size: int) -> int:
    """Return the number of values that a kernel draws to fill an array of some size."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def _pieces(
    cells: NDArray[Any], first: int, step: int, sources: NDArray[np.uint64], size: int
) -> Iterator[tuple[NDArray[Any], int, int, NDArray[np.uint64]]]:
    """Split a stack of matrices of cells into stacks of about ``size`` elements."""
    k, rows, columns = cells.shape
    if k > 1:
        some = max(size // _drawn(rows * columns), 1)
        for i in range(0, k, some):
            part = cells[i : i + some], first, step, sources[i : i + some]
            yield from [part] if some > 1 else _pieces(*part, size)
    elif columns >= size:
        # Cuts are multiples of ALIGNMENT in the whole array, not in the row.
        size -= size % ALIGNMENT
        for row in range(rows):
            index = first + row * step
            start = 0
            while start < columns:
                stop = min(start + size - (index + start) % ALIGNMENT, columns)
                yield cells[:, row : row + 1, start:stop], index + start, 0, sources
                start = stop
    else:
        height = size // columns
        for row in range(0, rows, height):
            yield cells[:, row : row + height], first + row * step, step, sources


def join_all(helpers: Sequence[threading.Thread]) -> None:
    """Wait for all threads that were started, even if Ctrl-C arrives meanwhile.

    They write to the caller's memory, so none may outlive the call. Each ends after its slice.
    """
    interrupt: KeyboardInterrupt | None = None
    for helper in helpers:
        # start() lists the thread before it has an ident, and join() needs the ident.
        while helper in threading.enumerate():
            try:
                if helper.ident is not None:
                    helper.join()
            except KeyboardInterrupt as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt


# --- checks ---------------------------------------------------------------------------------------


def check_seed(seed: Seed) -> None:
    """Raise an error if a seed has another type or is out of range.

    Examples
    --------
    >>> check_seed(-1)
    Traceback (most recent call last):
        ...
    ValueError: seed: expected 0 <= seed < 2**64; got -1
    """
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected 0 <= seed < 2**64; got {seed}")
    elif seed is not None and not isinstance(
        seed, (np.random.SeedSequence, np.random.Generator, np.random.RandomState)
    ):
        raise TypeError(
            "seed: expected int, SeedSequence, Generator, RandomState or None; "
            f"got {type(seed).__name__}"
        )


def key_of(seed: Seed) -> int:
    """Return the 64-bit key of a seed; a generator advances by one draw.

    Examples
    --------
    >>> key_of(3)
    3
    """
    check_seed(seed)
    if isinstance(seed, (int, np.integer)):
        return int(seed)
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**64, dtype=np.uint64))
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(2**64, dtype=np.uint64))
    if seed is None:
        seed = np.random.SeedSequence()
    return int(seed.generate_state(1, np.uint64)[0])


def check_seeds(seeds: Sequence[Seed]) -> Sequence[Seed]:
    """Return several seeds after checking each of them; integers of an array become int.

    Examples
    --------
    >>> check_seeds(np.arange(3))
    [0, 1, 2]
    """
    if isinstance(seeds, np.ndarray):
        seeds = seeds.tolist()
    if not seeds:
        raise ValueError("seed: expected at least one; got an empty sequence")
    if set(map(type, seeds)) != {int} or min(seeds) < 0 or max(seeds) >= 2**64:  # type: ignore
        for seed in seeds:
            check_seed(seed)
    return seeds


def check_shape(shape: Shape) -> tuple[int, ...]:
    """Return a shape as a tuple of int.

    Examples
    --------
    >>> check_shape(3), check_shape([np.int8(2), 3])
    ((3,), (2, 3))
    """
    lengths: Any = shape if is_sequence(shape) else (shape,)
    if set(map(type, lengths)) != {int}:  # the usual type first: a small fill takes microseconds
        try:
            if any(isinstance(length, (bool, np.bool_)) for length in lengths):
                raise TypeError
            lengths = [operator.index(length) for length in lengths]
        except TypeError:
            raise TypeError(f"shape: expected integers; got {shape!r}") from None
    if lengths and min(lengths) < 0:
        raise ValueError(f"shape: expected lengths >= 0; got {shape!r}")
    if math.prod(lengths) >= 2**63:
        raise ValueError(f"shape: expected fewer than 2**63 elements; got {shape!r}")
    return tuple(lengths)


def _check_window(window: Window, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return start and stop along every axis."""
    if window is None:
        return tuple([(0, length) for length in shape])
    if isinstance(window, slice):
        window = (window,)
    if not isinstance(window, tuple) or not all(isinstance(part, slice) for part in window):
        raise TypeError(f"window: expected a slice or a tuple of slices; got {window!r}")
    if len(window) > len(shape):
        raise ValueError(f"window: expected at most {len(shape)} slices; got {len(window)}")
    limits = []
    for axis, length in enumerate(shape):
        part = window[axis] if axis < len(window) else slice(None)
        if part.step not in (None, 1):
            raise ValueError(f"window: expected slices without a step; got {part!r}")
        for edge in (part.start, part.stop):
            if edge is not None and not isinstance(edge, (int, np.integer)):
                raise TypeError(f"window: expected integers in slices; got {part!r}")
            if edge is not None and not -length <= edge <= length:
                raise ValueError(
                    f"window: expected limits within the length {length} of axis {axis}; "
                    f"got {part!r}"
                )
        start, stop, _ = part.indices(length)
        limits.append((start, max(start, stop)))
    return tuple(limits)


def _kind_of(dtype: Any, expected: str, complex_too: bool) -> str:
    """Return the name of a dtype, if it is one of those that can be filled."""
    # NumPy knows the name bfloat16 only after ml_dtypes was imported.
    if isinstance(dtype, str) and dtype == "bfloat16":
        return "bfloat16"
    names = REAL if not complex_too else REAL_AND_COMPLEX
    message = f"{expected} {', '.join(names[:-1])} or {names[-1]}"
    found = as_dtype(dtype, message)
    # The dtype is looked up first, because its name takes ten times as long. Its hash includes the
    # byte order.
    kind = _KINDS.get(found) or found.name
    if kind not in names or not found.isnative:
        raise TypeError(f"{message}; got {found}")
    return kind


def _dtype_of(kind: str) -> np.dtype[Any]:
    if kind != "bfloat16":
        return np.dtype(kind)
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError(
            "dtype: expected the package ml_dtypes for bfloat16; it is not installed"
        ) from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def _cells_of(out: Any, complex_too: bool, dtype: str | None) -> tuple[NDArray[Any], str]:
    """Return the memory of ``out`` as an array of cells, and the name of its dtype.

    An array of uint16 holds the bits of bfloat16 numbers, which NumPy lacks, if ``dtype`` says so.
    """
    if isinstance(out, np.ndarray):
        array, kind = out, None
        if dtype == "bfloat16" and array.dtype == np.uint16:
            kind = dtype
    else:
        array, kind = _array_of(out)
    if not array.dtype.isnative:
        raise TypeError(f"out: expected native byte order; got {array.dtype.str}")
    kind = kind or _kind_of(array.dtype, "out: expected dtype", complex_too)
    flags = array.flags
    if not flags.writeable:
        raise ValueError("out: expected a writable array; got a read-only one")
    if not flags.aligned:
        raise ValueError("out: expected aligned memory; got an unaligned array")
    if not flags.c_contiguous and array.size:
        lengths = zip(array.shape, array.strides, strict=True)
        if any(n > 1 and not stride for n, stride in lengths):
            raise ValueError(
                "out: expected distinct memory for each element; got a broadcast array"
            )
        if _overlaps(array):
            raise ValueError(
                "out: expected distinct memory for each element; got elements that share memory"
            )
    if kind in HALVES:
        array = array.view(np.uint16)
    return array, kind


def _overlaps(array: NDArray[Any]) -> bool:
    """Return whether two elements of an array share memory."""
    extent = array.itemsize
    axes = sorted((abs(s), n) for n, s in zip(array.shape, array.strides, strict=True) if n > 1)
    for stride, n in axes:
        if stride < extent:
            break
        extent = stride * (n - 1) + extent
    else:
        return False  # each stride is at least as long as everything that the shorter ones span
    # Interleaved strides are rare: compare all addresses, and refuse arrays too large for that.
    if array.size > MOST_COMPARED:
        return True
    places = np.zeros(1, np.int64)
    for stride, n in axes:
        places = (places[:, None] + stride * np.arange(n)).ravel()
    places.sort()
    return bool((np.diff(places) < array.itemsize).any())


def _array_of(out: Any) -> tuple[NDArray[Any], str | None]:
    """Return an array that shares the memory of a tensor or buffer on the CPU.

    The second value is "bfloat16" for tensors of that dtype, which NumPy lacks, otherwise None.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(out, torch.Tensor):
        if out.device.type != "cpu":
            raise TypeError(f"out: expected a tensor on the CPU; got one on {out.device}")
        # A detached tensor shares the memory and has no gradient history.
        plain = out.detach()
        if plain.dtype == torch.bfloat16:
            return plain.view(torch.int16).numpy().view(np.uint16), "bfloat16"
        return plain.numpy(), None
    try:
        return np.asarray(memoryview(out)), None
    except TypeError:
        pass
    if hasattr(out, "__dlpack__"):
        return np.from_dlpack(out), None
    raise TypeError(
        f"out: expected a NumPy array, DLPack or a buffer on the CPU; got {type(out).__name__}"
    )


# --- dtypes of cells ------------------------------------------------------------------------------

LARGEST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": float(np.finfo(np.float16).max),
    "bfloat16": float.fromhex("0x1.FEp127"),
}


def bits_of(values: Any, kind: str) -> Any:
    """Return numbers rounded once, to nearest even, to float16 or bfloat16, as bits in uint16.

    Examples
    --------
    >>> hex(bits_of(np.float32(1), "bfloat16"))
    '0x3f80'
    """
    values = np.asarray(values)
    with np.errstate(over="ignore"):
        if kind == "float16":
            return values.astype(np.float16).view(np.uint16)
        floats = values.astype(np.float32)
    bits = floats.view(np.uint32).astype(np.uint64)
    if values.dtype != np.float32:
        # Rounding to float32 and then to bfloat16 could round twice in the same direction. Inexact
        # floats are therefore rounded to odd, which keeps them off the middle of two halves.
        below = np.where(np.abs(floats) > np.abs(values), bits - np.uint64(1), bits)
        inexact = floats.astype(np.float64) != values
        bits = np.where(inexact & np.isfinite(floats), below | np.uint64(1), bits)
    return ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(
        np.uint16
    )


@lru_cache(4096)
def at_least(value: float, kind: str) -> float:
    """Return the smallest number in a dtype that is >= ``value``.

    Examples
    --------
    >>> at_least(1.001, "bfloat16")
    1.0078125
    """
    if math.isinf(value):
        return value
    if kind == "bfloat16":
        near = np.float32(at_least(value, "float32"))
        bits = int(near.view(np.uint32))
        # Truncation moves a number towards zero: upwards for negative ones only.
        bits = (bits + 0xFFFF if value > 0 else bits) & 0xFFFF0000
        return float(np.uint32(bits).view(np.float32))
    real = np.dtype(kind).type
    with np.errstate(over="ignore"):
        near = real(value)
    return float(np.nextafter(near, real(np.inf)) if float(near) < value else near)


def at_most(value: float, kind: str) -> float:
    """Return the largest number in a dtype that is <= ``value``.

    Examples
    --------
    >>> at_most(1.001, "bfloat16")
    1.0
    """
    return -at_least(-value, kind)


def below(value: float, kind: str) -> float:
    """Return the largest number in a dtype that is < ``value``.

    Examples
    --------
    >>> below(1.0, "float16")
    0.99951171875
    """
    return at_most(math.nextafter(value, -math.inf), kind)
