"""How long does it take to write the initial weights of a large model to disk?

``fastinit fill`` runs as a process of its own, from names and shapes in a JSON file. Its time
includes the start of Python; memory is its largest resident set. The peer writes as many zeros with
``write()`` and ``fsync()``. Both write to the folder for temporary files. FASTINIT_BENCH_GB sets
the size.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import pytest
from timing import ratio

GB = float(os.environ.get("FASTINIT_BENCH_GB", "8"))
SHAPE = (4096, 4096)
TURNS = 3
# The limits: 1.25 times the time of the peer, and the resident memory in megabytes.
TIMES, MEMORY = 1.25, 300
# The peak of its own memory; its ru_maxrss would include that of its parent.
CHILD = """
import re, sys
from fastinit.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
sys.exit(code)
"""


def size() -> int:
    """Return the number of bytes, a multiple of those of a tensor."""
    tensor = 4 * SHAPE[0] * SHAPE[1]
    return max(round(GB * 1e9 / tensor), 1) * tensor


def model(dtype: str) -> dict:
    itemsize = {"float32": 4, "bfloat16": 2}[dtype]
    count = size() // (itemsize * SHAPE[0] * SHAPE[1])
    entry = {"shape": SHAPE, "dtype": dtype, "scheme": "normal(std=0.02)"}
    return {f"layers.{i}.weight": entry for i in range(count)}


@contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fastinit-bench-") as folder:
        yield Path(folder)


def too_small() -> str | None:
    """Return the reason why the disk cannot be used, or None."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free > 1.5 * size():
        return None
    return f"{free / 1e9:.0f} GB free on the disk"


def zeros(folder: Path) -> float:
    """Return the seconds that writing zeros takes."""
    block, left = bytes(1 << 20), size()
    path = folder / "zeros"
    start = perf_counter()
    with open(path, "wb", buffering=0) as file:
        while left:
            left -= file.write(block[:left])
        os.fsync(file.fileno())
    spent = perf_counter() - start
    path.unlink()
    return spent


def fill(folder: Path, dtype: str, *options: str) -> tuple[float, float]:
    """Return the seconds that a command takes, and its memory in megabytes."""
    path, out = folder / "model.json", folder / "out"
    path.write_text(json.dumps(model(dtype)))
    command = [sys.executable, "-P", "-c", CHILD, "fill", str(path), "-o", str(out), *options]
    start = perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = perf_counter() - start
    scale = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return spent, int(done.stdout.split()[-1]) / scale


# --- pytest benches/bench_checkpoint.py -----------------------------------------------------------


@pytest.mark.parametrize("side", ["zeros", "fastinit float32", "fastinit bfloat16"])
def test_write(benchmark, side):
    # The files do not fit on this disk.
    if reason := too_small():
        pytest.skip(reason)
    with scratch() as folder:

        def work() -> None:
            if side == "zeros":
                zeros(folder)
            else:
                fill(folder, side.removeprefix("fastinit "), "--overwrite")

        benchmark.pedantic(work, rounds=1)


# --- python benches/report.py ---------------------------------------------------------------------


def ratios() -> list[dict]:
    rows = []
    for dtype in ("float32", "bfloat16"):
        target = 1 / TIMES if dtype == "float32" else None
        question = f"`fastinit fill`, {GB:g} GB of {dtype}"
        times: dict[str, list[float]] = {"zeros": [], "fastinit": [], "check": []}
        memory = []
        reason = too_small()
        for _ in range(0 if reason else TURNS):
            with scratch() as folder:
                times["zeros"].append(zeros(folder))
                for side, options in (("fastinit", []), ("check", ["--check"])):
                    spent, megabytes = fill(folder, dtype, *options)
                    times[side].append(spent)
                    memory.append(megabytes)
        results = [
            (question, "limit: as many zeros to the same disk", target,
             lambda times=times: ratio(times, "zeros", "fastinit")),
            (f"{question}, `--check`", "writing as many zeros", None,
             lambda times=times: ratio(times, "zeros", "check")),
            (f"{question}: resident memory", f"limit: {MEMORY} MB", 1,
             lambda memory=memory: MEMORY / max(memory)),
        ]  # fmt: skip
        for what, peer, target, measure in results:
            row = {"question": what, "peer": peer, "target": target}
            rows.append(row | ({"skipped": reason} if reason else {"measured": measure()}))
    return rows
