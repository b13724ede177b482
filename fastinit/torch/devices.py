"""Filling memory: that of the CPU directly, that of devices by their kernels or by copies."""

import importlib
import math
import os
import types
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from fastinit.initializers.fills import (
    FIXED,
    Fill,
    Shape,
    Window,
    draw_of,
    needs_whole,
    takes_complex,
)
from fastinit.torch.internals import is_fake

REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
COMPLEX = (torch.complex64, torch.complex128)
PLAIN = (Tensor, nn.Parameter)
# Elements of a buffer on the CPU, for tensors whose memory cannot be written directly.
CHUNK = 1 << 24
# The types of devices that copy from pinned memory while the CPU goes on.
PINNED = ("cuda", "xpu")


def fill_piece(
    piece: Tensor,
    fill: Fill,
    shape: Shape,
    window: Window | None,
    key: int,
    stream: int,
    threads: int | None,
) -> None:
    """Fill a tensor that is the window of a whole one of some shape; all of it by default."""
    if piece.is_meta or not piece.numel() or is_fake(piece):
        return
    function, keywords = fill.function, fill.keywords
    if function is None:
        value = keywords["value"]
        if isinstance(value, Tensor):
            piece.copy_(value if window is None else value[window])
        else:
            piece.fill_(value)
    else:
        make = partial(function, shape, **keywords, seed=key, stream=stream, threads=threads)
        direct = is_direct(piece, function)
        if direct and _draw_on_device(piece, fill, shape, window, key, stream):
            increment_version(piece)
        elif direct and piece.is_cpu:
            make(out=piece, window=window)
            increment_version(piece)
        else:
            _fill_by_copies(piece, function, make, window or whole_window(shape))
    for row, number in fill.rows:
        own = row if window is None else row - window[0].start
        if 0 <= own < len(piece):
            piece[own].fill_(number)


def whole_window(shape: Shape) -> Window:
    """Return the window that is the whole of a tensor."""
    return tuple(slice(0, n) for n in shape)


def _draw_on_device(
    piece: Tensor, fill: Fill, shape: Shape, window: Window | None, key: int, stream: int
) -> bool:
    """Fill a tensor by the kernels of its own device, and return whether there are any."""
    function = fill.function
    kernels = _kernels_of(piece.device.type)
    if kernels is None or function is None:
        return False
    kind = str(piece.dtype).removeprefix("torch.")
    draw = draw_of(function, fill.keywords, shape, kind, key, stream)
    if draw is None or not kernels.agrees(draw.kernel, piece.dtype, piece.device):
        return False
    kernels.draw(piece, draw, shape, window or whole_window(shape))
    return True


@lru_cache
def _kernels_of(device: str) -> types.ModuleType | None:
    """Return the module that draws on a type of device."""
    if device != "cuda" or torch.version.hip or os.environ.get("FASTINIT_TRITON") == "0":
        return None
    try:
        return importlib.import_module("fastinit.triton")
    except ImportError:
        return None


class _Buffer:
    """Memory on the CPU, to be copied to a device; pinned, so that the device copies on its own."""

    def __init__(self, size: int, dtype: torch.dtype, device: torch.device) -> None:
        self.device = device
        self.pinned = device.type in PINNED
        self.memory = torch.empty(size, dtype=dtype, pin_memory=self.pinned)
        self.copied = torch.Event(device) if self.pinned else None

    def take(self, shape: Shape) -> Tensor:
        """Return memory to write to, after the last copy from it."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.memory[: math.prod(shape)].view(shape)

    def send(self, target: Tensor) -> None:
        """Copy to a tensor on the device, or start to."""
        values = self.memory[: target.numel()].view(target.shape)
        target.copy_(values, non_blocking=self.pinned)
        if self.copied is not None:
            self.copied.record(torch.accelerator.current_stream(self.device))


def _fill_by_copies(
    piece: Tensor, function: Callable[..., Any], make: Callable[..., Any], window: Window
) -> None:
    """Fill a tensor whose memory the kernels cannot write to: another device, or another dtype.

    A device copies from one of two buffers while the next chunk is made in the other.
    """
    dtype = piece.dtype if is_drawn(piece.dtype, function) else torch.float32
    buffers: list[_Buffer] = []
    for i, (target, part) in enumerate(_chunks(piece, window, function)):
        if i < 2:  # the first chunk is as large as any
            buffers.append(_Buffer(target.numel(), dtype, piece.device))
        buffer = buffers[i % 2]
        make(out=buffer.take(tuple(target.shape)), window=part)
        buffer.send(target)


def _chunks(
    piece: Tensor, window: Window, function: Callable[..., Any]
) -> Iterator[tuple[Tensor, Window]]:
    """Yield parts of a tensor with at most CHUNK elements, and their windows."""
    if needs_whole(function) or piece.numel() <= CHUNK:
        yield piece, window
        return
    axis = next(axis for axis, n in enumerate(piece.shape) if n > 1)
    n, start = piece.shape[axis], window[axis].start
    size = max(CHUNK * n // piece.numel(), 1)
    for i in range(0, n, size):
        stop = min(i + size, n)
        limits = (*window[:axis], slice(start + i, start + stop), *window[axis + 1 :])
        yield from _chunks(piece.narrow(axis, i, stop - i), limits, function)


def is_direct(piece: Tensor, function: Callable[..., Any]) -> bool:
    """Return whether the kernels of a tensor's device can write to its memory."""
    if (
        type(piece) not in PLAIN
        or piece.layout is not torch.strided
        or piece.is_conj()
        or piece.is_neg()
    ):
        return False
    if not piece.is_contiguous() and any(
        n > 1 and not stride for n, stride in zip(piece.shape, piece.stride(), strict=True)
    ):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a "
            "single memory location. Please clone() the tensor before performing the operation."
        )
    return is_drawn(piece.dtype, function)


def is_drawn(dtype: torch.dtype, function: Callable[..., Any]) -> bool:
    """Return whether an initialiser has values of a dtype; raise if they cannot be converted."""
    if dtype in REAL or (dtype in COMPLEX and takes_complex(function)):
        return True
    if function not in FIXED:
        name = getattr(function, "__name__", type(function).__name__)
        raise NotImplementedError(f'"{name}" not implemented for {dtype}')
    return False
