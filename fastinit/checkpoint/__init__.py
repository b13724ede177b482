"""Seed checkpoints: the initial weights of a model, written to disk as they are computed.

:func:`write` writes them without the memory that the model takes, and :func:`check` compares them
with what would be written. The values are those of :func:`fastinit.torch.initialize`.
"""

import os
import re
from pathlib import Path
from typing import Any, Literal

from fastinit.checkpoint import shards
from fastinit.checkpoint.plan import Plan, plan_of
from fastinit.comparison.tables import Table
from fastinit.initializers.target import Seed, key_of
from fastinit.training.files import check_folder
from fastinit.validation import check_bool, check_integer, check_name

__all__ = ["check", "write"]

FORMATS = ("safetensors", "dcp")
_UNITS = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40,
}  # fmt: skip


def write(
    model: Any,
    folder: str | os.PathLike[str],
    rules: Any = None,
    *,
    seed: Seed,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    format: Literal["safetensors", "dcp"] = "safetensors",  # noqa: A002
    overwrite: bool = False,
    threads: int | None = None,
    progress: bool = False,
    prefix: str = "",
) -> Table:
    """Write the initial weights of a model to disk.

    The values are the same bits as those of :func:`fastinit.torch.initialize` with the same rules
    and seed. They are computed in chunks, so that the memory does not depend on the model.

    Parameters
    ----------
    model : torch.nn.Module, path or mapping
        A module, also on the meta device; only its names, shapes and dtypes are used, and buffers
        that no function fills. A path is a folder with the ``config.json`` of a model of
        transformers, whose architecture is built on the meta device, or a JSON file. That holds an
        object for each name: its ``shape``, and optionally ``dtype`` and ``scheme``, a number or a
        text such as ``"normal(std=0.02)"``. A mapping holds the same, and needs no PyTorch either.
    folder : str or path-like
        Created if it does not exist.
    rules : dict or callable, optional
        As for :func:`fastinit.torch.initialize`. The default of a folder with ``config.json`` is
        the model's own ``_init_weights``, which is also what no pattern of a dict matches is filled
        by. For JSON, patterns of names to schemes, which fill the tensors without a scheme.
    seed : int, SeedSequence, Generator or RandomState
    dtype : {"float64", "float32", "float16", "bfloat16"}, optional
        Of the tensors of JSON that have none, float32 by default; or of the parameters of a
        configuration, instead of its own.
    max_shard_size : int or str, default "5GB"
        Bytes of tensors in a file, as a number or with a unit: KB, MB, GB, TB, KiB, MiB, GiB, TiB.
        A larger tensor has a file of its own.
    format : {"safetensors", "dcp"}, default "safetensors"
        ``model.safetensors``, or several files with an index, as Hugging Face names them; or a
        folder of ``torch.distributed.checkpoint``, which requires PyTorch.
    overwrite : bool, default False
        Replace a checkpoint in the folder once the new one is complete, and discard what an
        interrupted run of other arguments left.
    threads : int, optional
        Maximum number of threads; all usable cores by default.
    progress : bool, default False
        Show a progress bar; requires rich.
    prefix : str, default ""
        What precedes the names.

    Returns
    -------
    Table
        A row for each tensor: its name, shape, dtype, scheme, and standard deviation.

    Raises
    ------
    TypeError, ValueError
        For invalid arguments, and if the folder holds an interrupted run of another seed or plan.
    FileExistsError
        If the folder holds weights and ``overwrite`` is False.
    OSError
        If the files cannot be written.

    Notes
    -----
    No file has its final name before all are complete and on the disk. A run that was interrupted,
    also by ``kill -9``, is continued by the same call; until then its files have hidden names. Runs
    of the format "dcp" start again.

    Shared parameters are written once: under the name that transformers keeps, otherwise under the
    first in alphabetical order. ``orthogonal``, ``delta_orthogonal``, ``sparse`` and functions of
    one's own compute whole tensors in memory, one at a time.

    Examples
    --------
    >>> import tempfile
    >>> model = {"w": {"shape": [2, 3], "scheme": "normal(std=0.02)"}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(model, folder, seed=0)
    name  shape   dtype    scheme  std
    ----  ------  -------  ------  ----
    w     (2, 3)  float32  normal  0.02
    """
    path, key, plan = _checked(model, folder, rules, seed, dtype, format, threads, prefix)
    check_folder("folder", path)
    overwrite, progress = check_bool("overwrite", overwrite), check_bool("progress", progress)
    size = _size_of(max_shard_size)
    if format == "dcp":
        import fastinit.checkpoint.dcp as dcp

        dcp.write(plan, path, key, overwrite=overwrite, threads=threads, progress=progress)
    else:
        shards.write(
            plan, path, key,
            max_shard_size=size, overwrite=overwrite, threads=threads, progress=progress,
        )  # fmt: skip
    return _table(plan)


def check(
    model: Any,
    folder: str | os.PathLike[str],
    rules: Any = None,
    *,
    seed: Seed,
    dtype: str | None = None,
    max_shard_size: int | str = "5GB",
    format: Literal["safetensors", "dcp"] = "safetensors",  # noqa: A002
    threads: int | None = None,
    progress: bool = False,
    prefix: str = "",
) -> Table:
    """Compare a checkpoint with what :func:`write` would write, byte by byte.

    Parameters
    ----------
    model, folder, rules, seed, dtype, max_shard_size, format, threads, progress, prefix
        As for :func:`write`.

    Returns
    -------
    Table
        As that of :func:`write`.

    Raises
    ------
    TypeError, ValueError
        For invalid arguments, and if anything differs. The message names the first tensor that
        does, in the order of the files.
    OSError
        If a file cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> model = {"w": {"shape": [2, 3], "scheme": "normal(std=0.02)"}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = write(model, folder, seed=0)
    ...     len(check(model, folder, seed=0))
    1
    """
    path, key, plan = _checked(model, folder, rules, seed, dtype, format, threads, prefix)
    progress, size = check_bool("progress", progress), _size_of(max_shard_size)
    if format == "dcp":
        import fastinit.checkpoint.dcp as dcp

        dcp.check(plan, path, key, threads=threads, progress=progress)
    else:
        shards.check(plan, path, key, max_shard_size=size, threads=threads, progress=progress)
    return _table(plan)


def _checked(
    model: Any,
    folder: Any,
    rules: Any,
    seed: Seed,
    dtype: str | None,
    format: str,  # noqa: A002
    threads: int | None,
    prefix: str,
) -> tuple[Path, int, Plan]:
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder: expected a str or a path; got {type(folder).__name__}")
    if folder == "":  # such as that of a variable of the shell which is not set
        raise ValueError("folder: expected the path of one; got ''")
    if seed is None:
        raise TypeError(
            "seed: expected one, so that the checkpoint can be computed again; got None"
        )
    check_name("format", format, FORMATS)
    if threads is not None:
        check_integer("threads", threads, 1)
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: expected a string; got {type(prefix).__name__}")
    plan = plan_of(model, rules, dtype=dtype, prefix=prefix)
    return Path(folder), key_of(seed), plan


def _size_of(size: int | str) -> int:
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d{1,18})\s*([A-Za-z]*)\s*", size)
        if match is None or match[2].upper() not in _UNITS:
            raise ValueError(f"max_shard_size: expected a size like 5GB or 500MB; got {size!r}")
        size = int(match[1]) * _UNITS[match[2].upper()]
    return check_integer("max_shard_size", size, 1, 2**127)


def _table(plan: Plan) -> Table:
    return Table(
        [
            {
                "name": tensor.name,
                "shape": tensor.shape,
                "dtype": tensor.dtype,
                "scheme": tensor.fill.name,
                "std": tensor.std,
            }
            for tensor in plan.tensors
        ]
    )
