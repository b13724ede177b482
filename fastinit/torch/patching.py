"""Sessions: code of others that calls ``torch.nn.init`` fills through the functions of fastinit."""

import itertools
import threading
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.overrides import TorchFunctionMode

from fastinit.initializers.fills import Fill
from fastinit.initializers.target import Seed, key_of
from fastinit.torch.devices import COMPLEX, REAL
from fastinit.torch.functions import (
    SESSION,
    constant_,
    dirac_,
    eye_,
    fill_alone,
    kaiming_normal_,
    kaiming_uniform_,
    normal_,
    ones_,
    orthogonal_,
    sparse_,
    trunc_normal_,
    uniform_,
    xavier_normal_,
    xavier_uniform_,
    zeros_,
)
from fastinit.torch.internals import without_modes


class Session(TorchFunctionMode, ABC):
    """While it is entered, ``torch.nn.init`` and tensors' own methods fill through this session."""

    @abstractmethod
    def fill(
        self, tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
    ) -> Tensor:
        """Take what a function would fill; as :class:`Filler`."""

    def __enter__(self) -> Any:
        _divert(1)
        self._token = SESSION.set(self)
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        SESSION.reset(self._token)
        _divert(-1)


_DIVERTED = (
    constant_, dirac_, eye_, kaiming_normal_, kaiming_uniform_, normal_, ones_, orthogonal_,
    sparse_, trunc_normal_, uniform_, xavier_normal_, xavier_uniform_, zeros_,
)  # fmt: skip
# PyTorch's functions themselves: others put wrappers of theirs into torch.nn.init.
TORCH: dict[Callable[..., Any], Any] = {ours: getattr(nn.init, ours.__name__) for ours in _DIVERTED}
_LOCK = threading.Lock()
_depth = 0


def _detour(
    *args: Any,
    _ours: Any = None,
    _original: Any = None,
    _session: Any = None,
    _without_modes: Any = None,
    **keywords: Any,
) -> Any:
    # All names are arguments: this code runs with the globals of torch.nn.init.
    if _session.get() is None:  # another thread, which keeps PyTorch's own function
        return _original(*args, **keywords)
    # Without a call of the session for every attribute of a tensor.
    with _without_modes():
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
            for ours, function in TORCH.items():
                function.__kwdefaults__ = {
                    "_ours": ours,
                    "_original": _ORIGINALS[ours],
                    "_session": SESSION,
                    "_without_modes": without_modes,
                }
                function.__code__ = _detour.__code__
        elif _depth == 0:
            for ours, function in TORCH.items():
                original = _ORIGINALS[ours]
                function.__code__ = original.__code__
                function.__kwdefaults__ = original.__kwdefaults__


def _copy_of(function: Any) -> types.FunctionType:
    copied = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


_ORIGINALS = {ours: _copy_of(function) for ours, function in TORCH.items()}


class _Patch(Session):
    """Fill at once, with the next stream of one seed."""

    def __init__(self, seed: Seed) -> None:
        super().__init__()
        self.key = None if seed is None else key_of(seed)
        self.streams = itertools.count()

    def fill(
        self, tensor: Tensor, fill: Fill, generator: Generator | None, seed: Seed, stream: int
    ) -> Tensor:
        """Fill at once."""
        if generator is None and seed is None and self.key is not None:
            seed, stream = self.key, next(self.streams)
        return fill_alone(tensor, fill, generator, seed, stream)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (ours := _METHODS.get(func)) is not None:
            kwargs = renamed(kwargs)
            if args[0].requires_grad and torch.is_grad_enabled():
                # Unlike the functions of torch.nn.init, it is an operation of autograd.
                return args[0].copy_(ours(torch.empty_like(args[0]), *args[1:], **kwargs))
            return ours(*args, **kwargs)
        if (factory := FACTORIES.get(func)) is not None:
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
FACTORIES: dict[Any, tuple[Callable[..., Tensor], Callable[..., Tensor]]] = {
    torch.randn: (torch.empty, normal_),
    torch.rand: (torch.empty, uniform_),
    torch.randn_like: (torch.empty_like, normal_),
    torch.rand_like: (torch.empty_like, uniform_),
}


def renamed(keywords: dict[str, Any]) -> dict[str, Any]:
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
