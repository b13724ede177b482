"""Comparisons without their runs as text and bytes, for a store.

A description is JSON. All values but lists, texts and finite numbers have a tag, as in
``{"$range": [0, 9, 1]}``; arrays are stored apart, once each, and have their digest in it.
"""

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastinit.comparison.results import Comparison
from fastinit.comparison.trials import Training
from fastinit.training import optimizers
from fastinit.training.internals import architecture_of
from fastinit.training.network import Array, Network


@dataclass(frozen=True)
class Unavailable:
    """A function of a comparison that was read from a store: it has the text alone."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def __call__(self, *_: Any) -> Any:
        """Raise ValueError."""
        raise ValueError(f"{self.text}: expected the function; a store has only its name")


def described(comparison: Comparison) -> tuple[dict[str, Any], dict[bytes, tuple[Array, bool]]]:
    """Return the description of a comparison, and its arrays by digest.

    Each array comes with whether it is needed; the training inputs and the like may be left out.
    """
    data, cells = comparison.data, comparison.cells
    arrays: dict[bytes, tuple[Array, bool]] = {}

    def encoded(value: Any, needed: bool = True) -> Any:
        if hasattr(value, "__array__") and not isinstance(value, np.generic):
            value = np.asarray(value)
            if value.dtype.kind not in "biuf":
                return encoded(value.tolist())
            digest = tensor_digest(value)
            arrays[digest] = value, needed
            return {"$array": digest.hex()}
        return _encoded(value, encoded)

    test = None
    if data.test is not None:
        test = [encoded(data.test[0], False), encoded(data.test[1])]
    described = {
        "X": encoded(data.X, False),
        "Y": encoded(data.Y),
        "test": test,
        "digest": comparison.digest(),
        "network": encoded(comparison.network),
        "grid": {
            "values": {name: encoded(found) for name, found in cells.values.items()},
            "networks": [[list(place), encoded(e)] for place, e in cells.networks.items()],
        },
        "training": {
            field.name: encoded(getattr(data.training, field.name)) for field in fields(Training)
        },
        "target_cost": data.target_cost,
        "target_accuracy": data.target_accuracy,
        "settings": {name: encoded(value) for name, value in comparison.settings.items()},
    }
    return described, arrays


def as_json(description: Any) -> str:
    """Return a description as text without spaces: its digest identifies the comparison."""
    return json.dumps(description, separators=(",", ":"))


def _encoded(value: Any, encoded: Callable[[Any], Any]) -> Any:
    """Return a value other than an array in types of JSON; all but lists and scalars are tagged."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # Python limits the number of decimal digits that it reads, and not that of others.
        return value if abs(value) < 2**63 else {"$int": hex(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, range):
        return {"$range": [encoded(value.start), encoded(value.stop), encoded(value.step)]}
    if isinstance(value, (list, tuple)):
        same = _as_range(value)
        entries = [encoded(each) for each in value] if same is None else encoded(same)
        if isinstance(value, tuple):
            return {"$tuple": entries}
        return entries if same is None else {"$list": entries}
    if isinstance(value, Mapping):
        return {"$dict": [[encoded(name), encoded(entry)] for name, entry in value.items()]}
    if isinstance(value, np.random.SeedSequence):
        state = value.state
        return {"$seed": [encoded(state[name]) for name in ("entropy", "spawn_key", "pool_size")]}
    if isinstance(value, Network):
        return {"$network": architecture_of(value)}
    name = type(value).__name__
    if is_dataclass(value) and getattr(optimizers, name, None) is type(value):
        settings = {field.name: encoded(getattr(value, field.name)) for field in fields(value)}
        return {"$settings": [name, settings]}
    return {"$repr": repr(value)}


def _as_range(value: Sequence[Any]) -> range | None:
    """Return the range of the same integers: a million seeds are then a short text."""
    if len(value) < 3 or set(map(type, value)) != {int} or value[0] == value[1]:
        return None
    step = value[1] - value[0]
    found = range(value[0], value[0] + step * len(value), step)
    return found if all(map(int.__eq__, found, value)) else None


def decoder(tensor: Callable[[str], Array]) -> Callable[[Any], Any]:
    """Return the function that reverses :func:`_encoded`."""

    def seed(entry: Any) -> np.random.SeedSequence:
        entropy, spawn_key, pool_size = map(decoded, entry)
        return np.random.SeedSequence(entropy, spawn_key=spawn_key, pool_size=pool_size)

    def settings(entry: Any) -> Any:
        return getattr(optimizers, entry[0])(**decoded(entry[1]))

    tags: dict[str, Callable[[Any], Any]] = {
        "$array": tensor,
        "$int": lambda text: int(text, 16),
        "$float": float,
        "$range": lambda limits: range(*map(decoded, limits)),
        "$tuple": lambda entries: tuple(decoded(entries)),
        "$list": lambda entries: list(decoded(entries)),
        "$dict": lambda pairs: {decoded(name): decoded(entry) for name, entry in pairs},
        "$seed": seed,
        "$network": lambda architecture: Network(**architecture),
        "$settings": settings,
        "$repr": Unavailable,
    }

    def decoded(value: Any) -> Any:
        if isinstance(value, list):
            return [decoded(each) for each in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and (tag := next(iter(value))) in tags:
            return tags[tag](value[tag])
        return {name: decoded(entry) for name, entry in value.items()}

    return decoded


def dtype_text(array: Array) -> str:
    """Return the name of the dtype in which an array is stored."""
    return stored_dtype(array.dtype).str


def tensor_digest(array: Array) -> bytes:
    """Return the digest of the dtype, the shape and the numbers of an array."""
    found = hashlib.blake2b(f"{dtype_text(array)} {array.shape}".encode(), digest_size=32)
    found.update(little(array))
    return found.digest()


def tensors_of(content: Any) -> set[str]:
    """Return the digests of all arrays that a description refers to."""
    if isinstance(content, list):
        return set().union(*map(tensors_of, content))
    if not isinstance(content, dict):
        return set()
    return set().union(
        *({entry} if tag == "$array" else tensors_of(entry) for tag, entry in content.items())
    )


def little(array: NDArray[Any], dtype: Any = None) -> bytes:
    """Return the bytes of an array, in its own or another dtype, as every machine reads them."""
    return array.astype(stored_dtype(np.dtype(dtype or array.dtype)), copy=False).tobytes()


def stored_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the little-endian dtype, in which arrays are stored on every machine."""
    return dtype.newbyteorder("<")


def packed(codes: NDArray[np.int32]) -> bytes:
    """Return the codes of a grid, compressed: their differences are mostly 0 and 1."""
    columns = np.ascontiguousarray(codes.T, "<i4")
    # Differences of 32-bit integers may overflow, and the sums then overflow back.
    columns[:, 1:] -= columns[:, :-1].copy()
    return zlib.compress(columns.tobytes(), 1)


def unpacked(content: bytes, n_axes: int, n_cells: int) -> NDArray[np.int32]:
    """Return the codes of a grid, of shape (n_cells, n_axes)."""
    columns = np.frombuffer(zlib.decompress(content), "<i4").reshape(n_axes, n_cells)
    codes: NDArray[np.int32] = np.empty((n_cells, n_axes), np.int32)
    for code, column in zip(codes.T, columns, strict=True):
        np.cumsum(column, dtype=np.int32, out=code)
    return codes
