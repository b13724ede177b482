"""Folders of ``torch.distributed.checkpoint``, written by PyTorch's own writer.

The tensors are written in pieces that are computed when the writer asks for them, so that the
memory does not depend on the model.
"""

import math
import os
import secrets
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import (
    LoadItemType,
    LoadPlan,
    ReadItem,
    SavePlan,
    TensorWriteData,
    WriteItem,
    WriteItemType,
)
from torch.distributed.checkpoint.state_dict_saver import save

from fastinit.checkpoint.plan import Plan, Tensor
from fastinit.checkpoint.shards import check_space
from fastinit.initializers.fills import Shape, Window
from fastinit.training.progress import Display

# The most bytes of a piece, where the shape permits.
PIECE = 16 << 20


def _pieces(shape: Shape, most: int) -> Iterator[Window]:
    """Yield contiguous windows of at most some number of elements that make up an array."""
    if not shape:
        yield ()
        return
    n, *inner = shape
    row = math.prod(inner)
    whole = tuple(slice(0, length) for length in inner)
    if row <= most:
        height = most // max(row, 1)
        for start in range(0, max(n, 1), height):
            yield slice(start, min(start + height, n)), *whole
        return
    for i in range(n):
        for window in _pieces(tuple(inner), most):
            yield slice(i, i + 1), *window


def _windows(tensor: Tensor) -> list[Window]:
    if tensor.needs_whole:
        return [tuple(slice(0, n) for n in tensor.shape)]
    return list(_pieces(tensor.shape, max(PIECE // tensor.itemsize, 1)))


def _dtype(tensor: Tensor) -> torch.dtype:
    found: torch.dtype = getattr(torch, tensor.dtype)
    return found


class _Values:
    """The pieces of tensors, in memory that is used for one after another."""

    def __init__(self, plan: Plan, key: int, threads: int | None, display: Display) -> None:
        self.tensors = {tensor.name: tensor for tensor in plan.tensors}
        self.key, self.threads, self.display = key, threads, display
        self.memory = np.empty(PIECE, np.uint8)

    def __call__(self, name: str, offsets: Shape, sizes: Shape) -> torch.Tensor:
        tensor = self.tensors[name]
        nbytes = math.prod(sizes) * tensor.itemsize
        # The writer keeps the last piece of each tensor, so all of them must be this memory.
        if len(self.memory) < nbytes:
            self.memory = np.empty(nbytes, np.uint8)
        memory = self.memory[:nbytes]
        if nbytes:
            window = tuple(slice(a, a + n) for a, n in zip(offsets, sizes, strict=True))
            tensor.write(memory, window, self.key, self.threads)
        self.display.advance(nbytes)
        return torch.from_numpy(memory).view(_dtype(tensor)).view(sizes)


class _SavePlanner(DefaultSavePlanner):
    """Plan pieces of tensors, and compute each when it is written."""

    def __init__(self, plan: Plan, values: _Values) -> None:
        super().__init__()
        self.contents, self.values = plan, values

    def create_local_plan(self) -> SavePlan:
        items = []
        for tensor in self.contents.tensors:
            properties = TensorProperties(dtype=_dtype(tensor))
            for i, window in enumerate(_windows(tensor)):
                offsets = torch.Size([part.start for part in window])
                sizes = torch.Size([part.stop - part.start for part in window])
                data = TensorWriteData(
                    ChunkStorageMetadata(offsets, sizes), properties, torch.Size(tensor.shape)
                )
                index = MetadataIndex(tensor.name, offsets, i)
                items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=data))
        self.plan = SavePlan(items, planner_data=self.mappings)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        chunk = write_item.tensor_data.chunk  # type: ignore[union-attr]
        return self.values(write_item.index.fqn, tuple(chunk.offsets), tuple(chunk.sizes))


def write(
    plan: Plan, folder: Path, key: int, *, overwrite: bool, threads: int | None, progress: bool
) -> None:
    """Write a checkpoint to a folder that gets its name when everything is on the disk."""
    _check_free(folder, overwrite)
    folder = folder.resolve()  # a link to a folder is kept
    size = sum(tensor.nbytes for tensor in plan.tensors)
    check_space(folder, size)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".fastinit-{secrets.token_hex(8)}"
    state = {
        tensor.name: torch.empty(tensor.shape, dtype=_dtype(tensor), device="meta")
        for tensor in plan.tensors
    }
    try:
        with Display(size, None, progress) as display, warnings.catch_warnings():
            # PyTorch warns that there is one process only, as intended here.
            warnings.filterwarnings("ignore", message="torch.distributed is", category=UserWarning)
            # One thread writes, because the writer loses the errors of others; several compute.
            save(
                state,
                storage_writer=FileSystemWriter(temporary),
                planner=_SavePlanner(plan, _Values(plan, key, threads, display)),
                no_dist=True,
            )
        older = None
        if folder.exists():
            older = folder.parent / f".fastinit-{secrets.token_hex(8)}"
            os.rename(folder, older)
        os.rename(temporary, folder)
        if older is not None:
            shutil.rmtree(older)
    except CheckpointException as error:
        [(reason, _), *_] = error.failures.values()
        # The writer closes its file after an error of the disk, which hides that error.
        if isinstance(reason.__context__, OSError):
            reason = reason.__context__
        raise reason from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_free(folder: Path, overwrite: bool) -> None:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    if names and not overwrite:
        raise FileExistsError(
            f"folder: expected an empty one, or overwrite=True (--overwrite); got {str(folder)!r}"
        )
    others = [name for name in names if name != ".metadata" and not name.endswith(".distcp")]
    if others:
        raise FileExistsError(
            "folder: expected one with a checkpoint of torch.distributed alone; got "
            f"{others[0]!r} in {str(folder)!r}"
        )


# --- comparison -----------------------------------------------------------------------------------


class _LoadPlanner(DefaultLoadPlanner):
    """Compare each piece that is read."""

    def __init__(self, values: _Values, folder: Path) -> None:
        super().__init__()
        self.values, self.folder = values, folder

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        dtype = _dtype(self.values.tensors[read_item.dest_index.fqn])
        return torch.empty(read_item.lengths, dtype=dtype)

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        name, offsets = read_item.dest_index.fqn, tuple(read_item.dest_offsets)
        expected = self.values(name, offsets, tuple(read_item.lengths))
        size = expected.element_size()
        own, other = (
            each.reshape(-1).view(torch.uint8).view(-1, size) for each in (expected, tensor)
        )
        if torch.equal(own, other):
            return
        first = int((own != other).any(1).nonzero()[0])
        place = np.unravel_index(first, tuple(read_item.lengths))
        index = tuple(int(a) + int(b) for a, b in zip(offsets, place, strict=True))
        raise ValueError(
            f"{self.folder}: expected the values of this seed; tensor {name!r} differs at {index}"
        )


def check(plan: Plan, folder: Path, key: int, *, threads: int | None, progress: bool) -> None:
    """Raise a ValueError if a tensor of a checkpoint differs from what would be written."""
    reader = FileSystemReader(folder)
    metadata = reader.read_metadata()
    reader.set_up_storage_reader(metadata, is_coordinator=True)
    names = {tensor.name for tensor in plan.tensors}
    if odd := sorted(names ^ metadata.state_dict_metadata.keys()):
        raise ValueError(f"{folder}: expected the tensors of this model; tensor {odd[0]!r} differs")
    size = sum(tensor.nbytes for tensor in plan.tensors)
    with Display(size, None, progress) as display:
        values = _Values(plan, key, threads, display)
        planner = _LoadPlanner(values, folder)
        for tensor in plan.tensors:
            found = metadata.state_dict_metadata[tensor.name]
            if (
                not isinstance(found, TensorStorageMetadata)
                or tuple(found.size) != tensor.shape
                or found.properties.dtype != _dtype(tensor)
            ):
                raise ValueError(
                    f"{folder}: expected {tensor.dtype} of shape {tensor.shape} as tensor "
                    f"{tensor.name!r}; got something else"
                )
            items = []
            for chunk in found.chunks:
                index = MetadataIndex(tensor.name, chunk.offsets)
                start = torch.Size([0] * len(tensor.shape))
                items.append(
                    ReadItem(LoadItemType.TENSOR, index, chunk.offsets, index, start, chunk.sizes)
                )
            reader.read_data(LoadPlan(items), planner).wait()
