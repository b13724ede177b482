"""Recording what a function that initialises would fill, without filling."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Generator, Tensor

from fastinit.initializers.fills import Fill
from fastinit.initializers.target import Seed
from fastinit.torch.functions import constant_, normal_, uniform_, zeros_
from fastinit.torch.patching import FACTORIES, Session, renamed


class RefusedError(Exception):
    """A function that initialises does what cannot be recorded."""


class Recorder(Session):
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
        """Record what fills a tensor."""
        key = id(tensor)
        if key in self.rows:
            whole, row = self.rows[key]
            if fill.function is not None or id(whole) not in self.found:
                raise RefusedError(f"fills a row by {fill.name}")
            before = self.found[id(whole)]
            name = f"{before.name}, row {row} {fill.name}"
            rows = (*before.rows, (row, fill.keywords["value"]))
            self.found[id(whole)] = before._replace(name=name, rows=rows)
        elif key in self.tainted:
            raise RefusedError(f"fills a part or a result by {fill.name}")
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
            return _RECORDED[name](*args, **renamed(kwargs))
        if func in FACTORIES and kwargs.get("out") is None:
            make, ours = FACTORIES[func]
            return ours(make(*args, **{k: v for k, v in kwargs.items() if k != "generator"}))
        known = [tensor for tensor in _tensors_of(args, kwargs) if self._is_known(tensor)]
        if not known:
            result = func(*args, **kwargs)
            if _is_random(name):  # the seed does not determine what is computed from it
                self.tainted.update((id(each), each) for each in _tensors_of((result,), {}))
            return result
        if name == "detach" or getattr(func, "__self__", None) is Tensor.data:
            if name == "__set__":
                raise RefusedError("assigns its data")
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
            raise RefusedError(f"changes it by {name}")
        if name in _READS:
            raise RefusedError(f"reads its values by {name}")
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
            raise RefusedError("copies values that depend on others")
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
