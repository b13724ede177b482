"""Where values go: shape, window, memory, dtype, seed and threads, checked once.

``Target`` stands between the initialisers and the kernels. It turns the caller's arguments into one
array of cells that the kernels know, and runs a kernel over disjoint ranges of it.
"""

import math
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastinit.kernels import usable_cores
from fastinit.validation import as_dtype, as_float, check_integer, frames_inside

Seed = int | np.random.SeedSequence | np.random.Generator | np.random.RandomState | None
Shape = int | tuple[int, ...]
Window = tuple[slice, ...] | slice | None
Kernel = Callable[..., None]

# A thread that gets fewer elements than this is not worth its start. One thread and two need, for
# float32 normals, microseconds: 2**17 138, 162; 2**18 262, 241; 2**19 506, 373; 2**20 996, 633. So
# two of 2**17 each break even, and from 2**18 each on they gain.
THREAD_ELEMENTS = 1 << 18
# What one call of a kernel fills: at 25 ns an element, the slowest there is, it stays below 50 ms.
# Ctrl-C is seen between two calls, and a core that comes late takes fewer of them.
SLICE_ELEMENTS = 1 << 20
# A multiple of every group of elements that the kernels draw at once: no group is drawn twice.
ALIGNMENT = 256

# Elements of an array with interleaving strides that are looked at one by one.
MOST_LOOKED_AT = 1 << 24

HALVES = ("float16", "bfloat16")
# A complex number is two cells, its real and its imaginary part.
PARTS = {"complex64": "float32", "complex128": "float64"}
REAL = ("float64", "float32", *HALVES)
REAL_AND_COMPLEX = (*REAL, *PARTS)
_KINDS = {np.dtype(name): name for name in ("float64", "float32", "float16", *PARTS)}


Axes = int | Sequence[int]


class Common(TypedDict, total=False):
    """Keywords of every initialiser."""

    seed: Seed
    stream: int
    dtype: DTypeLike | None
    out: Any
    window: Window
    threads: int | None


COMMON_DEFAULTS: dict[str, Any] = {
    "seed": None, "stream": 0, "dtype": None, "out": None, "window": None, "threads": None,
}  # fmt: skip
COMMON_DESCRIPTION = """\
    seed : int, SeedSequence, Generator, RandomState or None
        The values are a function of it; None draws fresh entropy.
    stream : int, default 0
        Which tensor of a model: the same seed gives independent values in every stream.
    dtype : {float64, float32, float16, bfloat16}, default float64
        Halves are the float32 values, rounded once to nearest. bfloat16 needs the package
        ml_dtypes.
    out : array, optional
        Filled in place and returned: an ndarray or memmap of any strides, or any array on the CPU
        with DLPack or the buffer protocol, such as a PyTorch tensor.
    window : slice or tuple of slice, optional
        Fill only this part of the whole array, with the values that it has there.
    threads : int, optional
        At most so many; all usable cores by default. Small arrays take one.
"""


class Fans(Common, total=False):
    """Keywords of the initialisers that depend on fans."""

    in_axis: Axes
    out_axis: Axes
    batch_axis: Axes


FANS_DEFAULTS: dict[str, Any] = {"in_axis": 1, "out_axis": 0, "batch_axis": ()}
FANS_DESCRIPTION = """\
    in_axis, out_axis : int or sequence of int, default 1 and 0
        The axes of inputs and outputs: by default those of a kernel (n_out, n_in, *field), as
        PyTorch and fastinit.Network have it.
    batch_axis : int or sequence of int, default ()
        Axes along which independent kernels lie: they count for neither fan. All other axes are
        the receptive field.
"""


class Target:
    """One array to fill, or a window of one, with everything about it checked.

    Attributes
    ----------
    shape : tuple of int
        Shape of the whole array, of which the window is a part.
    window : tuple of (int, int)
        Start and stop for each axis of the whole array.
    result : Any
        What the caller gets back: ``out`` itself or a new array.
    cells : ndarray of float32, float64 or uint16
        The memory of ``result``. uint16 holds the bits of halves; complex numbers have one more
        axis, of length 2.
    kind : str
        Name of the dtype of a cell.
    is_complex : bool
    """

    __slots__ = (
        "_index_shape",
        "cells",
        "is_complex",
        "key",
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
        seed: Seed = None,
        stream: int = 0,
        dtype: DTypeLike | None = None,
        out: Any = None,
        window: Window = None,
        threads: int | None = None,
        complex_too: bool = False,
    ) -> None:
        if shape is not None:
            self.shape = _check_shape(shape)
        elif out is None:
            raise TypeError("shape: expected a shape, or an array as out=; got neither")
        elif window is not None:
            raise TypeError("window: expected shape= as well, the whole array's; got none")
        kind = None if dtype is None else _kind_of(dtype, "dtype: expected", complex_too)
        if out is not None:
            found, own = _cells_of(out, complex_too)
            if kind is not None and kind != own:
                raise TypeError(f"dtype: expected that of out, {own}; got {kind}")
            kind = own
            if shape is None:
                self.shape = found.shape
        kind = kind or "float64"
        self.window = _check_window(window, self.shape)
        part = self.shape if window is None else tuple(stop - start for start, stop in self.window)
        if out is not None and found.shape != part:
            raise ValueError(f"out: expected shape {part}; got {found.shape}")
        self.threads = None if threads is None else check_integer("threads", threads, 1, 2**31)
        self.stream = check_integer("stream", stream)
        self.key = key_of(seed)
        if out is None:
            out = found = np.empty(part, _dtype_of(kind))
        self.result = out
        self.is_complex = kind in PARTS
        self.kind = PARTS.get(kind, kind)
        self._index_shape = self.shape
        if self.is_complex:
            # The two parts are one more axis of cells; fans still see the shape without it.
            self.cells = found[..., None].view(self.kind)
            self._index_shape = (*self.shape, 2)
            self.window = (*self.window, (0, 2))
        else:
            self.cells = found.view(np.uint16) if self.kind in HALVES else found
        if 0 in self.shape:
            warnings.warn(
                f"shape: {self.shape} has no elements, so there is nothing to fill",
                stacklevel=frames_inside(),
            )

    @property
    def share_of_std(self) -> float:
        """Each part of a complex number has half of the variance."""
        return math.sqrt(0.5) if self.is_complex else 1.0

    def number(self, name: str, value: float) -> float:
        """Return a parameter as a float, checked to be a finite one of this dtype."""
        number = as_float(name, value)
        if not abs(number) <= LARGEST[self.kind]:
            raise ValueError(f"{name}: expected a finite {self.kind}; got {number}")
        return number

    def constant(self, value: float) -> Any:
        """Fill with one value, rounded to the dtype."""
        if self.cells.dtype == np.uint16:
            self.cells[...] = bits_of(np.float64(value), self.kind)
        else:
            self.cells[...] = value
        return self.result

    def put(self, values: NDArray[Any]) -> Any:
        """Fill with the window's part of ``values``, which has the shape of the whole."""
        part = np.asarray(values)[tuple([slice(*limits) for limits in self.window])]
        return self.put_part(part)

    def put_part(self, values: NDArray[Any]) -> Any:
        """Fill with ``values``, which has the shape of the window, rounded once to the dtype."""
        if self.cells.dtype == np.uint16:
            values = bits_of(values, self.kind)
        self.cells[...] = values
        return self.result

    def draw(self, kernel: Kernel, *parameters: float) -> Any:
        """Fill by a kernel that knows every element by its index in the whole."""
        brain = self.kind == "bfloat16"
        key, stream, size = self.key, self.stream, self.cells.size
        if size < 2 * THREAD_ELEMENTS:
            for cells, first, step in self._matrices():
                kernel(cells, first, step, key, stream, *parameters, brain)
            return self.result
        slices = deque(
            piece
            for matrix in self._matrices()
            for piece in _pieces(*matrix, min(SLICE_ELEMENTS, THREAD_ELEMENTS + size // 64))
        )

        def work() -> None:
            while slices:
                try:
                    cells, first, step = slices.popleft()
                except IndexError:  # another thread took the last one
                    return
                kernel(cells, first, step, key, stream, *parameters, brain)

        wanted = usable_cores() if self.threads is None else self.threads
        # Fresh threads each time: a pool would not survive a fork, and costs little less.
        helpers = [
            threading.Thread(target=work, daemon=True)
            for _ in range(min(wanted, size // THREAD_ELEMENTS) - 1)
        ]
        try:
            for helper in helpers:
                try:
                    helper.start()
                except RuntimeError:  # no thread to be had: the others do its share
                    break
            work()
        finally:
            slices.clear()
            _join(helpers)
        return self.result

    def _matrices(self) -> Iterator[tuple[NDArray[Any], int, int]]:
        """Yield (rows x columns of cells, index of the first, index from row to row).

        Columns are neighbours in the whole array, whatever the strides of their cells.
        """
        cells = self.cells
        if cells.size == 0:
            return
        if cells.flags.c_contiguous and cells.shape == self._index_shape:
            yield cells.reshape(1, -1), 0, 0
            return
        lengths = self._index_shape
        steps = [math.prod(lengths[axis + 1 :]) for axis in range(len(lengths))]
        first = sum(start * step for (start, _), step in zip(self.window, steps, strict=True))
        # Axes that are one in the index and one in memory become one; the rest are loops.
        axes: list[tuple[int, int, int]] = []
        for n, step, stride in zip(cells.shape, steps, cells.strides, strict=True):
            if n == 1:
                continue
            if axes and axes[-1][1:] == (n * step, n * stride):
                axes[-1] = (axes[-1][0] * n, step, stride)
            else:
                axes.append((n, step, stride))
        if not axes or axes[-1][1] != 1:
            axes.append((1, 1, cells.itemsize))
        if len(axes) == 1:
            axes.insert(0, (1, 0, 0))
        lengths, index_steps, strides = zip(*axes, strict=True)
        merged = np.lib.stride_tricks.as_strided(cells, lengths, strides)
        for outer in np.ndindex(*lengths[:-2]):
            start = sum(i * step for i, step in zip(outer, index_steps, strict=False))
            yield merged[outer], first + start, index_steps[-2]


def _pieces(
    cells: NDArray[Any], first: int, step: int, size: int
) -> Iterator[tuple[NDArray[Any], int, int]]:
    """Cut a matrix of cells into ones of about ``size`` elements."""
    rows, columns = cells.shape
    if columns >= size:
        # Cuts lie between two groups of the whole array, not of the row.
        size -= size % ALIGNMENT
        for row in range(rows):
            index = first + row * step
            start = 0
            while start < columns:
                stop = min(start + size - (index + start) % ALIGNMENT, columns)
                yield cells[row : row + 1, start:stop], index + start, 0
                start = stop
    else:
        height = size // columns
        for row in range(0, rows, height):
            yield cells[row : row + height], first + row * step, step


def _join(helpers: Sequence[threading.Thread]) -> None:
    """Wait for the threads that were started, also if Ctrl-C comes while they are waited for.

    They write to the caller's memory. None takes longer than a slice.
    """
    interrupt: KeyboardInterrupt | None = None
    for helper in helpers:
        # Listed from the call of start() on; it has an ident a little later.
        while helper in threading.enumerate():
            try:
                if helper.ident is not None:
                    helper.join()
            except KeyboardInterrupt as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt


# --- checks ---------------------------------------------------------------------------------------


def key_of(seed: Seed) -> int:
    """Return the 64-bit key of a seed; a generator moves on by one draw.

    Examples
    --------
    >>> key_of(3)
    3
    """
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        if not 0 <= seed < 2**64:
            raise ValueError(f"seed: expected 0 <= seed < 2**64; got {seed}")
        return int(seed)
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**64, dtype=np.uint64))
    if isinstance(seed, np.random.RandomState):
        return int(seed.randint(2**64, dtype=np.uint64))
    if seed is None:
        seed = np.random.SeedSequence()
    if isinstance(seed, np.random.SeedSequence):
        return int(seed.generate_state(1, np.uint64)[0])
    raise TypeError(
        "seed: expected int, SeedSequence, Generator, RandomState or None; "
        f"got {type(seed).__name__}"
    )


def _check_shape(shape: Shape) -> tuple[int, ...]:
    if isinstance(shape, (int, np.integer)):
        shape = (shape,)
    elif isinstance(shape, (str, bytes)) or not hasattr(shape, "__iter__"):
        raise TypeError(f"shape: expected integers; got {shape!r}")
    try:
        shape = tuple(shape)
    except TypeError:
        raise TypeError(f"shape: expected integers; got {shape!r}") from None
    for length in shape:
        if not isinstance(length, (int, np.integer)) or isinstance(length, bool):
            raise TypeError(f"shape: expected integers; got {shape!r}")
        if length < 0:
            raise ValueError(f"shape: expected lengths >= 0; got {shape!r}")
    shape = tuple(map(int, shape))
    if math.prod(shape) >= 2**63:
        raise ValueError(f"shape: expected fewer than 2**63 elements; got {shape!r}")
    return shape


def _check_window(window: Window, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return (start, stop) for every axis."""
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
                    f"window: expected axis {axis} to stay within its length {length}; got {part!r}"
                )
        start, stop, _ = part.indices(length)
        limits.append((start, max(start, stop)))
    return tuple(limits)


def _kind_of(dtype: Any, expected: str, complex_too: bool) -> str:
    """Return the name of a dtype that can be filled."""
    # NumPy knows bfloat16 only while ml_dtypes is loaded.
    if isinstance(dtype, str) and dtype == "bfloat16":
        return "bfloat16"
    names = REAL if not complex_too else REAL_AND_COMPLEX
    message = f"{expected} {', '.join(names[:-1])} or {names[-1]}"
    found = as_dtype(dtype, message)
    # By the dtype, whose hash tells the byte order; its name takes ten times as long to find.
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
            "dtype: expected the package ml_dtypes beside bfloat16, which NumPy lacks; got none"
        ) from None
    found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return found


def _cells_of(out: Any, complex_too: bool) -> tuple[NDArray[Any], str]:
    """Return the memory of ``out`` as an array the kernels write to, and the name of its dtype."""
    if isinstance(out, np.ndarray):
        array, kind = out, None
    else:
        array, kind = _array_of(out)
    if not array.dtype.isnative:
        raise TypeError(f"out: expected the byte order of this machine; got {array.dtype.str}")
    kind = kind or _kind_of(array.dtype, "out: expected dtype", complex_too)
    flags = array.flags
    if not flags.writeable:
        raise ValueError("out: expected a writable array; got a read-only one")
    if not flags.aligned:
        raise ValueError("out: expected aligned memory; got an unaligned array")
    if not flags.c_contiguous and array.size:
        lengths = zip(array.shape, array.strides, strict=True)
        if any(n > 1 and not stride for n, stride in lengths):
            raise ValueError("out: expected a cell per element; got a broadcast array")
        if _overlaps(array):
            raise ValueError("out: expected a cell per element; got elements that share memory")
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
        return False  # each axis steps over all that the shorter strides reach
    # Strides that interleave are rare: look at every element, or refuse what is too large to.
    if array.size > MOST_LOOKED_AT:
        return True
    places = np.zeros(1, np.int64)
    for stride, n in axes:
        places = (places[:, None] + stride * np.arange(n)).ravel()
    places.sort()
    return bool((np.diff(places) < array.itemsize).any())


def _array_of(out: Any) -> tuple[NDArray[Any], str | None]:
    """Return an array over the memory of a tensor or buffer on the CPU, never a copy.

    The second value names the dtype where the array cannot: NumPy has no bfloat16 of its own.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(out, torch.Tensor):
        if out.device.type != "cpu":
            raise TypeError(f"out: expected a tensor on the CPU; got one on {out.device}")
        # Detached it shares the memory and no history.
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


# --- the four dtypes ------------------------------------------------------------------------------

LARGEST = {
    "float64": float(np.finfo(np.float64).max),
    "float32": float(np.finfo(np.float32).max),
    "float16": float(np.finfo(np.float16).max),
    "bfloat16": float.fromhex("0x1.FEp127"),
}


def bits_of(values: Any, kind: str) -> Any:
    """Return the bits of numbers rounded once to nearest even: float16 or bfloat16, as uint16.

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
    if values.dtype == np.float64:
        # To odd first: the last bit of the float says that it was not exact, so that a number near
        # the middle between two halves is not rounded to the middle and then once more.
        below = np.where(np.abs(floats) > np.abs(values), bits - np.uint64(1), bits)
        inexact = floats.astype(np.float64) != values
        bits = np.where(inexact & np.isfinite(floats), below | np.uint64(1), bits)
    return ((bits + 0x7FFF + ((bits >> np.uint64(16)) & np.uint64(1))) >> np.uint64(16)).astype(
        np.uint16
    )


@lru_cache(4096)
def at_least(value: float, kind: str) -> float:
    """Return the smallest number of a dtype that is not below ``value``.

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
        # A positive number grows with its bits, a negative one shrinks as they are cut off.
        bits = (bits + 0xFFFF if value > 0 else bits) & 0xFFFF0000
        return float(np.uint32(bits).view(np.float32))
    real = np.dtype(kind).type
    with np.errstate(over="ignore"):
        near = real(value)
    return float(np.nextafter(near, real(np.inf)) if float(near) < value else near)


def at_most(value: float, kind: str) -> float:
    """Return the largest number of a dtype that is not above ``value``.

    Examples
    --------
    >>> at_most(1.001, "bfloat16")
    1.0
    """
    return -at_least(-value, kind)


def below(value: float, kind: str) -> float:
    """Return the largest number of a dtype that is below ``value``.

    Examples
    --------
    >>> below(1.0, "float16")
    0.99951171875
    """
    return at_most(math.nextafter(value, -math.inf), kind)
