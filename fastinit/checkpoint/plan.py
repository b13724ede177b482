"""What a checkpoint holds: the tensors, and what fills each of them."""

import importlib
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastinit.calls import calls_of
from fastinit.initializers import sparse
from fastinit.initializers.fills import (
    Fill,
    Shape,
    Window,
    check_matches,
    fill_array,
    fill_of,
    needs_whole,
    pattern_of,
    scheme_of,
    std_of,
    stream_of,
)
from fastinit.initializers.scheme import called
from fastinit.initializers.target import LARGEST, PARTS, REAL, check_shape
from fastinit.training.files import parsed_json
from fastinit.validation import as_float, check_integer, check_name

# The longest JSON text that is read, in bytes: that of a header that readers accept.
MOST_JSON = 100_000_000


class DType(NamedTuple):
    """A dtype under its name in safetensors files, and the dtype of NumPy that holds its bits."""

    code: str
    storage: np.dtype[Any]


# The dtypes of a JSON file by name.
DTYPES = {
    **{
        name: DType(code, np.dtype(name))
        for name, code in {
            "float64": "F64", "float32": "F32", "float16": "F16", "complex64": "C64",
            "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
            "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
        }.items()
    },
    "bfloat16": DType("BF16", np.dtype(np.uint16)),
}  # fmt: skip
# The names of PyTorch's dtypes in safetensors files, beyond those.
CODES = {
    **{name: dtype.code for name, dtype in DTYPES.items()},
    "float8_e4m3fn": "F8_E4M3", "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2", "float8_e5m2fnuz": "F8_E5M2FNUZ",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a checkpoint.

    Attributes
    ----------
    name : str
    shape : tuple of int
    dtype : str
        One of the names in ``CODES``.
    itemsize : int
    fill : Fill
    std : float or None
    write : callable
        ``write(memory, window, key, threads=1)`` fills contiguous bytes with the values of a
        window.
    others : tuple of str
        Other names of the same tensor, which the checkpoint does not contain.
    """

    name: str
    shape: Shape
    dtype: str
    itemsize: int
    fill: Fill
    std: float | None
    write: Callable[..., None]
    others: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The name of the dtype in safetensors files."""
        return CODES[self.dtype]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.itemsize

    @property
    def needs_whole(self) -> bool:
        """Whether parts take as long to compute as the whole tensor."""
        function = self.fill.function
        base = function.func if isinstance(function, partial) else function
        return needs_whole(function) or base is sparse

    @property
    def identity(self) -> str:
        """Text that differs from that of another tensor if the values do."""
        return repr((self.name, self.dtype, self.shape, _identity(self.fill)))


def _identity(value: Any) -> Any:
    if isinstance(value, partial):
        return _identity(value.func), _identity(value.args), _identity(value.keywords)
    if isinstance(value, Mapping):
        return {key: _identity(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_identity(each) for each in value]
    if hasattr(value, "untyped_storage"):  # a tensor of PyTorch: its bytes, of any dtype
        value = value.cpu().contiguous().view(-1).view(importlib.import_module("torch").uint8)
        value = value.numpy()
    if isinstance(value, np.ndarray):
        digest = blake2b(np.ascontiguousarray(value).tobytes(), digest_size=16).hexdigest()
        return value.shape, value.dtype.str, digest
    if callable(value):
        return getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(type(value)))
    return value


@dataclass
class Plan:
    """The tensors of a checkpoint, in their order, and what else belongs into its folder.

    ``files`` maps names of files to their contents.
    """

    tensors: list[Tensor]
    files: dict[str, bytes] = field(default_factory=dict)


def plan_of(model: Any, rules: Any = None, *, dtype: str | None = None, prefix: str = "") -> Plan:
    """Return the plan of a checkpoint.

    Parameters
    ----------
    model, rules, dtype, prefix
        As for :func:`fastinit.checkpoint.write`.

    Returns
    -------
    Plan

    Raises
    ------
    TypeError, ValueError
        For invalid arguments, and tensors that no rule matches.

    Examples
    --------
    >>> plan = plan_of({"w": {"shape": [2, 3], "scheme": "he_normal"}})
    >>> plan.tensors[0].nbytes
    24
    """
    if isinstance(rules, Mapping):
        rules = {where: _rule(rule) for where, rule in rules.items()}
    if isinstance(model, (str, os.PathLike)):
        path = Path(model)
        if path.is_dir():
            found = _of_configuration(path, rules, dtype, prefix)
        else:
            found = Plan(_of_mapping(_read(path), rules, dtype, prefix))
    elif isinstance(model, Mapping):
        found = Plan(_of_mapping(model, rules, dtype, prefix))
    elif hasattr(model, "named_modules"):
        if dtype is not None:
            raise TypeError(
                f"dtype: expected none for a module, whose tensors have their own; got {dtype!r}"
            )
        found = Plan(_of_module(model, rules, prefix))
    else:
        raise TypeError(
            f"model: expected a module of PyTorch, a path or a mapping; got {type(model).__name__}"
        )
    if not found.tensors:
        raise ValueError("model: expected at least one tensor; got none")
    return found


# --- names, shapes and schemes --------------------------------------------------------------------


def _read(path: Path) -> Mapping[str, Any]:
    if path.exists() and not path.is_file():  # reading a pipe may block forever
        raise ValueError(f"model: expected a file or a folder; got something else at {str(path)!r}")
    with open(path, "rb") as file:
        text = file.read(MOST_JSON + 1)
    if len(text) > MOST_JSON:
        raise ValueError(f"model: expected at most {MOST_JSON:,} bytes of JSON; got more")
    try:
        found = parsed_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"model: expected JSON, or a folder with config.json; got {str(path)!r}: {error}"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"model: expected a JSON object; got {type(found).__name__}")
    return found


def _of_mapping(
    model: Mapping[str, Any], rules: Any, dtype: str | None, prefix: str
) -> list[Tensor]:
    if rules is not None and not isinstance(rules, Mapping):
        raise TypeError(f"rules: expected a dict; got {type(rules).__name__}")
    patterns = [(pattern_of(where), rule) for where, rule in (rules or {}).items()]
    if not prefix:  # a part of a model takes the rules of the whole
        check_matches(rules or (), [str(name) for name in model])
    shapes: dict[str, Shape] = {}
    for name, entry in model.items():
        if not isinstance(name, str):
            raise TypeError(f"model: expected names of tensors; got {name!r}")
        with _about(name):
            shapes[name] = _shape_of(entry)
    found, missing = [], []
    for name, entry in model.items():
        with _about(name):
            full = prefix + name
            check_tensor_name(full)
            kind = check_name("dtype", entry.get("dtype") or dtype or "float32", DTYPES)
            scheme = entry.get("scheme")
            if scheme is None:
                rule = (rule for where, rule in patterns if where.fullmatch(full))
                scheme = next(rule, None)
            if scheme is None:
                missing.append(f"{full} {shapes[name]}")
                continue
            before, _, key = name.rpartition(".")
            weight = shapes.get(f"{before}.".lstrip(".") + key.replace("bias", "weight"))
            fill = _fill(_rule(scheme), kind, key, shapes[name], weight)
            found.append(_tensor(full, shapes[name], kind, fill))
    if missing:
        lines = "\n  ".join(missing)
        raise ValueError(f"rules: expected one for every tensor; got none for\n  {lines}")
    return found


@contextmanager
def _about(name: str) -> Iterator[None]:
    """Begin the messages of errors with the name of a tensor."""
    try:
        yield
    except (TypeError, ValueError) as error:
        known = TypeError if isinstance(error, TypeError) else ValueError
        raise known(f"model: tensor {name!r}: {error}") from error


def _shape_of(entry: Any) -> Shape:
    if not isinstance(entry, Mapping):
        raise TypeError(f"expected an object with a shape; got {type(entry).__name__}")
    for key in entry:
        check_name("key", key, ("shape", "dtype", "scheme"))
    if "shape" not in entry:
        raise ValueError("shape: expected a list of integers; got none")
    shape = entry["shape"]
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"shape: expected a list of integers; got {shape!r}")
    return check_shape(shape)


def check_tensor_name(name: str) -> None:
    """Raise a ValueError for a name that a safetensors file cannot hold.

    Examples
    --------
    >>> check_tensor_name("__metadata__")
    Traceback (most recent call last):
        ...
    ValueError: name: expected that of a tensor; got '__metadata__', which is reserved
    """
    if not name or name == "__metadata__":
        raise ValueError(f"name: expected that of a tensor; got {name!r}, which is reserved")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"name: expected text in Unicode; got {name!r}") from None


def _rule(rule: Any) -> Any:
    """Return the rule of a text such as ``normal(std=0.02)`` or ``0``; other rules are kept."""
    if not isinstance(rule, str) or rule == "reset_parameters":
        return rule
    try:
        return float(rule)
    except ValueError:
        pass
    match calls_of(rule, "normal(std=0.02)"):
        case [[call]]:
            return called(call)
    raise ValueError(f"scheme: expected one; got {rule!r}")


def _fill(scheme: Any, dtype: str, key: str, shape: Shape, weight: Shape | None) -> Fill:
    if isinstance(scheme, (int, float)) and not isinstance(scheme, bool):
        return Fill(f"constant_({scheme})", None, {"value": _constant(scheme, dtype)})
    return fill_of(scheme_of(scheme), key, shape, weight)


def _constant(value: Any, dtype: str) -> Any:
    """Return a number that a tensor of some dtype can hold."""
    storage = DTYPES[dtype].storage
    if isinstance(value, float) and value.is_integer() and storage.kind in "iub":
        value = int(value)
    if dtype == "bool":
        return check_integer("scheme", value, 0, 2)
    if storage.kind in "iu" and dtype != "bfloat16":
        limits = np.iinfo(storage)
        return check_integer("scheme", value, int(limits.min), int(limits.max) + 1)
    number = as_float("scheme", value)
    if not abs(number) <= LARGEST[PARTS.get(dtype, dtype)]:
        raise ValueError(f"scheme: expected a finite {dtype}; got {number}")
    return number


def _tensor(name: str, shape: Shape, dtype: str, fill: Fill) -> Tensor:
    storage, stream = DTYPES[dtype].storage, stream_of(name)

    def write(memory: NDArray[np.uint8], window: Window, key: int, threads: int | None = 1) -> None:
        out = memory.view(storage).reshape([part.stop - part.start for part in window])
        fill_array(out, fill, dtype, shape, window, key, stream, threads)

    std: float | None = 0.0
    if fill.function is not None:
        if dtype not in (*REAL, *PARTS):
            name = getattr(fill.function, "__name__", fill.name)
            raise TypeError(f"dtype: expected a floating-point one for {name}; got {dtype}")
        if 0 not in shape:
            # An empty window, to check all arguments.
            out = np.empty((0,) * len(shape), storage)
            fill_array(out, fill, dtype, shape, (slice(0, 0),) * len(shape), 0, stream)
        std = std_of(fill.function, fill.keywords, shape) if 0 not in shape else None
    return Tensor(name, shape, dtype, storage.itemsize, fill, std, write)


# --- modules of PyTorch ---------------------------------------------------------------------------


def _of_module(
    module: Any, rules: Any, prefix: str, reset: Callable[[Any], object] | None = None
) -> list[Tensor]:
    from fastinit.torch.modules import plan

    ignored = getattr(module, "_keys_to_ignore_on_save", None) or ()
    # Names that transformers restores from others: those of the dict, or patterns in a list.
    tied = getattr(module, "all_tied_weights_keys", None)
    tied = getattr(module, "_tied_weights_keys", None) if tied is None else tied
    patterns = [re.compile(each) for each in tied or ()]
    found = []
    for planned in plan(module, rules, prefix=prefix, reset=reset):
        names = [name for name in planned.names if name.removeprefix(prefix) not in ignored]
        if not names:
            continue
        name = _name_of(names, patterns)
        check_tensor_name(name)
        dtype = str(planned.tensor.dtype).removeprefix("torch.")
        check_name(f"model: dtype of {name}", dtype, CODES)
        shape, others = tuple(planned.tensor.shape), tuple(each for each in names if each != name)
        size = planned.tensor.element_size()
        found.append(
            Tensor(name, shape, dtype, size, planned.fill, planned.std, planned.write, others)
        )
    return found


def _name_of(names: Sequence[str], tied: Iterable[re.Pattern[str]]) -> str:
    """Return the name under which a shared tensor is written."""
    if len(names) == 1:
        return names[0]
    own = [name for name in names if not any(each.search(name) for each in tied)]
    return min(own or names)


def _of_configuration(folder: Path, rules: Any, dtype: str | None, prefix: str) -> Plan:
    """Return the plan of the model of a folder with config.json, as transformers builds it."""
    if not (folder / "config.json").is_file():
        raise ValueError(f"model: expected a folder with config.json; got {str(folder)!r}")
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ImportError(
            f"model: a folder with config.json requires torch and transformers; {error}"
        ) from error
    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    if dtype is not None:
        check_name("dtype", dtype, REAL)
        config.dtype = getattr(torch, dtype)
    [architecture, *_] = getattr(config, "architectures", None) or [None]
    kind: Any = transformers.AutoModel
    if architecture is not None:
        kind = getattr(transformers, architecture, None)
    if kind is None:
        raise ValueError(f"model: expected an architecture of transformers; got {architecture!r}")
    with torch.device("meta"):
        # What from_config() of the automatic classes calls, for the architecture itself.
        build = getattr(kind, "_from_config", None) or kind.from_config
        module = build(config)
    if isinstance(rules, Mapping) and "*" not in rules:
        rules = {**rules, "*": "reset_parameters"}
    tensors = _of_module(module, rules, prefix, module._init_weights)
    module.config.architectures = [type(module).__name__]
    text = module.config.to_json_string()
    return Plan(tensors, {"config.json": text.encode()})
