"""Safetensors files: where the tensors are in them, how they are written, resumed and compared.

Files are written in chunks of a fixed size, in any order, by several threads that compute the
values themselves. Until all chunks are on the disk, the files have hidden names, and a journal
beside them lists the chunks that are complete.

https://huggingface.co/docs/safetensors: 8 bytes with the length of the header, the header in JSON,
and the data of the tensors.
"""

import errno
import json
import math
import mmap
import os
import re
import shutil
import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastinit import __version__
from fastinit.checkpoint.plan import Plan, Tensor
from fastinit.initializers.fills import Shape, Window
from fastinit.initializers.target import join_all
from fastinit.kernels import usable_cores
from fastinit.training.files import parsed_json, replace_file
from fastinit.training.progress import Display

Bytes = NDArray[np.uint8]

# The bytes that a thread computes and writes at once. Journals count in chunks of this size.
CHUNK = 4 << 20
# Each thread has a buffer of one chunk: these need 128 MB.
MOST_THREADS = 32
# Files are written past the page cache where the system allows it, at multiples of this. That takes
# a third of the time: the kernel neither clears nor copies pages.
BLOCK = 4096
# Chunks are synchronised with the disk, and listed in the journal, whenever this many bytes are
# complete.
SYNC = 64 << 20
# The longest header that readers accept.
MOST_HEADER = 100_000_000
INDEX = "model.safetensors.index.json"
WEIGHTS = re.compile(r"model(-\d{5,}-of-\d{5,})?\.safetensors|model\.safetensors\.index\.json")
JOURNAL = ".fastinit-fill.jsonl"


# --- layout ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Shard:
    """A safetensors file.

    ``offsets`` holds the position of the first byte of each tensor in the file. ``first`` is the
    number of its first chunk among those of all files.
    """

    name: str
    header: bytes
    tensors: list[Tensor]
    offsets: list[int]
    first: int

    @property
    def temporary(self) -> str:
        """The name until the whole checkpoint is complete."""
        return f".fastinit-{self.name}"

    @cached_property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.header) + sum(tensor.nbytes for tensor in self.tensors)

    @property
    def chunks(self) -> int:
        """The number of chunks."""
        return -(-self.size // CHUNK)


def shards_of(plan: Plan, max_shard_size: int) -> list[Shard]:
    """Return the files of a checkpoint.

    Tensors are split as Hugging Face does: in their order, and a tensor that does not fit into the
    current file starts the next one.
    """
    parts: list[list[Tensor]] = [[]]
    size = 0
    for tensor in plan.tensors:
        if parts[-1] and size + tensor.nbytes > max_shard_size:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor.nbytes
    shards: list[Shard] = []
    first = 0
    for i, part in enumerate(parts, 1):
        name = "model.safetensors"
        if len(parts) > 1:
            name = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        shards.append(_shard(name, part, first))
        first += shards[-1].chunks
    return shards


def _shard(name: str, tensors: list[Tensor], first: int) -> Shard:
    # Large items first, so that every tensor is aligned; then by name, as the library does.
    tensors = sorted(tensors, key=lambda tensor: (-tensor.itemsize, tensor.name))
    ends = list(accumulate(tensor.nbytes for tensor in tensors))
    metadata = {other: tensor.name for tensor in tensors for other in tensor.others}
    entries: dict[str, Any] = {"__metadata__": metadata | {"format": "pt"}}
    for tensor, end in zip(tensors, ends, strict=True):
        entries[tensor.name] = {
            "dtype": tensor.code,
            "shape": tensor.shape,
            "data_offsets": [end - tensor.nbytes, end],
        }
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    # Spaces, so that the data begin at a block.
    text += b" " * (-(8 + len(text)) % BLOCK)
    if len(text) > MOST_HEADER:
        raise ValueError(
            f"max_shard_size: expected headers of at most {MOST_HEADER:,} bytes, as readers do; "
            f"got {len(text):,} for {len(tensors):,} tensors in {name}"
        )
    header = len(text).to_bytes(8, "little") + text
    offsets = [len(header) + end - each.nbytes for each, end in zip(tensors, ends, strict=True)]
    return Shard(name, header, tensors, offsets, first)


def index_of(shards: list[Shard]) -> bytes | None:
    """Return the index of several files, in the format of Hugging Face."""
    if len(shards) == 1:
        return None
    tensors = [tensor for shard in shards for tensor in shard.tensors]
    index = {
        "metadata": {
            "total_parameters": sum(tensor.size for tensor in tensors),
            "total_size": sum(tensor.nbytes for tensor in tensors),
        },
        "weight_map": {tensor.name: shard.name for shard in shards for tensor in shard.tensors},
    }
    return json.dumps(index, indent=2, sort_keys=True).encode() + b"\n"


# --- chunks ---------------------------------------------------------------------------------------


def windows_of(shape: Shape, start: int, stop: int) -> Iterator[Window]:
    """Yield the windows, in their order, that a range of the elements of an array consists of.

    Examples
    --------
    >>> list(windows_of((3, 4), 2, 8))
    [(slice(0, 1, None), slice(2, 4, None)), (slice(1, 2, None), slice(0, 4, None))]
    """
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    inner = shape[1:]
    row = math.prod(inner)
    first, last = -(-start // row), stop // row
    if first > last:  # within a row
        yield from _within(inner, last, start - last * row, stop - last * row)
        return
    if start < first * row:
        yield from _within(inner, first - 1, start - (first - 1) * row, row)
    if first < last:
        yield (slice(first, last), *(slice(0, n) for n in inner))
    if last * row < stop:
        yield from _within(inner, last, 0, stop - last * row)


def _within(inner: Shape, index: int, start: int, stop: int) -> Iterator[Window]:
    for window in windows_of(inner, start, stop):
        yield slice(index, index + 1), *window


class Values:
    """The bytes of the files of a checkpoint, computed wherever they are needed."""

    def __init__(self, shards: list[Shard], key: int) -> None:
        self.shards = shards
        self.key = key
        self._firsts = [shard.first for shard in shards]
        self._lock = threading.Lock()
        self._computed: deque[tuple[Tensor, Bytes]] = deque(maxlen=1)

    def place(self, chunk: int) -> tuple[int, int, int]:
        """Return the file of a chunk, and its start and stop there."""
        i = bisect_right(self._firsts, chunk) - 1
        start = (chunk - self._firsts[i]) * CHUNK
        return i, start, min(start + CHUNK, self.shards[i].size)

    def fill(self, chunk: int, memory: Bytes) -> None:
        """Write the bytes of a chunk to memory."""
        i, start, stop = self.place(chunk)
        shard = self.shards[i]
        header = shard.header[start:stop]
        memory[: len(header)] = np.frombuffer(header, np.uint8)
        for k in range(max(bisect_right(shard.offsets, start) - 1, 0), len(shard.tensors)):
            tensor, offset = shard.tensors[k], shard.offsets[k]
            if offset >= stop:
                break
            low, high = max(start, offset), min(stop, offset + tensor.nbytes)
            if low < high:
                self._fill_range(tensor, memory[low - start : high - start], low - offset)

    def _fill_range(self, tensor: Tensor, memory: Bytes, first: int) -> None:
        if tensor.needs_whole and len(memory) < tensor.nbytes:
            memory[...] = self._whole(tensor)[first : first + len(memory)]
            return
        size, position = tensor.itemsize, 0
        start = first // size
        for window in windows_of(tensor.shape, start, start + len(memory) // size):
            n = size
            for part in window:
                n *= part.stop - part.start
            tensor.write(memory[position : position + n], window, self.key)
            position += n

    def _whole(self, tensor: Tensor) -> Bytes:
        # One at a time, which bounds the memory; neighbouring chunks share it.
        with self._lock:
            for known, values in self._computed:
                if known is tensor:
                    return values
            self._computed.clear()
            values = np.empty(tensor.nbytes, np.uint8)
            window = tuple(slice(0, n) for n in tensor.shape)
            tensor.write(values, window, self.key)
            self._computed.append((tensor, values))
            return values


def run(work: Callable[[int, Bytes], None], chunks: Iterable[int], threads: int | None) -> None:
    """Call a function for each chunk, with memory for it, from several threads.

    After an error or an interrupt, no thread starts another chunk; then the first error is raised.
    """
    todo = deque(chunks)
    errors: list[BaseException] = []

    def each() -> None:
        try:
            memory = np.frombuffer(mmap.mmap(-1, CHUNK), np.uint8)
            while not errors:
                try:
                    chunk = todo.popleft()
                except IndexError:
                    return
                work(chunk, memory)
        except BaseException as error:
            errors.append(error)

    wanted = min(usable_cores() if threads is None else threads, MOST_THREADS, len(todo))
    helpers = [threading.Thread(target=each, daemon=True) for _ in range(wanted)]
    started = []
    try:
        for helper in helpers:
            try:
                helper.start()
            except RuntimeError:  # no thread is available: the others do its share
                break
            started.append(helper)
        if not started:
            each()
        join_all(started)
    except BaseException as error:
        errors.append(error)
        join_all(started)
    if errors:
        raise errors[0]


# --- files ----------------------------------------------------------------------------------------


class _File:
    """A file that is written at any position, past the page cache if possible."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        direct = getattr(os, "O_DIRECT", 0)
        try:
            self.descriptor = os.open(path, flags | direct, 0o666)
        except OSError as error:
            if not direct or error.errno != errno.EINVAL:
                raise
            direct = 0
            self.descriptor = os.open(path, flags, 0o666)
        if direct:
            # Files with reserved space are written faster, and a full disk is noticed at once.
            # Without direct access, the file system may be one that can only pretend to reserve it.
            with _about(path, errno.EINVAL, errno.EOPNOTSUPP):
                os.posix_fallocate(self.descriptor, 0, -(-size // BLOCK) * BLOCK)

    def write(self, memory: Bytes, position: int, length: int) -> None:
        """Write the first bytes of a chunk."""
        # Whole blocks; what is beyond the end is cut off by finish().
        view = memory.data[: -(-length // BLOCK) * BLOCK]
        with _about(self.path):
            while view:
                try:
                    n = _write_at(self.descriptor, view, position)
                except OSError as error:
                    if error.errno != errno.EINVAL or not _leave_direct(self.descriptor):
                        raise
                    continue
                view, position = view[n:], position + n

    def sync(self) -> None:
        """Wait for the disk."""
        with _about(self.path):
            getattr(os, "fdatasync", os.fsync)(self.descriptor)

    def finish(self) -> None:
        """Give the file its length, wait for the disk, and close the file."""
        with _about(self.path):
            os.ftruncate(self.descriptor, self.size)
            os.fsync(self.descriptor)
        os.close(self.descriptor)


def _leave_direct(descriptor: int) -> bool:
    """Use the page cache from now on, on file systems with larger blocks; return if that is new."""
    direct = getattr(os, "O_DIRECT", 0)
    if not direct:
        return False
    import fcntl

    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags & ~direct)
    return bool(flags & direct)


_SEEKING = threading.Lock()


def _write_at(descriptor: int, data: memoryview, position: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(descriptor, data, position)
    with _SEEKING:  # Windows
        os.lseek(descriptor, position, os.SEEK_SET)
        return os.write(descriptor, data)


@contextmanager
def _about(path: Path, *ignored: int) -> Iterator[None]:
    """Give errors of the system the name of a file, except for those with some numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in ignored:
            raise OSError(error.errno, error.strerror, str(path)) from error


class _Start(NamedTuple):
    """What a journal begins with."""

    version: str
    seed: int
    plan: str


class Journal:
    """The list of chunks that are on the disk: a first line about the plan, then ranges."""

    def __init__(self, folder: Path, start: _Start, total: int, *, overwrite: bool) -> None:
        self.path, self.total = folder / JOURNAL, total
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        self.descriptor = os.open(self.path, flags, 0o666)
        try:
            self._lock(folder)
            self.done: set[int] = set()
            self.is_complete = False
            before = self._read()
            if before is not None and before != start:
                if not overwrite:
                    self._refuse(folder, before, start)
                before = None
            if before is None:
                self.done.clear()
                self.is_complete = False
                remove_temporaries(folder)
                os.ftruncate(self.descriptor, 0)
                self._append(start._asdict())
        except BaseException:
            os.close(self.descriptor)
            raise

    def _lock(self, folder: Path) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_mine = False
        except OSError:  # a file system without locks
            return
        else:
            # The other process may have finished, and removed the journal, in between.
            is_mine = os.fstat(self.descriptor).st_nlink > 0
        if is_mine:
            return
        raise ValueError(f"folder: expected one that no other process fills; got {str(folder)!r}")

    def _read(self) -> _Start | None:
        size = os.fstat(self.descriptor).st_size
        os.lseek(self.descriptor, 0, os.SEEK_SET)
        text = b""
        while len(text) < size and (part := os.read(self.descriptor, size - len(text))):
            text += part
        # The last line is incomplete if the process was killed meanwhile.
        lines = text.split(b"\n")[:-1]
        if not lines:
            return None
        try:
            start = _Start(**parsed_json(lines[0]))
            for line in lines[1:]:
                entry = parsed_json(line)
                self.is_complete |= entry == "complete"
                if entry != "complete":
                    for first, stop in entry:
                        self.done.update(range(max(first, 0), min(stop, self.total)))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"folder: expected the journal of an interrupted run in {str(self.path)!r}; got "
                f"something else; delete it to start again: {error}"
            ) from None
        if lines and text[-1:] != b"\n":
            os.ftruncate(self.descriptor, text.rindex(b"\n") + 1)
        return start

    def _refuse(self, folder: Path, before: _Start, start: _Start) -> NoReturn:
        part = f"in {str(folder)!r}, which was interrupted"
        hint = "or overwrite=True (--overwrite) to start again"
        if before.seed != start.seed:
            raise ValueError(
                f"seed: expected {before.seed}, that of the run {part}, {hint}; got {start.seed}"
            )
        if before.version != start.version:
            raise ValueError(
                f"folder: expected fastinit {before.version}, that of the run {part}, {hint}; got "
                f"{start.version}"
            )
        raise ValueError(
            f"model, rules: expected the tensors, rules and max_shard_size of the run {part}, "
            f"{hint}; got others"
        )

    def _append(self, entry: Any) -> None:
        os.write(self.descriptor, json.dumps(entry).encode() + b"\n")

    def add(self, chunks: Iterable[int]) -> None:
        """List chunks that are on the disk."""
        ranges: list[list[int]] = []
        for chunk in sorted(chunks):
            if ranges and ranges[-1][1] == chunk:
                ranges[-1][1] += 1
            else:
                ranges.append([chunk, chunk + 1])
        if ranges:
            self._append(ranges)

    def complete(self) -> None:
        """Note that all files are complete, under their temporary names."""
        self._append("complete")
        os.fsync(self.descriptor)
        self.is_complete = True

    def remove(self) -> None:
        """Remove the file."""
        os.unlink(self.path)

    def close(self) -> None:
        """Close the file, which unlocks it."""
        os.close(self.descriptor)


def remove_temporaries(folder: Path) -> None:
    """Remove what an interrupted run has left, except for its journal."""
    for path in folder.iterdir():
        name = path.name.removeprefix(".fastinit-")
        if name != path.name and WEIGHTS.fullmatch(name):
            path.unlink()


def write(
    plan: Plan,
    folder: Path,
    key: int,
    *,
    max_shard_size: int,
    overwrite: bool,
    threads: int | None,
    progress: bool,
) -> None:
    """Write the files of a checkpoint, or complete those of an interrupted run."""
    shards = shards_of(plan, max_shard_size)
    digest = blake2b(digest_size=16)
    for shard in shards:
        digest.update(f"{shard.name} {len(shard.tensors)}\n".encode())
        for tensor in shard.tensors:
            digest.update(tensor.identity.encode() + b"\n")
    start = _Start(__version__, key, digest.hexdigest())
    total = shards[-1].first + shards[-1].chunks
    existed, is_new = folder.exists(), not (folder / JOURNAL).exists()
    if is_new:
        if not overwrite:
            _check_free(folder)
        check_space(folder, sum(shard.size for shard in shards))
    folder.mkdir(parents=True, exist_ok=True)
    journal = Journal(folder, start, total, overwrite=overwrite)
    try:
        if not journal.is_complete:
            if not overwrite:
                _check_free(folder)
            _Run(shards, folder, key, journal).run(threads, progress)
            journal.complete()
        _rename(shards, folder)
        if (index := index_of(shards)) is not None:
            replace_file(folder / INDEX, index)
        for name, contents in plan.files.items():
            if overwrite or not (folder / name).exists():
                replace_file(folder / name, contents)
        _sync_folder(folder)
        journal.remove()
    except BaseException:
        if is_new and not journal.done:
            remove_temporaries(folder)
            journal.remove()
            if not existed:
                with suppress(OSError):
                    folder.rmdir()
        raise
    finally:
        journal.close()


def _check_free(folder: Path) -> None:
    """Raise an error if there is a checkpoint already."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if WEIGHTS.fullmatch(path.name):
            raise FileExistsError(
                f"folder: expected one without weights, or overwrite=True (--overwrite); got "
                f"{str(path)!r}"
            )


def check_space(folder: Path, size: int) -> None:
    """Raise an error if the disk is too small."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    free = shutil.disk_usage(nearest).free
    if size > free:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {size:,} bytes needed, {free:,} free",
            str(folder),
        )  # fmt: skip


class _Run:
    """The writing of the chunks that are missing."""

    def __init__(self, shards: list[Shard], folder: Path, key: int, journal: Journal) -> None:
        self.values, self.folder, self.journal = Values(shards, key), folder, journal
        # What was removed or cut off meanwhile is written again.
        for shard in shards:
            path = folder / shard.temporary
            size = path.stat().st_size if path.exists() else 0
            if size < shard.size:
                kept, end = shard.first + size // CHUNK, shard.first + shard.chunks
                journal.done.difference_update(range(kept, end))
        total = shards[-1].first + shards[-1].chunks
        self.todo = [chunk for chunk in range(total) if chunk not in journal.done]
        self.files: dict[int, _File] = {}
        self.left = [0] * len(shards)
        for chunk in self.todo:
            self.left[self.values.place(chunk)[0]] += 1
        self.written: list[int] = []
        self.lock, self.syncing = threading.Lock(), threading.Lock()

    def run(self, threads: int | None, progress: bool) -> None:
        for i, shard in enumerate(self.values.shards):
            if not self.left[i]:  # it may not have its length yet
                _File(self.folder / shard.temporary, shard.size).finish()
        with Display(len(self.todo), None, progress) as self.display:
            try:
                run(self._write, self.todo, threads)
            finally:
                try:
                    with self.syncing:
                        self._sync()
                finally:
                    for file in self.files.values():
                        os.close(file.descriptor)

    def _write(self, chunk: int, memory: Bytes) -> None:
        i, start, stop = self.values.place(chunk)
        self.values.fill(chunk, memory)
        with self.lock:
            if (file := self.files.get(i)) is None:
                shard = self.values.shards[i]
                file = self.files[i] = _File(self.folder / shard.temporary, shard.size)
        file.write(memory, start, stop - start)
        with self.lock:
            self.written.append(chunk)
            self.left[i] -= 1
            is_last = not self.left[i]
            due = len(self.written) * CHUNK >= SYNC
        self.display.advance(1)
        if is_last:
            with self.syncing:
                file.finish()
                del self.files[i]
        elif due and self.syncing.acquire(blocking=False):
            try:
                self._sync()
            finally:
                self.syncing.release()

    def _sync(self) -> None:
        """Wait for the disk, and list what was written before in the journal."""
        with self.lock:
            written, self.written = self.written, []
            files = list(self.files.values())
        for file in files:
            file.sync()
        self.journal.add(written)
        self.journal.done.update(written)


def _rename(shards: list[Shard], folder: Path) -> None:
    """Give the files their names, after an older checkpoint was removed."""
    names = {shard.name for shard in shards}
    # Without its index, the older one is not loaded any more.
    (folder / INDEX).unlink(missing_ok=True)
    for path in folder.iterdir():
        if WEIGHTS.fullmatch(path.name) and path.name not in names:
            path.unlink()
    for shard in shards:
        with suppress(FileNotFoundError):  # renamed before an interrupt
            os.replace(folder / shard.temporary, folder / shard.name)
        if (folder / shard.name).stat().st_size != shard.size:
            raise ValueError(
                f"folder: expected the {shard.size:,} bytes of {shard.name} that were written; got "
                "another file"
            )


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # Windows does not open folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- comparison -----------------------------------------------------------------------------------


def check(
    plan: Plan,
    folder: Path,
    key: int,
    *,
    max_shard_size: int,
    threads: int | None,
    progress: bool,
) -> None:
    """Raise a ValueError if any byte of a checkpoint differs from what would be written."""
    shards = shards_of(plan, max_shard_size)
    index = index_of(shards)
    if index is not None and (folder / INDEX).read_bytes() != index:
        raise ValueError(
            f"{folder / INDEX}: expected the index of {len(shards)} files with these tensors; got "
            "another one"
        )
    for shard in shards:
        size = (folder / shard.name).stat().st_size
        if size != shard.size:
            raise ValueError(f"{folder / shard.name}: expected {shard.size:,} bytes; got {size:,}")
    values = Values(shards, key)
    total = shards[-1].first + shards[-1].chunks
    found: dict[int, int] = {}  # the first byte of a chunk that differs
    local = threading.local()
    with Display(total, None, progress) as display:

        def compare(chunk: int, memory: Bytes) -> None:
            if found and chunk > min(found):
                return
            i, start, stop = values.place(chunk)
            values.fill(chunk, memory)
            if not hasattr(local, "memory"):
                local.memory = np.frombuffer(mmap.mmap(-1, CHUNK), np.uint8)
            length = stop - start
            n = _read(folder / shards[i].name, local.memory, start, length)
            own, expected = local.memory[:n], memory[:n]
            if n < length or not np.array_equal(own, expected):
                unequal = np.flatnonzero(own != expected)
                found[chunk] = start + int(unequal[0] if len(unequal) else n)
            display.advance(1)

        run(compare, range(total), threads)
    if found:
        i, _, _ = values.place(min(found))
        raise ValueError(_difference(shards[i], folder / shards[i].name, found[min(found)]))


def _read(path: Path, memory: Bytes, position: int, length: int) -> int:
    """Read into memory, past the page cache if possible; return the number of bytes."""
    direct = getattr(os, "O_DIRECT", 0)
    view = memory.data
    try:
        descriptor = os.open(path, os.O_RDONLY | direct | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if not direct or error.errno != errno.EINVAL:
            raise
        descriptor = os.open(path, os.O_RDONLY)
    try:
        with _about(path), open(descriptor, "rb", buffering=0, closefd=False) as file:
            file.seek(position)
            n = 0
            while n < length:
                try:
                    read = file.readinto(view[n : -(-length // BLOCK) * BLOCK])
                except OSError as error:
                    if error.errno != errno.EINVAL or not _leave_direct(descriptor):
                        raise
                    continue
                if not read:
                    break
                n += read
    finally:
        os.close(descriptor)
    return min(n, length)


def _difference(shard: Shard, path: Path, position: int) -> str:
    if position < len(shard.header):
        return (
            f"{path}: expected the header of these tensors, with their names, shapes and dtypes; "
            f"it differs at byte {position:,}"
        )
    k = bisect_right(shard.offsets, position) - 1
    tensor = shard.tensors[k]
    place = np.unravel_index((position - shard.offsets[k]) // tensor.itemsize, tensor.shape)
    index = tuple(int(n) for n in place)
    return f"{path}: expected the values of this seed; tensor {tensor.name!r} differs at {index}"
