"""DTensors: the part of the whole tensor that this process holds, and how to fill it."""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import increment_version

from fastinit.initializers.fills import Fill, Window, needs_whole
from fastinit.torch.devices import fill_piece

Runs = list[tuple[int, int]]


def is_dtensor(tensor: Tensor) -> bool:
    """Return whether a tensor is distributed over several processes."""
    # Whoever made a DTensor has imported the module, which takes long.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(tensor, module.DTensor)


def reshard(module: nn.Module) -> None:
    """Let modules of FSDP hold their sharded parameters, which last, instead of gathered copies."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    if fsdp is None:
        return
    for part in module.modules():
        if isinstance(part, fsdp.FullyShardedDataParallel):
            raise TypeError(
                "module: expected one of fully_shard(); got FullyShardedDataParallel, whose "
                "parameters have lost their shapes"
            )
        if isinstance(part, fsdp.FSDPModule):
            part.reshard()


def fill_tensor(
    tensor: Tensor, fill: Fill, key: int, stream: int, threads: int | None = None
) -> None:
    """Fill a tensor in place, without gradients: the own part, if it is a DTensor."""
    shape = tuple(tensor.shape)
    if not is_dtensor(tensor):
        fill_piece(tensor, fill, shape, None, key, stream, threads)
        return
    local, pieces = pieces_of(tensor)
    if needs_whole(fill.function) and len(pieces) > 1:
        source = torch.empty(shape, dtype=local.dtype)
        fill_piece(source, fill, shape, None, key, stream, threads)
        fill = Fill(fill.name, None, {"value": source}, fill.rows)
    for part, window in pieces:
        fill_piece(local[part], fill, shape, window, key, stream, threads)
    increment_version(tensor)


def pieces_of(tensor: Any) -> tuple[Tensor, list[tuple[Window, Window]]]:
    """Return the local part of a DTensor, and its pieces: where they are in it, and in the whole.

    The placements are applied as PyTorch does, from the first to the last dimension of the mesh.
    """
    mesh = tensor.device_mesh
    local = tensor.to_local()
    runs = [[(0, n)] if n else [] for n in tensor.shape]
    coordinate = mesh.get_coordinate()
    if coordinate is None:  # this process is not in the mesh
        return local, []
    for i, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            continue
        factor = getattr(placement, "split_factor", None)  # that of _StridedShard
        if placement.is_partial() or (factor is None and not placement.is_shard()):
            raise ValueError(f"tensor: expected shards or replicas; got a DTensor with {placement}")
        axis, k, own = placement.dim, mesh.size(i), coordinate[i]
        parts = [_chunk(runs[axis], factor or 1, part) for part in range(factor or 1)]
        runs[axis] = _joined(run for part in parts for run in _chunk(part, k, own))
    axes = []
    for axis in runs:
        starts = itertools.accumulate((stop - start for start, stop in axis), initial=0)
        axes.append(
            [
                (slice(first, first + stop - start), slice(start, stop))
                for first, (start, stop) in zip(starts, axis, strict=False)
            ]
        )
    found = tuple(sum(part.stop - part.start for _, part in axis) for axis in axes)
    if tuple(local.shape) != found:
        raise ValueError(
            f"tensor: expected a local part of shape {found} for {tensor.placements} of "
            f"{tuple(tensor.shape)}; got {tuple(local.shape)}"
        )
    pieces = [
        (tuple(own for own, _ in piece), tuple(there for _, there in piece))
        for piece in itertools.product(*axes)
    ]
    return local, pieces


def _chunk(runs: Runs, count: int, index: int) -> Runs:
    """Return a chunk of the indices in some intervals, cut as ``torch.chunk`` does."""
    n = sum(stop - start for start, stop in runs)
    size = -(-n // count)
    low, high = min(index * size, n), min((index + 1) * size, n)
    found, before = [], 0
    for start, stop in runs:
        first, last = max(start, start + low - before), min(stop, start + high - before)
        if first < last:
            found.append((first, last))
        before += stop - start
    return found


def _joined(runs: Iterator[tuple[int, int]]) -> Runs:
    """Return intervals with those joined that follow each other directly."""
    found: Runs = []
    for start, stop in runs:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
