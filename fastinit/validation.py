"""Checks of arguments. Each error message begins with the name of the argument."""

import math
import operator
import sys
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

_PACKAGE = str(Path(__file__).parent)
# Upper limit of numbers of iterations. At one nanosecond each, 2**48 iterations take three days.
MOST_ITERATIONS = 2**48
_DOUBLE = np.dtype(np.float64)


def check_integer(name: str, value: SupportsIndex, least: int = 0, end: int = 2**63) -> int:
    """Return the value as an int in ``[least, end)``.

    Parameters
    ----------
    name : str
        Name of the argument in error messages.
    value : int or NumPy integer
    least, end : int
        The range; ``end`` is excluded.

    Raises
    ------
    TypeError
        If the value is not an integer, or is a bool.
    ValueError
        If the value is out of the range.

    Examples
    --------
    >>> check_integer("epochs", np.int8(3))
    3
    """
    # Most values are plain integers in the range.
    if type(value) is int and least <= value < end:
        return value
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an integer; got bool")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer; got {type(value).__name__}") from None
    if not least <= number < end:
        large_power = end > 2**20 and end.bit_count() == 1
        most = f"2**{end.bit_length() - 1} - 1" if large_power else str(end - 1)
        raise ValueError(f"{name}: expected an integer from {least} to {most}; got {number}")
    return number


def as_float(name: str, value: Any) -> float:
    """Return a real number as a float; an int that overflows becomes infinite.

    Raises
    ------
    TypeError
        If the value is not a number, or is a bool.

    Examples
    --------
    >>> as_float("scale", np.float32(0.5)), as_float("scale", 10**400)
    (0.5, inf)
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number; got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_name(name: str, value: Any, known: Collection[str]) -> str:
    """Return the value if it is one of the known names; the error message suggests similar ones.

    Raises
    ------
    TypeError
        If the value is not a string.
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> check_name("activation", "tanh", ["relu", "tanh"])
    'tanh'
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a string; got {type(value).__name__}")
    if value not in known:
        # get_close_matches compares whole names: it does not suggest `he_normal` for `he`.
        parts = [each for each in known if value in each.replace(".", "_").split("_")]
        close = get_close_matches(value.lower(), known, 3, 0.7)
        near = list(dict.fromkeys([*parts, *close]))
        hint = f" (did you mean {' or '.join(near)}?)" if value and near else ""
        raise ValueError(f"{name}: expected one of {', '.join(known)}; got {value!r}{hint}")
    return value


def check_bool(name: str, value: Any) -> bool:
    """Return the value as a bool; other types are rejected, even if they have a truth value.

    Raises
    ------
    TypeError
        If the value is not a bool.

    Examples
    --------
    >>> check_bool("shuffle", np.True_)
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False; got {value!r}")
    return bool(value)


def is_sequence(value: Any) -> bool:
    """Return whether a value is a sequence other than a string, such as a list or an array."""
    # Common types first: isinstance with an abstract class takes ten times as long.
    if isinstance(value, (int, float, str)):
        return False
    if isinstance(value, (tuple, list)):
        return True
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, bytes)


def as_real(name: str, value: Any) -> NDArray[Any]:
    """Return an array of real numbers, of any dtype.

    Raises
    ------
    TypeError
        If the value is a masked array, or not one of real numbers.
    ValueError
        If the value is a ragged sequence.

    Examples
    --------
    >>> as_real("X", [[0, 1]])
    array([[0, 1]])
    """
    if np.ma.isMaskedArray(value):
        raise TypeError(f"{name}: expected every number; got a masked array")
    try:
        found: NDArray[Any] = np.asarray(value)
    except UnicodeError:
        raise ValueError(f"{name}: expected an array; got text that is not one") from None
    except (TypeError, ValueError, RuntimeError) as error:
        raise type(error)(f"{name}: expected an array; {error}") from None
    if found.dtype.kind not in "fiub":
        framed = hasattr(value, "to_numpy")  # as the tables of pandas and Polars have it
        hint = "; fastinit.comparison.from_table encodes data frames with text" if framed else ""
        raise TypeError(f"{name}: expected real numbers; got dtype {found.dtype}{hint}")
    return found


def as_doubles(
    name: str, value: Any, shape: tuple[int | None, ...] | None = None
) -> NDArray[np.float64]:
    """Return real numbers as a C-contiguous, aligned array of float64.

    Parameters
    ----------
    name : str
        Name of the argument in error messages.
    value : array_like
        Real numbers of any dtype; integers and bools are converted.
    shape : tuple of int or None, optional
        The expected shape. None stands for any size, or for any shape.

    Returns
    -------
    ndarray, float64
        ``value`` itself if it needs no conversion.

    Raises
    ------
    TypeError
        If the value does not hold real numbers, or is a masked array.
    ValueError
        If the shape does not match, or nested sequences are ragged.

    Examples
    --------
    >>> as_doubles("Y", [[0, 1]], (1, None))
    array([[0., 1.]])
    """
    found = as_real(name, value)
    if shape is not None:
        if found.ndim != len(shape) and None in shape:
            raise ValueError(f"{name}: expected {len(shape)} dimensions; got shape {found.shape}")
        expected = shape
        if None in shape:  # the error message shows free sizes as they were passed
            sizes = zip(shape, found.shape, strict=True)
            expected = tuple(own if size is None else size for size, own in sizes)
        if found.shape != expected:
            raise ValueError(f"{name}: expected shape {expected}; got {found.shape}")
    # Identity, not equality: an equal dtype may be a long double or have metadata.
    if found.dtype is _DOUBLE and found.flags.c_contiguous and found.flags.aligned:
        return found
    with np.errstate(over="ignore"):  # a number that overflows becomes infinite
        return found.astype(np.float64, order="C")


def as_dtype(dtype: Any, expected: str) -> np.dtype[Any]:
    """Return the value as a dtype, or raise a TypeError that begins with ``expected``."""
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except Exception as error:  # NumPy raises errors of many types
        raise TypeError(f"{expected}; got {dtype!r}") from error
    return found


def frames_inside() -> int:
    """Return the ``stacklevel`` of a warning that refers to the caller of fastinit."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1  # type: ignore[assignment]
    return level
