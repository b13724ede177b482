"""Whole modules: filling them, and planning what fills them elsewhere."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fastinit.comparison.tables import Table
from fastinit.initializers.fills import (
    Fill,
    Shape,
    Window,
    std_of,
    stream_of,
    streams_of,
    takes_stacks,
)
from fastinit.initializers.target import Seed, Sources, key_of
from fastinit.torch.devices import COMPLEX, PINNED, PLAIN, fill_piece, is_direct, is_drawn
from fastinit.torch.entries import WRAPPERS, Entry, entries_of, materialise
from fastinit.torch.internals import copy_each, is_fake
from fastinit.torch.rules import Rules, fills_of
from fastinit.torch.sharding import fill_tensor, is_dtensor, pieces_of, reshard
from fastinit.validation import check_integer

# Tensors of at most this many elements are filled together with others of the same kind, in stacks
# of at most BATCH elements: a call of an initialiser takes longer than to fill 10,000 elements.
SMALL, BATCH = 1 << 14, 1 << 19


def initialize(
    module: nn.Module,
    rules: Rules | None = None,
    *,
    seed: Seed,
    threads: int | None = None,
    device: torch.device | str | None = None,
    prefix: str = "",
) -> Table:
    """Fill all parameters of a module in place.

    The values of a parameter depend on the seed, its full name, its shape, its dtype and its rule.
    They do not depend on other parameters or their order, on pipeline stages, on sharding or on the
    number of processes: of DTensors, each process fills its own part, without communication.

    Parameters
    ----------
    module : torch.nn.Module
        Parameters on the meta device are materialised. Shared parameters are filled once.
    rules : dict or callable, optional
        A dict maps patterns of full names (``"encoder.*.weight"``, as in :mod:`fnmatch`, or a
        compiled regular expression that matches the whole name) or types of modules, whose own
        parameters they stand for, to schemes. The first that matches counts. A scheme is a name of
        ``fastinit.initializers.names()``, an initialiser, a function of ``torch.nn.init`` or of
        this module, a partial of one, a number, or ``"reset_parameters"`` for what the function
        ``reset_parameters`` of the module does, which is the default for all modules. Initialisers
        that depend on fans fill a bias of one axis as they fill those of a :class:`Network`.

        A callable initialises one module, as for ``Module.apply``, such as ``model._init_weights``
        of transformers. It is called for every module, children first. What it does not fill is
        filled as by default.
    seed : int, SeedSequence, Generator or RandomState
        With DTensors or several processes, the same on each of them.
    threads : int, optional
        Maximum number of threads; all usable cores by default. The values do not depend on it.
    device : torch.device or str, optional
        Where meta tensors are materialised: by default on that of its mesh for a DTensor, otherwise
        on the CPU.
    prefix : str, default ""
        What precedes the names of this module in the whole model, such as ``"layers.4."`` for a
        stage of a pipeline.

    Returns
    -------
    Table
        A row for each tensor that was filled: its name, shape, scheme, and the standard deviation
        of its distribution, None if it is unknown.

    Raises
    ------
    ValueError
        If no rule matches a parameter, or if its function does what cannot be recorded; the error
        lists all such parameters. If a pattern matches no parameter, unless there is a prefix.
        Nothing is filled before all rules and their arguments are checked.

    Notes
    -----
    The functions of modules are not run on the parameters, but recorded: calls of
    ``torch.nn.init`` and of ``normal_``, ``uniform_``, ``fill_``, ``zero_`` and ``copy_``. What
    they fill besides, such as running means, is filled too.

    The stream of a tensor is the BLAKE2b hash of its name, without the parts that
    ``torch.compile`` and activation checkpointing add. A shared parameter has the name that
    comes first in alphabetical order. ``orthogonal`` multiplies whole matrices, so the last bits of
    its values depend on the BLAS.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3))
    >>> initialize(model, seed=0)
    name      shape   scheme            std
    --------  ------  ----------------  --------
    0.weight  (3, 4)  kaiming_uniform_  0.288675
    0.bias    (3,)    uniform_          0.288675
    1.weight  (3,)    ones_             0
    1.bias    (3,)    zeros_            0
    >>> rules = {nn.Linear: "he_normal", "*": "reset_parameters"}
    >>> table = initialize(model, rules, seed=0)
    >>> table[0]["scheme"]
    'he_normal'
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a Module; got {type(module).__name__}")
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module = module.module
    if threads is not None:
        threads = check_integer("threads", threads, 1)
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a string; got {type(prefix).__name__}")
    if device is not None and torch.device(device).type == "meta":
        raise ValueError("device: expected one whose tensors have values; got meta")
    reshard(module)
    named = list(module.named_modules(remove_duplicate=False))
    entries = entries_of(named, prefix)
    fills = fills_of(_unnamed(named), entries, rules, prefix)
    tasks = _check_fills(entries, fills)
    if seed is None and any(is_dtensor(task.entry.tensor) for task in tasks):
        raise ValueError("seed: expected the same seed on every process for DTensors; got None")
    key = key_of(seed)
    materialise(module, entries, device)
    filled: list[str] = []
    try:
        with torch.no_grad():
            for batch in _batches(tasks):
                _fill_batch(batch, key, threads)
                filled += [task.entry.name for task in batch]
    except BaseException as error:
        names = ", ".join(filled) or "none"
        error.add_note(f"initialize: these tensors were filled before the error: {names}")
        raise
    return Table(
        [
            {
                "name": task.entry.name,
                "shape": task.shape,
                "scheme": task.fill.name,
                "std": task.std,
            }
            for task in tasks
        ]
    )


def _unnamed(named: list[tuple[str, nn.Module]]) -> list[nn.Module]:
    return list(dict.fromkeys(part for _, part in named))


class _Task(NamedTuple):
    """What fills an entry, after all checks.

    ``alike`` is the same for tensors that differ in names only, and 0 for a tensor that is not
    filled together with others.
    """

    entry: Entry
    fill: Fill
    shape: Shape
    std: float | None
    alike: int


def _check_fills(entries: list[Entry], fills: list[Fill | None]) -> list[_Task]:
    """Fill an empty window of each tensor, which checks all arguments; return the tasks."""
    checked: dict[Any, tuple[float | None, int]] = {}
    tasks = []
    for entry, fill in zip(entries, fills, strict=True):
        if fill is None:
            continue
        tensor, function = entry.tensor, fill.function
        shape, dtype = tuple(tensor.shape), tensor.dtype
        std: float | None = 0.0
        alike = 0
        try:
            is_plain = type(tensor) in PLAIN
            if sharded := not is_plain and is_dtensor(tensor):
                pieces_of(tensor)
            fake = not is_plain and is_fake(tensor)
            if fake or tensor.layout is not torch.strided:
                kind = "a FakeTensor" if fake else f"{tensor.layout}"
                raise TypeError(f"module: expected tensors with memory of their own; got {kind}")
            if function is not None:
                if not tensor.is_meta and not tensor.is_contiguous():
                    is_direct(tensor, function)
                key = (function, tuple(fill.keywords.items()), shape, dtype)
                if (known := checked.get(key)) is None:
                    _try(fill, shape, dtype)
                    small = 0 < math.prod(shape) <= SMALL and takes_stacks(function)
                    std = std_of(function, fill.keywords, shape, dtype in COMPLEX)
                    known = checked[key] = std, len(checked) + 1 if small else 0
                std, alike = known
                if sharded or fill.rows:
                    alike = 0
            elif isinstance(value := fill.keywords["value"], Tensor):
                std = float(value.double().std(correction=0)) if value.numel() else 0.0
            elif (constant := (repr(value), dtype)) not in checked:
                torch.empty(2, dtype=dtype).fill_(value)  # one element takes more numbers
                checked[constant] = std, 0
        except Exception as error:
            error.add_note(f"initialize: {entry.name} {shape} would be filled by {fill.name}")
            raise
        tasks.append(_Task(entry, fill, shape, std, alike))
    return tasks


def _try(fill: Fill, shape: Shape, dtype: torch.dtype) -> None:
    """Raise the errors that filling a tensor would raise."""
    assert fill.function is not None
    if not is_drawn(dtype, fill.function):
        dtype = torch.float32
    if 0 not in shape:
        out = torch.empty((0,) * len(shape), dtype=dtype)
        window = tuple(slice(0, 0) for _ in shape)
        fill.function(
            shape, **fill.keywords, out=out, seed=0, stream=0, window=window, threads=None
        )


def _batches(tasks: list[_Task]) -> Iterator[list[_Task]]:
    """Yield the tasks, small ones of the same kind together."""
    together: dict[int, list[_Task]] = {}
    for task in tasks:
        if task.alike:
            together.setdefault(task.alike, []).append(task)
        else:
            yield [task]
    for batch in together.values():
        most = max(BATCH // max(math.prod(batch[0].shape), 1), 1)
        for start in range(0, len(batch), most):
            yield batch[start : start + most]


def _fill_batch(batch: list[_Task], key: int, threads: int | None) -> None:
    """Fill one tensor, or several of the same kind as a stack that is copied from."""
    entry, fill, shape, *_ = batch[0]
    if len(batch) == 1 or fill.function is None:
        for task in batch:
            stream = stream_of(task.entry.name)
            fill_tensor(task.entry.tensor, fill, key, stream, threads)
        return
    pairs = np.empty((len(batch), 2), np.uint64)
    pairs[:, 0] = key
    pairs[:, 1] = streams_of([task.entry.name for task in batch])
    pinned = entry.tensor.device.type in PINNED
    stack = torch.empty((len(batch), *shape), dtype=entry.tensor.dtype, pin_memory=pinned)
    fill.function(shape, **fill.keywords, out=stack, seed=Sources(pairs), threads=threads)
    copy_each([task.entry.tensor for task in batch], stack.unbind(), pinned)


# --- tensors that are filled elsewhere ------------------------------------------------------------


class Planned(NamedTuple):
    """A tensor of a module's state, and what fills it.

    ``names`` holds all of its names in the state.
    """

    names: list[str]
    tensor: Tensor
    stream: int
    fill: Fill
    std: float | None

    def write(
        self, memory: NDArray[np.uint8], window: Window, key: int, threads: int | None = 1
    ) -> None:
        """Fill memory, contiguous, with the values that :func:`initialize` gives to a window."""
        lengths = [part.stop - part.start for part in window]
        piece = torch.from_numpy(memory).view(self.tensor.dtype).view(lengths)
        shape = tuple(self.tensor.shape)
        fill_piece(piece, self.fill, shape, window, key, self.stream, threads)


def plan(
    module: nn.Module,
    rules: Rules | None = None,
    *,
    prefix: str = "",
    reset: Callable[[nn.Module], object] | None = None,
) -> list[Planned]:
    """Return what :func:`initialize` would fill each tensor of ``module.state_dict()`` with.

    Nothing is filled, so the module may be on the meta device. Buffers keep their values unless a
    function of their module fills them.

    Parameters
    ----------
    module, rules, prefix
        As for :func:`initialize`.
    reset : callable, optional
        What initialises a module, after its own ``reset_parameters``.

    Returns
    -------
    list of Planned
        In the order of the state.

    Raises
    ------
    TypeError, ValueError
        As for :func:`initialize`, and if the state holds anything but parameters and buffers.

    Examples
    --------
    >>> [(each.names, each.fill.name) for each in plan(nn.Linear(3, 2))]
    [(['weight'], 'kaiming_uniform_'), (['bias'], 'uniform_')]
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"module: expected a Module; got {type(module).__name__}")
    named = list(module.named_modules(remove_duplicate=False))
    entries = entries_of(named, prefix)
    places = {id(entry.tensor): i for i, entry in enumerate(entries)}
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in places:
            raise ValueError(
                f"module: expected parameters and buffers alone in its state; got {name} of "
                f"{type(tensor).__name__}"
            )
        names.setdefault(id(tensor), []).append(WRAPPERS.sub("", prefix + name))
    fills = fills_of(_unnamed(named), entries, rules, prefix, reset, places.keys() - names.keys())
    tasks = {id(task.entry.tensor): task for task in _check_fills(entries, fills)}
    found = []
    for key, own in names.items():
        entry = entries[places[key]]
        fill, std = Fill("kept", None, {"value": entry.tensor.detach()}), None
        if key in tasks:
            fill, std = tasks[key].fill, tasks[key].std
        found.append(Planned(own, entry.tensor, stream_of(entry.name), fill, std))
    return found
